"""The examples of the articles (4054 - 4076, 3963 - 4046), exactly."""

import subprocess
import sys

import pytest
import sympy

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry import (
    Connection,
    Conventions,
    Form,
    Frame,
    Metric,
    Tensor,
    catalogue,
    einstein_maxwell,
    killing_dimension,
    killing_vectors,
    lie_bracket,
    perfect_fluid,
)
from kexue.maths.geometry.invariants import petrov


@pytest.fixture(scope="module")
def schwarzschild():
    return Metric.from_coframe(
        ["sqrt(f)*dt", "dr/sqrt(f)", "r*dtheta", "r*sin(theta)*dphi"],
        [-1, 1, 1, 1],
        "t r theta phi",
        definitions={"f": "1 - 2*M/r"},
    )


def components(tensor):
    return {index: str(value) for index, value in tensor.independent().items()}


def test_sphere():
    """omega^2_1 = cos(theta) dphi, K = +1, R_1212 = +1 with d eta_ab = omega_ab + omega_ba."""
    g = Metric.from_coframe(["dtheta", "sin(theta)*dphi"], None, "theta phi")
    omega, curvature = g.connection_forms(), g.curvature_forms()
    assert omega[1][0] == g.form("cos(theta)*dphi")
    assert omega[0][1] == -omega[1][0]
    assert curvature[0][1][0, 1] == g.field("sin(theta)")
    assert g.riemann("dddd", "frame")[0, 1, 0, 1] == 1


def test_schwarzschild(schwarzschild):
    g = schwarzschild
    omega = g.connection_forms()
    root = "sqrt(1 - 2*M/r)"
    assert omega[0][1] == g.form("M/r^2*dt")
    assert omega[2][1] == g.form(f"{root}*dtheta")
    assert omega[3][1] == g.form(f"{root}*sin(theta)*dphi")
    assert omega[3][2] == g.form("cos(theta)*dphi")
    assert components(g.riemann("dddd", "frame")) == {
        (0, 1, 0, 1): "-2*M/r**3",
        (0, 2, 0, 2): "M/r**3",
        (0, 3, 0, 3): "M/r**3",
        (1, 2, 1, 2): "-M/r**3",
        (1, 3, 1, 3): "-M/r**3",
        (2, 3, 2, 3): "2*M/r**3",
    }
    assert g.ricci().is_zero
    assert g.kretschmann() == g.field("48*M^2/r^6")
    assert g.newman_penrose().psi[2] == g.field("-M/r^3")


def test_kerr():
    """Nine frame components made of two functions, thirteen coordinate components."""
    g = catalogue.metric("kerr")
    frame = g.orthonormal_frame
    tensor = g.riemann("dddd").to_frame(frame)
    one = g.field("M*r*(r^2-3*a^2*cos(theta)^2)/(r^2+a^2*cos(theta)^2)^3")
    two = g.field("M*a*cos(theta)*(3*r^2-a^2*cos(theta)^2)/(r^2+a^2*cos(theta)^2)^3")
    independent = Tensor(frame, "dddd", tensor.components, g.riemann("dddd").symmetry).independent()
    assert len(independent) == 9
    allowed = [one, one * 2, two, two * 2]
    assert all(any(v in (w, -w) for w in allowed) for v in independent.values())
    assert len(g.riemann("dddd").independent()) == 13
    assert g.is_vacuum
    assert g.weyl_squared() == g.kretschmann()
    double = g.field("96*M^2*a*r*cos(theta)*(3*r^2-a^2*cos(theta)^2)*(r^2-3*a^2*cos(theta)^2)")
    assert g.chern_pontryagin() ** 2 == (double / g.field("(r^2+a^2*cos(theta)^2)^6")) ** 2


