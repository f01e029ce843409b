"""Pictures of geodesics, transported frames and embedded surfaces. Needs matplotlib: ``pip install "kexue[plot]"``.

Each function draws on the given axes, or on those of a new figure (no window is opened), and returns the axes;
``axes.figure.savefig(path)`` writes the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry.numbers.compiled import lambdify
from kexue.maths.geometry.numbers.path import GeodesicPath
from kexue.maths.geometry.numbers.transport import Transport

if TYPE_CHECKING:
    from kexue.maths.geometry.metric import Metric

__all__ = ["cartesian", "plot_embedding", "plot_orbit", "plot_orbit_3d", "plot_shadow", "plot_transport"]

_COLOURS = ("#1f5fa8", "#c4561e", "#2f8a5b", "#8a4fa3", "#a08520", "#5b6770")


def _axes(axes: Any, three: bool = False, size: tuple[float, float] = (5.6, 5.2)) -> Any:
    if axes is not None:
        return axes
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError('pictures need matplotlib, which is not installed: pip install "kexue[plot]"') from None
    figure = Figure(figsize=size, layout="constrained")
    return figure.add_subplot(projection="3d") if three else figure.add_subplot()


def cartesian(x: Any, coordinates: Sequence[str], spin: float = 0.0) -> np.ndarray:
    """(x, y, z) of points in r, theta, phi (those of the coordinates that exist; theta is pi/2 without).

    With a spin the surfaces of constant r are the oblate spheroids of Boyer-Lindquist coordinates,
    ``x^2 + y^2 = (r^2 + a^2) sin(theta)^2``.

    Raises:
        DataError: there is no coordinate r (or rho) or phi.
    """
    names = list(coordinates)
    radial = next((name for name in ("r", "rho", "l") if name in names), None)
    if radial is None or "phi" not in names:
        raise DataError(f"Orbits are drawn in coordinates r (or rho, l) and phi, received {', '.join(names)}.")
    x = np.asarray(x, float)
    r, phi = x[..., names.index(radial)], x[..., names.index("phi")]
    theta = x[..., names.index("theta")] if "theta" in names else np.full(r.shape, np.pi / 2)
    across = np.sqrt(r**2 + spin**2) * np.sin(theta)
    return np.stack([across * np.cos(phi), across * np.sin(phi), r * np.cos(theta)], -1)


def _smooth(path: GeodesicPath, points: int) -> np.ndarray:
    """Positions at equal distances of the parameter, with the steps themselves."""
    if len(path) < 2:
        return path.x
    s = np.union1d(np.linspace(path.s[0], path.s[-1], points), path.s)
    return path(s)[0]


def _rays(path: GeodesicPath) -> list[GeodesicPath]:
    return [path] if path.s.ndim == 1 else [path.ray(k) for k in range(path.s[0].size)]


def plot_orbit(
    path: GeodesicPath,
    axes: Any = None,
    *,
    plane: str = "xy",
    horizon: float | None = None,
    spin: float = 0.0,
    points: int = 2000,
    colours: Sequence[Any] = _COLOURS,
    width: float = 0.9,
    limit: float | None = None,
) -> Any:
    """Orbits or light rays projected on a plane.

    Args:
        path: one geodesic or a batch.
        axes: to draw on.
        plane: two of "x", "y", "z"; the spin axis is z.
        horizon: radius of a black disc (in r).
        spin: see :func:`cartesian`.
        points: of each curve, besides the steps.
        colours: taken in turn.
        width: of the lines.
        limit: half the width of the picture.
    """
    axes = _axes(axes)
    places = [_PLANES.index(c) if c in _PLANES else -1 for c in plane]
    if len(places) != 2 or -1 in places:
        raise ConfigError(f"The plane is two of x, y, z, received {plane!r}.")
    for k, ray in enumerate(_rays(path)):
        xyz = cartesian(_smooth(ray, points), path.geodesics.coordinates, spin)
        axes.plot(xyz[:, places[0]], xyz[:, places[1]], color=colours[k % len(colours)], linewidth=width)
    if horizon is not None:
        from matplotlib.patches import Ellipse

        across, up = 2 * np.hypot(horizon, spin), 2 * horizon
        sizes = [up if c == "z" else across for c in plane]
        axes.add_patch(Ellipse((0, 0), *sizes, color="black", zorder=3))
    axes.set(aspect="equal", xlabel=plane[0], ylabel=plane[1])
    if limit is not None:
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
    axes.spines[["top", "right"]].set_visible(False)
    return axes


_PLANES = "xyz"


def plot_orbit_3d(
    path: GeodesicPath,
    axes: Any = None,
    *,
    horizon: float | None = None,
    spin: float = 0.0,
    points: int = 3000,
    colours: Sequence[Any] = _COLOURS,
    width: float = 0.8,
) -> Any:
    """Orbits in space with the horizon as a surface; arguments as in :func:`plot_orbit`."""
    axes = _axes(axes, True)
    largest = 0.0
    for k, ray in enumerate(_rays(path)):
        xyz = cartesian(_smooth(ray, points), path.geodesics.coordinates, spin)
        largest = max(largest, float(np.max(np.abs(xyz))))
        axes.plot(*xyz.T, color=colours[k % len(colours)], linewidth=width)
    if horizon is not None:
        theta, phi = np.meshgrid(np.linspace(0, np.pi, 25), np.linspace(0, 2 * np.pi, 49))
        ball = cartesian(np.stack([np.full(theta.shape, horizon), theta, phi], -1), ("r", "theta", "phi"), spin)
        axes.plot_surface(*np.moveaxis(ball, -1, 0), color="black", shade=False)
    axes.set(xlim=(-largest, largest), ylim=(-largest, largest), zlim=(-largest, largest), xlabel="x", ylabel="y")
    axes.set_zlabel("z")
    axes.set_box_aspect((1, 1, 1))
    return axes


def plot_transport(
    transport: Transport, vector: Any, axes: Any = None, *, arrows: int = 25, radius: float = 1.0
) -> Any:
    """A vector carried along a curve on the sphere, coordinates (theta, phi), drawn in space.

    Args:
        transport: of :func:`parallel_transport`.
        vector: components in the orthonormal frame at the start.
        axes: three-dimensional ones.
        arrows: how many.
        radius: of the sphere.

    Raises:
        DataError: another dimension than two.
    """
    if transport.x.shape[-1] != 2:
        raise DataError("Frames are drawn on spheres with coordinates (theta, phi).")
    axes = _axes(axes, True)
    u, v = np.meshgrid(np.linspace(0, np.pi, 19), np.linspace(0, 2 * np.pi, 37))
    ball = cartesian(np.stack([np.full(u.shape, radius), u, v], -1), ("r", "theta", "phi"))
    axes.plot_wireframe(*np.moveaxis(ball, -1, 0), color="#c8ccd2", linewidth=0.4)
    theta, phi = transport.x[:, 0], transport.x[:, 1]
    place = 1.005 * cartesian(np.stack([np.full(theta.shape, radius), theta, phi], -1), ("r", "theta", "phi"))
    e_theta = np.stack([np.cos(theta) * np.cos(phi), np.cos(theta) * np.sin(phi), -np.sin(theta)], -1)
    e_phi = np.stack([-np.sin(phi), np.cos(phi), np.zeros_like(phi)], -1)
    carried = transport.carry_in_frame(vector)
    arrow = carried[:, :1] * e_theta + carried[:, 1:] * e_phi
    axes.plot(*place.T, color=_COLOURS[0], linewidth=1.4)
    chosen = np.unique(np.linspace(0, len(place) - 1, arrows).round().astype(int))
    for k in chosen:
        colour = _COLOURS[2] if k == 0 else _COLOURS[1]
        last = k == chosen[-1]
        axes.quiver(*place[k], *(0.35 * radius * arrow[k]), color="black" if last else colour, linewidth=1.2)
    axes.set_box_aspect((1, 1, 1), zoom=1.35)
    axes.set_axis_off()
    return axes


def plot_embedding(
    metric: Metric,
    start: float,
    stop: float,
    axes: Any = None,
    *,
    radial: str = "r",
    angle: str = "phi",
    at: dict[str, float] | None = None,
    functions: dict[str, Any] | None = None,
    mirrored: bool = False,
    **parameters: Any,
) -> Any:
    """The surface in Euclidean space with the metric ``g_rr dr^2 + g_phiphi dphi^2`` of a slice: Flamm's paraboloid.

    ``R = sqrt(g_phiphi)``, ``dz = sqrt(g_rr - R'^2) dr``.

    Args:
        metric: the metric.
        start: first radius; a horizon may lie exactly there.
        stop: last radius.
        axes: three-dimensional ones.
        radial: the coordinate along.
        angle: the coordinate around.
        at: values of the other coordinates; 0, and pi/2 for theta, by default.
        functions: of the metric.
        mirrored: also the other sheet.
        **parameters: of the metric.

    Raises:
        DataError: the slice cannot be embedded there: g_rr < R'^2.
    """
    axes = _axes(axes, True)
    k, m = metric.field.coordinate_number(radial), metric.field.coordinate_number(angle)
    g = metric.tensor
    call = lambdify([g[k, k], g[m, m], g[m, m].diff(k)], "numpy", functions)
    # r = start + w^2: dz/dw stays finite at a horizon
    nodes, weights = np.polynomial.legendre.leggauss(8)
    w = np.linspace(0, np.sqrt(stop - start), 61)
    inner = w[:-1, None] + (w[1:] - w[:-1])[:, None] * (nodes + 1) / 2

    def values(r: np.ndarray) -> list[np.ndarray]:
        fixed = {"theta": np.pi / 2} | (at or {})
        places = [r if name == radial else fixed.get(name, 0.0) for name in metric.coordinates]
        with np.errstate(all="ignore"):  # g_rr at a horizon
            return call(*places, **parameters)

    g_rr, g_pp, slope = values(start + inner**2)
    square = g_rr - slope**2 / (4 * g_pp)
    if np.any(square < -1e-9):
        raise DataError("The slice cannot be embedded in Euclidean space there: g_rr is less than R'^2.")
    parts = np.sqrt(np.maximum(square, 0)) * 2 * inner
    z = np.concatenate([[0.0], np.cumsum((parts * weights).sum(-1) * np.diff(w) / 2)])
    radius = np.sqrt(values(start + w**2)[1])
    phi = np.linspace(0, 2 * np.pi, 73)
    X, Y = radius[:, None] * np.cos(phi), radius[:, None] * np.sin(phi)
    for sign, colours in ((1, "viridis"), (-1, "viridis_r"))[: 2 if mirrored else 1]:
        axes.plot_surface(X, Y, sign * z[:, None] + 0 * X, cmap=colours, rstride=3, cstride=3, linewidth=0.2)
    axes.set(xlabel="x", ylabel="y")
    axes.set_zlabel("z", labelpad=-4 if mirrored else 0)
    axes.locator_params(nbins=5)
    axes.set_box_aspect((1, 1, (2 if mirrored else 1) * float(np.ptp(z) / (2 * np.max(radius)))), zoom=0.88)
    axes.profile = np.stack([radius, z], -1)  # what was drawn, for checks
    return axes


def plot_shadow(
    alpha: np.ndarray, beta: np.ndarray, captured: np.ndarray, axes: Any = None, outline: Any = None
) -> Any:
    """Which rays of a camera fall in.

    Args:
        alpha: horizontal positions on the sky, shape (columns,).
        beta: vertical ones, shape (rows,).
        captured: shape (rows, columns), True where the ray ends in the hole.
        axes: to draw on.
        outline: points (alpha, beta) of a curve to compare with, shape (N, 2).
    """
    axes = _axes(axes)
    da, db = (alpha[-1] - alpha[0]) / (len(alpha) - 1) / 2, (beta[-1] - beta[0]) / (len(beta) - 1) / 2
    extent = (alpha[0] - da, alpha[-1] + da, beta[0] - db, beta[-1] + db)
    axes.imshow(~np.asarray(captured, bool), origin="lower", extent=extent, cmap="gray", vmin=-0.1, vmax=1.15)
    if outline is not None:
        axes.plot(*np.asarray(outline).T, color=_COLOURS[1], linewidth=1.2)
    axes.set(aspect="equal", xlabel=r"$\alpha / M$", ylabel=r"$\beta / M$")
    return axes
