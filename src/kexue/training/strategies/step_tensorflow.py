"""Strategies on TensorFlow, without ``tf.distribute``."""

from typing import Any

import keras
import tensorflow as tf

from kexue.errors import ConfigError
from kexue.training.strategies.base import Problem, Strategy

__all__ = ["train_step"]


def _differentiate(function: Any, values: list[Any]) -> tuple[Any, Any]:
    with tf.GradientTape() as tape:
        tape.watch(values)
        value, extra = function(values)
    gradients = tape.gradient(value, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [tf.convert_to_tensor(g) for g in gradients], extra


def train_step(model: keras.Model, strategy: Strategy, data: Any) -> Any:
    """``batch -> logs``."""
    if tf.distribute.has_strategy():
        raise ConfigError("training strategies do not run under tf.distribute. Use JAX for several devices.")
    optimizer = model.optimizer
    scale = tf.convert_to_tensor(optimizer.scale_loss(1.0))
    problem = Problem(
        model,
        data,
        [tf.convert_to_tensor(v.value) for v in model.trainable_variables],
        [tf.convert_to_tensor(v.value) for v in model.non_trainable_variables],
        [tf.convert_to_tensor(v.value) for v in model.metrics_variables],
        scale=scale,
        step=tf.convert_to_tensor(optimizer.iterations),
        differentiate=_differentiate,
    )
    loss, outputs, gradients = strategy.update(problem)
    for variables, values in (
        (model.non_trainable_variables, problem.fixed),
        (model.metrics_variables, problem.metrics),
    ):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    gradients = [tf.cast(g * scale, v.dtype) for g, v in zip(gradients, model.trainable_variables, strict=True)]
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    rows = tf.shape(next(leaf for leaf in keras.tree.flatten(problem.x) if leaf is not None))[0]
    model._loss_tracker.update_state(loss, sample_weight=rows)
    return model.compute_metrics(problem.x, problem.y, outputs, sample_weight=problem.sample_weight)
