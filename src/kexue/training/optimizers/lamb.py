"""LAMB: Adam's direction, scaled to each variable's own size."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kexue.training.optimizers.rules import PerVariable, check_rules, first_match

__all__ = ["Lamb"]


@keras.saving.register_keras_serializable(package="kexue")
class Lamb(PerVariable, keras.optimizers.Optimizer):
    """LAMB with a rate factor for each variable, and variables that it neither decays nor scales.

        m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
        u = m / (sqrt(v) + epsilon) + d x          (with the bias correction: m / (1 - b1^t), v / (1 - b2^t))
        x <- x - r |x| / |u| u,                    r = factor * learning rate,

    where the quotient of the norms is 1 if either is 0 and for variables that are not adapted. The decay is inside of
    u, so that it takes part in the quotient; ``keras.optimizers.Lamb`` has it outside, without exclusions.

    Arithmetic and state are float32 whatever the dtype of the variables.

    Args:
        learning_rate: a number, or a schedule of the number of updates.
        beta_1: b1.
        beta_2: b2.
        epsilon: added to the root.
        bias_correction: whether the moments are divided by ``1 - b^t``; without, warm up.
        rate_rules: see `kexue.training.per_variable`.
        weight_decay: d.
        decay_rules: see `kexue.training.per_variable`.
        adaptation_rules: pairs ``(regular expression, True or False)``: whether the quotient of norms applies; the
            first found decides. Without any, variables with at least two dimensions have it.
        **kwargs: of Keras optimizers (``global_clipnorm``, ``gradient_accumulation_steps``, ...).

    Source: arXiv 1904.00962; the optimizer of the pretraining in articles 7055 and 8998 (there with
    ``bias_correction=False``, and norms and biases excluded).
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        bias_correction: bool = True,
        rate_rules: Sequence[tuple[str, float]] = (),
        weight_decay: float = 0.01,
        decay_rules: Sequence[tuple[str, bool]] = (),
        adaptation_rules: Sequence[tuple[str, bool]] = (),
        name: str = "lamb",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            rate_rules=rate_rules,
            weight_decay=weight_decay,
            decay_rules=decay_rules,
            name=name,
            **kwargs,
        )
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.bias_correction = bias_correction
        self.adaptation_rules = check_rules("adaptation_rules", adaptation_rules, bool)

    def adapts(self, variable: Any) -> bool:
        """Whether the quotient of norms applies to a variable."""
        return first_match(self.adaptation_rules, variable.path, len(variable.shape) >= 2)

    def build(self, variables: Sequence[Any]) -> None:
        """Create the moments."""
        if self.built:
            return
        super().build(variables)
        self._adapted = tuple(self.adapts(v) for v in variables)
        self._momentums = [self.add_variable(v.shape, dtype="float32", name="momentum") for v in variables]
        self._velocities = [self.add_variable(v.shape, dtype="float32", name="velocity") for v in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of one variable."""
        factor, decay = self.plan(variable)
        if not factor:
            return
        i = self._get_variable_index(variable)
        m, v = self._momentums[i], self._velocities[i]
        g, x = ops.cast(gradient, "float32"), ops.cast(variable, "float32")
        self.assign(m, self.beta_1 * m + (1.0 - self.beta_1) * g)
        self.assign(v, self.beta_2 * v + (1.0 - self.beta_2) * ops.square(g))
        first, second = ops.convert_to_tensor(m), ops.convert_to_tensor(v)
        if self.bias_correction:
            t = ops.cast(self.iterations + 1, "float32")
            first = first / (1.0 - ops.power(self.beta_1, t))
            second = second / (1.0 - ops.power(self.beta_2, t))
        u = first / (ops.sqrt(second) + self.epsilon)
        if decay:
            u = u + decay * x
        rate = ops.cast(learning_rate * factor, "float32")
        if self._adapted[i]:
            size, step = ops.sqrt(ops.sum(ops.square(x))), ops.sqrt(ops.sum(ops.square(u)))
            usable = ops.logical_and(size > 0, step > 0)
            rate = rate * ops.where(usable, size / ops.where(usable, step, 1.0), 1.0)
        self.assign(variable, ops.cast(x - rate * u, variable.dtype))

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "bias_correction": self.bias_correction,
            "adaptation_rules": [list(rule) for rule in self.adaptation_rules],
        }
