"""Vocabulary logits against NumPy."""

import keras
import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy, gradient

from kexue.errors import ConfigError
from kexue.nn.embeddings import TokenEmbedding
from kexue.nn.heads.lm import LanguageModelHead

V, E, D = 11, 4, 6
X = np.random.default_rng(0).normal(size=(2, 3, D)).astype("float32")


def run(embedding, head, x):
    return head(x, table=embedding(x, table=True) if head.tied else None)


def build(**kwargs):
    embedding = TokenEmbedding(V, kwargs.pop("size", E), initializer=0.5)
    embedding(np.zeros((1, 1), "int32"))
    head = LanguageModelHead(V, embedding.size, initializer=0.5, **kwargs)
    head.build((None, None, D))
    rng = np.random.default_rng(1)
    for variable in head.weights:
        variable.assign(rng.normal(size=variable.shape))
    return embedding, head


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_with_transform(tied, bias, norm):
    embedding, head = build(activation="relu", norm=norm, norm_options={"epsilon": 1e-6}, bias=bias, tied=tied)
    w = {v.path.split("/", 1)[1]: as_numpy(v) for v in head.weights if v is not embedding.table}
    h = np.maximum(X @ w["dense_kernel"] + w["dense_bias"], 0).astype("float64")
    h = h - h.mean(-1, keepdims=True) if norm == "layer" else h
    h = h / np.sqrt((h**2).mean(-1, keepdims=True) + 1e-6) * w["norm/gain"] + w.get("norm/bias", 0)
    table = as_numpy(embedding.table) if tied else w["output_table"]
    want = h @ table.T + w.get("bias", 0)
    np.testing.assert_allclose(as_numpy(run(embedding, head, X)), want, atol=1e-4)
    assert ("bias" in w) == bias
    assert ("output_table" in w) == (not tied)


def test_plain_and_projected():
    embedding, head = build(size=D, transform=False, bias=False)
    np.testing.assert_allclose(as_numpy(run(embedding, head, X)), X @ as_numpy(embedding.table).T, atol=1e-5)
    embedding, head = build(transform=False, project=True, bias=False, dense_bias=False)
    want = X @ as_numpy(head.dense_kernel) @ as_numpy(embedding.table).T
    np.testing.assert_allclose(as_numpy(run(embedding, head, X)), want, atol=1e-5)


def test_the_head_does_not_own_the_table():
    _, head = build(size=D, transform=False, bias=False)
    assert not head.weights


def test_the_table_gets_both_gradients():
    """As embedding and as output, by finite differences."""
    embedding, head = build(size=D, transform=False, bias=False)
    ids = np.array([[1, 2]], "int32")
    target = np.random.default_rng(2).normal(size=(1, 2, V))

    def by_hand(table):
        h = np.tanh(table[ids])
        return (h @ table.T * target).sum()

    table = as_numpy(embedding.table).astype("float64")
    step, direction = 1e-5, np.random.default_rng(3).normal(size=table.shape)
    want = (by_hand(table + step * direction) - by_hand(table - step * direction)) / (2 * step)
    logits = ops.tanh(embedding(ids))
    np.testing.assert_allclose(
        float((as_numpy(run(embedding, head, logits)) * target).sum()), by_hand(table), rtol=1e-4
    )
    if keras.backend.backend() == "jax":
        import jax

        def loss(value):
            with keras.StatelessScope([(embedding.table, value)]):
                return ops.sum(run(embedding, head, ops.tanh(embedding(ids))) * target)

        slope = np.asarray(jax.grad(loss)(embedding.table.value))
        np.testing.assert_allclose((slope * direction).sum(), want, rtol=1e-3)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_logits_are_float32(policy):
    embedding = TokenEmbedding(V, E, dtype=policy)
    embedding.build((None, None))
    head = LanguageModelHead(V, E, dtype=policy)
    out = run(embedding, head, X)
    assert keras.backend.standardize_dtype(out.dtype) == "float32"
    assert np.isfinite(as_numpy(out)).all()


def test_gradient_is_finite():
    embedding, head = build()
    assert np.isfinite(gradient(lambda x: ops.sum(run(embedding, head, x) ** 2), X)).all()


def test_a_tied_head_wants_the_table():
    with pytest.raises(ConfigError, match=r"tied to a token table.*table=True"):
        build()[1](X)


@pytest.mark.parametrize("tied", [True, False])
def test_configuration(tied):
    options = {"norm_options": {"epsilon": 1e-3}, "activation": "relu", "scale": 0.5, "tied": tied, "name": "lm"}
    embedding, head = build(**options)
    again = LanguageModelHead.from_config(head.get_config())
    assert again.get_config() == head.get_config()
    again.build((None, None, D))
    again.set_weights(head.get_weights())
    np.testing.assert_array_equal(as_numpy(run(embedding, again, X)), as_numpy(run(embedding, head, X)))
