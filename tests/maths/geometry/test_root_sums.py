"""Sums of several roots as generators: the same field, quicker; against plain formulas."""

import numpy as np
import pytest

pytest.importorskip("sympy")

import sympy

from kexue.errors import DataError
from kexue.maths.geometry import Metric
from kexue.maths.geometry.field import Field
from kexue.maths.geometry.numbers import lambdify

R, S = "sqrt(x^2+y^2+(z-a)^2)", "sqrt(x^2+y^2+(z+a)^2)"
U = f"(1 + m/{R} + n/{S})"


@pytest.fixture(params=["sympy", "flint"])
def backend(request):
    if request.param == "flint":
        pytest.importorskip("flint")
    return request.param


def sums(field):
    return [g for g in field.generators.values() if g.kind == "sum"]


def test_it_is_the_same_field(backend):
    """Other spellings of the sum, its powers and its derivatives are recognised."""
    field = Field("x y z", backend=backend)
    inverse = field(f"1/{U}")
    assert len(sums(field)) == 1
    assert inverse * field(U) == 1
    assert inverse == field(f"{R}*{S}/({R}*{S} + m*{S} + n*{R})")
    assert field(f"(m*{S} + n*{R})/({R}*{S})") == field(U) - 1
    assert field.sqrt(field(f"{U}^2")) == field(U)
    wanted = field(f"(m*x/{R}^3 + n*x/{S}^3)/{U}^2")
    assert inverse.diff("x") == wanted
    assert inverse.diff("z").diff("z") + inverse.diff("x").diff("x") + inverse.diff("y").diff("y") == 2 * field(
        f"((m*x/{R}^3+n*x/{S}^3)^2 + (m*y/{R}^3+n*y/{S}^3)^2 + (m*(z-a)/{R}^3+n*(z+a)/{S}^3)^2)/{U}^3"
    )
    assert field("m") / field("n") == field("m/n")
    assert {"m", "n", "a"} == set(field.parameters)


def test_harmonic_functions_make_flat_scalars(backend):
    """The scalar curvature of psi^4 delta is -8 psi^-5 times the Laplacian of psi, which is zero here."""
    g = Metric.from_line_element(f"(1 + m/{R} + n/{S})^4*(dx^2+dy^2+dz^2)", backend=backend)
    assert g.ricci_scalar() == 0
    assert not g.is_flat
    assert g.kretschmann().size() < 1000  # in m and n alone it has a hundred thousand terms


def test_numbers_need_the_constants_of_the_formula():
    g = Metric.from_line_element(f"-dt^2/{U}^2 + {U}^2*(dx^2+dy^2+dz^2)", "t x y z")
    function = lambdify(g.tensor)
    assert set(function.parameters) == {"a", "m", "n"}
    x, y, z, a, m, n = 0.3, -0.4, 1.7, 0.6, 1.3, 0.2
    u = 1 + m / np.sqrt(x**2 + y**2 + (z - a) ** 2) + n / np.sqrt(x**2 + y**2 + (z + a) ** 2)
    np.testing.assert_allclose(function(0.0, x, y, z, a=a, m=m, n=n), np.diag([-(u**-2), u**2, u**2, u**2]), rtol=1e-14)
    with pytest.raises(DataError, match="m"):
        function(0.0, x, y, z, a=a, n=n)


def test_where_the_constants_are_better_kept():
    """Used elsewhere too; a sum by which nothing is divided; one root."""
    for line in (
        f"{U}^2*(dx^2+dy^2) + (1+m^2*x^2)*(1+n*y)*dz^2",
        f"2*du*dv + (m/{R}+n/{S})*du^2 + dx^2 + dy^2 + dz^2",
        f"(1+m/{R})^2*(dx^2+dy^2+dz^2)",
    ):
        assert not sums(Metric.from_line_element(line).field)


def test_declared_constants():
    g = Metric.from_line_element(f"{U}^2*(dx^2+dy^2+dz^2)", "x y z", parameters="a m n")
    assert g.field.parameters == ("a", "m", "n")
    assert len(sums(g.field)) == 1
    with pytest.raises(DataError, match="expected one of"):
        g.field("m*q")
    with pytest.raises(DataError, match="expected one of"):
        Metric.from_line_element(f"{U}^2*(dx^2+dy^2+dz^2)", "x y z", parameters="a b")


def test_results_are_shown_with_the_constants_and_read_again():
    g = Metric.from_line_element(f"{U}^2*(dx^2+dy^2+dz^2)")
    symbols = sorted(g.christoffel().components.values(), key=lambda value: value.size())
    shown = [str(value) for value in symbols]
    above = sympy.fraction(symbols[0].to_sympy())[0]  # of dU/U: m stands there itself, the sum below only
    assert above.has(sympy.Symbol("m"))
    assert not above.has(sums(g.field)[0].data.shown)
    assert all(g.field(text) == value for text, value in zip(shown, symbols, strict=True))
    assert all(value.latex().count("{") == value.latex().count("}") for value in symbols)
