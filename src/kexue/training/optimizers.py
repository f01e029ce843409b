"""AdamW whose learning rate and weight decay depend on the variable.

A pretrained encoder wants a small learning rate, smaller still in its lower layers, while a new head (and above all
the transitions of a CRF) starts from nothing and wants a large one.
"""

import re
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError

__all__ = ["AdamW", "layer_decay_rules"]

_EMBEDDINGS = r"(^|/)(token|segment|position)_embedding/|(^|/)embedding_(norm|projection)/"


def layer_decay_rules(num_layers: int, decay: float) -> list[tuple[str, float]]:
    """Rate rules of a `kexue.models.Transformer`: block i of n learns at ``decay ** (n - 1 - i)`` of the rate,
    the embeddings at ``decay ** n``.

    Args:
        num_layers: number of blocks n.
        decay: factor from a block to the one below, in (0, 1]; 1 gives no rules.

    Source: ELECTRA, arXiv 2003.10555 (which counts the top block as ``decay ** 1``, the head as 1).
    """
    if not 0 < decay <= 1:
        raise ConfigError(f"layer_decay must be in (0, 1]. Received: {decay}")
    if decay == 1:
        return []
    blocks = [(rf"(^|/)block_{i}_", decay ** (num_layers - 1 - i)) for i in range(num_layers)]
    return [*blocks, (_EMBEDDINGS, decay**num_layers)]


@keras.saving.register_keras_serializable(package="kexue")
class AdamW(keras.optimizers.AdamW):
    """AdamW with a rate factor for each variable and no decay of biases and gains.

        m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
        x <- x (1 - r d) - r sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon),   r = factor * learning rate

    Args:
        learning_rate: a number or a schedule.
        rate_rules: pairs ``(regular expression, factor)``; the first whose expression is found in a variable's path
            gives its factor, 1 if none is. A factor of 0 leaves the variable as it is.
        weight_decay: d; applies to variables with at least two dimensions only, unless ``decay_rules`` says otherwise.
        decay_rules: pairs ``(regular expression, True or False)``: whether a variable decays; the first found decides.
        **kwargs: of ``keras.optimizers.AdamW`` (``beta_1``, ``global_clipnorm``, ``gradient_accumulation_steps``, ...).

    Source: arXiv 1711.05101 (AdamW), arXiv 1801.06146 (discriminative rates).
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        *,
        rate_rules: Sequence[tuple[str, float]] = (),
        weight_decay: float = 0.01,
        decay_rules: Sequence[tuple[str, bool]] = (),
        name: str = "adamw",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.rate_rules = [(str(pattern), float(factor)) for pattern, factor in rate_rules]
        self.decay_rules = [(str(pattern), bool(yes)) for pattern, yes in decay_rules]
        if any(factor < 0 for _, factor in self.rate_rules):
            raise ConfigError(f"factors must not be negative. Received: rate_rules={self.rate_rules}")
        if self.amsgrad:
            raise ConfigError("this AdamW has no amsgrad. Use keras.optimizers.AdamW")

    def rate_factor(self, variable: Any) -> float:
        """Factor of a variable's learning rate."""
        return next((factor for pattern, factor in self.rate_rules if re.search(pattern, variable.path)), 1.0)

    def decays(self, variable: Any) -> bool:
        """Whether weight decay applies to a variable."""
        default = len(variable.shape) >= 2
        return next((yes for pattern, yes in self.decay_rules if re.search(pattern, variable.path)), default)

    def build(self, variables: Sequence[Any]) -> None:
        """Create the moments, and work out each variable's factor and decay."""
        if self.built:
            return
        self._plan = tuple((self.rate_factor(v), self.weight_decay * self.decays(v)) for v in variables)
        super().build(variables)

    def plan(self, variable: Any) -> tuple[float, float]:
        """Rate factor and weight decay of a variable that the optimizer was built with."""
        return self._plan[self._get_variable_index(variable)]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of one variable, its decay included."""
        factor, decay = self.plan(variable)
        if not factor:
            return
        if decay:
            self.assign_sub(variable, variable * ops.cast(learning_rate * (factor * decay), variable.dtype))
        super().update_step(gradient, variable, learning_rate * factor)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Done in `update_step`."""

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        if keras.backend.backend() != "torch":
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        from kexue.training.optimizers_torch import fused_step

        fused_step(self, grads, trainable_variables, learning_rate)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "rate_rules": [list(rule) for rule in self.rate_rules],
            "decay_rules": [list(rule) for rule in self.decay_rules],
        }
