"""What attention keeps of the tokens before, so that decoding runs each new token once.

A layer called with ``cache=`` hands over its keys and values, turned by positions, and attends to what comes back. The
mask of the call then says everything about who sees whom; a kernel's causal flag is left out, save by a `Recorder`,
whose call is an ordinary one.

What is kept lies heads first, ``(batch, heads, length, size)``, as products of queries and keys want it; kept as layers
have it, ``(batch, length, heads, size)``, XLA copies all of it into that order at each token.
"""

from typing import Any

import keras
from keras import ops

__all__ = ["Fixed", "Recorder", "Slots", "heads_first", "write"]


def heads_first(x: Any) -> Any:
    """``(batch, length, heads, size)`` to ``(batch, heads, length, size)``, and back."""
    return ops.swapaxes(x, 1, 2)


def write(buffer: Any, value: Any, at: Any, axis: int = 1) -> Any:
    """``buffer`` with ``value`` from place ``at`` of ``axis`` on; PyTorch changes it in place."""
    if keras.backend.backend() == "torch":
        buffer.narrow(axis, int(at), value.shape[axis]).copy_(value)
        return buffer
    start = [ops.cast(at, "int32") if n == axis else ops.zeros((), dtype="int32") for n in range(len(buffer.shape))]
    return ops.slice_update(buffer, ops.stack(start), ops.cast(value, buffer.dtype))


class Recorder:
    """Remembers the keys and values of an ordinary call."""

    keeps_causal = True

    def __init__(self) -> None:
        self.keys: Any = None
        self.values: Any = None

    def extend(self, k: Any, v: Any) -> tuple[Any, Any]:
        """Take those of the call and give them back."""
        self.keys, self.values = k, v
        return k, v


class Slots:
    """Keys and values of earlier tokens, to which those of a call are added.

    Args:
        keys: ``(batch, heads, slots, key_size)``.
        values: ``(batch, heads, slots, value_size)``.
        at: slot of the call's first token, an integer or a scalar tensor.
        used: attend to so many first slots only, or None for all.
    """

    keeps_causal = False

    def __init__(self, keys: Any, values: Any, at: Any, used: int | None = None) -> None:
        self.keys, self.values, self.at, self.used = keys, values, at, used

    def extend(self, k: Any, v: Any) -> tuple[Any, Any]:
        """Take those of the call; give all, ``(batch, slots, heads, size)``."""
        self.keys = write(self.keys, heads_first(k), self.at, axis=2)
        self.values = write(self.values, heads_first(v), self.at, axis=2)
        keys, values = self.keys, self.values
        if self.used is not None:
            keys, values = keys[:, :, : self.used], values[:, :, : self.used]
        return heads_first(keys), heads_first(values)


class Fixed:
    """Keys and values of another sequence, the encoder's, which are projected once.

    Args:
        keys: ``(batch, heads, length, key_size)``.
        values: ``(batch, heads, length, value_size)``.
    """

    keeps_causal = False

    def __init__(self, keys: Any, values: Any) -> None:
        self.keys, self.values = keys, values

    def extend(self, k: Any, v: Any) -> tuple[Any, Any]:
        """Give those that were kept."""
        return heads_first(self.keys), heads_first(self.values)
