"""Sinusoidal absolute positions: fixed, with trained frequencies, or as the start of a trained table.

    p[k, 2 i] = sin(k theta_i),   p[k, 2 i + 1] = cos(k theta_i),   theta_i = base ** (-2 i / d)

The inner product of two rows depends on the difference of their positions, ``sum_i cos((m - n) theta_i)``, and decays
with it.

Source: kexue.fm articles 8130 and 8231; Vaswani et al., arXiv 1706.03762.
"""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.nn.positions.base import PositionEncoding, Sizes
from kexue.nn.positions.frequencies import frequencies
from kexue.nn.positions.learned import LearnedPosition
from kexue.nn.positions.rotary import rotary_angles

__all__ = ["SinusoidOrder", "SinusoidalPosition", "TrainableSinusoidalPosition", "sinusoids"]

SinusoidOrder = Literal["interleaved", "split"]
"""Order of features: ``interleaved`` sin, cos, sin, cos ...; ``split`` all sines, then all cosines."""


def sinusoids(
    position_ids: Any, dim: int, base: float = 10000.0, theta: Any = None, order: SinusoidOrder = "interleaved"
) -> Any:
    """Rows of sines and cosines, float32 whatever the dtype policy.

    Args:
        position_ids: any shape.
        dim: number of features; even.
        base: of the frequencies.
        theta: ``(dim / 2,)`` frequencies, or a function of ``t = 2 i / dim``, instead.
        order: see `SinusoidOrder`.

    Returns:
        ``position_ids.shape + (dim,)``.

    Raises:
        ConfigError: an odd size, frequencies that do not fit, an unknown order.
    """
    if theta is None or callable(theta) or isinstance(theta, list | tuple):
        theta = frequencies(dim, base, theta).astype("float32")
    cos, sin = rotary_angles(position_ids, dim, theta=theta)
    if order == "split":
        return ops.concatenate([sin, cos], axis=-1)
    if order != "interleaved":
        raise ConfigError(f"order must be 'interleaved' or 'split'. Received: order={order!r}")
    both = ops.stack([sin, cos], axis=-1)
    return ops.reshape(both, (*ops.shape(both)[:-2], dim))


@keras.saving.register_keras_serializable(package="kexue")
class SinusoidalPosition(PositionEncoding):
    """``x + p[position]`` with sinusoids p; any length.

    Args:
        base: of the frequencies; the article would choose 1000 for short texts.
        theta: ``width / 2`` frequencies instead, or, with ``dim``, a function of ``t = 2 i / dim``, which is evaluated
            at once: a configuration holds the numbers.
        order: see `SinusoidOrder`.
        amplitude: factor of the sinusoids; 1 in the paper, whose token embeddings are multiplied by sqrt(width).
        train_theta: the frequencies are weights that start at the above.
        dim: width of the embeddings, where it must be known before they are seen.
    """

    def __init__(
        self,
        base: float = 10000.0,
        theta: Any = None,
        order: SinusoidOrder = "interleaved",
        amplitude: float = 1.0,
        train_theta: bool = False,
        dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if callable(theta):
            if dim is None:
                raise ConfigError("theta as a function is evaluated for a width: give dim as well.")
            theta = frequencies(dim, base, theta).tolist()
        if order not in ("interleaved", "split"):
            raise ConfigError(f"order must be 'interleaved' or 'split'. Received: order={order!r}")
        self.base, self.theta, self.order = base, None if theta is None else [float(t) for t in theta], order
        self.amplitude, self.train_theta, self.dim = amplitude, train_theta, dim

    def build(self, x_shape: Any = None, *_: Any, **__: Any) -> None:
        width = x_shape[-1]
        if self.dim not in (None, width):
            raise ConfigError(f"the embeddings must have dim={self.dim} features. Received: {width}")
        start = frequencies(width, self.base, self.theta)
        self.frequencies: Any = start.astype("float32")
        if self.train_theta:
            self.frequencies = self.add_weight(
                shape=(width // 2,),
                initializer=lambda shape, dtype=None: ops.convert_to_tensor(start, dtype=dtype),
                dtype="float32",
                autocast=False,
                name="theta",
            )
        self.built = True

    def embed(self, x: Any, position_ids: Any, **facts: Any) -> Any:
        rows = sinusoids(position_ids, x.shape[-1], theta=ops.convert_to_tensor(self.frequencies), order=self.order)
        return x + ops.cast(self.amplitude * rows, x.dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "base": self.base,
            "theta": None if self.theta is None else list(self.theta),
            "order": self.order,
            "amplitude": self.amplitude,
            "train_theta": self.train_theta,
            "dim": self.dim,
        }


@keras.saving.register_keras_serializable(package="kexue")
class TrainableSinusoidalPosition(LearnedPosition):
    """A trained table whose rows start as sinusoids.

    Args:
        max_length: rows of the table, those before ``offset`` included.
        offset: added to each position.
        base: of the frequencies.
        order: see `SinusoidOrder`.
        amplitude: factor of the sinusoids at the start.
    """

    def __init__(
        self,
        max_length: int,
        offset: int = 0,
        base: float = 10000.0,
        order: SinusoidOrder = "interleaved",
        amplitude: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_length, offset, **kwargs)
        if order not in ("interleaved", "split"):
            raise ConfigError(f"order must be 'interleaved' or 'split'. Received: order={order!r}")
        self.base, self.order, self.amplitude = base, order, amplitude

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "TrainableSinusoidalPosition":
        return cls(**{"max_length": sizes.max_length, "offset": sizes.offset} | options)

    def start(self, shape: Any, dtype: Any = None) -> Any:
        """Row ``position + offset`` holds the sinusoids of ``position``."""
        places = np.arange(shape[0]) - self.offset
        return ops.cast(self.amplitude * sinusoids(places, shape[1], self.base, order=self.order), dtype or "float32")

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"base": self.base, "order": self.order, "amplitude": self.amplitude}
        del config["initializer"]
        return config
