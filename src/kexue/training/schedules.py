"""Learning-rate schedules that Keras lacks.

All count steps from 0. With the optimizers of `kexue.training` a step is an update of the weights, also under gradient
accumulation; Keras' own optimizers count batches.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError

__all__ = ["PiecewiseLinear", "WarmupLinear", "WarmupStableDecay"]


@keras.saving.register_keras_serializable(package="kexue")
class WarmupStableDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear rise from 0 to ``peak``, a plateau, and a fall to ``end``.

        rate(t) = peak (t + 1) / (w + 1)              for t < w,
        rate(t) = peak                                for w <= t < n - d,
        rate(t) = end + (peak - end) f(s)             for n - d <= t < n, s = (n - t) / d,
        rate(t) = end                                 afterwards (peak if d = 0),

    with ``f(s) = s`` (``"linear"``), ``(1 - cos(pi s)) / 2`` (``"cosine"``) or ``1 - sqrt(1 - s)`` (``"sqrt"``). The
    step t counts from 0, so the first step is not lost to a rate of 0, and neither is the last.

    Args:
        peak: the highest rate.
        total_steps: n.
        warmup: w: a number of steps, or a share of ``total_steps`` when it is a float below 1.
        decay: d: likewise; ``1.0`` is all that the rise leaves (no plateau), 0 a constant rate after the rise.
        shape: f.
        end: the lowest rate.

    Raises:
        ConfigError: numbers that cannot work.

    Source: arXiv 2404.06395 (the plateau), arXiv 2405.18392 (the shape ``"sqrt"``).
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        warmup: int | float = 0.1,
        decay: int | float = 0.1,
        shape: Literal["linear", "cosine", "sqrt"] = "linear",
        end: float = 0.0,
    ) -> None:
        super().__init__()
        rise, fall = (_steps(value, total_steps) for value in (warmup, decay))
        if total_steps < 1 or peak < 0 or not 0 <= end <= peak or rise < 0 or fall < 0:
            raise ConfigError(
                "a schedule needs total_steps >= 1, 0 <= end <= peak, warmup >= 0 and decay >= 0. Received: "
                f"peak={peak}, total_steps={total_steps}, warmup={warmup}, decay={decay}, end={end}"
            )
        if shape not in ("linear", "cosine", "sqrt"):
            raise ConfigError(f"shape must be 'linear', 'cosine' or 'sqrt'. Received: shape={shape!r}")
        self.peak, self.total_steps, self.end, self.shape = float(peak), int(total_steps), float(end), shape
        self.warmup = min(rise, total_steps)
        all_left = isinstance(decay, float) and decay == 1
        if not all_left and self.warmup + fall > total_steps:
            raise ConfigError(
                f"warmup and decay together are longer than the training. Received: {rise} + {fall} of {total_steps} "
                "steps; decay=1.0 takes what warmup leaves"
            )
        self.decay = decay
        self._fall = max(total_steps - self.warmup, 1) if all_left else fall

    def __call__(self, step: Any) -> Any:
        """The rate of a step, float32."""
        t = ops.cast(step, "float32")
        rate = self.peak * (t + 1.0) / (self.warmup + 1.0)
        if not self._fall:
            return ops.where(t < self.warmup, rate, self.peak)
        s = ops.clip((self.total_steps - t) / self._fall, 0.0, 1.0)
        if self.shape == "cosine":
            s = (1.0 - ops.cos(math.pi * s)) / 2.0
        elif self.shape == "sqrt":
            s = 1.0 - ops.sqrt(1.0 - s)
        return ops.where(t < self.warmup, rate, self.end + (self.peak - self.end) * s)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        names = ("peak", "total_steps", "warmup", "decay", "shape", "end")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="kexue")
class WarmupLinear(WarmupStableDecay):
    """Linear rise from 0 to ``peak``, then linear fall to ``end``: `WarmupStableDecay` without a plateau.

    Args:
        peak: the highest rate.
        total_steps: n.
        warmup: w: a number of steps, or a share of ``total_steps`` when it is a float below 1.
        end: the lowest rate.

    Raises:
        ConfigError: numbers that cannot work.

    Source: the schedule of BERT, arXiv 1810.04805.
    """

    def __init__(self, peak: float, total_steps: int, warmup: int | float = 0.1, end: float = 0.0) -> None:
        super().__init__(peak, total_steps, warmup, decay=1.0, end=end)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {name: getattr(self, name) for name in ("peak", "total_steps", "warmup", "end")}


@keras.saving.register_keras_serializable(package="kexue")
class PiecewiseLinear(keras.optimizers.schedules.LearningRateSchedule):
    """``peak`` times the linear interpolation of points, from ``(0, 0)`` and constant after the last.

        PiecewiseLinear({1000: 1.0, 10_000: 0.1}, peak=1e-3)    # rises for 1000 steps, falls to 1e-4, stays there

    Args:
        points: ``{step: value}``; a value at step 0 replaces the implied 0. Without one the first update has the rate
            0, as in the articles.
        peak: factor of all values.

    Raises:
        ConfigError: no points, negative steps or values.

    Source: the schedules of articles 7055 and 8998.
    """

    def __init__(self, points: Mapping[int, float], peak: float = 1.0) -> None:
        super().__init__()
        try:
            given = {int(step): float(value) for step, value in points.items()}
        except (AttributeError, TypeError, ValueError):
            raise ConfigError(f"points must be a dict of steps and values. Received: {points!r}") from None
        if not given or min(given) < 0 or min(given.values()) < 0 or peak < 0:
            raise ConfigError(
                f"a schedule needs points with steps and values >= 0 and peak >= 0. Received: {given}, peak={peak}"
            )
        self.points, self.peak = dict(sorted(given.items())), float(peak)

    def __call__(self, step: Any) -> Any:
        """The rate of a step, float32."""
        points = {0: 0.0} | self.points
        steps, values = np.array(list(points)), np.array(list(points.values()))
        if len(steps) == 1:
            return ops.convert_to_tensor(self.peak * values[0], "float32")
        t = ops.cast(step, "float32")
        # A sum of clipped ramps: each piece adds its rise. Exact at the points, no search.
        rate: Any = values[0]
        for left, right, rise in zip(steps[:-1], steps[1:], np.diff(values), strict=True):
            rate = rate + float(rise) * ops.clip((t - float(left)) / float(right - left), 0.0, 1.0)
        return self.peak * rate

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"points": {str(step): value for step, value in self.points.items()}, "peak": self.peak}


def _steps(value: int | float, total: int) -> int:
    """A number of steps; a float up to 1 is a share of all."""
    return round(value * total) if isinstance(value, float) and value <= 1 else int(value)
