"""Inner tensors of layers, handed out to whoever collects them.

A layer offers a tensor under a name, ``offer(self, "probabilities", p)``. Outside `collecting` that does nothing and
costs nothing. Inside, the tensors are gathered under ``"layer name/name"``; called within a traced function they are
tracers, to be returned as further outputs of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["collecting", "offer", "wanted"]

_active: ContextVar[tuple[frozenset[str], dict[str, Any]] | None] = ContextVar("taps", default=None)


def wanted(*names: str) -> bool:
    """Someone collects one of these; asked by layers that make the tensor only then."""
    active = _active.get()
    return active is not None and any(name in active[0] for name in names)


def offer(layer: Any, name: str, value: Any) -> None:
    """Hand out ``value`` if someone collects tensors called ``name``.

    A layer that is called several times (shared blocks) gets ``#2``, ``#3`` ... after its name.
    """
    active = _active.get()
    if active is None or name not in active[0]:
        return
    key, count = f"{layer.name}/{name}", 1
    while key in active[1]:
        count += 1
        key = f"{layer.name}#{count}/{name}"
    active[1][key] = value


@contextmanager
def collecting(*names: str) -> Iterator[dict[str, Any]]:
    """Gather tensors of these names while the block runs; yields the dict that fills."""
    found: dict[str, Any] = {}
    token = _active.set((frozenset(names), found))
    try:
        yield found
    finally:
        _active.reset(token)
