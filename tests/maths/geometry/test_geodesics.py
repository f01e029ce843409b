"""Geodesics against closed forms: perihelion, bending, circular orbits, frequencies; constants of the motion."""

import numpy as np
import pytest

pytest.importorskip("sympy")
pytest.importorskip("scipy")

from scipy.special import ellipk, ellipkinc

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry import Metric, catalogue
from kexue.maths.geometry.numbers import Event, Geodesics, is_killing_tensor, killing_tensor

TURN = 2 * np.pi


@pytest.fixture(scope="module")
def schwarzschild():
    return Geodesics(catalogue.metric("schwarzschild"), M=1.0)


@pytest.fixture(scope="module")
def kerr():
    return Geodesics(catalogue.metric("kerr"), M=1.0, a=0.9)


def bound(p, e):
    """E and L of the Schwarzschild orbit with semi-latus rectum p M and eccentricity e."""
    return np.sqrt(((p - 2) ** 2 - 4 * e**2) / (p * (p - 3 - e**2))), p / np.sqrt(p - 3 - e**2)


def advance(rays, p, e):
    """Angle between two pericentres, less a turn."""
    E, L = bound(p, e)
    at = {"t": 0.0, "r": p / (1 - e), "theta": np.pi / 2, "phi": 0.0}
    start = rays.start_from_constants(at, {"E": E, "L": L, "theta": 0.0}, "timelike", signs={"r": -1})
    length = 2.6 * TURN * (p / (1 - e**2)) ** 1.5
    path = rays.integrate(start, length, events=[rays.turning_point("r", direction=1)], rtol=1e-13, atol=1e-13)
    phi = path.events["turning r"].x[:, 3]
    assert len(phi) >= 2
    np.testing.assert_allclose(path.events["turning r"].x[:, 1], p / (1 + e), rtol=1e-10)
    return phi[1] - phi[0] - TURN


@pytest.mark.parametrize(("p", "e"), [(12.0, 0.5), (8.0, 0.3), (30.0, 0.7)])
def test_perihelion_advance_is_the_elliptic_integral(schwarzschild, p, e):
    exact = 4 * np.sqrt(p / (p - 6 + 2 * e)) * ellipk(4 * e / (p - 6 + 2 * e)) - TURN
    assert advance(schwarzschild, p, e) == pytest.approx(exact, rel=1e-9)


def test_perihelion_advance_tends_to_the_formula_of_einstein(schwarzschild):
    """6 pi M/(a (1 - e^2)) = 6 pi/p with relative corrections of order 1/p."""
    errors = [advance(schwarzschild, p, 0.2) / (6 * np.pi / p) - 1 for p in (1e3, 1e4)]
    assert abs(errors[0]) < 6e-3
    assert errors[1] / errors[0] == pytest.approx(0.1, rel=0.02)


def bending(rays, r0):
    """Deflection of light with closest approach r0."""
    b = r0 / np.sqrt(1 - 2 / r0)
    at = {"t": 0.0, "r": r0, "theta": np.pi / 2, "phi": 0.0}
    start = rays.start(at, {"r": 0.0, "theta": 0.0, "phi": 1 / r0}, "null")
    far = 1e8
    path = rays.integrate(start, 10 * far, events=[rays.crossing("r", far, terminal=True)], rtol=1e-13, atol=1e-13)
    assert path.status == 1
    return 2 * (path.x[-1, 3] + b / far) - np.pi, b


@pytest.mark.parametrize("r0", [3.5, 6.0, 20.0])
def test_light_bending_is_the_elliptic_integral(schwarzschild, r0):
    """C. Darwin (1959)."""
    Q = np.sqrt((r0 - 2) * (r0 + 6))
    m, angle = (Q - r0 + 6) / (2 * Q), np.arcsin(np.sqrt((Q - r0 + 2) / (Q - r0 + 6)))
    exact = 4 * np.sqrt(r0 / Q) * (ellipk(m) - ellipkinc(angle, m)) - np.pi
    assert bending(schwarzschild, r0)[0] == pytest.approx(exact, rel=1e-9)


