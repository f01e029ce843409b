"""Lookahead: slow weights that follow any optimizer."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.training.averaged_optimizer import AveragedOptimizer

__all__ = ["Lookahead"]


@keras.saving.register_keras_serializable(package="kexue")
class Lookahead(keras.optimizers.Optimizer):
    """Every k updates of the inner optimizer, slow weights go part of the way, and the model goes back to them.

        slow <- slow + alpha (x - slow),   x <- slow        after updates k, 2k, 3k, ...

    Slow weights begin as the model's weights before the first update. Between synchronisations the model has the fast
    weights: to end on slow ones, train a multiple of k updates.

    Rates, clipping, accumulation and loss scaling are the inner optimizer's: give them to it. Under accumulation k
    counts updates, not batches. Wrap this in ``LossScaleOptimizer`` (Keras does, for ``mixed_float16``) or
    `kexue.training.AveragedOptimizer`, not the other way round.

    Args:
        optimizer: a Keras optimizer, not yet built.
        k: updates between synchronisations.
        alpha: how far the slow weights go, in (0, 1].
        name: of the optimizer.

    Raises:
        ConfigError: numbers that cannot work, or something that is no optimizer.

    Source: arXiv 1907.08610.
    """

    def __init__(self, optimizer: Any, k: int = 5, alpha: float = 0.5, name: str = "lookahead") -> None:
        optimizer = keras.optimizers.get(optimizer)
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer | AveragedOptimizer):
            name = type(optimizer).__name__
            raise ConfigError(
                f"Lookahead goes inside of other wrappers: {name}(Lookahead(...)). Received: a {name} inside"
            )
        if isinstance(k, bool) or not isinstance(k, int) or k < 1 or not 0 < alpha <= 1:
            raise ConfigError(f"Lookahead needs an integer k >= 1 and alpha in (0, 1]. Received: k={k}, alpha={alpha}")
        super().__init__(learning_rate=0.0, name=name)
        self.inner, self.k, self.alpha = optimizer, k, float(alpha)

    def build(self, variables: Sequence[Any]) -> None:
        """Create the slow weights."""
        if self.built:
            return
        self.inner.build(variables)
        self._slow = self.add_optimizer_variables(variables, "slow")
        super().build(variables)

    @property
    def inner_optimizer(self) -> Any:
        """The optimizer, under the name that Keras' wrappers have for it."""
        return self.inner

    @property
    def variables(self) -> list[Any]:
        """Own and inner state."""
        return self._variables + self.inner.variables

    @property
    def iterations(self) -> Any:
        """Updates of the inner optimizer so far."""
        return self.inner.iterations

    @property
    def learning_rate(self) -> Any:
        """Of the inner optimizer."""
        return self.inner.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.inner.learning_rate = value

    def scale_loss(self, loss: Any) -> Any:
        """As the inner optimizer does."""
        return self.inner.scale_loss(loss)

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """As the inner optimizer does."""
        self.inner.finalize_variable_values(var_list)

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """One step of the inner optimizer, and now and then of the slow weights."""
        if not self.built:
            with keras.name_scope(self.name):
                self.build(list(trainable_variables))
        pairs = [(x, slow) for x, slow in zip(self._trainable_variables, self._slow, strict=True) if slow is not None]
        # Not in build: weights may be loaded between it and the first step.
        begun = self.inner._iterations > 0
        starts = ops.cond(
            begun,
            lambda: [ops.convert_to_tensor(slow) for _, slow in pairs],
            lambda: [ops.convert_to_tensor(x) for x, _ in pairs],
        )
        for (_, slow), start in zip(pairs, starts, strict=True):
            slow.assign(start)
        self.inner.apply(grads, trainable_variables)
        self._iterations.assign_add(1)
        due = self.inner._iterations % (self.k * (self.inner.gradient_accumulation_steps or 1)) == 0
        after = ops.cond(
            due,
            lambda: [(slow + self.alpha * (x - slow),) * 2 for x, slow in pairs],
            lambda: [(ops.convert_to_tensor(x), ops.convert_to_tensor(slow)) for x, slow in pairs],
        )
        for (x, slow), (new_x, new_slow) in zip(pairs, after, strict=True):
            x.assign(new_x)
            slow.assign(new_slow)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        inner = keras.saving.serialize_keras_object(self.inner)
        return {"optimizer": inner, "k": self.k, "alpha": self.alpha, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Lookahead":
        """From `get_config`."""
        inner = keras.saving.deserialize_keras_object(config["optimizer"], custom_objects=custom_objects)
        return cls(**{**config, "optimizer": inner})
