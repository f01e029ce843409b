"""Learned absolute positions, and their hierarchical continuation beyond the trained length."""

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
    """

    def __init__(
        self, max_length: int, offset: int = 0, initializer: float | dict[str, int] = 0.02, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if max_length <= offset:
            raise ConfigError(f"max_length must exceed offset. Received: max_length={max_length}, offset={offset}")
        self.max_length, self.offset, self.initializer = max_length, offset, initializer

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
        self.table = self.add_weight(shape=shape, initializer=initializers.make(self.initializer), name="table")
        self.built = True

    def embed(self, x: Any, position_ids: Any, **facts: Any) -> Any:
        return x + ops.cast(self.lookup(ops.cast(position_ids, "int32") + self.offset), x.dtype)

    def lookup(self, rows: Any) -> Any:
        """Embeddings of table rows ``(batch or 1, length)``."""
        return ops.take(ops.convert_to_tensor(self.table), rows, axis=0)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "max_length": self.max_length,
            "offset": self.offset,
            "initializer": self.initializer,
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

    def __init__(self, max_length: int, offset: int = 0, alpha: float = 0.4, **kwargs: Any) -> None:
        super().__init__(max_length, offset, **kwargs)
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
