"""What is looked for on the way: crossings of surfaces, turning points, horizons, functions of the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kexue.errors import ConfigError

__all__ = ["Event", "Hits", "as_events", "locate"]


@dataclass(frozen=True)
class Event:
    """A zero of a function along a geodesic.

    Attributes:
        function: ``f(s, x, p)``, vectorised: s of shape S, x and p of shape S + (n,), the value of shape S.
        name: under which the hits are found.
        terminal: whether the ray ends there.
        direction: 1 finds zeros where the function rises, -1 where it falls, 0 both.
    """

    function: Callable[[Any, Any, Any], Any]
    name: str = "event"
    terminal: bool = False
    direction: int = 0

    def __call__(self, s: Any, y: np.ndarray) -> np.ndarray:
        """Values for states of shape (2n, ...)."""
        n = len(y) // 2
        rays = np.moveaxis(y, 0, -1)
        with np.errstate(all="ignore"):
            return np.asarray(self.function(s, rays[..., :n], rays[..., n:]), float) + np.zeros(y.shape[1:])


@dataclass(frozen=True)
class Hits:
    """Where an event happened, in the order in which it was met.

    Attributes:
        s: affine parameter, shape (hits,).
        x: position, shape (hits, n).
        p: momentum p_a, shape (hits, n).
        ray: number of the ray in a batch (flattened), 0 for a single one.
    """

    s: np.ndarray
    x: np.ndarray
    p: np.ndarray
    ray: np.ndarray

    def __len__(self) -> int:
        return len(self.s)


def as_events(events: Event | Sequence[Event]) -> list[Event]:
    """One event or several as a list.

    Raises:
        ConfigError: something that is no event.
    """
    out = [events] if isinstance(events, Event) else list(events)
    if wrong := [e for e in out if not isinstance(e, Event)]:
        raise ConfigError(f"Events such as Event(function, name) or crossing('r', 6) were expected: {wrong[0]!r}.")
    return out


def crossed(event: Event, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Whether a zero lies in a step; a zero at its very start belongs to the step before."""
    rises = (before < 0) & (after >= 0)
    falls = (before > 0) & (after <= 0)
    return rises if event.direction > 0 else falls if event.direction < 0 else rises | falls


def locate(
    event: Event, flow: Callable[[np.ndarray, np.ndarray], np.ndarray], s: np.ndarray, y: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Zeros within the steps from (s, y) of size h: bracketing with regula falsi (Illinois), all rays at once.

    Args:
        event: what vanishes.
        flow: ``flow(y, h)``, one accurate step.
        s: shape (hits,).
        y: shape (2n, hits).
        h: shape (hits,).

    Returns:
        Parameters and states of the zeros.
    """
    low, high = np.zeros_like(h), h.copy()
    f_low, f_high = event(s, y), event(s + h, flow(y, h))
    middle, state = high, y
    kept = np.zeros(len(h))  # which end stayed last: -1 low, 1 high
    for k in range(100):
        with np.errstate(all="ignore"):
            middle = (low * f_high - high * f_low) / (f_high - f_low)
        outside = ~((middle - low) * (high - middle) >= 0)
        middle = np.where(outside | (k % 6 == 5), (low + high) / 2, middle)
        state = flow(y, middle)
        value = event(s + middle, state)
        if np.all((value == 0) | (np.abs(high - low) <= 4e-16 * (np.abs(s) + np.abs(h)))):
            break
        right = np.sign(value) == np.sign(f_high)  # the zero lies on the left of the middle
        f_low = np.where(right & (kept < 0), f_low / 2, f_low)
        f_high = np.where(~right & (kept > 0), f_high / 2, f_high)
        low, f_low = np.where(right, low, middle), np.where(right, f_low, value)
        high, f_high = np.where(right, middle, high), np.where(right, value, f_high)
        kept = np.where(right, -1.0, 1.0)
    return s + middle, state