def test_isothermal():
    """K = -laplacian(ln f)/(2 f), R^0_101 = -laplacian(f)/(2 f) + |grad f|^2/(2 f^2)."""
    g = Metric.from_line_element("f(x,y)*(dx^2 + dy^2)")
    flat = Metric.from_line_element("dx^2 + dy^2")
    log = flat.field("log(f(x,y))")
    k = -flat.laplacian(log) / (2 * flat.field("f(x,y)"))
    assert g.ricci_scalar() / 2 == g.field(k)
    wanted = "-(diff(f(x,y),x,2)+diff(f(x,y),y,2))/(2*f(x,y)) + (diff(f(x,y),x)^2+diff(f(x,y),y)^2)/(2*f(x,y)^2)"
    assert g.riemann()["x", "y", "x", "y"] == g.field(wanted)


def test_numbers_of_components():
    """n^2 (n^2 - 1)/12 components: 1, 6, 20; the pairs show one more in four dimensions."""
    for n, count in ((2, 1), (3, 6), (4, 20)):
        names = ["t", "x", "y", "z"][:n]
        arguments = ",".join(names)
        rows = [[f"g{min(i, j)}{max(i, j)}({arguments})" for j in range(n)] for i in range(n)]
        if n == 4:  # a general one has thousands of terms; this one is enough to fill every pair
            rows = [["1 + x*y*z*t" if i == j else f"({names[i]}*{names[j]})^2/9" for j in range(n)] for i in range(n)]
        g = Metric(rows, names)
        found = len(g.riemann("dddd").independent())
        assert found == count + (n == 4)  # R_0123, R_0213, R_0312 are related by one identity


def test_two_dimensions_quadratic_term_and_gauss_bonnet():
    """Total curvature: sphere 4 pi, torus 0."""
    for name, limits, total in (
        ("sphere", {"theta": (0, "pi"), "phi": (0, "2*pi")}, 4 * sympy.pi),
        ("torus", {"u": (0, "2*pi"), "v": (0, "2*pi")}, 0),
    ):
        g = catalogue.metric(name)
        density = Form(g.field, 2, {(0, 1): g.ricci_scalar() / 2 * g.volume})
        assert sympy.simplify(sympy.Abs(density.integrate(limits))) == total


def test_constant_curvature():
    """R_abcd = K (g_ac g_bd - g_ad g_bc)."""
    for name in ("sphere_3", "hyperbolic_space", "anti_de_sitter", "de_sitter"):
        g = catalogue.metric(name)
        n = g.dimension
        k = g.ricci_scalar() / (n * (n - 1))
        metric = g.tensor
        r = g.riemann("dddd")
        for (a, b, c, d), value in r.components.items():
            assert value == k * (metric[a, c] * metric[b, d] - metric[a, d] * metric[b, c])


def test_weyl_is_conformally_invariant():
    g = catalogue.metric("schwarzschild")
    scaled = g.conformal("exp(2*h(t,r))*(1+cos(theta)^2)")
    assert scaled.weyl() == Tensor(scaled.coordinate_frame, "uddd", g.weyl().components)
    assert not scaled.is_vacuum


def test_cotton_and_bach():
    flat = Metric.from_line_element("f(x,y)*(dx^2+dy^2+dz^2)")
    assert flat.cotton().is_zero
    assert flat.weyl().is_zero
    assert not catalogue.metric("heisenberg").cotton().is_zero
    assert catalogue.metric("schwarzschild_de_sitter").bach().is_zero  # Einstein metrics are Bach-flat
    general = catalogue.metric("bianchi_i").bach()
    assert not general.is_zero
    assert general.contract(0, 1).is_zero  # trace-free
    conformal = catalogue.metric("kerr").conformal("r^2")
    assert conformal.bach().is_zero  # conformally Einstein


def test_commutator_of_covariant_derivatives():
    """A^m_;a;b - A^m_;b;a = -R^m_nab A^n."""
    g = catalogue.metric("reissner_nordstrom")
    v = g.vector(["r*t", "sin(theta)", "phi", "t^2"])
    commutator = g.commutator(v)
    wanted = g.riemann().outer(v).contract(1, 4)
    assert commutator == -wanted


def test_laplacian_against_the_definition():
    g = catalogue.metric("kerr")
    f = "t*r*sin(theta)*phi"
    assert g.laplacian(f) == g.divergence(g.gradient(f))
    assert g.laplacian(f) == g.hessian(f).contract(0, 1).scalar()