def test_light_bending_tends_to_four_m_over_b(schwarzschild):
    """4 M/b + 15 pi/4 (M/b)^2."""
    angle, b = bending(schwarzschild, 1e4)
    assert angle == pytest.approx(4 / b + 15 * np.pi / 4 / b**2, rel=1e-6)


@pytest.mark.parametrize(("r", "stable"), [(6.02, True), (5.98, False)])
def test_the_innermost_stable_orbit_is_at_six_m(schwarzschild, r, stable):
    speed = np.sqrt(1 / r**3) / np.sqrt(1 - 3 / r)
    kick = {"r": 1e-7, "theta": 0.0, "phi": speed}
    start = schwarzschild.start({"t": 0, "r": r, "theta": np.pi / 2, "phi": 0}, kick, "timelike")
    path = schwarzschild.integrate(start, 4000.0, events=[schwarzschild.horizon()])
    assert (np.max(np.abs(path["r"] - r)) < 1e-3) is np.bool_(stable)


def test_frequencies_of_circular_and_tilted_kerr_orbits(kerr):
    """Omega = 1/(r^1.5 + a); Omega_theta^2/Omega^2 = 1 - 4 a/r^1.5 + 3 a^2/r^2, Omega_r^2/Omega^2 = 1 - 6/r + 8 a/r^1.5
    - 3 a^2/r^2 (A. T. Okazaki et al., 1987)."""
    r, a = 10.0, 0.9
    omega = 1 / (r**1.5 + a)
    g = kerr.metric_at([0, r, np.pi / 2, 0])
    ut = 1 / np.sqrt(-(g[0, 0] + 2 * g[0, 3] * omega + g[3, 3] * omega**2))
    at = {"t": 0, "r": r, "theta": np.pi / 2, "phi": 0}
    path = kerr.integrate(kerr.start(at, {"t": ut, "r": 0, "theta": 0, "phi": ut * omega}), 2000.0)
    np.testing.assert_allclose(path["r"], r, rtol=1e-7)
    assert path["phi"][-1] / path["t"][-1] == pytest.approx(omega, rel=1e-7)
    small = {"t": None, "r": 1e-6, "theta": 1e-7, "phi": ut * omega}
    events = [kerr.turning_point("r"), kerr.turning_point("theta")]
    path = kerr.integrate(kerr.start(at, small, "timelike"), 3000.0, events=events, rtol=1e-13, atol=1e-14)
    for name, square in (
        ("r", 1 - 6 / r + 8 * a / r**1.5 - 3 * a**2 / r**2),
        ("theta", 1 - 4 * a / r**1.5 + 3 * a**2 / r**2),
    ):
        times = path.events[f"turning {name}"].x[:, 0]
        frequency = np.pi * (len(times) - 1) / (times[-1] - times[0])
        assert frequency == pytest.approx(omega * np.sqrt(square), rel=2e-6), name


@pytest.mark.parametrize(("method", "options", "limit"), [
    ("dop853", {}, 1e-8),
    ("gauss", {"steps": 20_000, "every": 100, "backend": "jax"}, 2e-13),
    ("gauss", {"steps": 1_000, "backend": "numpy"}, 2e-13),
])  # fmt: skip
def test_constants_of_a_tilted_orbit_stay(kerr, method, options, limit):
    at = {"t": 0, "r": 8, "theta": 1.2, "phi": 0}
    start = kerr.start(at, {"r": 0, "theta": 0.01, "phi": 0.05}, "timelike")
    path = kerr.integrate(start, 0.5 * options.get("steps", 20_000), method=method, **options)
    drift = path.drift()
    assert set(drift) == {"norm", "E", "L", "Q"}
    assert max(drift.values()) < limit
    assert path.constants()["norm"][0] == pytest.approx(-1, abs=1e-12)


