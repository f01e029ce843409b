"""AdamW whose learning rate and weight decay depend on the variable."""

from collections.abc import Sequence
from typing import Any

import keras

from kexue.errors import ConfigError
from kexue.training.optimizers.rules import PerVariable

__all__ = ["AdamW"]


@keras.saving.register_keras_serializable(package="kexue")
class AdamW(PerVariable, keras.optimizers.AdamW):
    """AdamW with a rate factor for each variable and no decay of biases and gains.

        m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
        x <- x (1 - r d) - r sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon),   r = factor * learning rate

    Args:
        learning_rate: a number, or a schedule of the number of updates.
        rate_rules: see `kexue.training.per_variable`.
        weight_decay: d; applies to variables with at least two dimensions only, unless ``decay_rules`` says otherwise.
        decay_rules: see `kexue.training.per_variable`.
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
        super().__init__(
            learning_rate=learning_rate,
            rate_rules=rate_rules,
            weight_decay=weight_decay,
            decay_rules=decay_rules,
            name=name,
            **kwargs,
        )
        if self.amsgrad:
            raise ConfigError("this AdamW has no amsgrad. Use per_variable(keras.optimizers.AdamW)")

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        if keras.backend.backend() != "torch":
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        from kexue.training.optimizers.adamw_torch import fused_step

        fused_step(self, grads, trainable_variables, learning_rate)
