"""Recursive positions: ``p[k + 1] = f(p[k])`` with a trained first row and a trained map f.

Source: kexue.fm article 8130 (section on recursive encodings).
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.nn.positions.unrolled import UnrolledPosition

__all__ = ["RecursivePosition"]


@keras.saving.register_keras_serializable(package="kexue")
class RecursivePosition(UnrolledPosition):
    """``x + p[position]``, ``p[k + 1] = f(p[k])``.

    - ``cell="gru"``, a gated recurrent unit without input: ``z = sigmoid(p U_z + b_z)``, ``r = sigmoid(p U_r + b_r)``,
      ``f(p) = z p + (1 - z) tanh((r p) U_h + b_h)``.
    - ``cell="mlp"``: ``f(p) = tanh(p U_1 + b_1) U_2 + b_2``.

    Matrices start orthogonal, and the biases of the gate z so that the memory of the features ranges over 1 to
    ``max_length`` steps (Tallec and Ollivier, arXiv 1804.11188): otherwise all positions but the first few coincide.

    Args:
        max_length: number of positions unrolled; see `UnrolledPosition`.
        cell: ``"gru"`` or ``"mlp"``.
        initializer: of ``p[0]``.
    """

    def __init__(
        self, max_length: int, cell: str = "gru", initializer: float | dict[str, int] = 0.02, **kwargs: Any
    ) -> None:
        super().__init__(max_length, initializer, **kwargs)
        if cell not in ("gru", "mlp"):
            raise ConfigError(f"cell must be 'gru' or 'mlp'. Received: cell={cell!r}")
        self.cell = cell

    def build_step(self, width: int) -> None:
        names = ("update", "reset", "candidate") if self.cell == "gru" else ("inner", "outer")
        self.kernels = {n: self.weight(f"{n}_kernel", (width, width), "orthogonal") for n in names}
        self.biases = {n: self.weight(f"{n}_bias", (width,), self._memory if n == "update" else "zeros") for n in names}

    def _memory(self, shape: Any, dtype: Any = None) -> Any:
        spans = np.linspace(1.0, max(self.max_length - 1, 1), shape[0])
        return ops.convert_to_tensor(np.log(spans), dtype=dtype)

    def advance(self, row: Any, k: Any) -> Any:
        def affine(name: str, x: Any) -> Any:
            return ops.matmul(x, self.kernels[name]) + self.biases[name]

        if self.cell == "mlp":
            return affine("outer", ops.tanh(affine("inner", row)))
        keep, reset = ops.sigmoid(affine("update", row)), ops.sigmoid(affine("reset", row))
        return keep * row + (1 - keep) * ops.tanh(affine("candidate", reset * row))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"cell": self.cell}
