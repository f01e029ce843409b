"""ALiBi: a penalty on the score that grows linearly with the distance, with a fixed slope in each head.

    score[h, i, j] += -slope[h] |i - j|

Under a causal mask this is the paper's ``-slope (i - j)``; without one it is the symmetric form for encoders.

Source: Press et al., arXiv 2108.12409.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.nn.positions.base import PositionEncoding, Sizes

__all__ = ["AlibiPosition", "alibi_slopes"]


def alibi_slopes(heads: int) -> np.ndarray:
    """Slopes ``(heads,)``, float64: ``2 ** (-8 h / heads)`` for h = 1 ... heads where ``heads`` is a power of 2.

    Otherwise those of the next lower power n, then every other one of 2 n, as the authors' code has it.
    """
    if heads < 1:
        raise ConfigError(f"heads must be at least 1. Received: heads={heads}")
    power = 2 ** int(math.log2(heads))
    slopes = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)
    between = 2.0 ** (-4.0 * np.arange(1, 2 * power + 1, 2) / power)
    return np.concatenate([slopes, between[: heads - power]])


@keras.saving.register_keras_serializable(package="kexue")
class AlibiPosition(PositionEncoding):
    """ALiBi; see the module. Sees distances only, any length, no weights.

    Args:
        heads: attention heads.
        slopes: one number a head; `alibi_slopes` by default.
    """

    def __init__(self, heads: int, slopes: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads
        self.slopes = alibi_slopes(heads).tolist() if slopes is None else [float(s) for s in slopes]
        if len(self.slopes) != heads:
            raise ConfigError(f"one slope a head is needed: {heads}. Received: {len(self.slopes)} slopes")

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "AlibiPosition":
        return cls(**{"heads": sizes.heads} | options)

    def tables(self, query_positions: Any, key_positions: Any, **segments: Any) -> tuple[Any, ...]:
        q, k = (ops.cast(p, "float32") for p in (query_positions, key_positions))
        distance = ops.abs(q[:, None, :, None] - k[:, None, None, :])
        slopes = ops.reshape(ops.convert_to_tensor(np.array(self.slopes, "float32")), (1, self.heads, 1, 1))
        return (-slopes * distance,)  # (B or 1, H, Lq, Lk)

    def scores(self, q: Any, k: Any, tables: tuple[Any, ...], *, scale: Any, layer: Any) -> Any:
        return tables[0]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"heads": self.heads, "slopes": list(self.slopes)}
