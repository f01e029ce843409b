"""Loops around the integrators: storing states, finding events, ending rays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kexue.maths.geometry.numbers.events import Event, Hits, crossed, locate
from kexue.maths.geometry.numbers.path import GeodesicPath
from kexue.maths.geometry.numbers.steppers import AdaptiveStepper, gauss_step

if TYPE_CHECKING:
    from kexue.maths.geometry.numbers.geodesics import Geodesics

__all__ = ["finish_fixed", "run_adaptive", "run_single"]

_PARTS = 2  # in which the inside of an adaptive step is computed again: its stages are sure to converge there


class _Found:
    """Hits as they come."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.parts: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {e.name: [] for e in events}

    def put(self, name: str, s: np.ndarray, y: np.ndarray, rays: np.ndarray) -> None:
        self.parts[name].append((s, y, rays))

    def hits(self, n: int) -> dict[str, Hits]:
        out = {}
        for name, parts in self.parts.items():
            s = np.concatenate([np.zeros(0), *(p[0] for p in parts)])
            y = np.concatenate([np.zeros((2 * n, 0)), *(p[1] for p in parts)], 1).T
            rays = np.concatenate([np.zeros(0, int), *(p[2] for p in parts)]).astype(int)
            out[name] = Hits(s, y[:, :n], y[:, n:], rays)
        return out


def run_single(
    geodesics: Geodesics, y: np.ndarray, length: float, rtol: float, atol: float, events: Sequence[Event], most: int
) -> GeodesicPath:
    """One ray by ``scipy.integrate.DOP853`` on plain floats."""
    from scipy.integrate import DOP853

    count = 0
    slope = geodesics.float_slope()

    def flow(state: np.ndarray, h: np.ndarray) -> np.ndarray:
        return geodesics.flow(state, h, _PARTS)

    def counted(s: float, state: Any) -> list[float]:
        nonlocal count
        count += 1
        return slope(s, state)

    s_all, y_all, status = [0.0], [y.copy()], 0
    after: tuple[float, np.ndarray]
    found = _Found(events)
    with np.errstate(all="ignore"):
        solver = DOP853(counted, 0.0, y, length, rtol=max(rtol, 3e-14), atol=atol)
        values = [float(e(np.zeros(1), y[:, None])[0]) for e in events]
        while solver.status == "running":
            solver.step()
            if solver.status == "failed" or len(s_all) > most or not np.all(np.isfinite(solver.y)):
                status = -1
                break
            before, after = (s_all[-1], y_all[-1]), (solver.t, solver.y.copy())
            new = [float(e(np.array([after[0]]), after[1][:, None])[0]) for e in events]
            hits = []
            for e, old, now in zip(events, values, new, strict=True):
                if crossed(e, np.array(old), np.array(now)):
                    h = np.array([after[0] - before[0]])
                    at, state = locate(e, flow, np.array([before[0]]), before[1][:, None], h)
                    hits.append((e, float(at[0]), state))
            ends = [at for e, at, _ in hits if e.terminal]
            last = min(ends, key=lambda at: abs(at - before[0])) if ends else None
            for e, where, state in sorted(hits, key=lambda hit: abs(hit[1] - before[0])):
                if last is None or abs(where - before[0]) <= abs(last - before[0]):
                    found.put(e.name, np.array([where]), state, np.zeros(1, int))
                    if where == last:
                        after = (where, state[:, 0])
            s_all.append(after[0])
            y_all.append(after[1])
            values = new
            if last is not None:
                status = 1
                break
    n = geodesics.dimension
    return GeodesicPath(geodesics, np.array(s_all), np.array(y_all), found.hits(n), np.array(status), count, _PARTS)


def run_adaptive(
    geodesics: Geodesics,
    y: np.ndarray,
    span: np.ndarray,
    rtol: float,
    atol: float,
    events: Sequence[Event],
    most: int,
    keep: bool,
) -> GeodesicPath:
    """Many rays at once, each with steps of its own."""
    shape = y.shape[1:]
    flat = y.reshape(len(y), -1)
    rays_of = _RayFlow(geodesics, shape, _PARTS)
    stepper = AdaptiveStepper(rays_of, np.zeros(flat.shape[1]), flat, span.reshape(-1).copy(), max(rtol, 3e-14), atol)
    status = np.zeros(flat.shape[1], int)
    found = _Found(events)
    everyone = np.arange(flat.shape[1])
    values = [rays_of.event(e, stepper.s, stepper.y, everyone) for e in events]
    s_all, y_all = [stepper.s.copy()], [stepper.y.copy()]
    active = np.flatnonzero(~stepper.failed & (stepper.s != stepper.end))
    status[stepper.failed] = -1
    for _ in range(most):
        if not len(active):
            break
        s_before, y_before = stepper.s[active].copy(), stepper.y[:, active].copy()
        rays_of.rays = active
        good = stepper.step(active)
        moved, s_before, y_before = active[good], s_before[good], y_before[:, good]
        _events(rays_of, stepper, events, values, moved, s_before, y_before, status, found)
        if keep and len(moved):
            s_all.append(stepper.s.copy())
            y_all.append(stepper.y.copy())
        status[active[stepper.failed[active]]] = -1
        active = active[(status[active] == 0) & (stepper.s[active] != stepper.end[active])]
    status[active] = -1
    if not keep:
        s_all.append(stepper.s)
        y_all.append(stepper.y)
    s, states = np.array(s_all), np.array(y_all)
    return GeodesicPath(
        geodesics,
        s.reshape(len(s), *shape),
        states.reshape(len(states), len(y), *shape),
        found.hits(geodesics.dimension),
        status.reshape(shape),
        rays_of.evaluations,
        _PARTS,
    )


