"""Dropout that spends little on random numbers; on a CPU the generator is most of what dropout costs.

On JAX the mask is a hash of each element's index and the seed (`kexue.nn.random_jax`), on PyTorch one kernel of its
own, elsewhere Keras' dropout.
"""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError

__all__ = ["Dropout", "drop"]

_LEVELS = 2**32


def drop(x: Any, rate: float, seed: Any) -> Any:
    """Zero elements of ``x`` with probability ``rate`` and divide the others by ``1 - rate``.

    Args:
        x: any float tensor.
        rate: in [0, 1).
        seed: a ``keras.random.SeedGenerator``; the mask is deterministic for it.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax.numpy as jnp

        from kexue.nn.random_jax import bits32

        kept = bits32(seed.next(), x.shape) >= jnp.uint32(round(rate * _LEVELS))
        return jnp.where(kept, x * jnp.asarray(1.0 / (1.0 - rate), x.dtype), jnp.zeros((), x.dtype))
    if backend == "torch":
        import torch

        # One kernel instead of three. The generator is PyTorch's own, seeded by keras.utils.set_random_seed.
        return torch.nn.functional.dropout(x, rate, training=True)
    return keras.random.dropout(x, rate, seed=seed)


@keras.saving.register_keras_serializable(package="kexue")
class Dropout(keras.layers.Layer):
    """Dropout in training, nothing otherwise; see the module.

    Args:
        rate: share of elements to zero, in [0, 1).
        seed: of the layer's random numbers.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ConfigError(f"a dropout rate must be in [0, 1). Received: rate={rate}")
        self.rate, self.seed = rate, seed
        self.seed_generator = keras.random.SeedGenerator(seed) if rate > 0 else None
        self.supports_masking = True
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        return drop(x, self.rate, self.seed_generator) if training and self.rate > 0 else ops.convert_to_tensor(x)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"rate": self.rate, "seed": self.seed}
