"""Gradients with JAX."""

from collections.abc import Callable
from typing import Any

import jax

__all__ = ["gradients"]


def gradients(model: Any) -> Callable[[Any, Any, Any], list[Any]]:
    """``f(x, y, sample_weight)``, compiled: a gradient for each trainable weight."""

    @jax.jit
    def compute(trainable: Any, fixed: Any, metrics: Any, x: Any, y: Any, weight: Any) -> Any:
        def loss(values: Any) -> Any:
            _, (unscaled, *_) = model.compute_loss_and_updates(
                values, fixed, metrics, x, y, weight, training=True, optimizer_variables=[]
            )
            return unscaled

        return jax.grad(loss)(trainable)

    def function(x: Any, y: Any, weight: Any) -> list[Any]:
        def values(variables: Any) -> list[Any]:
            return [v.value for v in variables]

        fixed, metrics = values(model.non_trainable_variables), values(model.metrics_variables)
        return compute(values(model.trainable_variables), fixed, metrics, x, y, weight)

    return function
