"""Pictures: what is drawn has the right shape."""

import numpy as np
import pytest

pytest.importorskip("sympy")
pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry import Metric, catalogue
from kexue.maths.geometry.numbers import (
    Geodesics,
    cartesian,
    parallel_transport,
    plot_embedding,
    plot_orbit,
    plot_orbit_3d,
    plot_shadow,
    plot_transport,
)


@pytest.fixture(scope="module")
def orbit():
    rays = Geodesics(catalogue.metric("schwarzschild"), M=1.0)
    start = rays.start({"t": 0, "r": 10, "theta": np.pi / 2, "phi": 0}, {"r": 0, "theta": 0, "phi": 0.035}, "timelike")
    return rays.integrate(start, 300.0)


def test_orbits(orbit):
    axes = plot_orbit(orbit, horizon=2.0, limit=12)
    x, y = axes.lines[0].get_data()
    np.testing.assert_allclose(np.hypot(x, y)[[0, -1]], orbit["r"][[0, -1]], rtol=1e-9)
    assert axes.patches[0].get_width() == pytest.approx(4)
    with pytest.raises(ConfigError, match="plane"):
        plot_orbit(orbit, plane="tr")
    three = plot_orbit_3d(orbit, horizon=2.0)
    np.testing.assert_allclose(three.lines[0].get_data_3d()[2], 0, atol=1e-9)


def test_boyer_lindquist_surfaces_are_spheroids():
    x, y, z = cartesian([3.0, 0.7, 0.2], ("r", "theta", "phi"), spin=0.9)
    assert (x**2 + y**2) / (9 + 0.81) + z**2 / 9 == pytest.approx(1)
    with pytest.raises(DataError, match="r \\(or rho, l\\) and phi"):
        cartesian([1.0, 2.0], ("x", "y"))


def test_embeddings():
    axes = plot_embedding(catalogue.metric("schwarzschild"), 2.0, 10.0, M=1.0)
    r, z = axes.profile.T
    np.testing.assert_allclose(z**2, 8 * (r - 2), atol=1e-9)
    hyperbolic = Metric.from_line_element("dr^2 + sinh(r)^2*dphi^2")
    with pytest.raises(DataError, match="cannot be embedded"):
        plot_embedding(hyperbolic, 0.5, 2.0)


def test_transport_and_shadow():
    carried = parallel_transport(catalogue.metric("sphere"), {"theta": "1", "phi": "2*pi*s"}, a=1.0)
    axes = plot_transport(carried, [1.0, 0.0])
    x, y, z = axes.lines[0].get_data_3d()
    np.testing.assert_allclose(x**2 + y**2 + z**2, 1.005**2, rtol=1e-12)
    grid = np.linspace(-1, 1, 5)
    image = plot_shadow(grid, grid, grid[:, None] ** 2 + grid**2 < 1, outline=np.zeros((3, 2))).images[0]
    assert image.get_extent() == [-1.25, 1.25, -1.25, 1.25]
