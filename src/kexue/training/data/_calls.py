"""One call of a function on one item, with random numbers that depend on the item and not on who makes the call."""

import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["Call", "kept_random", "takes_rng"]


def takes_rng(function: Callable[..., Any]) -> bool:
    """Whether a function has a parameter ``rng``."""
    try:
        return "rng" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # built-in functions without a signature
        return False


class Call:
    """``function(item)``, or ``function(item, rng=...)`` where it has that parameter.

    The global generators of ``random`` and ``numpy.random`` are seeded for each item too, but not in threads, which
    share them.

    Args:
        function: what to call.
        name: how an item is called in notes on exceptions: ``"item {}"``.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function, self.name = function, name
        self.rng = takes_rng(function)

    def __call__(self, entropy: Sequence[int], item: Any, *, shared: bool = False) -> Any:
        """Call for one item; ``shared``: the global generators belong to others, leave them alone."""
        if not shared:
            _seed(entropy)
        try:
            return self.function(item, rng=np.random.default_rng(entropy)) if self.rng else self.function(item)
        except BaseException as error:
            error.add_note("Raised for " + self.name.format(entropy[-1]) + ".")
            raise


def _seed(entropy: Sequence[int]) -> None:
    state = np.random.SeedSequence(entropy).generate_state(4)
    random.seed(int.from_bytes(state.tobytes(), "little"))
    np.random.seed(state)


@contextmanager
def kept_random() -> Iterator[None]:
    """Give the caller's global generators back as they were."""
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
