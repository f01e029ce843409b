"""Fits to runs: steps against samples, the best rate of a grid, and the laws of the rate to several of these.

Source: kexue.fm 10542; arXiv 1812.06162 (steps against samples).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kexue.errors import ConfigError
from kexue.training.batch_size.checks import positives
from kexue.training.batch_size.sign import Surge, mean_field_beta

__all__ = ["RateFit", "StepsSamples", "best_rate", "fit_rates", "fit_steps_samples"]


def _pairs(name: str, pairs: Iterable[Sequence[float]], least: int) -> np.ndarray:
    try:
        array = np.array([(float(a), float(b)) for a, b in pairs], np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} must be pairs of numbers. Received: {pairs!r}") from None
    positives(name, array)
    if len(array) < least:
        raise ConfigError(f"{name}: at least {least} pairs are needed. Received: {len(array)}")
    return array


@dataclass(frozen=True)
class StepsSamples:
    """Steps S and samples E = B S that reach one loss: ``(S / S_min - 1) (E / E_min - 1) = 1``.

    Attributes:
        s_min: steps with an infinite batch.
        e_min: samples with an infinitely small one.
        b_noise: ``E_min / S_min``: the batch that takes twice the least steps and twice the least samples.
        s_min_error, e_min_error, b_noise_error: standard errors; None when two points leave none to tell.
        b_noise_interval: 95 % confidence interval of ``b_noise``; None likewise.
    """

    s_min: float
    e_min: float
    b_noise: float
    s_min_error: float | None = None
    e_min_error: float | None = None
    b_noise_error: float | None = None
    b_noise_interval: tuple[float, float] | None = None

    def steps(self, batch: float) -> float:
        """``S = (1 + B_noise / B) S_min``."""
        return (1 + self.b_noise / batch) * self.s_min

    def samples(self, batch: float) -> float:
        """``E = (B + B_noise) S_min``."""
        return batch * self.steps(batch)


def fit_steps_samples(points: Iterable[Sequence[float]]) -> StepsSamples:
    """Fit the hyperbola to pairs (S, E) of runs that reached the same loss with different batch sizes.

    Least squares of ``log S = log(S_min + E_min / B)``, ``B = E / S``: errors of steps are relative. The errors of the
    result come from the residuals, in the logarithms.

    Raises:
        ConfigError: fewer than two pairs, all with one batch size, or pairs that no hyperbola fits (S must fall and E
            grow with the batch size).
    """
    array = _pairs("points", points, 2)
    steps, batch = array[:, 0], array[:, 1] / array[:, 0]
    if batch.max() < batch.min() * 1.01:
        raise ConfigError(f"points must have different batch sizes E / S. Received: {np.unique(batch).tolist()}")
    # Weights 1 / S make the straight line in 1 / B nearly the fit of the logarithm.
    columns = np.stack([1 / steps, 1 / (batch * steps)], axis=1)
    parameters, *_ = np.linalg.lstsq(columns, np.ones(len(steps)), rcond=None)
    if (parameters <= 0).any():
        raise ConfigError(
            "no hyperbola fits: steps must fall with the batch size and samples grow. Received (B, S, E): "
            + "; ".join(f"({b:g}, {s:g}, {b * s:g})" for b, s in sorted(zip(batch, steps, strict=True)))
        )
    theta = np.log(parameters)
    for _ in range(50):  # Gauss-Newton from a point that is nearly there
        s_min, part = np.exp(theta[0]), np.exp(theta[1]) / batch
        jacobian = np.stack([s_min / (s_min + part), part / (s_min + part)], axis=1)
        residual = np.log(steps) - np.log(s_min + part)
        change = np.linalg.lstsq(jacobian, residual, rcond=None)[0]
        theta = theta + change
        if np.abs(change).max() < 1e-12:
            break
    s_min, e_min = (float(x) for x in np.exp(theta))
    freedom = len(steps) - 2
    if freedom == 0:
        return StepsSamples(s_min, e_min, e_min / s_min)
    from scipy.special import stdtrit

    covariance = np.linalg.inv(jacobian.T @ jacobian) * float(residual @ residual) / freedom
    errors = np.sqrt(np.diag(covariance))
    error = math.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0))
    factor = math.exp(min(float(stdtrit(freedom, 0.975)) * error, 700))
    b_noise = e_min / s_min
    return StepsSamples(
        s_min,
        e_min,
        b_noise,
        s_min * float(errors[0]),
        e_min * float(errors[1]),
        b_noise * error,
        (b_noise / factor, b_noise * factor),
    )


def best_rate(grid: Iterable[Sequence[float]]) -> tuple[float, bool]:
    """The learning rate with the least loss, from pairs (rate, loss): a parabola in log rate through the best and its
    neighbours.

    Returns:
        The rate, and whether the best lies inside the grid. At an end of the grid it is only a bound.

    Raises:
        ConfigError: no rate is positive with a finite loss, or a rate stands twice.
    """
    pairs = [(float(rate), float(loss)) for rate, loss in grid]
    rates = positives("learning rates", [rate for rate, _ in pairs])
    if len(np.unique(rates)) < len(rates):
        raise ConfigError(f"each learning rate once, please. Received: {sorted(rates.tolist())}")
    points = sorted(pair for pair in pairs if math.isfinite(pair[1]))  # a run that diverged says nothing of the minimum
    if not points:
        raise ConfigError("no learning rate of the grid has a finite loss.")
    best = min(range(len(points)), key=lambda i: points[i][1])
    if best in (0, len(points) - 1):
        # Where the next larger rate diverged, the best is bracketed all the same.
        return points[best][0], best > 0 and float(rates.max()) > points[best][0]
    x, y = np.log([p[0] for p in points[best - 1 : best + 2]]), np.array([p[1] for p in points[best - 1 : best + 2]])
    a, b, _ = np.polyfit(x - x[1], y, 2)
    shift = -b / (2 * a) if a > 0 else 0.0
    return float(np.exp(x[1] + np.clip(shift, x[0] - x[1], x[2] - x[1]))), True


@dataclass(frozen=True)
class RateFit:
    """A law fitted to the best rates at several batch sizes.

    Attributes:
        eta_max: the limit of large batches (SGD, or Adam without interaction), or the peak.
        noise_scale: of SGD: ``eta* = eta_max / (1 + N / B)``; None for Adam.
        surge: of Adam; None for SGD.
        residual: the largest relative deviation of a given rate from the law.
    """

    eta_max: float
    noise_scale: float | None
    surge: Surge | None
    residual: float

    def rate(self, batch: float) -> float:
        """Best rate at this batch size."""
        if self.surge is not None:
            return float(self.surge.rate(batch))
        return self.eta_max / (1 + (self.noise_scale or 0.0) / batch)


def fit_rates(pairs: Iterable[Sequence[float]], *, kappa2: float | None = None) -> RateFit:
    """Fit the law of the best rate to pairs (B, eta*).

    Without ``kappa2``, SGD's: ``1 / eta = (1 + N / B) / eta_max``. With it, that of `Surge`:
    ``1 / eta = p / beta + q beta``, ``beta_noise = sqrt(p / q)``, ``eta_max = 1 / (2 sqrt(p q))``. Both are linear in
    what is looked for; least squares of relative errors, no parameter negative.

    Raises:
        ConfigError: fewer than two batch sizes.
    """
    array = _pairs("pairs", pairs, 2)
    batch, rate = array.T
    if len(np.unique(batch)) < 2:
        raise ConfigError(f"pairs must have at least two batch sizes. Received: {np.unique(batch).tolist()}")
    if kappa2 is None:
        first, second = np.ones_like(batch), 1 / batch
    else:
        beta = mean_field_beta(batch, kappa2)
        first, second = 1 / beta, beta
    a, b = _not_negative(np.stack([first * rate, second * rate], axis=1))
    if kappa2 is None:
        # a = 0: the rates grow as B, or faster, and no limit is in sight.
        fit = RateFit(1 / a if a else math.inf, b / a if a else math.inf, None, 0.0)
    elif b == 0:
        fit = RateFit(1 / a, None, Surge(math.inf, kappa2, 1 / a), 0.0)
    else:
        # Without a part that keeps the rate from growing, the peak would be at a batch of no samples.
        a = a or b * 1e-6
        law = Surge(math.sqrt(a / b), kappa2, 1 / (2 * math.sqrt(a * b)))
        fit = RateFit(law.eta_max, None, law, 0.0)
    predicted = 1 / (a * first + b * second)
    return RateFit(fit.eta_max, fit.noise_scale, fit.surge, float(np.abs(rate / predicted - 1).max()))


def _not_negative(columns: np.ndarray) -> tuple[float, float]:
    """Least squares of ones on two positive columns with coefficients >= 0: the plain one, or one column alone."""
    solution = np.linalg.lstsq(columns, np.ones(len(columns)), rcond=None)[0]
    if (solution >= 0).all():
        return float(solution[0]), float(solution[1])
    alone = columns.sum(axis=0) / (columns**2).sum(axis=0)
    errors = ((columns * alone - 1) ** 2).sum(axis=0)
    return (float(alone[0]), 0.0) if errors[0] <= errors[1] else (0.0, float(alone[1]))
