"""An output layer whose matrix is another layer's."""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError

__all__ = ["TiedDense"]


@keras.saving.register_keras_serializable(package="kexue")
class TiedDense(keras.layers.Layer):
    """``activation(x E^T + b)`` with ``E`` (V, d) borrowed from another layer and ``b`` (V,) its own, zero at first.

    The matrix is read and transposed in each call, so that it is never a stale copy; it is counted and saved once. A
    gradient of it has both parts, that of the lender and that of this layer. Copies made by
    `kexue.models.surgery.clone`, and models saved and loaded, are tied to their own lender.

    Args:
        source: the layer that lends, such as a `keras.layers.Embedding`; built before this layer is called.
        weight: name of the attribute that holds E; ``embeddings``, ``table`` or ``kernel`` by default. A ``kernel``
            (d, V) of a Dense layer is taken with ``transpose=True``.
        transpose: the weight is E^T already, (d, V).
        use_bias: whether b exists.
        activation: of Keras, softmax by default.

    Call arguments:
        x: ``(..., d)``.

    Returns:
        ``(..., V)``.

    Raises:
        ConfigError: the source has no such weight, is not built, or is of another size than ``x``.

    Source: kexue.fm article 6985; Press and Wolf, arXiv 1608.05859.
    """

    def __init__(
        self,
        source: keras.layers.Layer,
        weight: str | None = None,
        transpose: bool = False,
        use_bias: bool = True,
        activation: Any = "softmax",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(source, keras.layers.Layer):
            raise ConfigError(
                f"source must be a layer; name its variable in `weight`. Received: {type(source).__name__}"
            )
        self.source, self.weight, self.transpose, self.use_bias = source, weight, transpose, use_bias
        self.activation = keras.activations.get(activation)

    @property
    def matrix(self) -> Any:
        """The borrowed variable, (V, d) or with ``transpose`` (d, V)."""
        if not self.source.built:
            raise ConfigError(f"{self.source.name}, which lends {self.name} its matrix, must be called before it.")
        names = (self.weight,) if self.weight else ("embeddings", "table", "kernel")
        for name in names:
            found = getattr(self.source, name, None)
            if found is not None and len(getattr(found, "shape", ())) == 2:
                return found
        raise ConfigError(f"{self.source.name} has no matrix called {' or '.join(names)}; say which by `weight`.")

    @property
    def units(self) -> int:
        """V, the size of the output."""
        return self.matrix.shape[1 if self.transpose else 0]

    def build(self, input_shape: Any) -> None:
        size = self.matrix.shape[0 if self.transpose else 1]
        if input_shape[-1] != size:
            raise ConfigError(
                f"{self.name} multiplies by vectors of size {size} of {self.source.name}. Received: inputs of size "
                f"{input_shape[-1]}; project them first."
            )
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias") if self.use_bias else None
        self.built = True

    def call(self, x: Any) -> Any:
        matrix = ops.cast(self.matrix, x.dtype)
        x = ops.matmul(x, matrix if self.transpose else ops.transpose(matrix))
        return self.activation(x if self.bias is None else x + ops.cast(self.bias, x.dtype))

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor((*x.shape[:-1], self.units), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        # The layer itself, not its configuration: Keras then sees, when it saves a whole model, that the same object
        # stands elsewhere in it.
        return super().get_config() | {
            "source": self.source,
            "weight": self.weight,
            "transpose": self.transpose,
            "use_bias": self.use_bias,
            "activation": keras.activations.serialize(self.activation),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TiedDense":
        if isinstance(config["source"], keras.layers.Layer):
            raise ConfigError(
                f"a copy of {config.get('name')} alone would be tied to the embedding of the original "
                "(keras.models.clone_model copies layers one by one): copy the model by kexue.models.surgery.clone."
            )
        return cls(**config | {"source": keras.saving.deserialize_keras_object(config["source"])})