def test_the_two_integrators_and_the_connection_agree(kerr):
    """Hamilton's equations against x'' = -Gamma x' x', integrated by SciPy from the exact symbols."""
    from scipy.integrate import solve_ivp

    from kexue.maths.geometry.numbers import lambdify

    at = {"t": 0, "r": 7, "theta": 1.1, "phi": 0}
    start = kerr.start(at, {"r": 0.05, "theta": -0.02, "phi": 0.06}, "timelike")
    gamma = lambdify(kerr.metric.christoffel())

    def f(s, y):
        x, u = y[:4], y[4:]
        return np.concatenate([u, -np.einsum("abc,b,c->a", gamma.at(x, M=1.0, a=0.9), u, u)])

    u0 = kerr.velocity(start.x, start.p)
    reference = solve_ivp(f, (0, 100), [*start.x, *u0], "DOP853", rtol=1e-12, atol=1e-12).y[:4, -1]
    adaptive = kerr.integrate(start, 100.0)
    fixed = kerr.integrate(start, 100.0, method="gauss", steps=400, backend="numpy")
    np.testing.assert_allclose(adaptive.x[-1], reference, rtol=1e-8)
    np.testing.assert_allclose(fixed.x[-1], reference, rtol=1e-9)
    x, _ = adaptive(np.array([33.3, 77.7]))
    other = kerr.integrate(start, 77.7, method="gauss", steps=400, backend="numpy")
    np.testing.assert_allclose(x[1], other.x[-1], rtol=1e-9)
    back = kerr.integrate(type(start)(adaptive.x[-1], adaptive.p[-1]), -100.0)
    np.testing.assert_allclose(back.x[-1], start.x, atol=1e-7)


def test_carters_constant_is_found_and_exact():
    kerr = catalogue.metric("kerr")
    K = killing_tensor(kerr)
    assert is_killing_tensor(kerr, K)
    rays = Geodesics(kerr, M=1.0, a=0.7)
    theta, p = 0.9, np.array([-0.95, 0.2, 1.3, 2.1])
    start = rays.start_from_constants([0, 9, theta, 0], {"E": 0.95, "L": 2.1, "theta": 1.3})
    Q = 1.3**2 + np.cos(theta) ** 2 * (0.7**2 * (1 - 0.95**2) + 2.1**2 / np.sin(theta) ** 2)
    assert rays.constants(*start)["Q"] == pytest.approx(Q, rel=1e-12)
    again = rays.start_from_constants([0, 9, theta, 0], {"E": 0.95, "L": 2.1}, Q=Q)
    np.testing.assert_allclose(again.p, start.p, rtol=1e-10)
    assert p[0] == again.p[0]
    found = [name for name in catalogue.names() if killing_tensor(catalogue.metric(name)) is not None]
    assert {"kerr", "kerr_newman", "kerr_de_sitter", "taub_nut", "myers_perry_5d", "schwarzschild"} <= set(found)
    wrong = kerr.inverse * kerr.field("r")
    with pytest.raises(ConfigError, match="no Killing"):
        Geodesics(kerr, killing={"wrong": wrong}, M=1.0, a=0.5)
    assert killing_tensor(catalogue.metric("curzon")) is None


def test_many_rays_at_once_agree_with_single_ones(schwarzschild):
    """Capture happens below b = 3 sqrt(3) M."""
    b = np.array([4.0, 5.1, 5.19, 5.2, 5.3, 7.0])
    at = {"t": 0.0, "r": 100.0, "theta": np.pi / 2, "phi": 0.0}
    start = schwarzschild.start_from_constants(at, {"E": 1.0, "L": b, "theta": 0.0}, "null", signs={"r": -1})
    ends = [schwarzschild.horizon(), schwarzschild.crossing("r", 101.0, terminal=True)]
    path = schwarzschild.integrate(start, 500.0, events=ends)
    captured = path.events["horizon"].ray
    assert sorted(captured) == [0, 1, 2]
    assert np.all(path.status == 1)
    for k in range(len(b)):
        one = schwarzschild.integrate(type(start)(start.x[k], start.p[k]), 500.0, events=ends)
        np.testing.assert_allclose(path.ray(k).x[-1], one.x[-1], rtol=1e-7)
    final = schwarzschild.integrate(start, 500.0, events=ends, keep=False)
    assert len(final) == 2
    np.testing.assert_array_equal(final.x[-1], path.x[-1])


