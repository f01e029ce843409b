"""A functional model as a list of calls and tensors with addresses."""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import keras
from keras import tree

from kexue.errors import ConfigError

__all__ = ["Call", "Graph", "Nth", "addresses", "has_graph", "search"]


@dataclass(frozen=True)
class Nth:
    """The call number ``index``, from 0 or from the end, among the calls of layers of a class, in order of execution.

    The names of layers change between versions of Keras; ``Nth(keras.layers.Add, 14)`` is the fifteenth residual
    addition of a ResNet50 in all of them.
    """

    kind: type
    index: int


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer or operation: a node of the graph. A layer that is called twice has two."""

    address: str
    node: Any
    operation: Any

    @property
    def inputs(self) -> list[Any]:
        """Tensors among the arguments, of keyword arguments too, in order."""
        return list(self.node.input_tensors)

    @property
    def outputs(self) -> list[Any]:
        return list(self.node.outputs)

    @property
    def is_input(self) -> bool:
        return isinstance(self.operation, keras.layers.InputLayer)


class Graph:
    """Calls of a functional model in order of execution, and their tensors by address.

    A call's address is the layer's name; of a layer that this model calls several times, the name with ``#1``, ``#2``
    ... A tensor's address is that of its call, with ``:0``, ``:1`` ... where the call gives several.

    Args:
        model: a functional or built sequential model.

    Raises:
        ConfigError: the model has no graph.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.function = model, _functional(model)
        self.inputs = self.function._inputs_struct
        self.outputs = self.function._outputs_struct
        self.calls: list[Call] = []
        by_depth = self.function._nodes_by_depth
        # Keras lists calls of the same depth backwards.
        nodes = [node for depth in sorted(by_depth, reverse=True) for node in reversed(by_depth[depth])]
        totals = Counter(id(node.operation) for node in nodes)
        counts: Counter[int] = Counter()
        for node in nodes:
            key = id(node.operation)
            counts[key] += 1
            address = node.operation.name + (f"#{counts[key]}" if totals[key] > 1 else "")
            self.calls.append(Call(address, node, node.operation))
        self.by_address = {call.address: call for call in self.calls}
        self.tensors: dict[str, Any] = {}
        self.maker: dict[int, Call] = {}
        self.address: dict[int, str] = {}
        for call in self.calls:
            for n, tensor in enumerate(call.outputs):
                address = f"{call.address}:{n}" if len(call.outputs) > 1 else call.address
                self.tensors[address] = tensor
                self.maker[id(tensor)] = call
                self.address[id(tensor)] = address

    def users(self, tensor: Any) -> list[Call]:
        """Calls that take the tensor."""
        return [call for call in self.calls if any(t is tensor for t in call.inputs)]

    def find_calls(self, what: Any) -> list[Call]:
        """Calls meant by a name, a pattern (``block_*_attention``), a layer, an `Nth`, a tensor, or a list of these.

        A layer's name or the layer itself means all its calls; ``name#1`` the first alone.

        Raises:
            ConfigError: nothing is meant.
        """
        if isinstance(what, list | tuple | set | frozenset):
            return _unique(call for one in _some(what) for call in self.find_calls(one))
        if isinstance(what, Nth):
            kind = [call for call in self.calls if isinstance(call.operation, what.kind)]
            if not -len(kind) <= what.index < len(kind):
                raise ConfigError(
                    f"{self.model.name} has {len(kind)} calls of {what.kind.__name__}. Received: index {what.index}"
                )
            return [kind[what.index]]
        if isinstance(what, keras.KerasTensor):
            return [self.maker[id(self._own(what))]]
        if isinstance(what, str):
            name = what if what in self.by_address else what.removesuffix("#1")
            if name in self.by_address:
                return [self.by_address[name]]
            found = [
                call for call in self.calls if fnmatchcase(call.address, what) or fnmatchcase(call.operation.name, what)
            ]
        else:
            found = [call for call in self.calls if call.operation is what]
        if not found:
            raise self._unknown(what, [call.address for call in self.calls])
        return found

    def find_tensors(self, what: Any) -> list[Any]:
        """Tensors meant by addresses, patterns, layers, `Nth`, tensors, or a list of these; see `find_calls`.

        A layer's name means the output of its only call; where it is called several times, say which.
        """
        if isinstance(what, list | tuple | set | frozenset):
            found = [tensor for one in _some(what) for tensor in self.find_tensors(one)]
            return list({id(tensor): tensor for tensor in found}.values())
        if isinstance(what, keras.KerasTensor):
            return [self._own(what)]
        if isinstance(what, str):
            name, *output = what.split(":")
            name = name if name in self.by_address else name.removesuffix("#1")
            exact = ":".join([name, *output])
            if exact in self.tensors:
                return [self.tensors[exact]]
            again = [call for call in self.calls if call.operation.name == name and call.address != name]
            if not again and name not in self.by_address:
                matching = [
                    tensor
                    for address, tensor in self.tensors.items()
                    if fnmatchcase(address, what) or fnmatchcase(self._bare(address), what)
                ]
                if not matching:
                    raise self._unknown(what, list(self.tensors))
                return matching
            if output and f"{again[0].address if again else name}:{output[0]}" not in self.tensors:
                raise self._unknown(what, list(self.tensors))
            calls, which = again or [self.by_address[name]], ":".join(["", *output])
        else:
            calls, which = self.find_calls(what), ""
        if len(calls) > 1:
            names = ", ".join(f"{call.address}{which}" for call in calls)
            raise ConfigError(
                f"{calls[0].operation.name} is called {len(calls)} times: say which output is meant, of {names}."
            )
        return calls[0].outputs

    def find_tensor(self, what: Any) -> Any:
        """The one tensor that is meant."""
        found = self.find_tensors(what)
        if len(found) > 1:
            raise ConfigError(f"one tensor is wanted, {what!r} means {', '.join(self.address[id(t)] for t in found)}.")
        return found[0]

    def _bare(self, address: str) -> str:
        """A tensor's address without the number of the call."""
        tensor = self.tensors[address]
        return address.replace(self.maker[id(tensor)].address, self.maker[id(tensor)].operation.name, 1)

    def _own(self, tensor: Any) -> Any:
        if id(tensor) not in self.maker:
            raise ConfigError(
                f"the tensor {tensor.name!r} is not of the graph of {self.model.name}. A layer's `output` is that of "
                "its first call anywhere; name the layer instead."
            )
        return tensor

    def _unknown(self, what: Any, known: Sequence[str]) -> ConfigError:
        name = what if isinstance(what, str) else getattr(what, "name", repr(what))
        near = difflib.get_close_matches(name, known, 5, 0.4)
        hint = f" Near are: {', '.join(near)}." if near else ""
        for inner in {id(c.operation): c.operation for c in self.calls if has_graph(c.operation)}.values():
            if name in {call.operation.name for call in Graph(inner).calls}:
                hint = (
                    f" It is a layer inside the nested model {inner.name}, which surgery takes as a model of its own."
                )
        return ConfigError(f"{self.model.name} has nothing called {name!r}.{hint} `addresses(model)` lists all.")


