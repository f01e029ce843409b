"""Text out of models: a cache for every model, greedy, sampling and beam search, constraints, streams.

`search` samples by Markov chains and `nbce` reads many contexts at once; both are packages to import from.
"""

from kexue._lazy import names_from

_HOME = {
    "Beam": "strategies",
    "Generated": "generation",
    "Generation": "generation",
    "Greedy": "strategies",
    "Guidance": "guidance",
    "Sample": "strategies",
    "generate": "generation",
    "stream": "generation",
}

__all__ = ["Beam", "Generated", "Generation", "Greedy", "Guidance", "Sample", "generate", "stream"]


__getattr__ = names_from(__name__, _HOME)
