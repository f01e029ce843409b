"""Checks of arguments that the laws share."""

import math
from typing import Any

import numpy as np

from kexue.errors import ConfigError

__all__ = ["positive", "positives"]


def positive(name: str, value: Any, *, zero: bool = False, infinite: bool = False) -> float:
    """The value as a float.

    Raises:
        ConfigError: it is no number, or not positive (or zero, or infinite, where those are allowed).
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    fits = number > 0 or (zero and number == 0)
    if not fits or (math.isinf(number) and not infinite):
        wanted = "a number of at least 0" if zero else "a positive number"
        raise ConfigError(f"{name} must be {wanted}. Received: {value!r}")
    return number


def positives(name: str, values: Any) -> np.ndarray:
    """The values as float64, all positive and finite.

    Raises:
        ConfigError: one is not.
    """
    array = np.asarray(values, np.float64)
    if not (np.isfinite(array) & (array > 0)).all():
        raise ConfigError(f"{name} must be positive and finite. Received: {values!r}")
    return array
