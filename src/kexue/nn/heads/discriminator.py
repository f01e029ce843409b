"""Which tokens are real and which were put in by a generator."""

from typing import Any

import keras
from keras import ops

from kexue.nn import activations, initializers

__all__ = ["DiscriminatorHead"]


@keras.saving.register_keras_serializable(package="kexue")
class DiscriminatorHead(keras.layers.Layer):
    """``act(x W + b) w + c``: one float32 logit a token, ``(batch, length, size)`` to ``(batch, length)``.

    Above 0 means that the token was replaced.

    Args:
        activation: between the maps; that of the feed-forward part in ELECTRA.
        use_bias: the maps have biases.
        initializer: see `kexue.nn.initializers.make`.

    Source: Clark et al., "ELECTRA", arXiv 2003.10555.
    """

    def __init__(
        self,
        activation: str = "gelu",
        use_bias: bool = True,
        initializer: float | dict[str, int] = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.activation, self.use_bias, self.initializer = activation, use_bias, initializer

    def build(self, input_shape: Any) -> None:
        size, make = input_shape[-1], initializers.make(self.initializer)
        self.dense_kernel = self.add_weight(shape=(size, size), initializer=make, name="dense_kernel")
        self.kernel = self.add_weight(shape=(size, 1), initializer=initializers.make(self.initializer), name="kernel")
        self.dense_bias = self.bias = None
        if self.use_bias:
            self.dense_bias = self.add_weight(shape=(size,), initializer="zeros", name="dense_bias")
            self.bias = self.add_weight(shape=(1,), initializer="zeros", name="bias")
        self.built = True

    def call(self, x: Any) -> Any:
        x = ops.matmul(x, self.dense_kernel)
        x = activations.get(self.activation)(x if self.dense_bias is None else x + self.dense_bias)
        logits = ops.cast(ops.squeeze(ops.matmul(x, self.kernel), -1), "float32")
        return logits if self.bias is None else logits + ops.cast(self.bias, "float32")

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(x.shape[:-1], dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "activation": self.activation,
            "use_bias": self.use_bias,
            "initializer": self.initializer,
        }