def test_parameters_may_differ_from_ray_to_ray():
    """Circular orbits of several spins; the horizon of each ray is its own."""
    metric = catalogue.metric("kerr")
    spins = np.array([0.0, 0.5, 0.99])
    rays = Geodesics(metric, M=1.0, a=spins)
    start = rays.start(
        {"t": 0, "r": np.full(3, 4.0), "theta": 1.0, "phi": 0.0}, {"r": -0.3, "theta": 0, "phi": 0}, "timelike"
    )
    path = rays.integrate(start, 100.0, events=[rays.horizon()])
    r = 1 + np.sqrt(1 - spins**2)
    hits = path.events["horizon"]
    np.testing.assert_array_equal(np.sort(hits.ray), [0, 1, 2])
    order = np.argsort(hits.ray)
    for k in range(3):
        x = hits.x[order[k]]
        assert x[1] > r[k]
        delta, sigma = x[1] ** 2 - 2 * x[1] + spins[k] ** 2, x[1] ** 2 + (spins[k] * np.cos(x[2])) ** 2
        assert delta / sigma == pytest.approx(1e-3, rel=1e-6)
    one = path.ray(2)
    assert one.drift()["Q"] < 1e-6


def test_events_of_the_user_and_of_equal_steps(kerr):
    at = {"t": 0, "r": 8, "theta": 1.2, "phi": 0}
    start = kerr.start(at, {"r": 0, "theta": 0.01, "phi": 0.05}, "timelike")
    mine = Event(lambda s, x, p: x[..., 1] * np.cos(x[..., 2]) - 0.5, "height", direction=1)
    others = [mine, kerr.crossing("phi", 1.0, period=TURN), kerr.crossing("theta", np.pi / 2)]
    first = kerr.integrate(start, 600.0, events=others)
    second = kerr.integrate(start, 600.0, method="gauss", steps=1200, every=4, backend="numpy", events=others)
    for name, hits in first.events.items():
        assert len(hits) > 3, name
        assert len(second.events[name]) == len(hits)
        np.testing.assert_allclose(np.sort(second.events[name].s), np.sort(hits.s), rtol=1e-7)
    np.testing.assert_allclose(first.events["height"].x[:, 1] * np.cos(first.events["height"].x[:, 2]), 0.5, atol=1e-11)
    np.testing.assert_allclose(np.diff(first.events["phi=1"].x[:, 3]), TURN, atol=1e-10)
    stop = kerr.crossing("theta", np.pi / 2, terminal=True)
    path = kerr.integrate(start, 600.0, method="gauss", steps=1200, backend="numpy", events=[stop])
    assert path.status == 1
    assert path.x[-1, 2] == pytest.approx(np.pi / 2, abs=1e-12)


def test_geodesics_of_the_hyperbolic_plane_are_semicircles():
    rays = Geodesics(catalogue.metric("poincare_half_plane"))
    names = rays.coordinates
    start = rays.start(dict(zip(names, (0.3, 0.8), strict=True)), dict(zip(names, (0.5, 0.4), strict=True)))
    path = rays.integrate(start, 4.0)
    x, y = path.x.T
    centre = 0.3 + 0.8 * 0.4 / 0.5
    np.testing.assert_allclose((x - centre) ** 2 + y**2, (0.3 - centre) ** 2 + 0.8**2, rtol=1e-9)


def test_jacobi_metric_gives_kepler_orbits():
    """2 (E + 1/r) (dr^2 + r^2 dphi^2) has the ellipse with a = -1/(2 E) as geodesic (article 4046)."""
    g = Metric.from_line_element("2*(E + 1/r)*(dr^2 + r^2*dphi^2)")
    rays = Geodesics(g, E=-0.5)
    start = rays.start({"r": 1.5, "phi": 0}, {"r": 0, "phi": None}, "spacelike")
    path = rays.integrate(start, 6.0)
    np.testing.assert_allclose(path["r"], 0.75 / (1 - 0.5 * np.cos(path["phi"])), rtol=1e-8)
    assert path["phi"][-1] > 4


def test_a_light_ray_in_an_expanding_universe():
    """a p = constant, and the distance is the integral of dt/a = 3 t^(1/3)."""
    g = Metric.from_line_element("-dt^2 + a(t)^2*(dx^2 + dy^2 + dz^2)")
    rays = Geodesics(g, functions={"a": "t^(2/3)"})
    start = rays.start({"t": 1, "x": 0, "y": 0, "z": 0}, {"x": 1, "y": 0, "z": 0}, "null")
    path = rays.integrate(start, 30.0)
    t = path["t"]
    np.testing.assert_allclose(path["x"], 3 * (t ** (1 / 3) - 1), rtol=1e-9)
    np.testing.assert_allclose(-path.p[:, 0] * t ** (2 / 3), 1.0, rtol=1e-9)


