"""Metrics that are not in the catalogue, against the independent evaluation."""

import re
from pathlib import Path

import pytest
import sympy
from tests.maths.geometry.reference import check_curvature

from kexue.maths.geometry import Metric
from kexue.maths.geometry.field.printing import long_text
from kexue.maths.geometry.line_element import read_line_element

ODD = {
    "off-diagonal": "-dt^2 + 2*x*y*dt*dx + (1+x^2)*dx^2 + exp(t)*dy^2 + 2*sin(x)*dx*dy",
    "functions of two variables": "-f(u,v)*du*dv + 2*h(u,v)*du*dx + k(u)^2*dx^2 + dy^2*(1+u^2)",
    "roots": "-sqrt(1+x^2)*dt^2 + dx^2/sqrt(x) + sqrt(x*y)*dy^2",
    "nested roots": "sqrt(x+sqrt(y))*dx^2 + dy^2 + dx*dy/3",
    "cube roots": "x^(1/3)*dx^2 + (1+x^(2/3))*dy^2",
    "exponentials": "-exp(-(x^2+y^2)/2)*dt^2 + exp(x/2)*dx^2 + exp(2*x-y)*dy^2 + exp(x)*dx*dy",
    "logarithms": "log(x*y)*dx^2 + (3+log(x))*dy^2 + dz^2*log(y)^2",
    "tanh": "-dt^2 + (1+tanh(x-t)^2)*dx^2 + tanh(x+t)*dx*dt + (2+sech(x))*dy^2",
    "warp": "-dt^2 + (dx - v*tanh(s*(sqrt((x-v*t)^2+y^2+z^2)-R))*dt)^2 + dy^2 + dz^2",
    "powers": "-t^(2*p)*dt^2 + t^(p+q)*dx^2 + x^q*dy^2",
    "five dimensions": "-(1+x*y)*dt^2 + dx^2 + x^2*dy^2 + (1+x^2)*dz^2 + y^2*(dw + x*dz)^2",
    "six dimensions": "dr^2 + r^2*(da^2 + sin(a)^2*(db^2 + sin(b)^2*dc^2)) + f(r)^2*dz^2 - h(r)*dt^2",
    "travelling wave": "-dt^2 + dz^2 + F(t-z)^2*dx^2 + G(t-z)^2*dy^2",
    "angles": "dx^2 + (2+sin(2*x)*cos(y))*dy^2 + (3+sin(x/2+y))*dz^2",
    "hyperbolic and exponential": "cosh(x)^2*dx^2 + exp(x)*dy^2 + sinh(2*x)*dz^2",
    "special functions": "(2+besselj(0,x))*dx^2 + x^2*erf(y)*dy^2",
    "inverse functions": "(1+atan(x))*dx^2 + (2+asinh(x*y))*dy^2",
    "null": "2*du*dv + 2*x*y*du*dx + dy^2 + u*dx*dy + (1+v^2)*du^2",
    "decimals": "-(1-0.5/r)*dt^2 + dr^2/(1-0.5/r) + r^2*dphi^2",
    "Lewis-Papapetrou": "-exp(2*U(rho,z))*(dt + w(rho,z)*dphi)^2"
    " + exp(-2*U(rho,z))*(exp(2*k(rho,z))*(drho^2+dz^2) + rho^2*dphi^2)",
    "Bondi": "-(V(u,r,h)/r*exp(2*b(u,r,h)) - U(u,r,h)^2*r^2*exp(2*c(u,r,h)))*du^2 - 2*exp(2*b(u,r,h))*du*dr"
    " - 2*U(u,r,h)*r^2*exp(2*c(u,r,h))*du*dh + r^2*(exp(2*c(u,r,h))*dh^2 + exp(-2*c(u,r,h))*sin(h)^2*dphi^2)",
    "Szekeres": "-dt^2 + exp(2*p(t,x,y,z))*dz^2 + exp(2*q(t,x,y,z))*(dx^2+dy^2)",
    "Robinson-Trautman": "-(K(u,x,y) - 2*r*diff(log(P(u,x,y)),u) - 2*m/r)*du^2 - 2*du*dr + r^2/P(u,x,y)^2*(dx^2+dy^2)",
    "perturbed FLRW": "a(t)^2*(-(1+2*F(t,x,y,z))*dt^2 + (1-2*G(t,x,y,z))*(dx^2+dy^2+dz^2))",
    "conformally flat": "exp(2*w(x,y,z,u,t))*(-dt^2+dx^2+dy^2+dz^2+du^2)",
    "powers of parameters": "-(1-b/r)^g*dt^2 + (1-b/r)^(-g)*dr^2 + r^n*(dtheta^2 + sin(theta)^2*dphi^2)",
    "Tolman-Bondi": "-dt^2 + diff(R(t,r),r)^2/(1+2*E(r))*dr^2 + R(t,r)^2*(dh^2 + sin(h)^2*dp^2)",
    "E, F, G": "E(u,v)*du^2 + 2*F(u,v)*du*dv + G(u,v)*dv^2",
    "rotating disk": "-(1-w^2*r^2)*dt^2 + 2*w*r^2*dt*dphi + dr^2 + r^2*dphi^2 + dz^2",
}


