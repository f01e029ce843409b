"""Disentangled relative positions of DeBERTa: content meets position, and position meets content.

With R a table of relative positions, shared by all layers, and b(d) the row of the distance d = i - j, the score is

    q_i k_j + q_i K(R[b(i - j)]) + Q(R[b(i - j)]) k_j        times 1 / sqrt(3 key_size)

K and Q are the projections of the content's keys and queries (``share_att_key`` of DeBERTa-v2 and v3), or further ones
of each layer. The paper writes the last term with R[b(j - i)]; its program and all checkpoints use the row above.

Source: He et al., arXiv 2006.03654; buckets: DeBERTa-v2's program; kexue.fm article 8130.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import initializers
from kexue.nn.norms import LayerNorm
from kexue.nn.positions.base import PositionEncoding, Sizes

__all__ = ["DebertaPosition", "log_bucket"]


def log_bucket(distances: Any, buckets: int, max_distance: int) -> np.ndarray:
    """Distances to signed buckets: as they are up to half the buckets, then by their logarithm.

    With h = ``buckets / 2``: ``b(d) = d`` where ``|d| <= h``, else
    ``sign(d) (h + ceil((h - 1) log(|d| / h) / log((max_distance - 1) / h)))``; in float32, as the checkpoints were
    trained with.

    Args:
        distances: integers of any shape.
        buckets: of both signs together.
        max_distance: longest distance that has a bucket of its own.
    """
    d = np.asarray(distances, "int64")
    half = buckets // 2
    far = np.maximum(np.abs(d), half).astype("float32") / np.float32(half)
    step = np.log(far) / np.log(np.float32((max_distance - 1) / half)) * np.float32(half - 1)
    return np.where(np.abs(d) <= half, d, np.sign(d) * (np.ceil(step).astype("int64") + half))


@keras.saving.register_keras_serializable(package="kexue")
class DebertaPosition(PositionEncoding):
    """The two terms of the module's formula beside ``q k``.

    Args:
        size: of the table's rows, the width of the model.
        max_distance: rows of the table for each sign, without buckets; with them, see `log_bucket`.
        buckets: distances by `log_bucket`; then the table has ``2 buckets`` rows. None: clipped at ``max_distance``.
        terms: of ``"c2p"`` (content to position) and ``"p2c"``.
        shared_keys: positions go through the projections of the content.
        norm: epsilon of a layer norm over the table; None for none.
        initializer: see `kexue.nn.initializers.make`.
    """

    def __init__(
        self,
        size: int,
        max_distance: int,
        buckets: int | None = None,
        terms: tuple[str, ...] = ("c2p", "p2c"),
        shared_keys: bool = False,
        norm: float | None = None,
        initializer: float | dict[str, int] = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        if not terms or set(terms) - {"c2p", "p2c"}:
            raise ConfigError(f"terms must be of 'c2p' and 'p2c', one at least. Received: terms={terms!r}")
        if max_distance < 1 or (buckets is not None and (buckets < 4 or max_distance - 1 <= buckets // 2)):
            raise ConfigError(
                "expected a positive max_distance, and buckets of at least 4 with max_distance - 1 above their half. "
                f"Received: max_distance={max_distance}, buckets={buckets}"
            )
        self.size, self.max_distance, self.buckets, self.terms = size, max_distance, buckets, tuple(terms)
        self.shared_keys, self.norm_epsilon, self.initializer = shared_keys, norm, initializer
        self.span = buckets or max_distance
        self.score_terms = 1 + len(set(self.terms))
        self.norm = None if norm is None else LayerNorm(norm, dtype="float32", name="norm")

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "DebertaPosition":
        given = {"size": sizes.hidden_size, "max_distance": sizes.max_length, "initializer": sizes.initializer}
        return cls(**given | options)

    def build(self, *_: Any, **__: Any) -> None:
        shape = (2 * self.span, self.size)
        self.table = self.add_weight(shape=shape, initializer=initializers.make(self.initializer), name="table")
        if self.norm is not None:
            self.norm.build(shape)
        self.built = True

    def rows(self, distances: Any) -> Any:
        """Rows of the table for int32 distances ``i - j``."""
        if self.buckets is None:
            bucket = distances
        else:
            # A table: the logarithm of a device may round an exact power to the other side.
            end = 2 * self.max_distance
            known = log_bucket(np.arange(-end, end + 1), self.buckets, self.max_distance).astype("int32")
            bucket = ops.take(ops.convert_to_tensor(known), ops.clip(distances, -end, end) + end)
        return ops.clip(bucket + self.span, 0, 2 * self.span - 1)

    def tables(self, query_positions: Any, key_positions: Any, **segments: Any) -> tuple[Any, ...]:
        """``(table, index)``: the rows ``(2 span, size)`` float32, and which one each pair takes."""
        q, k = ops.cast(query_positions, "int32"), ops.cast(key_positions, "int32")
        table = ops.cast(self.table, "float32")
        table = table if self.norm is None else self.norm(table)
        return table, self.rows(ops.expand_dims(q, -1) - ops.expand_dims(k, -2))

    def attention_weights(self, layer: Any, input_size: int) -> dict[str, Any]:
        if self.shared_keys:
            if not hasattr(layer, "project"):
                raise ConfigError(f"shared_keys needs attention with projections of its own, not {layer.name}.")
            return {}
        columns = layer.query_heads * layer.key_size
        weights = {}
        for term, name in (("c2p", "position_key"), ("p2c", "position_query")):
            if term in self.terms:
                make = initializers.make(self.initializer)
                weights[f"{name}_kernel"] = layer.add_weight(
                    shape=(self.size, columns), initializer=make, name=f"{name}_kernel"
                )
                weights[f"{name}_bias"] = layer.add_weight(shape=(columns,), initializer="zeros", name=f"{name}_bias")
        return weights

    def _sent(self, table: Any, part: str, layer: Any) -> Any:
        """The table through a projection, ``(2 span, heads, key_size)``."""
        if self.shared_keys:
            return layer.project(ops.expand_dims(table, 0), part)[0]
        w = layer.position_weights
        kernel, bias = (ops.cast(w[f"position_{part}_{what}"], table.dtype) for what in ("kernel", "bias"))
        return ops.reshape(ops.matmul(table, kernel) + bias, (-1, layer.query_heads, layer.key_size))

    def scores(self, q: Any, k: Any, tables: tuple[Any, ...], *, scale: Any, layer: Any) -> Any:
        table, index = ops.cast(tables[0], q.dtype), tables[1]
        batch, heads = ops.shape(q)[0], layer.query_heads
        index = ops.expand_dims(index, 1)  # (b, 1, Lq, Lk)
        pairs = (batch, heads, ops.shape(q)[1], ops.shape(k)[1])
        bias = 0.0
        if "c2p" in self.terms:
            met = ops.einsum("bqhk,rhk->bhqr", q, self._sent(table, "key", layer))
            bias = ops.cast(ops.take_along_axis(met, ops.broadcast_to(index, pairs), axis=-1), "float32")
        if "p2c" in self.terms:
            met = ops.einsum("bjhk,rhk->bhjr", k, self._sent(table, "query", layer))
            turned = ops.swapaxes(ops.broadcast_to(index, pairs), 2, 3)
            found = ops.swapaxes(ops.take_along_axis(met, turned, axis=-1), 2, 3)
            bias = bias + ops.cast(found, "float32")
        return bias * scale

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "size": self.size,
            "max_distance": self.max_distance,
            "buckets": self.buckets,
            "terms": list(self.terms),
            "shared_keys": self.shared_keys,
            "norm": self.norm_epsilon,
            "initializer": self.initializer,
        }
