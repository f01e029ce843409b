"""Learned absolute positions, and their hierarchical continuation beyond the trained length.

Source: kexue.fm article 8130; Gehring et al., arXiv 1705.03122.
"""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import initializers
from kexue.nn.positions.base import PositionEncoding, Sizes

__all__ = ["HierarchicalPosition", "LearnedPosition", "hierarchical_table"]


@keras.saving.register_keras_serializable(package="kexue")
class LearnedPosition(PositionEncoding):
    """``x + table[position + offset]`` with a trained table.

    Args:
        max_length: rows of the table, those before ``offset`` included.
        offset: added to each position (2 in RoBERTa).
        initializer: see `kexue.nn.initializers.make`.
        mode: ``"add"``, or ``"multiply"`` for ``x * (1 + table[position + offset])``.
    """

    def __init__(
        self,
        max_length: int,
        offset: int = 0,
        initializer: float | dict[str, int] = 0.02,
        mode: str = "add",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if max_length <= offset:
            raise ConfigError(f"max_length must exceed offset. Received: max_length={max_length}, offset={offset}")
        if mode not in ("add", "multiply"):
            raise ConfigError(f"mode must be 'add' or 'multiply'. Received: mode={mode!r}")
        self.max_length, self.offset, self.initializer, self.mode = max_length, offset, initializer, mode

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "LearnedPosition":
        given = {"max_length": sizes.max_length, "offset": sizes.offset, "initializer": sizes.initializer}
        return cls(**given | options)

    @property
    def limit(self) -> int | None:
        """Longest sequence, or None."""
        return self.max_length - self.offset

    def build(self, x_shape: Any = None, *_: Any, **__: Any) -> None:
        shape = (self.max_length, x_shape[-1])
        self.table = self.add_weight(shape=shape, initializer=self.start, name="table")
        self.built = True

    def start(self, shape: Any, dtype: Any = None) -> Any:
        """Initial table."""
        return initializers.make(self.initializer)(shape, dtype=dtype)

    def embed(self, x: Any, position_ids: Any, **facts: Any) -> Any:
        rows = ops.cast(self.lookup(ops.cast(position_ids, "int32") + self.offset), x.dtype)
        return x + rows if self.mode == "add" else x * (1 + rows)

    def lookup(self, rows: Any) -> Any:
        """Embeddings of table rows ``(batch or 1, length)``."""
        return ops.take(ops.convert_to_tensor(self.table), rows, axis=0)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "max_length": self.max_length,
            "offset": self.offset,
            "initializer": self.initializer,
            "mode": self.mode,
        }


def hierarchical_table(table: Any, alpha: float = 0.4) -> Any:
    """The base u of the hierarchical decomposition: ``u[i] = (p[i] - alpha p[0]) / (1 - alpha)``."""
    return (table - alpha * table[:1]) / (1.0 - alpha)


@keras.saving.register_keras_serializable(package="kexue")
class HierarchicalPosition(LearnedPosition):
    """Positions up to n^2 from n trained rows, the first n unchanged.

    ``q[t] = alpha u[t // n] + (1 - alpha) u[t % n]`` with u from `hierarchical_table`; alpha must not be 0.5, where
    positions ``(i, j)`` and ``(j, i)`` coincide.

    Source: kexue.fm article 7947 (and survey 8130).
    """

    def __init__(
        self,
        max_length: int,
        offset: int = 0,
        alpha: float = 0.4,
        initializer: float | dict[str, int] = 0.02,
        mode: str = "add",
        **kwargs: Any,
    ) -> None:
        super().__init__(max_length, offset, initializer, mode, **kwargs)
        if not 0 < alpha < 1 or alpha == 0.5:
            raise ConfigError(f"alpha must be in (0, 1) and not 0.5; below 0.5 is better. Received: alpha={alpha}")
        self.alpha = alpha

    @property
    def limit(self) -> int | None:
        return (self.max_length - self.offset) ** 2

    def lookup(self, rows: Any) -> Any:
        table = ops.convert_to_tensor(self.table)[self.offset :]
        base = hierarchical_table(ops.cast(table, "float32"), self.alpha)
        n, t = self.max_length - self.offset, rows - self.offset
        high, low = ops.take(base, t // n, axis=0), ops.take(base, t % n, axis=0)
        return self.alpha * high + (1.0 - self.alpha) * low

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"alpha": self.alpha}
