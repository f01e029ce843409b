"""Float32 matrices in the order in which oneDNN multiplies few rows quickest, on a CPU.

A step of decoding multiplies a handful of rows by every matrix of the model, so that its time is that of reading the
matrices. PyTorch's ``addmm`` hands the product to a library that reads a matrix at a part of the memory's speed, or
packs it anew at each call; here it is packed once, as PyTorch's own compiler does when it freezes weights. The results
are float32 all the same. A packed matrix is a second copy in memory: it is made when it is first needed, made again
after its weight has changed, and goes with the engine (`kexue.decoding.engine.release`).
"""

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

__all__ = ["Matrix"]

SMALLEST = 2**18
"""Numbers in a matrix from which on packing is worth a call that costs more."""
ROWS = 32
"""Rows that matrices are packed for; other numbers of rows are multiplied as well."""
MEMORY = Path("/proc/meminfo")
SPARE = 2**30
"""Bytes that must be left, where the system says how many there are."""

_KERNELS = torch.ops.mkldnn
_AVAILABLE = (
    torch.backends.mkldnn.is_available()
    and hasattr(_KERNELS, "_reorder_linear_weight")
    and hasattr(_KERNELS, "_linear_pointwise")
)


class Matrix:
    """``x W + bias`` with the same weight again and again.

    Args:
        transposed: the weight is ``W^T``, ``(columns, size)``, as that of a token table.
    """

    def __init__(self, transposed: bool = False) -> None:
        self.transposed = transposed
        self._key: tuple[int, int] | None = None
        self._weight: Any = None  # held, so that no other tensor can come to lie where it lies
        self._packed: Any = None

    def __call__(self, x: Any, weight: Any, bias: Any = None) -> Any:
        """``(..., size)`` to ``(..., columns)``.

        Args:
            x: float32.
            weight: ``(size, columns)``, or ``(columns, size)`` where ``transposed``; a tensor.
            bias: ``(columns,)`` or None.
        """
        packed = self._current(weight) if _AVAILABLE and weight.numel() >= SMALLEST else None
        rows = x.reshape(-1, x.shape[-1])
        if packed is not None:
            out = _KERNELS._linear_pointwise(rows, packed, bias, "none", [], "")
        elif self.transposed:
            out = functional.linear(rows, weight, bias)
        else:
            out = torch.mm(rows, weight) if bias is None else torch.addmm(bias, rows, weight)
        return out.view(*x.shape[:-1], out.shape[-1])

    def _current(self, weight: Any) -> Any:
        """The packed weight as it is now, or None where it is not to be packed."""
        if weight.device.type != "cpu" or weight.dtype != torch.float32 or weight.is_inference():
            return None
        key = (weight.data_ptr(), weight._version)
        if key != self._key:
            self._key, self._weight, self._packed = key, weight, None
            if _has_room(4 * weight.numel()):
                matrix = weight.detach() if self.transposed else weight.detach().t()
                self._packed = _KERNELS._reorder_linear_weight(matrix, ROWS)
        return self._packed


def _has_room(size: int) -> bool:
    try:
        lines = MEMORY.read_text(encoding="ascii").splitlines()
    except OSError:
        return True
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return not found or found[0] >= size + SPARE
