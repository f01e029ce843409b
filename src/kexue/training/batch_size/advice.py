"""Which learning rate for which batch: what `kexue advise-lr` says, from logs of short runs and grids of rates.

Source: kexue.fm 10542; arXiv 1812.06162, 2405.14578.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from kexue.errors import ConfigError, DataError
from kexue.files import for_json
from kexue.training.batch_size.checks import positive
from kexue.training.batch_size.fits import RateFit, StepsSamples, best_rate, fit_rates, fit_steps_samples
from kexue.training.batch_size.laws import scale_learning_rate
from kexue.training.batch_size.log import NoiseLog
from kexue.training.batch_size.noise import NoiseEstimate
from kexue.training.batch_size.sign import Surge, regime

__all__ = ["Advice", "advise", "smoothed", "steps_to_loss"]

OPTIMIZERS = ("adam", "sgd")


@dataclass(frozen=True)
class Advice:
    """A recommendation and what it rests on.

    Attributes:
        optimizer: "adam" or "sgd".
        target_batch: the batch asked for.
        learning_rate: recommended for it.
        interval: the rates at the ends of the confidence interval of the noise; None where that is not known.
        regime: of the target batch: "linear" (SGD) or "square root" (Adam), "transition", "saturated", "past the
            optimum"; see `Surge.regime`.
        critical_batch: where a step gains half of what it can: the noise scale (SGD), ``B_2`` (Adam).
        peak_batch: of Adam with ``beta_noise < 1``: beyond it the rate falls; otherwise None.
        base: batch and learning rate that were scaled from.
        scale: the noise scale (SGD) or ``kappa^2`` (Adam) behind the law.
        beta_noise: of Adam; infinite when nothing tells it.
        noise: the estimate from the log, if there was one.
        steps_samples: the fit to runs at several batch sizes, if there were.
        optima: best (batch, rate) of the grids.
        text: the advice in sentences.
    """

    optimizer: str
    target_batch: float
    learning_rate: float
    interval: tuple[float, float] | None
    regime: str
    critical_batch: float
    peak_batch: float | None
    base: tuple[float, float]
    scale: float
    beta_noise: float | None
    noise: NoiseEstimate | None
    steps_samples: StepsSamples | None
    optima: list[tuple[float, float]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def rate(self, batch: float) -> float:
        """The recommended learning rate at any batch size."""
        return self._rate(batch, self.scale)

    def _rate(self, batch: float, scale: float) -> float:
        B0, lr0 = self.base
        if self.optimizer == "sgd":
            if math.isinf(scale):
                return lr0 * batch / B0
            return scale_learning_rate(lr0, B0, batch, "sgd_opt", noise_scale=scale)
        if scale <= 0:
            return lr0
        if math.isinf(scale):
            return scale_learning_rate(lr0, B0, batch, "sqrt")
        beta_noise = math.inf if self.beta_noise is None else self.beta_noise
        return scale_learning_rate(lr0, B0, batch, "adam_opt", kappa2=scale, beta_noise=beta_noise)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers that are not finite become None."""
        return dict(for_json(asdict(self)))


