"""Sums of linear attention over the keys before each query, a chunk at a time: O(length) time and memory.

Inside a chunk the similarities are written out; all earlier chunks are one matrix of state. A chunk of one token is
recurrent decoding, by the same function. All tensors float32.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

__all__ = [
    "CHUNK",
    "FLOOR",
    "Keys",
    "State",
    "add",
    "divide",
    "initial_state",
    "prefix_sums",
    "ratio",
    "scan",
    "step",
    "whole",
]

CHUNK = 64
"""Tokens in a chunk."""
HIDDEN = -1e30
FLOOR = 1e-20
"""Smallest denominator. Features are scaled so that the largest is 1; adding 1e-6, as is common, would draw rows
whose similarities are small towards zero."""


class Keys(NamedTuple):
    """Queries and keys of a piece of sequence, ``(batch, heads, length, ...)``, save ``groups`` (batch, length).

    Attributes:
        q: features of queries.
        k: features of keys; zeros where a key is hidden from all.
        v: values.
        groups: int32; a query sees keys of its own group only.
        shift: the true features of a key are ``exp(shift) k``; None for zeros.
        q_turned: features for the numerator, turned by positions; None: ``q``.
        k_turned: likewise.
    """

    q: Any
    k: Any
    v: Any
    groups: Any
    shift: Any = None
    q_turned: Any = None
    k_turned: Any = None


class State(NamedTuple):
    """Sums over all keys so far of the newest group.

    Attributes:
        values: ``(batch, heads, features, value_size)``, sum of ``phi(k) v^T``.
        features: ``(batch, heads, features)``, sum of ``phi(k)``.
        top: ``(batch, heads)``; the sums are to be multiplied by ``exp(top)``.
        group: ``(batch,)`` int32.
    """

    values: Any
    features: Any
    top: Any
    group: Any


def initial_state(batch: Any, heads: int, features: int, value_size: int) -> State:
    """Nothing seen yet."""
    return State(
        ops.zeros((batch, heads, features, value_size), dtype="float32"),
        ops.zeros((batch, heads, features), dtype="float32"),
        ops.full((batch, heads), HIDDEN, dtype="float32"),
        ops.zeros((batch,), dtype="int32"),
    )


def _decay(high: Any, low: Any) -> Any:
    """``exp(low - high)``, at most 1."""
    return ops.exp(ops.minimum(low - high, 0.0))


def step(state: State, x: Keys, strict: bool = False) -> tuple[State, tuple[Any, Any, Any]]:
    """Numerator and denominator of the queries of one chunk, and the state after it.

    Args:
        state: sums over the chunks before.
        x: the chunk.
        strict: a query does not see the key at its own place.

    Returns:
        The new state, and ``(numerator (batch, heads, length, value_size), denominator (batch, heads, length), top)``:
        the first two are to be multiplied by ``exp(top)``, ``(batch, heads, length)``.
    """
    length = ops.shape(x.q)[2]
    index = ops.arange(length, dtype="int32")
    before = index[None, :] < index[:, None] if strict else index[None, :] <= index[:, None]
    seen = ops.equal(x.groups[:, :, None], x.groups[:, None, :]) & before  # (B, C, C)
    seen = seen[:, None]
    sees_state = ops.equal(x.groups, state.group[:, None])[:, None]  # (B, 1, C)
    last = x.groups[:, -1]
    goes_on = ops.cast(ops.equal(last, state.group), "float32")[:, None]  # (B, 1)
    in_last = ops.cast(ops.equal(x.groups, last[:, None]), "float32")[:, None]  # (B, 1, C)
    if x.shift is None:
        top, new_top = ops.zeros_like(x.q[..., 0]), ops.zeros_like(state.top)
        weight, state_weight = ops.cast(seen, "float32"), ops.cast(sees_state, "float32")
        key_weight, old_weight = in_last, goes_on
    else:
        shift = x.shift[:, :, None, :]
        top = ops.maximum(
            ops.max(ops.where(seen, shift, HIDDEN), axis=-1), ops.where(sees_state, state.top[:, :, None], HIDDEN)
        )
        weight = ops.where(seen, _decay(top[..., None], shift), 0.0)
        state_weight = ops.where(sees_state, _decay(top, state.top[:, :, None]), 0.0)
        new_top = ops.maximum(
            ops.where(goes_on > 0, state.top, HIDDEN), ops.max(ops.where(in_last > 0, x.shift, HIDDEN), axis=-1)
        )
        key_weight = in_last * _decay(new_top[..., None], x.shift)
        old_weight = goes_on * _decay(new_top, state.top)
    similarity = ops.matmul(x.q, ops.swapaxes(x.k, -1, -2)) * weight  # (B, H, C, C)
    state_similarity = ops.einsum("bhcm,bhm->bhc", x.q, state.features)
    denominator = ops.sum(similarity, axis=-1) + state_weight * state_similarity
    q, k = x.q, x.k
    if x.q_turned is not None:
        q, k = x.q_turned, x.k_turned
        similarity = ops.matmul(q, ops.swapaxes(k, -1, -2)) * weight
    numerator = ops.matmul(similarity, x.v) + state_weight[..., None] * ops.matmul(q, state.values)
    weighted = ops.swapaxes(k * key_weight[..., None], -1, -2)  # (B, H, M, C)
    new = State(
        old_weight[..., None, None] * state.values + ops.matmul(weighted, x.v),
        old_weight[..., None] * state.features + ops.sum(x.k * key_weight[..., None], axis=2),
        new_top,
        last,
    )
    return new, (numerator, denominator, top)


def scan(x: Keys, strict: bool = False, backward: bool = False, chunk: int = CHUNK) -> tuple[Any, Any, Any]:
    """`step` over a whole sequence; see there for the result.

    Args:
        x: the sequence; ``groups`` must not return to an earlier group.
        strict: see `step`.
        backward: sum over the keys after each query instead.
        chunk: tokens in a chunk.
    """
    values = [t for t in x if t is not None]
    present = [t is not None for t in x]
    length = ops.shape(x.q)[2]
    chunk = min(chunk, length) if isinstance(length, int) else chunk
    cut = [_chunks(t, 1 if i == 3 else 2, length, chunk, backward) for i, t in enumerate(values)]

    def body(state: Any, piece: Any) -> tuple[Any, Any]:
        rest = iter(piece)
        new, out = step(State(*state), Keys(*(next(rest) if p else None for p in present)), strict)
        return tuple(new), out

    start = initial_state(ops.shape(x.q)[0], x.q.shape[1], x.q.shape[3], x.v.shape[3])
    heads, size = x.q.shape[1], x.v.shape[3]
    shapes = ((None, heads, None, size), (None, heads, None), (None, heads, None))
    out = _loop(body, tuple(start), tuple(cut), shapes)
    numerator, denominator, top = (_whole(t, length, backward) for t in out)
    return numerator, denominator, top


def prefix_sums(k: Any, groups: Any, strict: bool = False, backward: bool = False, chunk: int = CHUNK) -> Any:
    """For each place the sum of ``k`` (batch, heads, length, features) over its group up to there; as `scan`."""
    length = ops.shape(k)[2]
    chunk = min(chunk, length) if isinstance(length, int) else chunk

    def body(state: Any, piece: Any) -> tuple[Any, Any]:
        total, group = state
        k, groups = piece
        index = ops.arange(ops.shape(k)[2], dtype="int32")
        before = index[None, :] < index[:, None] if strict else index[None, :] <= index[:, None]
        seen = ops.cast(ops.equal(groups[:, :, None], groups[:, None, :]) & before, "float32")[:, None]
        sees = ops.cast(ops.equal(groups, group[:, None]), "float32")[:, None, :, None]
        last = groups[:, -1]
        goes_on = ops.cast(ops.equal(last, group), "float32")[:, None, None]
        in_last = ops.cast(ops.equal(groups, last[:, None]), "float32")[:, None, :, None]
        out = ops.matmul(seen, k) + sees * total[:, :, None]
        return (goes_on * total + ops.sum(k * in_last, axis=2), last), (out,)

    shape = ops.shape(k)
    start = (ops.zeros((shape[0], k.shape[1], k.shape[3]), dtype="float32"), ops.zeros((shape[0],), dtype="int32"))
    cut = (_chunks(k, 2, length, chunk, backward), _chunks(groups, 1, length, chunk, backward))
    out = _loop(body, start, cut, ((None, k.shape[1], None, k.shape[3]),))
    return _whole(out[0], length, backward)


def _loop(body: Any, start: tuple[Any, ...], pieces: tuple[Any, ...], shapes: tuple[Any, ...]) -> Any:
    """The stacked outputs of ``body(state, piece) -> (state, outputs)``; ``shapes`` are what is static of theirs."""
    if keras.backend.backend() == "tensorflow":
        from kexue.nn.attention.linear_scan_tensorflow import loop

        return loop(body, start, pieces, shapes)
    return ops.scan(body, start, pieces)[1]


def whole(x: Keys) -> tuple[Any, Any]:
    """Numerator and denominator where every query sees every key; ``groups`` is not looked at."""
    k, turned = x.k, x.k if x.k_turned is None else x.k_turned
    if x.shift is not None:
        weight = _decay(ops.max(x.shift, axis=-1, keepdims=True), x.shift)[..., None]
        k, turned = k * weight, turned * weight
    values = ops.matmul(ops.swapaxes(turned, -1, -2), x.v)  # (B, H, M, V)
    numerator = ops.matmul(x.q if x.q_turned is None else x.q_turned, values)
    return numerator, ops.einsum("bhlm,bhm->bhl", x.q, ops.sum(k, axis=2))


def add(a: tuple[Any, Any, Any], b: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """The sum of two results of `scan`."""
    top = ops.maximum(a[2], b[2])
    wa, wb = _decay(top, a[2]), _decay(top, b[2])
    return a[0] * wa[..., None] + b[0] * wb[..., None], a[1] * wa + b[1] * wb, top


def divide(numerator: Any, denominator: Any) -> Any:
    """``numerator / denominator[..., None]``, zeros where no key was seen."""
    return ratio(numerator, denominator[..., None])


def ratio(a: Any, b: Any) -> Any:
    """``a / b``, and 0 with no gradient where b is not above `FLOOR`."""
    seen = b > FLOOR
    return ops.where(seen, a / ops.where(seen, b, 1.0), 0.0)


def _chunks(x: Any, axis: int, length: Any, chunk: int, backward: bool) -> Any:
    """Cut ``axis`` in chunks, padded at the end, their number first; keys of padding are zeros."""
    if backward:
        x = ops.flip(x, axis=axis)
    more = -length % chunk
    shape = list(ops.shape(x))
    if not isinstance(more, int) or more:
        shape[axis] = more
        x = ops.concatenate([x, ops.zeros(shape, dtype=x.dtype)], axis=axis)
        shape[axis] = length + more
    x = ops.reshape(x, (*shape[:axis], shape[axis] // chunk, chunk, *shape[axis + 1 :]))
    return ops.moveaxis(x, axis, 0)


def _whole(x: Any, length: Any, backward: bool) -> Any:
    """The inverse of `_chunks` for ``(chunks, batch, heads, chunk, ...)``."""
    x = ops.moveaxis(x, 0, 2)
    shape = ops.shape(x)
    x = ops.reshape(x, (*shape[:2], shape[2] * shape[3], *shape[4:]))[:, :, :length]
    return ops.flip(x, axis=2) if backward else x