def test_spherical_harmonics():
    g = Metric.from_line_element("dtheta^2 + sin(theta)^2*dphi^2")
    for text, eigenvalue in (("cos(theta)", -2), ("sin(theta)*cos(phi)", -2), ("3*cos(theta)^2-1", -6)):
        assert g.laplacian(text) == g.field(text) * eigenvalue


def test_geodesics_from_the_lagrangian():
    """The equations against Euler and Lagrange's, by SymPy."""
    g = Metric.from_line_element("-f(r)*dt^2 + dr^2/f(r) + 2*r*dt*dphi + r^2*dphi^2")
    s = sympy.Symbol("s")
    x = [sympy.Function(n)(s) for n in g.coordinates]
    replaced = dict(zip(map(sympy.Symbol, g.coordinates), x, strict=True))
    matrix = sympy.Matrix(g.tensor.to_sympy().tolist()).subs(replaced)
    v = sympy.Matrix([f.diff(s) for f in x])
    lagrangian = (v.T * matrix * v)[0] / 2
    lowered = sympy.Matrix([lagrangian.diff(f.diff(s)).diff(s) - lagrangian.diff(f) for f in x])
    wanted = (matrix.inv() * lowered).doit()
    ours = sympy.Matrix([e.lhs for e in g.geodesic_equations().to_sympy()]).doit()
    assert sympy.simplify(wanted - ours) == sympy.zeros(len(x), 1)


def test_jacobi_metric_of_kepler():
    """2 (E - V) times the flat metric; circular orbits r = -k/(2 E) are geodesics of it."""
    flat = Metric.from_line_element("dr^2 + r^2*dphi^2")
    g = flat.jacobi("E", "-k/r")
    gamma = g.christoffel()
    slope = gamma["r", "phi", "phi"]  # vanishes where a circle is a geodesic
    assert slope.to_sympy().subs(sympy.Symbol("r"), -sympy.Symbol("k") / (2 * sympy.Symbol("E"))).simplify() == 0


def test_sources():
    rn, kn = catalogue.metric("reissner_nordstrom"), catalogue.metric("kerr_newman")
    assert einstein_maxwell(rn, "-Q/r*dt").holds
    assert not einstein_maxwell(rn, "-2*Q/r*dt").holds
    assert einstein_maxwell(kn, "-Q*r/(r^2+a^2*cos(theta)^2)*(dt - a*sin(theta)^2*dphi)").holds
    fluid = perfect_fluid(catalogue.metric("flrw"))
    field = fluid.density.field
    assert fluid.density == field("3*(a'(t)^2 + k)/a(t)^2")
    assert fluid.pressure == field("-(2*a(t)*a''(t) + a'(t)^2 + k)/a(t)^2")
    assert set(fluid.velocity.components) == {(0,)}
    assert perfect_fluid(catalogue.metric("morris_thorne")) is None
    assert perfect_fluid(catalogue.metric("de_sitter")).velocity is None


@pytest.mark.parametrize(
    "line",
    [
        "-(1-2*m(v)/r)*dv^2 + 2*dv*dr + r^2*(dh^2 + sin(h)^2*dp^2)",  # null dust
        "2*du*dv + H(u,x,y)*du^2 + dx^2 + dy^2",
        "exp(2*A(z))*(-dt^2 + dx^2 + dy^2) + dz^2",  # the odd direction is in space
    ],
)
@pytest.mark.parametrize("turn", [1, -1])
def test_what_is_no_perfect_fluid(line, turn):
    g = Metric.from_line_element(line)
    assert perfect_fluid(g.conformal(turn)) is None


