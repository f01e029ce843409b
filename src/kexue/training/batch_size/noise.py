"""Estimates of the gradient's noise from norms of gradients of small and large batches.

With g the true gradient and Sigma the covariance of one sample's, ``E|G_B|^2 = |g|^2 + tr Sigma / B``; two batch sizes
b < B tell both numbers without bias:

    |g|^2    = (B |G_B|^2 - b |G_b|^2) / (B - b)
    tr Sigma = (|G_b|^2 - |G_B|^2) / (1/b - 1/B)

and ``B_simple = tr Sigma / |g|^2``. One pair of norms is far too noisy: average numerator and denominator over steps,
then divide.

Source: kexue.fm 10542; arXiv 1812.06162, appendix A.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kexue.errors import ConfigError
from kexue.training.batch_size.checks import positive

__all__ = [
    "NoiseEstimate",
    "RunningNoise",
    "average",
    "jackknife",
    "kappa2_of_agreement",
    "noise_from_samples",
    "noise_from_two_batches",
]


@dataclass(frozen=True)
class NoiseEstimate:
    """What is known of a gradient's noise.

    Attributes:
        gradient_norm2: estimate of ``|g|^2``; without bias, so it can come out negative.
        trace: of ``tr Sigma``, likewise.
        noise_scale: ``B_simple = tr Sigma / |g|^2``. Infinite when the gradient does not rise above the noise
            (``gradient_norm2 <= 0``), 0 when no noise is seen (``trace <= 0``), NaN when neither is.
        interval: 95 % confidence interval of ``noise_scale``, whose upper end may be infinite; None without blocks.
        kappa2: of the law of Adam: from the agreement of signs, or ``noise_scale`` where signs were not measured.
        kappa2_source: "signs" or "noise_scale".
        samples: how many gradients, or pairs of norms, went in.
    """

    gradient_norm2: float
    trace: float
    noise_scale: float
    interval: tuple[float, float] | None = None
    kappa2: float = math.nan
    kappa2_source: str = "noise_scale"
    samples: int = 1

    def as_dict(self) -> dict[str, Any]:
        """The same as a dictionary."""
        return asdict(self)


def make_estimate(
    norm2: float,
    trace: float,
    *,
    interval: tuple[float, float] | None = None,
    kappa2: float | None = None,
    samples: int = 1,
) -> NoiseEstimate:
    """The estimate from its two numbers."""
    scale = _divide(trace, norm2)
    if kappa2 is None or not math.isfinite(kappa2):
        return NoiseEstimate(norm2, trace, scale, interval, scale, "noise_scale", samples)
    return NoiseEstimate(norm2, trace, scale, interval, kappa2, "signs", samples)


def _divide(trace: float, norm2: float) -> float:
    if not (math.isfinite(trace) and math.isfinite(norm2)) or (trace <= 0 and norm2 <= 0):
        return math.nan
    if norm2 <= 0:
        return math.inf
    return max(trace, 0.0) / norm2


def two_batches(small: Any, large: Any, b: float, B: float) -> tuple[Any, Any]:
    """Estimates of ``|g|^2`` and ``tr Sigma`` from ``|G_b|^2`` and ``|G_B|^2``, without bias; arrays or numbers.

    Raises:
        ConfigError: b is not smaller than B.
    """
    b, B = positive("b", b), positive("B", B)
    if b >= B:
        raise ConfigError(f"the small batch must be smaller than the large one. Received: b={b:g}, B={B:g}")
    return (B * large - b * small) / (B - b), (small - large) / (1 / b - 1 / B)


def noise_from_two_batches(small: Any, large: Any, b: float, B: float, *, blocks: int = 16) -> NoiseEstimate:
    """The noise from squared norms of gradients of batches of b and of B samples.

    Args:
        small: ``|G_b|^2``, one a step (the mean over its micro-batches where there are several).
        large: ``|G_B|^2``, as many.
        b: samples in the small batch.
        B: in the large one.
        blocks: pieces of consecutive steps for the confidence interval, which thus allows for correlated steps.

    Raises:
        ConfigError: b is not smaller than B, or the lengths differ.
    """
    small, large = np.atleast_1d(np.asarray(small, np.float64)), np.atleast_1d(np.asarray(large, np.float64))
    if small.shape != large.shape or small.ndim != 1 or not len(small):
        raise ConfigError(f"as many small as large norms are needed. Received: {small.shape} and {large.shape}")
    return average(*two_batches(small, large, b, B), blocks=blocks)


def average(norm2: np.ndarray, trace: np.ndarray, *, blocks: int = 16, kappa2: float | None = None) -> NoiseEstimate:
    """Average estimates of single steps, then divide; the interval by Fieller's theorem from means of blocks."""
    if blocks < 2:
        raise ConfigError(f"blocks must be at least 2. Received: {blocks}")
    pieces = min(blocks, len(norm2))
    interval = None
    if pieces > 2:
        means = np.array(
            [
                [p.mean(), q.mean()]
                for p, q in zip(np.array_split(norm2, pieces), np.array_split(trace, pieces), strict=True)
            ]
        )
        interval = _fieller(float(norm2.mean()), float(trace.mean()), np.cov(means.T) / pieces, pieces - 1)
    return make_estimate(float(norm2.mean()), float(trace.mean()), interval=interval, kappa2=kappa2, samples=len(norm2))


