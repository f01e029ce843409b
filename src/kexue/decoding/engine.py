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
from keras import ops, tree

from kexue.errors import ConfigError
from kexue.models.surgery.graph import Call, Graph
from kexue.nn import masks
from kexue.nn.attention.caching import Fixed, Recorder, Slots, write
from kexue.nn.attention.gau import GatedAttentionUnit
from kexue.nn.attention.linear import LinearAttention
from kexue.nn.attention.multihead import MultiHeadAttention
from kexue.nn.attention.plumbing import AttentionMask, CrossMask, PositionIds, PositionTables
from kexue.nn.dropout import Dropout
from kexue.nn.embeddings import SegmentEmbedding, TokenEmbedding
from kexue.nn.feedforward import FeedForward
from kexue.nn.heads.lm import LanguageModelHead
from kexue.nn.norms import LayerNorm, RMSNorm
from kexue.nn.positions.base import PositionEncoding

__all__ = ["Cached", "Engine", "make"]

ALONE = (
    TokenEmbedding,
    SegmentEmbedding,
    LayerNorm,
    RMSNorm,
    Dropout,
    FeedForward,
    LanguageModelHead,
    CrossMask,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Add,
    keras.layers.Multiply,
    keras.layers.Activation,
    keras.layers.Dropout,
    keras.layers.LayerNormalization,
)
"""Layers that treat each token by itself. Others say so with a class attribute ``token_wise = True``."""
ATTENTION = (MultiHeadAttention, GatedAttentionUnit)

State = dict[str, Any]


class Engine:
    """What the loops of `kexue.decoding` need of a model.

    Attributes:
        model: the model.
        side: ``"decoder_"`` where the generated tokens are a decoder's, else ``""``.
        vocabulary_size: columns of the logits.
        limit: longest sequence that has positions, or None.
    """

    model: Any
    side: str
    vocabulary_size: int
    limit: int | None

    def start(self, inputs: Mapping[str, Any], branches: int, room: int) -> tuple[Any, dict[str, Any], State]:
        """Read the prompts.

        Args:
            inputs: the model's, rows padded at the end; with ``{side}padding_mask``, and ``target_segments`` (batch,),
                the segment of new tokens, where the model has segments.
            branches: sequences that go on from each prompt.
            room: tokens that a branch may get.

        Returns:
            Logits ``(batch, vocabulary)`` after the last token of each prompt; what never changes; the state.
        """
        raise NotImplementedError

    def step(self, memory: dict[str, Any], state: State, tokens: Any) -> tuple[Any, State]:
        """One token more for each branch.

        Args:
            memory: from `start`.
            state: from `start` or the step before.
            tokens: ``(batch, branches)`` int32; with one branch also ``(batch, n)``, n tokens in a row.

        Returns:
            Logits ``(batch, branches or n, vocabulary)`` float32 and the new state.
        """
        raise NotImplementedError

    def reorder(self, state: State, parents: Any) -> State:
        """The state where branch j goes on from what was branch ``parents[:, j]``, ``(batch, branches)`` int32."""
        raise NotImplementedError


def make(model: Any, cached: bool = True, guided: bool = False) -> Engine:
    """The engine of a model, made once: with a cache, or one that runs the whole sequence at each step; and of its rows
    or of pairs of them (`kexue.decoding.guidance`).

    Raises:
        ConfigError: the model has no LM head, or ``cached`` and a part that cannot work one token at a time.
    """
    engines = model.__dict__.get("_decoding_engines")
    if engines is None:
        engines = {}
        object.__setattr__(model, "_decoding_engines", engines)
    if cached not in engines:
        from kexue.decoding.recompute import Recomputed

        engines[cached] = Cached(model) if cached else Recomputed(model)
    if guided and ("guided", cached) not in engines:
        from kexue.decoding.guidance import Guided

        engines["guided", cached] = Guided(engines[cached])
    return engines["guided", cached] if guided else engines[cached]


