"""Every entry: what is known of it, symmetries, Bianchi identities, two routes, an independent evaluation."""

import pytest

pytest.importorskip("sympy")

from tests.maths.geometry.reference import check_curvature, matrix_of

from kexue.errors import ConfigError
from kexue.maths.geometry import catalogue
from kexue.maths.geometry.curvature import Curvature
from kexue.maths.geometry.field import available_backends

NAMES = catalogue.names()
SLOW_WITHOUT_FLINT = "flint" not in available_backends()


@pytest.fixture(scope="module", params=NAMES)
def entry_and_metric(request):
    entry = catalogue.entry(request.param)
    return entry, entry.build()


def test_there_are_enough():
    assert len(NAMES) >= 30
    assert all(catalogue.entry(name).source for name in NAMES)


def test_known_invariants(entry_and_metric):
    entry, g = entry_and_metric
    found = g.invariants()
    for name, value in entry.known.items():
        if name == "Petrov":
            assert g.petrov_type == value
        else:
            assert found[name] == g.field(value), (name, str(found[name]))
    if entry.constant is not None:
        assert g.einstein_constant() == g.field(entry.constant)
        assert g.is_vacuum == (entry.constant == "0")


def test_first_bianchi_and_symmetries_without_using_them(entry_and_metric):
    _, g = entry_and_metric
    r = g.connection.curvature  # from the coefficients alone, no symmetry assumed
    assert g.bianchi_first().is_zero
    lowered = r.lower(0)
    assert (lowered + lowered.transpose(1, 0, 2, 3)).is_zero
    assert (lowered - lowered.transpose(2, 3, 0, 1)).is_zero
    assert lowered == g.riemann("dddd", "frame")


def test_connection_is_levi_civita(entry_and_metric):
    _, g = entry_and_metric
    assert g.connection.torsion.is_zero
    assert g.connection.non_metricity.is_zero


def test_second_bianchi(entry_and_metric):
    _, g = entry_and_metric
    assert g.bianchi_second().is_zero
    assert g.divergence(g.einstein("ud")).is_zero


def test_cartan_and_coordinate_routes_agree(entry_and_metric):
    _, g = entry_and_metric
    coordinate = Curvature(g.coordinate_frame, "metric")
    frame = Curvature(g.diagonal_frame, "frame")
    carried = frame.on_coordinates(frame.riemann, g.coordinate_frame)
    assert carried.keys() == coordinate.riemann.keys()
    assert all(carried[k] == v for k, v in coordinate.riemann.items())


def test_structure_equation_gives_the_same_curvature(entry_and_metric):
    """The 2-forms of Cartan's second equation against the components."""
    _, g = entry_and_metric
    if g.frame.is_coordinate and len(g.connection.gamma) > 30:
        pytest.skip("no frame to speak of, many forms")
    forms = g.curvature_forms()
    tensor = g.riemann("uddd", "frame")
    h, n = g.frame.coframe, g.dimension
    for a in range(n):
        for b in range(n):
            for mu in range(n):
                for nu in range(mu + 1, n):
                    total = g.field.sum(
                        tensor[a, b, c, d] * h[c][mu] * h[d][nu]
                        for c in range(n)
                        for d in range(n)
                        if tensor[a, b, c, d] and h[c][mu] and h[d][nu]
                    )
                    assert total == forms[a][b][mu, nu]


def test_agrees_with_an_independent_evaluation(entry_and_metric):
    entry, g = entry_and_metric
    check_curvature(g, matrix_of(entry))


@pytest.mark.skipif(SLOW_WITHOUT_FLINT, reason="python-flint is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_both_backends_give_the_same(name):
    one, other = (catalogue.metric(name, backend=backend) for backend in ("flint", "sympy"))
    first, second = one.riemann().components, other.riemann().components
    assert first.keys() == second.keys()
    assert all(other.field(value) == second[index] for index, value in first.items())
    assert other.field(one.ricci_scalar()) == other.ricci_scalar()
    assert other.field(one.kretschmann()) == other.kretschmann()


def test_unknown_names_are_refused_with_a_hint():
    with pytest.raises(ConfigError, match="schwarzschild"):
        catalogue.metric("schwarzshild")
    assert catalogue.metric("Kerr-Newman").name == "Kerr-Newman"
