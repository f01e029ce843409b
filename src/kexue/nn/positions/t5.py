"""T5's relative positions: one trained number a head for each bucket of distances.

The score of a query at m and a key at n gets ``table[bucket(n - m), head]``. Short distances have a bucket each, longer
ones share buckets whose borders grow geometrically, all from ``max_distance`` on share the last one.

Source: kexue.fm article 8130; Raffel et al., arXiv 1910.10683.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import initializers
from kexue.nn.positions.base import PositionEncoding, Sizes

__all__ = ["T5Position", "bucket_table"]


def bucket_table(num_buckets: int = 32, max_distance: int = 128, bidirectional: bool = True) -> np.ndarray:
    """Buckets of the relative positions ``-max_distance .. max_distance`` (key - query), int32.

    With n buckets for a direction, distances below e = n / 2 have their own; a longer distance d has
    ``e + floor((n - e) log(d / e) / log(max_distance / e))``, at most ``n - 1``. The floor is taken among integers,
    ``d^(n-e) e^b >= max_distance^b e^(n-e)``, as a logarithm in low precision misses exact powers.

    Args:
        num_buckets: of both directions together.
        max_distance: from which on all distances share a bucket.
        bidirectional: half of the buckets are for keys after the query; otherwise those share bucket 0.

    Raises:
        ConfigError: too few buckets, or ``max_distance`` not beyond the exact ones.
    """
    count = num_buckets // 2 if bidirectional else num_buckets
    exact = count // 2
    if exact < 1 or max_distance <= exact:
        raise ConfigError(
            "T5's positions need at least 2 buckets a direction and max_distance beyond half of them. Received: "
            f"num_buckets={num_buckets}, max_distance={max_distance}, bidirectional={bidirectional}"
        )
    shared = count - exact

    def bucket(d: int) -> int:
        if d < exact:
            return d
        left, right, ratio = d**shared, exact**shared, 0
        while ratio < shared - 1 and left * exact ** (ratio + 1) >= max_distance ** (ratio + 1) * right:
            ratio += 1
        return exact + ratio

    before = np.array([bucket(d) for d in range(max_distance + 1)], "int32")
    after = before[1:] + count if bidirectional else np.zeros_like(before[1:])
    return np.concatenate([before[::-1], after])


@keras.saving.register_keras_serializable(package="kexue")
class T5Position(PositionEncoding):
    """``scores + table[bucket(key - query)]``, one table for all blocks of a stack.

    Args:
        heads: columns of the table.
        num_buckets: rows of the table.
        max_distance: see `bucket_table`.
        bidirectional: see `bucket_table`; part of what the table means, whatever the mask.
        initializer: see `kexue.nn.initializers.make`.
    """

    def __init__(
        self,
        heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        initializer: float | dict[str, int] = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.heads, self.num_buckets, self.max_distance = heads, num_buckets, max_distance
        self.bidirectional, self.initializer = bidirectional, initializer
        self.buckets = bucket_table(num_buckets, max_distance, bidirectional)

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "T5Position":
        given = {"heads": sizes.heads, "bidirectional": sizes.bidirectional, "initializer": sizes.initializer}
        return cls(**given | options)

    def build(self, *_: Any, **__: Any) -> None:
        shape = (self.num_buckets, self.heads)
        self.table = self.add_weight(shape=shape, initializer=initializers.make(self.initializer), name="table")
        self.built = True

    def tables(self, query_positions: Any, key_positions: Any, **segments: Any) -> tuple[Any, ...]:
        """The bias itself, ``(batch or 1, heads, length_q, length_k)`` float32."""
        q, k = (ops.cast(p, "int32") for p in (query_positions, key_positions))
        distance = ops.clip(k[:, None, :] - q[:, :, None], -self.max_distance, self.max_distance)  # (B, Lq, Lk)
        table = ops.cast(ops.convert_to_tensor(self.table), "float32")
        by_distance = ops.take(table, self.buckets, axis=0)  # (2 max_distance + 1, H)
        bias = ops.take(by_distance, distance + self.max_distance, axis=0)  # (B, Lq, Lk, H)
        return (ops.transpose(bias, (0, 3, 1, 2)),)

    def scores(self, q: Any, k: Any, tables: tuple[Any, ...], *, scale: Any, layer: Any) -> Any:
        return tables[0]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "heads": self.heads,
            "num_buckets": self.num_buckets,
            "max_distance": self.max_distance,
            "bidirectional": self.bidirectional,
            "initializer": self.initializer,
        }
