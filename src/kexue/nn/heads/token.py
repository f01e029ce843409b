"""Token classification: one independent softmax for each token, the baseline of the sequence labellers."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError

__all__ = ["TokenClassifier"]


@keras.saving.register_keras_serializable(package="kexue")
class TokenClassifier(keras.layers.Layer):
    """``logits = Dense(dropout(x))``, to be trained with `kexue.nn.losses.TokenCrossentropy`.

    Args:
        labels: number of labels K.
        dropout: rate applied to the input while training.
        use_bias: of the Dense layer.
        kernel_initializer: of the Dense layer.
        kernel_regularizer: of the Dense layer.

    Call arguments:
        x: ``(batch, length, D)``.

    Returns:
        float32 logits ``(batch, length, labels)``. Padding is left to the loss and the decoder.

    Raises:
        ConfigError: ``labels`` or ``dropout`` out of range.
    """

    def __init__(
        self,
        labels: int,
        *,
        dropout: float = 0.0,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if labels < 1 or not 0 <= dropout < 1:
            raise ConfigError(
                f"TokenClassifier needs labels >= 1 and 0 <= dropout < 1. Received: labels={labels}, dropout={dropout}"
            )
        self.labels = labels
        self.dropout = dropout
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="drop") if dropout else None
        self.projection = keras.layers.Dense(
            labels,
            use_bias=use_bias,
            kernel_initializer=self.kernel_initializer,
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name="projection",
        )

    def build(self, x_shape: Sequence[int | None]) -> None:
        """Create the projection."""
        self.projection.build(x_shape)
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Logits of every token."""
        if self.drop is not None:
            x = self.drop(x, training=training)
        return ops.cast(self.projection(x), "float32")

    def compute_output_shape(self, x_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """``(batch, length, labels)``."""
        return (*x_shape[:-1], self.labels)

    def compute_output_spec(self, x: Any, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        """float32 whatever the dtype policy."""
        return keras.KerasTensor(self.compute_output_shape(x.shape), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "labels": self.labels,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
