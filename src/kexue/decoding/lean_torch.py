"""The commonest layers in float32 as few PyTorch calls: at one token a step, the calls cost more than the sums."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from kexue.nn.attention.caching import Slots
from kexue.nn.attention.multihead import MultiHeadAttention
from kexue.nn.feedforward import FeedForward
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
    if isinstance(layer, MultiHeadAttention) and not layer.cross and layer.talking == "none":
        positions = layer._inside
        plain = positions is None or not positions.acts_on_scores
        turns = positions is not None and type(positions).rotate_values is not PositionEncoding.rotate_values
        if plain and not turns and layer.query_norm is None and not layer.residual_scores:
            return _attention(layer) if not hasattr(layer.scale, "floor") else None
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


def _linear(x: Any, kernel: Any, bias: Any) -> Any:
    rows = x.reshape(-1, x.shape[-1])
    kernel = kernel.value
    out = torch.mm(rows, kernel) if bias is None else torch.addmm(bias.value, rows, kernel)
    return out.view(*x.shape[:-1], kernel.shape[-1])


def _feedforward(layer: FeedForward) -> Callable[..., Any]:
    def run(x: Any) -> Any:
        x = _linear(x, layer.up_kernel, layer.up_bias)
        if layer.gated:
            gate, x = x.chunk(2, dim=-1)
            x = layer._act(gate) * x
        else:
            x = layer._act(x)
        return _linear(x, layer.down_kernel, layer.down_bias)

    return run


def _attention(layer: MultiHeadAttention) -> Callable[..., Any]:
    q_size, k_size, v_size = layer.sizes
    positions = layer._inside
    scale = layer.scale_factor

    def run(x: Any, attention_mask: Any = None, tables: Any = (), *, cache: Slots, **_: Any) -> Any:
        batch, n = x.shape[:2]
        q, k, v = _linear(x, layer.qkv_kernel, layer.qkv_bias).split([q_size, k_size, v_size], dim=-1)
        q = q.view(batch, n, layer.query_heads, layer.key_size)
        k = k.view(batch, n, layer.key_heads, layer.key_size)
        if positions is not None:
            q, k = positions.rotate(q, k, tables)
        k, v = cache.extend(k, v.view(batch, n, layer.value_heads, layer.value_size))
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        grouped = k.shape[1] != q.shape[1]
        # In decoding every query sees itself, so no row is empty.
        out = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=attention_mask, scale=scale, enable_gqa=grouped
        )
        out = out.transpose(1, 2).reshape(batch, n, layer.heads * layer.value_size)
        return _linear(out, layer.output_kernel, layer.output_bias)

    return run
