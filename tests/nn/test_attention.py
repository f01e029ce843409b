"""Attention kernels against loops in NumPy, and the layer around them."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from tests.nn.harness import BACKEND, as_numpy, check_layer, gradient, jit

from kexue.errors import ConfigError
from kexue.nn import masks
from kexue.nn.attention.kernels import attend, explicit_attention
from kexue.nn.attention.multihead import MultiHeadAttention
from kexue.nn.attention.plumbing import AttentionMask, PositionIds
from kexue.nn.positions.rotary import RotaryPosition, apply_rotary


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def loops(q, k, v, scale, mask=None, *, bias=None, causal=False):
    """One query and head at a time, over the keys it sees."""
    batch, queries, heads, _ = q.shape
    keys = k.shape[1]
    full = (batch, heads, queries, keys)
    mask = np.ones(full, bool) if mask is None else np.broadcast_to(mask, full)
    bias = np.zeros(full) if bias is None else np.broadcast_to(bias, full)
    out = np.zeros((batch, queries, heads, v.shape[-1]))
    for b, i, h in np.ndindex(batch, queries, heads):
        seen = [j for j in range(keys) if mask[b, h, i, j] and (not causal or j <= i)]
        if seen:
            scores = np.array([scale * (q[b, i, h] @ k[b, j, h]) + bias[b, h, i, j] for j in seen], "float64")
            weights = np.exp(scores - scores.max())
            out[b, i, h] = weights / weights.sum() @ v[b, seen, h]
    return out


def jax_fused(*args, **kwargs):
    from kexue.nn.attention.kernels_jax import fused_attention

    return fused_attention(*(ops.convert_to_tensor(a) for a in args), **kwargs)


KERNELS = {"attend": attend, "explicit": explicit_attention} | ({"jax_fused": jax_fused} if BACKEND == "jax" else {})
kernels = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)

B, Q, H, D = 2, 5, 3, 4


def qkv(keys=Q, value_size=D):
    return random(B, Q, H, D), random(B, keys, H, D, seed=1), random(B, keys, H, value_size, seed=2)


def tensors(*arrays):
    return [None if a is None else ops.convert_to_tensor(a) for a in arrays]


MASKS = [None, (1, 1, Q, Q), (B, 1, 1, Q), (B, 1, Q, Q), (1, H, Q, Q), (B, H, Q, Q)]
BIASES = [(1, 1), (B, 1), (1, H), (B, H)]
# Every mask shape without a bias and with one, every bias shape without a mask; not the whole product.
SHAPES = [(m, None) for m in MASKS] + [(None, b) for b in BIASES] + list(zip(MASKS[1:], [*BIASES, (B, H)], strict=True))


@kernels
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("masked", "biased"), SHAPES)
def test_equals_the_loops(kernel, causal, masked, biased):
    q, k, v = qkv()
    rng = np.random.default_rng(5)
    mask = None if masked is None else rng.random(masked) < 0.5
    if mask is not None:
        mask[0, 0, 0] = False  # a query that sees nothing (all of them in one row where padding hides everything)
    bias = None if biased is None else random(*biased, Q, Q, seed=3)
    got = kernel(*tensors(q, k, v), scale=0.7, mask=tensors(mask)[0], bias=tensors(bias)[0], causal=causal)
    np.testing.assert_allclose(as_numpy(got), loops(q, k, v, 0.7, mask, bias=bias, causal=causal), atol=2e-6, rtol=1e-5)


@kernels
@pytest.mark.parametrize("keys", [1, 7])
@pytest.mark.parametrize("value_size", [1, 6])
def test_other_lengths_and_value_sizes(kernel, keys, value_size):
    if kernel is jax_fused and value_size != D:
        pytest.skip("jax.nn.dot_product_attention wants values of the size of the keys")
    q, k, v = qkv(keys, value_size)
    mask = np.random.default_rng(1).random((B, 1, Q, keys)) < 0.6
    got = kernel(*tensors(q, k, v), scale=1.0, mask=tensors(mask)[0])
    np.testing.assert_allclose(as_numpy(got), loops(q, k, v, 1.0, mask), atol=2e-6, rtol=1e-5)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.2, 0.5, 0.9]), st.booleans())
def test_random_masks(seed, share, causal):
    mask = np.random.default_rng(seed).random((B, H, Q, Q)) < share
    q, k, v = qkv()
    want = loops(q, k, v, 0.5, mask, causal=causal)
    for kernel in KERNELS.values():
        got = kernel(*tensors(q, k, v), scale=0.5, mask=tensors(mask)[0], causal=causal)
        np.testing.assert_allclose(as_numpy(got), want, atol=2e-6, rtol=1e-5)


@kernels
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_a_row_that_sees_nothing(kernel, causal, biased):
    """Zeros, not NaN and not the mean; no gradient from it, and finite ones elsewhere."""
    q, k, v = qkv()
    mask = np.ones((B, 1, Q, Q), bool)
    mask[0, :, 2] = False
    mask[1] = False
    bias = tensors(random(1, H, Q, Q) * 50)[0] if biased else None

    def run(t):
        return kernel(*t, scale=1.0, mask=tensors(mask)[0], bias=bias, causal=causal)

    got = as_numpy(run(tensors(q, k, v)))
    assert not got[0, 2].any()
    assert not got[1].any()
    for i, x in enumerate((q, k, v)):

        def loss(t, i=i):
            values = tensors(q, k, v)
            values[i] = t
            return ops.sum(run(values) ** 2)

        slope = gradient(loss, x)
        assert np.isfinite(slope).all()
        assert not slope[1].any()
        assert slope[0].any()


@kernels
def test_extreme_scores(kernel):
    q, k, v = (t * 100 for t in qkv())
    mask = np.tril(np.ones((1, 1, Q, Q), bool))
    got = as_numpy(kernel(*tensors(q, k, v), scale=10.0, mask=tensors(mask)[0]))
    np.testing.assert_allclose(got, loops(q, k, v, 10.0, mask), rtol=1e-4, atol=1e-2)


@kernels
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision(kernel, dtype):
    """Same dtype out; hidden keys stay hidden although -1e30 is not a float16 number."""
    q, k, v = qkv()
    mask = np.tril(np.ones((1, 1, Q, Q), bool)) & ~np.eye(Q, dtype=bool)
    low = [ops.cast(t, dtype) for t in tensors(q, k, v)]
    got = kernel(*low, scale=0.5, mask=tensors(mask)[0], bias=ops.cast(tensors(random(1, H, Q, Q))[0], dtype))
    assert keras.backend.standardize_dtype(got.dtype) == dtype
    got = as_numpy(ops.cast(got, "float32"))
    assert not got[:, 0].any()
    np.testing.assert_allclose(got, loops(q, k, v, 0.5, mask, bias=random(1, H, Q, Q)), atol=0.05)


@kernels
def test_gradients_agree_with_finite_differences(kernel):
    q, k, v = qkv()
    mask = np.random.default_rng(3).random((B, 1, Q, Q)) < 0.7
    probe = random(B, Q, H, D, seed=9)
    slope = gradient(
        lambda t: ops.sum(
            kernel(t, *tensors(k, v), scale=0.5, mask=tensors(mask)[0], causal=True) * ops.convert_to_tensor(probe)
        ),
        q,
    )
    step, direction = 1e-4, random(*q.shape, seed=11).astype("float64")
    high, low = (
        (loops(q + s * direction, k, v, 0.5, mask, causal=True) * probe).sum() for s in (step, -step)
    )  # float64
    np.testing.assert_allclose((slope * direction).sum(), (high - low) / (2 * step), rtol=1e-3)


def test_dropout_of_probabilities():
    """Kept shares have the right mean and are scaled up; a seed decides which."""
    rate, length = 0.3, 64
    q = np.zeros((4, length, 2, 4), "float32")  # uniform probabilities 1 / length
    v = np.broadcast_to(np.eye(length, dtype="float32")[None, :, None], (4, length, 2, length)).copy()

    def run(seed):
        keras.utils.set_random_seed(seed)
        return as_numpy(
            attend(*tensors(q, q, v), scale=1.0, dropout=rate, seed=keras.random.SeedGenerator(seed))
        )  # (B, L, H, L): the probabilities themselves

    p = run(1) * length
    kept = p > 0
    np.testing.assert_allclose(p[kept], 1 / (1 - rate), rtol=1e-4)
    np.testing.assert_allclose(kept.mean(), 1 - rate, atol=4 * (rate * (1 - rate) / kept.size) ** 0.5)
    # Rows, heads and queries draw on their own.
    flat = kept.transpose(0, 2, 1, 3).reshape(-1, length)
    assert len(np.unique(flat, axis=0)) == len(flat)
    np.testing.assert_array_equal(p, run(1) * length)
    assert (p != run(2) * length).any()


@pytest.mark.parametrize("causal", [False, True])
def test_dropout_keeps_masks(causal):
    q, k, v = qkv()
    mask = np.random.default_rng(3).random((B, 1, Q, Q)) < 0.5
    mask[0, 0, 1] = False
    visible = mask & (np.tril(np.ones((Q, Q), bool)) if causal else True)
    v = np.broadcast_to(np.eye(Q, dtype="float32")[None, :, None], (B, Q, H, Q)).copy()
    got = as_numpy(
        attend(
            *tensors(q, k, v), scale=0.5, mask=tensors(mask)[0], causal=causal, dropout=0.4,
            seed=keras.random.SeedGenerator(0),
        )
    )  # fmt: skip
    assert np.isfinite(got).all()
    hidden = np.broadcast_to(~visible.transpose(0, 2, 1, 3), got.shape)
    assert not got[hidden].any()


def layer_reference(layer, x, mask=None, *, causal=False, positions=None):
    w = {v.name: as_numpy(v) for v in layer.weights}
    heads, key, value = layer.heads, layer.key_size, layer.value_size
    fused = x @ w["qkv_kernel"] + w.get("qkv_bias", 0)
    q, k, v = np.split(fused, [heads * key, 2 * heads * key], axis=-1)
    q, k = (t.reshape(*x.shape[:2], heads, key) for t in (q, k))
    if positions is not None:
        q, k = (as_numpy(apply_rotary(ops.convert_to_tensor(t), positions)) for t in (q, k))
    context = loops(q, k, v.reshape(*x.shape[:2], heads, value), layer.scale_factor, mask, causal=causal)
    return context.reshape(*x.shape[:2], -1) @ w["output_kernel"] + w.get("output_bias", 0)


def build_layer(x, **kwargs):
    layer = MultiHeadAttention(3, initializer=0.4, dropout=0.2, **kwargs)
    layer(x)
    for i, variable in enumerate(layer.trainable_variables):
        variable.assign(random(*variable.shape, seed=i))
    return layer


@pytest.mark.parametrize("kwargs", [{"key_size": 4}, {"key_size": 2, "value_size": 5, "use_bias": False}])
def test_layer_contract(tmp_path, kwargs):
    make = functools.partial(MultiHeadAttention, 3, causal=True, initializer=0.4, dropout=0.2, **kwargs)
    check_layer(make, {"x": random(2, 5, 6)}, tmp_path)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(("key", "value"), [(4, None), (2, 5), (6, 1)])
@pytest.mark.parametrize("causal", [False, True])
def test_layer(use_bias, key, value, causal):
    x = random(2, 5, 6)
    layer = build_layer(x, key_size=key, value_size=value, causal=causal, use_bias=use_bias)
    np.testing.assert_allclose(as_numpy(layer(x)), layer_reference(layer, x, causal=causal), atol=2e-4, rtol=1e-4)
    padding = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)[:, None, None]
    got = as_numpy(layer(x, attention_mask=ops.convert_to_tensor(padding)))
    np.testing.assert_allclose(got, layer_reference(layer, x, padding, causal=causal), atol=2e-4, rtol=1e-4)


def test_layer_with_rotary_positions():
    x, ids = random(2, 5, 6), np.array([[0, 1, 2, 3, 4], [9, 3, 3, 0, 1]])
    positions = RotaryPosition(4)
    layer = MultiHeadAttention(2, 4, positions=positions, initializer=0.5)
    got = layer(x, tables=positions.tables(ids, ids))
    np.testing.assert_allclose(as_numpy(got), layer_reference(layer, x, positions=ids), atol=1e-5)
    again = MultiHeadAttention.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert isinstance(again.positions, RotaryPosition)


def test_scale():
    x = random(1, 4, 6)
    layer = MultiHeadAttention(2, 3, scale=0.123, initializer=0.5)
    assert layer.scale_factor == 0.123
    np.testing.assert_allclose(as_numpy(layer(x)), layer_reference(layer, x), atol=1e-5)
    assert MultiHeadAttention(2, 9).scale_factor == pytest.approx(1 / 3)


def test_layer_errors():
    for arguments, words in (((0, 4), "heads=0"), ((2, 0), "key_size=0")):
        with pytest.raises(ConfigError, match=words):
            MultiHeadAttention(*arguments)
    with pytest.raises(ConfigError, match="'square'"):
        MultiHeadAttention(2, 4, scale="square")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_rotary_tables_stay_float32(policy):
    seen = []

    class Spy(RotaryPosition):
        def rotate(self, q, k, tables):
            seen.extend(keras.backend.standardize_dtype(t.dtype) for t in tables)
            return super().rotate(q, k, tables)

    positions = Spy(4, dtype=policy)
    layer = MultiHeadAttention(2, 4, positions=positions, dtype=policy)
    ids = np.arange(5)[None]
    layer(random(1, 5, 6), tables=positions.tables(ids, ids))
    assert set(seen) == {"float32"}


def test_training_uses_dropout():
    x = random(2, 8, 6)
    layer = MultiHeadAttention(2, 3, dropout=0.5, initializer=0.5)
    plain = as_numpy(layer(x))
    np.testing.assert_array_equal(as_numpy(layer(x, training=False)), plain)
    assert np.abs(as_numpy(layer(x, training=True)) - plain).max() > 1e-3


def test_position_ids():
    ids, padding = np.ones((2, 5), "int32"), np.array([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
    assert as_numpy(PositionIds()(ids)).tolist() == [[0, 1, 2, 3, 4]]
    given_ids = np.array([[4, 3, 2, 1, 0], [0, 0, 0, 1, 1]])
    np.testing.assert_array_equal(as_numpy(PositionIds()(ids, given_ids)), given_ids)
    documents = np.array([[1, 1, 2, 2, 2], [3, 3, 3, 0, 0]])
    assert as_numpy(PositionIds()(ids, None, documents)).tolist() == [[0, 1, 0, 1, 2], [0, 1, 2, 0, 1]]
    got = as_numpy(PositionIds(from_padding=True)(ids, None, None, padding))
    assert got[0, 2:].tolist() == [0, 1, 2]
    assert got[1, :3].tolist() == [0, 1, 2]
    assert got.min() >= 0


def test_attention_mask_layer_is_as_small_as_it_can_be():
    ids, padding = np.ones((2, 5), "int32"), np.ones((2, 5), bool)
    for rule in (masks.Bidirectional(), masks.Causal(), masks.Causal() & masks.Window(None, 0)):
        layer = AttentionMask(rule)
        assert layer(ids) is None
        assert tuple(layer(ids, padding).shape) == (2, 1, 1, 5)
    assert AttentionMask("causal").causal_flag
    assert not AttentionMask(masks.Causal() & masks.Window(2, 0)).causal_flag
    assert tuple(AttentionMask("prefix")(ids).shape) == (2, 1, 5, 5)
    again = AttentionMask.from_config(AttentionMask(masks.Window(1, 2)).get_config())
    assert again.mask == masks.Window(1, 2)


@kernels
def test_compiled_equals_eager(kernel):
    q, k, v = qkv()
    mask = np.random.default_rng(3).random((B, 1, Q, Q)) < 0.5
    run = functools.partial(kernel, scale=0.5, causal=True)
    want = as_numpy(run(*tensors(q, k, v), mask=tensors(mask)[0]))
    got = jit(lambda a, b, c, m: run(a, b, c, mask=m))(*tensors(q, k, v, mask))
    np.testing.assert_allclose(as_numpy(got), want, atol=1e-6)
