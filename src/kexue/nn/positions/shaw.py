"""Relative positions as vectors added to keys and values (Shaw), and their sinusoidal form (NEZHA).

    score(i, j) = q_i . (k_j + r_ij) / sqrt(d),    output_i = sum_j p_ij (v_j + r_ij),
    r_ij = table[clip(position_j - position_i, -clip, clip) + clip]

One table of ``2 clip + 1`` rows serves all heads and blocks, keys and values. In NEZHA it is fixed: row t holds
``sin(t w_i)`` and ``cos(t w_i)`` in turns, ``w_i = 10000 ** (-2 i / d)``, t counted from 0 at the first row.

No tensor of (length, length, d) is made: queries meet the 2 clip + 1 rows, and probabilities of the same distance are
added before they meet them.

Source: Shaw et al., arXiv 1803.02155; NEZHA: Wei et al., arXiv 1909.00204; kexue.fm article 8130.
"""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import initializers
from kexue.nn.positions.base import PositionEncoding, Sizes

__all__ = ["ShawPosition", "sinusoidal_rows"]


def sinusoidal_rows(rows: int, size: int) -> np.ndarray:
    """NEZHA's table ``(rows, size)`` in float64: sines in even columns, cosines in odd ones."""
    angles = np.arange(rows)[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(rows, size)


def grouped_sums(values: Any, index: Any, rows: int) -> Any:
    """``out[..., r] = sum of values[..., k] with index[..., k] = r``: ``(batch, heads, n, k)`` to ``(..., rows)``."""
    if keras.backend.backend() == "torch":
        from kexue.nn.positions import sums_torch

        return sums_torch.grouped_sums(values, index, rows)
    batch, heads, length = ops.shape(values)[:3]
    groups = batch * heads * length
    first = ops.reshape(ops.arange(groups, dtype="int32") * rows, (batch, heads, length, 1))
    sums = ops.segment_sum(ops.reshape(values, (-1,)), ops.reshape(index + first, (-1,)), num_segments=groups * rows)
    return ops.reshape(sums, (batch, heads, length, rows))


@keras.saving.register_keras_serializable(package="kexue")
class ShawPosition(PositionEncoding):
    """Vectors of the clipped distance, added to keys and values inside attention; see the module.

    Args:
        key_size: size of keys and values in a head.
        clip: distances beyond it count as it.
        table: ``"sinusoidal"``, fixed (NEZHA), or ``"learned"`` (Shaw).
        values: add them to values too.
        initializer: of a learned table, see `kexue.nn.initializers.make`.

    Raises:
        ConfigError: sizes that cannot be, or a sinusoidal table of odd size.
    """

    def __init__(
        self,
        key_size: int,
        clip: int = 64,
        table: Literal["sinusoidal", "learned"] = "sinusoidal",
        values: bool = True,
        initializer: Any = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        if key_size < 1 or clip < 1:
            raise ConfigError(f"key_size and clip must be positive. Received: key_size={key_size}, clip={clip}")
        if table not in ("sinusoidal", "learned"):
            raise ConfigError(f"table must be 'sinusoidal' or 'learned'. Received: table={table!r}")
        if table == "sinusoidal" and key_size % 2:
            raise ConfigError(f"a sinusoidal table needs an even key_size. Received: key_size={key_size}")
        self.key_size, self.clip, self.kind, self.adds_values = key_size, clip, table, values
        self.initializer = initializer

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "ShawPosition":
        return cls(**{"key_size": sizes.key_size, "initializer": sizes.initializer} | options)

    def build(self, x_shape: Any = None, *_: Any, **__: Any) -> None:
        shape = (2 * self.clip + 1, self.key_size)
        self.table = None
        if self.kind == "learned":
            make = initializers.make(self.initializer)
            self.table = self.add_weight(shape=shape, initializer=make, name="table", autocast=False)
        self.built = True

    def rows(self) -> Any:
        """The table ``(2 clip + 1, key_size)``, float32."""
        if self.table is not None:
            return ops.cast(self.table, "float32")
        return ops.convert_to_tensor(sinusoidal_rows(2 * self.clip + 1, self.key_size), dtype="float32")

    def tables(self, query_positions: Any, key_positions: Any, **segments: Any) -> tuple[Any, ...]:
        """Row of each pair ``(batch or 1, length_q, length_k)`` int32, and the table."""
        query, key = ops.cast(query_positions, "int32"), ops.cast(key_positions, "int32")
        distance = key[:, None, :] - query[:, :, None]
        return ops.clip(distance, -self.clip, self.clip) + self.clip, self.rows()

    def scores(self, q: Any, k: Any, tables: tuple[Any, ...], *, scale: Any, layer: Any) -> Any:
        index, table = tables
        each = ops.matmul(ops.cast(q, "float32"), ops.transpose(table))  # (B, Lq, H, 2 clip + 1)
        each = ops.transpose(each, (0, 2, 1, 3)) * scale
        batch, heads, length = ops.shape(each)[:3]
        index = ops.broadcast_to(index[:, None], (batch, heads, length, ops.shape(index)[-1]))
        return ops.take_along_axis(each, index, axis=-1)

    def values(self, probabilities: Any, v: Any, tables: tuple[Any, ...]) -> Any:
        if not self.adds_values:
            return None
        if v.shape[-1] != self.key_size:
            raise ConfigError(
                f"position vectors of size {self.key_size} cannot be added to values of size {v.shape[-1]}: make "
                "value_size equal to key_size, or leave values alone with position_options={'values': False}."
            )
        index, table = tables
        index = ops.broadcast_to(index[:, None], ops.shape(probabilities))  # (B, H, Lq, Lk)
        sums = grouped_sums(ops.cast(probabilities, "float32"), index, 2 * self.clip + 1)
        return ops.transpose(ops.matmul(sums, table), (0, 2, 1, 3))  # (B, Lq, H, key_size)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "key_size": self.key_size,
            "clip": self.clip,
            "table": self.kind,
            "values": self.adds_values,
            "initializer": self.initializer,
        }
