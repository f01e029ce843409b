"""Softmax attention on the best kernel of the backend.

`attend` is the only entry. Inputs and output are ``(batch, length, heads, size)``. All paths compute the softmax in
float32 and give zeros for a query that sees no key.

- JAX on an accelerator: ``jax.nn.dot_product_attention`` (cuDNN on a GPU where it can).
- PyTorch: ``scaled_dot_product_attention``, with its own dropout.
- JAX on a CPU, from 1,024 keys on: a piece of the queries at a time, so that the scores are never there as a whole.
- Otherwise, and where a fused kernel cannot do what is asked: matrix products around an explicit softmax.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kexue.nn.dropout import drop

__all__ = ["attend", "explicit_attention", "repeat_heads"]

# Added where a key is hidden: far below any score, finite so that sums and gradients stay finite.
HIDDEN = -1e30


def attend(
    q: Any,
    k: Any,
    v: Any,
    *,
    scale: float,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    dropout: float = 0.0,
    seed: Any = None,
) -> Any:
    """``softmax(scale q k^T + bias) v`` over the visible keys.

    Args:
        q: ``(batch, length_q, heads, key_size)``.
        k: ``(batch, length_k, heads or a divisor of it, key_size)``; several queries share a head of keys then.
        v: ``(batch, length_k, likewise, value_size)``.
        scale: factor of the scores.
        mask: boolean, broadcastable to ``(batch, heads, length_q, length_k)``, True = may see.
        bias: float, likewise; added to the scaled scores.
        causal: key index <= query index, in addition to the mask; needs equal lengths.
        dropout: rate for the probabilities; 0 outside training.
        seed: ``keras.random.SeedGenerator`` for it.

    Returns:
        ``(batch, length_q, heads, value_size)`` in the dtype of ``q``.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        from kexue.nn.attention import kernels_torch

        return kernels_torch.fused_attention(q, k, v, scale=scale, mask=mask, bias=bias, causal=causal, dropout=dropout)
    if backend == "jax" and dropout == 0:
        from kexue.nn.attention import kernels_jax

        if kernels_jax.prefers_fused():
            return kernels_jax.fused_attention(q, k, v, scale=scale, mask=mask, bias=bias, causal=causal)
        if kernels_jax.prefers_chunks(q, k):
            return kernels_jax.chunked_attention(q, k, v, scale=scale, mask=mask, bias=bias, causal=causal)
    return explicit_attention(q, k, v, scale=scale, mask=mask, bias=bias, causal=causal, dropout=dropout, seed=seed)


def explicit_attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    scale: float,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    dropout: float = 0.0,
    seed: Any = None,
    previous: Any = None,
    mix_scores: Callable[[Any], Any] | None = None,
    mix_probabilities: Callable[[Any], Any] | None = None,
    add_values: Callable[[Any], Any] | None = None,
    tap: Callable[[str, Any], Any] | None = None,
) -> Any:
    """`attend` written out; the reference for the fused kernels and the path of TensorFlow and of JAX on a CPU.

    Args:
        q: as in `attend`, and so on.
        previous: float32 scores to add, of a layer before (RealFormer).
        mix_scores: ``(batch, heads, length_q, length_k)`` scores to as many or other heads, before masking.
        mix_probabilities: likewise, after the softmax.
        add_values: probabilities to an addition to the output.
        tap: called with ``"scores"`` (before mixing and masking) and ``"probabilities"`` (after mixing, before dropout)
            and the tensor; gives the tensor to go on with.
    """
    k = repeat_heads(k, q.shape[2])
    scores = ops.cast(ops.einsum("bqhd,bkhd->bhqk", q * ops.cast(scale, q.dtype), k), "float32")
    if bias is not None:
        scores = scores + ops.cast(bias, "float32")
    if previous is not None:
        scores = scores + previous
    if tap is not None:
        scores = tap("scores", scores)
    if mix_scores is not None:
        scores = mix_scores(scores)
    mask = with_causal(mask, ops.shape(q)[1], ops.shape(k)[1]) if causal else mask
    if mask is not None:
        scores = ops.where(mask, scores, HIDDEN)
    probabilities = ops.softmax(scores, axis=-1)
    if mask is not None:
        # A row without any visible key would be uniform otherwise.
        probabilities = ops.where(ops.any(mask, axis=-1, keepdims=True), probabilities, 0.0)
    if mix_probabilities is not None:
        probabilities = mix_probabilities(probabilities)
    if tap is not None:
        probabilities = tap("probabilities", probabilities)
    v = repeat_heads(v, probabilities.shape[1])
    if dropout > 0:
        probabilities = drop(probabilities, dropout, seed)
    out = ops.einsum("bhqk,bkhd->bqhd", ops.cast(probabilities, v.dtype), v)
    more = None if add_values is None else add_values(probabilities)
    return out if more is None else out + ops.cast(more, out.dtype)


def repeat_heads(x: Any, heads: int) -> Any:
    """``(batch, length, divisor of heads, size)`` to ``heads`` heads: neighbours share one."""
    return x if x.shape[2] == heads else ops.repeat(x, heads // x.shape[2], axis=2)


def with_causal(mask: Any, query_length: Any, key_length: Any) -> Any:
    """AND the causal rule into ``mask`` (or None)."""
    rows = ops.expand_dims(ops.arange(query_length, dtype="int32"), -1)
    visible = (ops.expand_dims(ops.arange(key_length, dtype="int32"), 0) <= rows)[None, None]
    return visible if mask is None else ops.logical_and(mask, visible)
