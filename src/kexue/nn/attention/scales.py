"""What attention scores are multiplied by.

The entropy of attention grows with the number n of keys that a query sees. Scaling the scores by ``log n`` keeps it
about constant, so that a model stays focused beyond its training length:

    softmax((log n / log train_length) q k^T / sqrt(key_size)) v

equals ordinary attention at ``n = train_length``. n is counted in each row: padding and hidden keys are not in it.

Source: kexue.fm articles 8823 and 9034; ``softmax_plus``: GAU-alpha.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from keras import ops

from kexue.errors import ConfigError

__all__ = ["LogN", "constant", "entropy_invariant_softmax", "get", "row_factor", "to_config", "visible_counts"]


@dataclass(frozen=True)
class LogN:
    """Multiply the scores of a row by ``log(max(n, floor)) / log(train_length)``, n the keys it sees.

    Attributes:
        train_length: where the factor is 1.
        floor: smallest n. A row with n = 1 needs none (its only key gets all the weight), short rows of a model that
            was not trained with the policy would be nearly uniform: ``softmax_plus`` takes 16.
        clip: never below 1, for a model that was trained without the policy and is used beyond its length.
    """

    train_length: int = 512
    floor: int = 1
    clip: bool = False

    def __post_init__(self) -> None:
        if self.train_length < 2 or self.floor < 1:
            raise ConfigError(
                "LogN needs train_length of at least 2 and floor of at least 1. Received: "
                f"train_length={self.train_length}, floor={self.floor}"
            )

    def __call__(self, counts: Any) -> Any:
        """Factors from float32 counts of visible keys, of the same shape."""
        factor = ops.log(ops.maximum(ops.cast(counts, "float32"), float(self.floor))) / math.log(self.train_length)
        return ops.maximum(factor, 1.0) if self.clip else factor


_NAMED = {"log_n": LogN(), "softmax_plus": LogN(floor=16)}


def get(scale: Any) -> "str | float | LogN":
    """A policy from ``"sqrt"``, a number, ``"log_n"``, ``"softmax_plus"``, a `LogN` or its configuration.

    Raises:
        ConfigError: anything else.
    """
    if isinstance(scale, LogN) or scale == "sqrt":
        return scale
    if isinstance(scale, str) and scale in _NAMED:
        return _NAMED[scale]
    if isinstance(scale, int | float) and not isinstance(scale, bool):
        return float(scale)
    if isinstance(scale, dict):
        try:
            return LogN(**scale)
        except TypeError:
            pass
    raise ConfigError(
        f"scale must be 'sqrt', {', '.join(map(repr, _NAMED))}, a number or a LogN. Received: scale={scale!r}"
    )


def to_config(scale: "str | float | LogN") -> Any:
    """The inverse of `get`: plain data."""
    return asdict(scale) if isinstance(scale, LogN) else scale


def constant(scale: "str | float | LogN", key_size: int, terms: int = 1) -> float:
    """The part of the factor that does not depend on the row: the number itself, else ``1/sqrt(key_size terms)``."""
    return scale if isinstance(scale, float) else (key_size * terms) ** -0.5


def row_factor(scale: "str | float | LogN", counts: Any) -> Any:
    """The part that depends on the row, from counts ``(batch or 1, heads or 1, length_q)``; None without one."""
    return scale(counts) if isinstance(scale, LogN) else None


def visible_counts(mask: Any, causal: bool, query_length: Any, key_length: Any) -> Any:
    """How many keys each query sees: float32, broadcastable to ``(batch, heads, length_q)``.

    Args:
        mask: boolean, broadcastable to ``(batch, heads, length_q, length_k)``, or None.
        causal: only keys with index <= query index, in addition.
        query_length: number of queries.
        key_length: number of keys.
    """
    if mask is None and not causal:
        return ops.ones((1, 1, 1), dtype="float32") * ops.cast(key_length, "float32")
    if mask is None:
        return ops.cast(ops.arange(1, query_length + 1, dtype="int32"), "float32")[None, None]
    seen = ops.cast(mask, "float32")
    if not causal:
        return ops.sum(seen, axis=-1)
    if mask.shape[-2] == 1:  # the same keys for all queries: count them from the left
        return ops.cumsum(seen, axis=-1)[:, :, 0]
    before = ops.arange(key_length, dtype="int32")[None] <= ops.arange(query_length, dtype="int32")[:, None]
    return ops.sum(seen * ops.cast(before, "float32"), axis=-1)


def entropy_invariant_softmax(
    scores: Any, mask: Any = None, *, train_length: int = 512, floor: int = 1, axis: int = -1
) -> Any:
    """``softmax(scores log n / log train_length)``, n the number of visible entries along ``axis``.

    Args:
        scores: any shape, already scaled as usual (by ``1/sqrt(key_size)`` in attention).
        mask: boolean, broadcastable to ``scores``, True = visible; None for all.
        train_length: n at which it is the ordinary softmax.
        floor: smallest n; 16 gives ``softmax_plus``.
        axis: over which to normalise.

    Returns:
        float32 of the shape of ``scores``; hidden entries are 0, a row without visible entries is all zeros.

    Source: kexue.fm article 9034.
    """
    scores = ops.cast(scores, "float32")
    visible = ops.ones_like(scores, dtype="bool") if mask is None else ops.broadcast_to(mask, ops.shape(scores))
    n = ops.sum(ops.cast(visible, "float32"), axis=axis, keepdims=True)
    scores = ops.where(visible, scores * LogN(train_length, floor)(n), -1e30)
    return ops.where(visible, ops.softmax(scores, axis=axis), 0.0)
