"""The part of a model's graph that runs at each token, and how it is walked.

A call of a layer is *live* where its inputs come from the new tokens. Its other inputs are *fixed*: they are computed
once, while the prompt is read.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import tree

from kexue.decoding.interface import describe
from kexue.errors import ConfigError
from kexue.models.surgery.graph import Call, Graph
from kexue.nn import masks
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

__all__ = ["ATTENTION", "Walk"]

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


class Walk:
    """What runs of a model, and when.

    Attributes:
        graph: of the model.
        side, limit: see `kexue.decoding.interface.Engine`.
        logits: the tensor that is wanted.
        calls: all calls that it needs.
        live: those that the new tokens run through.
        fixed: tensors that live calls need and that do not change from token to token, by address.

    Raises:
        ConfigError: no LM head; a layer that looks at neighbours; a mask under which a token sees a later one.
    """

    def __init__(self, model: Any) -> None:
        self.graph = graph = Graph(model)
        self.side, self.logits, self.limit = describe(model, graph)
        self.calls = self._needed()
        names = [f"{self.side}{n}" for n in ("token_ids", "padding_mask", "position_ids", "document_ids")]
        names += [] if self.side else ["segment_ids"]
        changing = {id(graph.inputs[n]) for n in names if n in graph.inputs}
        self.live: list[Call] = []
        for call in self.calls:
            if not call.is_input and any(id(t) in changing for t in call.inputs):
                self.live.append(call)
                changing |= {id(t) for t in call.outputs}
        self._check()
        self._fillers: dict[str, Any] = {}
        for call in self.calls:
            source = call.node.arguments
            named = {name: _filler(x) for name, x in source.kwargs.items()}
            self._fillers[call.address] = [_filler(x) for x in source.args], named, [id(t) for t in call.outputs]
        produced = {id(t) for call in self.live for t in call.outputs}
        self.fixed = {
            graph.address[id(t)]: t
            for call in self.live
            for t in call.inputs
            if id(t) not in produced and id(t) not in changing
        }

    def run(self, calls: list[Call], values: dict[int, Any], answer: Callable[[Call, Any, Any], Any]) -> dict[int, Any]:
        """Fill ``values``, tensors of the graph by ``id``, with what ``answer(call, arguments, named)`` gives for each.

        At one token a step the way counts: arguments are found by functions made beforehand, where Keras walks trees.
        """
        for call in calls:
            if call.is_input:
                continue
            places, named, outputs = self._fillers[call.address]
            arguments = [fill(values) for fill in places]
            out = answer(call, arguments, {name: fill(values) for name, fill in named.items()})
            if len(outputs) == 1 and not isinstance(out, tuple | list | dict):
                values[outputs[0]] = out
                continue
            values.update(zip(outputs, tree.flatten(out), strict=False))
        return values

    def _needed(self) -> list[Call]:
        wanted, calls = {id(self.logits)}, []
        for call in reversed(self.graph.calls):
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


def _filler(x: Any) -> Callable[[dict[int, Any]], Any]:
    """A function of the values by ``id`` that gives an argument; None stands for what has no value."""
    if isinstance(x, keras.KerasTensor):
        key = id(x)
        return lambda values: values.get(key)
    if not any(isinstance(leaf, keras.KerasTensor) for leaf in tree.flatten(x)):
        return lambda values: x
    if isinstance(x, dict):
        parts = {name: _filler(part) for name, part in x.items()}
        return lambda values: {name: fill(values) for name, fill in parts.items()}
    fields = [_filler(part) for part in x]
    return lambda values: type(x)(fill(values) for fill in fields)
