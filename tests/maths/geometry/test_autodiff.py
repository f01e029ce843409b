"""Curvature of programs by automatic differentiation, against the exact results of the whole catalogue."""

import numpy as np
import pytest

pytest.importorskip("sympy")

import sympy
from tests.maths.geometry.reference import Evaluator, concrete, matrix_of

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry import Metric, catalogue
from kexue.maths.geometry.numbers import lambdify, numeric_curvature

FIELDS = ("christoffel", "riemann", "riemann_lower", "ricci", "scalar", "einstein", "weyl", "kretschmann")


def stand_in(name, library):
    """The smooth function that `reference.concrete` puts for an unknown one."""
    phase = (sum(map(ord, name)) % 17) / 11
    return lambda *u: 2 + library.sin(sum((k + 1) / 3 * x for k, x in enumerate(u)) + phase) / 3


def exact_results(g):
    out = [g.christoffel(), g.riemann(), g.riemann("dddd"), g.ricci(), g.ricci_scalar(), g.einstein()]
    return [*out, g.weyl() if g.dimension > 2 else g.ricci_scalar(), g.kretschmann()]


def compare(numeric, exact, scale):
    """Errors relative to each result; to the curvature for those that are differences of larger numbers, or vanish."""
    for name, want in zip(FIELDS, exact, strict=True):
        got = getattr(numeric, name)
        if got is None:
            continue
        got, want = np.asarray(got), np.asarray(want)  # noqa: PLW2901
        small = 1e-3 if name in ("christoffel", "riemann", "riemann_lower", "kretschmann") else 0.1
        size = max(np.max(np.abs(want)), small * scale)
        assert np.max(np.abs(got - want)) <= 1e-9 * size, name


@pytest.mark.parametrize("name", catalogue.names())
def test_agreement_with_the_exact_results_at_random_points(name):
    """The metric comes from SymPy, not from the field; PyTorch differentiates it twice."""
    torch = pytest.importorskip("torch")
    entry = catalogue.entry(name)
    g = entry.build()
    results = exact_results(g)
    matrix = matrix_of(entry)

    def on_tensors(call):
        return lambda u: call(torch.as_tensor(u, dtype=torch.float64))

    elementary = ("sin", "cos", "tan", "exp", "log", "sqrt", "sinh", "cosh", "tanh")
    library = {f: on_tensors(getattr(torch, f)) for f in elementary}
    names = {jet.data[0] for jet in g.field.generators.values() if jet.kind == "jet"}
    functions = {n: stand_in(n, torch) for n in names}
    f = lambdify(results, "torch", functions=functions)
    for seed in range(2):
        point = Evaluator(matrix, entry.coordinates.split(), g.field.positives, seed)
        values = {s.name: float(v) for s, v in point.point.items()}
        symbols = [sympy.Symbol(c) for c in g.coordinates]
        constants = {s: v for s, v in point.point.items() if s not in symbols}
        program = sympy.lambdify(symbols, concrete(matrix).subs(constants).evalf(20).tolist(), [library, "math"])

        def metric(x, program=program):
            rows = program(*x.unbind(-1))
            return torch.stack([torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in row]) for row in rows])

        x = np.array([values[c] for c in g.coordinates])
        exact = f.at(x, **{p: values[p] for p in f.parameters})
        numeric = numeric_curvature(metric, x, "torch")
        scale = float(torch.max(torch.abs(numeric.metric))) ** 2 + float(torch.max(torch.abs(numeric.riemann)))
        compare(numeric, exact, scale)
        product = numeric.metric @ numeric.inverse
        assert torch.allclose(product, torch.eye(g.dimension, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("name", ["kerr_newman", "flrw"])
def test_jax_agrees_in_double_precision_and_leaves_its_setting_alone(name):
    import jax
    import jax.numpy as jnp

    before = jax.config.jax_enable_x64
    g = catalogue.metric(name)
    points = np.random.default_rng(3).uniform([0.5, 3, 0.4, 0], [2, 6, 2.6, 6], (3, 2, 4))
    constants = {p: 0.1 * (k + 2) for k, p in enumerate(("a", "M", "Q", "k"))}
    functions = {"a": "t^(2/3)"} if name == "flrw" else None
    exact = lambdify(exact_results(g), functions=functions)
    known = {p: constants[p] for p in exact.parameters}
    numeric = numeric_curvature(g, points, "jax", functions=functions, **known)
    assert numeric.riemann.shape == (3, 2, 4, 4, 4, 4)
    assert numeric.riemann.dtype == jnp.float64
    assert jax.config.jax_enable_x64 == before
    compare(numeric, exact.at(points, **known), float(np.max(np.abs(np.asarray(numeric.riemann)))))


def test_a_metric_that_is_only_a_program():
    """A torus of revolution with numbers that no formula was given for; K = cos u/(r (R + r cos u))."""
    jnp = pytest.importorskip("jax.numpy")

    def embedded(x, big, small):
        def place(u):
            ring = big + small * jnp.cos(u[0])
            return jnp.stack([ring * jnp.cos(u[1]), ring * jnp.sin(u[1]), small * jnp.sin(u[0])])

        import jax

        slope = jax.jacfwd(place)(x)
        return slope.T @ slope

    u = np.linspace(0, 3, 5)
    points = np.stack([u, 0 * u], -1)
    K = np.cos(u) / (0.7 * (2 + 0.7 * np.cos(u)))
    out = numeric_curvature(embedded, points, big=2.0, small=0.7)
    np.testing.assert_allclose(out.scalar, 2 * K, rtol=1e-10)
    np.testing.assert_allclose(out.kretschmann, 4 * K**2, rtol=1e-10)
    assert out.weyl is None
    np.testing.assert_allclose(
        numeric_curvature(embedded, points, conventions="opposite-ricci", big=2.0, small=0.7).scalar, -2 * K, rtol=1e-10
    )


def test_what_is_refused():
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(ConfigError, match="jax' or 'torch"):
        numeric_curvature(lambda x: x, [[1.0]], "numpy")
    with pytest.raises(DataError, match="must be 2 x 2"):
        numeric_curvature(lambda x: jnp.eye(3), [[1.0, 2.0]])
    with pytest.raises(DataError, match="symmetric"):
        numeric_curvature(lambda x: jnp.array([[1.0, x[0]], [0.0, 1.0]]), [[1.0, 2.0]])
    with pytest.raises(ConfigError, match="has no values"):
        numeric_curvature(Metric.from_line_element("a(t)*dt^2 + dx^2"), [[1.0, 2.0]])


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_rows_of_numbers_and_no_points(backend):
    library = pytest.importorskip("jax.numpy" if backend == "jax" else backend)

    def sphere(x, radius=2.0):
        return [[radius**2, 0], [0, radius**2 * library.sin(x[0]) ** 2]]

    np.testing.assert_allclose(np.asarray(numeric_curvature(sphere, [[0.3, 1.0]], backend).scalar), [0.5], rtol=1e-12)
    none = numeric_curvature(sphere, np.zeros((3, 0, 2)), backend)
    assert tuple(none.riemann.shape) == (3, 0, 2, 2, 2, 2)
    assert tuple(none.scalar.shape) == (3, 0)
