"""Rates and weight decay that depend on the variable, for any Keras optimizer.

A pretrained encoder wants a small learning rate, smaller still in its lower layers, while a new head (and above all
the transitions of a CRF) starts from nothing and wants a large one.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError

__all__ = ["PerVariable", "check_rules", "first_match", "layer_decay_rules", "per_variable"]

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


def check_rules(name: str, rules: Sequence[Any], kind: type) -> list[tuple[str, Any]]:
    """``rules`` as pairs of an expression and a ``kind``.

    Raises:
        ConfigError: something else, or an expression that is none.
    """
    checked = []
    for rule in rules:
        try:
            pattern, value = rule
            re.compile(pattern)
            checked.append((pattern, kind(value)))
        except (TypeError, ValueError, re.error) as error:
            raise ConfigError(
                f"{name} takes pairs (regular expression, {kind.__name__}). Received: {rule!r} ({error})"
            ) from None
    return checked


def first_match(rules: Sequence[tuple[str, Any]], path: str, default: Any) -> Any:
    """Value of the first rule whose expression is found in ``path``."""
    return next((value for pattern, value in rules if re.search(pattern, path)), default)


class PerVariable:
    """Mixed in before a Keras optimizer: each variable has a rate factor and decays or not; see `per_variable`."""

    def __init__(
        self,
        *args: Any,
        rate_rules: Sequence[tuple[str, float]] = (),
        decay_rules: Sequence[tuple[str, bool]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.rate_rules = check_rules("rate_rules", rate_rules, float)
        self.decay_rules = check_rules("decay_rules", decay_rules, bool)
        if any(factor < 0 for _, factor in self.rate_rules):
            raise ConfigError(f"factors must not be negative. Received: rate_rules={self.rate_rules}")

    def rate_factor(self, variable: Any) -> float:
        """Factor of a variable's learning rate."""
        return first_match(self.rate_rules, variable.path, 1.0)

    def decays(self, variable: Any) -> bool:
        """Whether weight decay applies to a variable."""
        return first_match(self.decay_rules, variable.path, len(variable.shape) >= 2)

    def build(self, variables: Sequence[Any]) -> None:
        """Create the state, and work out each variable's factor and decay."""
        if self.built:  # type: ignore[attr-defined]
            return
        decay = self.weight_decay or 0.0  # type: ignore[attr-defined]
        self._plan = tuple((self.rate_factor(v), decay * self.decays(v)) for v in variables)
        super().build(variables)  # type: ignore[misc]

    def plan(self, variable: Any) -> tuple[float, float]:
        """Rate factor and weight decay of a variable that the optimizer was built with."""
        return self._plan[self._get_variable_index(variable)]  # type: ignore[attr-defined]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of one variable, its decay included."""
        factor, decay = self.plan(variable)
        if not factor:
            return
        rate = learning_rate * factor
        if decay:
            self.assign_sub(variable, variable * ops.cast(rate * decay, variable.dtype))  # type: ignore[attr-defined]
        super().update_step(gradient, variable, rate)  # type: ignore[misc]

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Done in `update_step`."""

    def _get_current_learning_rate(self) -> Any:
        """Keras gives a schedule the number of batches; under accumulation that is not the number of updates."""
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[attr-defined]
            return self._learning_rate(self.iterations)  # type: ignore[attr-defined]
        return super()._get_current_learning_rate()  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),  # type: ignore[misc]
            "rate_rules": [list(rule) for rule in self.rate_rules],
            "decay_rules": [list(rule) for rule in self.decay_rules],
        }


@cache
def per_variable(optimizer: type[keras.optimizers.Optimizer]) -> Any:
    """A class like ``optimizer``, a Keras optimizer, whose rate and decay depend on the variable.

        Lion = per_variable(keras.optimizers.Lion)
        Lion(1e-4, weight_decay=0.1, rate_rules=[("^head/", 10.0)], decay_rules=[("norm", False)])

    Two arguments are new:

    - ``rate_rules``: pairs ``(regular expression, factor)``; the first whose expression is found in a variable's path
      gives the factor of its learning rate, 1 if none is. A factor of 0 leaves the variable as it is.
    - ``decay_rules``: pairs ``(regular expression, True or False)``: whether ``weight_decay`` applies; the first found
      decides. Without any, variables with at least two dimensions decay, biases and gains do not.

    With r the factor times the learning rate and d the decay, ``x <- x (1 - r d)`` comes first, then the optimizer's
    own step at the rate r. A schedule counts updates, which under ``gradient_accumulation_steps=k`` are every k-th
    batch; Keras' own optimizers give it the number of batches.

    The class is made once and known to Keras as ``kexue>PerVariable...``: to load a model that was saved with one, make
    the class first.

    Raises:
        ConfigError: not an optimizer class, or one that wraps others.
    """
    wrapped = (keras.optimizers.LossScaleOptimizer,)
    if not (isinstance(optimizer, type) and issubclass(optimizer, keras.optimizers.Optimizer)) or issubclass(
        optimizer, wrapped
    ):
        raise ConfigError(
            f"per_variable takes the class of an optimizer, such as keras.optimizers.Lion. Received: {optimizer!r}"
        )
    if issubclass(optimizer, PerVariable):
        return optimizer
    made = type(optimizer.__name__, (PerVariable, optimizer), {"__doc__": per_variable.__doc__, "__module__": __name__})
    return keras.saving.register_keras_serializable("kexue", f"PerVariable{optimizer.__name__}")(made)
