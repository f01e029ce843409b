"""Rotary position encoding (RoPE).

A vector of even size d is read as d/2 complex numbers; at position m the i-th is multiplied by exp(1j * m * theta_i),
theta_i = base ** (-2 i / d). The inner product of a rotated query and key then depends on the difference of their
positions alone.

Source: kexue.fm article 8265; Su et al., "RoFormer", arXiv 2104.09864.
"""

from typing import Any, Literal

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn.positions.base import PositionEncoding, Sizes

__all__ = ["RotaryLayout", "RotaryPosition", "apply_rotary", "rotary_angles", "rotate"]

RotaryLayout = Literal["interleaved", "half"]
"""Which features form a complex number: ``interleaved`` (0,1), (2,3) ... as in the article and RoFormer;
``half`` (0, d/2), (1, d/2+1) ... as in LLaMA and GPT-NeoX. One is a fixed permutation of the other."""


def rotary_angles(position_ids: Any, dim: int, base: float = 10000.0) -> tuple[Any, Any]:
    """Cosines and sines of the rotation angles, always float32.

    Args:
        position_ids: integers, ``(batch, length)`` or ``(length,)``.
        dim: size of the vectors to rotate; even.
        base: theta_i = base ** (-2 i / dim).

    Returns:
        ``(cos, sin)``, each of shape ``position_ids.shape + (dim / 2,)``.

    Raises:
        ConfigError: ``dim`` is odd.
    """
    if dim % 2 or dim <= 0:
        raise ConfigError(f"rotary positions need an even, positive size. Received: dim={dim}")
    theta = base ** (-ops.arange(0, dim, 2, dtype="float32") / dim)
    angles = ops.expand_dims(ops.cast(position_ids, "float32"), -1) * theta
    return ops.cos(angles), ops.sin(angles)


def rotate(x: Any, cos: Any, sin: Any, layout: RotaryLayout = "interleaved") -> Any:
    """Rotate the last axis of ``x``.

    Args:
        x: ``(batch, length, heads, dim)`` or any shape whose last axis is ``dim``.
        cos: angles from `rotary_angles`, broadcastable to ``x.shape[:-1] + (dim / 2,)``.
        sin: likewise.
        layout: which features are paired, see `RotaryLayout`.

    Returns:
        The rotated ``x``, computed in float32 and cast back to the dtype of ``x``.
    """
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


def apply_rotary(x: Any, position_ids: Any, base: float = 10000.0, layout: RotaryLayout = "interleaved") -> Any:
    """Rotate ``x`` (batch, length, heads, dim) by its ``position_ids`` (batch or 1, length)."""
    cos, sin = rotary_angles(position_ids, x.shape[-1], base)
    return rotate(x, ops.expand_dims(cos, -2), ops.expand_dims(sin, -2), layout)


@keras.saving.register_keras_serializable(package="kexue")
class RotaryPosition(PositionEncoding):
    """Rotary positions inside attention: queries and keys are rotated, values only when asked.

    Args:
        dim: size of the query and key vectors; even.
        base: see `rotary_angles`.
        layout: see `RotaryLayout`.
        values: rotate values too (``rotary_value`` of RoFormer configurations).
    """

    def __init__(
        self,
        dim: int,
        base: float = 10000.0,
        layout: RotaryLayout = "interleaved",
        values: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if dim % 2 or dim <= 0:
            raise ConfigError(f"rotary positions need an even, positive key size. Received: {dim}")
        if layout not in ("interleaved", "half"):
            raise ConfigError(f"layout must be 'interleaved' or 'half'. Received: layout={layout!r}")
        self.dim, self.base, self.layout, self.turn_values = dim, base, layout, values

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "RotaryPosition":
        return cls(**{"dim": sizes.key_size} | options)

    def tables(self, query_positions: Any, key_positions: Any, **segments: Any) -> tuple[Any, ...]:
        query = [ops.expand_dims(t, -2) for t in rotary_angles(query_positions, self.dim, self.base)]
        if key_positions is query_positions:
            return (*query, *query)
        return (*query, *(ops.expand_dims(t, -2) for t in rotary_angles(key_positions, self.dim, self.base)))

    def rotate(self, q: Any, k: Any, tables: tuple[Any, ...]) -> tuple[Any, Any]:
        return rotate(q, tables[0], tables[1], self.layout), rotate(k, tables[2], tables[3], self.layout)

    def rotate_values(self, v: Any, tables: tuple[Any, ...]) -> Any:
        return rotate(v, tables[2], tables[3], self.layout) if self.turn_values else v

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "dim": self.dim,
            "base": self.base,
            "layout": self.layout,
            "values": self.turn_values,
        }
