"""GlobalPointer: every span of a sentence scored at once, for flat and nested entities alike.

A sentence of n tokens has n(n+1)/2 spans; GlobalPointer gives each span (start i, end j) one score per entity type and
treats "which spans are entities" as one multi-label decision per type, trained with the loss of `kexue.nn.losses` and
decoded by "score above 0".

Indices: ``logits[b, type, start, end]``, both tokens inside the span (end inclusive).

Source: kexue.fm articles 8373 (GlobalPointer) and 8877 (Efficient GlobalPointer); Su et al., arXiv 2208.03054.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError, DataError
from kexue.nn.losses import MASKED_SCORE
from kexue.nn.positions.rotary import RotaryLayout, apply_rotary

__all__ = ["MASKED_SCORE", "EfficientGlobalPointer", "GlobalPointer", "Span", "decode_spans", "span_mask"]


def span_mask(length: Any, padding_mask: Any = None, document_ids: Any = None, triangular: bool = True) -> Any:
    """Which (start, end) pairs may be spans.

    Args:
        length: number of tokens in a row.
        padding_mask: ``(batch, length)``, true at real tokens.
        document_ids: ``(batch, length)`` for packed rows: start and end must lie in one document.
        triangular: require start <= end.

    Returns:
        A boolean array broadcastable to ``(batch, 1, length, length)``, or None if every pair may be.
    """
    mask = None
    if triangular:
        index = ops.arange(length)
        mask = ops.less_equal(ops.expand_dims(index, 1), ops.expand_dims(index, 0))[None, None]
    if padding_mask is not None:
        keep = ops.cast(padding_mask, "bool")
        pairs = ops.logical_and(keep[:, None, :, None], keep[:, None, None, :])
        mask = pairs if mask is None else ops.logical_and(mask, pairs)
    if document_ids is not None:
        same = ops.equal(document_ids[:, None, :, None], document_ids[:, None, None, :])
        mask = same if mask is None else ops.logical_and(mask, same)
    return mask


class _Pointer(keras.layers.Layer):
    """What both pointers share: arguments, masking, output shape."""

    def __init__(
        self,
        types: int,
        head_size: int = 64,
        *,
        rotary: bool = True,
        rotary_base: float = 10000.0,
        rotary_layout: RotaryLayout = "interleaved",
        use_bias: bool = True,
        triangular: bool = True,
        kernel_initializer: Any = "lecun_normal",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if types < 1 or head_size < 1 or (rotary and head_size % 2):
            raise ConfigError(
                "a pointer head needs types >= 1 and head_size >= 1, even when rotary=True. "
                f"Received: types={types}, head_size={head_size}, rotary={rotary}"
            )
        self.types = types
        self.head_size = head_size
        self.rotary = rotary
        self.rotary_base = rotary_base
        self.rotary_layout = rotary_layout
        self.use_bias = use_bias
        self.triangular = triangular
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def _dense(self, units: int, name: str) -> keras.layers.Dense:
        # An initializer object used twice draws the same numbers twice, hence the clone. Plain functions are allowed.
        initializer = self.kernel_initializer
        return keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=initializer.clone() if hasattr(initializer, "clone") else initializer,
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name=name,
        )

    def _rotate(self, x: Any, position_ids: Any) -> Any:
        """``x`` is (B, L, heads, head_size)."""
        if not self.rotary:
            return x
        if position_ids is None:
            position_ids = ops.arange(ops.shape(x)[1])[None]
        return apply_rotary(x, position_ids, self.rotary_base, self.rotary_layout)

    def _masked(self, logits: Any, padding_mask: Any, document_ids: Any) -> Any:
        mask = span_mask(ops.shape(logits)[-1], padding_mask, document_ids, self.triangular)
        return logits if mask is None else ops.where(mask, logits, MASKED_SCORE)

    def compute_output_shape(self, x_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """``(batch, types, length, length)``."""
        return (x_shape[0], self.types, x_shape[1], x_shape[1])

    def compute_output_spec(self, x: Any, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        """float32 whatever the dtype policy."""
        return keras.KerasTensor(self.compute_output_shape(x.shape), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "types": self.types,
            "head_size": self.head_size,
            "rotary": self.rotary,
            "rotary_base": self.rotary_base,
            "rotary_layout": self.rotary_layout,
            "use_bias": self.use_bias,
            "triangular": self.triangular,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


@keras.saving.register_keras_serializable(package="kexue")
class GlobalPointer(_Pointer):
    """Span scores, one query and key space for each type.

        q_{i,t} = W_{q,t} x_i + b_{q,t},   k_{j,t} = W_{k,t} x_j + b_{k,t}
        logits[b, t, i, j] = (R_i q_{i,t}) . (R_j k_{j,t}) / sqrt(head_size)

    R_m is the rotation of position m, so that a score sees the length of its span: without it a list of entities of one
    type is confused (start of one, end of another).

    Args:
        types: number of entity types T.
        head_size: size d of the queries and keys; even with ``rotary``.
        rotary: rotate queries and keys by their positions.
        rotary_base: base of the rotary frequencies.
        rotary_layout: see `kexue.nn.positions.rotary.RotaryLayout`.
        use_bias: of the projection.
        triangular: mask pairs with start > end.
        kernel_initializer: of the projection ``(D, T * 2 * d)``, ordered type, then query|key, then feature.
        kernel_regularizer: of the projection.

    Call arguments:
        x: ``(batch, length, D)``.
        padding_mask: ``(batch, length)``, true at real tokens.
        position_ids: ``(batch, length)``; default 0, 1, 2, ...
        document_ids: ``(batch, length)`` for packed rows; spans across documents are masked.

    Returns:
        float32 logits ``(batch, types, length, length)`` indexed by start, then end; `MASKED_SCORE` where masked.

    Raises:
        ConfigError: sizes that cannot work.

    Source: kexue.fm 8373, arXiv 2208.03054.
    """

    def __init__(self, types: int, head_size: int = 64, **kwargs: Any) -> None:
        super().__init__(types, head_size, **kwargs)
        self.projection = self._dense(types * 2 * head_size, "projection")

    def build(self, x_shape: Sequence[int | None]) -> None:
        """Create the projection."""
        self.projection.build(x_shape)
        self.built = True

    def call(self, x: Any, padding_mask: Any = None, position_ids: Any = None, document_ids: Any = None) -> Any:
        """Score all spans."""
        types, size = self.types, self.head_size
        batch, length = ops.shape(x)[0], ops.shape(x)[1]
        y = ops.reshape(self.projection(x), (batch, length, types * 2, size))
        y = self._rotate(y, position_ids)  # queries and keys of all types in one go
        y = ops.transpose(ops.reshape(y, (batch, length, types, 2, size)), (3, 0, 2, 1, 4))  # (2, B, T, L, d)
        q, k = y[0] * size**-0.5, y[1]  # scaled before the product: float16 must not overflow
        logits = ops.cast(ops.matmul(q, ops.swapaxes(k, -1, -2)), "float32")  # (B, T, L, L)
        return self._masked(logits, padding_mask, document_ids)


@keras.saving.register_keras_serializable(package="kexue")
class EfficientGlobalPointer(_Pointer):
    """Span scores split into "is it an entity" (shared by the types) and "of which type" (linear in its two ends).

        [q_i; k_i] = W x_i + b            (even channels are q, odd channels k)
        e_i = V [q_i; k_i] + c            (2T numbers, before the rotation)
        logits[b, t, i, j] = (R_i q_i) . (R_j k_j) / sqrt(d) + (e_{j, 2t} + e_{i, 2t+1}) / 2

    2 D d + 2 d parameters in all, and 4 d + 2 for each type, where `GlobalPointer` takes 2 D d + 2 d for each type. The
    even outputs of V belong to the end token j, the odd ones to the start token i, as in the published code, so that
    its weights load unchanged.

    Arguments, call arguments, result and errors as `GlobalPointer`.

    Source: kexue.fm 8877, arXiv 2208.03054.
    """

    def __init__(self, types: int, head_size: int = 64, **kwargs: Any) -> None:
        super().__init__(types, head_size, **kwargs)
        self.projection = self._dense(2 * head_size, "projection")
        self.type_terms = self._dense(2 * types, "type_terms")

    def build(self, x_shape: Sequence[int | None]) -> None:
        """Create the two projections."""
        self.projection.build(x_shape)
        self.type_terms.build((*x_shape[:-1], 2 * self.head_size))
        self.built = True

    def call(self, x: Any, padding_mask: Any = None, position_ids: Any = None, document_ids: Any = None) -> Any:
        """Score all spans."""
        batch, length, size = ops.shape(x)[0], ops.shape(x)[1], self.head_size
        y = self.projection(x)
        terms = ops.cast(ops.transpose(self.type_terms(y), (0, 2, 1)), "float32") / 2  # (B, 2T, L)
        y = ops.swapaxes(ops.reshape(y, (batch, length, size, 2)), -1, -2)  # (B, L, 2, d)
        y = self._rotate(y, position_ids)
        q, k = y[:, :, 0] * size**-0.5, y[:, :, 1]
        core = ops.cast(ops.matmul(q, ops.swapaxes(k, -1, -2)), "float32")  # (B, L, L)
        logits = core[:, None] + terms[:, 0::2, None, :] + terms[:, 1::2, :, None]
        return self._masked(logits, padding_mask, document_ids)


class Span(NamedTuple):
    """A decoded span: tokens ``start`` to ``end``, both inclusive."""

    start: int
    end: int
    type: int
    score: float


def decode_spans(
    logits: Any, threshold: float | Sequence[float] = 0.0, valid: Any = None, flat: bool = False
) -> list[list[Span]]:
    """All spans whose score is above the threshold.

    Args:
        logits: ``(batch, types, length, length)``, indexed start, then end.
        threshold: one number, or one for each type.
        valid: ``(batch, length)``, true at tokens where an entity may start or end (false at [CLS], [SEP], padding).
        flat: keep only spans that do not overlap: by falling score, each span is kept unless it shares a token with one
            already kept. Ties: the earlier start, then the shorter span, then the smaller type number wins.

    Returns:
        For each example its spans, ordered by start, end and type.

    Raises:
        DataError: the shapes do not fit.
    """
    scores = np.asarray(ops.convert_to_numpy(logits))
    if scores.ndim != 4 or scores.shape[2] != scores.shape[3]:
        raise DataError(
            f"logits must have the shape (batch, types, length, length). Received: shape {tuple(scores.shape)}"
        )
    batch, types, length, _ = scores.shape
    limits = np.asarray(threshold, dtype=np.float32)
    if limits.shape not in ((), (types,)):
        raise DataError(f"threshold must be a number or hold one for each of {types} types. Received: {threshold!r}")
    if valid is not None:
        valid = np.asarray(ops.convert_to_numpy(valid)).astype(bool)
        if valid.shape != (batch, length):
            raise DataError(f"valid must have the shape {(batch, length)}. Received: shape {valid.shape}")
    result = []
    for b in range(batch):
        hits = np.flatnonzero(scores[b] > (limits if limits.ndim == 0 else limits[:, None, None]))
        kind, rest = np.divmod(hits, length * length)
        start, end = np.divmod(rest, length)
        keep = start <= end
        if valid is not None:
            keep &= valid[b, start] & valid[b, end]
        kind, start, end = kind[keep], start[keep], end[keep]
        score = scores[b, kind, start, end].astype(np.float64)
        order = np.lexsort((kind, end, start, -score)) if flat else np.lexsort((kind, end, start))
        if flat:
            order = _without_overlap(order, start, end, length)
        result.append(
            [
                Span(*found)
                for found in zip(
                    start[order].tolist(), end[order].tolist(), kind[order].tolist(), score[order].tolist(), strict=True
                )
            ]
        )
    return result


def _without_overlap(order: np.ndarray, start: np.ndarray, end: np.ndarray, length: int) -> np.ndarray:
    """Indices kept by the greedy choice in the given order, returned by ascending start."""
    taken = bytearray(length)
    kept = []
    for index, first, last in zip(order.tolist(), start[order].tolist(), end[order].tolist(), strict=True):
        if not any(taken[first : last + 1]):
            taken[first : last + 1] = b"\1" * (last + 1 - first)
            kept.append((first, index))
    return np.asarray([index for _, index in sorted(kept)], dtype=np.int64)
