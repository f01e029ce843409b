"""PyTorch records what it computes unless it is told not to."""

from contextlib import AbstractContextManager
from typing import Any

import torch

__all__ = ["no_gradients"]


def no_gradients() -> AbstractContextManager[Any]:
    """Compute without recording."""
    return torch.no_grad()
