"""Attention on JAX: the fused kernel of an accelerator, and pieces of queries on a CPU."""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["chunked_attention", "fused_attention", "prefers_chunks", "prefers_fused"]

LONG = 1024
"""Keys from which on pieces of queries are worth it."""
SCORES = 2**19
"""Scores of one head and row that are there at a time."""
BANDS = 4
"""Parts of a causal sequence, each computed with the keys up to its end: 5/8 of all pairs instead of all."""
HIDDEN = -1e30


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


def prefers_chunks(q: Any, k: Any) -> bool:
    """The scores are many enough to keep out of memory; symbolic lengths of an export are not."""
    return all(isinstance(n, int) for n in (q.shape[1], k.shape[1])) and q.shape[1] > 1 and k.shape[1] >= LONG


def chunked_attention(
    q: Any, k: Any, v: Any, *, scale: float, mask: Any = None, bias: Any = None, causal: bool = False
) -> Any:
    """See `kexue.nn.attention.kernels.attend`. Exact; a piece of the queries at a time, recomputed for gradients."""
    length = q.shape[1]
    if not causal or length % BANDS:
        return _pieces(q, k, v, scale, mask, bias, causal, 0)
    width = length // BANDS
    bands = []
    for start in range(0, length, width):
        end = start + width
        own_mask, own_bias = (None if t is None else _cut(t, start, end) for t in (mask, bias))
        bands.append(_pieces(q[:, start:end], k[:, :end], v[:, :end], scale, own_mask, own_bias, True, start))
    return jnp.concatenate(bands, axis=1)


def _cut(x: Any, start: int, end: int) -> Any:
    """Rows ``start`` to ``end`` and columns to ``end`` of what broadcasts to ``(batch, heads, length_q, length_k)``."""
    x = x if x.shape[2] == 1 else x[:, :, start:end]
    return x if x.shape[3] == 1 else x[..., :end]


def _pieces(q: Any, k: Any, v: Any, scale: float, mask: Any, bias: Any, causal: bool, first: int) -> Any:
    batch, length, heads, _ = q.shape
    keys = k.shape[1]
    size = min(length, max(16, SCORES // keys))
    count = -(-length // size)
    more = count * size - length

    def rows(x: Any) -> Any:
        """With a whole number of pieces along the queries."""
        return x if x is None or x.shape[2] == 1 or not more else jnp.pad(x, ((0, 0), (0, 0), (0, more), (0, 0)))

    group = heads // k.shape[2]
    k, v = (jnp.repeat(t, group, axis=2) if group > 1 else t for t in (k, v))
    q, k, v = (jnp.swapaxes(t, 1, 2) for t in (q * jnp.asarray(scale, q.dtype), k, v))  # (B, H, L, D)
    mask = rows(mask)

    def cut(x: Any) -> Any:
        """``(count, batch, heads, size, ...)``; what all queries share stays whole. Gradients go through slices of a
        scan cheaply, through slices by index they do not."""
        x = rows(x)
        return jnp.moveaxis(x.reshape(*x.shape[:2], count, size, x.shape[3]), 2, 0)

    shared = bias is not None and bias.shape[2] == 1
    pieces = (jnp.arange(count) * size, cut(q), None if bias is None or shared else cut(bias))

    @jax.checkpoint
    def piece(start: Any, q: Any, own_bias: Any, k: Any, v: Any) -> Any:
        scores = jnp.einsum("bhqd,bhkd->bhqk", q, k).astype("float32")
        if bias is not None:
            scores = scores + (bias if shared else own_bias).astype("float32")
        visible = mask
        if mask is not None and mask.shape[2] > 1:
            visible = jax.lax.dynamic_slice_in_dim(mask, start, size, axis=2)
        if causal:
            below = jnp.arange(keys)[None] <= first + start + jnp.arange(size)[:, None]
            visible = below if visible is None else visible & below
        if visible is None:
            return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores).astype(v.dtype), v)
        probabilities = jax.nn.softmax(jnp.where(visible, scores, HIDDEN))
        probabilities = jnp.where(jnp.any(visible, axis=-1, keepdims=True), probabilities, 0.0)
        return jnp.einsum("bhqk,bhkd->bhqd", probabilities.astype(v.dtype), v)

    _, out = jax.lax.scan(lambda _, p: (None, piece(*p, k, v)), None, pieces)  # (N, B, H, size, V)
    out = jnp.moveaxis(out, 0, 2).reshape(batch, heads, count * size, v.shape[-1])[:, :, :length]
    return jnp.swapaxes(out, 1, 2)
