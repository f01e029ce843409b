"""Batches of states, whatever a state is: rows of an array, or the elements of a list."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kexue.errors import ConfigError

__all__ = [
    "Batch",
    "Density",
    "Seed",
    "accept_test",
    "checked_scores",
    "chosen",
    "copied",
    "generator",
    "seed_sequence",
    "stacked",
]

Batch = Any
"""States of several chains: an array whose first axis counts them, or a list with one object each."""

Density = Callable[[Batch], Any]
"""``states -> (chains,)`` logarithms of an unnormalised density; minus infinity where it is zero."""

Seed = int | np.random.SeedSequence | np.random.Generator | None


def generator(seed: Seed) -> np.random.Generator:
    """A source of random numbers from a seed, or the one that was given.

    Raises:
        ConfigError: no seed.
    """
    return seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed_sequence(seed))


def seed_sequence(seed: int | np.random.SeedSequence | None) -> np.random.SeedSequence:
    """What generators are seeded with, from a seed, or the one that was given.

    Raises:
        ConfigError: no seed.
    """
    try:
        return seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    except (TypeError, ValueError):
        raise ConfigError(f"seed must be an integer from 0 on, or None. Received: {seed!r:.80}") from None


def copied(states: Batch) -> Batch:
    """States that the caller's do not share memory with; a list's elements are taken as immutable."""
    if isinstance(states, np.ndarray):
        if states.ndim == 0:
            raise ConfigError("states need an axis that counts the chains. Received: an array without axes")
        return states.copy()
    if isinstance(states, Sequence) and not isinstance(states, str | bytes):
        return list(states)
    raise ConfigError(
        "states must be an array whose first axis counts the chains, or a list with one state each. "
        f"Received: {type(states).__name__}"
    )


def chosen(accepted: np.ndarray, new: Batch, old: Batch) -> Batch:
    """The new state where ``accepted`` (chains,), the old one elsewhere."""
    if isinstance(old, np.ndarray):
        new = np.asarray(new)
        return np.where(accepted.reshape(-1, *(1,) * (old.ndim - 1)), new, old)
    return [a if yes else b for yes, a, b in zip(accepted, new, old, strict=True)]


def stacked(kept: Sequence[Batch]) -> Batch:
    """States of many steps: ``(steps, chains, ...)`` for arrays, a list of lists otherwise."""
    return np.stack(kept) if kept and isinstance(kept[0], np.ndarray) else list(kept)


def checked_scores(values: Any, count: int, name: str) -> np.ndarray:
    """``(count,)`` float64 without NaN and plus infinity.

    Raises:
        ConfigError: another shape, NaN or plus infinity.
    """
    array = np.asarray(values, "float64")
    if array.shape != (count,):
        raise ConfigError(f"{name} must give one number for each of the {count} states. Received: shape {array.shape}")
    if np.isnan(array).any() or (array == np.inf).any():
        raise ConfigError(f"{name} must give finite numbers or minus infinity. Received: NaN or plus infinity")
    return array


def accept_test(log_acceptance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """True with probability min(1, exp(log_acceptance)), one draw a chain whatever the value."""
    with np.errstate(divide="ignore"):
        return np.log(rng.random(len(log_acceptance))) < log_acceptance
