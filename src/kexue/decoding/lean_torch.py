"""The commonest layers in float32 as few PyTorch calls: at one token a step, the calls cost more than the sums."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import keras
from torch.nn import functional

from kexue.decoding.packed_torch import Matrix
from kexue.nn import activations
from kexue.nn.attention.caching import Recorder
from kexue.nn.attention.kernels_torch import fused_attention
from kexue.nn.attention.multihead import MultiHeadAttention
from kexue.nn.feedforward import FeedForward
from kexue.nn.heads.lm import LanguageModelHead
from kexue.nn.norms import LayerNorm, RMSNorm
from kexue.nn.positions.base import PositionEncoding

__all__ = ["shortcut"]


def _value(variable: Any) -> Any:
    return None if variable is None else variable.value


def shortcut(layer: Any) -> Callable[..., Any] | None:
    """A function that does what ``layer(...)`` does in decoding, or None where there is none."""
    if isinstance(layer, LayerNorm | RMSNorm) and layer.condition_size is None:
        return _norm(layer)
    if isinstance(layer, FeedForward):
        return _feedforward(layer)
    if type(layer) is keras.layers.Add:
        return lambda parts: functools.reduce(operator.add, parts)
    if isinstance(layer, MultiHeadAttention) and not layer.cross and layer.talking == "none":
        positions = layer._inside
        plain = positions is None or not positions.acts_on_scores
        turns = positions is not None and type(positions).rotate_values is not PositionEncoding.rotate_values
        if plain and not turns and layer.query_norm is None and not layer.residual_scores:
            return _attention(layer) if not hasattr(layer.scale, "floor") else None
    if isinstance(layer, LanguageModelHead) and (layer.norm is None or layer.norm.condition_size is None):
        return _head(layer)
    return None


def _norm(layer: Any) -> Callable[..., Any]:
    size = None

    def run(x: Any, condition: Any = None) -> Any:
        nonlocal size
        size = (x.shape[-1],)
        if isinstance(layer, LayerNorm):
            return functional.layer_norm(x, size, _value(layer.gain), _value(layer.bias), layer.epsilon)
        x = functional.rms_norm(x, size, _value(layer.gain), layer.epsilon)
        return x if layer.bias is None else x + _value(layer.bias)

    return run


def _feedforward(layer: FeedForward) -> Callable[..., Any]:
    up, down = Matrix(), Matrix()

    def run(x: Any) -> Any:
        x = up(x, layer.up_kernel.value, _value(layer.up_bias))
        if layer.gated:
            gate, x = x.chunk(2, dim=-1)
            x = layer._act(gate) * x
        else:
            x = layer._act(x)
        return down(x, layer.down_kernel.value, _value(layer.down_bias))

    return run


def _attention(layer: MultiHeadAttention) -> Callable[..., Any]:
    q_size, k_size, v_size = layer.sizes
    positions = layer._inside
    scale = layer.scale_factor
    fused, output = Matrix(), Matrix()

    def run(x: Any, attention_mask: Any = None, tables: Any = (), *, cache: Any, **_: Any) -> Any:
        batch, n = x.shape[:2]
        q, k, v = fused(x, layer.qkv_kernel.value, _value(layer.qkv_bias)).split([q_size, k_size, v_size], dim=-1)
        q = q.view(batch, n, layer.query_heads, layer.key_size)
        k = k.view(batch, n, layer.key_heads, layer.key_size)
        if positions is not None:
            q, k = positions.rotate(q, k, tables)
        k, v = cache.extend(k, v.view(batch, n, layer.value_heads, layer.value_size))
        if isinstance(cache, Recorder):
            out = fused_attention(q, k, v, scale=scale, mask=attention_mask, causal=layer.causal)
        else:
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            grouped = k.shape[1] != q.shape[1]
            # In decoding every query sees itself, so no row is empty.
            out = functional.scaled_dot_product_attention(
                q, k, v, attn_mask=attention_mask, scale=scale, enable_gqa=grouped
            ).transpose(1, 2)
        out = out.reshape(batch, n, layer.heads * layer.value_size)
        return output(out, layer.output_kernel.value, _value(layer.output_bias))

    return run


def _head(layer: LanguageModelHead) -> Callable[..., Any]:
    dense, logits = Matrix(), Matrix(transposed=True)
    norm = None if layer.norm is None else _norm(layer.norm)
    act = activations.get(layer.activation)

    def run(x: Any, table: Any = None, condition: Any = None) -> Any:
        if layer.dense_kernel is not None:
            x = dense(x, layer.dense_kernel.value, _value(layer.dense_offset))
        if norm is not None:
            x = norm(act(x))
        x = x if layer.scale == 1.0 else x * layer.scale
        table = table if layer.output_table is None else layer.output_table.value
        return logits(x, table, _value(layer.logits_bias))

    return run
