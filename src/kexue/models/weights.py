"""A model's weights by the names that weight tables use."""

from typing import Any

import keras

__all__ = ["named_weights"]


def named_weights(model: keras.Model) -> dict[str, Any]:
    """``{"layer/weight": variable}`` of all weights, each once, without states of random generators.

    The names do not depend on where the model was built or what it is nested in.
    """
    named: dict[str, Any] = {}
    seen: set[int] = set()
    for layer in model.layers:
        for variable in layer.weights:
            if id(variable) in seen:
                continue
            seen.add(id(variable))
            inner = variable.path.rsplit(f"{layer.name}/", 1)[-1]
            named[f"{layer.name}/{inner}"] = variable
    return named
