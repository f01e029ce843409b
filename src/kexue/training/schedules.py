"""Learning-rate schedules."""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError

__all__ = ["WarmupLinear"]


@keras.saving.register_keras_serializable(package="kexue")
class WarmupLinear(keras.optimizers.schedules.LearningRateSchedule):
    """Linear rise from 0 to ``peak``, then linear fall to ``end``.

        rate(t) = peak (t + 1) / (w + 1)                     for t < w,
        rate(t) = end + (peak - end) (n - t) / (n - w)       for w <= t < n, and end afterwards.

    The step t counts from 0, so the first step is not lost to a rate of 0, and neither is the last.

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
        super().__init__()
        steps = round(warmup * total_steps) if isinstance(warmup, float) and warmup < 1 else int(warmup)
        if total_steps < 1 or peak < 0 or not 0 <= end <= peak or steps < 0:
            raise ConfigError(
                "a schedule needs total_steps >= 1, 0 <= end <= peak and warmup >= 0. Received: "
                f"peak={peak}, total_steps={total_steps}, warmup={warmup}, end={end}"
            )
        self.peak, self.total_steps, self.end = float(peak), int(total_steps), float(end)
        self.warmup = min(steps, total_steps)

    def __call__(self, step: Any) -> Any:
        """The rate of a step, float32."""
        t = ops.cast(step, "float32")
        rising = self.peak * (t + 1.0) / (self.warmup + 1.0)
        left = ops.maximum(self.total_steps - t, 0.0) / max(self.total_steps - self.warmup, 1)
        return ops.where(t < self.warmup, rising, self.end + (self.peak - self.end) * left)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"peak": self.peak, "total_steps": self.total_steps, "warmup": self.warmup, "end": self.end}
