"""The options of softmax attention, each against loops in NumPy and its own identities."""

import functools
import itertools

import keras
import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy, check_layer, gradient

from kexue.errors import ConfigError
from kexue.models import Transformer, TransformerConfig
from kexue.nn import taps
from kexue.nn.attention.diagnostics import rank
from kexue.nn.attention.kernels import attend
from kexue.nn.attention.multihead import MultiHeadAttention
from kexue.nn.positions.rotary import RotaryPosition

B, L, D, H, K, V = 2, 5, 6, 4, 3, 2


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomise(layer, spread=1.0):
    for i, variable in enumerate(layer.trainable_variables):
        variable.assign(random(*variable.shape, seed=i) * spread)
    return layer


def built(heads=H, key_size=K, value_size=V, shapes=((None, None, D),), **kwargs):
    layer = MultiHeadAttention(heads, key_size, value_size, initializer=0.6, **kwargs)
    layer.build(*shapes)
    return randomise(layer)


def soft(scores, seen):
    """Softmax over the visible keys, zeros where there are none; float64."""
    scores = np.where(seen, scores, -np.inf)
    top = np.where(seen.any(-1, keepdims=True), scores.max(-1, keepdims=True), 0.0)
    e = np.exp(scores - top)
    return np.divide(e, e.sum(-1, keepdims=True), out=np.zeros_like(e), where=seen.any(-1, keepdims=True))


