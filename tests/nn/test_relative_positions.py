"""Relative positions whose terms meet the content (Transformer-XL, DeBERTa), against double loops in NumPy."""

import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy, gradient, jit

from kexue.errors import ConfigError
from kexue.nn.attention.multihead import MultiHeadAttention
from kexue.nn.attention.plumbing import PositionTables
from kexue.nn.positions import registry
from kexue.nn.positions.base import Sizes
from kexue.nn.positions.deberta import DebertaPosition, log_bucket
from kexue.nn.positions.transformer_xl import TransformerXLPosition, distance_sinusoids

B, L, H, K, D = 2, 5, 3, 4, 6
COUNTED = np.arange(L)[None]
PACKED = np.array([[0, 1, 2, 0, 1], [0, 0, 1, 2, 3]])
GAPS = np.array([[0, 900, 3, 17, 2], [5, 4, 3, 2, 40]])
PLACES = {"counted": COUNTED, "packed": PACKED, "gaps": GAPS}
each_place = pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def layer_with(positions, **kwargs):
    """An attention layer with random weights, and what computes the tables."""
    attention = MultiHeadAttention(H, K, positions=positions, use_bias=True, **kwargs)
    attention.build((None, None, D))
    tables = PositionTables(positions)
    tables.build()
    for seed, variable in enumerate([*attention.weights, *tables.weights]):
        variable.assign(random(*variable.shape, seed=seed + 10) * 0.5)
    return attention, tables


def score(positions, attention, tables, q, k, places, **segments):
    return positions.scores(
        ops.convert_to_tensor(q), ops.convert_to_tensor(k), tables(places, **segments), scale=0.7, layer=attention
    )


def sinusoid(d, size):
    angles = d * 10000.0 ** (-np.arange(0, size, 2) / size)
    return np.concatenate([np.sin(angles), np.cos(angles)])


def xl_loops(w, q, k, places, segments=None, clamp=None):
    """The formula of the module, one pair at a time."""
    out = np.zeros((B, H, L, L))
    kernel = w["kernel"].reshape(D, H, K)
    for b, h, i, j in np.ndindex(B, H, L, L):
        p = np.broadcast_to(places, (B, L))[b]
        d = p[i] - p[j] if clamp is None else np.clip(p[i] - p[j], -clamp, clamp)
        value = w["content_bias"][h] @ k[b, j, h]
        value += (q[b, i, h] + w["position_bias"][h]) @ (sinusoid(d, D) @ kernel[:, h])
        if segments is not None:
            other = int(segments[b, i] != segments[b, j])
            value += (q[b, i, h] + w["segment_bias"][h]) @ w["segment_table"][other, h]
        out[b, h, i, j] = 0.7 * value
    return out


@each_place
@pytest.mark.parametrize("clamp", [None, 2])
@pytest.mark.parametrize("segmented", [False, True])
def test_transformer_xl_equals_loops(places, clamp, segmented):
    positions = TransformerXLPosition(D, segments=segmented, clamp=clamp)
    attention, tables = layer_with(positions)
    q, k = random(B, L, H, K), random(B, L, H, K, seed=1)
    segments = np.array([[0, 0, 1, 1, 2], [1, 0, 0, 2, 2]]) if segmented else None
    given = {"query_segments": segments} if segmented else {}
    w = {n: as_numpy(v.value).astype("float64") for n, v in attention.position_weights.items()}
    want = xl_loops(w, q, k, places, segments, clamp)
    got = score(positions, attention, tables, q, k, places, **given)
    np.testing.assert_allclose(as_numpy(got), want, rtol=1e-4, atol=2e-4)
    compiled = jit(lambda q, k, p: score(positions, attention, tables, q, k, p, **given))
    np.testing.assert_allclose(as_numpy(compiled(q, k, places)), want, rtol=1e-4, atol=2e-4)


