"""The gated attention unit against loops in NumPy, under every mask."""

import functools
import math

import keras
import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy, check_layer, gradient

from kexue.errors import ConfigError
from kexue.nn import masks, taps
from kexue.nn.attention import registry
from kexue.nn.attention.gau import NORMALIZERS, GatedAttentionUnit
from kexue.nn.attention.plumbing import PositionTables
from kexue.nn.initializers import DepthScaledNormal, make
from kexue.nn.positions.base import PositionEncoding
from kexue.nn.positions.deberta import DebertaPosition
from kexue.nn.positions.rotary import RotaryPosition
from kexue.nn.positions.transformer_xl import TransformerXLPosition

B, L, D, S, E = 2, 6, 5, 4, 7
MASKS = {
    "none": None,
    "causal": masks.Causal(),
    "reverse": masks.Causal(reverse=True),
    "window": masks.Window(1, 2),
    "prefix": masks.Prefix(),
    "permuted": masks.Permuted([2, 0, 5, 1, 4, 3]),
    "strict": masks.Permuted([2, 0, 5, 1, 4, 3], strict=True),
    "documents": masks.SameDocument(),
}
FACTS = {"segment_ids": np.array([[0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]]),
         "document_ids": np.array([[1, 1, 2, 2, 2, 3], [1, 1, 1, 1, 2, 2]])}  # fmt: skip
each_normalizer = pytest.mark.parametrize("normalizer", NORMALIZERS)
each_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def unit(**options):
    """A layer with random values in every weight."""
    layer = GatedAttentionUnit(S, E, **options)
    layer.build((None, None, D))
    for seed, variable in enumerate(layer.weights):
        variable.assign(random(*variable.shape, seed=seed + 5) * 0.6)
    return layer


def dense(mask, padding=None):
    if mask is None:
        return None if padding is None else padding[:, None, None]
    facts = {n: v for n, v in FACTS.items() if {"segment_ids": "block", "document_ids": "document"}[n] in mask.needs}
    return as_numpy(mask.dense(L, **facts, padding_mask=padding))


