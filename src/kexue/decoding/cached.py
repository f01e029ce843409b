"""A model run one token at a time: its own graph, with attention that keeps what it has seen.

`Cached` walks the functional graph of a model. Layers that treat each token by itself (embeddings, norms,
feed-forward parts, heads) run as they are, on the new tokens alone. Attention gets a cache; the layers that make masks,
positions and position tables are answered from facts about the cache's slots. So every model that is put together from
these parts decodes with a cache, families of one's own and models after surgery included.

All branches of a prompt (beams, several samples) are queries of one row and share the prompt's keys. Each branch's
tokens have slots of their own, and which of them a branch descends from is a boolean row, so that reordering beams
moves that row and not the cache:

    slots     prompt  . . . . . | token 1 of branches 1 2 3 | token 2 of branches 1 2 3 | ...
    branch 1  sees    x x x x     x . .                       . x .
    branch 2  sees    x x x x     x . .                       x . .
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kexue.decoding.interface import Engine, State, at_places, with_room
from kexue.decoding.walk import ATTENTION, Walk
from kexue.errors import ConfigError
from kexue.models.surgery.graph import Call
from kexue.nn import masks
from kexue.nn.attention.caching import Fixed, Recorder, Slots, heads_first, write
from kexue.nn.attention.linear import LinearAttention
from kexue.nn.attention.plumbing import AttentionMask, PositionIds, PositionTables
from kexue.nn.dropout import Dropout
from kexue.nn.heads.lm import LanguageModelHead

__all__ = ["Cached"]


class Cached(Engine):
    """An engine that runs each token once; see the module.

    Attributes:
        recurrent: a part keeps a state instead of keys.

    Raises:
        ConfigError: no LM head; a layer that looks at neighbours; a mask under which a token sees a later one.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.walk = Walk(model)
        self.side, self.limit = self.walk.side, self.walk.limit
        self.vocabulary_size = int(self.walk.logits.shape[-1])
        self.recurrent = any(isinstance(call.operation, LinearAttention) for call in self.walk.live)
        self.direct = keras.backend.backend() == "torch" and all(
            getattr(call.operation, "compute_dtype", "float32") == "float32"
            and getattr(call.operation, "variable_dtype", "float32") == "float32"
            for call in self.walk.calls
        )
        self.short: dict[str, Callable[..., Any]] = {}
        if self.direct:
            from kexue.decoding.lean_torch import shortcut

            found = {call.address: shortcut(call.operation) for call in self.walk.live}
            self.short = {address: run for address, run in found.items() if run is not None}

    def _call(self, call: Call, arguments: Any, named: Any) -> Any:
        layer = call.operation
        if isinstance(layer, Dropout):
            return arguments[0]
        return (layer.call if self.direct else layer)(*arguments, **named)

    def _live(self, call: Call, arguments: Any, named: Any) -> Any:
        run = self.short.get(call.address)
        return self._call(call, arguments, named) if run is None else run(*arguments, **named)

    def start(self, inputs: Mapping[str, Any], branches: int, room: int) -> tuple[Any, dict[str, Any], State]:
        inputs = dict(inputs)
        segments = inputs.pop("target_segments", None)
        values: dict[int, Any] = {id(t): inputs.get(name) for name, t in self.walk.graph.inputs.items()}
        real = ops.cast(inputs[f"{self.side}padding_mask"], "bool")
        batch, prompt = real.shape
        slots = prompt + branches * room
        count = ops.sum(ops.cast(real, "int32"), axis=1)
        caches: dict[str, Any] = {}
        cross: dict[str, Any] = {}
        live = {call.address for call in self.walk.live}

        def answer(call: Call, arguments: Any, named: Any) -> Any:
            layer = call.operation
            if call.address in live and isinstance(layer, ATTENTION):
                recorder = Recorder()
                out = self._live(call, arguments, named | {"cache": recorder})
                if getattr(layer, "cross", False):
                    cross[call.address] = {
                        "keys": heads_first(recorder.keys),
                        "values": heads_first(recorder.values),
                    }
                else:
                    caches[call.address] = {
                        "keys": with_room(heads_first(recorder.keys), slots, axis=2),
                        "values": with_room(heads_first(recorder.values), slots, axis=2),
                    }
                return out
            if call.address in live and isinstance(layer, LinearAttention):
                known = {n: named[n] for n in ("padding_mask", "tables") if n in named}
                after = layer.state_after(arguments[0], **known)
                caches[call.address] = tuple(ops.repeat(t, branches, axis=0) for t in after)
            if isinstance(layer, LanguageModelHead):
                arguments = (at_places(arguments[0], count - 1), *arguments[1:])
            return (self._live if call.address in live else self._call)(call, arguments, named)

        self.walk.run(self.walk.calls, values, answer)
        logits = values[id(self.walk.logits)]
        logits = logits if logits.shape[1] == 1 else at_places(logits, count - 1)
        index = ops.broadcast_to(ops.arange(prompt, dtype="int32")[None], (batch, prompt))
        segment = inputs.get("segment_ids") if not self.side else None
        segment = ops.zeros_like(index) if segment is None else ops.cast(segment, "int32")
        block = ops.cumsum(segment, axis=1)
        seen = ops.broadcast_to(real[:, None], (batch, branches, prompt))
        state: State = {
            "index": with_room(index, slots),
            "block": with_room(block, slots),
            "segment": with_room(segment, slots),
            "seen": with_room(seen, slots, axis=2),
            "count": count,
            "last_block": block[:, -1],
            "used": prompt if keras.backend.backend() == "torch" else ops.convert_to_tensor(prompt, "int32"),
            "caches": caches,
        }
        memory: dict[str, Any] = {"cross": cross, "fixed": {}}
        memory["fixed"] = {a: values[id(t)] for a, t in self.walk.fixed.items() if values.get(id(t)) is not None}
        if segments is not None:
            memory["segments"] = ops.cast(segments, "int32")
        return ops.cast(logits[:, 0], "float32"), memory, state

    def step(self, memory: dict[str, Any], state: State, tokens: Any) -> tuple[Any, State]:
        return self._advance(memory, state, tokens)

    def append(self, memory: dict[str, Any], state: State, tokens: Any, real: Any) -> tuple[Any, State]:
        """Texts of different lengths after what was read, one branch a row.

        Args:
            memory: from `start` or `spread`.
            state: likewise.
            tokens: ``(batch, n)`` int32, padded at the end.
            real: ``(batch, n)`` booleans, true at one token of each row at least. Padding takes slots that nobody sees.

        Returns:
            Logits ``(batch, vocabulary)`` after the last real token of each row and the new state.

        Raises:
            ConfigError: linear attention, whose state would take in the padding.
        """
        if self.recurrent:
            raise ConfigError("linear attention cannot read rows of different lengths after a prompt: `start` can.")
        logits, state = self._advance(memory, state, tokens, ops.cast(real, "bool"))
        return logits[:, 0], state

    def spread(self, memory: dict[str, Any], state: State, rows: int) -> tuple[dict[str, Any], State]:
        """What was read of one row as that of ``rows`` rows, which may then go on differently."""

        def wide(x: Any) -> Any:
            return ops.concatenate([x] * rows, axis=0)  # a repetition may share memory, and slots are written to

        caches = {
            a: tuple(map(wide, cache)) if isinstance(cache, tuple) else {name: wide(x) for name, x in cache.items()}
            for a, cache in state["caches"].items()
        }
        kept = {"used": state["used"], "caches": caches}
        state = {name: kept[name] if name in kept else wide(value) for name, value in state.items()}
        cross = {a: {name: wide(x) for name, x in cache.items()} for a, cache in memory["cross"].items()}
        segments = {"segments": wide(memory["segments"])} if "segments" in memory else {}
        return memory | {"cross": cross} | segments, state

    def grown(self, state: State, more: int) -> State:
        """The state with ``more`` slots."""
        axes = {"index": 1, "block": 1, "segment": 1, "seen": 2}
        longer = {name: with_room(state[name], state[name].shape[axis] + more, axis) for name, axis in axes.items()}
        caches = {
            a: cache if isinstance(cache, tuple) else {n: with_room(x, x.shape[2] + more, 2) for n, x in cache.items()}
            for a, cache in state["caches"].items()
        }
        return state | longer | {"caches": caches}

    def _advance(self, memory: dict[str, Any], state: State, tokens: Any, real: Any = None) -> tuple[Any, State]:
        state = dict(state)
        torch = keras.backend.backend() == "torch"
        branches, n = state["seen"].shape[1], tokens.shape[1]
        batch = tokens.shape[0]
        ahead = ops.arange(n if branches == 1 else 1, dtype="int32")[None]
        index = ops.broadcast_to(state["count"][:, None] + ahead, (batch, n))
        segment = ops.zeros((batch, 1), "int32") if "segments" not in memory else memory["segments"][:, None]
        segment = ops.broadcast_to(segment, (batch, n))
        block = state["last_block"][:, None] + segment * (1 + ahead)
        own = np.ones((1, n), bool) if branches == 1 else np.eye(n, dtype=bool)
        own = ops.broadcast_to(
            ops.convert_to_tensor(own)[None] if real is None else real[:, None], (batch, branches, n)
        )
        at = state["used"]
        for name, new in (("index", index), ("block", block), ("segment", segment)):
            state[name] = write(state[name], new, at)
        state["seen"] = write(state["seen"], own, at, axis=2)
        moved = n if branches == 1 else 1
        last = block[:, -1]
        if real is not None:
            moved = ops.sum(ops.cast(real, "int32"), axis=1)
            last = state["last_block"] + segment[:, 0] * moved
        state |= {"count": state["count"] + moved, "last_block": last, "used": at + n}
        end = at + n if torch else None
        keys = {name: state[name][:, :end] for name in ("index", "block", "segment")}
        q = masks.Tokens(index=index[..., None], block=block[..., None], document=ops.zeros_like(index)[..., None])
        k = masks.Tokens(
            index=keys["index"][:, None], block=keys["block"][:, None], document=ops.zeros_like(keys["index"])[:, None]
        )
        seen = state["seen"][:, :, :end]
        visible: dict[Any, Any] = {}
        caches = state["caches"] = dict(state["caches"])
        values: dict[int, Any] = {id(t): None for t in self.walk.graph.inputs.values()}
        values |= {id(self.walk.fixed[address]): value for address, value in memory["fixed"].items()}
        values |= {id(t): None for a, t in self.walk.fixed.items() if a not in memory["fixed"]}
        values[id(self.walk.graph.inputs[f"{self.side}token_ids"])] = tokens
        segments = None
        if "segments" in memory and "segment_ids" in self.walk.graph.inputs and not self.side:
            segments = values[id(self.walk.graph.inputs["segment_ids"])] = segment
        positions = index if self.limit is None else ops.minimum(index, self.limit - 1)

        def answer(call: Call, arguments: Any, named: Any) -> Any:
            layer = call.operation
            if isinstance(layer, AttentionMask):
                rule = layer.mask
                if rule not in visible:
                    seen_by = ops.logical_and(rule.rule(q, k), seen)[:, None]
                    # Kernels are quicker without a mask; looking costs next to nothing where nothing is compiled.
                    visible[rule] = None if self.direct and bool(seen_by.all()) else seen_by
                return visible[rule]
            if isinstance(layer, PositionIds):
                return positions
            if isinstance(layer, PositionTables):
                encoding = layer.positions
                theirs = keys["index"] if encoding.acts_on_scores else positions
                if encoding.uses_segments:
                    mine = None if segments is None else {"query_segments": segment, "key_segments": keys["segment"]}
                    return encoding.tables(positions, theirs, **(mine or {}))
                return encoding.tables(positions, theirs)
            if isinstance(layer, ATTENTION):
                if getattr(layer, "cross", False):
                    cache: Any = Fixed(**memory["cross"][call.address])
                    return self._call(call, arguments, named | {"cache": cache})
                cache = Slots(**caches[call.address], at=at, used=end)
                out = self._live(call, arguments, named | {"cache": cache})
                caches[call.address] = {"keys": cache.keys, "values": cache.values}
                return out
            if isinstance(layer, LinearAttention):
                out, caches[call.address] = _recurrent(layer, arguments[0], caches[call.address], index, branches)
                return out
            if real is not None and isinstance(layer, LanguageModelHead):
                arguments = (at_places(arguments[0], moved - 1), *arguments[1:])
            return self._live(call, arguments, named)

        self.walk.run(self.walk.live, values, answer)
        return ops.cast(values[id(self.walk.logits)], "float32"), state

    def reorder(self, state: State, parents: Any) -> State:
        seen = state["seen"]
        batch, branches, slots = seen.shape
        wide = ops.broadcast_to(parents[:, :, None], (batch, branches, slots))
        state = dict(state) | {"seen": ops.take_along_axis(seen, wide, axis=1)}
        recurrent = {a: c for a, c in state["caches"].items() if isinstance(c, tuple)}
        if recurrent:
            rows = ops.reshape(parents + branches * ops.arange(batch, dtype="int32")[:, None], (-1,))
            moved = {a: tuple(ops.take(t, rows, axis=0) for t in cache) for a, cache in recurrent.items()}
            state["caches"] = state["caches"] | moved
        return state


def _recurrent(layer: LinearAttention, x: Any, cache: Any, index: Any, branches: int) -> tuple[Any, Any]:
    batch, n, size = x.shape
    if branches == 1:
        outs = []
        for j in range(n):
            out, cache = layer.step(x[:, j : j + 1], cache, index[:, j])
            outs.append(out)
        return (outs[0] if n == 1 else ops.concatenate(outs, axis=1)), tuple(cache)
    out, cache = layer.step(ops.reshape(x, (batch * n, 1, size)), cache, ops.reshape(index, (-1,)))
    return ops.reshape(out, (batch, n, out.shape[-1])), tuple(cache)
