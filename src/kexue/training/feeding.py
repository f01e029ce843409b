"""How batches reach ``fit``."""

from typing import Any

import keras

__all__ = ["feed"]


def feed(batches: Any) -> Any:
    """What to give to ``fit``: the ``PyDataset`` itself, on TensorFlow a ``tf.data.Dataset`` of it.

    Keras takes the shapes for ``tf.data`` from the first two batches and fails at a third with another length, hence
    the detour. ``batches`` has ``__getitem__``, ``num_batches`` and ``signature()``.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    def generate() -> Any:
        for index in range(batches.num_batches):
            yield batches[index]

    data = tf.data.Dataset.from_generator(generate, output_signature=batches.signature())
    return data.apply(tf.data.experimental.assert_cardinality(batches.num_batches))
