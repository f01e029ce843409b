"""Simulated annealing: maximise a score by a chain that cools down (kexue.fm 8084)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kexue.decoding.search.chains import log_acceptance
from kexue.decoding.search.states import Batch, Density, Seed, accept_test, checked_scores, chosen, copied, generator
from kexue.errors import ConfigError

__all__ = ["Annealed", "Schedule", "anneal", "geometric", "hill_climbing", "linear", "logarithmic"]

Schedule = Callable[[int], float]
"""``step (from 0) -> temperature``."""


def geometric(start: float, rate: float, floor: float = 0.0) -> Schedule:
    """``start * rate^t``, not below ``floor``."""
    if not start > 0 or not 0 < rate <= 1 or floor < 0:
        raise ConfigError(f"needs start > 0, 0 < rate <= 1, floor >= 0. Received: {start}, {rate}, {floor}")
    return lambda step: max(start * rate**step, floor)


def linear(start: float, steps: int, end: float = 0.0) -> Schedule:
    """From ``start`` in a straight line to ``end`` at the last of ``steps``, and constant from there on."""
    if not start > 0 or steps < 1 or end < 0:
        raise ConfigError(f"needs start > 0, steps >= 1, end >= 0. Received: {start}, {steps}, {end}")
    return lambda step: start + (end - start) * min(step / max(steps - 1, 1), 1.0)


def logarithmic(scale: float) -> Schedule:
    """``scale / log(t + 2)``: slow enough to find the maximum for certain when ``scale`` is the depth of the deepest
    trap (Hajek 1988)."""
    if not scale > 0:
        raise ConfigError(f"needs scale > 0. Received: {scale}")
    return lambda step: scale / math.log(step + 2)


@dataclass(frozen=True, eq=False)
class Annealed:
    """What annealing found.

    Attributes:
        best: the best state of each chain.
        best_score: (chains,).
        last: the states at the end.
        last_score: (chains,).
        scores: (steps + 1, chains), the start first.
        acceptance: (chains,).
    """

    best: Batch
    best_score: np.ndarray
    last: Batch
    last_score: np.ndarray
    scores: np.ndarray
    acceptance: np.ndarray


def anneal(
    score: Density,
    propose: Callable[[Batch, np.random.Generator], Batch],
    start: Batch,
    steps: int,
    schedule: Schedule,
    *,
    seed: Seed = None,
    progress: Callable[[int, Batch, np.ndarray], None] | None = None,
) -> Annealed:
    """Maximise ``score``: accept y after x with min(1, exp((f(y) - f(x)) / T_t)), the temperature falling.

    Args:
        score: f, ``states -> (chains,)``; minus infinity forbids a state.
        propose: symmetric proposals, ``(states, rng) -> states``.
        start: one state a chain.
        steps: proposals.
        schedule: temperature of each step. Zero accepts whatever is not worse.
        seed: of all random numbers.
        progress: called with the step, the best states so far and their scores.

    Raises:
        ConfigError: a negative temperature, numbers out of range, scores of wrong shape.
    """
    states, rng = copied(start), generator(seed)
    if steps < 1 or not len(states):
        raise ConfigError(f"needs a state to start from and steps >= 1. Received: {len(states)} states, {steps} steps")
    count = len(states)
    scores = checked_scores(score(states), count, "score")
    best, best_scores, taken, history = states, scores, np.zeros(count), [scores]
    still = np.zeros(count)
    for step in range(steps):
        temperature = schedule(step)
        if not 0 <= temperature < math.inf:
            raise ConfigError(f"the schedule gave the temperature {temperature} at step {step}; expected 0 or more.")
        proposed = propose(copied(states), rng)  # which may write into them
        new = checked_scores(score(proposed), count, "score")
        log = log_acceptance("hastings", scores, new, still, still)  # not above 0
        if temperature > 0:
            with np.errstate(over="ignore"):
                log = log / temperature  # not the scores: two endless ones have no difference
        else:
            log = np.where(new >= scores, 0.0, -np.inf)
        accepted = accept_test(log, rng)
        states, scores = chosen(accepted, proposed, states), np.where(accepted, new, scores)
        better = scores > best_scores
        best, best_scores = chosen(better, states, best), np.where(better, scores, best_scores)
        taken += accepted
        history.append(scores)
        if progress is not None:
            progress(step, best, best_scores)
    return Annealed(best, best_scores, states, scores, np.stack(history), taken / steps)


def hill_climbing(
    score: Density, propose: Callable[[Batch, np.random.Generator], Batch], start: Batch, steps: int, **options: object
) -> Annealed:
    """`anneal` at temperature zero: accept whatever is not worse."""
    return anneal(score, propose, start, steps, lambda step: 0.0, **options)  # type: ignore[arg-type]
