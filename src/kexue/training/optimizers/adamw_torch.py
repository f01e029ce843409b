"""The update of `kexue.training.AdamW` by PyTorch's fused kernel: one pass over the memory."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.adamw import adamw

__all__ = ["fused_step"]


@torch.no_grad()
def fused_step(optimizer: Any, grads: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
    """Update all variables, those with the same rate and decay together."""
    step = int(optimizer.iterations)
    rate = float(learning_rate)
    # Keras adds epsilon to sqrt(v), PyTorch to sqrt(v / (1 - b2^t)).
    epsilon = optimizer.epsilon / (1.0 - optimizer.beta_2 ** (step + 1)) ** 0.5
    groups: dict[tuple[float, float], list[tuple[Any, Any]]] = {}
    for gradient, variable in zip(grads, variables, strict=True):
        groups.setdefault(optimizer.plan(variable), []).append((gradient, variable))
    for (factor, decay), members in groups.items():
        if factor == 0:
            continue
        indices = [optimizer._get_variable_index(variable) for _, variable in members]
        values = [variable.value for _, variable in members]
        adamw(
            [value.data if isinstance(value, torch.nn.Parameter) else value for value in values],
            [gradient.to(value.dtype) for (gradient, _), value in zip(members, values, strict=True)],
            [optimizer._momentums[i].value for i in indices],
            [optimizer._velocities[i].value for i in indices],
            [],
            [torch.full((), float(step), device=value.device) for value in values],
            fused=True,
            amsgrad=False,
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            lr=rate * factor,
            weight_decay=decay,
            eps=epsilon,
            maximize=False,
        )