def test_transformer_xl_without_segments_is_one_segment():
    """The missing term is the same for all keys of a query: equal probabilities."""
    positions = TransformerXLPosition(D, segments=True)
    attention, tables = layer_with(positions)
    x = random(B, L, D)
    with_ones = attention(x, tables=tables(COUNTED, query_segments=np.ones((B, L), "int32")))
    without = attention(x, tables=tables(COUNTED))
    np.testing.assert_allclose(as_numpy(without), as_numpy(with_ones), atol=1e-5)
    two = attention(x, tables=tables(COUNTED, query_segments=np.arange(L, dtype="int32")[None].repeat(B, 0) // 3))
    assert np.abs(as_numpy(two) - as_numpy(without)).max() > 1e-2


def test_gradients_of_both_ways_agree():
    positions = TransformerXLPosition(D)
    attention, tables = layer_with(positions)
    k = random(B, L, H, K, seed=1)
    # One row with a gap sends the whole batch the other way; the first row has the same distances in both.
    near, far = COUNTED.repeat(B, 0), np.concatenate([COUNTED, [[0, 1, 2, 3, 900]]])

    def loss(places):
        def value(q):
            return ops.sum(score(positions, attention, tables, q, k, places)[0] ** 2)

        return value

    q = random(B, L, H, K)
    np.testing.assert_allclose(gradient(loss(near), q), gradient(loss(far), q), rtol=1e-3, atol=1e-4)


def test_distance_sinusoids():
    got = as_numpy(distance_sinusoids(np.array([-3, 0, 700]), 8))
    for row, d in zip(got, (-3, 0, 700), strict=True):
        np.testing.assert_allclose(row, sinusoid(d, 8), atol=1e-4)


def bucket(d, buckets, most):
    """DeBERTa's buckets from their description, in exact arithmetic where it matters (no exact powers here)."""
    half = buckets // 2
    if abs(d) <= half:
        return d
    return int(np.sign(d)) * (half + int(np.ceil(np.log(abs(d) / half) / np.log((most - 1) / half) * (half - 1))))


@each_place
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("terms", [("c2p", "p2c"), ("c2p",), ("p2c",)])
@pytest.mark.parametrize("buckets", [None, 6])
def test_deberta_equals_loops(places, shared, terms, buckets):
    positions = DebertaPosition(D, 11 if buckets else 3, buckets, terms, shared, norm=1e-6)
    attention, tables = layer_with(positions)
    q, k = random(B, L, H, K), random(B, L, H, K, seed=1)
    table = as_numpy(positions.table.value).astype("float64")
    table = (table - table.mean(-1, keepdims=True)) / np.sqrt(table.var(-1, keepdims=True) + 1e-6)
    table = table * as_numpy(positions.norm.gain.value) + as_numpy(positions.norm.bias.value)
    if shared:
        kernel, bias = as_numpy(attention.qkv_kernel.value), as_numpy(attention.qkv_bias.value)
        maps = {"p2c": (kernel[:, :12], bias[:12]), "c2p": (kernel[:, 12:24], bias[12:24])}
    else:
        w = {n: as_numpy(v.value) for n, v in attention.position_weights.items()}
        names = {"c2p": "position_key", "p2c": "position_query"}
        maps = {t: (w[f"{names[t]}_kernel"], w[f"{names[t]}_bias"]) for t in terms}
    sent = {t: (table @ m[0] + m[1]).reshape(-1, H, K) for t, m in maps.items()}
    span = buckets or 3
    want = np.zeros((B, H, L, L))
    for b, h, i, j in np.ndindex(B, H, L, L):
        p = np.broadcast_to(places, (B, L))[b]
        d = int(p[i] - p[j])
        row = int(np.clip((bucket(d, buckets, 11) if buckets else d) + span, 0, 2 * span - 1))
        if "c2p" in terms:
            want[b, h, i, j] += 0.7 * q[b, i, h] @ sent["c2p"][row, h]
        if "p2c" in terms:
            want[b, h, i, j] += 0.7 * k[b, j, h] @ sent["p2c"][row, h]
    got = as_numpy(score(positions, attention, tables, q, k, places))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-4)
    assert attention.scale_factor == pytest.approx((K * (1 + len(terms))) ** -0.5)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("buckets", "most"), [(256, 512), (32, 128), (6, 11), (8, 33), (8, 17), (64, 512), (320, 1024), (256, 4096)]
)
def test_log_buckets_equal_transformers(buckets, most):
    pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    d = np.arange(-3 * most, 3 * most + 1)
    want = make_log_bucket_position(torch.tensor(d), buckets, most).long().numpy()
    np.testing.assert_array_equal(log_bucket(d, buckets, most), want)
    rows = as_numpy(DebertaPosition(D, most, buckets).rows(ops.convert_to_tensor(d.astype("int32"))))
    np.testing.assert_array_equal(rows, np.clip(want + buckets, 0, 2 * buckets - 1))


def test_log_buckets():
    """Odd, monotone, the identity for near distances, the last bucket at the longest distance."""
    d = np.arange(-600, 601)
    b = log_bucket(d, 256, 512)
    np.testing.assert_array_equal(b, -b[::-1])
    assert (np.diff(b) >= 0).all()
    np.testing.assert_array_equal(b[np.abs(d) <= 128], d[np.abs(d) <= 128])
    assert log_bucket(511, 256, 512) == 255
    assert log_bucket(512, 256, 512) == 256


@pytest.mark.parametrize("name", ["transformer_xl", "deberta"])
def test_only_distances_count(name):
    sizes = Sizes(width=D, heads=H, key_size=K, max_length=16, vocabulary_size=9, hidden_size=D)
    positions = registry.make(name, {}, sizes)
    attention, tables = layer_with(positions)
    x = random(B, L, D)
    near, far = (as_numpy(attention(x, tables=tables(COUNTED + shift))) for shift in (0, 40))
    np.testing.assert_allclose(far, near, atol=1e-5)
    other = as_numpy(attention(x, tables=tables(COUNTED[:, ::-1].copy())))
    assert np.abs(other - near).max() > 1e-2  # a direction is seen
    again = type(positions).from_config(positions.get_config())
    assert again.get_config() == positions.get_config()


@pytest.mark.parametrize("name", ["transformer_xl", "deberta"])
def test_queries_of_their_own(name):
    """Fewer queries than keys, with positions of their own: rows of the full result."""
    sizes = Sizes(width=D, heads=H, key_size=K, max_length=16, vocabulary_size=9, hidden_size=D)
    positions = registry.make(name, {}, sizes)
    attention, tables = layer_with(positions)
    x = random(B, L, D)
    want = as_numpy(attention(x, tables=tables(COUNTED)))[:, [3, 1]]
    got = attention(x, queries=x[:, [3, 1]], tables=tables(np.array([[3, 1]]), COUNTED))
    np.testing.assert_allclose(as_numpy(got), want, atol=1e-5)


def test_errors():
    with pytest.raises(ConfigError, match="size=5"):
        TransformerXLPosition(5)
    with pytest.raises(ConfigError, match="clamp=0"):
        TransformerXLPosition(4, clamp=0)
    with pytest.raises(ConfigError, match="terms="):
        DebertaPosition(4, 8, terms=("c2c",))
    with pytest.raises(ConfigError, match="buckets=16"):
        DebertaPosition(4, 8, buckets=16)
