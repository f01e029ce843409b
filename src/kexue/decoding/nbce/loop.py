"""The loop of NBCE in one program: rows in a cache, a token for all of them, and its report."""

from typing import Any

import keras
from keras import ops

from kexue.decoding import loop as loops
from kexue.decoding.cached import Cached
from kexue.decoding.nbce.law import Law, Step, step

__all__ = ["Loop"]

REPORT = Step._fields


class Loop:
    """``begin(logits, data)`` gives a carry with the first token, ``go(memory, state, carry, data, until)`` the state
    and the carry at step ``until``, or before it where a stop token came.

    The carry holds ``t``, ``ended`` and, for each step, the fields of `Step`. Compiled whole on JAX and TensorFlow,
    once for each shape and `Law.key`.
    """

    def __init__(self, engine: Cached, law: Law, steps: int) -> None:
        self.engine, self.law, self.steps = engine, law, steps
        compiled = loops.compiler()
        self.begin = compiled(engine.model, self._begin)
        self.go = compiled(engine.model, self._go)

    def _begin(self, logits: Any, data: dict[str, Any]) -> dict[str, Any]:
        wide = ("entropy", "log_probs")
        carry = {
            name: ops.zeros(
                (self.steps, logits.shape[0] - 1) if name in wide else (self.steps,),
                "int32" if name in ("token", "context") else "float32",
            )
            for name in REPORT
        }
        carry |= {"t": ops.zeros((), "int32"), "ended": ops.zeros((), "bool")}
        return self._chosen(carry, logits, data, ops.convert_to_tensor(-1, "int32"))

    def _go(self, memory: Any, state: Any, carry: dict[str, Any], data: dict[str, Any], until: Any) -> tuple[Any, Any]:
        def runs(state: Any, carry: dict[str, Any]) -> Any:
            return ops.logical_and(carry["t"] < until, ops.logical_not(carry["ended"]))

        def more(state: Any, carry: dict[str, Any]) -> tuple[Any, Any]:
            last = carry["t"] - 1
            tokens = ops.broadcast_to(carry["token"][last], (state["count"].shape[0], 1))
            logits, state = self.engine.step(memory, state, tokens)
            return state, self._chosen(carry, logits[:, 0], data, carry["context"][last])

        if keras.backend.backend() == "torch":
            while bool(runs(state, carry)):
                state, carry = more(state, carry)
            return state, carry
        return ops.while_loop(runs, more, (state, carry))

    def _chosen(self, carry: dict[str, Any], logits: Any, data: dict[str, Any], previous: Any) -> dict[str, Any]:
        t = carry["t"]
        found = step(self.law, logits, t, previous, data, data["count"])
        here = ops.equal(ops.arange(self.steps), t)
        carry = dict(carry)
        for name, value in zip(REPORT, found, strict=True):
            place = here[:, None] if len(carry[name].shape) == 2 else here
            carry[name] = ops.where(place, ops.cast(value, carry[name].dtype), carry[name])
        return carry | {"t": t + 1, "ended": data["stop"][found.token]}
