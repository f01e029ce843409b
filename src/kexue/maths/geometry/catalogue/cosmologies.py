"""Cosmologies, waves, wormholes and warp drives."""

from kexue.maths.geometry.catalogue.entry import Entry

__all__ = ["COSMOLOGIES"]

_SPHERICAL = "t r theta phi"
_CARTESIAN = "t x y z"
_NULL = (("0", "-1", "0", "0"), ("-1", "0", "0", "0"), ("0", "0", "1", "0"), ("0", "0", "0", "1"))
_SIGMA = ("cos(psi)*dtheta + sin(psi)*sin(theta)*dphi", "sin(psi)*dtheta - cos(psi)*sin(theta)*dphi")

COSMOLOGIES = {
    "minkowski": Entry(
        "Minkowski",
        _CARTESIAN,
        "H. Minkowski (1908)",
        line="-dt^2 + dx^2 + dy^2 + dz^2",
        known={"R": "0", "R_abcd R^abcd": "0", "Petrov": "O"},
        constant="0",
    ),
    "rindler": Entry(
        "Rindler",
        _CARTESIAN,
        "W. Rindler (1966)",
        line="-g^2*x^2*dt^2 + dx^2 + dy^2 + dz^2",
        known={"R": "0", "R_abcd R^abcd": "0", "Petrov": "O"},
        constant="0",
    ),
    "de_sitter": Entry(
        "de Sitter, flat slices",
        _CARTESIAN,
        "W. de Sitter (1917)",
        line="-dt^2 + exp(2*H*t)*(dx^2 + dy^2 + dz^2)",
        known={"R": "12*H^2", "R_abcd R^abcd": "24*H^4", "Petrov": "O"},
        constant="3*H^2",
    ),
    "de_sitter_static": Entry(
        "de Sitter, static",
        _SPHERICAL,
        "W. de Sitter (1917)",
        line="-(1 - r^2/l^2)*dt^2 + dr^2/(1 - r^2/l^2) + r^2*(dtheta^2 + sin(theta)^2*dphi^2)",
        known={"R": "12/l^2", "R_abcd R^abcd": "24/l^4", "Petrov": "O"},
        constant="3/l^2",
    ),
    "anti_de_sitter": Entry(
        "Anti-de Sitter, global",
        "t rho theta phi",
        "S. W. Hawking, G. F. R. Ellis, The Large Scale Structure of Space-Time (1973)",
        line="l^2*(-cosh(rho)^2*dt^2 + drho^2 + sinh(rho)^2*(dtheta^2 + sin(theta)^2*dphi^2))",
        known={"R": "-12/l^2", "R_abcd R^abcd": "24/l^4", "Petrov": "O"},
        constant="-3/l^2",
    ),
    "anti_de_sitter_5d": Entry(
        "Anti-de Sitter, five dimensions, Poincare coordinates",
        "t x y z u",
        "J. Maldacena (1998)",
        line="l^2/u^2*(-dt^2 + dx^2 + dy^2 + dz^2 + du^2)",
        known={"R": "-20/l^2", "R_abcd R^abcd": "40/l^4"},
        constant="-4/l^2",
    ),
    "flrw": Entry(
        "Friedmann-Lemaitre-Robertson-Walker",
        _SPHERICAL,
        "A. Friedmann (1922), G. Lemaitre (1927), H. P. Robertson (1935), A. G. Walker (1937)",
        line="-dt^2 + a(t)^2*(dr^2/(1 - k*r^2) + r^2*(dtheta^2 + sin(theta)^2*dphi^2))",
        known={"R": "6*(a(t)*a''(t) + a'(t)^2 + k)/a(t)^2", "Petrov": "O"},
    ),
    "flrw_closed": Entry(
        "Closed Friedmann universe",
        "t chi theta phi",
        "A. Friedmann (1922)",
        line="-dt^2 + a(t)^2*(dchi^2 + sin(chi)^2*(dtheta^2 + sin(theta)^2*dphi^2))",
        known={"R": "6*(a(t)*a''(t) + a'(t)^2 + 1)/a(t)^2", "Petrov": "O"},
    ),
    "flrw_open": Entry(
        "Open Friedmann universe",
        "t chi theta phi",
        "A. Friedmann (1924)",
        line="-dt^2 + a(t)^2*(dchi^2 + sinh(chi)^2*(dtheta^2 + sin(theta)^2*dphi^2))",
        known={"R": "6*(a(t)*a''(t) + a'(t)^2 - 1)/a(t)^2", "Petrov": "O"},
    ),
    "kasner": Entry(
        "Kasner, exponents by the parameter u",
        _CARTESIAN,
        "E. Kasner (1921)",
        line="-dt^2 + t^(2*p1)*dx^2 + t^(2*p2)*dy^2 + t^(2*p3)*dz^2",
        definitions={
            "p1": "-u/(1 + u + u^2)",
            "p2": "(1 + u)/(1 + u + u^2)",
            "p3": "u*(1 + u)/(1 + u + u^2)",
        },
        known={"R": "0", "R_abcd R^abcd": "16*u^2*(1 + u)^2/(t^4*(1 + u + u^2)^3)", "Petrov": "I"},
        constant="0",
    ),
    "bianchi_i": Entry(
        "Bianchi type I",
        _CARTESIAN,
        "L. Bianchi (1898); A. H. Taub (1951)",
        line="-dt^2 + a(t)^2*dx^2 + b(t)^2*dy^2 + c(t)^2*dz^2",
        known={
            "R": "2*(a''(t)/a(t) + b''(t)/b(t) + c''(t)/c(t) + a'(t)*b'(t)/(a(t)*b(t)) + b'(t)*c'(t)/(b(t)*c(t))"
            " + c'(t)*a'(t)/(c(t)*a(t)))"
        },
    ),
    "bianchi_ix": Entry(
        "Bianchi type IX (mixmaster)",
        "t psi theta phi",
        "L. Bianchi (1898); C. W. Misner (1969)",
        ("dt", *_SIGMA, "dpsi + cos(theta)*dphi"),
        ("-1", "a(t)^2", "b(t)^2", "c(t)^2"),
    ),
    "general_diagonal": Entry(
        "General diagonal metric of all four coordinates",
        "t x y z",
        "orthogonal coordinates in general; no solution, a test of the algebra",
        line="-A(t,x,y,z)^2*dt^2 + B(t,x,y,z)^2*dx^2 + C(t,x,y,z)^2*dy^2 + D(t,x,y,z)^2*dz^2",
        known={"Petrov": "I"},
    ),
    "goedel": Entry(
        "Goedel",
        _CARTESIAN,
        "K. Goedel (1949)",
        ("dt + exp(x)*dz", "dx", "dy", "exp(x)*dz"),
        ("-A^2", "A^2", "A^2", "A^2/2"),
        known={"R": "-1/A^2", "R_ab R^ab": "1/A^4", "Petrov": "D"},
    ),
    "einstein_static": Entry(
        "Einstein's static universe",
        "t chi theta phi",
        "A. Einstein (1917)",
        line="-dt^2 + l^2*(dchi^2 + sin(chi)^2*(dtheta^2 + sin(theta)^2*dphi^2))",
        known={"R": "6/l^2", "Petrov": "O"},
    ),
    "lemaitre_tolman_bondi": Entry(
        "Lemaitre-Tolman-Bondi",
        _SPHERICAL,
        "G. Lemaitre (1933), R. C. Tolman (1934), H. Bondi (1947)",
        line="-dt^2 + diff(R(t,r), r)^2/(1 + 2*E(r))*dr^2 + R(t,r)^2*(dtheta^2 + sin(theta)^2*dphi^2)",
        known={"Petrov": "D"},
    ),
    "pp_wave": Entry(
        "Plane-fronted wave with parallel rays (Brinkmann)",
        "u v x y",
        "H. W. Brinkmann (1925)",
        ("du", "dv - H(u,x,y)*du/2", "dx", "dy"),
        _NULL,
        known={"R": "0", "R_ab R^ab": "0", "R_abcd R^abcd": "0", "Petrov": "N"},
    ),
    "plane_wave_rosen": Entry(
        "Plane wave, Rosen form",
        "u v x y",
        "N. Rosen (1937)",
        line="-2*du*dv + F(u)^2*dx^2 + G(u)^2*dy^2",
        known={"R": "0", "R_ab R^ab": "0", "R_abcd R^abcd": "0", "Petrov": "N"},
    ),
    "colliding_plane_waves": Entry(
        "Colliding plane waves, general (Szekeres form)",
        "u v x y",
        "P. Szekeres (1972)",
        line="-2*exp(-M(u,v))*du*dv + exp(-U(u,v))*(exp(V(u,v))*dx^2 + exp(-V(u,v))*dy^2)",
    ),
    "alcubierre": Entry(
        "Alcubierre's warp drive",
        _CARTESIAN,
        "M. Alcubierre (1994)",
        ("dt", "dx - v(t)*f(t,x,y,z)*dt", "dy", "dz"),
        ("-1", "1", "1", "1"),
    ),
    "morris_thorne": Entry(
        "Morris-Thorne wormhole",
        _SPHERICAL,
        "M. S. Morris, K. S. Thorne (1988)",
        ("dt", "dr", "r*dtheta", "r*sin(theta)*dphi"),
        ("-exp(2*Phi(r))", "1/(1 - b(r)/r)", "1", "1"),
        known={"Petrov": "D"},
    ),
    "ellis_wormhole": Entry(
        "Ellis' drainhole without gravity",
        "t l theta phi",
        "H. G. Ellis (1973)",
        line="-dt^2 + dl^2 + (l^2 + b^2)*(dtheta^2 + sin(theta)^2*dphi^2)",
        known={"R": "-2*b^2/(l^2 + b^2)^2", "R_abcd R^abcd": "12*b^4/(l^2 + b^2)^4", "Petrov": "D"},
    ),
    "melvin": Entry(
        "Melvin's magnetic universe",
        "t rho z phi",
        "M. A. Melvin (1964)",
        ("dt", "drho", "dz", "rho*dphi"),
        ("-F^2", "F^2", "F^2", "1/F^2"),
        definitions={"F": "1 + B^2*rho^2/4"},
        known={"R": "0", "Petrov": "D"},
    ),
    "bertotti_robinson": Entry(
        "Bertotti-Robinson",
        _SPHERICAL,
        "B. Bertotti (1959), I. Robinson (1959)",
        line="Q^2/r^2*(-dt^2 + dr^2 + r^2*(dtheta^2 + sin(theta)^2*dphi^2))",
        known={"R": "0", "R_ab R^ab": "4/Q^4", "R_abcd R^abcd": "8/Q^4", "Petrov": "O"},
    ),
    "cosmic_string": Entry(
        "Cosmic string",
        "t r phi z",
        "A. Vilenkin (1981)",
        line="-dt^2 + dr^2 + (1 - 4*mu)^2*r^2*dphi^2 + dz^2",
        known={"R": "0", "R_abcd R^abcd": "0", "Petrov": "O"},
        constant="0",
    ),
}