def _fieller(norm2: float, trace: float, spread: np.ndarray, freedom: int) -> tuple[float, float]:
    """95 % confidence interval of ``trace / norm2`` for a pair of means and their covariance, cut at 0.

    It is the set of r with ``(trace - r norm2)^2 <= t^2 Var(trace - r norm2)``; where ``norm2`` is not significantly
    positive, the set has no upper end.
    """
    from scipy.special import stdtrit

    t2 = float(stdtrit(freedom, 0.975)) ** 2
    covariance = [[float(value) for value in row] for row in spread]
    a = norm2**2 - t2 * covariance[0][0]
    b = norm2 * trace - t2 * covariance[0][1]
    c = trace**2 - t2 * covariance[1][1]
    root = b * b - a * c
    if norm2 <= 0 or a <= 0 or root < 0:
        # The lower end is where the set of the larger ratios begins, if the trace stands clear of 0.
        low = c / (b + math.sqrt(root)) if c > 0 and root >= 0 and b + math.sqrt(root) > 0 else 0.0
        return max(low, 0.0), math.inf
    high = (b + math.sqrt(root)) / a
    return max((b - math.sqrt(root)) / a, 0.0), max(high, 0.0)


def noise_from_samples(gradients: Any, *, blocks: int = 16) -> NoiseEstimate:
    """The noise from gradients of single samples: ``tr Sigma`` is the sum of the variances of the coordinates.

        tr Sigma = sum_k |g_k - mean|^2 / (n - 1),   |g|^2 = |mean|^2 - tr Sigma / n

    Args:
        gradients: (n, parameters), n independent samples.
        blocks: pieces of the jackknife behind the confidence interval.

    Raises:
        ConfigError: fewer than two samples, or no matrix.
    """
    g = np.asarray(gradients, np.float64)
    if g.ndim != 2 or len(g) < 2:
        raise ConfigError(f"expected at least two gradients, (n, parameters). Received: {g.shape}")
    pieces = min(blocks, len(g))
    sums, squares, counts = [], [], []
    for piece in np.array_split(g, pieces):
        sums.append(piece.sum(axis=0))
        squares.append(float(np.sum(piece**2)))
        counts.append(len(piece))
    stacked = np.array(sums)
    pairs = len(g) // 2
    kappa2 = kappa2_of_agreement(agreement(g[0 : 2 * pairs : 2], g[1 : 2 * pairs : 2]), 1)
    return jackknife(stacked @ stacked.T, np.array(squares), np.array(counts), 1.0, kappa2)


