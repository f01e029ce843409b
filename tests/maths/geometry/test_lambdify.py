"""Exact results as numerical functions: against SymPy, across backends, with gradients."""

import numpy as np
import pytest

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry import Field, Metric, catalogue
from kexue.maths.geometry.numbers import lambdify

RNG = np.random.default_rng(5)


def test_an_element_agrees_with_sympy_at_random_points():
    import sympy

    field = Field("x y")
    text = "(sin(x)^3*exp(2*y) - sqrt(1 + x^2)*log(2 + y))/(k + cos(x)^2) + cosh(x*y)^2/(3*x) - 7/3"
    element = field(text)
    f = lambdify(element)
    x, y = RNG.uniform(0.2, 2, (2, 50))
    reference = sympy.lambdify(sympy.symbols("x y k"), sympy.sympify(text.replace("^", "**")), "numpy")
    np.testing.assert_allclose(f(x, y, k=1.5), reference(x, y, 1.5), rtol=1e-12)


def test_coordinates_and_parameters_broadcast():
    kerr = catalogue.metric("kerr")
    f = lambdify(kerr.kretschmann())
    r, spin = np.linspace(3, 9, 7)[:, None], np.array([0.0, 0.3, 0.9])
    values = f(0.0, r, 1.1, 0.0, M=1.0, a=spin)
    assert values.shape == (7, 3)
    np.testing.assert_allclose(values[:, 0], 48 / r[:, 0] ** 6, rtol=1e-13)
    for k in range(3):
        np.testing.assert_array_equal(values[:, k], f(0.0, r[:, 0], 1.1, 0.0, M=1.0, a=spin[k]))
    np.testing.assert_array_equal(f.at([0.0, 4.0, 1.1, 0.0], M=1.0, a=0.3), f(0, 4, 1.1, 0, M=1, a=0.3))


def test_components_of_a_tensor_stand_on_the_last_axes():
    kerr = catalogue.metric("kerr")
    riemann = kerr.riemann()
    f = lambdify(riemann)
    points = RNG.uniform([0, 3, 0.3, 0], [1, 9, 2.8, 6], (4, 5, 4))
    values = f.at(points, M=1.0, a=0.8)
    assert values.shape == (4, 5, 4, 4, 4, 4)
    for index in [(0, 1, 0, 1), (3, 2, 1, 0), (1, 2, 2, 3)]:
        one = lambdify(riemann[index]).at(points, M=1.0, a=0.8) if riemann[index] else np.zeros((4, 5))
        np.testing.assert_allclose(values[(..., *index)], one, rtol=1e-13, atol=1e-18)
    np.testing.assert_allclose(values, -np.swapaxes(values, -1, -2))


def test_structures_forms_and_connections():
    g = Metric.from_line_element("dr^2 + r^2*dphi^2")
    f = lambdify({"g": g, "pair": (g.determinant, [g.volume]), "gamma": g.connection, "w": g.form("r*dphi").d()})
    out = f(np.array([2.0, 3.0]), 0.0)
    np.testing.assert_allclose(out["g"], [np.diag([1, 4]), np.diag([1, 9])])
    np.testing.assert_allclose(out["pair"][0], [4, 9])
    np.testing.assert_allclose(out["pair"][1][0], [2, 3])
    np.testing.assert_allclose(out["gamma"][:, 0, 1, 1], [-2, -3])
    np.testing.assert_allclose(out["w"][0], [[0, 1], [-1, 0]])


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_backends_agree_and_differentiate(backend):
    kerr = catalogue.metric("kerr")
    K = kerr.kretschmann()
    exact = lambdify([kerr.christoffel(), K, K.diff("r")])
    points = RNG.uniform([0, 3, 0.3, 0], [1, 9, 2.8, 6], (6, 4))
    gamma, value, slope = exact.at(points, M=1.0, a=0.8)
    f = lambdify([kerr.christoffel(), K], backend)
    if backend == "torch":
        import torch

        x = torch.tensor(points, requires_grad=True)
        out = f.at(x, M=1.0, a=0.8)
        out[1].sum().backward()
        got = [out[0].detach().numpy(), out[1].detach().numpy(), x.grad.numpy()[:, 1]]
    else:
        import jax

        from kexue.maths.geometry.numbers.autodiff import double_precision

        before = jax.config.jax_enable_x64
        with double_precision():
            out = jax.jit(lambda x: f.at(x, M=1.0, a=0.8))(points)
            grad = jax.grad(lambda x: f.at(x, M=1.0, a=0.8)[1].sum())(jax.numpy.asarray(points))
        assert jax.config.jax_enable_x64 == before
        got = [np.asarray(out[0]), np.asarray(out[1]), np.asarray(grad)[:, 1]]
    for a, b in zip(got, (gamma, value, slope), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)