def describe(model: Any, graph: Graph) -> tuple[str, Any, int | None]:
    """``side``, the tensor of the logits and ``limit`` of a model.

    Raises:
        ConfigError: it makes no logits over a vocabulary.
    """
    outputs = graph.outputs
    logits = outputs.get("logits") if isinstance(outputs, dict) else None
    if logits is None or not isinstance(graph.inputs, dict) or "token_ids" not in graph.inputs:
        raise ConfigError(
            "generation needs a model with the input token_ids and the output logits: build it with head='lm'. "
            f"{model.name} has the outputs {', '.join(outputs) if isinstance(outputs, dict) else 'without names'}."
        )
    side = "decoder_" if "decoder_token_ids" in graph.inputs else ""
    limits = [
        call.operation.limit
        for call in graph.calls
        if isinstance(call.operation, PositionIds) and call.operation.name.startswith("decoder_") == bool(side)
    ]
    return side, logits, min((n for n in limits if n is not None), default=None)


class Cached(Engine):
    """An engine that runs each token once; see the module.

    Raises:
        ConfigError: no LM head; a layer that looks at neighbours; a mask under which a token sees a later one.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        graph = Graph(model)
        self.side, self.logits, self.limit = describe(model, graph)
        self.vocabulary_size = int(self.logits.shape[-1])
        self.graph = graph
        self.calls = self._needed(graph)
        names = [f"{self.side}{n}" for n in ("token_ids", "padding_mask", "position_ids", "document_ids")]
        names += [] if self.side else ["segment_ids"]
        changing = {id(graph.inputs[n]) for n in names if n in graph.inputs}
        self.live: list[Call] = []
        for call in self.calls:
            if not call.is_input and any(id(t) in changing for t in call.inputs):
                self.live.append(call)
                changing |= {id(t) for t in call.outputs}
        self._check()
        produced = {id(t) for call in self.live for t in call.outputs}
        # Values that the steps need and that do not change from one to the next, by address.
        self.fixed = {
            graph.address[id(t)]: t
            for call in self.live
            for t in call.inputs
            if id(t) not in produced and id(t) not in changing
        }
        self.direct = keras.backend.backend() == "torch" and all(
            getattr(call.operation, "compute_dtype", "float32") == "float32"
            and getattr(call.operation, "variable_dtype", "float32") == "float32"
            for call in self.calls
        )

        self.short: dict[str, Callable[..., Any]] = {}
        if self.direct:
            from kexue.decoding.lean_torch import shortcut

            found = {call.address: shortcut(call.operation) for call in self.live}
            self.short = {address: run for address, run in found.items() if run is not None}

    # ---------------------------------------------------------------- what the graph is

    def _needed(self, graph: Graph) -> list[Call]:
        wanted, calls = {id(self.logits)}, []
        for call in reversed(graph.calls):
            if any(id(t) in wanted for t in call.outputs):
                calls.append(call)
                wanted |= {id(t) for t in call.inputs}
        return calls[::-1]

    def _check(self) -> None:
        advice = "Use cached=False, which runs the whole sequence at each step."
        for call in self.live:  # an encoder runs once and may be anything
            layer = call.operation
            if isinstance(layer, PositionEncoding):
                known = not layer.looks_around
            else:
                parts = (*ALONE, *ATTENTION, LinearAttention, AttentionMask, PositionIds, PositionTables)
                known = isinstance(layer, parts) or getattr(layer, "token_wise", False)
            if isinstance(layer, RMSNorm | LayerNorm) and len(call.inputs) > 1 and len(call.inputs[1].shape) == 3:
                raise ConfigError(f"conditions of each token leave new tokens without one. {advice}")
            if not known:
                raise ConfigError(
                    f"the layer {layer.name} ({type(layer).__name__}) is not known to treat each token by itself, so "
                    f"that the model cannot run one token at a time. {advice}"
                )
            rule = getattr(layer, "mask", None)
            if isinstance(layer, AttentionMask | LinearAttention) and isinstance(rule, masks.Mask):
                self._check_rule(rule, advice)

    @staticmethod
    def _check_rule(rule: masks.Mask, advice: str) -> None:
        if "rank" in rule.needs:
            raise ConfigError(f"a permuted mask names no next place. Build the model with mask='causal'. {advice}")
        length = 5
        for prompt in (1, 2, 4):
            place = np.arange(length)
            facts: dict[str, Any] = {"index": place, "document": np.zeros(length, int)}
            facts["block"] = np.cumsum(place >= prompt)
            q = masks.Tokens(**{n: v[:, None] for n, v in facts.items()})
            k = masks.Tokens(**{n: v[None, :] for n, v in facts.items()})
            sees = np.broadcast_to(np.asarray(rule.rule(q, k)), (length, length))
            later = (place[None, :] > place[:, None]) & (place[None, :] >= prompt)
            if (sees & later).any():
                raise ConfigError(
                    f"under the mask {rule!r} a token sees later ones, so that earlier results change with each new "
                    f"token. Build the model with mask='causal', or 'prefix' for source and target. {advice}"
                )

    # ---------------------------------------------------------------- running it

    def _run(self, calls: list[Call], values: dict[int, Any], answer: Callable[[Call, Any, Any], Any]) -> dict:
        for call in calls:
            if call.is_input:
                continue
            arguments, named = _arguments(call, values)
            out = answer(call, arguments, named)
            if len(call.outputs) == 1 and not isinstance(out, tuple | list | dict):
                values[id(call.outputs[0])] = out
                continue
            for symbol, value in zip(call.outputs, tree.flatten(out), strict=False):
                values[id(symbol)] = value
        return values

    def _call(self, call: Call, arguments: Any, named: Any) -> Any:
        layer = call.operation
        if isinstance(layer, Dropout):
            return arguments[0]
        return (layer.call if self.direct else layer)(*arguments, **named)

    def start(self, inputs: Mapping[str, Any], branches: int, room: int) -> tuple[Any, dict[str, Any], State]:
        inputs = dict(inputs)
        segments = inputs.pop("target_segments", None)
        values: dict[int, Any] = {id(t): inputs.get(name) for name, t in self.graph.inputs.items()}
        real = ops.cast(inputs[f"{self.side}padding_mask"], "bool")
        batch, prompt = real.shape
        slots = prompt + branches * room
        count = ops.sum(ops.cast(real, "int32"), axis=1)
        caches: dict[str, Any] = {}
        cross: dict[str, Any] = {}
        live = {call.address for call in self.live}

        def answer(call: Call, arguments: Any, named: Any) -> Any:
            layer = call.operation
            if call.address in live and isinstance(layer, ATTENTION):
                recorder = Recorder()
                out = self._call(call, arguments, named | {"cache": recorder})
                if getattr(layer, "cross", False):
                    cross[call.address] = {"keys": recorder.keys, "values": recorder.values}
                else:
                    caches[call.address] = {
                        "keys": _room(recorder.keys, slots),
                        "values": _room(recorder.values, slots),
                    }
                return out
            if call.address in live and isinstance(layer, LinearAttention):
                known = {n: named[n] for n in ("padding_mask", "tables") if n in named}
                after = layer.state_after(arguments[0], **known)
                caches[call.address] = tuple(ops.repeat(t, branches, axis=0) for t in after)
            if isinstance(layer, LanguageModelHead):
                arguments = (_at(arguments[0], count - 1), *arguments[1:])
            return self._call(call, arguments, named)

        self._run(self.calls, values, answer)
        logits = values[id(self.logits)]
        logits = logits if logits.shape[1] == 1 else _at(logits, count - 1)
        index = ops.broadcast_to(ops.arange(prompt, dtype="int32")[None], (batch, prompt))
        segment = inputs.get("segment_ids") if not self.side else None
        segment = ops.zeros_like(index) if segment is None else ops.cast(segment, "int32")
        block = ops.cumsum(segment, axis=1)
        seen = ops.broadcast_to(real[:, None], (batch, branches, prompt))
        state: State = {
            "index": _room(index, slots),
            "block": _room(block, slots),
            "segment": _room(segment, slots),
            "seen": _room(seen, slots, axis=2),
            "count": count,
            "last_block": block[:, -1],
            "used": prompt if keras.backend.backend() == "torch" else ops.convert_to_tensor(prompt, "int32"),
            "caches": caches,
        }
        memory: dict[str, Any] = {"cross": cross, "fixed": {}}
        memory["fixed"] = {a: values[id(t)] for a, t in self.fixed.items() if values.get(id(t)) is not None}
        if segments is not None:
            memory["segments"] = ops.cast(segments, "int32")
        return ops.cast(logits[:, 0], "float32"), memory, state

    def step(self, memory: dict[str, Any], state: State, tokens: Any) -> tuple[Any, State]:
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
        own = ops.broadcast_to(ops.convert_to_tensor(own)[None], (batch, branches, n))
        at = state["used"]
        for name, new in (("index", index), ("block", block), ("segment", segment)):
            state[name] = write(state[name], new, at)
        state["seen"] = write(state["seen"], own, at, axis=2)
        moved = n if branches == 1 else 1
        state |= {"count": state["count"] + moved, "last_block": block[:, -1], "used": at + n}
        end = at + n if torch else None
        keys = {name: state[name][:, :end] for name in ("index", "block", "segment")}
        q = masks.Tokens(index=index[..., None], block=block[..., None], document=ops.zeros_like(index)[..., None])
        k = masks.Tokens(
            index=keys["index"][:, None], block=keys["block"][:, None], document=ops.zeros_like(keys["index"])[:, None]
        )
        seen = state["seen"][:, :, :end]
        visible: dict[Any, Any] = {}
        caches = state["caches"] = dict(state["caches"])
        values: dict[int, Any] = {id(t): None for t in self.graph.inputs.values()}
        values |= {id(self.fixed[address]): value for address, value in memory["fixed"].items()}
        values |= {id(t): None for a, t in self.fixed.items() if a not in memory["fixed"]}
        values[id(self.graph.inputs[f"{self.side}token_ids"])] = tokens
        segments = None
        if "segments" in memory and "segment_ids" in self.graph.inputs and not self.side:
            segments = values[id(self.graph.inputs["segment_ids"])] = segment
        positions = index if self.limit is None else ops.minimum(index, self.limit - 1)

        def answer(call: Call, arguments: Any, named: Any) -> Any:
            layer = call.operation
            if isinstance(layer, AttentionMask):
                rule = layer.mask
                if rule not in visible:
                    visible[rule] = ops.logical_and(rule.rule(q, k), seen)[:, None]
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
                run = self.short.get(call.address)
                named = named | {"cache": cache}
                out = self._call(call, arguments, named) if run is None else run(*arguments, **named)
                caches[call.address] = {"keys": cache.keys, "values": cache.values}
                return out
            if isinstance(layer, LinearAttention):
                out, caches[call.address] = _recurrent(layer, arguments[0], caches[call.address], index, branches)
                return out
            run = self.short.get(call.address)
            return self._call(call, arguments, named) if run is None else run(*arguments, **named)

        self._run(self.live, values, answer)
        return ops.cast(values[id(self.logits)], "float32"), state

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


def _arguments(call: Call, values: dict[int, Any]) -> tuple[Any, Any]:
    """Arguments of a call; what Keras does by walking trees, for the plain ones that layers mostly have."""
    source = call.node.arguments
    simple = getattr(call.node, "_kexue_simple", None)
    if simple is None:
        leaves = [*source.args, *source.kwargs.values()]
        simple = not any(isinstance(x, list | tuple | dict) and _has_tensor(x) for x in leaves)
        call.node._kexue_simple = simple
    if not simple:
        return source.fill_in(values)

    def filled(x: Any) -> Any:
        return values.get(id(x)) if isinstance(x, keras.KerasTensor) else x

    return [filled(x) for x in source.args], {name: filled(x) for name, x in source.kwargs.items()}


def _has_tensor(x: Any) -> bool:
    return any(isinstance(leaf, keras.KerasTensor) for leaf in tree.flatten(x))


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


def _room(x: Any, slots: int, axis: int = 1) -> Any:
    """``x`` in front of zeros, ``slots`` long along ``axis``."""
    shape = list(x.shape)
    shape[axis] = slots - shape[axis]
    return ops.concatenate([x, ops.zeros(shape, dtype=x.dtype)], axis=axis)


def _at(x: Any, places: Any) -> Any:
    """``(batch, 1, size)``: the entries of ``x`` (batch, length, size) at ``places`` (batch,)."""
    places = ops.broadcast_to(places[:, None, None], (x.shape[0], 1, x.shape[2]))
    return ops.take_along_axis(x, places, axis=1)