def advise(
    logs: Sequence[NoiseLog] = (),
    grid: Mapping[float, Sequence[tuple[float, float]]] | None = None,
    *,
    target_batch: float,
    optimizer: str = "adam",
    beta_noise: float | None = None,
    skip: float = 0.2,
    target_loss: float | None = None,
) -> Advice:
    """Recommend a learning rate for a batch size.

    The base is the best of the grid (at its smallest batch), or else the first log's largest learning rate, taken for
    good at its batch. Grids at two or more batch sizes fit the law itself (`fit_rates`); otherwise the noise of the
    first log that has one fixes it.

    Args:
        logs: of runs, see `NoiseLog`; at several batch sizes they give steps against samples as well.
        grid: batch size -> pairs (learning rate, loss) after as many samples.
        target_batch: the batch the rate is for.
        optimizer: "adam" (the sign-SGD law; for all its kin) or "sgd" (with or without momentum).
        beta_noise: of Adam, where it is known.
        skip: share of a log's steps left out, see `NoiseLog.estimate`.
        target_loss: for steps against samples; None: the largest of the runs' last losses.

    Raises:
        ConfigError: an argument cannot work, or neither log nor grid is given.
        DataError: they do not tell the noise.
    """
    target_batch = positive("target_batch", target_batch)
    if optimizer not in OPTIMIZERS:
        raise ConfigError(f"optimizer must be 'adam' or 'sgd'. Received: {optimizer!r}")
    if not logs and not grid:
        raise ConfigError("give the log of a run, a grid of learning rates, or both.")
    notes: list[str] = []
    optima = _optima(grid or {}, notes)
    noise = _noise(logs, skip, needed=len(optima) < 2 or optimizer == "adam")
    if len(optima) > 1 and optimizer == "sgd":
        fit = fit_rates(optima)
        scale, interval = _scale_of(fit), None
        base = (optima[0][0], fit.rate(optima[0][0])) if math.isfinite(fit.eta_max) else optima[0]
        notes.append(_fitted(fit, optima))
    else:
        assert noise is not None  # _noise raises when it is needed and absent
        scale = noise.noise_scale if optimizer == "sgd" else noise.kappa2
        interval = noise.interval if optimizer == "sgd" or noise.kappa2_source == "noise_scale" else None
        base = optima[0] if optima else _base(logs[0], notes)
        if len(optima) > 1 and 0 < scale < math.inf:
            fit = fit_rates(optima, kappa2=scale)
            beta_noise = fit.surge.beta_noise if beta_noise is None else beta_noise  # type: ignore[union-attr]
            base = (optima[0][0], fit.rate(optima[0][0]))
            notes.append(
                f"law fitted to the best rates at {len(optima)} batch sizes, off by at most {fit.residual:.0%}"
            )
    if math.isnan(scale):
        raise DataError("neither gradient nor noise is seen in the log: both estimates are negative. Log more steps.")
    return _finish(optimizer, target_batch, base, scale, interval, beta_noise, noise, logs, optima, target_loss, notes)


def _finish(
    optimizer: str,
    target: float,
    base: tuple[float, float],
    scale: float,
    interval: tuple[float, float] | None,
    beta_noise: float | None,
    noise: NoiseEstimate | None,
    logs: Sequence[NoiseLog],
    optima: list[tuple[float, float]],
    target_loss: float | None,
    notes: list[str],
) -> Advice:
    peak = None
    if scale <= 0:
        name, critical = "saturated", 0.0
    elif optimizer == "sgd":
        name, critical = regime(target, scale, "linear"), scale
    elif math.isinf(scale):
        name, critical = "square root", math.inf
    else:
        law = Surge(math.inf if beta_noise is None else beta_noise, scale)
        name, critical, peak = law.regime(target), law.b_2, law.b_noise
    fit = None
    if len({_batch(log) for log in logs}) > 1:
        try:
            fit = fit_steps_samples(_points(logs, target_loss))
        except ConfigError as error:
            notes.append(f"steps against samples: {error}")
    advice = Advice(
        optimizer, target, 0.0, None, name, critical, peak, base, scale, beta_noise, noise, fit, optima, notes
    )
    ends = None
    if interval is not None:
        low, high = sorted(advice._rate(target, end) for end in interval)
        ends = (low, high)
    values = {**advice.__dict__, "learning_rate": advice.rate(target), "interval": ends}
    values["text"] = [*_sentences(Advice(**values)), *notes]
    return Advice(**values)


