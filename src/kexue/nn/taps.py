"""Inner tensors of layers, handed out to whoever collects them.

A layer offers a tensor under a name and goes on with what comes back: ``p = offer(self, "probabilities", p)``. Outside
`collecting` that is ``p`` itself and costs nothing. Inside, tensors are gathered under ``"layer name/name"``; called
within a traced function they are tracers, to be returned as further outputs of it. `kexue.training.probe` does that.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from fnmatch import fnmatchcase
from typing import Any

__all__ = ["Collector", "collecting", "gathering", "matches", "offer", "wanted"]

_active: ContextVar["Collector | None"] = ContextVar("taps", default=None)


def matches(pattern: str, key: str, any_call: bool = False) -> bool:
    """``pattern`` takes ``key``: as it stands, or without the number of the call; ``any_call``: of some call."""
    pattern = re.sub(r"#\d+", "", pattern) if any_call else pattern
    return fnmatchcase(key, pattern) or fnmatchcase(re.sub(r"#\d+", "", key), pattern)


class Collector:
    """What is collected, and what was found.

    Args:
        patterns: globs for keys ``layer/name``. The second and later calls of a layer have ``#2``, ``#3`` ... after
            the layer's name; a pattern without a number takes all calls.
        names: ``id`` of a layer to its name in the keys; ``layer.name`` for others.
        change: ``(key, value)`` to the value that the layer goes on with.

    Attributes:
        found: key to tensor, in the order of the calls.
        seen: every key that was offered or asked for, without numbers.
    """

    def __init__(
        self,
        patterns: tuple[str, ...],
        names: Mapping[int, str] | None = None,
        change: Callable[[str, Any], Any] | None = None,
    ) -> None:
        self.patterns, self.names, self.change = patterns, names or {}, change
        self.found: dict[str, Any] = {}
        self.seen: dict[str, None] = {}
        self._counts: dict[str, int] = {}

    def name(self, layer: Any) -> str:
        return self.names.get(id(layer), layer.name)

    def wants(self, key: str) -> bool:
        """Any call of a layer matches; ``key`` has no number."""
        self.seen.setdefault(key)
        return any(matches(pattern, key, any_call=True) for pattern in self.patterns)

    def take(self, layer: Any, name: str, value: Any) -> Any:
        """One tensor, its ``name`` empty for the output of a layer."""
        owner = self.name(layer)
        plain = "/".join(filter(None, (owner, name)))
        self.seen.setdefault(plain)
        count = self._counts[plain] = self._counts.get(plain, 0) + 1
        key = plain if count == 1 else f"{owner}#{count}{plain[len(owner) :]}"
        if not any(matches(pattern, key) for pattern in self.patterns):
            return value
        if self.change is not None:
            value = self.change(key, value)
        self.found[key] = value
        return value


def wanted(layer: Any, *names: str) -> bool:
    """Someone collects one of these of this layer; asked by layers that make the tensor only then."""
    active = _active.get()
    if active is None:
        return False
    wants = [active.wants(f"{active.name(layer)}/{name}") for name in names]  # all of them are noted as seen
    return any(wants)


def offer(layer: Any, name: str, value: Any, *, used: bool = True) -> Any:
    """Hand out ``value`` to whoever collects it; the layer goes on with what this returns.

    Args:
        layer: that has the tensor.
        name: of the tensor within it.
        value: the tensor; not one from inside a loop or branch that the backend traces by itself.
        used: False for a tensor that was made to be looked at only, and has no gradient.
    """
    active = _active.get()
    if active is None or (active.change is not None and not used):
        return value
    return active.take(layer, name, value)


@contextmanager
def gathering(collector: Collector) -> Iterator[Collector]:
    """Fill ``collector`` while the block runs."""
    token = _active.set(collector)
    try:
        yield collector
    finally:
        _active.reset(token)


@contextmanager
def collecting(*names: str) -> Iterator[dict[str, Any]]:
    """Gather tensors of these names, of all layers, while the block runs; yields the dict that fills."""
    with gathering(Collector(tuple(f"*/{name}" for name in names))) as collector:
        yield collector.found
