"""Relative positions of Transformer-XL and XLNet: sinusoids of the distance, met by the query and by a learned vector.

With R(d) the sinusoidal vector of the distance d = i - j, W a projection of each layer and u, v, s vectors of each
head, the score of query i and key j is

    (q_i + u) k_j + (q_i + v) R(i - j) W + (q_i + s) S[segments of i and j differ]

times the scale of attention; S are two learned vectors. Distances are not clipped, so there is no longest sequence.

Source: Dai et al., arXiv 1901.02860; Yang et al., "XLNet", arXiv 1906.08237; kexue.fm article 8130.
"""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import initializers
from kexue.nn.positions.base import PositionEncoding, Sizes

__all__ = ["TransformerXLPosition", "distance_sinusoids"]


def _angles(positions: Any, size: int) -> Any:
    theta = 10000.0 ** (-ops.arange(0, size, 2, dtype="float32") / size)
    return ops.expand_dims(ops.cast(positions, "float32"), -1) * theta


def distance_sinusoids(distances: Any, size: int) -> Any:
    """R: ``distances.shape + (size,)`` float32, all sines and then all cosines of ``d 10000^(-2 i / size)``."""
    angles = _angles(distances, size)
    return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)


@keras.saving.register_keras_serializable(package="kexue")
class TransformerXLPosition(PositionEncoding):
    """The terms of the module's formula beside ``q k``; see there.

    Args:
        size: of the sinusoidal vectors, the width of the model; even.
        segments: with the term of segments (XLNet). Only whether two tokens share a segment matters; a batch without
            segments is one segment.
        clamp: distances beyond this one count as it (``clamp_len`` of XLNet); None for no limit.
        initializer: of the weights that each layer has, see `kexue.nn.initializers.make`.
    """

    def __init__(
        self,
        size: int,
        segments: bool = False,
        clamp: int | None = None,
        initializer: float | dict[str, int] = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if size < 2 or size % 2:
            raise ConfigError(f"sinusoids need an even, positive size. Received: size={size}")
        if clamp is not None and clamp < 1:
            raise ConfigError(f"clamp must be a positive distance or None. Received: clamp={clamp}")
        self.size, self.segments, self.clamp, self.initializer = size, segments, clamp, initializer

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "TransformerXLPosition":
        return cls(**{"size": sizes.hidden_size, "initializer": sizes.initializer} | options)

    @property
    def uses_segments(self) -> bool:  # type: ignore[override]
        """`tables` wants the segments."""
        return self.segments

    def tables(self, query_positions: Any, key_positions: Any, **segments: Any) -> tuple[Any, ...]:
        """Distances, the sinusoids of all distances that a row of this length usually has, and what else is needed.

        Returns:
            ``(rows, index, fits, query_waves, key_waves[, differ])``: sinusoids ``(2 span - 1, size)`` float32;
            ``(batch or 1, length_q, length_k)`` int32 rows of them; whether all distances have a row; sinusoids of
            the positions themselves for the case that they have not; with ``segments`` also whether two tokens'
            segments differ, None where the batch has no segments.
        """
        q, k = ops.cast(query_positions, "int32"), ops.cast(key_positions, "int32")
        distance = ops.expand_dims(q, -1) - ops.expand_dims(k, -2)  # (b, Lq, Lk)
        if self.clamp is not None:
            distance = ops.clip(distance, -self.clamp, self.clamp)
            span = self.clamp + 1
        else:
            span = ops.shape(k)[1]  # queries stand among the keys, or `fits` says that they do not
        rows = distance_sinusoids(ops.arange(2 * span - 1, dtype="int32") - (span - 1), self.size)
        fits = ops.all(ops.abs(distance) < span)
        index = ops.clip(distance + (span - 1), 0, 2 * span - 2)
        waves = [distance_sinusoids(p, self.size) for p in (q, k)]
        common = (rows, index, fits, *waves)
        if not self.segments:  # Keras layers cannot return None in a functional model
            return common
        mine, theirs = segments.get("query_segments"), segments.get("key_segments")
        if mine is None or theirs is None:
            # The term would be the same for all keys of a query, and the softmax does not see it.
            return (*common, None)
        return (*common, ops.not_equal(ops.expand_dims(mine, -1), ops.expand_dims(theirs, -2)))

    def attention_weights(self, layer: Any, input_size: int) -> dict[str, Any]:
        heads, size = layer.query_heads, layer.key_size

        def weight(name: str, *shape: int) -> Any:
            return layer.add_weight(shape=shape, initializer=initializers.make(self.initializer), name=name)

        weights = {
            "kernel": weight("position_kernel", self.size, heads * size),
            "content_bias": weight("content_bias", heads, size),
            "position_bias": weight("position_bias", heads, size),
        }
        if self.segments:
            weights["segment_bias"] = weight("segment_bias", heads, size)
            weights["segment_table"] = weight("segment_table", 2, heads, size)
        return weights

    def scores(self, q: Any, k: Any, tables: tuple[Any, ...], *, scale: Any, layer: Any) -> Any:
        w = {name: ops.cast(value, q.dtype) for name, value in layer.position_weights.items()}
        rows, index, fits, query_waves, key_waves = tables[:5]
        differ = tables[5] if len(tables) > 5 else None
        heads, size = layer.query_heads, layer.key_size
        kernel = ops.reshape(w["kernel"], (self.size, heads, size))
        by_position = q + w["position_bias"]  # (B, Lq, H, K)
        pairs = (ops.shape(q)[0], heads, ops.shape(q)[1], ops.shape(k)[1])

        def by_row() -> Any:
            keys = ops.einsum("rd,dhk->rhk", ops.cast(rows, q.dtype), kernel)
            found = ops.cast(ops.einsum("bqhk,rhk->bhqr", by_position, keys), "float32")
            return ops.take_along_axis(found, ops.broadcast_to(ops.expand_dims(index, 1), pairs), axis=-1)

        def by_wave() -> Any:
            # sin and cos of a difference are products of those of the two positions: any distance, at a higher price.
            sent = ops.cast(ops.einsum("bqhk,dhk->bqhd", by_position, kernel), "float32")
            to_sin, to_cos = ops.split(sent, 2, axis=-1)
            sin, cos = ops.split(ops.expand_dims(query_waves, 2), 2, axis=-1)
            with_cos, with_sin = to_sin * sin + to_cos * cos, to_cos * sin - to_sin * cos
            met = ops.concatenate([with_sin, with_cos], axis=-1)  # (B, Lq, H, D)
            return ops.einsum("bqhd,bkd->bhqk", met, ops.broadcast_to(key_waves, (pairs[0], pairs[3], self.size)))

        bias = by_row() if self.clamp is not None else ops.cond(fits, by_row, by_wave)
        bias = bias + ops.cast(ops.einsum("hk,bjhk->bhj", w["content_bias"], k), "float32")[:, :, None]
        if differ is not None:
            met = ops.cast(ops.einsum("bqhk,shk->bhqs", q + w["segment_bias"], w["segment_table"]), "float32")
            bias = bias + ops.where(ops.expand_dims(differ, 1), met[..., 1:], met[..., :1])
        return bias * scale

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "size": self.size,
            "segments": self.segments,
            "clamp": self.clamp,
            "initializer": self.initializer,
        }
