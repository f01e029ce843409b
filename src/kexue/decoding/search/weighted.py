"""Samples from one law used for another: importance and rejection sampling (kexue.fm 8062)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kexue.decoding.search.diagnostics import weights_ess
from kexue.decoding.search.states import Batch, Density, Seed, checked_scores, copied, generator
from kexue.errors import ConfigError

__all__ = ["Rejected", "Weighted", "importance", "rejection"]


@dataclass(frozen=True, eq=False)
class Weighted:
    """Samples with weights.

    Attributes:
        states: as given.
        log_weights: (n,), normalised: their exponentials sum to 1.
        log_mean_weight: log of the mean of rho / q, an estimate of log(Z_rho / Z_q).
        ess: (sum w)^2 / sum w^2.
    """

    states: Batch
    log_weights: np.ndarray
    log_mean_weight: float
    ess: float

    def expect(self, function: Callable[[Batch], Any]) -> Any:
        """Estimate of E[f]: ``sum_i w_i f(x_i)``; ``function`` maps the states to ``(n, ...)``."""
        values = np.asarray(function(self.states), "float64")
        return np.tensordot(np.exp(self.log_weights), values, axes=1)

    def resample(self, count: int, seed: Seed = None) -> Batch:
        """``count`` states drawn with their weights, by systematic resampling."""
        edges = np.cumsum(np.exp(self.log_weights))
        points = (generator(seed).random() + np.arange(count)) / count
        picks = np.minimum(np.searchsorted(edges, points, side="right"), len(edges) - 1)
        return self.states[picks] if isinstance(self.states, np.ndarray) else [self.states[i] for i in picks]


def importance(states: Batch, log_target: Density, log_proposal: Density) -> Weighted:
    """Self-normalised importance weights ``w = rho / q`` of samples of q.

    Args:
        states: samples drawn from q.
        log_target: log rho, unnormalised.
        log_proposal: log q, unnormalised.

    Raises:
        ConfigError: densities of wrong shape, q zero at a sample, or rho zero at all of them.
    """
    states = copied(states)
    target = checked_scores(log_target(states), len(states), "log_target")
    proposal = checked_scores(log_proposal(states), len(states), "log_proposal")
    if not np.isfinite(proposal).all():
        raise ConfigError("log_proposal is minus infinity at a sample, which q cannot have drawn.")
    logs = target - proposal
    top = logs.max(initial=-np.inf)
    if not np.isfinite(top):
        raise ConfigError("the target is zero at all samples. Draw more, or from a proposal that is nearer to it.")
    total = top + np.log(np.exp(logs - top).sum())
    return Weighted(states, logs - total, float(total - np.log(len(logs))), weights_ess(logs))


@dataclass(frozen=True, eq=False)
class Rejected:
    """What rejection sampling gave.

    Attributes:
        states: accepted ones; an array, or a list.
        proposals: how many were drawn, the last batch whole.
        acceptance: share of them that was accepted; 1/M for normalised densities.
    """

    states: Batch
    proposals: int
    acceptance: float


def rejection(
    draw: Callable[[int, np.random.Generator], Batch],
    log_target: Density,
    log_proposal: Density,
    log_bound: float,
    count: int,
    *,
    batch: int = 1024,
    max_proposals: int | None = None,
    seed: Seed = None,
) -> Rejected:
    """Exact samples of rho: draw from q, accept with ``rho / (M q)``.

    Args:
        draw: ``(count, rng) -> states`` of q.
        log_target: log rho, unnormalised.
        log_proposal: log q, unnormalised.
        log_bound: log M with ``rho <= M q`` everywhere.
        count: how many samples to return.
        batch: proposals drawn at a time.
        max_proposals: give up after so many.
        seed: of all random numbers.

    Raises:
        ConfigError: ``rho > M q`` was seen: the bound is too small; or ``max_proposals`` was reached.
    """
    if count < 1 or batch < 1:
        raise ConfigError(f"count and batch must be at least 1. Received: count={count}, batch={batch}")
    rng = generator(seed)
    kept: list[Any] = []
    array = False
    drawn = accepted = 0
    while len(kept) < count:
        if max_proposals is not None and drawn >= max_proposals:
            raise ConfigError(
                f"{len(kept)} of {count} samples after {drawn} proposals. Raise max_proposals, lower the bound or take "
                "a proposal nearer to the target."
            )
        states = draw(batch, rng)
        array = isinstance(states, np.ndarray)
        proposal = checked_scores(log_proposal(states), batch, "log_proposal")
        if not np.isfinite(proposal).all():
            raise ConfigError("log_proposal is minus infinity at a sample, which q cannot have drawn.")
        ratio = checked_scores(log_target(states), batch, "log_target") - proposal
        worst = ratio.max()
        if worst > log_bound + 1e-9 * max(1.0, abs(log_bound)):
            raise ConfigError(f"log(rho / q) reached {worst:.6g}, above log_bound={log_bound:.6g}. Raise the bound.")
        with np.errstate(divide="ignore"):
            good = np.flatnonzero(np.log(rng.random(batch)) < ratio - log_bound)
        drawn += batch
        accepted += len(good)
        kept += [states[i] for i in good]
    return Rejected(np.stack(kept[:count]) if array else kept[:count], drawn, accepted / drawn)
