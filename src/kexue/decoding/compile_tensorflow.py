"""A function of arrays and a model's weights, compiled by TensorFlow and XLA."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

__all__ = ["Compiled"]


class Compiled:
    """``function(*arguments)`` as one program for each shape; weights are read at each call."""

    def __init__(self, model: keras.Model, function: Callable[..., Any]) -> None:
        self.run = tf.function(function, jit_compile=True, autograph=False, reduce_retracing=False)

    def __call__(self, *arguments: Any) -> Any:
        return self.run(*keras.tree.map_structure(lambda x: None if x is None else tf.convert_to_tensor(x), arguments))

    def count(self) -> int:
        """Programs so far."""
        return int(self.run.experimental_get_tracing_count())