def test_the_future_root_inside_the_ergosphere(kerr):
    """g_tt > 0 there; u^t tends continuously to that outside and p.k stays negative for the frame that co-rotates."""
    r = np.array([2.001, 1.999, 1.6])
    g = kerr.metric_at(np.stack([0 * r, r, np.full(3, np.pi / 2), 0 * r], -1))
    omega = -g[:, 0, 3] / g[:, 3, 3]
    start = kerr.start({"t": 0, "r": r, "theta": np.pi / 2, "phi": 0}, {"r": 0, "theta": 0, "phi": 1.5}, "timelike")
    u = kerr.velocity(start.x, start.p)
    assert np.all(u[:, 0] > 0)
    assert np.all(start.p[:, 0] + omega * start.p[:, 3] < 0)
    assert u[0, 0] == pytest.approx(u[1, 0], rel=5e-3)


def test_what_is_refused(kerr, schwarzschild):
    at = {"t": 0, "r": 8, "theta": 1.2, "phi": 0}
    with pytest.raises(DataError, match="M, a"):
        Geodesics(catalogue.metric("kerr"))
    with pytest.raises(DataError, match="name the kind"):
        kerr.start(at, {"r": 0, "theta": 0, "phi": 0})
    with pytest.raises(DataError, match="coordinates are"):
        kerr.start({"R": 1}, {}, "null")
    with pytest.raises(DataError, match="lacks"):
        kerr.start({"r": 1}, {"r": 0}, "null")
    with pytest.raises(DataError, match="no real solution"):
        schwarzschild.start(at, {"t": 0.1, "r": 0, "theta": 0, "phi": None}, "timelike")
    with pytest.raises(DataError, match="not allowed"):
        kerr.start_from_constants(at, {"E": 0.5, "L": 5.0, "theta": 0.0})
    with pytest.raises(ConfigError, match="definite"):
        Geodesics(catalogue.metric("sphere"), a=1.0).start({"theta": 1, "phi": 0}, {"theta": 0}, "timelike")
    start = kerr.start(at, {"r": 0, "theta": 0, "phi": 0.05}, "timelike")
    with pytest.raises(ConfigError, match="number of steps"):
        kerr.integrate(start, 1.0, method="gauss")
    with pytest.raises(ConfigError, match="dop853, gauss"):
        kerr.integrate(start, 1.0, method="euler")
    with pytest.raises(DataError, match="path runs"):
        kerr.integrate(start, 1.0)(2.0)


def test_what_cannot_be_followed_is_refused(schwarzschild):
    """Once without end: SciPy's solver never leaves a first step that is not a number."""
    start = schwarzschild.start([0, 8, 1.2, 0], {"r": 0, "theta": 0, "phi": 0.02}, "timelike")
    with pytest.raises(DataError, match="length"):
        schwarzschild.integrate(start, float("nan"))
    pole = schwarzschild.start([0, 8, 0, 0], {"r": 0, "theta": 0.02, "phi": 0}, "timelike")
    with pytest.raises(DataError, match="singular at the start t = 0, r = 8, theta = 0"):
        schwarzschild.integrate(pole, 1.0)
    with pytest.raises(DataError, match="not finite at t = 0, r = 2"):
        schwarzschild.start([0, 2, 1.2, 0], {"r": 0, "theta": 0, "phi": 0}, "timelike")
    with pytest.raises(ConfigError, match="Event"):
        schwarzschild.integrate(start, 1.0, events=[lambda s, x, p: x[..., 1] - 7])
    with pytest.raises(DataError, match="no parameter a"):
        Geodesics(catalogue.metric("schwarzschild"), M=1.0, a=0.5)
    one = schwarzschild.integrate(start, 1.0, events=schwarzschild.crossing("r", 7.9999))
    assert list(one.events) == ["r=7.9999"]
