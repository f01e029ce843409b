"""A model as one compiled function on NumPy batches."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kexue.models.direct import jax_forward

__all__ = ["compiled_forward", "rows_for"]

Forward = Callable[[dict[str, np.ndarray]], Any]


def compiled_forward(model: keras.Model) -> Forward:
    """``batch -> output`` outside training, compiled once a shape on JAX and TensorFlow.

    The output stays on the device; on JAX the call returns before it is computed.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return jax_forward(model)
    if backend == "tensorflow":
        import tensorflow as tf

        graph = tf.function(lambda batch: model(batch, training=False), reduce_retracing=True)
        return lambda batch: graph({name: tf.convert_to_tensor(value) for name, value in batch.items()})
    if backend == "torch":
        import torch

        def eager(batch: dict[str, np.ndarray]) -> Any:
            with torch.no_grad():
                return model({n: keras.ops.convert_to_tensor(v) for n, v in batch.items()}, training=False)

        return eager
    return lambda batch: model(batch, training=False)


def rows_for(count: int, batch_size: int) -> int:
    """Rows of a batch that holds ``count`` texts: as they are where nothing is compiled, else a power of two."""
    if keras.backend.backend() == "torch":
        return count
    return min(1 << (count - 1).bit_length(), max(batch_size, count))
