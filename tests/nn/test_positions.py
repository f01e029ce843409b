"""Position encodings: rotary in both layouts, learned, hierarchical."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from tests.nn.harness import as_numpy, check_layer

from kexue.errors import ConfigError
from kexue.nn.positions.base import PositionEncoding
from kexue.nn.positions.learned import HierarchicalPosition, LearnedPosition, hierarchical_table
from kexue.nn.positions.rotary import RotaryPosition, apply_rotary, rotary_angles

LAYOUTS = ("interleaved", "half")


def rope(x, positions, **kwargs):
    """Vectors (length, dim) rotated by positions (length,)."""
    x = np.asarray(x, "float32")[None, :, None]
    return as_numpy(apply_rotary(ops.convert_to_tensor(x), np.asarray(positions)[None], **kwargs))[0, :, 0]


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_golden_values():
    """Spec 24.3: d = 4, position 3, and a relative score at two offsets."""
    q, k = [1.0, 2, 3, 4], [0.5, -1, 2, 0.25]
    np.testing.assert_allclose(rope([q], [3])[0], [-1.272233, -1.838865, 2.878668, 4.088187], atol=1e-5)
    for m, n in ((3, 7), (0, 4), (103, 107)):
        np.testing.assert_allclose(rope([q], [m])[0] @ rope([k], [n])[0], 6.75118386, atol=2e-5)


def test_golden_decay():
    """Mean absolute partial sums of exp(i m theta) for d = 128 (spec 24.3)."""
    cos, sin = (as_numpy(t) for t in rotary_angles(np.array([0, 1, 8, 32, 64, 128, 256, 512]), 128))
    sums = np.abs(np.cumsum(cos + 1j * sin, axis=-1)).mean(-1)
    want = [32.5, 31.5382, 19.8174, 13.3843, 10.0899, 9.2729, 6.5431, 5.3114]
    np.testing.assert_allclose(sums, want, atol=1e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equals_the_block_matrix(layout):
    dim, positions = 6, [0, 1, 5, 40]
    x = random(4, dim)
    for row, m in enumerate(positions):
        matrix = np.zeros((dim, dim))
        for i in range(dim // 2):
            a, b = (2 * i, 2 * i + 1) if layout == "interleaved" else (i, i + dim // 2)
            angle = m * 10000 ** (-2 * i / dim)
            matrix[a, a] = matrix[b, b] = np.cos(angle)
            matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(dim), atol=1e-12)
        np.testing.assert_allclose(rope(x, positions, layout=layout)[row], matrix @ x[row], atol=1e-5)


@pytest.mark.parametrize("base", [10000.0, 500.0])
def test_equals_complex_multiplication(base):
    x, positions = random(5, 8), np.array([0, 2, 3, 100, 511])
    z = x[:, 0::2] + 1j * x[:, 1::2]
    z = z * np.exp(1j * positions[:, None] * base ** (-np.arange(4) / 4))
    got = rope(x, positions, base=base)
    np.testing.assert_allclose(got[:, 0::2] + 1j * got[:, 1::2], z, atol=2e-4)


def test_layouts_differ_by_a_permutation():
    x, positions = random(7, 10), np.arange(7) * 13
    to_half = np.r_[0:10:2, 1:10:2]
    np.testing.assert_allclose(rope(x, positions)[:, to_half], rope(x[:, to_half], positions, layout="half"), atol=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 100_000), st.integers(0, 500), st.sampled_from(LAYOUTS), st.integers(1, 8))
def test_norm_and_shift(shift, distance, layout, half):
    """Rotation keeps the norm; the score of a pair depends on the distance alone, up to positions of 1e5."""
    dim = 2 * half
    q, k = random(1, dim, seed=1), random(1, dim, seed=2)
    turned = rope(q, [shift], layout=layout)
    np.testing.assert_allclose(np.linalg.norm(turned), np.linalg.norm(q), rtol=1e-5)
    near = rope(q, [0], layout=layout) @ rope(k, [distance], layout=layout).T
    far = turned @ rope(k, [shift + distance], layout=layout).T
    # A float32 angle at 1e5 is exact to 1e5 / 2^24; the rest is rounding of the sums.
    scale = np.linalg.norm(q) * np.linalg.norm(k)
    np.testing.assert_allclose(far, near, atol=scale * (1e-5 + 2 * (shift + distance) / 2**24))


@pytest.mark.peer
@pytest.mark.parametrize("dim", [2, 8, 64])
def test_half_layout_equals_llama(dim):
    pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q, k, positions = random(2, 9, 3, dim), random(2, 9, 3, dim, seed=1), np.arange(9)[None] + np.array([[0], [400]])
    angles = positions[..., None] * 10000.0 ** (-np.arange(0, dim, 2) / dim)
    angles = torch.tensor(np.concatenate([angles, angles], -1)).float()
    want = apply_rotary_pos_emb(*(torch.tensor(t).transpose(1, 2) for t in (q, k)), angles.cos(), angles.sin())
    for ours, theirs in zip((q, k), want, strict=True):
        got = as_numpy(apply_rotary(ops.convert_to_tensor(ours), positions, layout="half"))
        np.testing.assert_allclose(got, theirs.transpose(1, 2).numpy(), atol=2e-4)


@pytest.mark.peer
def test_interleaved_layout_equals_roformer():
    pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from transformers.models.roformer.modeling_roformer import (
        RoFormerSelfAttention,
        RoFormerSinusoidalPositionalEmbedding,
    )

    table = RoFormerSinusoidalPositionalEmbedding(64, 8)
    sinusoids = table.create_weight()[None, None, :20]
    q = random(2, 20, 3, 8)
    turned, _ = RoFormerSelfAttention.apply_rotary_position_embeddings(
        sinusoids, torch.tensor(q).transpose(1, 2), torch.tensor(q).transpose(1, 2)
    )
    got = as_numpy(apply_rotary(ops.convert_to_tensor(q), np.arange(20)[None]))
    np.testing.assert_allclose(got, turned.transpose(1, 2).numpy(), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_vectors_are_turned_in_float32(dtype):
    """Positions of thousands are not bfloat16 numbers; the angles never are in the dtype of the vectors."""
    x = ops.cast(ops.convert_to_tensor(random(1, 1, 1, 64)), dtype)
    for m in (1001, 4097):
        got = apply_rotary(x, np.array([[m]]))
        want = apply_rotary(ops.cast(x, "float32"), np.array([[m]]))
        assert dtype in str(got.dtype)
        np.testing.assert_allclose(as_numpy(ops.cast(got, "float32")), as_numpy(want), rtol=2**-7, atol=2**-9)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("values", [False, True])
def test_rotary_hooks(layout, values):
    layer = RotaryPosition(6, layout=layout, values=values, base=100.0)
    assert layer.limit is None
    assert layer.inside_attention
    again = RotaryPosition.from_config(layer.get_config())
    q, k, v = (ops.convert_to_tensor(random(2, 4, 3, 6, seed=i)) for i in range(3))
    qp, kp = np.array([[0, 1, 2, 3], [5, 6, 7, 9]]), np.array([[3, 2, 1, 0], [4, 4, 4, 4]])
    tables = again.tables(qp, kp)
    assert all("float32" in str(t.dtype) for t in tables)
    got = *again.rotate(q, k, tables), again.rotate_values(v, tables)
    want = [apply_rotary(t, p, 100.0, layout) for t, p in ((q, qp), (k, kp), (v, kp))]
    if not values:
        want[2] = v
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(as_numpy(a), as_numpy(b), atol=1e-6)
    same = again.tables(qp, qp)
    np.testing.assert_array_equal(as_numpy(same[0]), as_numpy(same[2]))


def test_rotary_errors():
    for make in (lambda: RotaryPosition(5), lambda: RotaryPosition(0), lambda: rotary_angles([0], 3)):
        with pytest.raises(ConfigError, match="even"):
            make()
    with pytest.raises(ConfigError, match="'halves'"):
        RotaryPosition(4, layout="halves")
    with pytest.raises(ConfigError, match="'other'"):
        apply_rotary(ops.ones((1, 1, 1, 4)), [[0]], layout="other")


def test_base_hooks_do_nothing():
    base, x = PositionEncoding(), ops.ones((1, 2, 3))
    assert base.limit is None
    assert base.tables(None, None) == ()
    assert base.embed(x, None) is x
    assert base.rotate(x, x, ()) == (x, x)
    assert base.rotate_values(x, ()) is x
    assert base.scores(x, x, (), scale=1.0, layer=None) is None
    assert base.values(x, x, ()) is None


@pytest.mark.parametrize("offset", [0, 2])
def test_learned(tmp_path, offset):
    x, positions = random(2, 5, 4), np.array([[0, 1, 2, 3, 4], [3, 2, 1, 0, 0]], "int32")
    make = functools.partial(LearnedPosition, 5 + offset, offset)
    layer = check_layer(make, {"x": x, "position_ids": positions}, tmp_path)
    table = as_numpy(layer.table)
    assert table.shape == (5 + offset, 4)
    assert layer.limit == 5
    np.testing.assert_allclose(as_numpy(layer(x, positions)), x + table[positions + offset], atol=1e-6)


@pytest.mark.parametrize("offset", [0, 2])
def test_hierarchical(tmp_path, offset):
    n, alpha = 5, 0.4
    positions = np.arange(n * n, dtype="int32")[None]
    x = random(1, n * n, 4)
    make = functools.partial(HierarchicalPosition, n + offset, offset, alpha)
    layer = check_layer(make, {"x": x, "position_ids": positions}, tmp_path)
    table = as_numpy(layer.table)[offset:].astype("float64")
    assert layer.limit == n * n
    rows = as_numpy(layer(np.zeros_like(x), positions))[0]
    np.testing.assert_allclose(rows[:n], table, atol=1e-6)  # the trained rows come back
    u = (table - alpha * table[0]) / (1 - alpha)
    want = [alpha * u[t // n] + (1 - alpha) * u[t % n] for t in range(n * n)]
    np.testing.assert_allclose(rows, want, atol=1e-6)
    assert len(np.unique(rows.round(5), axis=0)) == 25


@pytest.mark.parametrize(("alpha", "distinct"), [(0.4, 25), (0.5, 15), (0.6, 25)])
def test_hierarchical_formula(alpha, distinct):
    """At 0.5 the positions (i, j) and (j, i) fall together: 15 of 25 are left (spec 17)."""
    table = np.random.default_rng(3).normal(size=(5, 3))
    u = hierarchical_table(table, alpha)
    rows = np.array([alpha * u[t // 5] + (1 - alpha) * u[t % 5] for t in range(25)])
    assert len(np.unique(rows.round(9), axis=0)) == distinct
    np.testing.assert_allclose(rows[:5], table, atol=1e-12)


def test_learned_errors():
    for alpha in (0.5, 0.0, 1.0, -0.1):
        with pytest.raises(ConfigError, match=f"alpha={alpha}"):
            HierarchicalPosition(5, alpha=alpha)
    with pytest.raises(ConfigError, match="max_length=2, offset=2"):
        LearnedPosition(2, 2)
