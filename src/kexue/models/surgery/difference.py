"""What distinguishes two graphs."""

import json
from dataclasses import dataclass, field
from typing import Any

import keras

from kexue.models.surgery.graph import Call, Graph

__all__ = ["GraphDiff", "diff"]


@dataclass(frozen=True)
class GraphDiff:
    """Calls of two models compared by address; ``str`` of it is one line for each that differs.

    Attributes:
        names: of the models.
        added: lines about calls that only the second model has.
        removed: lines about calls that only the first one has.
        changed: ``(address, what differs)``.
        same: number of calls that are equal in class, configuration, inputs and output shapes.
        parameters: of the first and the second model, each variable once.
        shared: parameters in variables that both have.
    """

    names: tuple[str, str]
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[tuple[str, list[str]]] = field(default_factory=list)
    same: int = 0
    parameters: tuple[int, int] = (0, 0)
    shared: int = 0

    def __bool__(self) -> bool:
        """The graphs differ."""
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        lines = [f"--- {self.names[0]}", f"+++ {self.names[1]}"]
        lines += [f"- {line}" for line in self.removed] + [f"+ {line}" for line in self.added]
        for address, what in self.changed:
            lines += [f"~ {address}", *(f"    {line}" for line in what)]
        before, after = self.parameters
        lines.append(f"= {self.same} equal calls; parameters {before:,} -> {after:,}, {self.shared:,} of them shared")
        return "\n".join(lines)


def diff(a: keras.Model, b: keras.Model) -> GraphDiff:
    """Compare two functional or sequential models, call by call.

    Args:
        a: the first.
        b: the second, perhaps made of it by surgery.

    Raises:
        ConfigError: a model has no graph.
    """
    first, second = Graph(a), Graph(b)
    changed, same = [], 0
    for address, call in first.by_address.items():
        if address not in second.by_address:
            continue
        what = _compare(first, call, second, second.by_address[address])
        if what:
            changed.append((address, what))
        same += not what
    weights = [{id(w): w for w in model.weights} for model in (a, b)]
    counts = [sum(_size(w) for w in each.values()) for each in weights]
    return GraphDiff(
        (a.name, b.name),
        added=[_line(second, c) for n, c in second.by_address.items() if n not in first.by_address],
        removed=[_line(first, c) for n, c in first.by_address.items() if n not in second.by_address],
        changed=changed,
        same=same,
        parameters=(counts[0], counts[1]),
        shared=sum(_size(w) for key, w in weights[1].items() if key in weights[0]),
    )


def _size(weight: Any) -> int:
    size = 1
    for n in weight.shape:
        size *= n
    return size


def _line(graph: Graph, call: Call) -> str:
    takes = ", ".join(_inputs(graph, call)) or "nothing"
    return f"{call.address}: {type(call.operation).__name__} of {takes} gives {_shapes(call)}"


def _compare(first: Graph, a: Call, second: Graph, b: Call) -> list[str]:
    pairs = {
        "class": (type(a.operation).__name__, type(b.operation).__name__),
        "inputs": (", ".join(_inputs(first, a)), ", ".join(_inputs(second, b))),
        "gives": (_shapes(a), _shapes(b)),
    }
    lines = [f"{what}: {old} -> {new}" for what, (old, new) in pairs.items() if old != new]
    if a.operation is not b.operation and pairs["class"][0] == pairs["class"][1]:
        old, new = (_config(call.operation) for call in (a, b))
        lines += [f"{key}: {old.get(key)} -> {new.get(key)}" for key in old | new if old.get(key) != new.get(key)]
    return lines


def _inputs(graph: Graph, call: Call) -> list[str]:
    return [graph.address[id(tensor)] for tensor in call.inputs]


def _shapes(call: Call) -> str:
    return ", ".join(str(tuple(tensor.shape)) for tensor in call.outputs)


def _config(operation: Any) -> dict[str, str]:
    """Configuration as text by key; empty where an operation has none."""
    try:
        config = keras.saving.serialize_keras_object(operation)["config"]
    except (TypeError, ValueError, NotImplementedError):
        return {}
    return {key: json.dumps(value, sort_keys=True, default=str) for key, value in config.items() if key != "name"}
