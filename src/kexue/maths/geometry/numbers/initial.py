"""Initial data of geodesics: from a velocity with one component left open, or from constants of the motion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kexue.errors import ConfigError, DataError

__all__ = ["KINDS", "State", "norm_of", "open_component", "point_text", "square_roots"]

KINDS = ("timelike", "null", "spacelike")


class State(NamedTuple):
    """Where a geodesic starts: position x^a and momentum p_a = g_ab dx^b/ds, shapes S + (n,)."""

    x: np.ndarray
    p: np.ndarray


def norm_of(kind: str, signs: Sequence[int]) -> float:
    """g_ab u^a u^b of a kind of geodesic in the signature of the metric.

    Raises:
        ConfigError: no such kind, or not in this signature.
    """
    if kind not in KINDS:
        raise ConfigError(f"The kind must be one of {', '.join(KINDS)}, received {kind!r}.")
    minus = sum(1 for s in signs if s < 0)
    n = len(signs)
    if kind == "null":
        return 0.0
    if minus in (0, n):
        if kind == "timelike":
            raise ConfigError("The metric is definite: its geodesics are of kind 'spacelike'.")
        return 1.0 if minus == 0 else -1.0
    time = -1.0 if minus <= n - minus else 1.0  # (-,+,+,+) or (+,-,-,-)
    return time if kind == "timelike" else -time


def components(value: Any, names: Sequence[str], what: str, default: Any = None) -> list[Any]:
    """Values in the order of the coordinates from a mapping by name, a sequence, or an array.

    Raises:
        DataError: other names, another number.
    """
    if isinstance(value, Mapping):
        unknown = [k for k in value if k not in names]
        if unknown:
            raise DataError(f"The {what} names {', '.join(map(str, unknown))}; the coordinates are {', '.join(names)}.")
        missing = [k for k in names if k not in value]
        if missing and default is None:
            raise DataError(f"The {what} lacks {', '.join(missing)}.")
        return [value.get(k, default) for k in names]
    out = list(np.moveaxis(value, -1, 0)) if isinstance(value, np.ndarray) else list(value)
    if len(out) != len(names):
        raise DataError(f"The {what} needs {len(names)} components ({', '.join(names)}), received {len(out)}.")
    return out


def point_text(names: Sequence[str], x: np.ndarray) -> str:
    """ "r = 8, theta = 0" for messages."""
    return ", ".join(f"{name} = {value:.6g}" for name, value in zip(names, x, strict=True))


def stacked(values: Sequence[Any]) -> np.ndarray:
    """Components broadcast to one shape, on the last axis."""
    return np.stack(np.broadcast_arrays(*(np.asarray(v, float) for v in values)), -1)


def open_component(g: np.ndarray, u: np.ndarray, k: int, norm: float, future: bool, sign: int) -> np.ndarray:
    """u^k from ``g_ab u^a u^b = norm``; u has 0 there.

    Of the two roots the one that points to the future where k is time, which stays so inside an ergosphere; else the
    one with the sign.

    Raises:
        DataError: no real solution.
    """
    a = g[..., k, k]
    b = np.einsum("...a,...a->...", g[..., k, :], u)
    c = np.einsum("...ab,...a,...b->...", g, u, u) - norm
    square = b * b - a * c
    if np.any(square < 0):
        raise DataError(
            "No velocity of that kind has these components: the norm condition has no real solution (the other "
            "components are too large, or of the wrong kind)."
        )
    # roots (-b -+ r)/a; for time in (-,+,+,+) the future one is (-b - r)/a
    r = np.sqrt(square) * (-1.0 if future else float(sign))
    with np.errstate(all="ignore"):
        plain, stable = (r - b) / a, c / (-b - r)
    return np.where(r * b <= 0, plain, stable) if np.any(a == 0) else plain


def square_roots(squares: np.ndarray, sign: Any, what: str) -> np.ndarray:
    """Signed roots; squares that are negative by rounding count as zero.

    Raises:
        DataError: a square is negative: the place is not allowed for these constants.
    """
    if np.any(squares < -1e-9 * (1 + np.max(np.abs(squares)))):
        raise DataError(f"The motion is not allowed there: {what}^2 = {np.min(squares):.6g} is negative.")
    return np.asarray(sign) * np.sqrt(np.maximum(squares, 0.0))
