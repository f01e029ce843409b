"""Fused attention on PyTorch."""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["fused_attention"]


def fused_attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    scale: float,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Any:
    """See `kexue.nn.attention.kernels.attend`."""
    dtype = q.dtype
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (B, H, L, D)
    if q.device.type == "cpu" and dtype != torch.float32 and torch.is_grad_enabled():
        # Backwards the CPU's kernel takes twice the time in bfloat16 that it takes in float32.
        q, k, v = q.float(), k.float(), v.float()
    visible = None
    if mask is not None:
        if causal:
            mask = mask & torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
            causal = False
        # The kernel gives NaN for a row without any visible key: let such a row see all and clear it afterwards.
        visible = mask.any(-1, keepdim=True)
        mask = mask | ~visible
    if bias is not None:
        bias = bias.to(q.dtype)
        if causal:
            mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
            causal = False
        mask = bias if mask is None else torch.where(mask, bias, torch.finfo(q.dtype).min / 2)
    out = scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal,
        scale=scale,
        enable_gqa=k.shape[1] != q.shape[1],
    )
    if visible is not None:
        out = torch.where(visible, out, torch.zeros((), dtype=out.dtype, device=out.device))
    return out.transpose(1, 2).to(dtype)
