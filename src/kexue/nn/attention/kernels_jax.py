"""Fused attention on JAX."""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["fused_attention", "prefers_fused"]


def prefers_fused() -> bool:
    """On a CPU ``jax.nn.dot_product_attention`` is an explicit softmax too, and ours is the quicker one there."""
    return jax.default_backend() != "cpu"


def fused_attention(
    q: Any, k: Any, v: Any, *, scale: float, mask: Any = None, bias: Any = None, causal: bool = False
) -> Any:
    """See `kexue.nn.attention.kernels.attend`."""
    if mask is not None and mask.ndim == 4:
        mask = jnp.broadcast_to(mask, (mask.shape[0], mask.shape[1], q.shape[1], k.shape[1]))
    out = jax.nn.dot_product_attention(
        q, k, v, bias=None if bias is None else bias.astype(q.dtype), mask=mask, scale=scale, is_causal=causal
    )
    if mask is None:
        return out
    if causal:
        mask = mask & jnp.tril(jnp.ones((q.shape[1], k.shape[1]), bool))
    visible = jnp.any(mask, axis=-1)  # (B or 1, H or 1, Lq)
    return jnp.where(jnp.moveaxis(visible, 1, 2)[..., None], out, jnp.zeros((), out.dtype))
