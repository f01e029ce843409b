"""Differential forms and tensors against their defining properties."""

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue.errors import DataError
from kexue.maths.geometry import Field, Form, Metric, Tensor, basis_forms, catalogue, form_from_string, lie_derivative
from kexue.maths.geometry.forms import zero_form

FIELD = Field("x y z w")
SCALARS = ["0", "1", "x", "y*z", "sin(x)*w", "exp(y)", "f(x,w)", "1/(1+z^2)", "-2", "w^2-x"]


def form_of_degree(p):
    from itertools import combinations

    indices = list(combinations(range(4), p))
    values = st.lists(st.sampled_from(SCALARS), min_size=len(indices), max_size=len(indices))
    return values.map(lambda v: Form(FIELD, p, {i: FIELD(x) for i, x in zip(indices, v, strict=True)}))


def any_form(highest=3):
    return st.integers(0, highest).flatmap(form_of_degree)


VECTOR = st.lists(st.sampled_from(SCALARS), min_size=4, max_size=4)


@given(any_form(), any_form(2), any_form(1))
@settings(max_examples=40)
def test_wedge_and_d(a, b, c):
    sign = (-1) ** (a.degree * b.degree)
    assert a.wedge(b) == b.wedge(a) * sign
    assert a.wedge(b).wedge(c) == a.wedge(b.wedge(c))
    assert a.d().d().is_zero
    assert a.wedge(b).d() == a.d().wedge(b) + a.wedge(b.d()) * (-1) ** a.degree


@given(any_form(), any_form(2), VECTOR)
@settings(max_examples=40)
def test_interior_product_and_lie_derivative(a, b, v):
    product = a.wedge(b)
    if a.degree and b.degree:
        wanted = a.interior(v).wedge(b) + a.wedge(b.interior(v)) * (-1) ** a.degree
        assert product.interior(v) == wanted
    if a.degree > 1:
        assert a.interior(v).interior(v).is_zero
    assert a.lie(v).d() == a.d().lie(v)
    assert product.lie(v) == a.lie(v).wedge(b) + a.wedge(b.lie(v))


@given(form_of_degree(1), VECTOR)
@settings(max_examples=30)
def test_cartans_formula_is_the_lie_derivative_of_a_covector(a, v):
    g = Metric([[1 if i == j else 0 for j in range(4)] for i in range(4)], field=FIELD)
    tensor = Tensor(g.coordinate_frame, "d", a.components)
    image = lie_derivative(g.vector(v), tensor)
    assert Form(FIELD, 1, image.components) == a.lie(v)


@pytest.mark.parametrize("name", ["schwarzschild", "kerr", "sphere_3", "bianchi_i", "sphere", "myers_perry_5d"])
def test_hodge(name):
    """a ^ *b = <a, b> vol, and ** is the sign (-1)^(p (n - p)) times that of det g."""
    g = catalogue.metric(name)
    field, n = g.field, g.dimension
    dx = basis_forms(field)
    volume = Form(field, n, {tuple(range(n)): g.volume})
    one = dx[0] * field("1") + dx[1] * field(field.coordinates[1])
    two = dx[0].wedge(dx[1]) + dx[-1].wedge(dx[0]) * 3
    for a in (one, two):
        p = a.degree
        assert a.wedge(a.hodge(g)) == volume * a.inner(a, g)
        assert a.hodge(g).hodge(g) == a * ((-1) ** (p * (n - p)) * g.determinant_sign)
    assert zero_form(field, 1).hodge(g) == volume


def test_codifferential_is_minus_the_divergence():
    for name in ("kerr", "sphere_3", "flrw"):
        g = catalogue.metric(name)
        a = basis_forms(g.field)[1] * g.field(f"{g.coordinates[1]}*{g.coordinates[-1]}")
        covector = Tensor(g.coordinate_frame, "d", a.components)
        assert a.codifferential(g).components.get((), g.field.zero) == -g.divergence(covector)


def test_maxwell_by_forms():
    g = catalogue.metric("reissner_nordstrom")
    strength = g.form("-Q/r*dt").d()
    assert strength.hodge(g).d().is_zero


def test_pullback():
    plane, polar = Field("x y"), Field("r phi")
    images = ["r*cos(phi)", "r*sin(phi)"]
    area = form_from_string(plane, "dx").wedge(form_from_string(plane, "dy"))
    assert area.pullback(polar, images)[0, 1] == polar("r")  # the determinant of the map
    turning = form_from_string(plane, "x*dy - y*dx")
    assert turning.pullback(polar, images) == form_from_string(polar, "r^2*dphi")
    assert turning.d().pullback(polar, images) == turning.pullback(polar, images).d()
    with pytest.raises(DataError, match="2 coordinate functions"):
        area.pullback(polar, ["r"])


def test_jacobian_determinant():
    """df^1 ^ ... ^ df^n = det(df/dx) dx^1 ^ ... ^ dx^n, zero for dependent functions."""
    field = Field("x y z")
    functions = ["x*y*z", "x^2+y", "sin(z)+x"]
    product = zero_form(field, 1)
    for f in functions:
        product = product.wedge(zero_form(field, f).d())
    x = sympy.symbols("x y z")
    wanted = sympy.Matrix([sympy.sympify(f.replace("^", "**")) for f in functions]).jacobian(x).det()
    assert product[0, 1, 2] == field(wanted)
    dependent = zero_form(field, "x+y").d().wedge(zero_form(field, "(x+y)^2").d())
    assert dependent.is_zero


