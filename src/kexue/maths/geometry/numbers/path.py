"""A computed geodesic, or many of them, with its constants of the motion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kexue.errors import DataError

if TYPE_CHECKING:
    from kexue.maths.geometry.numbers.events import Hits
    from kexue.maths.geometry.numbers.geodesics import Geodesics

__all__ = ["GeodesicPath"]


class GeodesicPath:
    """Positions and momenta along geodesics.

    Attributes:
        s: affine parameter (proper time or length for kinds that have one), shape (steps, *S).
        x: positions x^a, shape (steps, *S, n). Rays that have ended repeat their last state.
        p: momenta p_a.
        events: :class:`Hits` by name.
        status: per ray: 0 reached the end, 1 ended at a terminal event, -1 stopped at a singularity (shape S).
        evaluations: of the right-hand side, where they were counted.
    """

    def __init__(
        self,
        geodesics: Geodesics,
        s: np.ndarray,
        y: np.ndarray,
        events: dict[str, Hits],
        status: Any,
        evaluations: int = 0,
        parts: int = 1,
    ) -> None:
        n = geodesics.dimension
        self.geodesics = geodesics
        self.s = s
        self._y = y  # (steps, 2n, *S)
        rays = np.moveaxis(y, 1, -1)
        self.x, self.p = rays[..., :n], rays[..., n:]
        self.events = events
        self.status = status
        self.evaluations = evaluations
        self._parts = parts  # in which a stored step was computed

    def __len__(self) -> int:
        return len(self.s)

    def __getitem__(self, coordinate: str) -> np.ndarray:
        """One coordinate along the path by name, shape (steps, *S)."""
        return self.x[..., self.geodesics.number(coordinate)]

    @property
    def velocity(self) -> np.ndarray:
        """u^a = dx^a/ds, shape (steps, *S, n)."""
        return self.geodesics.velocity(self.x, self.p)

    def constants(self) -> dict[str, np.ndarray]:
        """What should not change, along the path: see :meth:`Geodesics.constants`."""
        return self.geodesics.constants(self.x, self.p)

    def drift(self) -> dict[str, float]:
        """Largest change of each constant from its first value, divided by that value where it is not tiny."""
        out = {}
        for name, value in self.constants().items():
            first = np.abs(value[0])
            scale = np.where(first > 1e-9, first, 1.0)
            out[name] = float(np.nanmax(np.abs(value - value[0]) / scale))
        return out

    def __call__(self, s: Any) -> tuple[np.ndarray, np.ndarray]:
        """Position and momentum of a single ray at any parameters: one step of order 10 from the nearest stored state.

        Raises:
            DataError: a batch of rays, or a parameter outside.
        """
        if self.s.ndim != 1:
            raise DataError("Values between steps are for single rays; take one with ray(number).")
        wanted = np.atleast_1d(np.asarray(s, float))
        forward = self.s[-1] >= self.s[0]
        known = self.s if forward else self.s[::-1]
        slack = 1e-12 * (1 + np.abs(known[-1]) + np.abs(known[0]))
        if np.any((wanted < known[0] - slack) | (wanted > known[-1] + slack)):
            raise DataError(f"The path runs from {self.s[0]:.6g} to {self.s[-1]:.6g}.")
        right = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
        nearest = np.where(np.abs(known[right] - wanted) < np.abs(known[right - 1] - wanted), right, right - 1)
        if not forward:
            nearest = len(known) - 1 - nearest
        y = self.geodesics.flow(np.moveaxis(self._y[nearest], 0, -1), wanted - self.s[nearest], self._parts)
        n, y = self.geodesics.dimension, np.moveaxis(y, 0, -1)
        y = y if np.ndim(s) else y[0]
        return y[..., :n], y[..., n:]

    def ray(self, number: int) -> GeodesicPath:
        """One ray of a batch (flattened), without the repeated states at its end."""
        if self.s.ndim == 1:
            return self
        from kexue.maths.geometry.numbers.events import Hits

        s = self.s.reshape(len(self.s), -1)[:, number]
        y = self._y.reshape(*self._y.shape[:2], -1)[..., number]
        last = int(np.flatnonzero(s != s[-1])[-1]) + 2 if np.any(s != s[-1]) else 1
        events = {}
        for name, hits in self.events.items():
            own = hits.ray == number
            events[name] = Hits(hits.s[own], hits.x[own], hits.p[own], np.zeros(own.sum(), int))
        status = np.ravel(self.status)[number]
        rays = self.geodesics.of_ray(number, self.s.shape[1:])
        return GeodesicPath(rays, s[:last], y[:last], events, status, self.evaluations, self._parts)

    def __repr__(self) -> str:
        rays = "" if self.s.ndim == 1 else f", rays={self.s[0].size}"
        hits = "".join(f", {name}: {len(h)}" for name, h in self.events.items())
        return f"GeodesicPath(steps={len(self.s) - 1}{rays}{hits})"