MORE = dict(re.findall(r"^\[(.*)\]\n([^[]*)", Path(__file__).with_name("unseen_metrics.txt").read_text(), flags=re.M))


@pytest.mark.parametrize("name", [*ODD, *MORE])
def test_curvature(name):
    text = (ODD | MORE)[name]
    check_curvature(Metric.from_line_element(text), sympy.Matrix(read_line_element(text).matrix))


def test_there_are_enough():
    assert len(MORE) >= 60
    assert len({re.sub(r"\s", "", text) for text in MORE.values()}) == len(MORE)


VACUUM = {
    "Kerr, Doran": """S = r^2+a^2*cos(theta)^2
        ds^2 = -dt^2 + S/(r^2+a^2)*(dr + sqrt(2*M*r*(r^2+a^2))/S*(dt - a*sin(theta)^2*dphi))^2 + S*dtheta^2
            + (r^2+a^2)*sin(theta)^2*dphi^2""",
    "Kruskal": """r = 2*M*(1 + LambertW(-u*v/exp(1)))
        ds^2 = -32*M^3/r*exp(-r/(2*M))*du*dv + r^2*(dtheta^2 + sin(theta)^2*dphi^2)""",
    "Kerr-Schild, Cartesian": """r = sqrt(x^2+y^2+z^2)
        ds^2 = -dt^2 + dx^2 + dy^2 + dz^2 + 2*M/r*(dt + (x*dx+y*dy+z*dz)/r)^2""",
    "Kerr, ingoing": """S = r^2+a^2*cos(theta)^2
        ds^2 = -dt^2 + dr^2 + 2*a*sin(theta)^2*dr*dphi + S*dtheta^2 + (r^2+a^2)*sin(theta)^2*dphi^2
            + 2*M*r/S*(dt + dr + a*sin(theta)^2*dphi)^2""",
    "Kerr, Cartesian": """r = sqrt((x^2+y^2+z^2-a^2 + sqrt((x^2+y^2+z^2-a^2)^2 + 4*a^2*z^2))/2)
        ds^2 = -dt^2 + dx^2 + dy^2 + dz^2
            + 2*M*r^3/(r^4+a^2*z^2)*(dt + (r*(x*dx+y*dy) + a*(y*dx-x*dy))/(r^2+a^2) + z*dz/r)^2""",
    "Kasner, one free exponent": """s = (1-p+sqrt(1+2*p-3*p^2))/2
        q = 1-p-s
        ds^2 = -dt^2 + t^(2*p)*dx^2 + t^(2*q)*dy^2 + t^(2*s)*dz^2""",
    "Lemaitre": """r = (3*(R-t)/2)^(2/3)*(2*M)^(1/3)
        ds^2 = -dt^2 + 2*M/r*dR^2 + r^2*(dh^2 + sin(h)^2*dp^2)""",
    "black ring": """X = 1+l*x
        Y = 1+l*y
        G = (1-x^2)*(1+n*x)
        H = (1-y^2)*(1+n*y)
        C = sqrt(l*(l-n)*(1+l)/(1-l))
        ds^2 = -Y/X*(dt - C*R*(1+y)/Y*dpsi)^2 + R^2/(x-y)^2*X*(-H/Y*dpsi^2 - dy^2/H + dx^2/G + G/X*dphi^2)""",
    "Myers-Perry, two rotations": """S = r^2 + a^2*cos(h)^2 + b^2*sin(h)^2
        D = (r^2+a^2)*(r^2+b^2) - mu*r^2
        ds^2 = -dt^2 + mu/S*(dt - a*sin(h)^2*dphi - b*cos(h)^2*dpsi)^2 + S*r^2/D*dr^2 + S*dh^2
            + (r^2+a^2)*sin(h)^2*dphi^2 + (r^2+b^2)*cos(h)^2*dpsi^2""",
}


