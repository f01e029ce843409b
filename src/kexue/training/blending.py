"""The step of a weighted average, of many tensors at once."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError

__all__ = ["blend", "check_ema", "compiled_blend", "sample_weight"]


def check_ema(decay: float, mode: str, update_every: int) -> None:
    """Raise ConfigError for arguments that cannot work."""
    if not 0 <= decay <= 1:
        raise ConfigError(f"decay must be in [0, 1]. Received: {decay}")
    if mode not in ("copy", "zero"):
        raise ConfigError(f"mode must be 'copy' or 'zero'. Received: {mode!r}")
    if not isinstance(update_every, int) or update_every < 1:
        raise ConfigError(f"update_every must be a positive integer. Received: {update_every!r}")


def sample_weight(decay: float, warmup: bool, steps: int, n: Any) -> Any:
    """``1 - d^k`` with ``d = min(decay, (1 + n) / (10 + n))`` when warming up, without loss of digits near d = 1.

    Args:
        decay: in [0, 1].
        warmup: whether the decay depends on n.
        steps: k.
        n: updates before; a number or a tensor.
    """
    left = 1.0 - decay
    if not warmup:
        return 1.0 if left == 1.0 else -math.expm1(steps * math.log1p(-left))
    if isinstance(n, int):
        left = max(left, 9.0 / (10.0 + n))
        return 1.0 if left == 1.0 else -math.expm1(steps * math.log1p(-left))
    left = ops.maximum(left, 9.0 / (10.0 + ops.cast(n, "float32")))
    return left if steps == 1 else -ops.expm1(steps * ops.log1p(-ops.minimum(left, 1.0 - 1e-7)))


def blend(averages: Sequence[Any], values: Sequence[Any], weight: Any) -> list[Any]:
    """``average + weight (value - average)`` in float32; weights 0 and 1 and equal inputs are exact."""
    weight = ops.cast(weight, "float32")

    def one(average: Any, value: Any) -> Any:
        value = ops.cast(value, "float32")
        difference = value - average
        return ops.where(weight < 0.5, average + weight * difference, value - (1.0 - weight) * difference)

    return [one(average, value) for average, value in zip(averages, values, strict=True)]


def compiled_blend() -> Callable[[Sequence[Any], Sequence[Any], float], list[Any]]:
    """`blend` as one call of the backend; the averages given to it are used up."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        run = jax.jit(blend, donate_argnums=0)
        return lambda averages, values, weight: run(list(averages), list(values), jax.numpy.float32(weight))
    if backend == "tensorflow":
        import tensorflow as tf

        function = tf.function(blend, autograph=False)
        return lambda averages, values, weight: function(
            list(averages), [tf.convert_to_tensor(v) for v in values], tf.constant(weight, "float32")
        )
    from kexue.training.blending_torch import blend_in_place

    return blend_in_place
