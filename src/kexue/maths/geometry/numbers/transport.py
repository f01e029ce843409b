"""Parallel and Fermi-Walker transport along curves, holonomy around loops; geodesic deviation.

In an orthonormal frame ``dA^a/ds = -omega^a_b(x') A^b`` with omega in so(p, q): the propagator is a product of
exponentials of Magnus' series to order 6 (S. Blanes et al., Physics Reports 470, 2009), each a rotation or boost to
rounding, so scalar products are kept however large the steps (articles 3998, 4014, 4026).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry.connection import LeviCivita
from kexue.maths.geometry.numbers.compiled import lambdify
from kexue.maths.geometry.numbers.curves import Curve, as_curve, differences
from kexue.maths.geometry.numbers.path import GeodesicPath

if TYPE_CHECKING:
    from kexue.maths.geometry.metric import Metric

__all__ = ["Transport", "geodesic_deviation", "holonomy", "parallel_transport"]


class Transport:
    """Frames carried along a curve.

    Attributes:
        s: parameters, shape (steps + 1,).
        x: the curve there, shape (steps + 1, n).
        propagators: from the start to s, on components in the orthonormal frame, shape (steps + 1, n, n).
        eta: the frame metric, the signs on its diagonal.
        coframe: h^a_mu at the points, shape (steps + 1, n, n).
    """

    def __init__(self, s: np.ndarray, x: np.ndarray, propagators: np.ndarray, eta: np.ndarray, coframe: np.ndarray):
        self.s, self.x, self.propagators, self.eta, self.coframe = s, x, propagators, eta, coframe

    @cached_property
    def coordinate_propagators(self) -> np.ndarray:
        """The same on coordinate components: ``A^mu(s) = P^mu_nu A^nu(0)``."""
        return np.linalg.inv(self.coframe) @ self.propagators @ self.coframe[0]

    def carry(self, vector: Any) -> np.ndarray:
        """A vector (coordinate components at the start, shape (n,)) along the curve: shape (steps + 1, n)."""
        return self.coordinate_propagators @ np.asarray(vector, float)

    def carry_in_frame(self, vector: Any) -> np.ndarray:
        """The same for components in the orthonormal frame."""
        return self.propagators @ np.asarray(vector, float)

    def norm_error(self) -> float:
        """Largest entry of ``P^T eta P - eta``: how much scalar products have changed."""
        P = self.propagators
        return float(np.max(np.abs(np.swapaxes(P, -1, -2) @ self.eta @ P - self.eta)))


def parallel_transport(
    metric: Metric,
    curve: Any,
    *,
    span: tuple[float, float] | None = None,
    steps: int = 200,
    fermi_walker: bool = False,
    functions: Mapping[str, Any] | None = None,
    **parameters: Any,
) -> Transport:
    """Carry frames along a curve.

    Args:
        metric: the metric; its orthonormal frame must be real along the curve.
        curve: expressions in s by coordinate, a vectorised function of s, or a geodesic; see :func:`as_curve`.
        span: of the parameter.
        steps: of equal length in the parameter; the error falls like their sixth power.
        fermi_walker: carry without rotation along an accelerated curve: u itself stays tangent.
        functions: values of unknown functions.
        **parameters: values of constants.

    Raises:
        DataError: the frame is not real somewhere on the curve, or a parameter is missing.
        ConfigError: Fermi-Walker transport along a curve with a null tangent, no steps.
    """
    if steps < 1:
        raise ConfigError(f"At least one step is needed, received steps={steps}.")
    path = as_curve(curve, metric.coordinates, span, parameters)
    nodes = 0.5 + np.sqrt(0.15) * np.array([-1.0, 0.0, 1.0])
    start, stop = path.span
    s = np.linspace(start, stop, steps + 1)
    h = (stop - start) / steps
    inner = s[:-1, None] + h * nodes
    table = _FrameNumbers(metric, functions, parameters, path.x(inner))
    A = table.generator(path, inner, fermi_walker, 1e-3 * (stop - start))
    omega = _magnus(A[:, 0], A[:, 1], A[:, 2], h)
    lowered = table.eta @ omega
    omega = table.eta @ (lowered - np.swapaxes(lowered, -1, -2)) / 2  # eta is its own inverse
    from scipy.linalg import expm

    factors = expm(omega)
    out = np.empty((steps + 1, *factors.shape[1:]))
    out[0] = np.eye(factors.shape[-1])
    for k, factor in enumerate(factors):
        out[k + 1] = factor @ out[k]
    x = path.x(s)
    return Transport(s, x, out, table.eta, table.coframe(x))


def holonomy(metric: Metric, loop: Any, **options: Any) -> np.ndarray:
    """The matrix by which vectors return from a loop, in the orthonormal frame; options of :func:`parallel_transport`.

    The curve must close in space; coordinates may end a period further. On a surface it is the rotation by the
    integral of the curvature over the inside, ``atan2(H[1, 0], H[0, 0])``.

    Raises:
        DataError: the frame at the end is not the one at the start: the curve is not closed.
    """
    out = parallel_transport(metric, loop, **options)
    if not np.allclose(out.coframe[0], out.coframe[-1], rtol=1e-9, atol=1e-9):
        raise DataError("The curve is no loop: the frame at its end is not that at its start.")
    return out.propagators[-1]


class _FrameNumbers:
    """An orthonormal frame and its connection as numerical functions.

    Taken from the metric's diagonal frame, ``ds^2 = D_a theta^a theta^a``, scaled by ``l_a = sqrt|D_a|`` in numbers:
    ``omega^a_b`` times ``l_a / l_b``, zero on the diagonal. No roots of symbols, and the signs are those at the points.
    """

    def __init__(
        self, metric: Metric, functions: Mapping[str, Any] | None, parameters: Mapping[str, Any], x: np.ndarray
    ) -> None:
        frame = metric.diagonal_frame
        scales = [row[a] for a, row in enumerate(frame._metric())]
        rows = {(a, mu): u for a, row in enumerate(frame.coframe) for mu, u in enumerate(row) if u}
        self._call = lambdify({"h": rows, "D": scales, "gamma": LeviCivita(frame)}, "numpy", functions)
        self._n = metric.dimension
        self._parameters = parameters
        with np.errstate(all="ignore"):
            signs = np.sign(np.stack(self._call.at(x, **parameters)["D"], -1)).reshape(-1, self._n)
        self._signs = signs[0]
        self.eta = np.diag(signs[0])

    def _values(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """h^a_mu and Gamma^c_ab theta^b_mu."""
        with np.errstate(all="ignore"):
            values = self._call.at(x, **self._parameters)
            scale = np.sqrt(np.stack(values["D"], -1) * self._signs)
            h = np.zeros((*x.shape, self._n))
            for (a, mu), value in values["h"].items():
                h[..., a, mu] = value
            omega = np.einsum("...cab,...bm->...cam", values["gamma"], h)
            omega = omega * (scale[..., :, None] / scale[..., None, :])[..., None]
            omega[..., range(self._n), range(self._n), :] = 0.0
            h = h * scale[..., None]
        if not (np.all(np.isfinite(h)) and np.all(np.isfinite(omega)) and np.all(scale > 0)):
            raise DataError(
                "The curve leaves the region where the orthonormal frame exists: the frame is singular, or the "
                "signature of its vectors changes there (a horizon, an axis). Choose another curve or chart."
            )
        return h, omega

    def coframe(self, x: np.ndarray) -> np.ndarray:
        return self._values(x)[0]

    def generator(self, path: Curve, s: np.ndarray, fermi_walker: bool, step: float) -> np.ndarray:
        """A of ``dV/ds = A V``."""
        h, connection = self._values(path.x(s))
        tangent = path.velocity(s)
        velocity = np.einsum("...am,...m->...a", h, tangent)
        omega = np.einsum("...cam,...m->...ca", connection, tangent)
        if not fermi_walker:
            return -omega

        def unit(t: np.ndarray) -> np.ndarray:
            v = np.einsum("...am,...m->...a", self.coframe(path.x(t)), path.velocity(t))
            return v / self._size(v)[..., None]

        u, size = unit(s), self._size(velocity)[..., None]
        a = (differences(unit, s, step) + np.einsum("...ca,...a->...c", omega, u)) / size
        sign = np.sign(np.einsum("...a,ab,...b->...", u, self.eta, u))[..., None, None]
        u_low, a_low = u @ self.eta, a @ self.eta
        turn = u[..., :, None] * a_low[..., None, :] - a[..., :, None] * u_low[..., None, :]
        return -omega - sign * size[..., None] * turn

    def _size(self, v: np.ndarray) -> np.ndarray:
        square = np.einsum("...a,ab,...b->...", v, self.eta, v)
        if np.any(np.abs(square) < 1e-12 * np.sum(v * v, axis=-1)):
            raise ConfigError("Fermi-Walker transport needs a tangent that is nowhere null.")
        return np.sqrt(np.abs(square))


def _magnus(A1: np.ndarray, A2: np.ndarray, A3: np.ndarray, h: float) -> np.ndarray:
    """The exponent of one step to order 6 from A at the three Gauss points."""

    def bracket(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x @ y - y @ x

    a1 = h * A2
    a2 = np.sqrt(15) / 3 * h * (A3 - A1)
    a3 = 10 / 3 * h * (A3 - 2 * A2 + A1)
    c1 = bracket(a1, a2)
    c2 = -bracket(a1, 2 * a3 + c1) / 60
    return a1 + a3 / 12 + bracket(-20 * a1 - a3 + c1, a2 + c2) / 240


def geodesic_deviation(
    path: GeodesicPath, xi: Any, slope: Any, *, rtol: float = 1e-10
) -> tuple[np.ndarray, np.ndarray]:
    """Jacobi's equation ``D^2 xi^a/ds^2 = -R^a_bcd u^b xi^c u^d`` (MTW signs) along a single geodesic.

    Args:
        path: the geodesic.
        xi: deviation at the start, coordinate components, shape (n,).
        slope: its covariant derivative D xi/ds there.
        rtol: relative tolerance.

    Returns:
        xi and D xi/ds at the stored points of the path, shapes (steps, n).
    """
    from scipy.integrate import solve_ivp

    geodesics = path.geodesics
    metric = geodesics.metric.with_conventions("mtw")
    n = geodesics.dimension
    tables = lambdify([metric.christoffel(), metric.riemann()], "numpy", geodesics._functions)
    x0, u0 = path.x[0], path.velocity[0]

    def f(s: float, y: np.ndarray) -> np.ndarray:
        x, u, v, dv = y.reshape(4, n)
        gamma, riemann = tables.at(x, **geodesics.parameters)
        turn = np.einsum("abc,c->ab", gamma, u)
        pull = np.einsum("abcd,b,c,d->a", riemann, u, v, u)
        return np.concatenate([u, -turn @ u, dv - turn @ v, -pull - turn @ dv])

    y = np.concatenate([x0, u0, np.asarray(xi, float), np.asarray(slope, float)])
    ends = (float(path.s[0]), float(path.s[-1]))
    out = solve_ivp(f, ends, y, "DOP853", t_eval=path.s, rtol=rtol, atol=rtol * 1e-2)
    if not out.success:
        raise DataError(f"The deviation could not be followed: {out.message}")
    return out.y[2 * n : 3 * n].T, out.y[3 * n :].T