def _events(
    rays_of: _RayFlow,
    stepper: AdaptiveStepper,
    events: Sequence[Event],
    values: list[np.ndarray],
    moved: np.ndarray,
    s: np.ndarray,
    y: np.ndarray,
    status: np.ndarray,
    found: _Found,
) -> None:
    """Zeros in the steps just made; terminal ones end their ray there, and what comes after them is dropped."""
    if not len(moved):
        return
    h = stepper.s[moved] - s
    stop = h.copy()  # how far the ray is followed in this step
    hits = []
    for k, e in enumerate(events):
        new = rays_of.event(e, stepper.s[moved], stepper.y[:, moved], moved)
        hit = crossed(e, values[k][moved], new)
        values[k][moved] = new
        if not hit.any():
            continue
        rays = moved[hit]
        at, state = rays_of.locate(e, rays, s[hit], y[:, hit], h[hit])
        hits.append((e, np.flatnonzero(hit), at, state))
        if e.terminal:
            nearer = np.abs(at - s[hit]) < np.abs(stop[hit])
            place = np.flatnonzero(hit)[nearer]
            stop[place] = (at - s[hit])[nearer]
            stepper.s[moved[place]], stepper.y[:, moved[place]] = at[nearer], state[:, nearer]
            status[moved[place]] = 1
    for e, place, at, state in hits:
        inside = np.abs(at - s[place]) <= np.abs(stop[place])
        found.put(e.name, at[inside], state[:, inside], moved[place[inside]])


class _RayFlow:
    """The right-hand side on a subset of the rays, parameters that differ from ray to ray taken along."""

    def __init__(self, geodesics: Geodesics, shape: tuple[int, ...], parts: int) -> None:
        self._geodesics = geodesics
        self._values = [np.broadcast_to(v, shape).reshape(-1) if v.ndim else v for v in geodesics._values]
        self._same = not any(v.ndim for v in geodesics.parameters.values())
        self._shape = shape
        self._parts = parts
        self.rays: np.ndarray | None = None
        self.evaluations = 0

    def __call__(self, y: np.ndarray) -> np.ndarray:
        self.evaluations += 1
        values = [v if not v.ndim or self.rays is None else v[self.rays] for v in self._values]
        out = np.empty_like(y)
        with np.errstate(all="ignore"):
            for k, value in enumerate(self._geodesics._slope(*y, *values)):
                out[k] = value
        return out

    def _of(self, rays: np.ndarray) -> dict[str, np.ndarray]:
        """Parameters of these rays alone, for events that evaluate the metric."""
        given = self._geodesics.parameters
        return {k: np.broadcast_to(v, self._shape).reshape(-1)[rays] for k, v in given.items()}

    def event(self, e: Event, s: np.ndarray, y: np.ndarray, rays: np.ndarray) -> np.ndarray:
        if self._same:
            return e(s, y)
        saved = self._geodesics.parameters
        self._geodesics.parameters = self._of(rays)
        try:
            return e(s, y)
        finally:
            self._geodesics.parameters = saved

    def locate(self, e: Event, rays: np.ndarray, s: np.ndarray, y: np.ndarray, h: np.ndarray) -> Any:
        self.rays = rays

        def flow(state: np.ndarray, step: np.ndarray) -> np.ndarray:
            return gauss_step(self, state, step, parts=self._parts)

        bound = e if self._same else Event(lambda t, x, p: self.event(e, t, _joined(x, p), rays), e.name)
        return locate(bound, flow, s, y, h)


def _joined(x: np.ndarray, p: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.concatenate([x, p], -1), -1, 0)


def finish_fixed(
    geodesics: Geodesics, states: np.ndarray, h: float, parts: int, events: Sequence[Event]
) -> GeodesicPath:
    """A path of equal steps, each computed in so many parts, with its events; a ray ends at its first terminal one."""
    steps, shape = len(states) - 1, states.shape[2:]
    s = np.broadcast_to((np.arange(steps + 1) * h).reshape(-1, *(1,) * len(shape)), (steps + 1, *shape)).copy()
    flat, times = states.reshape(steps + 1, states.shape[1], -1).copy(), s.reshape(steps + 1, -1)
    status = np.where(np.all(np.isfinite(flat[-1]), axis=0), 0, -1)
    rays_of = _RayFlow(geodesics, shape, parts)
    found, n = _Found(events), geodesics.dimension
    hits: list[tuple[Event, np.ndarray, np.ndarray, np.ndarray]] = []
    stop = np.full(flat.shape[2], np.inf)
    everyone = np.arange(flat.shape[2])
    for e in events:
        values = np.stack([rays_of.event(e, t, y, everyone) for t, y in zip(times, flat, strict=True)])
        k, rays = np.nonzero(crossed(e, values[:-1], values[1:]))
        if not len(k):
            continue
        at, state = rays_of.locate(e, rays, times[k, rays], flat[k, :, rays].T, np.full(len(k), h))
        hits.append((e, rays, at, state))
        if e.terminal:
            np.minimum.at(stop, rays, np.abs(at))
    for e, rays, at, state in hits:
        inside = np.abs(at) <= stop[rays]
        found.put(e.name, at[inside], state[:, inside], rays[inside])
        for ray, t, y in zip(rays, at, state.T, strict=True):
            if e.terminal and abs(t) == stop[ray]:
                late = np.abs(times[:, ray]) > stop[ray]
                flat[late, :, ray], times[late, ray], status[ray] = y, t, 1
    status = status.reshape(shape)
    return GeodesicPath(geodesics, times.reshape(s.shape), flat.reshape(states.shape), found.hits(n), status, 0, parts)
