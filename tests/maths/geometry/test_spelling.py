"""Line elements and formulas as people spell them, and mistakes that must not pass in silence."""

import pytest

from kexue.errors import DataError
from kexue.maths.geometry import Metric
from kexue.maths.geometry.field import Field

SAME = [
    ("dx^2 + arctan(x)^2*dy^2", "dx^2 + atan(x)^2*dy^2"),
    ("arcsinh(x)*dx^2 + arsinh(x)*dy^2", "asinh(x)*dx^2 + asinh(x)*dy^2"),
    ("cosec(x)*dx^2 + log10(x)*dy^2", "csc(x)*dx^2 + log(x)/log(10)*dy^2"),
    ("Abs(x)*dx^2 + dy^2", "abs(x)*dx^2 + dy^2"),
    ("-dt^2 + a^2(t)*(dx^2 + dy^2)", "-dt^2 + a(t)^2*(dx^2 + dy^2)"),
    ("-dt² + h³(t, x) (dx² + dy²)", "-dt^2 + h(t, x)^3*(dx^2 + dy^2)"),
    ("ds² = –dt² + r²(dθ² + sin²(θ) dφ²) + dr²", "-dt^2 + r^2*(dtheta^2 + sin(theta)^2*dphi^2) + dr^2"),
    ("a^2(dx)^2 + b^2(1+x)*dy^2", "a^2*dx^2 + b^2*(1+x)*dy^2"),
]


@pytest.mark.parametrize(("odd", "plain"), SAME)
def test_other_spellings(odd, plain):
    one, two = Metric.from_line_element(odd), Metric.from_line_element(plain)
    assert one.coordinates == two.coordinates
    assert str(one) == str(two)
    assert str(one.ricci_scalar()) == str(two.ricci_scalar())


WRONG = {
    "f = 1 + h\nh = x\nds^2 = f*dx^2 + dy^2": "f uses h",
    "f = 1 + f\nds^2 = f*dx^2 + dy^2": "f uses f",
    "r = R*(1 + M/(2*R))^2\nds^2 = dr^2 + r^2*dphi^2": "r is defined",
    "-f(r)*dt^2 + f*dr^2": "called as a function and stands alone",
    "f*dr^2 - f(r)*dt^2": "called as a function and stands alone",
    "f = 1 - 2*M/r\nds^2 = f^2(r)*dr^2 + dx^2": "f is no function",
}


@pytest.mark.parametrize("text", WRONG)
def test_silent_mistakes(text):
    with pytest.raises(DataError, match=WRONG[text]):
        Metric.from_line_element(text)


def test_an_abbreviation_may_be_defined_anew():
    g = Metric.from_line_element("f = 1 + x\nf = 2*f\nds^2 = f*dx^2 + dy^2")
    assert str(g.tensor["x", "x"]) == "2*x + 2"


def test_the_order_of_definitions_counts_in_coframes_too():
    with pytest.raises(DataError, match="f uses h"):
        Metric.from_coframe(["f*dx", "dy"], None, "x y", definitions={"f": "1+h", "h": "x"})
    with pytest.raises(DataError, match="sequence of 2 covectors"):
        Metric.from_coframe("dx, dy", None, "x y")
    with pytest.raises(DataError, match="frame metric"):
        Metric.from_coframe(["dx", "dy"], 3, "x y")


def test_powers_of_functions_of_names_only():
    field = Field("t x")
    assert field("a^2(t)") == field("a(t)") ** 2
    assert field("b^2(1 + t)") == field("b^2*(1 + t)")
    assert field("cos^(2)(x) + sin²(x)") == 1