def rotate(x, positions):
    z = (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * positions[:, None] * 1e4 ** (-2 * np.arange(S // 2) / S))
    return np.stack([z.real, z.imag], -1).reshape(x.shape)


def loops(layer, x, mask=None, turn=False):
    """The formula of the module in float64, one query at a time."""
    w = {v.name: as_numpy(v.value).astype("float64") for v in layer.weights}
    out = np.zeros(x.shape)
    mask = np.ones((B, L, L), bool) if mask is None else np.broadcast_to(mask[:, 0], (B, L, L))
    for b in range(B):
        h = x[b].astype("float64") @ w["input_kernel"] + w.get("input_bias", 0)
        h = h / (1 + np.exp(-h))
        u, v, z = h[:, :E], h[:, E : 2 * E], h[:, 2 * E :]
        q = z * w["query_gain"] + w.get("query_offset", 0)
        k = z * w["key_gain"] + w.get("key_offset", 0)
        if turn:
            q, k = rotate(q, np.arange(L)), rotate(k, np.arange(L))
        for i in range(L):
            seen = np.flatnonzero(mask[b, i])
            a, n = k[seen] @ q[i] / math.sqrt(S), len(seen)
            if layer.normalizer == "squared_relu":
                p = np.maximum(a, 0) ** 2 / max(n, 1)
            else:
                a = a * math.log(max(n, 16)) / math.log(512) if layer.normalizer == "softmax_plus" else a
                p = np.exp(a - a.max(initial=0))
                p = p / p.sum() if n else p
            out[b, i] = (u[i] * (p @ v[seen])) @ w["output_kernel"] + w.get("output_bias", 0)
    return out


@each_normalizer
@each_mask
def test_equals_loops(normalizer, mask):
    for use_bias, turn, flag in ((True, False, False), (False, True, True)):
        positions = RotaryPosition(S) if turn else None
        causal = flag and mask == masks.Causal()
        layer = unit(normalizer=normalizer, use_bias=use_bias, positions=positions, causal=causal)
        tables = PositionTables(positions)(np.arange(L)[None]) if turn else ()
        x = random(B, L, D)
        padding = np.arange(L) < np.array([[4], [6]])
        given = dense(None if causal else mask, padding)
        got = as_numpy(layer(x, attention_mask=given, tables=tables))
        np.testing.assert_allclose(got, loops(layer, x, dense(mask, padding), turn), atol=2e-5)
        with taps.collecting("scores", "probabilities") as found:
            tapped = as_numpy(layer(x, attention_mask=given, tables=tables))
        np.testing.assert_allclose(tapped, got, atol=1e-5)
        assert len(found) == 2


@each_normalizer
def test_padding_changes_nothing(normalizer):
    layer = unit(normalizer=normalizer)
    x, padding = random(B, L, D), np.arange(L) < np.array([[4], [4]])
    padded = as_numpy(layer(x, attention_mask=padding[:, None, None]))
    np.testing.assert_allclose(padded[:, :4], as_numpy(layer(x[:, :4])), atol=1e-6)
    other = np.where(padding[..., None], x, 1e4).astype("float32")
    np.testing.assert_array_equal(as_numpy(layer(other, attention_mask=padding[:, None, None]))[:, :4], padded[:, :4])


@each_normalizer
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_rows_that_see_nothing(normalizer, policy):
    layer = unit(normalizer=normalizer, use_bias=False, dtype=policy)
    out = layer(random(B, L, D), attention_mask=dense(MASKS["strict"]))
    assert keras.backend.standardize_dtype(out.dtype) == keras.DTypePolicy(policy).compute_dtype
    out = as_numpy(ops.cast(out, "float32"))
    assert np.isfinite(out).all()
    assert (out[:, 1] == 0).all()  # rank 0
    if normalizer != "squared_relu":  # there a row may have negative scores only
        assert np.abs(out).sum(-1).astype(bool).sum() == B * (L - 1)


@each_normalizer
@each_mask
def test_jacobian_follows_the_mask(normalizer, mask):
    """A token moves the output of a query where the query sees it or is it, and nothing else."""
    layer, x = unit(normalizer=normalizer), random(1, L, D)
    seen = None if mask is None else dense(mask)[:1]
    for i in range(L):
        g = gradient(lambda t, i=i: ops.sum(layer(t, attention_mask=seen)[0, i] ** 2), x)[0]
        allowed = np.ones(L, bool) if seen is None else seen[0, 0, i] | (np.arange(L) == i)
        assert (g[~allowed] == 0).all()
        moved = np.abs(g).max(-1) > 0
        if normalizer != "squared_relu":  # there a negative score has no influence
            blind = seen is not None and not seen[0, 0, i].any()
            np.testing.assert_array_equal(moved, False if blind else allowed)


def test_layer(tmp_path):
    for normalizer in NORMALIZERS:
        make_it = functools.partial(GatedAttentionUnit, S, E, normalizer=normalizer, causal=True, initializer=0.3)
        padding = np.ones((B, 1, 1, L), bool)
        layer = check_layer(make_it, {"x": random(B, L, D), "attention_mask": padding}, tmp_path, length_axis=None)
        again = GatedAttentionUnit.from_config(layer.get_config())
        assert again.get_config() == layer.get_config()


def test_positions_are_rebuilt():
    for positions in (RotaryPosition(S, base=100.0), TransformerXLPosition(D + 1)):
        layer = GatedAttentionUnit(S, E, positions=positions)
        again = GatedAttentionUnit.from_config(layer.get_config())
        assert again.positions.get_config() == positions.get_config()


@pytest.mark.parametrize("positions", [TransformerXLPosition(8), DebertaPosition(8, 4)], ids=["xl", "deberta"])
def test_other_positions(positions):
    """Terms of the score: one head, with the scale of their number; only distances count."""
    layer, tables = unit(positions=positions), PositionTables(positions)
    x = random(B, L, D)
    near, far = (as_numpy(layer(x, tables=tables(np.arange(L)[None] + shift))) for shift in (0, 9))
    np.testing.assert_allclose(near, far, atol=1e-5)
    assert np.abs(near - as_numpy(layer(x, tables=tables(np.arange(L)[None, ::-1].copy())))).max() > 1e-3


def test_queries_of_their_own():
    layer, x = unit(), random(B, L, D)
    got = as_numpy(layer(x, queries=x[:, [4, 1]]))
    np.testing.assert_allclose(got, as_numpy(layer(x))[:, [4, 1]], atol=1e-6)


@each_normalizer
def test_dropout(normalizer):
    layer, x = unit(normalizer=normalizer, dropout=0.5), random(B, L, D)
    calm = as_numpy(layer(x))
    np.testing.assert_array_equal(as_numpy(layer(x, training=False)), calm)
    assert np.abs(as_numpy(layer(x, training=True)) - calm).max() > 1e-3


def test_depth_scaled_initializer():
    """L^(-1/3) with order 3, as GAU-alpha starts."""
    keras.utils.set_random_seed(0)
    for order in (2, 3):
        values = as_numpy(make({"depth_scaled": 24, "order": order})((400, 300)))
        np.testing.assert_allclose(values.std(), 24 ** (-1 / order) / 20, rtol=0.02)
    assert DepthScaledNormal.from_config(DepthScaledNormal(24, 3).get_config()).order == 3
    with pytest.raises(ConfigError, match="order"):
        make({"depth_scaled": 24, "order": 0})


class AddsToValues(PositionEncoding):
    def values(self, probabilities, v, tables):
        return v


def test_errors():
    for options, words in (
        ({"heads": 2}, "heads=2"),
        ({"normalizer": "relu"}, "'relu'"),
        ({"activation": "swich"}, "'swich'"),
        ({"positions": AddsToValues()}, "AddsToValues"),
    ):
        with pytest.raises(ConfigError, match=words):
            GatedAttentionUnit(S, E, **options)
    with pytest.raises(ConfigError, match="intermediate_size=0"):
        GatedAttentionUnit(S, 0)
    with pytest.raises(ConfigError, match="key_heads=2"):
        registry.make("gau", {}, key_size=S, intermediate_size=E, key_heads=2)
    with pytest.raises(ConfigError, match="shared_keys"):
        GatedAttentionUnit(S, E, positions=DebertaPosition(8, 4, shared_keys=True)).build((None, None, D))
