"""ALiBi and TUPE: biases of the scores."""

import keras
import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy

from kexue.errors import ConfigError
from kexue.nn.attention.multihead import MultiHeadAttention
from kexue.nn.positions.alibi import AlibiPosition, alibi_slopes
from kexue.nn.positions.tupe import TupePosition


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_slopes_of_the_paper():
    np.testing.assert_allclose(alibi_slopes(8), 0.5 ** np.arange(1, 9))
    np.testing.assert_allclose(alibi_slopes(16), 0.5 ** (np.arange(1, 17) / 2))
    np.testing.assert_allclose(alibi_slopes(12)[8:], 0.5 ** np.array([0.5, 1.5, 2.5, 3.5]))
    assert alibi_slopes(1) == 2.0**-8


@pytest.mark.peer
@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 12, 20, 32])
def test_slopes_equal_bloom(heads):
    pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones((1, 2)), heads, torch.float32)[:, 0, 1]  # slope times position 1
    np.testing.assert_allclose(alibi_slopes(heads), theirs.numpy(), rtol=1e-6)


def test_alibi_bias():
    layer = AlibiPosition(3)
    q, k = np.array([[0, 5, 2]], "int32"), np.array([[1, 4, 70000, 3], [0, 0, 0, 9]], "int32")
    bias = as_numpy(layer.scores(None, None, layer.tables(q, k), scale=0.1, layer=None))
    assert bias.shape == (2, 3, 3, 4)
    want = -alibi_slopes(3)[:, None, None] * np.abs(q[:, None, :, None] - k[:, None, None, :])
    np.testing.assert_allclose(bias, want, rtol=1e-6)
    own = AlibiPosition(2, [0.5, 0.25])
    assert AlibiPosition.from_config(own.get_config()).slopes == [0.5, 0.25]
    with pytest.raises(ConfigError, match="one slope a head"):
        AlibiPosition(3, [1.0])
    with pytest.raises(ConfigError, match="heads=0"):
        alibi_slopes(0)


def attention(positions, causal=False, **options):
    layer = MultiHeadAttention(2, 4, positions=positions, causal=causal, initializer=0.5, **options)
    layer.build((None, None, 6))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape) * 0.5 for w in layer.weights])
    return layer


def split(layer, x):
    """Queries, keys and values (batch, heads, length, size) as NumPy finds them."""
    qkv = x @ as_numpy(layer.qkv_kernel.value) + as_numpy(layer.qkv_bias.value)
    return [t.reshape(*x.shape[:2], 2, 4).transpose(0, 2, 1, 3) for t in np.split(qkv, 3, axis=-1)]


def finish(layer, scores, v):
    e = np.exp(scores - scores.max(-1, keepdims=True))
    out = (e / e.sum(-1, keepdims=True)) @ v
    out = out.transpose(0, 2, 1, 3).reshape(v.shape[0], v.shape[2], -1)
    return out @ as_numpy(layer.output_kernel.value) + as_numpy(layer.output_bias.value)


@pytest.mark.parametrize("causal", [False, True])
def test_alibi_attention_by_hand(causal):
    positions = AlibiPosition(2)
    layer, x, places = attention(positions, causal), random(2, 5, 6), np.arange(5)[None]
    q, k, v = split(layer, x)
    scores = q @ k.transpose(0, 1, 3, 2) / 2
    for h, i, j in np.ndindex(2, 5, 5):
        scores[:, h, i, j] -= alibi_slopes(2)[h] * abs(i - j)
        if causal and j > i:
            scores[:, h, i, j] = -1e30
    got = as_numpy(layer(x, tables=positions.tables(places, places)))
    np.testing.assert_allclose(got, finish(layer, scores, v), atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("scale", ["sqrt", "log_n"])
def test_tupe_attention_by_hand(reset, normalize, scale):
    """The paper's formula token by token, with its scale 1 / sqrt(2 k)."""
    positions = TupePosition(9, 5, 2, 4, reset=reset, normalize=normalize)
    positions.build()
    layer, x = attention(positions, scale=scale), random(2, 4, 6)
    positions.set_weights([random(*w.shape, seed=7 + i) for i, w in enumerate(positions.weights)])
    table, u_q, u_k, *first = (as_numpy(w.value) for w in positions.weights)
    places = np.array([[0, 1, 2, 8], [0, 1, 0, 1]])  # the second row holds two documents
    rows = table
    if normalize:
        rows = (table - table.mean(-1, keepdims=True)) / np.sqrt(table.var(-1, keepdims=True) + 1e-5)
    q, k, v = split(layer, x)
    factor = 1 / np.sqrt(2 * 4) * (1 if scale == "sqrt" else np.log(4) / np.log(512))
    scores = np.zeros((2, 2, 4, 4))
    for b, h, i, j in np.ndindex(2, 2, 4, 4):
        m, n, part = places[b, i], places[b, j], slice(4 * h, 4 * h + 4)
        place = (rows[m] @ u_q[:, part]) @ (rows[n] @ u_k[:, part])
        if reset and m == 0:
            place = first[0][0, h]
        elif reset and n == 0:
            place = first[0][1, h]
        scores[b, h, i, j] = factor * (q[b, h, i] @ k[b, h, j] + place)
    got = as_numpy(layer(x, tables=positions.tables(places, places)))
    np.testing.assert_allclose(got, finish(layer, scores, v), atol=2e-5)
    assert positions.limit == 9


def test_tupe_with_other_keys_and_errors():
    positions = TupePosition(9, 5, 2, 4)
    positions.build()
    (bias,) = positions.tables(np.arange(3)[None], np.arange(9)[None])
    (whole,) = positions.tables(np.arange(9)[None], np.arange(9)[None])
    np.testing.assert_allclose(as_numpy(bias), as_numpy(whole)[:, :, :3], atol=1e-6)
    with pytest.raises(ConfigError, match="max_length=0"):
        TupePosition(0, 5, 2, 4)
    config = TupePosition(9, 5, 2, 4, reset=True).get_config()
    assert TupePosition.from_config(config).get_config() == config


def test_tupe_trains():
    """Every weight of it has a gradient."""
    positions = TupePosition(4, 4, 2, 4, reset=True, initializer=0.5)
    layer, places = attention(positions), np.arange(4)[None]

    class Whole(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.positions, self.attention = positions, layer

        def build(self, _):
            self.positions.build()

        def call(self, x):
            return self.attention(x, tables=self.positions.tables(places, places))

    model = keras.Sequential([Whole()])
    x = random(3, 4, 6)
    model(x)
    before = {w.path: as_numpy(w.value).copy() for w in positions.weights}
    assert len(before) == 4
    model.compile("sgd", "mse")
    model.fit(x, ops.zeros((3, 4, 6)), verbose=0)
    assert all(np.abs(as_numpy(w.value) - before[w.path]).max() > 0 for w in positions.weights)
