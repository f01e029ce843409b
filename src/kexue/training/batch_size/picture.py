"""The picture of an `Advice`. Needs matplotlib: ``pip install "kexue[plot]"``."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from kexue.errors import ConfigError
from kexue.files import atomic_write
from kexue.training.batch_size.advice import Advice
from kexue.training.batch_size.log import NoiseLog

__all__ = ["draw"]


def draw(advice: Advice, logs: Sequence[NoiseLog] = (), path: str | os.PathLike[str] | None = None) -> Any:
    """Best rate and gain of a step against the batch size, and, with a log, the noise along it.

    Returns:
        A ``matplotlib.figure.Figure``; with ``path`` it is written there as PNG.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError('pictures need matplotlib, which is not installed: pip install "kexue[plot]"') from None
    log = next((log for log in logs if np.isfinite(log.column("grad_norm2_full")).any()), None)
    figure = Figure(figsize=(5 * (2 + (log is not None)), 3.8), layout="constrained")
    axes = figure.subplots(1, 2 + (log is not None))
    _rates(axes[0], advice)
    _gain(axes[1], advice)
    if log is not None:
        _along(axes[2], log)
    if path is not None:
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", dpi=80)
    return figure


def _marks(advice: Advice) -> list[float]:
    marks = [advice.target_batch, advice.base[0], *(batch for batch, _ in advice.optima)]
    marks += [x for x in (advice.critical_batch, advice.peak_batch) if x and math.isfinite(x)]
    return marks


def _batches(advice: Advice) -> np.ndarray:
    marks = _marks(advice)
    return np.geomspace(max(min(marks) / 4, 1), max(marks) * 4, 200)


def _rates(ax: Any, advice: Advice) -> None:
    batches = _batches(advice)
    ax.loglog(batches, [advice.rate(b) for b in batches], color="C0", label=f"law ({advice.optimizer})")
    B0, lr0 = advice.base
    rule, power = ("linear", 1.0) if advice.optimizer == "sgd" else ("square root", 0.5)
    ax.loglog(batches, lr0 * (batches / B0) ** power, ":", color="0.6", label=f"{rule} rule")
    ax.plot([B0], [lr0], "o", color="C0", label="base", clip_on=False)
    if len(advice.optima) > 1:
        ax.plot(*zip(*advice.optima, strict=True), "x", color="C3", label="best of the grids")
    ax.plot([advice.target_batch], [advice.learning_rate], "*", color="C1", markersize=13, label="advice")
    if advice.interval:
        low, high = advice.interval
        below, above = max(advice.learning_rate - low, 0), max(high - advice.learning_rate, 0)
        ax.errorbar([advice.target_batch], [advice.learning_rate], [[below], [above]], color="C1", capsize=3)
    rates = [advice.rate(b) for b in batches]
    ax.set_ylim(min(rates) / 1.5, max([*rates, lr0, advice.learning_rate]) * 2)
    ax.set(xlabel="batch size", ylabel="best learning rate", title=f"{advice.regime} at {advice.target_batch:g}")
    ax.legend(fontsize=8)


def _gain(ax: Any, advice: Advice) -> None:
    ax.set(xlabel="batch size", title="what a step gains, and what it costs")
    if not 0 < advice.critical_batch < math.inf:
        ax.text(0.5, 0.5, "critical batch unknown", ha="center", transform=ax.transAxes)
        return
    batches = _batches(advice)
    ax.loglog(batches, 1 + advice.critical_batch / batches, label="steps / least steps")
    ax.loglog(batches, 1 + batches / advice.critical_batch, label="samples / least samples")
    ax.axvline(advice.critical_batch, color="0.6", linestyle="--", label=f"critical batch {advice.critical_batch:.3g}")
    ax.axvline(advice.target_batch, color="C1", label=f"target {advice.target_batch:g}")
    ax.legend(fontsize=8)


def _along(ax: Any, log: NoiseLog) -> None:
    """Noise scale in consecutive pieces of the run."""
    pieces = np.array_split(np.arange(len(log.rows)), min(20, max(len(log.rows) // 4, 1)))
    steps, scales = [], []
    for piece in pieces:
        part = NoiseLog(rows=[log.rows[i] for i in piece])
        if not np.isfinite(part.column("grad_norm2_full")).any():
            continue
        steps.append(float(np.mean(part.column("step"))))
        scales.append(part.estimate(skip=0).noise_scale)
    known = [(s, v) for s, v in zip(steps, scales, strict=True) if 0 < v < math.inf]
    if known:
        ax.semilogy(*zip(*known, strict=True), "o-", markersize=4)
    ax.set(xlabel="step", ylabel="tr Σ / |g|²", title="noise scale along the run")
