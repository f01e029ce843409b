"""One step of `Greedy` and `Sample`, and what all searches do with logits first.

Tensors are ``(batch, branches, ...)``. ``carry`` is what a loop carries from step to step, ``data`` what it is given:
numbers and tables that may change without a new compilation. What a compiled loop is made for is in `Plan`.
"""

from dataclasses import dataclass, field
from typing import Any

from keras import ops

from kexue.decoding.filters import draw, nucleus
from kexue.decoding.strategies import Beam, Sample, Search
from kexue.decoding.tokens import mark

__all__ = ["DEAD", "HIDDEN", "LENGTH", "RUNNING", "STOP", "Plan", "allowed", "choose", "log_probabilities", "put"]

HIDDEN = -1e30
"""Log probability of what must not be."""
RUNNING, STOP, LENGTH, DEAD = range(4)
"""Why a branch is done: not yet, a stop token, no room, no token that it may take."""


@dataclass(frozen=True)
class Plan:
    """What a compiled loop is made for.

    Attributes:
        search: greedy, sample or beam; only its ``key`` counts.
        vocabulary: columns of the logits.
        penalty: a repetition penalty is in ``data``.
        ngram: no n tokens twice; 0 for no such rule.
        of_prompt: penalty and ngram count the prompt too.
        constraint: see `kexue.decoding.constraints`, or None.
        processors: functions ``(logits, carry) -> logits``.
        scores: what comes in place of logits are log scores already: no softmax, no temperature.
    """

    search: Search
    vocabulary: int
    penalty: bool = False
    ngram: int = 0
    of_prompt: bool = False
    constraint: Any = None
    processors: tuple[Any, ...] = field(default=())
    scores: bool = False

    @property
    def key(self) -> tuple[Any, ...]:
        constraint = None if self.constraint is None else self.constraint.key
        rules = (self.penalty, self.ngram, self.of_prompt, constraint, self.processors, self.scores)
        return (self.search.key, self.vocabulary, *rules)


def log_probabilities(plan: Plan, carry: dict[str, Any], data: dict[str, Any], logits: Any) -> Any:
    """Logits ``(batch, branches, vocabulary)`` to log probabilities, after penalty, processors and temperature."""
    if plan.penalty:
        history, end = carry["history"], carry["start"] + carry["t"]
        place = ops.arange(history.shape[2], dtype="int32")[None, None]
        counts = place < end[:, None, None]
        if not plan.of_prompt:
            counts = ops.logical_and(counts, place >= carry["start"][:, None, None])
        seen = mark(history, ops.broadcast_to(counts, history.shape), plan.vocabulary)
        by = data["penalty"]
        logits = ops.where(seen, ops.where(logits > 0, logits / by, logits * by), logits)
    for processor in plan.processors:
        logits = processor(logits, carry)
    if plan.scores:
        return logits
    log_p = ops.log_softmax(logits / data["temperature"], axis=-1)
    # Where a processor leaves no token, the softmax of nothing is not a number.
    return ops.where(logits <= HIDDEN / 2, HIDDEN, log_p) if plan.processors else log_p


def allowed(plan: Plan, carry: dict[str, Any], data: dict[str, Any]) -> tuple[Any, Any]:
    """Tokens that may come next, ``(batch, branches or 1, vocabulary)``, and whether a stop token may,
    ``(batch, branches or 1)``; the first says nothing of stop tokens."""
    may = ops.logical_not(data["forbidden"])[None, None]
    ends = ops.broadcast_to(carry["t"] >= data["min_tokens"], (1, 1))
    if plan.ngram:
        may = ops.logical_and(may, ops.logical_not(_repeated(plan, carry)))
    if plan.constraint is not None:
        left = data["room"] - carry["t"]
        tokens, end = plan.constraint.allowed(data["tables"], carry["rule"], left[:, None], plan.vocabulary)
        may, ends = ops.logical_and(may, tokens), ops.logical_and(ends, end)
    return may, ends


