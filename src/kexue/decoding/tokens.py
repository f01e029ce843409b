"""Sets of tokens as rows of booleans."""

from typing import Any

from keras import ops

__all__ = ["mark"]


def mark(tokens: Any, counts: Any, vocabulary: int) -> Any:
    """Which tokens occur: ``(batch, branches, vocabulary)`` booleans.

    Args:
        tokens: ``(batch, branches, n)`` int32.
        counts: likewise, booleans: look at this one.
        vocabulary: number of tokens.
    """
    batch, branches, n = tokens.shape
    rows = batch * branches
    column = ops.reshape(ops.where(counts, tokens, vocabulary), (rows * n,))
    row = ops.repeat(ops.arange(rows, dtype="int32"), n)
    table = ops.zeros((rows, vocabulary + 1), dtype="int32")
    table = ops.scatter_update(table, ops.stack([row, ops.cast(column, "int32")], axis=1), ops.ones_like(row))
    return ops.reshape(table[:, :vocabulary] > 0, (batch, branches, vocabulary))