def test_unknown_functions_by_expression_by_derivatives_and_by_differentiation():
    g = Metric.from_line_element("-dt^2 + a(t)^2*(dx^2 + dy^2 + dz^2)")
    R = g.ricci_scalar()  # 6 (a a'' + a'^2)/a^2, for a = t^p: 6 p (2 p - 1)/t^2
    t = np.array([0.5, 1.0, 3.0])
    want = 6 * 0.4 * (-0.2) / t**2
    by_text = lambdify(R, functions={"a": "t^(2/5)"})
    np.testing.assert_allclose(by_text(t, 0, 0, 0), want, rtol=1e-12)
    table = [lambda t: t**0.4, lambda t: 0.4 * t**-0.6, lambda t: -0.24 * t**-1.6]
    np.testing.assert_allclose(lambdify(R, functions={"a": table})(t, 0, 0, 0), want, rtol=1e-12)
    by_torch = lambdify(R, "torch", functions={"a": lambda t: t**0.4})
    np.testing.assert_allclose(by_torch(t, 0.0, 0.0, 0.0).numpy(), want, rtol=1e-12)


def test_special_functions():
    import scipy.special

    field = Field("x")
    element = field("besselj(0, 2*x)*erf(x) + atan(x)").diff("x")
    x = np.linspace(0.3, 3, 9)
    exact = -2 * scipy.special.j1(2 * x) * scipy.special.erf(x)
    exact += scipy.special.j0(2 * x) * 2 / np.sqrt(np.pi) * np.exp(-(x**2)) + 1 / (1 + x**2)
    np.testing.assert_allclose(lambdify(element)(x), exact, rtol=1e-12)


def test_a_factor_that_vanishes_loses_no_digits():
    """1 - 2M/r close to the horizon, sin(theta) close to the axis: expanded numerators would cancel."""
    g = catalogue.metric("schwarzschild")
    f = lambdify([g.tensor["t", "t"], g.tensor["phi", "phi"]])
    eps, theta = 2.0**-40, 1e-9
    tt, _ = f(0.0, 2.0 * (1 + eps), 1.0, 0.0, M=1.0)
    assert tt == pytest.approx(-eps / (1 + eps), rel=1e-12)
    _, pp = f(0.0, 3.0, theta, 0.0, M=1.0)
    assert pp == pytest.approx(9 * np.sin(theta) ** 2, rel=1e-12)


def test_what_is_refused():
    g = catalogue.metric("flrw")
    R = g.ricci_scalar()
    with pytest.raises(ConfigError, match="has no values yet"):
        lambdify(R)
    with pytest.raises(ConfigError, match="cannot differentiate"):
        lambdify(R, functions={"a": lambda t: t})
    with pytest.raises(ConfigError, match="numpy, jax, torch"):
        lambdify(R, "fortran")
    f = lambdify(catalogue.metric("kerr").kretschmann())
    with pytest.raises(DataError, match="M, a"):
        f(0, 3, 1, 0)
    with pytest.raises(DataError, match="4 coordinates"):
        f(0, 3, M=1, a=0)
    with pytest.raises(DataError, match="last axis"):
        f.at([1.0, 2.0], M=1, a=0)
    with pytest.raises(DataError, match="was expected"):
        lambdify("r^2")


def test_results_of_several_parts():
    from kexue.maths.geometry import einstein_maxwell, perfect_fluid

    rn = catalogue.metric("reissner_nordstrom")
    at = (0.0, 3.0, 1.0, 0.0)
    scalars = lambdify(rn.newman_penrose())(*at, M=1.0, Q=0.5)
    assert scalars["Psi_2"] == pytest.approx((0.25 - 3.0) / 81)
    assert set(scalars) >= {"Psi_0", "Phi_11", "Lambda"}
    rows = lambdify(rn.geodesic_equations())(*at, M=1.0, Q=0.5)
    assert rows[3][1, 3] == pytest.approx(2 / 3)
    rest = lambdify(einstein_maxwell(rn, "-Q/r*dt"))(*at, M=1.0, Q=0.5)
    assert rest["einstein"].shape == (4, 4)
    fluid = lambdify(perfect_fluid(catalogue.metric("flrw")), functions={"a": "t^(2/3)"})(2.0, 0.1, 1.0, 0.0, k=0.0)
    assert fluid["density"] == pytest.approx(1 / 3)
    assert fluid["pressure"] == pytest.approx(0)


@pytest.mark.parametrize("backend", ["numpy", "jax", "torch"])
def test_shapes_that_do_not_fit(backend):
    pytest.importorskip(backend)
    f = lambdify(catalogue.metric("schwarzschild").kretschmann(), backend)
    with pytest.raises(DataError, match=r"r \(2,\), theta \(3,\)"):
        f(0.0, [3.0, 4.0], [1.0, 2.0, 3.0], 0.0, M=1.0)
