"""Tasks: what a user trains and ships, each with ``fit``, ``evaluate``, ``predict``, ``save`` and ``load``."""

from importlib import import_module
from typing import Any

_HOME = {"NER": "ner"}

__all__ = ["NER"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
