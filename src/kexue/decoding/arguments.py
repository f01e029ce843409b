"""Numbers and token ids that callers give, checked."""

import operator
from collections.abc import Iterable
from typing import Any

from kexue.errors import ConfigError

__all__ = ["EXTREME", "amount", "ids_of", "sequences_of_ids", "several", "whole"]

EXTREME = 1e20
"""Factors of logits lie between its inverse and this: beyond, float32 has no numbers for what they give."""


def whole(value: Any, name: str) -> int:
    """An integer of any kind, as ``int``.

    Raises:
        ConfigError: something else.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise ConfigError(f"{name} must be an integer. Received: {name}={value!r:.80}") from None


def amount(value: Any, name: str, least: float, most: float, hint: str = "") -> float:
    """A number in ``[least, most]``.

    Raises:
        ConfigError: something else.
    """
    try:
        number = float("nan") if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not least <= number <= most:
        raise ConfigError(f"{name} must be a number from {least:g} to {most:g}{hint}. Received: {name}={value!r:.80}")
    return number


def several(value: Any) -> list[Any]:
    """One thing or an iterable of them, as a list."""
    return list(value) if isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0 else [value]


def ids_of(value: Any, name: str, vocabulary: int, once: bool = True) -> list[int]:
    """One token id or several, with ``once`` each of them once.

    Raises:
        ConfigError: ids that the model has not.
    """
    try:
        ids = [operator.index(n) for n in several(value)]
    except TypeError:
        ids = [-1]
    if any(not 0 <= n < vocabulary for n in ids):
        raise ConfigError(f"{name} must hold token ids between 0 and {vocabulary - 1}. Received: {value!r:.80}")
    return list(dict.fromkeys(ids)) if once else ids


def sequences_of_ids(value: Any, name: str) -> list[list[int]]:
    """Sequences of token ids.

    Raises:
        ConfigError: something else, such as texts.
    """
    try:
        return [[operator.index(n) for n in text] for text in value]
    except TypeError:
        raise ConfigError(
            f"{name} must be sequences of token ids; encode texts with the tokenizer first. Received: {value!r:.80}"
        ) from None
