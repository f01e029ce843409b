"""Random bits for dropout on JAX."""

from typing import Any

import jax

__all__ = ["bits16"]


def bits16(seed: Any, shape: tuple[int, ...]) -> jax.Array:
    """Uniform uint16 of ``shape``, a pure function of ``seed`` (two uint32, as Keras' seed generators give them)."""
    return jax.random.bits(jax.random.wrap_key_data(seed), shape, dtype="uint16")
