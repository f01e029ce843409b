"""Strategies on PyTorch."""

from contextlib import nullcontext
from typing import Any

import keras
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from kexue.training.strategies.base import Problem, Strategy

__all__ = ["train_step"]


def train_step(model: keras.Model, strategy: Strategy, data: Any) -> Any:
    """``batch -> logs``."""
    depth = 0

    def differentiate(function: Any, values: list[Any]) -> tuple[Any, Any]:
        nonlocal depth
        leaves = [v if v.requires_grad and depth else v.detach().requires_grad_() for v in values]
        depth += 1
        with torch.enable_grad():
            value, extra = function(leaves)
        depth -= 1
        found = torch.autograd.grad(value, leaves, create_graph=depth > 0, allow_unused=True)
        return [torch.zeros_like(v) if g is None else g for g, v in zip(found, leaves, strict=True)], extra

    optimizer = model.optimizer
    scale = torch.as_tensor(optimizer.scale_loss(1.0))
    problem = Problem(
        model,
        data,
        [v.value.detach() for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
        [v.value for v in model.metrics_variables],
        scale=scale,
        step=int(optimizer.iterations),
        differentiate=differentiate,
    )
    with sdpa_kernel(SDPBackend.MATH) if strategy.second_order else nullcontext():
        loss, outputs, gradients = strategy.update(problem)
    with torch.no_grad():
        for variables, values in (
            (model.non_trainable_variables, problem.fixed),
            (model.metrics_variables, problem.metrics),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        optimizer.apply([g.detach() * scale for g in gradients], model.trainable_variables)
        model._loss_tracker.update_state(loss.detach(), sample_weight=_rows(problem.x))
        return model.compute_metrics(problem.x, problem.y, outputs, sample_weight=problem.sample_weight)


def _rows(x: Any) -> int:
    return int(next(leaf for leaf in keras.tree.flatten(x) if leaf is not None).shape[0])
