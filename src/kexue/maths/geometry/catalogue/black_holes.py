"""Black holes and other stationary solutions."""

from kexue.maths.geometry.catalogue.entry import Entry

__all__ = ["BLACK_HOLES"]

_SPHERE = ("r*dtheta", "r*sin(theta)*dphi")
_STATIC = ("dt", "dr", "r*dtheta", "r*sin(theta)*dphi")
_FRAME = ("-f", "1/f", "1", "1")
_CARTER = ("dt - a*sin(theta)^2*dphi", "dr", "dtheta", "sin(theta)*((r^2+a^2)*dphi - a*dt)")
_CARTER_ETA = ("-Delta/Sigma", "Sigma/Delta", "Sigma", "1/Sigma")
_SPHERICAL = "t r theta phi"
_BOOK = "Stephani et al., Exact Solutions of Einstein's Field Equations, 2nd ed. (2003)"
_KERR_POLYNOMIAL = "r^6 - 15*r^4*a^2*cos(theta)^2 + 15*r^2*a^4*cos(theta)^4 - a^6*cos(theta)^6"


def _static(title: str, f: str, source: str, known: dict[str, str], constant: str | None = None) -> Entry:
    """-f dt^2 + dr^2/f + r^2 dOmega^2 in its rigid frame."""
    return Entry(title, _SPHERICAL, source, _STATIC, _FRAME, definitions={"f": f}, known=known, constant=constant)


