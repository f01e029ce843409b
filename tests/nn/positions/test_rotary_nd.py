"""Rotary positions on several axes, and from commuting generators (kexue.fm article 8397)."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from tests.nn.harness import as_numpy

from kexue.errors import ConfigError
from kexue.nn.positions import registry
from kexue.nn.positions.rotary import apply_rotary
from kexue.nn.positions.rotary_generators import GeneratorRotaryPosition, common_planes, rotary_from_generators
from kexue.nn.positions.rotary_nd import RotaryNDPosition, apply_rotary_nd, grid_coordinates


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def turn(x, coordinates, **options):
    """Vectors (length, dim) turned by coordinates (length, axes)."""
    x = ops.convert_to_tensor(np.asarray(x, "float32")[None, :, None])
    return as_numpy(apply_rotary_nd(x, np.asarray(coordinates, "float32")[None], **options))[0, :, 0]


def expm(matrix):
    """exp of a skew-symmetric matrix in float64, by eigenvalues of i B."""
    values, vectors = np.linalg.eigh(1j * matrix)
    return (vectors * np.exp(-1j * values) @ vectors.conj().T).real


def axis_generators(dim, axes, split="half", base=10000.0):
    theta = base ** (-np.arange(0, dim // axes, 2) / (dim // axes))
    b = np.zeros((axes, dim, dim))
    for p in range(dim // 2):
        per = dim // 2 // axes
        axis, i = (p // per, p % per) if split == "half" else (p % axes, p // axes)
        b[axis, 2 * p, 2 * p + 1], b[axis, 2 * p + 1, 2 * p] = -theta[i], theta[i]
    return b


@settings(max_examples=40)
@given(
    st.integers(1, 3), st.integers(1, 3), st.sampled_from(["half", "alternate"]),
    st.sampled_from(["interleaved", "half"]), st.booleans(), st.integers(0, 10**6),
)  # fmt: skip
def test_relativity(axes, pairs, split, layout, integers, seed):
    """Scores depend on differences of coordinates alone, be they whole, fractional or negative; norms stay."""
    rng = np.random.default_rng(seed)
    dim, options = 2 * axes * pairs, {"split": split, "layout": layout}
    a, b, shift = rng.integers(-40, 40, (3, axes)) if integers else rng.uniform(-40, 40, (3, axes))
    q, k = rng.normal(size=(2, 1, dim))
    near = turn(q, [a], **options)[0] @ turn(k, [b], **options)[0]
    far = turn(q, [a + shift], **options)[0] @ turn(k, [b + shift], **options)[0]
    scale = float(np.linalg.norm(q) * np.linalg.norm(k))
    assert far == pytest.approx(near, abs=3e-5 * scale)
    np.testing.assert_allclose(np.linalg.norm(turn(q, [a], **options)), np.linalg.norm(q), rtol=1e-5)


@pytest.mark.parametrize("split", ["half", "alternate"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_equals_the_exponential_of_generators(axes, split):
    dim = 4 * axes
    generators, x = axis_generators(dim, axes, split, 50.0), random(6, dim)
    coordinates = random(6, axes, seed=1) * 9
    want = [expm(np.tensordot(c, generators, axes=1)) @ v for c, v in zip(coordinates, x, strict=True)]
    np.testing.assert_allclose(turn(x, coordinates, split=split, base=50.0), want, atol=1e-5)
    encoding = rotary_from_generators(generators)
    got = as_numpy(encoding.apply(ops.convert_to_tensor(x[None, :, None]), coordinates[None]))[0, :, 0]
    np.testing.assert_allclose(got, want, atol=2e-5)


def test_coordinates_can_be_read_off():
    """Reversibility: each coordinate is an angle of the pair with theta = 1 of its axis."""
    coordinates = np.random.default_rng(0).uniform(-3, 3, (20, 2))
    unit = np.tile([1.0, 0.0], 4)
    out = turn(np.tile(unit, (20, 1)), coordinates)
    angles = np.arctan2(out[:, [1, 5]], out[:, [0, 4]])
    np.testing.assert_allclose(angles, coordinates, atol=1e-5)


def test_swapped_axes_are_swapped_halves():
    x, c = random(5, 8), random(5, 2, seed=1)
    swap = np.r_[4:8, 0:4]
    np.testing.assert_allclose(turn(x[:, swap], c[:, ::-1]), turn(x, c)[:, swap], atol=1e-6)


def test_one_row_is_one_dimensional():
    """A picture of one row: half of the features turn as in one dimension, the others stay."""
    x, places = random(7, 8), np.arange(7)
    got = turn(x, np.stack([np.zeros(7), places], -1))
    np.testing.assert_array_equal(got[:, :4], x[:, :4])
    want = as_numpy(apply_rotary(ops.convert_to_tensor(x[None, :, None, 4:]), places[None]))[0, :, 0]
    np.testing.assert_allclose(got[:, 4:], want, atol=1e-6)


def test_splits_differ_by_a_permutation_of_pairs():
    x, c = random(5, 12), random(5, 3, seed=1)
    pairs = np.arange(6).reshape(3, 2).T.ravel()  # alternate pair to half pair
    features = (2 * pairs[:, None] + [0, 1]).ravel()
    np.testing.assert_allclose(turn(x[:, features], c, split="alternate"), turn(x, c)[:, features], atol=1e-6)


def test_grid():
    ids = np.arange(24)[None]
    got = as_numpy(grid_coordinates(ids, (2, 3, 4)))
    assert got.shape == (1, 24, 3)
    np.testing.assert_array_equal(got[0], np.stack(np.unravel_index(np.arange(24), (2, 3, 4)), -1))
    np.testing.assert_array_equal(as_numpy(grid_coordinates([[24]], (2, 3, 4)))[0, 0], [2, 0, 0])  # a taller picture


@pytest.mark.parametrize("kind", ["axes", "generators"])
def test_hooks(kind):
    if kind == "axes":
        flat, given = RotaryNDPosition(8, grid=(3, 4)), RotaryNDPosition(8)
    else:
        generators = axis_generators(8, 2)
        flat, given = rotary_from_generators(generators, grid=(3, 4)), rotary_from_generators(generators)
    q, k = (ops.convert_to_tensor(random(2, 12, 2, 8, seed=i)) for i in range(2))
    ids = np.tile(np.arange(12), (2, 1))
    coordinates = np.stack(np.unravel_index(ids, (3, 4)), -1)
    tables = flat.tables(ids, ids)
    want = [apply_rotary_nd(t, coordinates) for t in (q, k)]
    for got in (flat.rotate(q, k, tables), given.rotate(q, k, given.tables(coordinates, coordinates))):
        np.testing.assert_allclose(as_numpy(got[0]), as_numpy(want[0]), atol=2e-5)
        np.testing.assert_allclose(as_numpy(got[1]), as_numpy(want[1]), atol=2e-5)
    other = flat.rotate(q, k[:, :5], flat.tables(ids, ids[:, 3:8]))[1]
    np.testing.assert_allclose(as_numpy(other), as_numpy(apply_rotary_nd(k[:, :5], coordinates[:, 3:8])), atol=2e-5)
    with pytest.raises(ConfigError, match="need a grid"):
        given.tables(ids, ids)
    with pytest.raises(ConfigError, match=r"\(batch, length, 2\)"):
        given.tables(np.zeros((1, 4, 3)), np.zeros((1, 4, 3)))


@pytest.mark.parametrize(("dim", "axes", "rank"), [(4, 2, 2), (7, 2, 3), (6, 1, 2), (9, 3, 4), (3, 1, 1), (8, 2, 4)])
def test_random_commuting_generators(dim, axes, rank):
    """Any commuting skew matrices in any basis, with fixed directions and equal angles: exp, relativity, basis."""
    rng = np.random.default_rng(dim)
    mixed = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    speeds = rng.integers(1, 3, (axes, rank)).astype(float)  # small whole numbers: many planes with equal angles
    if axes > 1:
        speeds[0, 0] = 5.0
    b = np.zeros((axes, dim, dim))
    for p in range(rank):
        b[:, 2 * p, 2 * p + 1], b[:, 2 * p + 1, 2 * p] = -speeds[:, p], speeds[:, p]
    b = mixed @ b @ mixed.T
    basis, found = common_planes(b)
    np.testing.assert_allclose(basis.T @ basis, np.eye(dim), atol=1e-9)
    assert found.shape == (axes, rank)
    encoding = rotary_from_generators(b, reversible=False)
    c, x = rng.uniform(-4, 4, (5, axes)), random(5, dim)
    got = as_numpy(encoding.apply(ops.convert_to_tensor(x[None, :, None]), c[None]))[0, :, 0]
    want = [expm(np.tensordot(y, b, axes=1)) @ v for y, v in zip(c, x, strict=True)]
    np.testing.assert_allclose(got, want, atol=3e-5)


def family(a, b, c, d, e, f):
    """The two 4 x 4 generators of the article: upper triangles (a, b, c) first row, and so on."""
    out = np.zeros((4, 4))
    out[np.triu_indices(4, 1)] = a, b, c, d, e, f
    return out - out.T


def quaternion(w, x, y, z):
    return np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]], float)


def test_quaternions_fail():
    """exp(x i + y j) is not relative, since i and j do not commute; the error names the pair."""
    i, j = quaternion(0, 1, 0, 0), quaternion(0, 0, 1, 0)
    left = expm(i).T @ expm(j)
    assert np.abs(left - expm(j - i)).max() > 0.3
    with pytest.raises(ConfigError, match="generators 0 and 1 do not commute"):
        rotary_from_generators([i, j])
    with pytest.raises(ConfigError, match="generators 1 and 2 do not commute"):
        rotary_from_generators([0 * i, i, j])
    # A left and a right multiplication commute: a valid pair from quaternions after all.
    right = np.array([[0, 0, -1, 0], [0, 0, 0, -1], [1, 0, 0, 0], [0, 1, 0, 0]], float)  # p -> p j
    rotary_from_generators([i, right])


def test_validity():
    good = axis_generators(4, 2)
    with pytest.raises(ConfigError, match="generator 1 is not skew"):
        rotary_from_generators([good[0], np.eye(4)])
    with pytest.raises(ConfigError, match="rank 1"):
        rotary_from_generators([good[0], 2 * good[0]])
    for dim in (2, 3):  # too small for two coordinates: 2 x 2 has one parameter, 3 x 3 forces B_2 = 0
        one = np.zeros((dim, dim))
        one[0, 1], one[1, 0] = -1, 1
        with pytest.raises(ConfigError, match="rank 1"):
            rotary_from_generators([one, 0 * one])
    for bad in (np.zeros((2, 3, 4)), np.zeros((4, 4)), np.full((1, 2, 2), np.nan)):
        with pytest.raises(ConfigError, match=r"square|finite"):
            rotary_from_generators(bad)
    with pytest.raises(ConfigError, match="one size a generator"):
        rotary_from_generators(good, grid=(1, 2, 3))
    with pytest.raises(ConfigError, match="vectors of size 4"):
        rotary_from_generators(good).apply(ops.ones((1, 1, 1, 6)), np.zeros((1, 1, 2)))
    encoding = rotary_from_generators(good, grid=(2, 2))
    again = registry.make(json.loads(json.dumps(registry.serialize(encoding))), {}, None)
    assert isinstance(again, GeneratorRotaryPosition)
    np.testing.assert_array_equal(again.generators, encoding.generators)


def test_one_generator_takes_flat_positions():
    encoding = rotary_from_generators(axis_generators(6, 1))
    q, ids = ops.convert_to_tensor(random(1, 5, 2, 6)), np.array([[0, 3, 1, 9, 2]])
    got = encoding.rotate(q, q, encoding.tables(ids, ids))[0]
    np.testing.assert_allclose(as_numpy(got), as_numpy(apply_rotary(q, ids)), atol=2e-5)


def test_errors():
    for match, make in {
        "multiple of 2": lambda: turn(random(2, 6), np.zeros((2, 2))),
        "twice the 2 axes": lambda: RotaryNDPosition(6),
        "one positive size an axis": lambda: RotaryNDPosition(8, axes=3, grid=(2, 2)),
        "split='thirds'": lambda: RotaryNDPosition(8, split="thirds"),
        "split='other'": lambda: turn(random(2, 8), np.zeros((2, 2)), split="other"),
        "layout='full'": lambda: RotaryNDPosition(8, layout="full"),
    }.items():
        with pytest.raises(ConfigError, match=match):
            make()
