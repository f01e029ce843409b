"""The position-wise part of a block: plain ``act(x W1) W2`` or gated ``(act(x W1) * (x W3)) W2``."""

from typing import Any

import keras
from keras import ops

from kexue.nn import activations, initializers

__all__ = ["FeedForward"]


@keras.saving.register_keras_serializable(package="kexue")
class FeedForward(keras.layers.Layer):
    """Two dense maps with an activation between them; gated (GLU) when asked.

    Args:
        intermediate_size: size between the maps.
        activation: a name of `kexue.nn.activations`.
        gated: W1 and W3 are one projection, ``[act part | linear part]``.
        use_bias: both maps have biases.
        initializer: see `kexue.nn.initializers.make`.

    Source: Vaswani et al., arXiv 1706.03762; gating: Shazeer, arXiv 2002.05202.
    """

    def __init__(
        self,
        intermediate_size: int,
        activation: str = "gelu",
        gated: bool = False,
        use_bias: bool = True,
        initializer: float | dict[str, int] = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.intermediate_size, self.activation = intermediate_size, activation
        self.gated, self.use_bias, self.initializer = gated, use_bias, initializer
        self._act = activations.get(activation)

    def build(self, input_shape: Any) -> None:
        size = input_shape[-1]
        up = self.intermediate_size * (2 if self.gated else 1)
        self.up_kernel = self.add_weight(
            shape=(size, up), initializer=initializers.make(self.initializer), name="up_kernel"
        )
        self.up_bias = self.add_weight(shape=(up,), initializer="zeros", name="up_bias") if self.use_bias else None
        self.down_kernel = self.add_weight(
            shape=(self.intermediate_size, size), initializer=initializers.make(self.initializer), name="down_kernel"
        )
        self.down_bias = (
            self.add_weight(shape=(size,), initializer="zeros", name="down_bias") if self.use_bias else None
        )
        self.built = True

    def call(self, x: Any) -> Any:
        # Tokens as rows of one matrix: XLA makes better gradients of two-dimensional products.
        shape = ops.shape(x)
        x = ops.reshape(x, (-1, shape[-1]))  # (B L, D)
        x = ops.matmul(x, self.up_kernel)  # (B L, F) or (B L, 2 F)
        if self.up_bias is not None:
            x = x + self.up_bias
        if self.gated:
            gate, x = ops.split(x, 2, axis=-1)
            x = self._act(gate) * x
        else:
            x = self._act(x)
        x = ops.matmul(x, self.down_kernel)  # (B L, D)
        x = x if self.down_bias is None else x + self.down_bias
        return ops.reshape(x, shape)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "intermediate_size": self.intermediate_size,
            "activation": self.activation,
            "gated": self.gated,
            "use_bias": self.use_bias,
            "initializer": self.initializer,
        }
