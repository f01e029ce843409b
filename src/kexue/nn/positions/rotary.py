"""Rotary position encoding (RoPE).

A vector of even size d is read as d/2 complex numbers; at position m the i-th is multiplied by exp(1j * m * theta_i),
theta_i = base ** (-2 i / d). The inner product of a rotated query and key then depends on the difference of their
positions alone.

Source: kexue.fm article 8265; Su et al., "RoFormer", arXiv 2104.09864.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.nn.positions.base import PositionEncoding, Sizes
from kexue.nn.positions.frequencies import frequencies, scale_frequencies

__all__ = ["RotaryLayout", "RotaryPosition", "apply_rotary", "rotary_angles", "rotate"]

RotaryLayout = Literal["interleaved", "half"]
"""Which features form a complex number: ``interleaved`` (0,1), (2,3) ... as in the article and RoFormer;
``half`` (0, d/2), (1, d/2+1) ... as in LLaMA and GPT-NeoX. One is a fixed permutation of the other."""


def rotary_angles(position_ids: Any, dim: int, base: float = 10000.0, theta: Any = None) -> tuple[Any, Any]:
    """Cosines and sines of the rotation angles, always float32.

    Args:
        position_ids: integers, ``(batch, length)`` or ``(length,)``.
        dim: size of the vectors to rotate; even.
        base: theta_i = base ** (-2 i / dim).
        theta: ``(dim / 2,)`` frequencies instead.

    Returns:
        ``(cos, sin)``, each of shape ``position_ids.shape + (dim / 2,)``.

    Raises:
        ConfigError: ``dim`` is odd.
    """
    if theta is None:
        if dim % 2 or dim <= 0:
            raise ConfigError(f"rotary positions need an even, positive size. Received: dim={dim}")
        theta = frequencies(dim, base).astype("float32")
    angles = ops.expand_dims(ops.cast(position_ids, "float32"), -1) * ops.cast(theta, "float32")
    return ops.cos(angles), ops.sin(angles)


def rotate(x: Any, cos: Any, sin: Any, layout: RotaryLayout = "interleaved") -> Any:
    """Rotate the last axis of ``x``.

    Args:
        x: ``(batch, length, heads, dim)`` or any shape whose last axis is ``dim``.
        cos: angles from `rotary_angles`, broadcastable to ``x.shape[:-1] + (n / 2,)``; the first n features are
            rotated, those after them stay.
        sin: likewise.
        layout: which features are paired, see `RotaryLayout`.

    Returns:
        The rotated ``x``, computed in float32 and cast back to the dtype of ``x``.

    Raises:
        ConfigError: ``x`` has fewer features than are to be rotated, or the layout is unknown.
    """
    turned = 2 * cos.shape[-1]
    if x.shape[-1] < turned:
        raise ConfigError(
            f"{turned} features are to be rotated, but the vectors have {x.shape[-1]}; choose a smaller rotary_dim."
        )
    if x.shape[-1] > turned:
        head = rotate(x[..., :turned], cos, sin, layout)
        return ops.concatenate([head, x[..., turned:]], axis=-1)
    dtype = x.dtype
    x, cos, sin = (ops.cast(t, "float32") for t in (x, cos, sin))  # TensorFlow refuses to mix dtypes
    if layout == "half":
        a, b = ops.split(x, 2, axis=-1)
        out = ops.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    elif layout == "interleaved":
        a, b = x[..., 0::2], x[..., 1::2]
        out = ops.stack([a * cos - b * sin, b * cos + a * sin], axis=-1)
        out = ops.reshape(out, ops.shape(x))
    else:
        raise ConfigError(f"layout must be 'interleaved' or 'half'. Received: layout={layout!r}")
    return ops.cast(out, dtype)


def apply_rotary(
    x: Any,
    position_ids: Any,
    base: float = 10000.0,
    layout: RotaryLayout = "interleaved",
    rotary_dim: int | None = None,
) -> Any:
    """Rotate ``x`` (batch, length, heads, dim) by its ``position_ids`` (batch or 1, length); all of it, or the first
    ``rotary_dim`` features."""
    cos, sin = rotary_angles(position_ids, rotary_dim or x.shape[-1], base)
    return rotate(x, ops.expand_dims(cos, -2), ops.expand_dims(sin, -2), layout)


@keras.saving.register_keras_serializable(package="kexue")
class RotaryPosition(PositionEncoding):
    """Rotary positions inside attention: queries and keys are rotated, values only when asked.

    Args:
        dim: size of the query and key vectors.
        base: see `rotary_angles`.
        layout: see `RotaryLayout`.
        values: rotate values too (``rotary_value`` of RoFormer configurations).
        scaling: None or a mapping such as ``{"kind": "yarn", "factor": 4.0, "original_length": 4096}``; kinds and
            options in `kexue.nn.positions.frequencies.SCALINGS`.
        rotary_dim: only so many first features are rotated (partial rotary), an even number; all by default.
        fraction: the same as a part of ``dim``, rounded down.
        theta: ``rotary_dim / 2`` frequencies instead of powers of ``base``, or a function of ``t = 2 i / rotary_dim``,
            which is evaluated at once: a configuration holds the numbers.
        train_theta: the frequencies are weights that start at the above.

    With a partial rotation the temperature of ``yarn`` acts on the rotated features only, as in ``transformers``.
    """

    def __init__(
        self,
        dim: int,
        base: float = 10000.0,
        layout: RotaryLayout = "interleaved",
        values: bool = False,
        scaling: Mapping[str, Any] | None = None,
        rotary_dim: int | None = None,
        fraction: float | None = None,
        theta: Any = None,
        train_theta: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if rotary_dim is not None and fraction is not None:
            raise ConfigError(f"give rotary_dim or fraction. Received: {rotary_dim=}, {fraction=}")
        if fraction is not None and not 0 < fraction <= 1:
            raise ConfigError(f"fraction must be above 0 and at most 1. Received: fraction={fraction}")
        turned = int(dim * fraction) if fraction is not None else dim if rotary_dim is None else rotary_dim
        if turned % 2 or not 0 < turned <= dim:
            raise ConfigError(
                f"rotary positions need an even, positive size of at most the key size {dim}; choose rotary_dim or "
                f"fraction. Received: {turned}"
            )
        if layout not in ("interleaved", "half"):
            raise ConfigError(f"layout must be 'interleaved' or 'half'. Received: layout={layout!r}")
        self.dim, self.base, self.layout, self.turn_values = dim, base, layout, values
        self.rotary_dim, self.train_theta = turned, train_theta
        self.scaling = None if scaling is None else dict(scaling)
        self.given_theta = None if theta is None else frequencies(turned, base, theta).tolist()
        self.frequencies, self.factor = scale_frequencies(turned, base, self.given_theta, scaling)

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "RotaryPosition":
        return cls(**{"dim": sizes.key_size} | options)

    def build(self, *_: Any, **__: Any) -> None:
        self.theta: Any = self.frequencies.astype("float32")
        if self.train_theta:
            start: Sequence[float] = self.frequencies.tolist()
            self.theta = self.add_weight(
                shape=(self.rotary_dim // 2,),
                initializer=lambda shape, dtype=None: ops.convert_to_tensor(np.array(start), dtype=dtype),
                dtype="float32",
                autocast=False,
                name="theta",
            )
        self.built = True

    def tables(self, query_positions: Any, key_positions: Any, **segments: Any) -> tuple[Any, ...]:
        if not self.built:
            self.build()
        query = self._angles(query_positions)
        return (*query, *(query if key_positions is query_positions else self._angles(key_positions)))

    def _angles(self, position_ids: Any) -> tuple[Any, Any]:
        cos, sin = rotary_angles(position_ids, self.rotary_dim, theta=ops.convert_to_tensor(self.theta))
        return ops.expand_dims(cos, -2), ops.expand_dims(sin, -2)

    def rotate(self, q: Any, k: Any, tables: tuple[Any, ...]) -> tuple[Any, Any]:
        if self.factor != 1:
            tables = tuple(t * self.factor for t in tables)
        return rotate(q, tables[0], tables[1], self.layout), rotate(k, tables[2], tables[3], self.layout)

    def rotate_values(self, v: Any, tables: tuple[Any, ...]) -> Any:
        return rotate(v, tables[2], tables[3], self.layout) if self.turn_values else v

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "dim": self.dim,
            "base": self.base,
            "layout": self.layout,
            "values": self.turn_values,
            "scaling": None if self.scaling is None else dict(self.scaling),
            "rotary_dim": self.rotary_dim,
            "theta": None if self.given_theta is None else list(self.given_theta),
            "train_theta": self.train_theta,
        }
