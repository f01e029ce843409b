"""The mask of parallel context windows."""

from typing import Any

from kexue.nn.masks import Mask, Tokens

__all__ = ["ParallelWindows"]


class ParallelWindows(Mask):
    """Contexts see themselves, causally; the task sees everything before it.

    The batch's ``order`` holds the number of each token's window, from 0, and -1 for the task.
    """

    needs = frozenset({"index", "rank"})

    def rule(self, q: Tokens, k: Tokens) -> Any:
        return (k.index <= q.index) & ((k.rank == q.rank) | (q.rank < 0))