@pytest.mark.parametrize("name", VACUUM)
def test_vacuum_is_recognised(name):
    pytest.importorskip("flint")
    g = Metric.from_line_element(VACUUM[name])
    assert g.is_vacuum
    assert not g.is_flat


@pytest.mark.parametrize("name", ["off-diagonal", "roots", "exponentials", "five dimensions", "null", "tanh"])
@pytest.mark.parametrize("backend", ["flint", "sympy"])
def test_in_every_frame(name, backend):
    if backend == "flint":
        pytest.importorskip("flint")
    g = Metric.from_line_element(ODD[name], backend=backend)
    ldl = Metric.from_line_element(ODD[name], frame="ldl", backend=backend)
    assert g.kretschmann() == g.field(ldl.kretschmann())
    assert g.ricci_scalar() == g.field(ldl.ricci_scalar())
    assert ldl.bianchi_second().is_zero


RADIATING_KERR = """S = r^2+a^2*cos(h)^2
    ds^2 = -(1-2*m(v)*r/S)*dv^2 + 2*dv*dr + S*dh^2 - 4*a*m(v)*r*sin(h)^2/S*dv*dp - 2*a*sin(h)^2*dr*dp
        + ((r^2+a^2)^2-(r^2-2*m(v)*r+a^2)*a^2*sin(h)^2)/S*sin(h)^2*dp^2"""
PETROV = {
    "radiating Kerr": (RADIATING_KERR, "II"),
    "Kerr, Cartesian": (VACUUM["Kerr, Cartesian"], "D"),
    "Lemaitre": (VACUUM["Lemaitre"], "D"),
    "roots in the metric": ("-sqrt(1-2*M/r)*dt^2 + dr^2/sqrt(1-2*M/r+Q^2/r^2) + r^2*(dh^2 + sin(h)^2*dp^2)", "D"),
    "plane wave": ("2*du*dv + (A(u)*(x^2-y^2) + 2*B(u)*x*y)*du^2 + dx^2 + dy^2", "N"),
    "Petrov III": ("r^2/x^3*(dx^2 + dy^2) - 2*du*dr + 3/2*x*du^2", "III"),
    "static inside, definite": ("-(1-2*M/r)*dt^2 + dz^2*exp(z*r) + dr^2 + r^2*dp^2*(1+z^2)", "I"),
}


@pytest.mark.parametrize("name", PETROV)
def test_petrov_type_without_roots_and_assumptions(name):
    line, wanted = PETROV[name]
    if "Cartesian" in name:
        pytest.importorskip("flint")
    g = Metric.from_line_element(line)
    before = g.field.assumptions
    assert g.petrov_type == wanted
    assert g.field.assumptions == before


def test_general_metric_of_three_coordinates():
    """The Gauss-Bonnet density vanishes, which the code does not know; once minutes without python-flint."""
    g = Metric.from_line_element(
        "A(x,y,z)*dx^2 + B(x,y,z)*dy^2 + C(x,y,z)*dz^2 + 2*D(x,y,z)*dx*dy + 2*E(x,y,z)*dy*dz", backend="sympy"
    )
    assert g.gauss_bonnet().is_zero
    shown = str(g.kretschmann())  # tens of thousands of terms
    assert shown.count("Derivative(A(x, y, z), (x, 2))") + shown.count("Derivative(A(x, y, z), (y, 2))") > 10


def test_printed_results_are_read_again():
    g = Metric.from_line_element(ODD["Bondi"])
    values = sorted(g.riemann().components.values(), key=lambda v: v.size())
    for value in (values[0], values[-1]):
        assert g.field(str(value)) == g.field(long_text(value)) == value
        assert value.latex().count("{") == value.latex().count("}")
