"""Decoding: a cache for every model, greedy, sampling and beam search, constraints, streams."""

from kexue._lazy import names_from

_HOME = {
    "Beam": "search",
    "Generated": "generation",
    "Generation": "generation",
    "Greedy": "search",
    "Sample": "search",
    "generate": "generation",
    "stream": "generation",
}

__all__ = ["Beam", "Generated", "Generation", "Greedy", "Sample", "generate", "stream"]


__getattr__ = names_from(__name__, _HOME)
