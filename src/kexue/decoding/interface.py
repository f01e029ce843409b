"""What the loops of `kexue.decoding` need of a model, whichever way it runs."""

from collections.abc import Mapping
from typing import Any

from keras import ops

from kexue.errors import ConfigError
from kexue.models.surgery.graph import Graph
from kexue.nn.attention.plumbing import PositionIds

__all__ = ["Engine", "State", "at_places", "describe", "with_room"]

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


def with_room(x: Any, slots: int, axis: int = 1) -> Any:
    """``x`` in front of zeros, ``slots`` long along ``axis``."""
    shape = list(x.shape)
    shape[axis] = slots - shape[axis]
    return ops.concatenate([x, ops.zeros(shape, dtype=x.dtype)], axis=axis)


def at_places(x: Any, places: Any) -> Any:
    """``(batch, 1, size)``: the entries of ``x`` (batch, length, size) at ``places`` (batch,)."""
    places = ops.broadcast_to(places[:, None, None], (x.shape[0], 1, x.shape[2]))
    return ops.take_along_axis(x, places, axis=1)
