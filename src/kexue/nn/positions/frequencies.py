"""Frequencies theta of sinusoidal and rotary positions, and their scaling for lengths beyond training.

Feature pair i of a vector of size d turns by ``position * theta_i``, by default ``theta_i = base ** (-2 i / d)``.
Scalings change theta so that a model trained at one length is usable at a greater one:

- ``linear`` (position interpolation, arXiv 2306.15595): ``theta / factor``.
- ``ntk`` (NTK-aware): ``base`` becomes ``base * factor ** (d / (d - 2))``; the fastest pair keeps its frequency, the
  slowest is divided by ``factor``.
- ``yarn`` (arXiv 2309.00071): pairs that turn more than ``beta_fast`` times in ``original_length`` keep their
  frequency, pairs that turn less than ``beta_slow`` times are divided by ``factor``, a ramp lies between; cosines and
  sines are multiplied by ``0.1 ln(factor) + 1``, which multiplies the scores by its square (a temperature).
- ``llama3`` (arXiv 2407.21783): likewise with the limits given as wavelengths, and no temperature.

Everything here is NumPy in float64; nothing depends on a batch.

Source: kexue.fm articles 8231 and 8265, and the papers above.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kexue.errors import ConfigError

__all__ = ["SCALINGS", "check_scaling", "frequencies", "scale_frequencies"]

SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"factor": ...},
    "ntk": {"factor": ...},
    "yarn": {
        "factor": ...,
        "original_length": ...,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "attention_factor": None,
        "mscale": None,
        "mscale_all_dim": None,
        "truncate": True,
    },
    "llama3": {"factor": ..., "original_length": ..., "low_freq_factor": 1.0, "high_freq_factor": 4.0},
}
"""Options of each scaling with their defaults; ``...`` where one must be given."""


def frequencies(
    dim: int, base: float = 10000.0, theta: Callable[[float], float] | Sequence[float] | None = None
) -> np.ndarray:
    """The ``dim / 2`` frequencies, float64.

    Args:
        dim: number of features; even.
        base: ``theta_i = base ** (-2 i / dim)`` where ``theta`` is None.
        theta: ``dim / 2`` numbers, or a function of ``t = 2 i / dim`` in [0, 1), such as ``lambda t: 1000.0 ** -t``.

    Raises:
        ConfigError: ``dim`` is odd, ``base`` is not above 0, or the numbers do not fit.
    """
    if dim % 2 or dim <= 0:
        raise ConfigError(f"frequencies come in pairs of features: dim must be even and positive. Received: dim={dim}")
    if theta is None:
        if not base > 0:
            raise ConfigError(f"base must be positive. Received: base={base}")
        return float(base) ** (-np.arange(0, dim, 2) / dim)
    if callable(theta):
        values = np.array([float(theta(2 * i / dim)) for i in range(dim // 2)])
    else:
        values = np.asarray(theta, "float64")
    if values.shape != (dim // 2,) or not np.isfinite(values).all():
        raise ConfigError(f"theta must be {dim // 2} finite numbers. Received: shape {values.shape}")
    return values


def check_scaling(scaling: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """``scaling`` as a plain dict with all its defaults filled in.

    Raises:
        ConfigError: an unknown kind or option, a missing option, or a factor below 1.
    """
    if scaling is None:
        return None
    kind = scaling.get("kind") if isinstance(scaling, Mapping) else None
    if kind not in SCALINGS:
        example = {"kind": "linear", "factor": 4.0}
        raise ConfigError(
            f"scaling must be None or a mapping such as {example!r} with kind of {', '.join(SCALINGS)}. "
            f"Received: {scaling!r}"
        )
    known = SCALINGS[kind]
    unknown = sorted(set(scaling) - set(known) - {"kind"})
    missing = [name for name, value in known.items() if value is ... and scaling.get(name) is None]
    if unknown or missing:
        what = f"needs {', '.join(missing)}" if missing else f"has no option {', '.join(unknown)}"
        raise ConfigError(f"scaling {kind!r} {what}; its options are {', '.join(known)}. Received: {dict(scaling)!r}")
    full = {"kind": kind} | known | {name: value for name, value in scaling.items() if value is not None}
    if full["factor"] < 1:
        raise ConfigError(f"the factor of a scaling must be at least 1. Received: factor={full['factor']}")
    if kind == "llama3" and not full["low_freq_factor"] < full["high_freq_factor"]:
        raise ConfigError(f"low_freq_factor must be below high_freq_factor. Received: {dict(scaling)!r}")
    return full


def scale_frequencies(
    dim: int,
    base: float = 10000.0,
    theta: Callable[[float], float] | Sequence[float] | None = None,
    scaling: Mapping[str, Any] | None = None,
) -> tuple[np.ndarray, float]:
    """Frequencies after scaling, and what cosines and sines are multiplied by.

    Args:
        dim: number of rotated features.
        base: as in `frequencies`.
        theta: likewise; ``ntk`` and ``yarn`` are defined by ``base`` and refuse it.
        scaling: None or a mapping with ``kind``, see `SCALINGS`.

    Raises:
        ConfigError: the options do not fit.
    """
    plain = frequencies(dim, base, theta)
    options = check_scaling(scaling)
    if options is None:
        return plain, 1.0
    kind, factor = options["kind"], options["factor"]
    if theta is not None and kind in ("ntk", "yarn"):
        raise ConfigError(f"scaling {kind!r} is defined for frequencies base ** (-2 i / dim) only, not with theta.")
    if kind == "linear":
        return plain / factor, 1.0
    if kind == "ntk":
        if dim == 2:
            raise ConfigError("scaling 'ntk' needs more than one pair of rotated features. Received: dim=2")
        return frequencies(dim, base * factor ** (dim / (dim - 2))), 1.0
    if kind == "llama3":
        turns = options["original_length"] * plain / (2 * math.pi)
        low, high = options["low_freq_factor"], options["high_freq_factor"]
        keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return plain * keep + plain / factor * (1 - keep), 1.0

    def pair(turns: float) -> float:
        """Which pair makes so many turns in the original length; a real number."""
        return dim * math.log(options["original_length"] / (turns * 2 * math.pi)) / (2 * math.log(base))

    first, last = pair(options["beta_fast"]), pair(options["beta_slow"])
    if options["truncate"]:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    keep = 1 - np.clip((np.arange(dim // 2) - first) / max(last - first, 1e-3), 0.0, 1.0)
    return plain * keep + plain / factor * (1 - keep), _temperature(options)


def _temperature(options: Mapping[str, Any]) -> float:
    if options["attention_factor"] is not None:
        return float(options["attention_factor"])

    def grown(mscale: float) -> float:
        return 0.1 * mscale * math.log(options["factor"]) + 1.0

    if options["mscale"] and options["mscale_all_dim"]:
        return grown(options["mscale"]) / grown(options["mscale_all_dim"])
    return grown(1.0)