def _repeated(plan: Plan, carry: dict[str, Any]) -> Any:
    """Tokens that would complete an n-gram a second time."""
    n, history = plan.ngram, carry["history"]
    width = history.shape[2]
    if n > width:  # there is no room for one
        return ops.zeros((1, 1, plan.vocabulary), dtype="bool")
    begin = ops.zeros_like(carry["start"]) if plan.of_prompt else carry["start"]
    end = carry["start"] + carry["t"]
    first = ops.arange(width - n + 1, dtype="int32")[None]
    same = ops.logical_and(first >= begin[:, None], first + (n - 1) < end[:, None])
    same = ops.logical_and(same, (end - begin >= n - 1)[:, None])[:, None]
    same = ops.broadcast_to(same, (*history.shape[:2], width - n + 1))
    for i in range(n - 1):
        at = ops.maximum(end - (n - 1) + i, 0)[:, None, None]
        last = ops.take_along_axis(history, ops.broadcast_to(at, (*history.shape[:2], 1)), axis=2)
        same = ops.logical_and(same, ops.equal(history[:, :, i : width - n + 1 + i], last))
    return mark(history[:, :, n - 1 :], same, plan.vocabulary)


def put(history: Any, places: Any, tokens: Any) -> Any:
    """``history`` (batch, branches, width) with ``tokens`` (batch, branches) at ``places`` (batch,)."""
    here = ops.equal(ops.arange(history.shape[2], dtype="int32")[None, None], places[:, None, None])
    return ops.where(here, tokens[..., None], history)


def choose(plan: Plan, carry: dict[str, Any], data: dict[str, Any], logits: Any) -> dict[str, Any]:
    """The carry after the next token of each branch is chosen from ``logits``."""
    if isinstance(plan.search, Beam):
        from kexue.decoding import beams

        step = beams.faithful if plan.search.rule == "bert4keras" else beams.pooled
        return step(plan, carry, data, logits)
    log_p = log_probabilities(plan, carry, data, logits)
    may, ends = allowed(plan, carry, data)
    log_p = ops.where(ops.where(data["stop"][None, None], ends[..., None], may), log_p, HIDDEN)
    dead = ops.max(log_p, axis=-1) < HIDDEN / 2
    pick = _drawn(plan.search, carry, data, log_p) if isinstance(plan.search, Sample) else ops.argmax(log_p, axis=-1)
    token = ops.cast(pick, "int32")
    running = ops.equal(carry["reason"], RUNNING)
    goes_on = ops.logical_and(running, ops.logical_not(dead))
    gain = ops.take_along_axis(log_p, token[..., None], axis=-1)[..., 0]
    token = ops.where(goes_on, token, data["pad"])
    stops = ops.take(data["stop"], token, axis=0)
    length = carry["length"] + ops.cast(goes_on, "int32")
    full = (carry["t"] + 1 >= data["room"])[:, None]
    reason = ops.where(stops, STOP, ops.where(full, LENGTH, RUNNING))
    reason = ops.where(goes_on, reason, ops.where(running, DEAD, carry["reason"]))
    carry = carry | {
        "history": put(carry["history"], carry["start"] + carry["t"], token),
        "tokens": token,
        "length": length,
        "score": carry["score"] + ops.where(goes_on, gain, 0.0),
        "reason": ops.cast(reason, "int32"),
        "t": carry["t"] + 1,
    }
    if plan.constraint is not None:
        carry["rule"] = plan.constraint.advance(data["tables"], carry["rule"], token)
    return carry


def _drawn(search: Sample, carry: dict[str, Any], data: dict[str, Any], log_p: Any) -> Any:
    """A token at this step's uniform number."""
    order = None
    if search.sorted_tokens:
        log_p, order = ops.top_k(log_p, min(search.sorted_tokens, log_p.shape[-1]))
        rank = ops.arange(log_p.shape[-1], dtype="int32")
        log_p = ops.where(rank[None, None] < data["top_k"], log_p, HIDDEN)
    if search.top_p < 1:
        log_p = ops.where(nucleus(log_p, data["top_p"]), log_p, HIDDEN)
    top = ops.max(log_p, axis=-1, keepdims=True)
    p = ops.where(log_p > HIDDEN / 2, ops.exp(log_p - top), 0.0)
    p = ops.where(p >= data["min_p"], p, 0.0)
    at = ops.broadcast_to(carry["t"], (*log_p.shape[:2], 1))
    found = draw(p, ops.take_along_axis(data["uniform"], ops.cast(at, "int32"), axis=-1))
    if order is None:
        return found
    return ops.take_along_axis(order, ops.cast(found, "int32")[..., None], axis=-1)[..., 0]