@pytest.mark.parametrize(
    ("name", "count"),
    [("sphere", 3), ("minkowski", 10), ("schwarzschild", 4), ("goedel", 5), ("kasner", 3), ("flrw", 6), ("torus", 1),
     ("heisenberg", 4), ("fubini_study", 8), ("pp_wave", 1), ("kerr", 2), ("sol", 3)],
)  # fmt: skip
def test_killing_vectors(name, count):
    g = catalogue.metric(name)
    assert killing_dimension(g) == count
    vectors = killing_vectors(g)
    assert len(vectors) <= count
    assert all(g.is_killing(v) for v in vectors)
    if name in ("sphere", "minkowski", "schwarzschild", "kerr"):
        assert len(vectors) == count
    for v in vectors[:2]:  # a Lie algebra
        assert g.is_killing(lie_bracket(v, vectors[-1]))


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("dr^2 + r^2*dphi^2 + dz^2", 6),  # translations are cos(phi) d/dr - sin(phi)/r d/dphi
        ("(dx^2 + dy^2)/y^2", 3),
        ("dr^2 + sinh(r)^2*dphi^2", 3),
        ("-x^2*dt^2 + dx^2", 3),
        ("-dt^2 + exp(2*H*t)*(dx^2 + dy^2)", 6),
    ],
)
def test_killing_vectors_in_crooked_coordinates(line, count):
    g = Metric.from_line_element(line)
    vectors = killing_vectors(g)
    assert len(vectors) == killing_dimension(g) == count
    assert all(g.is_killing(v) for v in vectors)


MYERS_PERRY = """S = r^2 + a^2*cos(h)^2 + b^2*sin(h)^2
    D = (r^2+a^2)*(r^2+b^2) - mu*r^2
    ds^2 = -dt^2 + mu/S*(dt - a*sin(h)^2*dphi - b*cos(h)^2*dpsi)^2 + S*r^2/D*dr^2 + S*dh^2
        + (r^2+a^2)*sin(h)^2*dphi^2 + (r^2+b^2)*cos(h)^2*dpsi^2"""


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("dr^2 + r^2*(dh^2 + sin(h)^2*dp^2)", 6),
        ("dh^2 + sin(h)^2*da^2 + cos(h)^2*db^2", 6),
        ("-dt^2 + dr^2 + r^2*dp^2 + dz^2", 10),
        ("dh^2 + sin(h)^2*dp^2 + k^2*(ds + cos(h)*dp)^2", 4),
        (MYERS_PERRY, 3),
        ("A(x,y,z)*dx^2 + B(x,y,z)*(dy + u(x,y,z)*dx)^2 + C(x,y,z)*dz^2", 0),
    ],
)
def test_killing_vectors_of_spaces_in_polar_coordinates(line, count):
    pytest.importorskip("flint")
    g = Metric.from_line_element(line)
    assert killing_dimension(g) == count
    vectors = killing_vectors(g)
    assert len(vectors) == count
    assert all(g.is_killing(v) for v in vectors)


def test_numbers_of_killing_vectors_that_are_not_found():
    """Left-invariant metrics on the rotation group have three, none of them of a coordinate but one."""
    g = Metric.from_line_element(
        "a^2*(cos(ps)*dth + sin(ps)*sin(th)*dph)^2 + b^2*(sin(ps)*dth - cos(ps)*sin(th)*dph)^2 + (dps + cos(th)*dph)^2"
    )
    assert killing_dimension(g) == 3


def test_given_functions_for_killing_vectors():
    g = catalogue.metric("de_sitter")
    functions = ["1", "x", "y", "z", "x^2", "y^2", "z^2", "x*y", "x*z", "y*z", "exp(-2*H*t)"]
    assert len(killing_vectors(g, functions)) == killing_dimension(g) == 10


def test_conventions(schwarzschild):
    g = catalogue.metric("de_sitter")
    turned = g.with_conventions("weinberg")
    assert turned.riemann() == -g.riemann()
    assert turned.ricci_scalar() == -g.ricci_scalar()
    mixed = g.with_conventions(Conventions(1, -1))
    assert mixed.ricci_scalar() == -g.ricci_scalar()
    assert "R^a_bda" in str(mixed.ricci().note)
    with pytest.raises(ConfigError, match="mtw"):
        g.with_conventions("mine")