def jackknife(
    gram: np.ndarray, squares: np.ndarray, counts: np.ndarray, batch: float, kappa2: float | None
) -> NoiseEstimate:
    """The noise from independent gradients of batches of one size, in blocks.

    Args:
        gram: inner products of the blocks' sums of gradients (blocks, blocks).
        squares: sum of ``|g_k|^2`` over each block.
        counts: gradients in each block.
        batch: samples behind each gradient.
        kappa2: from signs, or None.
    """

    def numbers(keep: np.ndarray) -> tuple[float, float]:
        n, square = float(counts[keep].sum()), float(squares[keep].sum())
        total = float(gram[np.ix_(keep, keep)].sum())  # |sum of all gradients|^2
        # All pairs of different gradients: without bias, whatever the noise.
        norm2 = (total - square) / (n * (n - 1))
        return norm2, batch * (square / n - norm2)

    blocks = len(counts)
    everything = np.arange(blocks)
    norm2, trace = numbers(everything)
    interval = None
    if blocks > 2 and counts.sum() - counts.max() > 1:
        left = np.array([numbers(np.delete(everything, j)) for j in range(blocks)])
        centred = left - left.mean(axis=0)
        interval = _fieller(norm2, trace, (blocks - 1) / blocks * centred.T @ centred, blocks - 1)
    return make_estimate(norm2, trace, interval=interval, kappa2=kappa2, samples=int(counts.sum()))


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Mean of ``sign(a) sign(b)`` over the coordinates where neither is 0."""
    products = np.sign(first) * np.sign(second)
    used = np.count_nonzero(products)
    return float(products.sum() / used) if used else math.nan


def kappa2_of_agreement(value: float, batch: float) -> float:
    """kappa^2 from the mean of ``sign(G_i) sign(G'_i)`` over the coordinates of two independent batches.

    That mean is ``mean_i mu_i^2``, beta^2 of the mean field, so ``kappa^2 = (2 B / pi) (1 / beta^2 - 1)``. Unlike a
    mean of ``sigma_i^2 / g_i^2`` it has no heavy tail where a ``g_i`` is near 0.

    Returns:
        kappa^2; infinite when signs agree no more often than by chance, NaN for NaN.
    """
    if math.isnan(value):
        return math.nan
    return 2 * batch / math.pi * (1 / min(value, 1.0) - 1) if value > 0 else math.inf


class RunningNoise:
    """Exponential moving averages of ``|g|^2``, ``tr Sigma`` and the agreement of signs, each with its bias corrected;
    the ratio is taken of the averages.

    Args:
        decay: of the averages, in [0, 1).
    """

    def __init__(self, decay: float = 0.98) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"decay must be in [0, 1). Received: {decay}")
        self.decay = decay
        self.count = 0
        self._sums: dict[str, tuple[float, float]] = {}

    def update(self, small: float, large: float, b: float, B: float, signs: float = math.nan) -> None:
        """Take in one step: mean ``|G_b|^2`` of its micro-batches, ``|G_B|^2``, agreement of signs at b.

        Norms that are not finite are left out.
        """
        norm2, trace = two_batches(small, large, b, B)
        if not (math.isfinite(norm2) and math.isfinite(trace)):
            return
        self.count += 1
        self._b = b
        for name, value in (("norm2", norm2), ("trace", trace), ("signs", signs)):
            if math.isfinite(value):
                total, weight = self._sums.get(name, (0.0, 0.0))
                self._sums[name] = (
                    self.decay * total + (1 - self.decay) * value,
                    self.decay * weight + (1 - self.decay),
                )

    def _mean(self, name: str) -> float:
        total, weight = self._sums.get(name, (math.nan, 1.0))
        return total / weight

    def estimate(self) -> NoiseEstimate:
        """The estimate now; NaN before the first step."""
        if not self.count:
            return make_estimate(math.nan, math.nan, samples=0)
        signs = self._mean("signs")
        kappa2 = None if math.isnan(signs) else kappa2_of_agreement(signs, self._b)
        return make_estimate(self._mean("norm2"), self._mean("trace"), kappa2=kappa2, samples=self.count)
