"""Layers inserted, replaced, taken out or shared in the middle of a model."""

from collections.abc import Callable
from typing import Any

import keras
from keras import tree

from kexue.errors import ConfigError
from kexue.models.surgery.graph import Call, Graph
from kexue.models.surgery.parts import join, replay

__all__ = ["bypass", "insert_after", "insert_before", "replace", "share"]

Change = Callable[[Call, Any, Any], Any]


def insert_after(model: keras.Model, at: Any, layer: Any, *, name: str | None = None) -> keras.Model:
    """The model in which all who took a tensor take ``layer`` of it.

    Args:
        model: functional or sequential; stays as it is.
        at: one or more tensors; see `kexue.models.surgery.extract`. An input's name means the input.
        layer: a layer, the same one wherever it is inserted; or a function ``address -> layer``, for a new one at each
            place.
        name: of the result.

    Returns:
        A model that shares the variables of all other layers.

    Raises:
        ConfigError: there is no such tensor, or the next layers cannot take what the new one gives.
    """
    graph = Graph(model)
    values: dict[int, Any] = {}
    made: dict[int, Any] = {}
    for tensor in graph.find_tensors(at):
        made[id(tensor)] = _make(layer, graph.address[id(tensor)])
        if graph.maker[id(tensor)].is_input:
            values[id(tensor)] = _apply(made[id(tensor)], tensor)

    def change(call: Call, args: Any, kwargs: Any) -> Any:
        if not any(id(tensor) in made for tensor in call.outputs):
            return None
        outputs = call.outputs
        if any(tensor is not values.get(id(tensor), tensor) for tensor in call.inputs):
            outputs = tree.flatten(call.operation(*args, **kwargs))
        return [
            _apply(made[id(old)], new) if id(old) in made else new
            for old, new in zip(call.outputs, outputs, strict=True)
        ]

    changed = [call for call in graph.calls if any(id(tensor) in made for tensor in call.outputs) and not call.is_input]
    return _rebuild(graph, changed, change, values, name)


def insert_before(
    model: keras.Model, at: Any, layer: Any, *, input: int | None = None, name: str | None = None
) -> keras.Model:
    """The model in which one layer takes ``layer`` of what it took; others still take the tensor as it was.

    Args:
        model: functional or sequential; stays as it is.
        at: a layer's name (all its calls; ``name#2`` the second alone), a pattern, a layer, an `Nth`, or a list.
        layer: see `insert_after`.
        input: which of the layer's input tensors, counted through its arguments; the first unless there are several
            that are alike, as in `keras.layers.Add`.
        name: of the result.

    Raises:
        ConfigError: see `insert_after`; or ``input`` is needed and not given.
    """
    graph = Graph(model)
    changed = graph.find_calls(at)
    made = {call.address: _make(layer, call.address) for call in changed}

    def change(call: Call, args: Any, kwargs: Any) -> Any:
        if call.address not in made:
            return None
        place, count = _which(call, input), -1

        def enter(x: Any) -> Any:
            nonlocal count
            if not isinstance(x, keras.KerasTensor):
                return x
            count += 1
            return _apply(made[call.address], x) if count == place else x

        args, kwargs = tree.map_structure(enter, (args, kwargs))
        return call.operation(*args, **kwargs)

    return _rebuild(graph, changed, change, {}, name)


def replace(model: keras.Model, what: Any, layer: Any, *, name: str | None = None) -> keras.Model:
    """The model with other layers in place of some, called with the same arguments.

    Args:
        model: functional or sequential; stays as it is.
        what: layers; see `insert_before`.
        layer: the layer instead; or a function ``old layer -> new layer``, called once for each layer, as in
            ``replace(model, "block_*_feedforward", lambda old: LowRank(old, rank=4))``, which wraps them.
        name: of the result.

    Raises:
        ConfigError: there is no such layer, or the next layers cannot take what the new one gives.
    """
    graph = Graph(model)
    changed = graph.find_calls(what)
    made: dict[int, Any] = {}
    for call in changed:
        if id(call.operation) not in made:
            new = layer if isinstance(layer, keras.Operation) else layer(call.operation)
            made[id(call.operation)] = _layer(new, f"the replacement of {call.address}")
    chosen = {call.address for call in changed}

    def change(call: Call, args: Any, kwargs: Any) -> Any:
        if call.address not in chosen:
            return None
        outputs = made[id(call.operation)](*args, **kwargs)
        if len(tree.flatten(outputs)) != len(call.outputs):
            raise ConfigError(
                f"{call.address} gives {len(call.outputs)} tensors. Received: a layer that gives "
                f"{len(tree.flatten(outputs))}"
            )
        return outputs

    return _rebuild(graph, changed, change, {}, name)


