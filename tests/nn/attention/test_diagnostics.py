"""Maps out of models, and what is said of them."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.harness import as_numpy

from kexue.errors import ConfigError
from kexue.models import Transformer, TransformerConfig
from kexue.nn.attention.diagnostics import attention_maps, entropy, rank, sparsity, summary, table

CONFIG = {
    "vocabulary_size": 30, "hidden_size": 8, "num_layers": 2, "num_heads": 2, "intermediate_size": 16,
    "initializer": 0.5,
}  # fmt: skip
B, L = 2, 6


def batch():
    rng = np.random.default_rng(0)
    padding = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], bool)
    return {"token_ids": rng.integers(1, 30, (B, L)).astype("int32"), "padding_mask": padding}


def model(**changes):
    return Transformer(TransformerConfig(**CONFIG | changes))


def test_maps_are_those_of_the_layers():
    """The second block's probabilities, from the output of the first one by hand."""
    m, data = model(mask="causal"), batch()
    maps = attention_maps(m, data)
    assert sorted(maps) == [f"block_{i}_attention/{what}" for i in range(2) for what in ("probabilities", "scores")]
    inner = keras.Model(m.input, m.get_layer("block_0_feedforward_norm").output)
    inputs = {name: data.get(name) for name in m.input}
    x = as_numpy(inner(inputs)).astype("float64")
    kernel, bias = (as_numpy(w) for w in m.get_layer("block_1_attention").weights[:2])
    q, k, _ = np.split(x @ kernel + bias, 3, axis=-1)
    seen = np.tril(np.ones((L, L), bool)) & data["padding_mask"][:, None]
    for h in range(2):
        part = slice(4 * h, 4 * h + 4)
        s = np.einsum("bqd,bkd->bqk", q[..., part], k[..., part]) / 2
        np.testing.assert_allclose(maps["block_1_attention/scores"][:, h], s, atol=1e-4)
        e = np.exp(s) * seen
        p = e / e.sum(-1, keepdims=True)
        np.testing.assert_allclose(maps["block_1_attention/probabilities"][:, h], p, atol=1e-5)
    before = as_numpy(m(data)["sequence_output"])  # collecting left nothing behind
    np.testing.assert_array_equal(as_numpy(m(data)["sequence_output"]), before)


def test_maps_of_shared_blocks_and_of_one_kind():
    maps = attention_maps(model(block_groups=1), batch(), ("probabilities",))
    assert sorted(maps) == ["block_0_attention#2/probabilities", "block_0_attention/probabilities"]
    assert np.abs(np.subtract(*maps.values())).max() > 1e-3


@pytest.mark.parametrize("mask", ["bidirectional", "causal"])
def test_linear_attention_writes_its_matrix_out(mask):
    """Rows sum to 1 over the visible keys, and the rank is at most the number of features."""
    m = model(attention="linear", attention_options={"key_multiplier": 1}, key_size=2, mask=mask)
    data = batch()
    maps = attention_maps(m, data)
    assert all(name.endswith("probabilities") for name in maps)
    for p in maps.values():
        np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
        assert not p[1, :, :, 4:].any()
        if mask == "causal":
            assert not np.triu(p, 1).any()
            assert (rank(p[0], 1e-7) == L).all()  # a triangle without a zero on its diagonal
        else:
            assert (rank(p) <= 2).all()


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_bounds(seed, keys):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(keys, 0.3), size=(2, 3, 5))
    h, few = entropy(p), sparsity(p, top=2)
    assert ((h >= 0) & (h <= math.log(keys) + 1e-9)).all()
    assert ((few.effective >= 1) & (few.effective <= keys + 1e-6)).all()
    assert ((few.top <= 1 + 1e-9) & (few.top >= min(2, keys) / keys - 1e-9)).all()


def test_known_values():
    uniform, one = np.full((1, 1, 3, 8), 1 / 8), np.eye(8)[None, None, :3]
    assert entropy(uniform).tolist() == pytest.approx([math.log(8)])
    assert entropy(one).tolist() == [0]
    assert sparsity(uniform, top=2).top.tolist() == pytest.approx([0.25])
    assert sparsity(uniform).effective.tolist() == pytest.approx([8])
    assert sparsity(one, top=1).top.tolist() == [1]
    both = np.concatenate([uniform[..., :1, :], one[..., :1, :]], axis=2)
    assert entropy(both, np.array([[0, 1]])).tolist() == [0]
    assert entropy(both, np.array([[1, 0]])).tolist() == pytest.approx([math.log(8)])
    a = np.random.default_rng(0).normal(size=(4, 9, 3))
    assert rank(a @ a.transpose(0, 2, 1)).tolist() == [3] * 4
    assert rank(np.zeros((2, 2))) == 0


def test_summary():
    m, data = model(), batch()
    rows = summary(m, data)
    assert [(r.layer, r.head) for r in rows] == [(f"block_{i}_attention", h) for i in range(2) for h in range(2)]
    p = attention_maps(m, data)["block_1_attention/probabilities"]
    assert rows[2].entropy == pytest.approx(entropy(p, data["padding_mask"])[0])
    assert all(r.score_rank <= 4 and 1 <= r.effective <= L and r.rank >= 4 for r in rows)
    lines = table(rows).splitlines()
    assert len(lines) == 5
    assert lines[0].split()[:3] == ["layer", "head", "entropy"]
    assert f"{rows[0].entropy:.3f}" in lines[1]
    linear = summary(model(attention="linear"), {"token_ids": data["token_ids"]})
    assert all(r.score_rank is None for r in linear)
    assert " - " in table(linear)


def test_errors():
    with pytest.raises(ConfigError, match="'values'"):
        attention_maps(model(), batch(), ("values",))
    x = keras.Input((3,), name="x")
    with pytest.raises(ConfigError, match="no layer"):
        attention_maps(keras.Model({"x": x}, keras.layers.Dense(2)(x)), {"x": np.ones((1, 3), "float32")})
