"""What attention layers of every kind do with tokens: a matrix product by rows, and the split in heads."""

from typing import Any

from keras import ops

__all__ = ["rows", "split_heads"]


def rows(x: Any, kernel: Any, bias: Any = None) -> Any:
    """``x kernel + bias``, tokens as rows of one matrix: XLA makes better gradients of two-dimensional products.

    Args:
        x: ``(batch, length, size)``.
        kernel: ``(size, columns)``.
        bias: ``(columns,)`` or None.

    Returns:
        ``(batch, length, columns)`` in the dtype of ``x``.
    """
    shape = ops.shape(x)
    out = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), ops.cast(kernel, x.dtype))
    out = out if bias is None else out + ops.cast(bias, x.dtype)
    return ops.reshape(out, (shape[0], shape[1], kernel.shape[-1]))


def split_heads(x: Any, size: int) -> Any:
    """``(batch, length, heads * size)`` to ``(batch, length, heads, size)``."""
    shape = ops.shape(x)
    return ops.reshape(x, (shape[0], shape[1], x.shape[-1] // size, size))
