"""Activation functions by the names that checkpoints use."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError

__all__ = ["get"]


def _gelu_tanh(x: Any) -> Any:
    return keras.activations.gelu(x, approximate=True)


def _gelu_erf(x: Any) -> Any:
    if keras.backend.backend() == "jax":
        from kexue.nn.activations_jax import gelu

        return gelu(x)
    return keras.activations.gelu(x, approximate=False)


def _quick_gelu(x: Any) -> Any:
    return x * ops.sigmoid(1.702 * x)


def _squared_relu(x: Any) -> Any:
    return ops.square(ops.relu(x))


def _linear(x: Any) -> Any:
    return x


# "gelu" is the exact form with erf; the tanh form differs by up to 1e-3, enough to break parity with a checkpoint.
_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": _gelu_erf,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "linear": _linear,
    "relu": ops.relu,
    "relu2": _squared_relu,
    "sigmoid": ops.sigmoid,
    "silu": ops.silu,
    "squared_relu": _squared_relu,
    "swish": ops.silu,
    "tanh": ops.tanh,
}


def get(name: str) -> Callable[[Any], Any]:
    """The activation called ``name`` in a checkpoint's configuration.

    Raises:
        ConfigError: the name is unknown.
    """
    if name not in _ACTIVATIONS:
        raise ConfigError(f"unknown activation. Expected one of {sorted(_ACTIVATIONS)}. Received: {name!r}")
    return _ACTIVATIONS[name]
