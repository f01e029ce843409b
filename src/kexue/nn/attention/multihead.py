"""Multi-head softmax attention with one fused projection and positions as a part."""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import initializers
from kexue.nn.attention.kernels import attend
from kexue.nn.positions.base import PositionEncoding

__all__ = ["MultiHeadAttention"]


@keras.saving.register_keras_serializable(package="kexue")
class MultiHeadAttention(keras.layers.Layer):
    """Self-attention ``softmax(q k^T scale) v`` in several heads.

    Queries, keys and values are one projection, laid out ``[all q | all k | all v]``.

    Args:
        heads: number of heads.
        key_size: size of queries and keys in a head.
        value_size: size of values in a head, ``key_size`` by default.
        positions: encoding whose hooks act inside attention.
        causal: keys after the query are hidden, by the kernel's own flag.
        scale: ``"sqrt"`` for 1 / sqrt(key_size), or a number.
        dropout: rate for the attention probabilities.
        use_bias: the projections have biases.
        initializer: see `kexue.nn.initializers.make`.

    Call arguments:
        x: ``(batch, length, size)``.
        attention_mask: boolean, broadcastable to ``(batch, heads, length, length)``, True = may see.
        tables: what ``positions.tables`` returned.

    Returns:
        ``(batch, length, size)``.
    """

    def __init__(
        self,
        heads: int,
        key_size: int,
        value_size: int | None = None,
        positions: PositionEncoding | None = None,
        causal: bool = False,
        scale: str | float = "sqrt",
        dropout: float = 0.0,
        use_bias: bool = True,
        initializer: float | dict[str, int] = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if heads < 1 or key_size < 1:
            raise ConfigError(f"heads and key_size must be positive. Received: heads={heads}, key_size={key_size}")
        if isinstance(scale, str) and scale != "sqrt":
            raise ConfigError(f"scale must be 'sqrt' or a number. Received: scale={scale!r}")
        self.heads, self.key_size, self.value_size = heads, key_size, value_size or key_size
        self.positions, self.causal, self.scale = positions, causal, scale
        self.dropout, self.use_bias, self.initializer = dropout, use_bias, initializer
        self.seed_generator = keras.random.SeedGenerator() if dropout > 0 else None

    @property
    def scale_factor(self) -> float:
        return self.key_size**-0.5 if self.scale == "sqrt" else float(self.scale)

    def build(self, input_shape: Any) -> None:
        size, fused = input_shape[-1], self.heads * (2 * self.key_size + self.value_size)
        out = self.heads * self.value_size
        self.qkv_kernel = self.add_weight(
            shape=(size, fused), initializer=initializers.make(self.initializer), name="qkv_kernel"
        )
        self.output_kernel = self.add_weight(
            shape=(out, size), initializer=initializers.make(self.initializer), name="output_kernel"
        )
        self.qkv_bias = self.output_bias = None
        if self.use_bias:
            self.qkv_bias = self.add_weight(shape=(fused,), initializer="zeros", name="qkv_bias")
            self.output_bias = self.add_weight(shape=(size,), initializer="zeros", name="output_bias")
        self.built = True

    def call(self, x: Any, attention_mask: Any = None, tables: Any = (), training: bool | None = None) -> Any:
        batch, length = ops.shape(x)[0], ops.shape(x)[1]
        # Tokens as rows of one matrix: XLA makes better gradients of two-dimensional products.
        fused = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), self.qkv_kernel)  # (B L, H (2 K + V))
        if self.qkv_bias is not None:
            fused = fused + self.qkv_bias
        keys = self.heads * self.key_size
        q, k, v = ops.split(fused, [keys, 2 * keys], axis=-1)
        q = ops.reshape(q, (batch, length, self.heads, self.key_size))
        k = ops.reshape(k, (batch, length, self.heads, self.key_size))
        v = ops.reshape(v, (batch, length, self.heads, self.value_size))
        bias = None
        if self.positions is not None and self.positions.inside_attention:
            q, k = self.positions.rotate(q, k, tables)
            v = self.positions.rotate_values(v, tables)
            bias = self.positions.scores(q, k, tables)
        context = attend(
            q,
            k,
            v,
            scale=self.scale_factor,
            mask=attention_mask,
            bias=bias,
            causal=self.causal,
            dropout=self.dropout if training else 0.0,
            seed=self.seed_generator,
        )  # (B, L, H, V)
        out = ops.matmul(ops.reshape(context, (-1, self.heads * self.value_size)), self.output_kernel)
        out = out if self.output_bias is None else out + self.output_bias
        return ops.reshape(out, (batch, length, x.shape[-1]))

    def compute_output_spec(self, x: Any, *_: Any, **__: Any) -> Any:
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        positions = None if self.positions is None else keras.saving.serialize_keras_object(self.positions)
        return super().get_config() | {
            "heads": self.heads,
            "key_size": self.key_size,
            "value_size": self.value_size,
            "positions": positions,
            "causal": self.causal,
            "scale": self.scale,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "initializer": self.initializer,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MultiHeadAttention":
        positions = config.get("positions")
        if isinstance(positions, dict):
            config = config | {"positions": keras.saving.deserialize_keras_object(positions)}
        return cls(**config)
