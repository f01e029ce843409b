"""Initial values of weight matrices, named by plain data so that configurations hold them."""

from typing import Any

import keras

from kexue.errors import ConfigError

__all__ = ["DepthScaledNormal", "make"]


@keras.saving.register_keras_serializable(package="kexue")
class DepthScaledNormal(keras.initializers.Initializer):
    """Truncated normal of true standard deviation ``layers^(-1/order) / sqrt(fan)``.

    ``fan`` is the first dimension, or the second where the first is above 10,000 or below 10 (embedding tables).
    Truncation at two deviations shrinks the spread to 0.8796 of the nominal one, which the constant undoes.

    Args:
        layers: of the model.
        order: 2 in RoFormerV2, 3 in GAU-alpha.

    Source: RoFormerV2, kexue.fm article 8998; GAU-alpha, 9052.
    """

    def __init__(self, layers: int, order: int = 2) -> None:
        self.layers, self.order = layers, order

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        fan = shape[1] if len(shape) > 1 and (shape[0] > 10000 or shape[0] < 10) else shape[0]
        deviation = 1.13684723 * self.layers ** (-1 / self.order) * fan**-0.5
        return keras.initializers.TruncatedNormal(stddev=deviation)(shape, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {"layers": self.layers, "order": self.order}


def make(initializer: float | dict[str, int]) -> keras.initializers.Initializer:
    """A fresh initializer: a number is the deviation of a truncated normal, ``{"depth_scaled": layers}`` the other.

    ``{"depth_scaled": layers, "order": 3}`` is the one of GAU-alpha.

    Raises:
        ConfigError: anything else.
    """
    if isinstance(initializer, dict) and {"depth_scaled"} <= set(initializer) <= {"depth_scaled", "order"}:
        layers, order = initializer["depth_scaled"], initializer.get("order", 2)
        if all(isinstance(n, int) and n > 0 for n in (layers, order)):
            return DepthScaledNormal(layers, order)
    elif isinstance(initializer, int | float) and not isinstance(initializer, bool) and initializer > 0:
        return keras.initializers.TruncatedNormal(stddev=float(initializer))
    raise ConfigError(
        f"an initializer is a positive number or {{'depth_scaled': layers}}. Received: initializer={initializer!r}"
    )
