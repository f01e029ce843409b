"""Pieces of a model: inner outputs, heads and tails."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import tree

from kexue.errors import ConfigError
from kexue.models.direct import DirectCall
from kexue.models.surgery.graph import Call, Graph

__all__ = ["Part", "extract", "join", "outputs_of", "replay", "split", "tail"]


@keras.saving.register_keras_serializable(package="kexue")
class Part(DirectCall, keras.Model):
    """A functional model with a dict of inputs, as a piece of a `Transformer` has.

    Optional inputs may be left out; direct calls are compiled on JAX (see `kexue.models.direct.DirectCall`). Saved and
    loaded as any Keras model.
    """


def join(inputs: Any, outputs: Any, name: str) -> keras.Model:
    """The model from ``inputs`` to ``outputs``: a `Part` where the inputs are a dict."""
    kind = Part if isinstance(inputs, dict) else keras.Model
    return kind(inputs=inputs, outputs=outputs, name=name)


def extract(model: keras.Model, what: Any, *, name: str | None = None) -> keras.Model:
    """The sub-model that gives inner outputs by address; layers that they do not need are left out.

    Args:
        model: functional or sequential.
        what: an address (`addresses`), a pattern such as ``"block_*_feedforward_norm"``, a layer, an `Nth`, a tensor,
            or a list of these.
        name: of the result.

    Returns:
        A model with the same inputs and the same variables; its outputs are a dict ``{address: tensor}``.

    Raises:
        ConfigError: nothing of the model is meant.
    """
    graph = Graph(model)
    found = graph.find_tensors(what)
    outputs = {graph.address[id(tensor)]: tensor for tensor in found}
    return join(graph.inputs, outputs, name or f"{model.name}_inner")


def split(model: keras.Model, at: Any, *, complete: bool = False) -> tuple[keras.Model, keras.Model]:
    """Cut the model open: ``tail(head(x)) == model(x)``.

    Args:
        model: functional or sequential.
        at: where; see `extract`. Original inputs are tensors too, and may be part of the cut.
        complete: tensors that by-pass the cut (skip connections, attention masks, position tables) become part of it,
            instead of an error.

    Returns:
        ``(head, tail)``, which share the model's variables. A cut at one tensor: the head gives a tensor, the tail
        takes one. At several: dicts by address. The tail has the model's outputs, and no layer that it does not need.

    Raises:
        ConfigError: something by-passes the cut; the message names the tensors.
    """
    graph = Graph(model)
    starts = graph.find_tensors(at)
    if complete:
        starts = _ordered(graph, [*starts, *_missing(graph, starts)])
    names = _names(graph, starts)
    rear = _tail(graph, starts, f"{model.name}_tail")
    single = len(starts) == 1 and not isinstance(rear.input, dict)
    outputs = starts[0] if single else {names[id(tensor)]: tensor for tensor in starts}
    return join(graph.inputs, outputs, f"{model.name}_head"), rear


def tail(model: keras.Model, starts: Any, *, complete: bool = False, name: str | None = None) -> keras.Model:
    """The model from inner tensors to its outputs: the second half of `split` alone."""
    graph = Graph(model)
    found = graph.find_tensors(starts)
    if complete:
        found = _ordered(graph, [*found, *_missing(graph, found)])
    return _tail(graph, found, name or f"{model.name}_tail")


def outputs_of(model: keras.Model, starts: Any, inputs: Any = None) -> tuple[Any, Any]:
    """Symbolic outputs of the model when it begins at inner tensors, to go on building with.

    Args:
        model: functional or sequential.
        starts: inner tensors; see `extract`.
        inputs: tensors of yours to begin with: one, a list in the order of ``starts``, or a dict by address; new
            `keras.Input` by default.

    Returns:
        ``(inputs, outputs)``: the tensors that it begins with, and the outputs in the structure of the model's.

    Raises:
        ConfigError: something by-passes the start, or the inputs do not fit.
    """
    graph = Graph(model)
    found = graph.find_tensors(starts)
    _refuse_missing(graph, found)
    if inputs is None:
        inputs, given = _inputs(graph, found)
    else:
        given = _given(graph, found, inputs)
    values = {id(start): tensor for start, tensor in zip(found, given, strict=True)}
    replay(_needed(graph, found), values)
    return inputs, tree.map_structure(lambda t: values[id(t)], graph.outputs)


def replay(calls: Sequence[Call], values: dict[int, Any], change: Any = None) -> None:
    """Make the calls again on other symbolic tensors.

    Args:
        calls: in order of execution.
        values: new tensors by the identity of the old ones; filled with what the calls give. Tensors that are not there
            stay as they are.
        change: ``change(call, args, kwargs)`` gives the outputs instead, or None for the call as it was.
    """
    for call in calls:
        args, kwargs = call.node.arguments.convert(
            lambda x: values.get(id(x), x) if isinstance(x, keras.KerasTensor) else x
        )
        made = None if change is None else change(call, args, kwargs)
        made = call.operation(*args, **kwargs) if made is None else made
        for old, new in zip(call.outputs, tree.flatten(made), strict=True):
            values.setdefault(id(old), new)


def _tail(graph: Graph, starts: list[Any], name: str) -> keras.Model:
    _refuse_missing(graph, starts)
    inputs, given = _inputs(graph, starts)
    values = {id(start): tensor for start, tensor in zip(starts, given, strict=True)}
    replay(_needed(graph, starts), values)
    return join(inputs, tree.map_structure(lambda t: values[id(t)], graph.outputs), name)


def _needed(graph: Graph, starts: list[Any]) -> list[Call]:
    """Calls between the starts and the outputs. By node, not by layer, which may stand elsewhere too."""
    begin = {id(tensor) for tensor in starts}
    wanted = {id(tensor) for tensor in tree.flatten(graph.outputs)} - begin
    kept = []
    for call in reversed(graph.calls):
        if any(id(tensor) in wanted for tensor in call.outputs):
            kept.append(call)
            wanted |= {id(tensor) for tensor in call.inputs} - begin
    return kept[::-1]


def _missing(graph: Graph, starts: list[Any]) -> list[Any]:
    """Tensors that reach the outputs, or calls after the starts, and do not come from the starts."""
    after = {id(tensor) for tensor in starts}
    needed = _needed(graph, starts)
    for call in graph.calls:
        if not call.is_input and any(id(tensor) in after for tensor in call.inputs):
            after |= {id(tensor) for tensor in call.outputs}
    missing: dict[int, Any] = {}
    for call in needed:
        if any(id(tensor) in after for tensor in call.inputs):
            missing |= {id(tensor): tensor for tensor in call.inputs if id(tensor) not in after}
    missing |= {id(tensor): tensor for tensor in tree.flatten(graph.outputs) if id(tensor) not in after}
    return list(missing.values())


def _refuse_missing(graph: Graph, starts: list[Any]) -> None:
    missing = _missing(graph, starts)
    if missing:
        cut, lacking = (", ".join(graph.address[id(t)] for t in tensors) for tensors in (starts, missing))
        raise ConfigError(
            f"the cut of {graph.model.name} at {cut} is by-passed: {lacking} also lead to its outputs. Cut there too: "
            f"at=[{cut}, {lacking}], or say complete=True."
        )


def _ordered(graph: Graph, tensors: list[Any]) -> list[Any]:
    """In the order of the graph, so that a completed cut does not depend on how it was found."""
    wanted = {id(tensor) for tensor in tensors}
    return [tensor for tensor in graph.tensors.values() if id(tensor) in wanted]


def _names(graph: Graph, starts: list[Any]) -> dict[int, str]:
    """Of the inputs of a tail: their addresses, unless a layer of that name stands in the tail."""
    taken = {call.operation.name for call in _needed(graph, starts)}
    addresses = {id(tensor): graph.address[id(tensor)] for tensor in starts}
    return {key: f"{address}_input" if address in taken else address for key, address in addresses.items()}


def _inputs(graph: Graph, starts: list[Any]) -> tuple[Any, list[Any]]:
    """New inputs for the starts, one tensor or a dict; and as a list in their order (Keras sorts dicts)."""
    names = _names(graph, starts)
    # Keras calls x * 2 sparse; nothing is in a model that takes nothing sparse.
    sparse = any(tensor.sparse for tensor in tree.flatten(graph.inputs))
    made = {}
    for tensor in starts:
        maker = graph.maker[id(tensor)].operation
        optional = bool(getattr(maker, "optional", False) or getattr(maker, "gives_none", False))
        made[names[id(tensor)]] = keras.Input(
            batch_shape=tensor.shape,
            dtype=tensor.dtype,
            sparse=sparse and tensor.sparse,
            name=names[id(tensor)],
            optional=optional,
        )
    given = list(made.values())
    single = len(given) == 1 and not given[0]._keras_history.operation.optional
    return given[0] if single else made, given


def _given(graph: Graph, starts: list[Any], inputs: Any) -> list[Any]:
    """The user's tensors in the order of the starts, with shapes that can be meant."""
    if isinstance(inputs, dict):
        names = [graph.address[id(tensor)] for tensor in starts]
        if set(inputs) != set(names):
            raise ConfigError(f"inputs must have the names {', '.join(names)}. Received: {', '.join(inputs)}")
        given = [inputs[name] for name in names]
    else:
        given = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    if len(given) != len(starts):
        raise ConfigError(f"there are {len(starts)} tensors to begin at. Received: {len(given)} inputs")
    for tensor, start in zip(given, starts, strict=True):
        same = len(tensor.shape) == len(start.shape)
        if not same or any(None not in (a, b) and a != b for a, b in zip(tensor.shape, start.shape, strict=True)):
            raise ConfigError(
                f"the tensor in place of {graph.address[id(start)]} must be of shape {start.shape}. "
                f"Received: shape {tensor.shape}"
            )
    return given