def share(model: keras.Model, what: Any, *, name: str | None = None) -> keras.Model:
    """The model in which the first of some layers stands in place of all of them: one set of weights.

    Args:
        model: functional or sequential; stays as it is.
        what: layers of one kind and shape, such as ``"block_*_feedforward"``; see `insert_before`.
        name: of the result.

    Raises:
        ConfigError: the layers are not of one class, or there is only one.
    """
    graph = Graph(model)
    layers = list({id(call.operation): call.operation for call in graph.find_calls(what)}.values())
    kinds = sorted({type(layer).__name__ for layer in layers})
    if len(layers) < 2 or len(kinds) > 1:
        raise ConfigError(
            f"share needs two layers or more, all of one class. Received: {len(layers)} of {', '.join(kinds)}"
        )
    shapes = [[tuple(weight.shape) for weight in layer.weights] for layer in layers]
    for layer, theirs in zip(layers, shapes, strict=True):
        if theirs != shapes[0]:
            raise ConfigError(
                f"{layers[0].name} cannot stand in for {layer.name}: its weights are {shapes[0]}, not {theirs}."
            )
    return replace(model, layers[1:], layers[0], name=name)


def bypass(model: keras.Model, what: Any, *, input: int | None = None, name: str | None = None) -> keras.Model:
    """The model without some calls: what they would take goes on in place of what they gave.

    Args:
        model: functional or sequential; stays as it is.
        what: layers; see `insert_before`.
        input: which of the input tensors goes on; see `insert_before`.
        name: of the result.

    Raises:
        ConfigError: a call gives several tensors, or one of another shape than it takes.
    """
    graph = Graph(model)
    changed = graph.find_calls(what)
    chosen = {call.address for call in changed}
    for call in changed:
        if call.is_input or len(call.outputs) != 1:
            raise ConfigError(f"{call.address} cannot be by-passed: it has {len(call.outputs)} outputs, or no inputs.")
        taken, given = call.inputs[_which(call, input)], call.outputs[0]
        if not _fits(taken, given):
            raise ConfigError(
                f"{call.address} cannot be by-passed: it takes {tuple(taken.shape)} {taken.dtype} and gives "
                f"{tuple(given.shape)} {given.dtype}. Replace it by a layer that does so."
            )

    def change(call: Call, args: Any, kwargs: Any) -> Any:
        if call.address not in chosen:
            return None
        tensors = [x for x in tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
        return [tensors[_which(call, input)]]

    return _rebuild(graph, changed, change, {}, name)


def _rebuild(
    graph: Graph, changed: list[Call], change: Change, values: dict[int, Any], name: str | None
) -> keras.Model:
    """Make the changed calls, and those after them, again; what stands before is taken as it is."""
    again, dirty = [], set(values)
    for call in graph.calls:
        if call in changed or (not call.is_input and any(id(tensor) in dirty for tensor in call.inputs)):
            again.append(call)
            dirty |= {id(tensor) for tensor in call.outputs}
    try:
        replay(again, values, change)
        outputs = tree.map_structure(lambda t: values.get(id(t), t), graph.outputs)
        return join(graph.inputs, outputs, name or graph.model.name)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{graph.model.name} cannot be rebuilt so: {error}") from error


def _make(layer: Any, address: str) -> Any:
    return layer if isinstance(layer, keras.Operation) else _layer(layer(address), f"the layer at {address}")


def _layer(made: Any, what: str) -> Any:
    if not isinstance(made, keras.Operation):
        raise ConfigError(f"{what} must be a Keras layer. Received: {type(made).__name__}")
    return made


def _apply(layer: Any, tensor: Any) -> Any:
    made = tree.flatten(layer(tensor))
    if len(made) != 1:
        raise ConfigError(f"{layer.name} must give one tensor. Received: {len(made)}")
    return made[0]


def _which(call: Call, input: int | None) -> int:
    """Index among the tensors of a call: the given one, or that of the first argument."""
    count = len(call.inputs)
    if input is None:
        first = next(iter([*call.node.arguments.args, *call.node.arguments.kwargs.values()]), None)
        if count == 1 or isinstance(first, keras.KerasTensor):
            return 0
        names = ", ".join(tensor._keras_history.operation.name for tensor in call.inputs)
        raise ConfigError(f"{call.address} takes {count} tensors alike ({names}): say which by input=0, 1 ...")
    if not 0 <= input < count:
        raise ConfigError(f"{call.address} takes {count} tensors. Received: input={input}")
    return input


def _fits(taken: Any, given: Any) -> bool:
    if taken.dtype != given.dtype or len(taken.shape) != len(given.shape):
        return False
    return all(a == b or a is None or b is None for a, b in zip(taken.shape, given.shape, strict=True))
