"""Gradients with PyTorch."""

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["gradients"]


def gradients(model: Any) -> Callable[[Any, Any, Any], list[Any]]:
    """``f(x, y, sample_weight)``: a gradient for each trainable weight."""

    def function(x: Any, y: Any, weight: Any) -> list[Any]:
        loss = model.compute_loss(x=x, y=y, y_pred=model(x, training=True), sample_weight=weight, training=True)
        values = [v.value for v in model.trainable_variables]
        found = torch.autograd.grad(loss, values, allow_unused=True)
        return [
            (torch.zeros_like(value) if g is None else g).detach().float().cpu().numpy()
            for g, value in zip(found, values, strict=True)
        ]

    return function
