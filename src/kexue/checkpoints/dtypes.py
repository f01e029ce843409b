"""Array types of the formats, and bytes to arrays with every size checked in Python's unbounded integers."""

import math
from collections.abc import Sequence

import ml_dtypes
import numpy as np

from kexue.errors import CheckpointError

__all__ = ["BFLOAT16", "FLOAT8_E4M3", "FLOAT8_E5M2", "OPAQUE", "STRING", "array_from_bytes", "count", "is_numeric"]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT8_E4M3 = np.dtype(ml_dtypes.float8_e4m3fn)
FLOAT8_E5M2 = np.dtype(ml_dtypes.float8_e5m2)
STRING = np.dtype(object)  # a tensor of byte strings
OPAQUE = np.dtype(np.void)  # listed, but not readable (resources, variants, quantised types)

_MAX_RANK = 32  # NumPy 1.x allows no more


def is_numeric(dtype: np.dtype) -> bool:
    """Whether the dtype is a number or a bool, as opposed to byte strings and opaque entries."""
    return dtype not in (STRING, OPAQUE)


def count(shape: Sequence[int], where: str) -> int:
    """Number of elements of a shape that a file claims.

    Raises:
        CheckpointError: the shape is none that an array can have; ``where`` names file and tensor.
    """
    if len(shape) > _MAX_RANK:
        raise CheckpointError(f"{where}: expected at most {_MAX_RANK} dimensions, received {len(shape)}.")
    if any(not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < 2**63 for n in shape):
        raise CheckpointError(f"{where}: expected dimensions of zero or more, received shape {list(shape)}.")
    # NumPy forms the product without the zeros, and refuses when that overflows
    if math.prod(n for n in shape if n) >= 2**62:
        raise CheckpointError(f"{where}: shape {list(shape)} is larger than any array can be.")
    return math.prod(shape)


def array_from_bytes(data: np.ndarray, dtype: np.dtype, shape: Sequence[int], where: str) -> np.ndarray:
    """View little-endian bytes (uint8, one-dimensional, of the right length) as an array; nothing is copied.

    Raises:
        CheckpointError: a byte of a bool tensor is neither 0 nor 1.
    """
    if dtype == np.bool_ and data.size and int(data.max()) > 1:
        raise CheckpointError(f"{where}: expected the bytes 0 and 1 in a bool tensor, received {int(data.max())}.")
    return data.view(dtype).reshape(tuple(shape))
