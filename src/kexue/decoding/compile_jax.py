"""A function of arrays and a model's weights, compiled by JAX."""

from collections.abc import Callable
from typing import Any

import jax
import keras

__all__ = ["Compiled"]


class Compiled:
    """``function(*arguments)`` as one program for each shape; weights are read at each call."""

    def __init__(self, model: keras.Model, function: Callable[..., Any]) -> None:
        self.variables = model.variables

        def run(values: list[Any], arguments: tuple[Any, ...]) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(self.variables, values, strict=True))):
                return function(*arguments)

        self.run = jax.jit(run)

    def __call__(self, *arguments: Any) -> Any:
        return self.run([v.value for v in self.variables], arguments)

    def count(self) -> int:
        """Programs so far."""
        return self.run._cache_size()
