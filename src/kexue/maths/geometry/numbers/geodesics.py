"""Geodesics of a metric: initial data, integration, constants of the motion, events (articles 3998, 4014).

::

    rays = Geodesics(catalogue.metric("kerr"), M=1.0, a=0.9)
    start = rays.start({"t": 0, "r": 8, "theta": 1.2, "phi": 0}, {"r": 0, "theta": 0, "phi": 0.05}, "timelike")
    path = rays.integrate(start, 1000.0, events=[rays.turning_point("r")])
    path.drift()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry.metric import Metric
from kexue.maths.geometry.numbers.autodiff import double_precision
from kexue.maths.geometry.numbers.compiled import lambdify
from kexue.maths.geometry.numbers.events import Event, as_events
from kexue.maths.geometry.numbers.hamiltonian import Hamiltonian
from kexue.maths.geometry.numbers.initial import (
    State,
    components,
    norm_of,
    open_component,
    point_text,
    square_roots,
    stacked,
)
from kexue.maths.geometry.numbers.path import GeodesicPath
from kexue.maths.geometry.numbers.runs import run_adaptive, run_single
from kexue.maths.geometry.numbers.separation import is_killing_tensor, killing_tensor
from kexue.maths.geometry.numbers.steppers import gauss_jax, gauss_numpy, gauss_step
from kexue.maths.geometry.tensors import Tensor

__all__ = ["Geodesics"]

METHODS = ("dop853", "gauss")


class Geodesics:
    """The geodesic equation of one metric with values for its parameters, compiled.

    Args:
        metric: the metric.
        functions: values of unknown functions, see :func:`lambdify`.
        killing: more Killing vectors (variance "u") or Killing tensors ("uu") by name, whose constants are followed;
            cyclic coordinates and the Killing tensor of separable metrics are found without.
        **parameters: values of the metric's constants; numbers, or arrays of the shape of a batch.

    Raises:
        ConfigError: a given Killing vector or tensor is none.
        DataError: a parameter without value.
    """

    def __init__(
        self,
        metric: Metric,
        functions: Mapping[str, Any] | None = None,
        killing: Mapping[str, Tensor] | None = None,
        **parameters: Any,
    ) -> None:
        self.metric = metric
        self.dimension = metric.dimension
        self.coordinates = metric.coordinates
        self.parameters = {name: np.asarray(v, float) for name, v in parameters.items()}
        self._functions = functions
        self._hamiltonian = Hamiltonian(metric, functions)
        missing = [name for name in self._hamiltonian.parameters if name not in parameters]
        if missing:
            raise DataError(f"Values of the parameters {', '.join(missing)} are needed, by keyword.")
        known = {*self._hamiltonian.parameters, *metric.field.parameters}
        if unknown := [name for name in parameters if name not in known]:
            raise DataError(
                f"The metric has no parameter {', '.join(unknown)}: expected {', '.join(sorted(known)) or 'none'}."
            )
        self._killing = dict(killing or {})
        for name, tensor in self._killing.items():
            if tensor.rank not in (1, 2) or not is_killing_tensor(metric, tensor.to_frame(metric.coordinate_frame)):
                raise ConfigError(f"{name} is no Killing vector or Killing tensor of the metric.")
        self._slope = self._hamiltonian.compile("numpy")

    # --- the metric at points -----------------------------------------------------------------------------------

    def number(self, coordinate: str | int) -> int:
        """Number of a coordinate."""
        return self.metric.field.coordinate_number(coordinate)

    @property
    def _values(self) -> list[np.ndarray]:
        return [self.parameters[name] for name in self._hamiltonian.parameters]

    def of_ray(self, number: int, shape: tuple[int, ...]) -> Geodesics:
        """The same for one ray of a batch: parameters that differ from ray to ray become numbers."""
        out = object.__new__(Geodesics)
        out.__dict__.update({k: v for k, v in self.__dict__.items() if not k.startswith("_made")})
        out.parameters = {k: np.ravel(np.broadcast_to(v, shape))[number] for k, v in self.parameters.items()}
        return out

    @cached_property
    def _metric_function(self) -> Any:
        return lambdify([self.metric.tensor, self.metric.inverse], "numpy", self._functions)

    def metric_at(self, x: Any) -> np.ndarray:
        """g_ab at points of shape S + (n,)."""
        return self._metric_function.at(np.asarray(x, float), **self.parameters)[0]

    def inverse_at(self, x: Any) -> np.ndarray:
        """g^ab at points of shape S + (n,)."""
        return self._metric_function.at(np.asarray(x, float), **self.parameters)[1]

    def slope(self, y: np.ndarray) -> np.ndarray:
        """Hamilton's right-hand side for states of shape (2n, ...)."""
        values = self._slope(*y, *self._values)
        out = np.empty_like(y)
        for k, value in enumerate(values):
            out[k] = value
        return out

    def flow(self, y: np.ndarray, h: Any, parts: int = 1) -> np.ndarray:
        """States of shape (2n, ...) after a step of order 10, made in so many parts."""
        return gauss_step(self.slope, y, h, parts=parts)

    def velocity(self, x: Any, p: Any) -> np.ndarray:
        """u^a = g^ab p_b."""
        y = np.moveaxis(np.concatenate([x, p], -1), -1, 0)
        return np.moveaxis(self.slope(y)[: self.dimension], 0, -1)

    # --- initial data -------------------------------------------------------------------------------------------

    def start(
        self, position: Any, velocity: Any, kind: str | None = None, unknown: str | int | None = None, sign: int = 1
    ) -> State:
        """Initial data from a 4-velocity of which one component follows from the norm.

        Args:
            position: x^a, by name or in order; each a number or an array (many rays).
            velocity: u^a, by name or in order; the unknown one left away or None. With all of them given and no kind
                they are taken as they are.
            kind: "timelike" (proper time), "null" or "spacelike" (length).
            unknown: which component; None takes the one not given, else the first coordinate.
            sign: of the root where the unknown is not the first coordinate; the first is taken as time and points to
                the future, in ergospheres too.

        Raises:
            DataError: no such velocity, or wrong names.
        """
        x = components(position, self.coordinates, "position")
        u = components(velocity, self.coordinates, "velocity", _MISSING)
        open_ = [k for k, v in enumerate(u) if v is None or v is _MISSING]
        if kind is None:
            if open_:
                raise DataError("The velocity is incomplete: name the kind, timelike, null or spacelike.")
            state = stacked([*x, *u])
            place, n = state[..., : self.dimension], self.dimension
            return State(place, np.einsum("...ab,...b->...a", self.metric_at(place), state[..., n:]))
        norm = norm_of(kind, self.metric.signs)
        k = self.number(unknown) if unknown is not None else open_[0] if open_ else 0
        others = [i for i in open_ if i != k]
        if others:
            names = ", ".join(self.coordinates[i] for i in others)
            raise DataError(f"One component can follow from the norm; give {names}.")
        u[k] = 0.0
        state = stacked([*x, *u])
        place, speed = state[..., : self.dimension].copy(), state[..., self.dimension :].copy()
        with np.errstate(all="ignore"):
            g = self.metric_at(place)
        if place.ndim == 1 and not np.all(np.isfinite(g)):
            raise DataError(f"The metric is not finite at {point_text(self.coordinates, place)}: start elsewhere.")
        definite = len(set(self.metric.signs)) == 1
        future = k == 0 and not definite
        turn = -1.0 if norm_of("spacelike", self.metric.signs) < 0 and not definite else 1.0
        speed[..., k] = open_component(turn * g, speed, k, turn * norm, future, sign)
        return State(place, np.einsum("...ab,...b->...a", g, speed))

    def start_from_constants(
        self,
        position: Any,
        momenta: Mapping[str, Any],
        kind: str = "timelike",
        Q: Any = None,
        signs: Mapping[str, Any] | None = None,
    ) -> State:
        """Initial data from constants of the motion.

        Args:
            position: x^a, by name or in order.
            momenta: p_a of all coordinates but those that follow; "E" stands for -p_t, "L" for p_phi.
            kind: of the geodesic.
            Q: the constant of the Killing tensor (Carter's), where two momenta are left open; the norm gives the other.
            signs: of the open momenta by coordinate, 1 by default.

        Raises:
            DataError: the place is not allowed for these constants, or too much is left open.
            ConfigError: Q is given and the metric has no Killing tensor that could be found.
        """
        x = components(position, self.coordinates, "position")
        given = {
            _ALIASES.get(k, (k, 1))[0]: np.asarray(v, float) * _ALIASES.get(k, (k, 1))[1] for k, v in momenta.items()
        }
        p = components(given, self.coordinates, "momenta", _MISSING)
        open_ = [k for k, v in enumerate(p) if v is _MISSING]
        if len(open_) != (1 if Q is None else 2):
            raise DataError(
                f"{'Two momenta' if Q is not None else 'One momentum'} can follow from the "
                f"{'norm and Q' if Q is not None else 'norm'}, left open are "
                f"{', '.join(self.coordinates[k] for k in open_) or 'none'}."
            )
        norm = norm_of(kind, self.metric.signs)
        values = stacked([*x, *(0.0 if v is _MISSING else v for v in p), 0.0 if Q is None else Q])
        n = self.dimension
        place, known, Q = values[..., :n].copy(), values[..., n : 2 * n].copy(), values[..., -1]
        tables = [self.inverse_at(place)]
        right = [norm - np.einsum("...ab,...a,...b->...", tables[0], known, known)]
        if len(open_) == 2:
            if self.killing_tensor is None:
                raise ConfigError("The metric has no Killing tensor that could be found; give p_theta instead of Q.")
            tables.append(self._killing_function.at(place, **self.parameters))
            right.append(Q - np.einsum("...ab,...a,...b->...", tables[1], known, known))
        for table in tables:
            for k in open_:
                if np.any(np.delete(table, k, -1)[..., k, :] != 0):
                    raise DataError(
                        f"p_{self.coordinates[k]} is coupled to other momenta; use start() with a velocity."
                    )
        matrix = np.stack([np.stack([t[..., k, k] for k in open_], -1) for t in tables], -2)
        squares = np.linalg.solve(matrix, np.stack(right, -1)[..., None])[..., 0]
        for place_, k in enumerate(open_):
            name = self.coordinates[k]
            known[..., k] = square_roots(squares[..., place_], (signs or {}).get(name, 1), f"p_{name}")
        return State(place, known)

    # --- constants of the motion --------------------------------------------------------------------------------

    @cached_property
    def cyclic(self) -> tuple[int, ...]:
        """Numbers of the coordinates on which the metric does not depend."""
        used = frozenset().union(
            *(self.metric.field.coordinates_of(x) for row in self.metric.coordinate_frame.metric_rows for _, x in row)
        )
        return tuple(k for k in range(self.dimension) if k not in used)

    @cached_property
    def killing_tensor(self) -> Tensor | None:
        """The Killing tensor of separable metrics (Carter's), found and checked exactly, or None."""
        return killing_tensor(self.metric)

    @cached_property
    def _killing_function(self) -> Any:
        return lambdify(self.killing_tensor, "numpy", self._functions)

    def constants(self, x: Any, p: Any) -> dict[str, np.ndarray]:
        """Constants of the motion at states: "norm" (g^ab p_a p_b), "E" = -p_t, "L" = p_phi, other cyclic momenta as
        "p_name", "Q" of the Killing tensor, and those of the vectors and tensors that were given."""
        x, p = np.asarray(x, float), np.asarray(p, float)
        arguments = [*np.moveaxis(x, -1, 0), *np.moveaxis(p, -1, 0), *self._values]
        shape = x.shape[:-1]
        out = {"norm": 2 * self._hamiltonian.energy(*arguments) + np.zeros(shape)}
        for k in self.cyclic:
            name = self.coordinates[k]
            alias = next((short for short, (full, _) in _ALIASES.items() if full == name), None)
            out[alias or f"p_{name}"] = p[..., k] * (_ALIASES[alias][1] if alias else 1)
        for name, call in self._constant_functions.items():
            out[name] = call(*arguments) + np.zeros(shape)
        return out

    @cached_property
    def _constant_functions(self) -> dict[str, Callable[..., Any]]:
        tensors = dict(self._killing)
        if self.killing_tensor is not None and "Q" not in tensors:
            tensors["Q"] = self.killing_tensor
        frame = self.metric.coordinate_frame
        return {name: self._hamiltonian.quadratic(_upper(t.to_frame(frame)).components) for name, t in tensors.items()}

    # --- events -------------------------------------------------------------------------------------------------

    def crossing(
        self, coordinate: str, value: float, terminal: bool = False, direction: int = 0, period: float | None = None
    ) -> Event:
        """The coordinate takes a value (up to multiples of a period)."""
        k = self.number(coordinate)

        def function(s: Any, x: Any, p: Any) -> Any:
            distance = x[..., k] - value
            return distance if period is None else np.sin(np.pi * distance / period)

        return Event(function, f"{coordinate}={value:.6g}", terminal, direction)

    def turning_point(self, coordinate: str, terminal: bool = False, direction: int = 0) -> Event:
        """The velocity of a coordinate vanishes; direction 1 finds minima (pericentres), -1 maxima."""
        k = self.number(coordinate)
        return Event(lambda s, x, p: self._velocity_of(x, p)[..., k], f"turning {coordinate}", terminal, direction)

    def _velocity_of(self, x: Any, p: Any) -> np.ndarray:
        return self.velocity(x, p)

    def horizon(self, coordinate: str = "r", margin: float = 1e-3) -> Event:
        """Arrival where g^rr falls to the margin: just outside of a Killing horizon. Terminal."""
        k = self.number(coordinate)
        return Event(lambda s, x, p: self.inverse_at(x)[..., k, k] - margin, "horizon", True, -1)

    # --- integration --------------------------------------------------------------------------------------------

    def integrate(
        self,
        start: State,
        length: Any,
        *,
        method: str = "dop853",
        rtol: float = 1e-11,
        atol: float = 1e-12,
        steps: int | None = None,
        every: int = 1,
        stages: int = 4,
        backend: str = "jax",
        events: Sequence[Event] = (),
        most_steps: int = 100_000,
        keep: bool = True,
    ) -> GeodesicPath:
        """Follow geodesics from their start over a length of affine parameter (negative: into the past).

        Args:
            start: one state or a batch.
            length: of affine parameter, a number or one a ray.
            method: "dop853", adaptive of order 8, each ray with steps of its own; or "gauss", Gauss-Legendre with equal
                steps, symplectic: norm and Killing constants stay within rounding for long runs once the step resolves
                the orbit.
            rtol: relative tolerance of "dop853".
            atol: absolute tolerance of "dop853".
            steps: number of steps of "gauss".
            every: "gauss" keeps every so many steps.
            stages: of "gauss"; the order is twice that.
            backend: of "gauss": "jax" compiles the loop, "numpy" needs nothing else.
            events: what to look for; zeros are located to rounding. Two zeros of one event within one step are missed.
            most_steps: bound on steps of "dop853".
            keep: False keeps only the start and the end of each ray.

        Raises:
            ConfigError: another method, steps missing, or events that are none.
            DataError: a length that is no number, or a single ray that cannot start.
        """
        if method not in METHODS:
            raise ConfigError(f"The method must be one of {', '.join(METHODS)}, received {method!r}.")
        events = as_events(events)
        if np.any(np.isnan(np.asarray(length, float))):
            raise DataError(f"A length of affine parameter was expected, received {length}.")
        y = np.moveaxis(np.concatenate([np.asarray(start.x, float), np.asarray(start.p, float)], -1), -1, 0)
        shape = np.broadcast_shapes(y.shape[1:], *(v.shape for v in self.parameters.values()), np.shape(length))
        y = np.broadcast_to(y.reshape(len(y), *(1,) * (len(shape) + 1 - y.ndim), *y.shape[1:]), (len(y), *shape)).copy()
        span = np.broadcast_to(np.asarray(length, float), shape)
        if method == "gauss":
            if steps is None:
                raise ConfigError("Give the number of steps for method 'gauss'.")
            return self._gauss(y, span, steps, every, stages, backend, events)
        if not shape:
            if not np.all(np.isfinite(self.float_slope()(0.0, y))):
                place = point_text(self.coordinates, y[: self.dimension])
                raise DataError(f"The geodesic equation is singular at the start {place}: start beside it.")
            return run_single(self, y, float(span), rtol, atol, events, most_steps)
        return run_adaptive(self, y, span, rtol, atol, events, most_steps, keep)

    def float_slope(self) -> Callable[[Any, Any], list[float]]:
        """``f(s, y)`` on plain floats for one ray, NaN where undefined: the fastest form for SciPy's integrators."""
        call = self._hamiltonian.compile("float")
        values = [float(v) for v in self._values]
        nothing = [float("nan")] * (2 * self.dimension)

        def slope(s: Any, y: Any) -> list[float]:
            try:
                return list(call(*y.tolist(), *values))
            except (ArithmeticError, ValueError):
                return nothing

        return slope

    def _gauss(
        self,
        y: np.ndarray,
        span: np.ndarray,
        steps: int,
        every: int,
        stages: int,
        backend: str,
        events: Sequence[Event],
    ) -> GeodesicPath:
        from kexue.maths.geometry.numbers.runs import finish_fixed

        if np.any(span != span.flat[0]):
            raise ConfigError("Rays of method 'gauss' run in step and need one common length.")
        if steps < 1 or every < 1 or steps % every:
            raise ConfigError(f"steps must be a positive multiple of every, received {steps} and {every}.")
        h = float(span.flat[0]) / steps
        flat = y.reshape(len(y), -1)
        if backend == "jax":
            out = self._gauss_on_jax(flat, h, steps // every, every, stages)
        elif backend == "numpy":
            out = gauss_numpy(self._flat_slope(y.shape[1:]), flat, h, steps, every, stages)
        else:
            raise ConfigError(f"The backend of method 'gauss' is 'jax' or 'numpy', received {backend!r}.")
        return finish_fixed(self, out.reshape(len(out), *y.shape), h * every, every, events)

    def _flat_slope(self, shape: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
        values = [np.broadcast_to(v, shape).reshape(-1) if v.ndim else v for v in self._values]

        def slope(y: np.ndarray) -> np.ndarray:
            out = np.empty_like(y)
            for k, value in enumerate(self._slope(*y, *values)):
                out[k] = value
            return out

        return slope

    def _gauss_on_jax(self, y: np.ndarray, h: float, blocks: int, every: int, stages: int) -> np.ndarray:
        import jax.numpy as jnp

        runs = self.__dict__.setdefault("_compiled_runs", {})
        if stages not in runs:
            call = self._hamiltonian.compile("jax")

            def slope(state: Any, parameters: Any) -> Any:
                values = call(*state, *parameters)
                return jnp.stack([jnp.broadcast_to(v, state.shape[1:]) for v in values])

            runs[stages] = gauss_jax(slope, stages)
        with double_precision():
            values = [jnp.asarray(np.ravel(v) if v.ndim else v, jnp.float64) for v in self._values]
            return np.asarray(runs[stages](jnp.asarray(y), values, jnp.asarray(h), blocks, every))


_ALIASES = {"E": ("t", -1.0), "L": ("phi", 1.0)}
_MISSING: Any = object()


def _upper(tensor: Tensor) -> Tensor:
    return tensor.with_variance("u" * tensor.rank)
