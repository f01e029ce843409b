"""One vector a sequence."""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import activations, initializers

__all__ = ["FirstTokenPooler", "pool"]


@keras.saving.register_keras_serializable(package="kexue")
class FirstTokenPooler(keras.layers.Layer):
    """``tanh(x[0] W + b)``: BERT's pooled output, ``(batch, length, size)`` to ``(batch, size)``.

    Args:
        activation: ``"tanh"`` in BERT.
        use_bias: the map has a bias.
        initializer: see `kexue.nn.initializers.make`.
    """

    def __init__(
        self,
        activation: str = "tanh",
        use_bias: bool = True,
        initializer: float | dict[str, int] = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.activation, self.use_bias, self.initializer = activation, use_bias, initializer

    def build(self, input_shape: Any) -> None:
        size, make = input_shape[-1], initializers.make(self.initializer)
        self.kernel = self.add_weight(shape=(size, size), initializer=make, name="kernel")
        self.bias = self.add_weight(shape=(size,), initializer="zeros", name="bias") if self.use_bias else None
        self.built = True

    def call(self, x: Any) -> Any:
        x = ops.matmul(x[:, 0], self.kernel)
        return activations.get(self.activation)(x if self.bias is None else x + self.bias)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "activation": self.activation,
            "use_bias": self.use_bias,
            "initializer": self.initializer,
        }


def pool(x: Any, padding_mask: Any = None, how: str = "mean") -> Any:
    """One float32 vector a sequence from ``(batch, length, size)``, padding left out.

    Args:
        x: hidden states.
        padding_mask: ``(batch, length)``, true at real tokens; None for all.
        how: ``"first"`` token, ``"mean"`` or ``"max"`` over real tokens. A row without tokens gives zeros.
    """
    x = ops.cast(x, "float32")
    if how == "first":
        return x[:, 0]
    if how not in ("mean", "max"):
        raise ConfigError(f"how must be 'first', 'mean' or 'max'. Received: how={how!r}")
    if padding_mask is None:
        return ops.mean(x, axis=1) if how == "mean" else ops.max(x, axis=1)
    keep = ops.expand_dims(ops.cast(padding_mask, "bool"), -1)  # (B, L, 1)
    if how == "mean":
        total = ops.sum(ops.where(keep, x, 0.0), axis=1)
        return total / ops.maximum(ops.sum(ops.cast(keep, "float32"), axis=1), 1.0)
    return ops.where(ops.any(keep, axis=1), ops.max(ops.where(keep, x, -3e38), axis=1), 0.0)
