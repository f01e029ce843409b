"""Attention kinds by the names that configurations use."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from kexue.errors import ConfigError

__all__ = ["KINDS", "check", "find", "make"]

# Read when asked for, so that a model loads the attention it has and no other.
KINDS: dict[str, str] = {
    "gau": "gau.GatedAttentionUnit",
    "linear": "linear.LinearAttention",
    "softmax": "multihead.MultiHeadAttention",
}


def check(attention: Any) -> None:
    """Raise unless ``attention`` is a known name."""
    if not isinstance(attention, str) or attention not in KINDS:
        raise ConfigError(f"attention must be one of {', '.join(map(repr, sorted(KINDS)))}. Received: {attention!r}")


def find(attention: str) -> Any:
    """The layer class called ``attention``.

    It says with ``takes_facts`` that it is built with ``mask=`` (a rule) and called with the batch's ``padding_mask``,
    ``document_ids``, ``segment_ids`` and ``order`` instead of a boolean matrix; with ``whole_block`` that no
    feed-forward part follows it, and that it is built with ``intermediate_size`` and ``activation`` of one.
    """
    check(attention)
    module, kind = KINDS[attention].rsplit(".", 1)
    return getattr(import_module(f"kexue.nn.attention.{module}"), kind)


def make(attention: str, options: Mapping[str, Any], **arguments: Any) -> Any:
    """An attention layer.

    Args:
        attention: a name of `KINDS`.
        options: ``attention_options`` of a configuration; they win over ``arguments``.
        **arguments: what the model decides. Those that the kind does not know and that are None or False are left out.

    Raises:
        ConfigError: an unknown name or option, or something asked for that the kind cannot do.
    """
    layer = find(attention)
    known = set(inspect.signature(layer.__init__).parameters) - {"self", "args", "kwargs"} | {"name", "dtype"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(
            f"attention={attention!r} has no option {', '.join(map(repr, unknown))}. "
            f"It has: {', '.join(sorted(known))}."
        )
    idle = {name for name, value in arguments.items() if name not in known and (value is None or value is False)}
    beyond = sorted(set(arguments) - known - idle)
    if beyond:
        raise ConfigError(f"attention={attention!r} cannot do {', '.join(f'{n}={arguments[n]!r}' for n in beyond)}.")
    return layer(**{n: v for n, v in arguments.items() if n not in idle} | dict(options))
