"""Decoding without a cache: the whole sequence again at each step.

For models that cannot run one token at a time, and the reference that cached decoding is compared with.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kexue.decoding.interface import Engine, State, at_places, describe, with_room
from kexue.errors import ConfigError
from kexue.models.surgery.graph import Graph
from kexue.nn.attention.plumbing import AttentionMask

__all__ = ["Recomputed"]


class Recomputed(Engine):
    """An engine whose state is the sequences themselves.

    A model whose mask is not causal gives each token anew what it sees of later ones; the next token is read at the
    last one. Tokens after it are hidden by the padding mask.

    Raises:
        ConfigError: no LM head, or inputs that new tokens cannot have.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        graph = Graph(model)
        self.side, logits, self.limit = describe(model, graph)
        self.vocabulary_size = int(logits.shape[-1])
        self.names = tuple(graph.inputs)
        ranked = any(
            isinstance(call.operation, AttentionMask) and "rank" in call.operation.mask.needs for call in graph.calls
        )
        two = "target_positions" in self.names
        if two or ranked:
            raise ConfigError(
                "generation needs one stream and an order: build the model with mask='causal' and two_stream=False."
            )
        shape = getattr(graph.inputs.get("condition"), "shape", ())
        if len(shape) == 3:
            raise ConfigError("conditions of each token leave new tokens without one.")

    def _logits(self, memory: dict[str, Any], state: State) -> Any:
        """``(batch, branches, vocabulary)`` after the last token."""
        batch, branches, width = state["tokens"].shape
        tokens = ops.reshape(state["tokens"], (batch * branches, width))
        counts = ops.repeat(state["count"], branches, axis=0)
        place = ops.arange(width, dtype="int32")[None]
        inputs = dict(memory["inputs"])
        inputs[f"{self.side}token_ids"] = tokens
        inputs[f"{self.side}padding_mask"] = place < counts[:, None]
        if "segments" in memory:
            prompt = ops.repeat(memory["prompt"], branches, axis=0)[:, None]
            inputs["segment_ids"] = ops.where(
                place < prompt, inputs["segment_ids"], ops.repeat(memory["segments"], branches, axis=0)[:, None]
            )
        known = {name: inputs.get(name) for name in self.names}
        logits = keras.Model.__call__(self.model, known, training=False)["logits"]
        return ops.reshape(ops.cast(at_places(logits, counts - 1), "float32"), (batch, branches, self.vocabulary_size))

    def start(self, inputs: Mapping[str, Any], branches: int, room: int) -> tuple[Any, dict[str, Any], State]:
        inputs = dict(inputs)
        segments = inputs.pop("target_segments", None)
        tokens = ops.cast(inputs.pop(f"{self.side}token_ids"), "int32")
        count = ops.sum(ops.cast(inputs.pop(f"{self.side}padding_mask"), "int32"), axis=1)
        prompt = tokens.shape[1]
        width = prompt + room if self.limit is None else min(prompt + room, self.limit)
        if "segment_ids" in inputs and not self.side:
            inputs["segment_ids"] = with_room(ops.cast(inputs["segment_ids"], "int32"), width)
        inputs = {name: ops.repeat(value, branches, axis=0) for name, value in inputs.items() if value is not None}
        memory: dict[str, Any] = {"inputs": inputs, "prompt": count}
        if segments is not None:
            memory["segments"] = ops.cast(segments, "int32")
        tokens = with_room(ops.repeat(tokens[:, None], branches, axis=1), width, axis=2)
        state = {"tokens": tokens, "count": count}
        return self._logits(memory, state)[:, 0], memory, state

    def step(self, memory: dict[str, Any], state: State, tokens: Any) -> tuple[Any, State]:
        place = ops.arange(state["tokens"].shape[2], dtype="int32")[None, None]
        new = ops.equal(place, state["count"][:, None, None])
        state = {"tokens": ops.where(new, tokens[..., None], state["tokens"]), "count": state["count"] + 1}
        return self._logits(memory, state), state

    def reorder(self, state: State, parents: Any) -> State:
        wide = ops.broadcast_to(parents[:, :, None], state["tokens"].shape)
        return state | {"tokens": ops.take_along_axis(state["tokens"], wide, axis=1)}
