"""Riemannian manifolds in two and more dimensions."""

from kexue.maths.geometry.catalogue.entry import Entry

__all__ = ["MANIFOLDS"]

_GEOMETRY = "M. P. do Carmo, Riemannian Geometry (1992)"

MANIFOLDS = {
    "sphere": Entry(
        "Sphere",
        "theta phi",
        "articles 4058, 4076",
        ("dtheta", "sin(theta)*dphi"),
        ("a^2", "a^2"),
        known={"R": "2/a^2", "R_abcd R^abcd": "4/a^4"},
        constant="1/a^2",
    ),
    "sphere_3": Entry(
        "Three-sphere",
        "chi theta phi",
        _GEOMETRY,
        line="a^2*(dchi^2 + sin(chi)^2*(dtheta^2 + sin(theta)^2*dphi^2))",
        known={"R": "6/a^2", "R_abcd R^abcd": "12/a^4"},
        constant="2/a^2",
    ),
    "torus": Entry(
        "Torus of revolution",
        "u v",
        _GEOMETRY,
        line="(b + a*cos(u))^2*dv^2 + a^2*du^2",
        known={"R": "2*cos(u)/(a*(b + a*cos(u)))"},
    ),
    "poincare_half_plane": Entry(
        "Poincare half-plane",
        "x y",
        "H. Poincare (1882)",
        line="(dx^2 + dy^2)/y^2",
        known={"R": "-2", "R_abcd R^abcd": "4"},
        constant="-1",
    ),
    "poincare_disk": Entry(
        "Poincare disk",
        "x y",
        "H. Poincare (1882)",
        line="4*(dx^2 + dy^2)/(1 - x^2 - y^2)^2",
        known={"R": "-2"},
        constant="-1",
    ),
    "hyperbolic_space": Entry(
        "Hyperbolic space, half-space model",
        "x y z",
        _GEOMETRY,
        line="(dx^2 + dy^2 + dz^2)/z^2",
        known={"R": "-6"},
        constant="-2",
    ),
    "isothermal": Entry(
        "Isothermal coordinates",
        "x y",
        "article 4033",
        line="f(x,y)*(dx^2 + dy^2)",
        known={"R": "-(diff(f(x,y),x,2) + diff(f(x,y),y,2))/f(x,y)^2 + (diff(f(x,y),x)^2 + diff(f(x,y),y)^2)/f(x,y)^3"},
    ),
    "surface_of_revolution": Entry(
        "Surface of revolution",
        "r phi",
        _GEOMETRY,
        line="(1 + h'(r)^2)*dr^2 + r^2*dphi^2",
        known={"R": "2*h'(r)*h''(r)/(r*(1 + h'(r)^2)^2)"},
    ),
    "graph": Entry(
        "Surface z = h(x, y)",
        "x y",
        _GEOMETRY,
        line="dx^2 + dy^2 + (diff(h(x,y),x)*dx + diff(h(x,y),y)*dy)^2",
        known={
            "R": "2*(diff(h(x,y),x,2)*diff(h(x,y),y,2) - diff(h(x,y),x,y)^2)"
            "/(1 + diff(h(x,y),x)^2 + diff(h(x,y),y)^2)^2"
        },
    ),
    "fubini_study": Entry(
        "Complex projective plane (Fubini-Study)",
        "r psi theta phi",
        "G. W. Gibbons, C. N. Pope (1978)",
        ("dr", "dpsi + cos(theta)*dphi", "dtheta", "sin(theta)*dphi"),
        ("1/(1 + r^2)^2", "r^2/(4*(1 + r^2)^2)", "r^2/(4*(1 + r^2))", "r^2/(4*(1 + r^2))"),
        known={"R": "24", "R_abcd R^abcd": "192"},
        constant="6",
    ),
    "eguchi_hanson": Entry(
        "Eguchi-Hanson",
        "r psi theta phi",
        "T. Eguchi, A. J. Hanson (1978)",
        ("dr", "dpsi + cos(theta)*dphi", "dtheta", "sin(theta)*dphi"),
        ("1/(1 - a^4/r^4)", "r^2*(1 - a^4/r^4)/4", "r^2/4", "r^2/4"),
        known={"R": "0", "R_abcd R^abcd": "384*a^8/r^12"},
        constant="0",
    ),
    "heisenberg": Entry(
        "Heisenberg group (Nil geometry)",
        "x y z",
        "W. P. Thurston (1997)",
        ("dx", "dy", "dz - x*dy"),
        known={"R": "-1/2", "R_ab R^ab": "3/4"},
    ),
    "sol": Entry(
        "Sol geometry",
        "x y z",
        "W. P. Thurston (1997)",
        line="exp(2*z)*dx^2 + exp(-2*z)*dy^2 + dz^2",
        known={"R": "-2", "R_ab R^ab": "4"},
    ),
}
