"""Initial values of weight matrices, named by plain data so that configurations hold them."""

from typing import Any

import keras

from kexue.errors import ConfigError

__all__ = ["DepthScaledNormal", "make"]


@keras.saving.register_keras_serializable(package="kexue")
class DepthScaledNormal(keras.initializers.Initializer):
    """Truncated normal of true standard deviation ``1 / sqrt(layers * fan)``.

    ``fan`` is the first dimension, or the second where the first is above 10,000 or below 10 (embedding tables).
    Truncation at two deviations shrinks the spread to 0.8796 of the nominal one, which the constant undoes.

    Source: RoFormerV2, kexue.fm article 8998.
    """

    def __init__(self, layers: int) -> None:
        self.layers = layers

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        fan = shape[1] if len(shape) > 1 and (shape[0] > 10000 or shape[0] < 10) else shape[0]
        deviation = 1.13684723 * self.layers**-0.5 * fan**-0.5
        return keras.initializers.TruncatedNormal(stddev=deviation)(shape, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {"layers": self.layers}


def make(initializer: float | dict[str, int]) -> keras.initializers.Initializer:
    """A fresh initializer: a number is the deviation of a truncated normal, ``{"depth_scaled": layers}`` the other.

    Raises:
        ConfigError: anything else.
    """
    if isinstance(initializer, dict) and set(initializer) == {"depth_scaled"}:
        layers = initializer["depth_scaled"]
        if isinstance(layers, int) and layers > 0:
            return DepthScaledNormal(layers)
    elif isinstance(initializer, int | float) and not isinstance(initializer, bool) and initializer > 0:
        return keras.initializers.TruncatedNormal(stddev=float(initializer))
    raise ConfigError(
        f"an initializer is a positive number or {{'depth_scaled': layers}}. Received: initializer={initializer!r}"
    )
