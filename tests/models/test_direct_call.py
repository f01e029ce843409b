"""Calling a model on arrays: compiled, checked, and equal to Keras' own ways."""

import keras
import numpy as np
import pytest
from keras import ops
from tests.models.tiny import BACKEND, CONFIGS, batch, build, hidden, numpy, run, shared

from kexue.errors import ConfigError


@pytest.mark.parametrize("name", [n for n in CONFIGS if n in ("bert", "roberta", "roformer", "prefix", "condition")])
def test_direct_equals_the_other_ways(name):
    model = shared(name)
    data = batch(model)
    want = hidden(model, data)
    predicted = model.predict(data, verbose=0)["sequence_output"]
    np.testing.assert_allclose(predicted, want, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(hidden(model, data, training=False), want, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(numpy(model.call(data))["sequence_output"], want, rtol=1e-4, atol=2e-5)
    model.compile_calls = False
    try:
        np.testing.assert_allclose(hidden(model, data), want, rtol=1e-4, atol=2e-5)
    finally:
        model.compile_calls = True


def test_new_weights_are_used_at_once():
    model = build("bert")
    data = batch(model)
    before = hidden(model, data)
    model.get_layer("embedding_norm").bias.assign(np.ones(12))
    assert np.abs(hidden(model, data) - before).max() > 1e-2


def test_changed_layers_after_recompile():
    model = build("bert")
    data = batch(model)
    before = hidden(model, data)
    layer = model.get_layer("block_0_attention")
    layer.scale = 0.01
    model.recompile()
    assert np.abs(hidden(model, data) - before).max() > 1e-3


def test_frozen_weights():
    model = build("bert")
    data = batch(model)
    before = hidden(model, data)
    model.get_layer("token_embedding").trainable = False
    np.testing.assert_allclose(hidden(model, data), before, atol=1e-6)


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX compiles direct calls")
def test_compiles_once_a_shape(monkeypatch):
    model, traces = build("bert"), []
    original = type(model).stateless_call

    def counted(self, *args, **kwargs):  # entered when a call is traced, not when it runs
        traces.append(None)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "stateless_call", counted)
    for _ in range(3):
        model(batch(model))
    assert len(traces) == 1
    model(batch(model, length=5))
    assert len(traces) == 2


def test_lists_and_other_integers():
    model = shared("bert")
    data = batch(model)
    want = hidden(model, data)
    other = {n: v.astype("int64") for n, v in data.items()}
    np.testing.assert_allclose(hidden(model, other), want, atol=1e-6)
    tensors = {n: ops.convert_to_tensor(v) for n, v in data.items()}
    np.testing.assert_allclose(hidden(model, tensors), want, atol=1e-6)


IDS = np.ones((2, 5), "int32")
LONG = np.ones((1, 25), "int32")


@pytest.mark.parametrize(
    ("name", "inputs", "words"),
    [
        ("bert", {"token_ids": IDS, "segment_id": IDS}, r"^unknown input 'segment_id'.*segment_ids"),
        ("bert", {"segment_ids": IDS}, r"^the input token_ids is missing. Received: segment_ids"),
        ("bert", {}, r"^the input token_ids is missing. Received: nothing"),
        ("bert", {"token_ids": IDS, "order": IDS}, "^unknown input 'order'"),
        ("bert", {"token_ids": LONG}, r"^the sequence has 25 tokens, .* end at 24\..*hierarchical"),
        ("roberta", {"token_ids": LONG[:, :23]}, "^the sequence has 23 tokens, .* end at 22"),
        ("hierarchical", {"token_ids": LONG[:, :17]}, "^the sequence has 17 tokens, .* end at 16"),
        ("bert", {"token_ids": IDS * 31}, "^token_ids must lie between 0 and 30. Received: 31 to 31"),
        ("bert", {"token_ids": IDS * -1}, "^token_ids must lie between 0 and 30. Received: -1"),
        ("bert", {"token_ids": IDS, "segment_ids": IDS * 2}, "^segment_ids must lie between 0 and 1"),
        ("bert", {"token_ids": IDS[0]}, r"^token_ids must be of shape .*shape \(5,\)"),
        ("bert", {"token_ids": IDS, "padding_mask": IDS[:, :4]}, r"^padding_mask must have .*shape \(2, 4\)"),
        ("bert", {"token_ids": IDS, "segment_ids": IDS[0]}, r"^segment_ids must have .*shape \(5,\)"),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_errors_are_short_and_plain(name, inputs, words, training):
    """Not wrapped in Keras' list of arguments: one line for a user."""
    with pytest.raises(ConfigError, match=words) as caught:
        shared(name)(inputs, training=training)
    assert "\n" not in str(caught.value)


def test_long_packed_rows_are_no_long_documents():
    """30 tokens in a row of a model of 24 positions, whose documents are short."""
    model = shared("bert")
    rows = {"token_ids": np.full((1, 30), 5, "int32"), "document_ids": np.repeat([1, 2, 3], 10)[None].astype("int32")}
    out = hidden(model, rows)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[:, :10], out[:, 20:], atol=1e-5)


def test_long_text_on_rotary_models():
    assert np.isfinite(hidden(shared("roformer"), {"token_ids": np.ones((1, 40), "int32")})).all()


def test_symbolic_calls_have_shapes():
    model = shared("bert", "lm")
    ids = keras.Input((None,), dtype="int32")
    out = model({"token_ids": ids})
    assert out["logits"].shape == (None, None, 31)
    assert run(model, IDS)["logits"].shape == (2, 5, 31)