BLACK_HOLES = {
    "schwarzschild": _static(
        "Schwarzschild",
        "1 - 2*M/r",
        "K. Schwarzschild (1916); articles 4065, 4076",
        {"R": "0", "R_abcd R^abcd": "48*M^2/r^6", "Petrov": "D"},
        "0",
    ),
    "schwarzschild_isotropic": Entry(
        "Schwarzschild, isotropic coordinates",
        "t rho theta phi",
        f"{_BOOK}, chapter 15",
        line="-((1 - M/(2*rho))/(1 + M/(2*rho)))^2*dt^2"
        " + (1 + M/(2*rho))^4*(drho^2 + rho^2*(dtheta^2 + sin(theta)^2*dphi^2))",
        known={"R": "0", "Petrov": "D"},
        constant="0",
    ),
    "schwarzschild_eddington_finkelstein": Entry(
        "Schwarzschild, ingoing Eddington-Finkelstein coordinates",
        "v r theta phi",
        "A. S. Eddington (1924), D. Finkelstein (1958)",
        ("dv", "dr - f*dv/2", *_SPHERE),
        (("0", "1", "0", "0"), ("1", "0", "0", "0"), ("0", "0", "1", "0"), ("0", "0", "0", "1")),
        definitions={"f": "1 - 2*M/r"},
        known={"R": "0", "R_abcd R^abcd": "48*M^2/r^6", "Petrov": "D"},
        constant="0",
    ),
    "schwarzschild_painleve_gullstrand": Entry(
        "Schwarzschild, Painleve-Gullstrand coordinates",
        _SPHERICAL,
        "P. Painleve (1921), A. Gullstrand (1922)",
        line="-dt^2 + (dr + sqrt(2*M/r)*dt)^2 + r^2*(dtheta^2 + sin(theta)^2*dphi^2)",
        known={"R": "0", "R_abcd R^abcd": "48*M^2/r^6", "Petrov": "D"},
        constant="0",
    ),
    "schwarzschild_de_sitter": _static(
        "Schwarzschild-de Sitter (Kottler)",
        "1 - 2*M/r - Lambda*r^2/3",
        "F. Kottler (1918)",
        {"R": "4*Lambda", "R_abcd R^abcd": "48*M^2/r^6 + 8*Lambda^2/3", "Petrov": "D"},
        "Lambda",
    ),
    "reissner_nordstrom": _static(
        "Reissner-Nordstrom",
        "1 - 2*M/r + Q^2/r^2",
        "H. Reissner (1916), G. Nordstrom (1918)",
        {"R": "0", "R_abcd R^abcd": "48*M^2/r^6 - 96*M*Q^2/r^7 + 56*Q^4/r^8", "Petrov": "D"},
    ),
    "kerr": Entry(
        "Kerr, Boyer-Lindquist coordinates",
        _SPHERICAL,
        "R. P. Kerr (1963); frame of B. Carter (1968)",
        _CARTER,
        _CARTER_ETA,
        definitions={"Sigma": "r^2 + a^2*cos(theta)^2", "Delta": "r^2 - 2*M*r + a^2"},
        known={"R": "0", "R_abcd R^abcd": f"48*M^2*({_KERR_POLYNOMIAL})/(r^2 + a^2*cos(theta)^2)^6", "Petrov": "D"},
        constant="0",
    ),
    "kerr_newman": Entry(
        "Kerr-Newman",
        _SPHERICAL,
        "E. T. Newman et al. (1965); frame of B. Carter (1968)",
        _CARTER,
        _CARTER_ETA,
        definitions={"Sigma": "r^2 + a^2*cos(theta)^2", "Delta": "r^2 - 2*M*r + a^2 + Q^2"},
        known={
            "R": "0",
            "R_abcd R^abcd": f"(48*M^2*({_KERR_POLYNOMIAL})"
            " - 96*M*Q^2*r*(r^4 - 10*a^2*r^2*cos(theta)^2 + 5*a^4*cos(theta)^4)"
            " + 8*Q^4*(7*r^4 - 34*a^2*r^2*cos(theta)^2 + 7*a^4*cos(theta)^4))/(r^2 + a^2*cos(theta)^2)^6",
            "Petrov": "D",
        },
    ),
    "kerr_de_sitter": Entry(
        "Kerr-(anti-)de Sitter",
        _SPHERICAL,
        "B. Carter (1973)",
        ("(dt - a*sin(theta)^2*dphi)/Xi", "dr", "dtheta", "sin(theta)*((r^2+a^2)*dphi - a*dt)/Xi"),
        ("-Delta/Sigma", "Sigma/Delta", "Sigma/D", "D/Sigma"),
        definitions={
            "Sigma": "r^2 + a^2*cos(theta)^2",
            "Delta": "(r^2 + a^2)*(1 - Lambda*r^2/3) - 2*M*r",
            "D": "1 + Lambda*a^2*cos(theta)^2/3",
            "Xi": "1 + Lambda*a^2/3",
        },
        known={"R": "4*Lambda", "Petrov": "D"},
        constant="Lambda",
    ),
    "taub_nut": Entry(
        "Taub-NUT",
        _SPHERICAL,
        "A. H. Taub (1951); E. Newman, L. Tamburino, T. Unti (1963)",
        ("dt + 2*n*cos(theta)*dphi", "dr", "dtheta", "sin(theta)*dphi"),
        ("-f", "1/f", "r^2 + n^2", "r^2 + n^2"),
        definitions={"f": "(r^2 - 2*M*r - n^2)/(r^2 + n^2)"},
        known={"R": "0", "Petrov": "D"},
        constant="0",
    ),
    "myers_perry_5d": Entry(
        "Myers-Perry, five dimensions, one rotation",
        "t r theta phi psi",
        "R. C. Myers, M. J. Perry (1986)",
        ("dt - a*sin(theta)^2*dphi", "dr", "dtheta", "sin(theta)*((r^2+a^2)*dphi - a*dt)", "r*cos(theta)*dpsi"),
        ("-Delta/Sigma", "Sigma/Delta", "Sigma", "1/Sigma", "1"),
        definitions={"Sigma": "r^2 + a^2*cos(theta)^2", "Delta": "r^2 + a^2 - mu"},
        known={
            "R": "0",
            "R_abcd R^abcd": "24*mu^2*(4*r^2 - 3*(r^2 + a^2*cos(theta)^2))*(4*r^2 - (r^2 + a^2*cos(theta)^2))"
            "/(r^2 + a^2*cos(theta)^2)^6",
        },
        constant="0",
    ),
    "schwarzschild_5d": Entry(
        "Schwarzschild-Tangherlini, five dimensions",
        "t r chi theta phi",
        "F. R. Tangherlini (1963)",
        ("dt", "dr", "r*dchi", "r*sin(chi)*dtheta", "r*sin(chi)*sin(theta)*dphi"),
        ("-f", "1/f", "1", "1", "1"),
        definitions={"f": "1 - mu/r^2"},
        known={"R": "0", "R_abcd R^abcd": "72*mu^2/r^8"},
        constant="0",
    ),
    "btz": Entry(
        "Banados-Teitelboim-Zanelli, rotating, three dimensions",
        "t r phi",
        "M. Banados, C. Teitelboim, J. Zanelli (1992)",
        ("dt", "dr", "r*(dphi - J/(2*r^2)*dt)"),
        ("-f", "1/f", "1"),
        definitions={"f": "-M + r^2/l^2 + J^2/(4*r^2)"},
        known={"R": "-6/l^2", "R_abcd R^abcd": "12/l^4"},
        constant="-2/l^2",
    ),
    "bardeen": _static(
        "Bardeen's regular black hole",
        "1 - 2*M*r^2/(r^2 + g^2)^(3/2)",
        "J. M. Bardeen (1968)",
        {"R": "6*M*g^2*(4*g^2 - r^2)/(r^2 + g^2)^(7/2)", "Petrov": "D"},
    ),
    "hayward": _static(
        "Hayward's regular black hole",
        "1 - 2*M*r^2/(r^3 + 2*M*l^2)",
        "S. A. Hayward (2006)",
        {"R": "24*M^2*l^2*(4*M*l^2 - r^3)/(r^3 + 2*M*l^2)^3", "Petrov": "D"},
    ),
    "static_spherical": Entry(
        "Static and spherically symmetric, general",
        _SPHERICAL,
        f"{_BOOK}, chapter 15",
        _STATIC,
        ("-exp(2*nu(r))", "exp(2*lambda(r))", "1", "1"),
    ),
    "vaidya": Entry(
        "Vaidya, ingoing",
        "v r theta phi",
        "P. C. Vaidya (1951)",
        ("dv", "dr - f*dv/2", *_SPHERE),
        (("0", "1", "0", "0"), ("1", "0", "0", "0"), ("0", "0", "1", "0"), ("0", "0", "0", "1")),
        definitions={"f": "1 - 2*m(v)/r"},
        known={"R": "0", "R_ab R^ab": "0", "R_abcd R^abcd": "48*m(v)^2/r^6", "Petrov": "D"},
    ),
    "curzon": Entry(
        "Curzon-Chazy",
        "t rho z phi",
        "H. E. J. Curzon (1924), J. Chazy (1924)",
        ("dt", "drho", "dz", "rho*dphi"),
        ("-exp(-2*m/R)", "exp(2*m/R - m^2*rho^2/R^4)", "exp(2*m/R - m^2*rho^2/R^4)", "exp(2*m/R)"),
        definitions={"R": "sqrt(rho^2 + z^2)"},
        known={"R": "0"},
        constant="0",
    ),
    "zipoy_voorhees": Entry(
        "Zipoy-Voorhees (gamma metric), prolate spheroidal coordinates",
        "t x y phi",
        "D. M. Zipoy (1966), B. H. Voorhees (1970)",
        line="-F*dt^2 + k^2/F*(E*(x^2-y^2)*(dx^2/(x^2-1) + dy^2/(1-y^2)) + (x^2-1)*(1-y^2)*dphi^2)",
        definitions={"F": "((x-1)/(x+1))^d", "E": "((x^2-1)/(x^2-y^2))^(d^2)"},
        known={"R": "0", "Petrov": "I"},
        constant="0",
    ),
    "petrov_iii": Entry(
        "Petrov's vacuum of type III (Robinson-Trautman)",
        "u r x y",
        f"A. Z. Petrov (1962); {_BOOK}, chapter 28",
        line="r^2/x^3*(dx^2 + dy^2) - 2*du*dr + 3/2*x*du^2",
        known={"R": "0", "R_abcd R^abcd": "0", "Petrov": "III"},
        constant="0",
    ),
    "taub_nut_euclidean": Entry(
        "Taub-NUT, Riemannian and self-dual",
        "r psi theta phi",
        "S. W. Hawking (1977)",
        ("dr", "dpsi + cos(theta)*dphi", "r*dtheta", "r*sin(theta)*dphi"),
        ("V", "16*m^2/V", "V", "V"),
        definitions={"V": "1 + 4*m/r"},
        known={"R": "0"},
        constant="0",
    ),
    "c_metric": Entry(
        "C-metric, Hong-Teo form",
        "tau y x phi",
        "T. Levi-Civita (1918); K. Hong, E. Teo (2003)",
        ("dtau", "dy", "dx", "dphi"),
        ("-F/(A^2*(x-y)^2)", "1/(F*A^2*(x-y)^2)", "1/(G*A^2*(x-y)^2)", "G/(A^2*(x-y)^2)"),
        definitions={"F": "(y^2 - 1)*(1 + 2*m*A*y)", "G": "(1 - x^2)*(1 + 2*m*A*x)"},
        known={"R": "0", "R_abcd R^abcd": "48*m^2*A^6*(x - y)^6", "Petrov": "D"},
        constant="0",
    ),
    "planar_ads_black_hole": Entry(
        "Planar anti-de Sitter black hole",
        "t z x y",
        "J. P. S. Lemos (1995)",
        ("dt", "dz", "dx", "dy"),
        ("-l^2*f/z^2", "l^2/(z^2*f)", "l^2/z^2", "l^2/z^2"),
        definitions={"f": "1 - z^3/h^3"},
        known={"R": "-12/l^2", "R_abcd R^abcd": "12*(2 + z^6/h^6)/l^4", "Petrov": "D"},
        constant="-3/l^2",
    ),
}
