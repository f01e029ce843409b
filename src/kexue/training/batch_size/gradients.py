"""The gradient of a compiled model's loss on one batch, on any backend."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import keras
import numpy as np

from kexue.errors import ConfigError

__all__ = ["gradient_function"]


def gradient_function(model: keras.Model) -> Callable[[Any, Any, Any], np.ndarray]:
    """``f(x, y, sample_weight)``: the gradient of the training loss of a compiled model by all its trainable weights,
    one float32 vector. Parameters, optimizer and running statistics stay as they are.

    Raises:
        ConfigError: the model is not compiled, or the backend computes no gradients.
    """
    if not getattr(model, "compiled", False):
        raise ConfigError("the model must be compiled with a loss: model.compile(optimizer, loss).")
    backend = keras.backend.backend()
    if backend not in ("jax", "torch", "tensorflow"):
        raise ConfigError(f"gradients need JAX, PyTorch or TensorFlow. Received: the backend {backend}")
    raw = import_module(f"kexue.training.batch_size.gradients_{backend}").gradients(model)

    def function(x: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        if not model.built:
            model(x)
        arrays = raw(x, y, sample_weight)
        return np.concatenate([np.asarray(a, np.float32).ravel() for a in arrays])

    return function
