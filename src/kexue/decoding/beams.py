"""One step of beam search: with a pool of finished sequences, and by the rule of bert4keras."""

from typing import Any

from keras import ops, tree

from kexue.decoding.choosing import DEAD, HIDDEN, LENGTH, RUNNING, STOP, Plan, allowed, log_probabilities, put
from kexue.decoding.strategies import Beam

__all__ = ["faithful", "first_pool", "pooled"]


def first_pool(batch: int, width: int, history: Any) -> dict[str, Any]:
    """No sequence finished yet."""
    return {
        "history": ops.zeros_like(history),
        "ranking": ops.full((batch, width), HIDDEN, dtype="float32"),
        "score": ops.zeros((batch, width), dtype="float32"),
        "length": ops.zeros((batch, width), dtype="int32"),
        "reason": ops.full((batch, width), DEAD, dtype="int32"),
    }


def _take(x: Any, places: Any) -> Any:
    """``x`` (batch, m, ...) at ``places`` (batch, n)."""
    wide = ops.reshape(places, (*places.shape, *[1] * (len(x.shape) - 2)))
    return ops.take_along_axis(x, ops.broadcast_to(wide, (*places.shape, *x.shape[2:])), axis=1)


def _merge(pool: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The best of both, as many as the pool holds."""
    both = {name: ops.concatenate([pool[name], new[name]], axis=1) for name in pool}
    places = ops.cast(ops.top_k(both["ranking"], pool["ranking"].shape[1])[1], "int32")
    return {name: _take(value, places) for name, value in both.items()}


def _length(t: Any) -> Any:
    return ops.cast(t, "float32")


def pooled(plan: Plan, carry: dict[str, Any], data: dict[str, Any], logits: Any) -> dict[str, Any]:
    """A step of `Beam` with ``rule="pool"``."""
    search = plan.search
    assert isinstance(search, Beam)
    size, vocabulary = search.width // search.groups, plan.vocabulary
    log_p = log_probabilities(plan, carry, data, logits)
    may, ends = allowed(plan, carry, data)
    may = ops.logical_and(may, ops.logical_not(data["stop"])[None, None])
    batch, width = log_p.shape[:2]
    going = ops.where(may, log_p, HIDDEN)
    ending = ops.where(ends[..., None], ops.take(log_p, data["stops"], axis=-1), HIDDEN)  # (B, K, stops)
    ending = ops.where(data["stops_real"][None, None], ending, HIDDEN)
    t = carry["t"] + 1
    full = t >= data["room"]  # (B,)
    open_rows = ops.equal(carry["reason"][:, 0], RUNNING)
    penalty = data["length_penalty"]
    scale = _length(t) ** penalty
    chosen: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    more: list[Any] = []
    used = ops.zeros((batch, 1, vocabulary), dtype="float32")
    for group in range(search.groups):
        beams = slice(group * size, (group + 1) * size)
        score = carry["score"][:, beams]
        pool = {name: value[:, beams] for name, value in carry["pool"].items()}
        history = carry["history"][:, beams]

        # Sequences that end here.
        finished = ops.reshape(score[..., None] + ending[:, beams], (batch, -1))
        count = ending.shape[2]
        texts = put(
            ops.repeat(history, count, axis=1),
            carry["start"] + carry["t"],
            ops.broadcast_to(ops.tile(data["stops"], [size])[None], (batch, size * count)),
        )
        pool = _merge(pool, _entries(texts, finished, scale, t, STOP, open_rows))

        # Sequences that go on.
        total = score[..., None] + going[:, beams]
        ranked = total - data["diversity"] * used if search.groups > 1 else total
        flat = ops.reshape(ranked, (batch, size * vocabulary))
        places = ops.cast(ops.top_k(flat, size)[1], "int32")
        parent, token = places // vocabulary, places % vocabulary
        score = ops.take_along_axis(ops.reshape(total, (batch, size * vocabulary)), places, axis=1)
        if search.groups > 1:
            choices = ops.where((score > HIDDEN / 2)[..., None], ops.one_hot(token, vocabulary, dtype="float32"), 0.0)
            used = used + ops.sum(choices, axis=1, keepdims=True)
        history = put(_take(history, parent), carry["start"] + carry["t"], token)
        last = ops.logical_and(open_rows, full)
        pool = _merge(pool, _entries(history, score, scale, t, LENGTH, last))
        chosen.append({"score": score, "tokens": token, "history": history, "parents": parent + group * size})
        parts.append(pool)

        # Longer sequences of no more than the room; a sum only falls.
        best = ops.max(score, axis=1)
        ahead = ops.maximum(best / _length(data["room"]) ** penalty, best / _length(t + 1) ** penalty)
        worst = pool["ranking"][:, -1]
        more.append(ops.logical_and(best > HIDDEN / 2, ahead > worst))
    together = {name: ops.concatenate([part[name] for part in chosen], axis=1) for name in chosen[0]}
    pool = {name: ops.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
    goes_on = more[0]
    for one in more[1:]:
        goes_on = ops.logical_or(goes_on, one)
    goes_on = ops.logical_and(ops.logical_and(goes_on, open_rows), ops.logical_not(full))
    reason = ops.where(goes_on, RUNNING, STOP)
    carry = carry | together | {"pool": pool, "t": t}
    carry["reason"] = ops.cast(ops.broadcast_to(reason[:, None], (batch, width)), "int32")
    if plan.constraint is not None:
        rule = tree.map_structure(lambda x: _take(x, together["parents"]), carry["rule"])
        carry["rule"] = plan.constraint.advance(data["tables"], rule, together["tokens"])
    return carry


def _entries(history: Any, score: Any, scale: Any, t: Any, reason: int, rows: Any) -> dict[str, Any]:
    real = ops.logical_and(score > HIDDEN / 2, rows[:, None])
    return {
        "history": history,
        "ranking": ops.where(real, score / scale, HIDDEN),
        "score": score,
        "length": ops.broadcast_to(ops.cast(t, "int32"), score.shape),
        "reason": ops.full(score.shape, reason, dtype="int32"),
    }


def faithful(plan: Plan, carry: dict[str, Any], data: dict[str, Any], logits: Any) -> dict[str, Any]:
    """A step of `Beam` with ``rule="bert4keras"``: dropped beams have the score `HIDDEN`."""
    vocabulary = plan.vocabulary
    log_p = log_probabilities(plan, carry, data, logits)
    may, ends = allowed(plan, carry, data | {"min_tokens": ops.zeros_like(data["min_tokens"])})
    log_p = ops.where(ops.where(data["stop"][None, None], ends[..., None], may), log_p, HIDDEN)
    batch, width = log_p.shape[:2]
    total = ops.maximum(carry["score"][..., None] + log_p, HIDDEN)
    score, places = ops.top_k(ops.reshape(total, (batch, width * vocabulary)), width)
    places = ops.cast(places, "int32")
    parents, token = places // vocabulary, places % vocabulary
    # The beam is as wide as it was left; at the first step only one beam is alive, and it fills.
    rank = ops.arange(width, dtype="int32")[None]
    score = ops.where(rank < carry["wide"][:, None], score, HIDDEN)
    t = carry["t"] + 1
    rows = ops.equal(carry["reason"][:, 0], RUNNING)
    ended = ops.logical_or(_take(carry["ended"], parents), ops.take(data["stop"], token, axis=0))
    alive = score > HIDDEN / 2
    may_end = t >= data["min_tokens"]
    full = t >= data["room"]
    best_ended = ops.logical_and(ops.logical_and(ended[:, 0], may_end), alive[:, 0])
    dead = ops.logical_not(alive[:, 0])
    drop = ops.logical_and(ops.logical_and(ended, may_end), alive)
    drop = ops.logical_and(drop, ops.logical_not(ops.logical_or(best_ended, full))[:, None])
    reason = ops.where(best_ended, STOP, ops.where(full, LENGTH, RUNNING))
    reason = ops.where(dead, DEAD, reason)
    wide = carry["wide"] - ops.sum(ops.cast(drop, "int32"), axis=1)
    history = put(_take(carry["history"], parents), carry["start"] + carry["t"], token)

    def keep(new: Any, old: Any, at: Any) -> Any:
        return ops.where(ops.reshape(at, (batch, *[1] * (len(new.shape) - 1))), new, old)

    new = {
        "history": history,
        "score": ops.where(drop, HIDDEN, score),
        "ended": ended,
        "wide": wide,
        "length": ops.broadcast_to(ops.cast(t, "int32"), (batch, width)),
    }
    going = ops.logical_and(rows, ops.logical_not(dead))  # what is done or dead stays as it was
    new = {name: keep(value, carry[name], going) for name, value in new.items()}
    reason = ops.broadcast_to(ops.cast(reason, "int32")[:, None], (batch, width))
    new["reason"] = keep(reason, carry["reason"], rows)
    carry = carry | new | {"tokens": token, "parents": parents, "t": t}
    if plan.constraint is not None:
        rule = tree.map_structure(lambda x: _take(x, parents), carry["rule"])
        carry["rule"] = plan.constraint.advance(data["tables"], rule, token)
    return carry
