"""The engine of a model: `make` gives it, `Engine` is what it can do, `Cached` the one with a cache."""

from typing import Any

from kexue.decoding.cached import Cached
from kexue.decoding.interface import Engine, State

__all__ = ["Cached", "Engine", "State", "make", "release"]


def make(model: Any, cached: bool = True, guided: bool = False) -> Engine:
    """The engine of a model, made once: with a cache, or one that runs the whole sequence at each step; and of its rows
    or of pairs of them (`kexue.decoding.guidance`).

    Raises:
        ConfigError: the model has no LM head, or ``cached`` and a part that cannot work one token at a time.
    """
    engines = model.__dict__.get("_decoding_engines")
    if engines is None:
        engines = {}
        object.__setattr__(model, "_decoding_engines", engines)
    if cached not in engines:
        from kexue.decoding.recompute import Recomputed

        engines[cached] = Cached(model) if cached else Recomputed(model)
    if guided and ("guided", cached) not in engines:
        from kexue.decoding.guidance import Guided

        engines["guided", cached] = Guided(engines[cached])
    return engines["guided", cached] if guided else engines[cached]


def release(model: Any) -> None:
    """Forget the engines of a model: compiled loops, and on PyTorch the packed copies of its matrices."""
    model.__dict__.pop("_decoding_engines", None)