def _sentences(advice: Advice) -> list[str]:
    target, critical = advice.target_batch, advice.critical_batch
    meaning = {
        "linear": "linear regime: rate and progress a step grow with the batch; larger batches cost few samples",
        "square root": "square-root regime: the rate grows as the root of the batch; larger batches cost few samples",
        "transition": "transition: a larger batch still saves steps, and costs samples",
        "saturated": "saturated: a larger batch hardly saves steps, and costs samples in proportion",
        "past the optimum": "past the optimum: beyond the peak the best rate falls as the batch grows",
    }[advice.regime]
    lines = [meaning]
    if math.isfinite(critical) and critical > 0:
        lines.append(f"one step at batch {target:g} gains {1 / (1 + critical / target):.0%} of what the largest could")
    if not math.isfinite(advice.scale):
        lines.append("the gradient does not rise above the noise in this log; log more steps")
    if advice.optimizer == "adam" and advice.beta_noise is None:
        lines.append(
            "beta_noise is not known, and the law without interaction of coordinates was taken: for large batches an "
            "upper bound. Grids of rates at two batch sizes tell it"
        )
    if target > advice.base[0] and len(advice.optima) < 2:
        lines.append("the law is of the best single step; over a whole run the best rate can grow more slowly")
    ratio = target / advice.base[0]
    if not 1 / 64 <= ratio <= 64:
        lines.append(f"the target is {ratio:.3g} times the batch of the base: far from what was measured")
    return lines


def _fitted(fit: RateFit, optima: list[tuple[float, float]]) -> str:
    return f"law fitted to the best rates at {len(optima)} batch sizes, off by at most {fit.residual:.0%}"


def _scale_of(fit: RateFit) -> float:
    return float(fit.noise_scale) if fit.noise_scale is not None else math.inf


def _optima(grid: Mapping[float, Sequence[tuple[float, float]]], notes: list[str]) -> list[tuple[float, float]]:
    found = []
    for batch in sorted(grid):
        rate, inside = best_rate(grid[batch])
        found.append((float(batch), rate))
        if not inside:
            notes.append(f"at batch {batch:g} the best rate {rate:.3g} is at the end of the grid: widen it")
    return found


def _noise(logs: Sequence[NoiseLog], skip: float, needed: bool) -> NoiseEstimate | None:
    problem: DataError | None = None
    for log in logs:
        try:
            return log.estimate(skip=skip)
        except DataError as error:
            problem = problem or error
    if needed:
        raise problem or DataError(
            "a grid alone tells the noise only with SGD and two or more batch sizes. Give the log of a run too."
        )
    return None


def _batch(log: NoiseLog) -> float:
    return float(np.median(log.column("batch_size")))


def _base(log: NoiseLog, notes: list[str]) -> tuple[float, float]:
    rates = log.column("learning_rate")
    rates = rates[np.isfinite(rates) & (rates > 0)]
    if not len(rates):
        raise DataError("the log has no positive learning_rate.")
    notes.append(f"the log's largest learning rate, {rates.max():.3g}, was taken for the best there; a grid tells")
    return _batch(log), float(rates.max())


def smoothed(log: NoiseLog) -> np.ndarray:
    """Mean loss of the last tenth of the steps so far: it lags by the same share of the steps in a short run and in a
    long one, which leaves the ratios of steps alone.
    """
    loss = log.column("loss")
    end = np.arange(len(loss)) + 1
    start = end - np.maximum(end // 10, 1)
    sums = np.cumsum(np.concatenate([[0.0], loss]))
    return (sums[end] - sums[start]) / (end - start)


def steps_to_loss(log: NoiseLog, target: float) -> float:
    """Steps until the smoothed loss reached the target; NaN if it never did."""
    reached = np.flatnonzero(smoothed(log) <= target)
    return float(log.rows[reached[0]]["step"]) if len(reached) else math.nan


def _points(logs: Sequence[NoiseLog], target: float | None) -> list[tuple[float, float]]:
    if target is None:
        target = max(float(np.nanmin(smoothed(log))) for log in logs)
    points = []
    for log in logs:
        steps = steps_to_loss(log, target)
        if math.isfinite(steps):
            points.append((steps, steps * _batch(log)))
    if len(points) < 2:
        raise ConfigError(f"fewer than two runs reached the loss {target:g}")
    return points
