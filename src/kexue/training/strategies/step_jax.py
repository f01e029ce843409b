"""Strategies on JAX: a pure function of the state."""

from typing import Any

import jax
import keras

from kexue.training.strategies.base import Problem, Strategy

__all__ = ["train_step"]


def _differentiate(function: Any, values: list[Any]) -> tuple[Any, Any]:
    (_, extra), gradients = jax.value_and_grad(function, has_aux=True)(values)
    return gradients, extra


def train_step(model: keras.Model, strategy: Strategy, state: Any, data: Any) -> tuple[Any, Any]:
    """``state, batch -> logs, state``, as Keras compiles it."""
    trainable, fixed, optimizer_values, metrics = state
    optimizer = model.optimizer
    with keras.StatelessScope(state_mapping=list(zip(optimizer.variables, optimizer_values, strict=True))):
        scale, step = optimizer.scale_loss(1.0), jax.numpy.asarray(optimizer.iterations)
    problem = Problem(model, data, trainable, fixed, metrics, scale=scale, step=step, differentiate=_differentiate)
    loss, outputs, gradients = strategy.update(problem)
    gradients = [(g * scale).astype(w.dtype) for g, w in zip(gradients, trainable, strict=True)]
    trainable, optimizer_values = optimizer.stateless_apply(optimizer_values, gradients, trainable)
    logs, metrics = model._update_metrics_variables(
        problem.metrics, loss, problem.x, problem.y, outputs, problem.sample_weight
    )
    return logs, (trainable, problem.fixed, optimizer_values, metrics)
