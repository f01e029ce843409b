"""How far samples can be trusted: effective sample size, R-hat, distance of laws.

Formulas: Gelman et al., *Bayesian Data Analysis*, 3rd ed., 11.4 and 11.5; Vehtari et al. (arXiv 1903.08008), whose
split R-hat and effective sample size of several chains are computed here without rank normalisation (``rank=True``
adds it); autocorrelations are cut by Geyer's initial monotone sequence.
"""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np

from kexue.errors import ConfigError

__all__ = ["effective_sample_size", "empirical_law", "split_r_hat", "total_variation", "weights_ess"]


def weights_ess(log_weights: Any) -> float:
    """Effective number of samples with weights w: (sum w)^2 / sum w^2, from their logarithms (n,)."""
    logs = np.asarray(log_weights, "float64")
    top = logs.max(initial=-np.inf)
    if not np.isfinite(top):
        return 0.0
    weights = np.exp(logs - top)
    return float(weights.sum() ** 2 / (weights**2).sum())


def _halves(values: Any) -> np.ndarray:
    """Each chain cut in two: ``(steps, chains) -> (2 chains, steps // 2)``; an odd step in the middle is left out."""
    array = np.asarray(values, "float64")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[0] < 4:
        raise ConfigError(f"values must be of shape (steps, chains) with at least 4 steps. Received: {array.shape}")
    if not np.isfinite(array).all():
        raise ConfigError("values must be finite. Received: NaN or infinity")
    half = array.shape[0] // 2
    return np.concatenate([array[:half], array[-half:]], axis=1).T


def _ranked(halves: np.ndarray) -> np.ndarray:
    """Values replaced by normal scores of their ranks, ties by their mean rank."""
    from scipy import special, stats

    return special.ndtri((stats.rankdata(halves).reshape(halves.shape) - 0.375) / (halves.size + 0.25))


def split_r_hat(values: Any, *, rank: bool = False) -> float:
    """Split R-hat: near 1 where chains, each cut in two, agree.

    With m half chains of n values each, W the mean of their variances, B/n the variance of their means:
    ``R = sqrt(((n - 1)/n W + B/n) / W)``.

    Args:
        values: ``(steps, chains)`` or ``(steps,)`` of a function of the state.
        rank: of rank-normalised values, for heavy tails.

    Returns:
        1.0 where all values are equal, infinity where each half chain stands still at a value of its own.
    """
    halves = _halves(values)
    halves = _ranked(halves) if rank else halves
    n = halves.shape[1]
    within = halves.var(axis=1, ddof=1).mean()
    between = halves.mean(axis=1).var(ddof=1)
    if within == 0:
        return 1.0 if between == 0 else float("inf")
    return float(np.sqrt(((n - 1) / n * within + between) / within))


def effective_sample_size(values: Any, *, rank: bool = False) -> float:
    """How many independent samples would tell the mean of ``values`` as well.

    ``m n / (1 + 2 sum_t rho_t)`` over the m half chains of n values, with
    ``rho_t = 1 - (W - mean_j c_jt) / var+``, c_jt the autocovariances, W their mean variance and
    ``var+ = (n - 1)/n W + B/n``. The sum ends where a pair ``rho_2k + rho_2k+1`` is negative, and the pairs are made
    non-increasing.

    Args:
        values: ``(steps, chains)`` or ``(steps,)`` of a function of the state.
        rank: of rank-normalised values.

    Returns:
        At most ``m n log10(m n)``; m n for constant values.
    """
    halves = _halves(values)
    halves = _ranked(halves) if rank else halves
    m, n = halves.shape
    centred = halves - halves.mean(axis=1, keepdims=True)
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(centred, size, axis=1)
    covariances = np.fft.irfft(spectrum * spectrum.conj(), size, axis=1)[:, :n] / n  # (m, n)
    within = covariances[:, 0].mean() * n / (n - 1)
    plus = within * (n - 1) / n + (halves.mean(axis=1).var(ddof=1) if m > 1 else 0.0)
    if plus <= 0:
        return float(m * n)
    correlations = 1 - (within - covariances.mean(axis=0) * n / (n - 1)) / plus
    correlations[0] = 1.0
    pairs = correlations[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs < 0)
    pairs = np.minimum.accumulate(pairs[: negative[0]] if len(negative) else pairs)
    time = max(-1 + 2 * pairs.sum(), 1 / np.log10(m * n))  # antithetic chains may do better than independence
    return float(m * n / time)


def empirical_law(states: Iterable[Any]) -> dict[Hashable, float]:
    """Share of each state among ``states``: arrays become tuples of their numbers."""
    if isinstance(states, np.ndarray) and states.ndim == 2:
        values, counts = np.unique(states, axis=0, return_counts=True)
        return {tuple(v): c / len(states) for v, c in zip(values.tolist(), counts.tolist(), strict=True)}
    counts_of: dict[Hashable, int] = {}
    total = 0
    for state in states:
        key = tuple(state.tolist()) if isinstance(state, np.ndarray) and state.ndim else state
        key = key.item() if isinstance(key, np.generic) else key
        counts_of[key] = counts_of.get(key, 0) + 1
        total += 1
    return {key: count / total for key, count in counts_of.items()}


def total_variation(p: Any, q: Any) -> float:
    """``1/2 sum |p - q|`` of two laws: dicts ``{state: probability}`` or arrays of one shape."""
    if isinstance(p, Mapping) and isinstance(q, Mapping):
        return 0.5 * float(sum(abs(p.get(key, 0.0) - q.get(key, 0.0)) for key in p.keys() | q.keys()))
    a, b = np.asarray(p, "float64"), np.asarray(q, "float64")
    if a.shape != b.shape:
        raise ConfigError(f"both laws must have one shape. Received: {a.shape} and {b.shape}")
    return 0.5 * float(np.abs(a - b).sum())
