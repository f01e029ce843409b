"""Parallel transport, holonomy, gyroscopes, geodesic deviation, and the documented session."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sympy")
pytest.importorskip("scipy")

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry import Metric, catalogue
from kexue.maths.geometry.numbers import Geodesics, geodesic_deviation, holonomy, parallel_transport

TURN = 2 * np.pi
SPHERE = catalogue.metric("sphere")


def angle(matrix):
    return np.arctan2(matrix[1, 0], matrix[0, 0])


@pytest.mark.parametrize("theta", [0.3, np.pi / 3, 2.0])
def test_the_holonomy_of_a_parallel_is_the_solid_angle(theta):
    H = holonomy(SPHERE, {"theta": str(theta), "phi": "2*pi*s"}, a=1.7)
    wanted = TURN * (1 - np.cos(theta))
    assert np.exp(1j * angle(H)) == pytest.approx(np.exp(1j * wanted), abs=1e-12)


def test_the_holonomy_of_a_crooked_loop_is_the_integral_of_the_curvature():
    """On the torus: K dA = cos(u) du dv for the inside of the loop, however it is given."""
    loop = {"u": "1 + 0.4*cos(2*pi*s)", "v": "0.7*sin(2*pi*s)"}

    def same(s):
        s = np.asarray(s)
        return np.stack([1 + 0.4 * np.cos(TURN * s), 0.7 * np.sin(TURN * s)], -1)

    big = Metric.from_line_element("r^2*du^2 + (R + r*cos(u))^2*dv^2")
    out = [holonomy(big, loop, r=1.0, R=3.0), holonomy(big, same, r=1.0, R=3.0)]
    x, w = np.polynomial.legendre.leggauss(60)
    s = (x + 1) / 2  # Green: the integral of cos(u) du dv is the line integral of sin(u) dv
    area = np.sum(w / 2 * np.sin(1 + 0.4 * np.cos(TURN * s)) * 0.7 * TURN * np.cos(TURN * s))
    for H in out:
        assert abs(angle(H)) == pytest.approx(abs(area), abs=1e-9)


@pytest.mark.parametrize("r", [6, 20])
def test_a_gyroscope_in_orbit_turns_as_de_sitter_says(r):
    curve = {"t": f"s*sqrt({r}^3)", "r": str(r), "theta": "pi/2", "phi": "s"}
    carried = parallel_transport(catalogue.metric("schwarzschild"), curve, span=(0, TURN), steps=50, M=1.0)
    assert carried.norm_error() < 1e-13
    turns = np.abs(np.angle(np.linalg.eigvals(carried.propagators[-1])))
    wanted = TURN * np.sqrt(1 - 3 / r)  # in the frame that turns with the orbit
    assert np.max(turns) == pytest.approx(min(wanted, TURN - wanted), abs=1e-9)
    u = np.array([1.0, 0, 0, 1 / r**1.5])  # tangent: carried along itself
    np.testing.assert_allclose(carried.carry(u), np.broadcast_to(u, (51, 4)), atol=1e-9)


def test_thomas_precession():
    """Fermi-Walker transport on a circle in flat space turns by 2 pi (gamma - 1)."""
    flat = Metric.from_line_element("-dt^2 + dr^2 + r^2*dphi^2 + dz^2")
    v = 0.6
    gamma = 1 / np.sqrt(1 - v * v)
    curve = {"t": "s/0.6", "r": "1", "phi": "s"}
    carried = parallel_transport(flat, curve, span=(0, TURN), fermi_walker=True)
    assert carried.norm_error() < 1e-12
    turns = np.angle(np.linalg.eigvals(carried.propagators[-1]))
    assert np.min(np.abs(np.exp(1j * turns) - np.exp(1j * TURN * gamma))) < 1e-9
    u = np.array([gamma, 0.0, v * gamma, 0.0])
    np.testing.assert_allclose(carried.carry_in_frame(u)[-1], u, atol=1e-9)
    with pytest.raises(ConfigError, match="null"):
        parallel_transport(flat, {"t": "s", "r": "1 + s"}, fermi_walker=True)


def test_norms_are_kept_and_the_error_falls_like_the_sixth_power():
    """Along a wild curve through Kerr, few steps or many."""
    kerr = catalogue.metric("kerr")
    curve = {"t": "9*s", "r": "5 + sin(7*s)", "theta": "1 + 0.5*cos(5*s)", "phi": "9*s"}
    runs = [parallel_transport(kerr, curve, steps=n, M=1.0, a=0.9) for n in (20, 40, 4000)]
    assert max(run.norm_error() for run in runs) < 1e-11
    errors = [np.max(np.abs(run.propagators[-1] - runs[2].propagators[-1])) for run in runs[:2]]
    assert errors[1] < 1e-6
    assert 35 < errors[0] / errors[1] < 110
    g = Geodesics(kerr, M=1.0, a=0.9)
    moved = runs[0].carry([0.1, 0.2, 0.3, 0.4])
    norms = np.einsum("sab,sa,sb->s", g.metric_at(runs[0].x), moved, moved)
    np.testing.assert_allclose(norms, norms[0], rtol=1e-11)


def test_transport_along_a_geodesic_keeps_its_tangent():
    rays = Geodesics(catalogue.metric("kerr"), M=1.0, a=0.9)
    start = rays.start({"t": 0, "r": 8, "theta": 1.2, "phi": 0}, {"r": 0, "theta": 0.01, "phi": 0.05}, "timelike")
    path = rays.integrate(start, 80.0)
    carried = parallel_transport(rays.metric, path, steps=200, M=1.0, a=0.9)
    u = carried.carry(path.velocity[0])
    np.testing.assert_allclose(u[-1], path.velocity[-1], atol=1e-8)


def test_geodesic_deviation():
    """sin(s) on the sphere, sinh(s) on the hyperbolic plane, and the difference of neighbours around Kerr."""
    rays = Geodesics(SPHERE, a=1.0)
    path = rays.integrate(rays.start({"theta": np.pi / 2, "phi": 0}, {"theta": 0.6, "phi": 0.8}), 3.0)
    xi, slope = geodesic_deviation(path, [0, 0], [0.8, -0.6])
    size = np.sqrt(np.einsum("sa,sab,sb->s", xi, rays.metric_at(path.x), xi))
    np.testing.assert_allclose(size, np.sin(path.s), atol=1e-8)
    assert slope.shape == xi.shape
    kerr = Geodesics(catalogue.metric("kerr"), M=1.0, a=0.9)
    at, eps = np.array([0, 9, 1.2, 0]), 1e-5
    u = np.array([1.3, -0.1, 0.02, 0.05])
    push = np.array([0.0, 0.3, 0.1, -0.2])
    path = kerr.integrate(kerr.start(at, u), 40.0)
    ends = [kerr.integrate(kerr.start(at, u + sign * eps * push), 40.0).x[-1] for sign in (1, -1)]
    xi, _ = geodesic_deviation(path, np.zeros(4), push)
    np.testing.assert_allclose(xi[-1], (ends[0] - ends[1]) / (2 * eps), rtol=1e-5, atol=1e-5)


def test_what_is_refused():
    with pytest.raises(DataError, match="no loop"):
        holonomy(SPHERE, {"theta": "1 + s", "phi": "0"}, a=1.0)
    with pytest.raises(DataError, match="horizon"):
        parallel_transport(catalogue.metric("schwarzschild"), {"r": "3 - 2*s", "theta": "1"}, M=1.0)
    with pytest.raises(DataError, match="curve was expected"):
        parallel_transport(SPHERE, 3, a=1.0)
    with pytest.raises(DataError, match="shape"):
        parallel_transport(SPHERE, lambda s: s, a=1.0)
    with pytest.raises(DataError, match="coordinates are"):
        parallel_transport(SPHERE, {"psi": "s"}, a=1.0)


def test_the_documented_session():
    page = Path(__file__).parents[3] / "docs" / "geometry_schwarzschild.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) > 5
    session = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page.name, str(page), 0)
    lines: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(session, out=lines.append)
    assert not runner.failures, "".join(lines)
