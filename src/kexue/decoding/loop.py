"""The loop of generation as two functions: read the prompts, and go on until a given step.

Both are compiled whole on JAX and TensorFlow, once for each shape and `Plan`; the second may be called again and again
with its own result, which is how a stream is read and how Ctrl-C finds what is finished.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kexue.decoding.choosing import DEAD, HIDDEN, RUNNING, Plan, choose
from kexue.decoding.interface import Engine
from kexue.decoding.strategies import Beam

__all__ = ["Loop", "cached", "compilations", "compiler", "first_carry", "make"]


class Loop:
    """``begin(inputs, data)`` gives ``(memory, carry)``, ``go(memory, carry, data, until)`` a new carry."""

    def __init__(self, engine: Engine, plan: Plan, room: int) -> None:
        self.engine, self.plan, self.room = engine, plan, room
        compiled = compiler()
        self.begin = compiled(engine.model, self._begin)
        self.go = compiled(engine.model, self._go)

    def _begin(self, inputs: dict[str, Any], data: dict[str, Any]) -> tuple[Any, Any]:
        engine, branches = self.engine, self.plan.search.branches
        logits, memory, state = engine.start(inputs, branches, self.room)
        tokens = ops.cast(inputs[f"{engine.side}token_ids"], "int32")
        batch, prompt = tokens.shape
        start = ops.sum(ops.cast(inputs[f"{engine.side}padding_mask"], "int32"), axis=1)
        text = ops.concatenate([tokens, ops.zeros((batch, self.room), dtype="int32")], axis=1)
        history = ops.broadcast_to(text[:, None], (batch, branches, prompt + self.room))
        carry = first_carry(self.plan, history, start, data["idle"], data.get("rule"))
        logits = ops.broadcast_to(logits[:, None], (batch, branches, logits.shape[-1]))
        carry = choose(self.plan, carry, data, logits)
        carry["state"] = state
        return memory, carry

    def _go(self, memory: dict[str, Any], carry: dict[str, Any], data: dict[str, Any], until: Any) -> dict[str, Any]:
        def runs(carry: dict[str, Any]) -> Any:
            return ops.logical_and(carry["t"] < until, ops.any(ops.equal(carry["reason"], RUNNING)))

        def step(carry: dict[str, Any]) -> dict[str, Any]:
            state = carry["state"]
            if "parents" in carry:
                state = self.engine.reorder(state, carry["parents"])
            logits, state = self.engine.step(memory, state, carry["tokens"])
            carry = choose(self.plan, {n: v for n, v in carry.items() if n != "state"}, data, logits)
            return carry | {"state": state}

        if keras.backend.backend() == "torch":
            while bool(runs(carry)):
                carry = step(carry)
            return carry
        return ops.while_loop(runs, lambda carry: (step(carry),), (carry,))[0]


def first_carry(plan: Plan, history: Any, start: Any, idle: Any, rule: Any = None) -> dict[str, Any]:
    """What a loop carries before its first token.

    Args:
        plan: of the loop.
        history: ``(batch, branches, width)`` int32, the prompts and room for what comes.
        start: ``(batch,)`` int32, lengths of the prompts in it.
        idle: ``(batch,)`` booleans, rows that get no token.
        rule: first states of the plan's constraint, ``(batch, ...)``.
    """
    search = plan.search
    batch, branches = history.shape[:2]
    carry: dict[str, Any] = {
        "history": history,
        "start": start,
        "t": ops.zeros((), dtype="int32"),
        "tokens": ops.zeros((batch, branches), dtype="int32"),
        "length": ops.zeros((batch, branches), dtype="int32"),
        "score": ops.zeros((batch, branches), dtype="float32"),
        "reason": ops.cast(ops.broadcast_to(ops.where(idle, DEAD, RUNNING)[:, None], (batch, branches)), "int32"),
    }
    if isinstance(search, Beam):
        first = ops.equal(ops.arange(branches, dtype="int32") % (search.width // search.groups), 0)
        carry["score"] = ops.where(first[None], carry["score"], HIDDEN)
        carry["parents"] = ops.zeros((batch, branches), dtype="int32")
        if search.rule == "pool":
            from kexue.decoding.beams import first_pool

            carry["pool"] = first_pool(batch, branches, history)
        else:
            carry["wide"] = ops.full((batch,), branches, dtype="int32")
            carry["ended"] = ops.zeros((batch, branches), dtype="bool")
    if plan.constraint is not None:
        carry["rule"] = keras.tree.map_structure(
            lambda x: ops.broadcast_to(x[:, None], (batch, branches, *x.shape[1:])), rule
        )
    return carry


def cached(engine: Engine, key: Any, new: Callable[[], Any]) -> Any:
    """A loop of an engine, made once for each key."""
    loops = engine.__dict__.setdefault("_loops", {})
    if key not in loops:
        loops[key] = new()
    return loops[key]


def make(engine: Engine, plan: Plan, room: int) -> Loop:
    """The loop of an engine, made once for each plan and room."""
    return cached(engine, (plan.key, room), lambda: Loop(engine, plan, room))


def compilations(engine: Engine) -> int:
    """How many programs were compiled for an engine's loops; 0 on PyTorch."""
    loops = engine.__dict__.get("_loops", {}).values()
    made = compiler()
    return sum(function.count() for loop in loops for function in vars(loop).values() if isinstance(function, made))


def compiler() -> type[Any]:
    """The backend's ``Compiled(model, function)``."""
    backend = keras.backend.backend()
    if backend == "jax":
        from kexue.decoding.compile_jax import Compiled
    elif backend == "tensorflow":
        from kexue.decoding.compile_tensorflow import Compiled  # type: ignore[assignment]
    else:
        from kexue.decoding.compile_torch import Compiled  # type: ignore[assignment]
    return Compiled
