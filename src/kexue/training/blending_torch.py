"""The step of a weighted average by PyTorch's kernel for many tensors: one pass over the memory."""

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["blend_in_place"]


@torch.no_grad()
def blend_in_place(averages: Sequence[Any], values: Sequence[Any], weight: Any) -> list[Any]:
    """``average + weight (value - average)``, written into the averages."""
    averages = list(averages)
    if averages:
        torch._foreach_lerp_(averages, [value.detach().to(torch.float32) for value in values], float(weight))
    return averages
