"""Rotary positions on several axes: patches of a picture, video, points on a grid.

Each axis turns its own share of the features: ``R(x, y) = diag(R_x, R_y)``, so that
``R(x1, y1)^T R(x2, y2) = R(x2 - x1, y2 - y1)``, and the coordinates can be read off the matrix. Counting the patches of
a row-major picture instead makes neighbours in a column as distant as a row is long.

With N axes and d features each axis has d / N features and frequencies ``theta_i = base ** (-2 i / (d / N))``.

Source: kexue.fm article 8397.
"""

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn.positions.base import PositionEncoding, Sizes
from kexue.nn.positions.frequencies import frequencies
from kexue.nn.positions.rotary import RotaryLayout, rotate

__all__ = ["AxisSplit", "RotaryNDPosition", "apply_rotary_nd", "grid_coordinates", "rotary_nd_angles"]

AxisSplit = Literal["half", "alternate"]
"""Which pairs of features belong to which axis: ``half``, the first 1/N of the pairs to axis 0, the next to axis 1 ...;
``alternate``, pair p to axis p mod N. One is a fixed permutation of pairs of the other."""


def grid_coordinates(position_ids: Any, grid: Sequence[int]) -> Any:
    """Flat row-major ids to coordinates ``position_ids.shape + (len(grid),)``; the first size is not looked at."""
    flat, coordinates = ops.cast(position_ids, "int32"), []
    for size in reversed(grid[1:]):
        coordinates.append(flat % size)
        flat = flat // size
    return ops.stack([flat, *reversed(coordinates)], axis=-1)


def rotary_nd_angles(coordinates: Any, dim: int, base: float = 10000.0, split: AxisSplit = "half") -> tuple[Any, Any]:
    """Cosines and sines, float32, ``coordinates.shape[:-1] + (dim / 2,)``.

    Args:
        coordinates: ``(..., axes)``, integers or not.
        dim: number of features; a multiple of twice the number of axes.
        base: see the module.
        split: see `AxisSplit`.

    Raises:
        ConfigError: sizes that do not fit, an unknown split.
    """
    axes = coordinates.shape[-1]
    if dim <= 0 or dim % (2 * axes):
        raise ConfigError(f"dim must be a multiple of 2 * {axes}, the number of axes. Received: dim={dim}")
    if split not in ("half", "alternate"):
        raise ConfigError(f"split must be 'half' or 'alternate'. Received: split={split!r}")
    theta = ops.convert_to_tensor(frequencies(dim // axes, base), dtype="float32")  # (dim / 2 N,)
    angles = ops.cast(coordinates, "float32")[..., None] * theta  # (..., N, dim / 2 N)
    if split == "alternate":
        angles = ops.swapaxes(angles, -1, -2)
    angles = ops.reshape(angles, (*ops.shape(coordinates)[:-1], dim // 2))
    return ops.cos(angles), ops.sin(angles)


def apply_rotary_nd(
    x: Any,
    coordinates: Any,
    base: float = 10000.0,
    split: AxisSplit = "half",
    layout: RotaryLayout = "interleaved",
) -> Any:
    """Rotate ``x`` (batch, length, heads, dim) by ``coordinates`` (batch or 1, length, axes).

    Args:
        x: queries or keys.
        coordinates: as in `rotary_nd_angles`.
        base: likewise.
        split: see `AxisSplit`.
        layout: which two features are a pair, see `kexue.nn.positions.rotary.RotaryLayout`; over the whole vector,
            whatever the axes.
    """
    cos, sin = rotary_nd_angles(coordinates, x.shape[-1], base, split)
    return rotate(x, ops.expand_dims(cos, -2), ops.expand_dims(sin, -2), layout)


@keras.saving.register_keras_serializable(package="kexue")
class RotaryNDPosition(PositionEncoding):
    """Rotary positions on several axes inside attention; see the module. Any length.

    ``tables`` takes coordinates ``(batch or 1, length, axes)``. In a `Transformer`, whose positions are one number a
    token, ``grid`` turns that number into coordinates: token ``y * width + x`` of a row-major picture stands at
    ``(y, x)``. All sizes but the first count; weights do not depend on them. For pictures of different widths in one
    model choose widths at least as large as any, and give ``position_ids = y * width + x``.

    Args:
        dim: size of the query and key vectors; a multiple of twice the number of axes.
        axes: number of axes; that of ``grid`` where it is given.
        grid: sizes of the axes, the slowest first.
        base: see the module.
        split: see `AxisSplit`.
        layout: see `apply_rotary_nd`.
    """

    def __init__(
        self,
        dim: int,
        axes: int | None = None,
        grid: Sequence[int] | None = None,
        base: float = 10000.0,
        split: AxisSplit = "half",
        layout: RotaryLayout = "interleaved",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.axes = (2 if grid is None else len(grid)) if axes is None else axes
        self.grid = None if grid is None else [int(size) for size in grid]
        if self.axes < 1 or (self.grid is not None and (len(self.grid) != self.axes or min(self.grid) < 1)):
            raise ConfigError(f"grid must have one positive size an axis. Received: axes={axes}, grid={grid}")
        if layout not in ("interleaved", "half"):
            raise ConfigError(f"layout must be 'interleaved' or 'half'. Received: layout={layout!r}")
        if dim <= 0 or dim % (2 * self.axes):
            raise ConfigError(f"the key size must be a multiple of twice the {self.axes} axes. Received: dim={dim}")
        if split not in ("half", "alternate"):
            raise ConfigError(f"split must be 'half' or 'alternate'. Received: split={split!r}")
        self.dim, self.base, self.split, self.layout = dim, base, split, layout

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "RotaryNDPosition":
        return cls(**{"dim": sizes.key_size} | options)

    def tables(self, query_positions: Any, key_positions: Any, **segments: Any) -> tuple[Any, ...]:
        query = self._angles(query_positions)
        return (*query, *(query if key_positions is query_positions else self._angles(key_positions)))

    def _angles(self, positions: Any) -> tuple[Any, Any]:
        coordinates = to_coordinates(positions, self.axes, self.grid)
        cos, sin = rotary_nd_angles(coordinates, self.dim, self.base, self.split)
        return ops.expand_dims(cos, -2), ops.expand_dims(sin, -2)

    def rotate(self, q: Any, k: Any, tables: tuple[Any, ...]) -> tuple[Any, Any]:
        return rotate(q, tables[0], tables[1], self.layout), rotate(k, tables[2], tables[3], self.layout)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "dim": self.dim,
            "axes": self.axes,
            "grid": None if self.grid is None else list(self.grid),
            "base": self.base,
            "split": self.split,
            "layout": self.layout,
        }


def to_coordinates(positions: Any, axes: int, grid: Sequence[int] | None) -> Any:
    """Positions as coordinates ``(batch or 1, length, axes)``: what they are already, or flat ids on a grid."""
    if len(positions.shape) == 3:
        if positions.shape[-1] != axes:
            raise ConfigError(f"coordinates must be (batch, length, {axes}). Received: shape {tuple(positions.shape)}")
        return positions
    if grid is None:
        raise ConfigError(
            f"flat positions need a grid to become coordinates: give grid, {axes} sizes, in position_options."
        )
    return grid_coordinates(positions, grid)
