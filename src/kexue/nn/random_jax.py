"""Random bits for dropout on JAX: a hash of each element's index, fused into the loop that uses it.

``jax.random.bits`` (Threefry) runs 20 rounds and writes its bits to memory first. A dropout mask needs neither that
strength nor the memory: here a key is drawn with Threefry once a call and mixed into a 32-bit integer hash with two
multiplications (the "lowbias32" constants of C. Wellons' search), which compilers fuse with the comparison.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["bits32"]


def bits32(seed: Any, shape: tuple[int, ...]) -> jax.Array:
    """uint32 of ``shape``, a pure function of ``seed`` (two uint32, as Keras' seed generators give them)."""
    first, second = jax.random.bits(jax.random.wrap_key_data(seed), (2,), dtype="uint32")
    x = jax.lax.iota("uint32", math.prod(shape)).reshape(shape)
    x = (x ^ first) * jnp.uint32(0x9E3779B9) + second
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