def test_integration_and_stokes():
    field = Field("x y")
    form = form_from_string(field, "-y*dx/2 + x*dy/2 + x^2*dx")
    inside = form.d().integrate({"x": (0, 2), "y": (0, 3)})
    assert inside == 6
    with pytest.raises(DataError, match="limits"):
        form.integrate({"x": (0, 1)})


def test_form_indices_and_text():
    field = Field("t r")
    form = form_from_string(field, "dt").wedge(form_from_string(field, "r*dr"))
    assert form["t", "r"] == -form["r", "t"] == field("r")
    assert form["r", "r"].is_zero
    assert str(form) == "(r) dt ^ dr"
    assert r"\wedge" in form.latex()
    with pytest.raises(DataError, match="increasing"):
        Form(field, 2, {(1, 0): field.one})
    with pytest.raises(DataError, match="one degree"):
        form + form_from_string(field, "dt")


def test_tensor_algebra():
    g = catalogue.metric("kerr")
    r = g.riemann("dddd")
    assert r.with_variance("uuuu").with_variance("dddd") == r
    assert r.contract(0, 2) == g.ricci()
    assert r.antisymmetrize(1, 2, 3).is_zero
    assert r.symmetrize(0, 1).is_zero
    assert r.antisymmetrize(0, 1) == r
    v = g.vector(["1", "r", "0", "a"])
    assert v.outer(v.lower(0)).contract(0, 1).scalar() == v.outer(v).contract(0, 1).scalar()
    assert v.to_frame(g.frame).to_frame(g.coordinate_frame) == v
    assert r.to_frame(g.frame) == g.riemann("dddd", "frame")
    assert g.covariant_derivative(g.tensor).is_zero
    t = g.tensor_of("ud", [["r" if i == j else "t" for j in range(4)] for i in range(4)])
    parts = t.lower(0)
    assert parts.symmetrize() + parts.antisymmetrize() == parts


def test_covariant_derivative_does_not_depend_on_the_frame():
    g = catalogue.metric("taub_nut")
    t = g.tensor_of("ud", [["r", "0", "t", "1"], ["0", "1", "0", "0"], ["n", "0", "0", "r"], ["0", "0", "0", "phi"]])
    one = g.covariant_derivative(t)
    other = g.connection.covariant_derivative(t).to_frame(g.coordinate_frame)
    assert one == other


def test_leibniz_for_tensors():
    g = catalogue.metric("sphere_3")
    u, v = g.vector(["chi", "0", "theta"]), g.covector(["1", "phi", "sin(chi)"])
    whole = g.covariant_derivative(u.outer(v))
    first = g.covariant_derivative(u).outer(v).transpose(0, 2, 1)
    assert whole == first + u.outer(g.covariant_derivative(v))


def test_tensor_errors():
    g = catalogue.metric("sphere")
    v = g.vector(["1", "0"])
    with pytest.raises(DataError, match="upper already"):
        v.raise_index(0)
    with pytest.raises(DataError, match="2 indices"):
        g.tensor[0]
    with pytest.raises(DataError, match="No index"):
        v["r"]
    with pytest.raises(DataError, match="run from 0"):
        v[2]
    with pytest.raises(DataError, match="shape"):
        g.vector(["1", "0", "0"])
    with pytest.raises(DataError, match="one kind"):
        v + v.lower(0)


def test_integrals_over_infinite_and_dependent_limits():
    field = Field("x y", parameters="a")
    form = Form(field, 2, {(0, 1): field("x*exp(-a*x^2)")})
    assert str(form.integrate({"x": (0, "oo"), "y": (0, "2*pi")}, positive="a")) == "pi/a"
    form = Form(field, 2, {(0, 1): field("x*y")})
    assert form.integrate({"y": (0, "x"), "x": (0, 1)}) == sympy.Rational(1, 8)
    with pytest.raises(DataError, match="depend on x"):
        form.integrate({"x": (0, 1), "y": (0, "x")})


def test_raw_values_and_mistakes():
    field = Field("x y")
    form = Form(field, 1, {(0,): 1, (1,): "x*y"})
    assert form.d() == Form(field, 2, {(0, 1): "y"})
    for degree, wrong in ((1, {0: 1}), (2, {(1, 0): 1}), (1, {("x",): 1})):
        with pytest.raises(DataError, match="increasing numbers"):
            Form(field, degree, wrong)
    area = Form(field, 2, {(0, 1): 1})
    with pytest.raises(DataError, match="pairs"):
        area.integrate({"x": (0,), "y": (0, 1)})
    with pytest.raises(DataError, match="limit"):
        area.integrate({"x": (0, None), "y": (0, 1)})
    metric = Metric([[1, 0], [0, 1]], "x y")
    tensor = metric.tensor_of("ud", [["x", "y"], [1, 2]])
    assert Tensor(metric.coordinate_frame, "u", {(0,): 2})[0] == 2
    for call in (
        lambda: tensor.raise_index(5),
        lambda: tensor.symmetrize(7, 8),
        lambda: tensor + 1,
        lambda: metric.vector(5),
        lambda: metric.vector({"x": 1, "y": 2}),
        lambda: Tensor(metric.coordinate_frame, "u", {0: 1}),
    ):
        with pytest.raises(DataError):
            call()
