"""Training: optimizers and schedules that Keras lacks, best weights, runs that go on after a kill."""

from importlib import import_module
from typing import Any

_HOME = {
    "AdamW": "optimizers",
    "BestWeights": "best",
    "Resume": "resume",
    "SteadyRandom": "steady",
    "WarmupLinear": "schedules",
    "layer_decay_rules": "optimizers",
}

__all__ = ["AdamW", "BestWeights", "Resume", "SteadyRandom", "WarmupLinear", "layer_decay_rules"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
