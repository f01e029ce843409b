"""Which tokens of a distribution may be drawn, and a draw by its distribution function."""

from typing import Any

import keras
from keras import ops

from kexue.decoding.filters_numpy import sorted_nucleus

__all__ = ["draw", "nucleus"]

DEPTH = 100.0
"""Tokens that are less probable than the first by more than this, as a logarithm, are outside every nucleus."""
HALVINGS = 32
"""They leave an interval far below the spacing of float32 numbers of this size."""


def nucleus(log_p: Any, p: Any) -> Any:
    """Tokens of top-p: those for which all likelier ones have less than ``p`` of the mass together.

    At least one token is; equally probable tokens are all in it or none. In a compiled program the edge is found by
    halving an interval: some tens of sums, where XLA's sort of a whole vocabulary takes as long as a small model.

    Args:
        log_p: ``(..., vocabulary)`` log probabilities, not necessarily normalised.
        p: a number or scalar tensor in (0, 1].

    Returns:
        Booleans ``(..., vocabulary)``.

    Source: Holtzman et al., arXiv 1904.09751.
    """
    if keras.backend.backend() == "torch" and log_p.device.type == "cpu":  # NumPy sorts faster, 30 times with AVX-512
        return ops.convert_to_tensor(sorted_nucleus(log_p.numpy(force=True), float(p)))
    top = ops.max(log_p, axis=-1, keepdims=True)
    masses = ops.exp(log_p - top)
    goal = p * ops.sum(masses, axis=-1, keepdims=True)

    def halve(_: Any, ends: tuple[Any, Any]) -> tuple[Any, Any]:
        below, above = ends
        middle = (below + above) / 2
        beyond = ops.sum(ops.where(log_p > middle, masses, 0.0), axis=-1, keepdims=True)
        enough = beyond >= goal
        return ops.where(enough, middle, below), ops.where(enough, above, middle)

    edge, _ = ops.fori_loop(0, HALVINGS, halve, (top - DEPTH, top))
    return log_p > edge


def draw(p: Any, number: Any) -> Any:
    """The token at a uniform number, by the inverse of the distribution function.

    Args:
        p: ``(..., vocabulary)`` probabilities, not necessarily normalised.
        number: ``(..., 1)`` in [0, 1).

    Returns:
        ``(...)`` integers.
    """
    # XLA sums in a tree: rounding may let the sum grow where p is 0, and what cannot be drawn must not be.
    total = ops.where(p > 0, ops.cumsum(p, axis=-1), 0.0)
    return ops.argmax(ops.cast(total > number * ops.max(total, axis=-1, keepdims=True), "int32"), axis=-1)