def addresses(model: Any) -> list[str]:
    """Addresses of all tensors of a model, in order of execution: layer names, with ``#1``, ``#2`` ... for the calls of
    a layer that is called several times, and ``:0``, ``:1`` where a call gives several tensors."""
    return list(Graph(model).tensors)


def search(start: Any, name: str) -> Any:
    """The layer called ``name`` (or matching the pattern) at or above ``start``.

    Walks upwards from a tensor, a layer or the outputs of a model, depth first, and looks into nested models.

    Args:
        start: a symbolic tensor, a layer or a model.
        name: of a layer, or a pattern such as ``"*_attention"``.

    Raises:
        ConfigError: there is none.
    """
    seen: set[int] = set()
    names: list[str] = []
    stack = [start] if isinstance(start, keras.Operation) else list(reversed(tree.flatten(start)))
    while stack:
        item = stack.pop()
        if isinstance(item, keras.KerasTensor):
            operation, index, _ = item._keras_history
            nodes = [] if operation is None else [operation._inbound_nodes[index]]
        else:
            operation, nodes = item, item._inbound_nodes
        if operation is not None and id(operation) not in seen:
            seen.add(id(operation))
            names.append(operation.name)
            if fnmatchcase(operation.name, name):
                return operation
            if has_graph(operation):
                nodes = [*nodes, *(call.node for call in reversed(Graph(operation).calls))]
        for node in nodes:
            if id(node) not in seen:
                seen.add(id(node))
                stack += [node.operation, *reversed(node.input_tensors)]
    near = difflib.get_close_matches(name, names, 5, 0.4)
    raise ConfigError(
        f"there is no layer {name!r} at or above {getattr(start, 'name', start)}."
        + (f" Near are: {', '.join(near)}." if near else "")
    )


def has_graph(operation: Any) -> bool:
    """A functional model, or a sequential one that is built."""
    return getattr(operation, "_nodes_by_depth", None) is not None or (
        isinstance(operation, keras.Sequential) and operation._functional is not None
    )


def _some(what: Any) -> Any:
    """The list itself, which must not be empty."""
    if not what:
        raise ConfigError("name at least one layer or tensor. Received: an empty list")
    return what


def _unique(calls: Iterable[Call]) -> list[Call]:
    return list({call.address: call for call in calls}.values())


def _functional(model: Any) -> Any:
    """What holds the graph: the model itself, or what a sequential model builds."""
    if isinstance(model, keras.Sequential):
        if getattr(model, "_functional", None) is None:
            raise ConfigError(f"{model.name} is not built yet: give it an Input, or call it once.")
        return model._functional
    if getattr(model, "_nodes_by_depth", None) is None:
        raise ConfigError(
            f"surgery needs a functional or sequential model, which knows its graph. Received: {type(model).__name__}"
        )
    return model
