"""Gradients with TensorFlow."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

__all__ = ["gradients"]


def gradients(model: Any) -> Callable[[Any, Any, Any], list[Any]]:
    """``f(x, y, sample_weight)``, compiled: a gradient for each trainable weight."""

    @tf.function(reduce_retracing=True)
    def function(x: Any, y: Any, weight: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            y_pred = model(x, training=True)
            loss = model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=weight, training=True)
        values = [v.value for v in model.trainable_variables]
        found = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.cast(tf.convert_to_tensor(g), tf.float32) for g in found]

    return function
