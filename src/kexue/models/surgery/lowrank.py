"""A low-rank branch beside any layer."""

from typing import Any

import keras
from keras import ops, tree

from kexue.errors import ConfigError

__all__ = ["LowRank"]


@keras.saving.register_keras_serializable(package="kexue")
class LowRank(keras.layers.Layer):
    """``layer(x) + (alpha / rank) x A B``, the layer frozen, A (d, rank) random and B (rank, k) zero at first.

    Beside a linear layer that is LoRA, and `merge` moves the branch into its kernel. Beside any other whose first
    argument is ``(..., d)`` and whose output ``(..., k)`` it is a parallel adapter.

    Args:
        layer: the layer, which stops training, in other models that share it as well.
        rank: columns of A.
        alpha: scale, ``rank`` by default.
        units: k; that of the layer's calls so far by default.

    Call arguments:
        x: ``(..., d)``; further arguments go to the layer.

    Raises:
        ConfigError: rank is below 1; or the layer was never called and ``units`` is not given.

    Source: Hu et al., "LoRA", arXiv 2106.09685; He et al., arXiv 2110.04366.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        rank: int = 8,
        alpha: float | None = None,
        units: int | None = None,
        **kwargs: Any,
    ) -> None:
        # Keras would cast further arguments, such as tables of positions, to the compute dtype.
        super().__init__(**{"name": f"{layer.name}_low_rank", "dtype": layer.dtype_policy, "autocast": False} | kwargs)
        if rank < 1:
            raise ConfigError(f"rank must be at least 1. Received: rank={rank}")
        if units is None:
            if not layer._inbound_nodes:
                raise ConfigError(f"{layer.name} was not called yet: give the size of its output as `units`.")
            units = layer._inbound_nodes[0].outputs[0].shape[-1]
        self.layer, self.rank, self.alpha, self.units = layer, rank, alpha, units
        layer.trainable = False

    @property
    def scale(self) -> float:
        """Factor of the branch."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def build(self, x_shape: Any, *_: Any, **__: Any) -> None:
        self.down = self.add_weight(shape=(x_shape[-1], self.rank), initializer="he_uniform", name="down")
        self.up = self.add_weight(shape=(self.rank, self.units), initializer="zeros", name="up")
        self.built = True

    def call(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = self.layer(x, *args, **kwargs)
        y = tree.flatten(outputs)[0]
        down, up, x = (ops.cast(t, y.dtype) for t in (self.down, self.up, x))
        y = y + self.scale * ops.matmul(ops.matmul(x, down), up)
        return tree.pack_sequence_as(outputs, [y, *tree.flatten(outputs)[1:]])

    def compute_output_spec(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_spec(x, *args, **kwargs)

    def merge(self) -> keras.layers.Layer:
        """Add the branch to the layer's kernel and set it to zero; returns the layer, to `replace` this one by.

        Raises:
            ConfigError: the layer is not linear.
        """
        linear = isinstance(self.layer, keras.layers.Dense) and self.layer.activation is keras.activations.linear
        if not linear:
            raise ConfigError(f"only a Dense layer without activation takes the branch in. {self.layer.name} is none.")
        self.layer.kernel.assign_add(self.scale * ops.matmul(self.down, self.up))
        self.up.assign(ops.zeros(self.up.shape, dtype=self.up.dtype))
        return self.layer

    def get_config(self) -> dict[str, Any]:
        layer = keras.saving.serialize_keras_object(self.layer)
        return super().get_config() | {
            "layer": layer,
            "rank": self.rank,
            "alpha": self.alpha,
            "units": self.units,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LowRank":
        return cls(**config | {"layer": keras.saving.deserialize_keras_object(config["layer"])})
