"""A loop over chunks on TensorFlow: ``keras.ops.scan`` wants outputs of the shapes of the state there."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

__all__ = ["loop"]


def loop(
    body: Callable[[Any, Any], tuple[Any, Any]],
    start: tuple[Any, ...],
    pieces: tuple[Any, ...],
    shapes: tuple[tuple[int | None, ...], ...],
) -> list[Any]:
    """The outputs of ``body(state, piece) -> (state, outputs)``, float32 of static ``shapes``, each stacked."""
    count = tf.shape(pieces[0])[0]
    inputs = [tf.TensorArray(p.dtype, count, element_shape=p.shape[1:]).unstack(p) for p in pieces]
    outputs = [tf.TensorArray("float32", count, element_shape=shape) for shape in shapes]

    def turn(i: Any, state: Any, outputs: Any) -> Any:
        state, found = body(state, tuple(array.read(i) for array in inputs))
        return i + 1, state, [array.write(i, value) for array, value in zip(outputs, found, strict=True)]

    _, _, outputs = tf.while_loop(lambda i, *_: i < count, turn, (0, start, outputs))
    return [array.stack() for array in outputs]