def reference(layer, x, seen=None, *, context=None, queries=None, previous=None):
    """Output and scores of any options, a head at a time."""
    w = {v.name: as_numpy(v).astype("float64") for v in layer.weights}
    x = x.astype("float64")
    nq, nk, nv = layer.query_heads, layer.key_heads, layer.value_heads
    if context is not None:
        q = x @ w["query_kernel"] + w["query_bias"]
        kv = context @ w["key_value_kernel"] + w["key_value_bias"]
    else:
        edge = nq * layer.key_size
        fused = x @ w["qkv_kernel"] + w["qkv_bias"]
        q, kv = fused[..., :edge], fused[..., edge:]
        if queries is not None:
            q = (queries @ w["qkv_kernel"] + w["qkv_bias"])[..., :edge]
    k, v = kv[..., : nk * layer.key_size], kv[..., nk * layer.key_size :]
    q, k, v = (t.reshape(*t.shape[:2], n, -1) for t, n in ((q, nq), (k, nk), (v, nv)))
    scores = np.zeros((len(x), nq, q.shape[1], k.shape[1]))
    for h in range(nq):
        scores[:, h] = q[:, :, h] @ k[:, :, h * nk // nq].transpose(0, 2, 1) * layer.key_size**-0.5
    scores = scores if previous is None else scores + previous
    mixed = scores
    if layer.talking != "none":
        mixed = sum(scores[:, [g]] * w["score_mix"][g][None, :, None, None] for g in range(nq))
    seen = np.ones((1, 1, 1, 1), bool) if seen is None else seen
    p = soft(mixed, np.broadcast_to(seen, mixed.shape))
    if layer.talking == "pre_post":
        p = sum(p[:, [g]] * w["probability_mix"][g][None, :, None, None] for g in range(p.shape[1]))
    out = [p[:, h] @ v[:, :, h * nv // layer.heads] for h in range(layer.heads)]
    return np.concatenate(out, -1) @ w["output_kernel"] + w["output_bias"], scores


NOTHING = np.tril(np.ones((L, L), bool))[None, None] & np.array([[1] * 5, [0, 0, 1, 1, 1]], bool)[:, None, None]
OPTIONS = {
    "key size": {},
    "pre": {"talking": "pre"},
    "pre_post": {"talking": "pre_post"},
    "more logit heads": {"talking": "pre", "logit_heads": 7},
    "fewer logit heads": {"talking": "pre_post", "logit_heads": 2},
    "grouped": {"key_heads": 2},
    "one key head": {"key_heads": 1},
    "grouped, pre_post": {"key_heads": 2, "talking": "pre_post"},
}
options = pytest.mark.parametrize("kwargs", OPTIONS.values(), ids=OPTIONS)


@options
@pytest.mark.parametrize("seen", [None, NOTHING], ids=["all", "some rows nothing"])
def test_equals_the_loops(kwargs, seen):
    x, layer = random(B, L, D, seed=5), built(**kwargs)
    got = as_numpy(layer(x, attention_mask=None if seen is None else ops.convert_to_tensor(seen)))
    np.testing.assert_allclose(got, reference(layer, x, seen)[0], atol=2e-4, rtol=1e-4)
    if seen is not None:  # a row without visible keys is zeros before the output projection, also after mixing
        np.testing.assert_allclose(got[1, :2], np.broadcast_to(as_numpy(layer.output_bias), (2, D)), atol=1e-6)


@options
def test_cross_attention(kwargs):
    x, context = random(B, L, D, seed=5), random(B, 7, 4, seed=6)
    layer = built(cross=True, shapes=((None, None, D), (None, None, 4)), **kwargs)
    seen = np.random.default_rng(0).random((B, 1, L, 7)) < 0.6
    seen[0, 0, 1] = False
    got = as_numpy(layer(x, attention_mask=ops.convert_to_tensor(seen), context=context))
    np.testing.assert_allclose(got, reference(layer, x, seen, context=context)[0], atol=2e-4, rtol=1e-4)
    with pytest.raises(ConfigError, match="needs a context"):
        layer(x)


def test_queries_of_another_stream():
    x, other, layer = random(B, L, D, seed=5), random(B, 3, D, seed=6), built()
    got = as_numpy(layer(x, queries=other))
    np.testing.assert_allclose(got, reference(layer, x, queries=other)[0], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "kwargs", [{"talking": "pre_post", "logit_heads": 7}, {"key_heads": 2, "scale": "log_n"}], ids=str
)
def test_layer_contract(tmp_path, kwargs):
    make = functools.partial(MultiHeadAttention, H, K, V, causal=True, initializer=0.4, **kwargs)
    check_layer(make, {"x": random(B, L, D)}, tmp_path)


@options
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("residual", [False, True])
def test_low_precision_where_nothing_is_visible(kwargs, policy, residual):
    nobody = np.zeros((B, 1, 1, L), bool)
    nobody[0, ..., :3] = True  # in the second row every query sees nothing
    layer = built(dtype=policy, residual_scores=residual, causal=True, scale="log_n", **kwargs)
    assert MultiHeadAttention.from_config(layer.get_config()).get_config() == layer.get_config()
    out = layer(random(B, L, D), attention_mask=ops.convert_to_tensor(nobody))
    if residual:
        out, scores = out
        assert keras.backend.standardize_dtype(scores.dtype) == "float32"
    assert keras.backend.standardize_dtype(out.dtype) == policy.removeprefix("mixed_")
    out = as_numpy(ops.cast(out, "float32"))
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[1], np.broadcast_to(as_numpy(layer.output_bias), (L, D)), atol=0.02)


# ---------------------------------------------------------------- heads that talk


@pytest.mark.parametrize("talking", ["pre", "pre_post"])
def test_new_heads_are_silent(talking):
    """They start at the identity: the weights of a model without them give exactly its outputs."""
    plain, layer = built(), built(talking=talking)
    layer.qkv_kernel.assign(plain.qkv_kernel)
    for name in ("qkv_bias", "output_kernel", "output_bias"):
        getattr(layer, name).assign(getattr(plain, name))
    fresh = MultiHeadAttention(H, K, V, talking=talking)
    fresh.build((None, None, D))
    for mix in (m for m in ("score_mix", "probability_mix") if getattr(layer, m) is not None):
        np.testing.assert_array_equal(as_numpy(getattr(fresh, mix)), np.eye(H))
        getattr(layer, mix).assign(np.eye(H))
    x = random(B, L, D, seed=5)
    mask = ops.convert_to_tensor(NOTHING)
    with taps.collecting("probabilities"):  # so that both take the explicit road
        want = as_numpy(plain(x, attention_mask=mask))
    np.testing.assert_array_equal(as_numpy(layer(x, attention_mask=mask)), want)


@pytest.mark.parametrize("talking", ["pre", "pre_post"])
def test_permuting_heads(talking):
    """Heads have no order: permuted along with the maps between them, the layer is the same function."""
    layer, other = built(talking=talking), built(talking=talking)
    order = np.array([2, 0, 3, 1])

    def columns(size):
        return np.concatenate([np.arange(h * size, (h + 1) * size) for h in order])

    parts = np.concatenate([columns(K), H * K + columns(K), 2 * H * K + columns(V)])
    other.qkv_kernel.assign(as_numpy(layer.qkv_kernel)[:, parts])
    other.qkv_bias.assign(as_numpy(layer.qkv_bias)[parts])
    other.output_kernel.assign(as_numpy(layer.output_kernel)[columns(V)])
    other.score_mix.assign(as_numpy(layer.score_mix)[order][:, order])
    if talking == "pre_post":
        other.probability_mix.assign(as_numpy(layer.probability_mix)[order][:, order])
    x = random(B, L, D, seed=5)
    np.testing.assert_allclose(as_numpy(other(x)), as_numpy(layer(x)), atol=2e-5)
    if talking == "pre":
        other.score_mix.assign(layer.score_mix)
        assert np.abs(as_numpy(other(x)) - as_numpy(layer(x))).max() > 1e-3


def test_mixed_probabilities_keep_hidden_keys_hidden():
    """They need not be positive nor sum to 1 any more, but a hidden key stays at zero."""
    layer = built(talking="pre_post")
    with taps.collecting("probabilities") as found:
        layer(random(B, L, D), attention_mask=ops.convert_to_tensor(NOTHING))
    p = as_numpy(next(iter(found.values())))
    assert not p[~np.broadcast_to(NOTHING, p.shape)].any()
    assert (p < 0).any()
    assert np.abs(p.sum(-1)[0] - 1).max() > 0.1


def test_number_of_weights():
    """Key size alone: 2 D h (k - v) more than a standard layer; heads that talk: h_k h, and h h after the softmax."""

    def count(**kwargs):
        layer = MultiHeadAttention(8, kwargs.pop("key_size", 4), 4, use_bias=False, **kwargs)
        layer.build((None, None, 32))
        return layer.count_params()

    standard = count()
    assert standard == 4 * 32 * 32
    assert count(key_size=16) == standard + 2 * 32 * 8 * 12
    assert count(talking="pre") == standard + 64
    assert count(talking="pre_post") == standard + 128
    assert count(talking="pre", logit_heads=16) == standard + 2 * 32 * 8 * 4 + 16 * 8
    assert count(key_heads=2) == standard - 2 * 32 * 6 * 4


def test_rank_of_scores():
    """A head's scores have no rank beyond its key size, after the map between heads none beyond the sum of all; the
    exponential of them has more."""
    x = random(1, 12, 16)

    def scores(**kwargs):
        layer = built(4, shapes=((None, None, 16),), **kwargs)
        with taps.collecting("scores", "probabilities") as found:
            layer(x)
        return as_numpy(found[f"{layer.name}/scores"])[0], layer, as_numpy(found[f"{layer.name}/probabilities"])[0]

    for size in (1, 3, 5):
        s, layer, p = scores(key_size=size, talking="pre")
        assert rank(s).tolist() == [size] * 4
        assert rank(np.exp(s.astype("float64") / 4), 1e-9).min() > size
        mixed = np.einsum("hqk,hg->gqk", s, as_numpy(layer.score_mix))
        assert rank(mixed).tolist() == [min(4 * size, 12)] * 4
        assert rank(p, 1e-7).min() > size


def test_large_keys_can_attend_to_anything_and_small_ones_cannot():
    """Keys and queries of a free sequence (x full rank) against a permutation-like target: with k >= n the divergence
    goes to 0, with k = 1 it stays. The layer's own projection, fitted by gradient descent."""
    n = 6
    target = (np.eye(n)[np.random.default_rng(0).permutation(n)] * 0.9 + 0.1 / n).astype("float32")
    x = ops.convert_to_tensor(np.eye(n, dtype="float32")[None])

    def divergence(size):
        layer = MultiHeadAttention(1, size, 1, use_bias=False)
        layer.build((None, None, n))
        start = random(*layer.qkv_kernel.shape, seed=3)

        def loss(kernel):
            q, k, _ = ops.split(ops.matmul(x, kernel), [size, 2 * size], axis=-1)
            s = ops.matmul(q, ops.swapaxes(k, -1, -2))[0] * layer.scale_factor
            return -ops.sum(ops.convert_to_tensor(target) * ops.log_softmax(s, axis=-1)) / n

        kernel, m, u, slope = start, 0.0, 0.0, gradient_of(loss)
        for step in range(1, 121):  # Adam
            g = np.asarray(slope(kernel))
            m, u = 0.9 * m + 0.1 * g, 0.99 * u + 0.01 * g * g
            kernel = (kernel - 0.2 * (m / (1 - 0.9**step)) / (np.sqrt(u / (1 - 0.99**step)) + 1e-8)).astype("float32")
        return float(loss(ops.convert_to_tensor(kernel))) + float((target * np.log(target)).sum() / n)

    def gradient_of(loss):
        if keras.backend.backend() == "jax":
            import jax

            return jax.jit(jax.grad(loss))
        return lambda value: gradient(loss, value)

    assert divergence(n) < 1e-3
    assert divergence(1) > 0.1


# ---------------------------------------------------------------- residual scores, grouped queries


def tiny(**changes):
    base = {
        "vocabulary_size": 30, "hidden_size": 8, "num_layers": 2, "num_heads": 2, "intermediate_size": 16,
        "initializer": 0.4, "position": "rotary",
    }  # fmt: skip
    return TransformerConfig(**base | changes)


@pytest.mark.parametrize("mask", ["bidirectional", "causal"])
def test_residual_scores_in_two_layers(mask):
    """RealFormer: a layer's scores are its own plus those of the layer before. The whole model against NumPy."""
    config = tiny(attention_options={"residual_scores": True}, position="none", mask=mask, num_segments=0)
    model = Transformer(config)
    ids = np.random.default_rng(0).integers(1, 30, (B, L)).astype("int32")
    padding = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
    got = as_numpy(model({"token_ids": ids, "padding_mask": padding})["sequence_output"])

    def norm(x, name):
        layer = model.get_layer(name)
        x = x - x.mean(-1, keepdims=True)
        gain, bias = (as_numpy(w) for w in layer.weights)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12) * gain + bias

    seen = padding[:, None, None]
    if mask == "causal":
        seen = seen & np.tril(np.ones((L, L), bool))
    x = norm(as_numpy(model.get_layer("token_embedding").weights[0])[ids].astype("float64"), "embedding_norm")
    previous = None
    for block in range(2):
        attention = model.get_layer(f"block_{block}_attention")
        y, previous = reference(attention, x, seen, previous=previous)
        x = norm(x + y, f"block_{block}_attention_norm")
        feedforward = model.get_layer(f"block_{block}_feedforward")
        x = norm(x + as_numpy(feedforward(x.astype("float32"))), f"block_{block}_feedforward_norm")
    np.testing.assert_allclose(got[padding], x[padding], atol=3e-4)
    plain = Transformer(config.replace(attention_options={}))
    plain.set_weights(model.get_weights())
    other = as_numpy(plain({"token_ids": ids, "padding_mask": padding})["sequence_output"])
    assert np.abs(other - got)[padding].max() > 1e-2


def test_residual_scores_given_to_one_layer():
    x, layer = random(B, L, D, seed=5), built(residual_scores=True, talking="pre_post")
    first, scores = layer(x)
    want = reference(layer, x)
    np.testing.assert_allclose(as_numpy(first), want[0], atol=2e-4, rtol=1e-4)
    np.testing.assert_allclose(as_numpy(scores), want[1], atol=2e-4)
    second, more = layer(x, previous_scores=scores)
    want = reference(layer, x, previous=want[1])
    np.testing.assert_allclose(as_numpy(second), want[0], atol=3e-4, rtol=1e-4)
    np.testing.assert_allclose(as_numpy(more), want[1], atol=3e-4)


@pytest.mark.parametrize(("rotary", "causal"), list(itertools.product([False, True], repeat=2)))
def test_grouped_queries_are_repeated_heads(rotary, causal):
    """A layer with all heads whose keys and values are copies."""
    positions = RotaryPosition(4) if rotary else None
    ids = np.arange(L)[None]
    tables = positions.tables(ids, ids) if rotary else ()
    kwargs = {"positions": positions, "causal": causal, "key_size": 4, "value_size": 4}
    grouped, full = built(key_heads=2, **kwargs), built(**kwargs)

    def repeated(w):  # columns [q: 4 heads | k: 2 | v: 2] of 4
        q, k, v = np.split(as_numpy(w), [16, 24], axis=-1)
        k, v = (np.repeat(t.reshape(*t.shape[:-1], 2, 4), 2, axis=-2).reshape(*t.shape[:-1], 16) for t in (k, v))
        return np.concatenate([q, k, v], -1)

    full.qkv_kernel.assign(repeated(grouped.qkv_kernel))
    full.qkv_bias.assign(repeated(grouped.qkv_bias))
    for name in ("output_kernel", "output_bias"):
        getattr(full, name).assign(getattr(grouped, name))
    x = random(B, L, D, seed=5)
    mask = ops.convert_to_tensor(np.array([[1] * 5, [0, 0, 1, 1, 1]], bool)[:, None, None])
    for kwargs in ({}, {"attention_mask": mask}):
        want = as_numpy(full(x, tables=tables, **kwargs))
        np.testing.assert_allclose(as_numpy(grouped(x, tables=tables, **kwargs)), want, atol=2e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_kernels_take_fewer_key_heads(causal):
    q, k, v = random(B, L, 4, K), random(B, L, 2, K, seed=1), random(B, L, 2, K, seed=2)
    mask = ops.convert_to_tensor(NOTHING)
    tensors = [ops.convert_to_tensor(t) for t in (q, k, v, np.repeat(k, 2, 2), np.repeat(v, 2, 2))]
    for given in (None, mask):
        got = attend(*tensors[:3], scale=0.5, mask=given, causal=causal)
        want = attend(tensors[0], *tensors[3:], scale=0.5, mask=given, causal=causal)
        np.testing.assert_allclose(as_numpy(got), as_numpy(want), atol=1e-6)


def test_errors():
    for kwargs, words in (
        ({"talking": "loud"}, "'loud'"),
        ({"logit_heads": 2}, "logit_heads needs"),
        ({"key_heads": 3}, "key_heads=3"),
    ):
        with pytest.raises(ConfigError, match=words):
            MultiHeadAttention(H, K, **kwargs)
