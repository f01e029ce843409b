"""AdaFactor: the second moment of a matrix from its row and column means."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kexue.training.optimizers.rules import PerVariable

__all__ = ["Adafactor", "RelativeStep"]


@keras.saving.register_keras_serializable(package="kexue")
class RelativeStep(keras.optimizers.schedules.LearningRateSchedule):
    """``min(peak, 1 / sqrt(t))``, t = step + 1: the rate of `Adafactor` when none is given.

    Args:
        peak: the highest rate.

    Source: arXiv 1804.04235.
    """

    def __init__(self, peak: float = 1e-2) -> None:
        super().__init__()
        self.peak = peak

    def __call__(self, step: Any) -> Any:
        """The rate of a step, float32."""
        return ops.minimum(self.peak, ops.rsqrt(ops.cast(step, "float32") + 1.0))

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"peak": self.peak}


@keras.saving.register_keras_serializable(package="kexue")
class Adafactor(PerVariable, keras.optimizers.Optimizer):
    """AdaFactor with a rate factor for each variable.

        b = 1 - t^-p,   s = g^2 + epsilon_1
        v <- b v + (1 - b) s,  or factored:  a <- b a + (1 - b) mean_columns(s),  c <- b c + (1 - b) mean_rows(s),
                                             v = a c / mean(a)
        u = g / sqrt(v),   u <- u / max(1, rms(u) / clip_threshold)
        x <- x (1 - r d) - r max(rms(x), epsilon_2) u,   r = factor * learning rate

    A variable is factored over its two largest dimensions if both are at least ``factor_from``; the state of a matrix
    m x n is then m + n numbers. ``keras.optimizers.Adafactor`` keeps all m n besides (it has the memory of RMSprop),
    factors over the last two dimensions however small, and caps every rate at ``1 / sqrt(t)``, also a schedule's and
    also with ``relative_step=False``.

    Arithmetic and state are float32 whatever the dtype of the variables.

    Args:
        learning_rate: a number, a schedule of the number of updates, or None for ``min(1e-2, 1 / sqrt(t))``.
        decay_power: p.
        epsilon_1: keeps the root away from 0.
        epsilon_2: smallest scale of a variable.
        clip_threshold: greatest root mean square of u.
        parameter_scale: False leaves ``max(rms(x), epsilon_2)`` out.
        factor_from: smallest dimension to factor.
        rate_rules: see `kexue.training.per_variable`.
        weight_decay: d, or None.
        decay_rules: see `kexue.training.per_variable`.
        **kwargs: of Keras optimizers (``global_clipnorm``, ``gradient_accumulation_steps``, ...).

    Source: arXiv 1804.04235; article 7302.
    """

    def __init__(
        self,
        learning_rate: Any = None,
        *,
        decay_power: float = 0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        parameter_scale: bool = True,
        factor_from: int = 128,
        rate_rules: Sequence[tuple[str, float]] = (),
        weight_decay: float | None = None,
        decay_rules: Sequence[tuple[str, bool]] = (),
        name: str = "adafactor",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate=RelativeStep() if learning_rate is None else learning_rate,
            rate_rules=rate_rules,
            weight_decay=weight_decay,
            decay_rules=decay_rules,
            name=name,
            **kwargs,
        )
        self.decay_power, self.epsilon_1, self.epsilon_2 = decay_power, epsilon_1, epsilon_2
        self.clip_threshold, self.parameter_scale, self.factor_from = clip_threshold, parameter_scale, factor_from

    def _factored(self, shape: Sequence[int]) -> tuple[int, int] | None:
        """The two largest dimensions, in order, or None."""
        if len(shape) < 2:
            return None
        first, second = sorted(int(i) for i in np.argsort(shape, kind="stable")[-2:])
        return (first, second) if min(shape[first], shape[second]) >= self.factor_from else None

    def build(self, variables: Sequence[Any]) -> None:
        """Create the second moments."""
        if self.built:
            return
        super().build(variables)
        self._moments: list[list[Any]] = []
        for variable in variables:
            shape = tuple(variable.shape)
            dims = self._factored(shape)
            shapes = [shape] if dims is None else [shape[:i] + shape[i + 1 :] for i in reversed(dims)]
            self._moments.append([self.add_variable(s, dtype="float32", name="second_moment") for s in shapes])

    def _follow(self, moment: Any, value: Any, keep: Any) -> Any:
        self.assign(moment, keep * moment + (1.0 - keep) * value)
        return ops.convert_to_tensor(moment)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of one variable."""
        factor, decay = self.plan(variable)
        if not factor:
            return
        moments = self._moments[self._get_variable_index(variable)]
        g, x = ops.cast(gradient, "float32"), ops.cast(variable, "float32")
        keep = 1.0 - ops.power(ops.cast(self.iterations + 1, "float32"), -self.decay_power)
        square = ops.square(g) + self.epsilon_1
        dims = self._factored(tuple(variable.shape))
        if dims is None:
            u = g * ops.rsqrt(self._follow(moments[0], square, keep))
        else:
            first, second = dims
            rows = self._follow(moments[0], ops.mean(square, axis=second), keep)  # without the second dimension
            columns = self._follow(moments[1], ops.mean(square, axis=first), keep)  # without the first
            rows = rows / ops.mean(rows, axis=first, keepdims=True)
            # Two roots instead of one of the product, which may be below the smallest float32.
            u = g * ops.expand_dims(ops.rsqrt(rows), second) * ops.expand_dims(ops.rsqrt(columns), first)
        u = u / ops.maximum(1.0, _rms(u) / self.clip_threshold)
        rate = ops.cast(learning_rate * factor, "float32")
        step = rate * ops.maximum(_rms(x), self.epsilon_2) if self.parameter_scale else rate
        self.assign(variable, ops.cast(x * (1.0 - rate * decay) - step * u, variable.dtype))

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        names = ("decay_power", "epsilon_1", "epsilon_2", "clip_threshold", "parameter_scale", "factor_from")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _rms(x: Any) -> Any:
    return ops.sqrt(ops.mean(ops.square(x)))