def test_signature_may_be_turned():
    plus, minus = catalogue.metric("kerr_newman"), catalogue.metric("kerr_newman")
    matrix = [[-x for x in row] for row in minus.coordinate_frame._metric()]
    turned = Metric(matrix, field=minus.field)
    assert turned.signs.count(-1) == 3
    assert turned.petrov_type == plus.petrov_type == "D"
    assert turned.kretschmann() == minus.kretschmann()


def test_null_and_complex_frames():
    """A Newman-Penrose tetrad as the frame: constant off-diagonal frame metric, complex covectors."""
    null = [[0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    g = Metric.from_coframe(
        [
            "dt/2 - dr/(2*f)",
            "f*dt + dr",
            "r/sqrt(2)*(dtheta + I*sin(theta)*dphi)",
            "r/sqrt(2)*(dtheta - I*sin(theta)*dphi)",
        ],
        null,
        "t r theta phi",
        definitions={"f": "1-2*M/r"},
    )
    assert g.is_vacuum
    assert g.kretschmann() == g.field("48*M^2/r^6")
    assert g.newman_penrose([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).psi[2] == g.field("-M/r^3")


def test_user_connection_with_torsion():
    """A flat connection with torsion (teleparallel): the frame of the sphere declared parallel."""
    g = Metric.from_coframe(["dtheta", "sin(theta)*dphi"], None, "theta phi")
    parallel = Connection(g.frame, {})
    assert parallel.curvature.is_zero
    assert parallel.non_metricity.is_zero
    assert parallel.torsion[1, 0, 1] == g.field("cos(theta)/sin(theta)")
    levi_civita = g.connection_from(g.christoffel().components)
    assert levi_civita.torsion.is_zero
    assert levi_civita.curvature == Tensor(g.coordinate_frame, "uddd", g.riemann().components)
    weyl = Connection(Frame(g.field, None, g.coordinate_frame.metric), {(0, 0, 0): "1"})
    assert not weyl.non_metricity.is_zero


def test_errors():
    with pytest.raises(ConfigError, match="degenerate"):
        Metric.from_line_element("(dx+dy)^2")
    with pytest.raises(DataError, match="symmetric"):
        Metric([[1, "x"], ["y", 1]], "x y")
    with pytest.raises(DataError, match="2 x 2"):
        Metric([[1, 0, 0], [0, 1, 0]], "x y")
    with pytest.raises(DataError, match="named"):
        Metric([[1, 0], [0, 1]])
    with pytest.raises(DataError, match="rows of g_ij"):
        Metric(5, "x y")
    with pytest.raises(DataError, match="another name"):
        Metric([["gamma(x, y)", 0], [0, 1]], "x y")
    with pytest.raises(DataError, match="Unknown symbol 'm'"):
        Metric([["m", 0], [0, 1]], "x y", parameters="M")
    with pytest.raises(ConfigError, match="dependent"):
        Metric.from_coframe(["dx+dy", "2*dx+2*dy"], None, "x y")
    with pytest.raises(DataError, match="quadratic"):
        Metric.from_line_element("dx^2 + dy")
    with pytest.raises(DataError, match="linear"):
        Metric.from_coframe(["dx^2", "dy"], None, "x y")
    with pytest.raises(ConfigError, match="3 dimensions"):
        catalogue.metric("sphere").weyl()
    with pytest.raises(ConfigError, match="Lorentzian"):
        catalogue.metric("eguchi_hanson").newman_penrose()
    with pytest.raises(DataError, match="null tetrad"):
        catalogue.metric("kerr").newman_penrose([[1, 0, 0, 0]] * 4)


def test_petrov_type_of_a_quartic():
    """Quartics with roots of every multiplicity; psi_k are their coefficients over the binomials."""
    field = catalogue.metric("flrw").field
    x = field("a(t)")
    for roots, wanted in (
        ((1, 2, 3, x), "I"),
        ((1, 1, 3, x), "II"),
        ((x, x, x, 2), "III"),
        ((x, x, 5, 5), "D"),
        ((x, x, x, x), "N"),
    ):
        coefficients = [field.one]
        for root in roots:
            shifted = [field.zero, *coefficients]
            coefficients = [a - b * root for a, b in zip([*coefficients, field.zero], shifted, strict=True)]
        assert petrov([c / b for c, b in zip(coefficients, (1, 4, 6, 4, 1), strict=True)]) == wanted


def test_petrov_type_of_a_general_metric_needs_no_long_polynomial():
    assert catalogue.metric("bianchi_ix", backend="sympy").petrov_type == "I"  # once more than a minute


def test_tables_of_raised_components_hold_no_component_twice(schwarzschild):
    counts = {v: len(schwarzschild.riemann(v).independent()) for v in ("dddd", "uuuu", "uudd", "uddd", "udud")}
    assert counts == {"dddd": 6, "uuuu": 6, "uudd": 6, "uddd": 12, "udud": 18}


def test_tables_and_latex(schwarzschild):
    text = str(schwarzschild.christoffel())
    assert "Gamma^t_t r" in text
    assert len(text.splitlines()) == 9
    assert "R^a_bcd = d_c Gamma^a_bd" in str(schwarzschild.riemann())
    latex = schwarzschild.riemann().latex()
    assert latex.startswith("\\begin{aligned}")
    assert r"{}_{\theta}" in latex
    assert schwarzschild.riemann().to_sympy().shape == (4, 4, 4, 4)
    assert schwarzschild.ricci().latex().endswith("= 0")


@pytest.mark.parametrize(
    ("line", "limits", "number"),
    [
        ("dx^2 + sin(x)^2*dy^2", "x y", 2),
        ("(2 + cos(u))^2*dv^2 + du^2", "u v", 0),
        ("dx^2 + sin(x)^2*dy^2 + du^2 + sin(u)^2*dv^2", "x y u v", 4),
    ],
)
def test_euler_form_integrates_to_the_euler_number(line, limits, number):
    """Gauss-Bonnet-Chern; polar angles run over half a turn, x and u of spheres."""
    form = Metric.from_line_element(line, limits).euler_form()
    ends = {name: (0, "pi" if name in "xu" and number else "2*pi") for name in limits.split()}
    assert form.integrate(ends) == number


def test_degenerate_metrics_show_their_determinant_in_factors():
    with pytest.raises(ConfigError, match=r"determinant is \(-\(-2\*M \+ r\)/r\) \* \(r\*\*2\) \* 0 = 0"):
        Metric.from_line_element("-(1-2*M/r)*dt^2 + r^2*dtheta^2 + (dr+dphi)^2")


def test_jupyter_shows_conventions_and_counts_what_is_long(schwarzschild):
    shown = schwarzschild.ricci()._repr_latex_()
    assert shown.startswith("$")
    assert r"\partial_{c} \Gamma^{a}{}_{bd}" in shown
    long = Metric.from_line_element("A(x,y,z)*dx^2 + B(x,y,z)*dy^2 + C(x,y,z)*dz^2 + 2*D(x,y,z)*dx*dy")
    assert "terms]" in long.kretschmann()._repr_latex_()
    assert r"\ddot{r}" in schwarzschild.geodesic_equations()._repr_latex_()


def test_importing_is_light():
    heavy = "('sympy', 'flint', 'keras', 'jax', 'numpy')"
    code = f"import sys, kexue, kexue.maths.geometry; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


KINNERSLEY = [  # coordinate components over Kerr's t, r, theta, phi
    ["(r^2+a^2)/D", "1", "0", "a/D"],
    ["(r^2+a^2)/(2*S)", "-D/(2*S)", "0", "a/(2*S)"],
    ["I*a*sin(theta)/(sqrt(2)*(r+I*a*cos(theta)))", "0", "1/(sqrt(2)*(r+I*a*cos(theta)))",
     "I/(sqrt(2)*(r+I*a*cos(theta))*sin(theta))"],
]  # fmt: skip


def kinnersley(g, charge="0"):
    """The tetrad in coordinates, the metric rebuilt in them."""
    known = {"D": f"(r^2-2*M*r+a^2+{charge}^2)", "S": "(r^2+a^2*cos(theta)^2)"}
    rows = [[x.replace("D", known["D"]).replace("S", known["S"]) for x in row] for row in KINNERSLEY]
    rows.append([x.replace("I", "(-I)") for x in rows[2]])
    flat = Metric(g.coordinate_frame._metric(), field=g.field)
    return flat, flat.newman_penrose(rows)


def test_newman_penrose_of_kerr_newman_in_kinnersleys_tetrad():
    """S. Chandrasekhar, The Mathematical Theory of Black Holes (1983), sections 55 and 107, in this signature."""
    g, found = kinnersley(catalogue.metric("kerr_newman"), "Q")
    field = g.field
    rho = field("-1/(r-I*a*cos(theta))")
    spin = found.spin_coefficients
    assert not any(spin[name] for name in ("kappa", "sigma", "nu", "lambda", "epsilon"))  # Goldberg and Sachs
    assert spin["rho"] == rho
    sine, other = field("I*a*sin(theta)/sqrt(2)"), field("-1/(r+I*a*cos(theta))")
    assert spin["tau"] == -sine * rho * other
    assert spin["pi"] == sine * rho * rho
    delta = field("r^2-2*M*r+a^2+Q^2")
    assert spin["mu"] == rho * rho * other * delta / 2
    assert spin["gamma"] == spin["mu"] + rho * other * field("r-M") / 2
    assert spin["beta"] == -other * field("cos(theta)/(2*sqrt(2)*sin(theta))")
    assert found.psi[2] == rho**3 * field("M") + rho**3 * other * field("Q^2")
    assert {k for k, v in found.phi.items() if v} == {"11"}
    assert found.phi["11"] == field("Q^2/(2*(r^2+a^2*cos(theta)^2)^2)")
    assert not found.lambda_
    # D rho = rho^2 + sigma sigmabar + Phi_00, the first of Newman and Penrose's equations
    assert spin["rho"].diff("r") == spin["rho"] ** 2
    assert "Phi_11" in str(found)
    assert r"\Phi_{11}" in found._repr_latex_()


def test_ricci_scalars_whatever_the_signature_and_conventions():
    g = catalogue.metric("flrw")
    turned = Metric([[-x for x in row] for row in g.coordinate_frame._metric()], field=g.field)
    first, second, third = (m.newman_penrose() for m in (g, turned, g.with_conventions("weinberg")))
    assert first.lambda_ == second.lambda_ == third.lambda_ == g.ricci_scalar() / 24
    assert first.phi == second.phi == third.phi
    assert first.phi["00"] == first.phi["22"] == first.phi["11"] * 2  # a fluid at rest
    assert first.psi == second.psi == third.psi
    assert first.spin_coefficients == second.spin_coefficients


def test_an_orthonormal_frame_is_real_where_the_metric_has_its_signs():
    """1/(1 - k r^2) has the denominator k r^2 - 1 in canonical form; its root once made the frame imaginary."""
    g = catalogue.metric("flrw")
    radial = g.orthonormal_frame.coframe[1][1]
    assert radial == g.field("a(t)/sqrt(1-k*r^2)")
    assert "-k*r**2 + 1 > 0 (under a root)" in g.field.assumptions


def test_connections_by_names_and_what_is_refused():
    g = Metric.from_line_element("dr^2 + r^2*dp^2")
    by_name = g.connection_from({("r", "p", "p"): "-r", ("p", "r", "p"): "1/r", ("p", "p", "r"): "1/r"})
    assert by_name.torsion.is_zero
    assert by_name.non_metricity.is_zero
    for wrong in ({("r", "q", "p"): 1}, {(0, 1): 1}, {0: 1}, 5, {("r", "p", "p"): 1, (0, 1, 1): 1}):
        with pytest.raises(DataError):
            g.connection_from(wrong)
    with pytest.raises(DataError, match="sequence of functions"):
        killing_vectors(g, "sin(p)")
    with pytest.raises(DataError, match="potential"):
        einstein_maxwell(catalogue.metric("reissner_nordstrom"), 5)
    with pytest.raises(DataError, match="four components"):
        catalogue.metric("schwarzschild").newman_penrose([[1, 0, 0, 0]] * 3)
