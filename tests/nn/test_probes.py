"""Probes: tensors and gradients out of any model, and a model that is none the wiser."""

import re

import keras
import numpy as np
import pytest
from keras import ops
from tests.models.tiny import ATTENTIONS, ENCODER_DECODERS, FAMILIES, batch, build, numpy, shared

from kexue.errors import ConfigError
from kexue.nn import taps
from kexue.training import probe

CORE = ("bert", "deberta_v2", "gau_alpha", "t5", "linear_exp", "talking_twice")
TALKING = ("talking", "talking_twice", "residual_talking")


@keras.saving.register_keras_serializable(package="kexue-tests")
class Squares(keras.layers.Layer):
    """A user's layer with something to see."""

    def call(self, x):
        return 2.0 * taps.offer(self, "squares", ops.square(x))

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)


def mlp(seed=0):
    """A layer that is called twice, a nested model with a layer of the same name, a layer of one's own."""
    keras.utils.set_random_seed(seed)
    x = keras.Input((4,), name="x")
    first = keras.layers.Dense(4, activation="tanh", name="dense")
    inner = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(4, name="dense"), keras.layers.BatchNormalization(name="norm")],
        name="inner",
    )
    hidden = keras.layers.Dropout(0.3, name="dropout")(inner(first(first(x))))
    return keras.Model(x, keras.layers.Dense(2, name="out")(Squares(name="mine")(hidden)), name="mlp")


def data(rows=5, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 4)).astype("float32"), rng.normal(size=(rows, 2)).astype("float32")


def test_outputs_and_offers_of_a_nested_model():
    model, (x, _) = mlp(), data()
    found = probe(model, "*")(x)
    dense, inner, out = (model.get_layer(name).get_weights() for name in ("dense", "inner", "out"))
    one = np.tanh(x @ dense[0] + dense[1])
    two = np.tanh(one @ dense[0] + dense[1])
    three = two @ inner[0] + inner[1]
    four = three / np.sqrt(1 + 1e-3)  # a batch norm that has seen nothing
    expected = {"dense": one, "dense#2": two, "inner/dense": three, "inner/norm": four, "inner": four, "dropout": four}
    expected |= {"mine/squares": four**2, "mine": 2 * four**2, "out": 2 * four**2 @ out[0] + out[1]}
    assert list(found) == list(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=1e-5, err_msg=key)
    assert list(probe(model, ("*/dense", "dense"))(x)) == ["dense", "dense#2", "inner/dense"]
    assert list(probe(model, "dense#2")(x)) == ["dense#2"]
    assert list(probe(model, "*/squares")(x)) == ["mine/squares"]
    assert probe(model, "*").names(x) == [key for key in expected if "#" not in key]


def test_nothing_is_left_behind():
    model, (x, y) = mlp(), data()
    probe(model, "*", training=True)(x)
    probe(model, "*", loss="mse", training=True)(x, y)
    assert not any("call" in layer.__dict__ for layer in model._flatten_layers())
    assert not taps.wanted(model.get_layer("mine"), "squares")
    value = object()
    assert taps.offer(model, "name", value) is value
    with pytest.raises(ConfigError):
        probe(model, "none")(x)
    assert not any("call" in layer.__dict__ for layer in model._flatten_layers())


def test_training_does_not_notice():
    """Dropout, batch norm and Adam go on bit for bit, whether somebody looks between the steps or not."""

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, step, logs=None):
            if not hasattr(self, "probes"):
                self.probes = [
                    probe(self.model, "*", training=True),
                    probe(self.model, "*", loss="mse", training=True),
                    probe(self.model, "*"),
                ]
            for one in self.probes:
                one(*data(3, seed=step))

    weights = []
    for callbacks in ([], [Look()]):
        model, (x, y) = mlp(), data(8)
        model.compile(keras.optimizers.Adam(0.1), "mse")
        keras.utils.set_random_seed(5)
        model.fit(x, y, batch_size=2, epochs=2, verbose=0, shuffle=False, callbacks=callbacks)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_sees_the_weights_of_now():
    model, (x, _) = mlp(), data()
    look = probe(model, "out")
    before = look(x)["out"]
    model.get_layer("out").bias.assign([3.0, -1.0])
    np.testing.assert_allclose(look(x)["out"] - before, np.tile([3.0, -1.0], (len(x), 1)), atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_differences(training):
    """Of the loss, by one number of a tensor or weight; the model after the tensor is run on from it."""
    keras.utils.set_random_seed(0)
    x_in = keras.Input((4,))
    hidden = keras.layers.Dense(4, activation="tanh", name="dense")(x_in)
    hidden = keras.layers.BatchNormalization(name="norm")(hidden)
    model = keras.Model(x_in, keras.layers.Dense(2, name="out")(Squares(name="mine")(hidden)))
    x, y = data(6)
    found = probe(model, ["dense", "mine/squares", "*/kernel", "norm/gamma"], loss="mse", training=training)(x, y)
    assert list(found) == ["dense", "mine/squares", "dense/kernel", "norm/gamma", "out/kernel"]
    w1, b1, gamma, beta, *_, w2, b2 = (w.astype("float64") for w in model.get_weights())

    def loss(dense=0.0, squares=0.0, w1=w1, gamma=gamma, w2=w2):
        h = np.tanh(x.astype("float64") @ w1 + b1) + dense
        mean, variance = (h.mean(0), h.var(0)) if training else (0.0, 1.0)
        h = (h - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        return np.mean((2 * (h**2 + squares) @ w2 + b2 - y) ** 2)

    arguments = {"dense": ("dense", (6, 4)), "squares": ("mine/squares", (6, 4))}
    arguments |= {"w1": ("dense/kernel", w1), "gamma": ("norm/gamma", gamma), "w2": ("out/kernel", w2)}
    for name, (key, value) in arguments.items():
        start = np.zeros(value) if isinstance(value, tuple) else value
        expected = np.zeros_like(start)
        for place in np.ndindex(start.shape):
            step = np.zeros_like(start)
            step[place] = 1e-5
            expected[place] = (loss(**{name: start + step}) - loss(**{name: start - step})) / 2e-5
        np.testing.assert_allclose(found[key], expected, atol=2e-5, err_msg=key)


def test_gradient_by_attention():
    """By the scores it is the one by the probabilities, taken through the softmax."""
    model = shared("bert")
    inputs = batch(model, 2)

    def loss(_, outputs):
        return ops.sum(ops.square(outputs["sequence_output"]))

    found = probe(model, ["block_1_attention/*", "token_embedding"], loss=loss)(inputs)
    scores, probabilities = (found[f"block_1_attention/{name}"] for name in ("scores", "probabilities"))
    p = probe(model, "block_1_attention/probabilities")(inputs)["block_1_attention/probabilities"]
    expected = p * (probabilities - np.sum(p * probabilities, -1, keepdims=True))
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.abs(scores).max() > 0.01
    assert found["token_embedding"].shape == (2, 7, 12)


def test_patterns_that_take_nothing():
    model, (x, y) = mlp(), data()
    with pytest.raises(ConfigError, match=r"nothing in 'mlp' is called 'mine/squeres'\. Near: mine/squares"):
        probe(model, ["dense", "mine/squeres"])(x)
    with pytest.raises(ConfigError, match=re.escape("nothing in 'mlp' has a gradient under '*/probabilities'")):
        probe(model, "*/probabilities", loss="mse")(x, y)
    with pytest.raises(ConfigError, match="patterns must be"):
        probe(model, [])
    bert = shared("bert")
    with pytest.raises(ConfigError, match=r"block_7_attention/scores.*Near: block_1_attention/scores"):
        probe(bert, "block_7_attention/scores")(batch(bert, 2))
    assert probe(model, ["nothing", "out"], missing_ok=True)(x).keys() == {"out"}


def test_recurrent_layers():
    """What runs inside a loop cannot get out, and is left alone; an output that is a tuple comes in pieces."""
    x = keras.Input((3, 4))
    states = keras.layers.LSTM(5, return_state=True, name="lstm")(x)
    both = keras.layers.Bidirectional(keras.layers.GRU(2, name="gru"), name="both")(x)
    each = keras.layers.TimeDistributed(keras.layers.Dense(2), name="each")(x)
    found = probe(keras.Model(x, [*states, both, each]), "*")(np.ones((2, 3, 4), "float32"))
    assert {"lstm/0", "lstm/1", "lstm/2", "both", "each"} <= set(found)
    assert not any("cell" in key for key in found)
    np.testing.assert_array_equal(found["lstm/0"], found["lstm/1"])


def test_models_of_ones_own():
    """Subclassed, not built yet, without a graph."""

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [keras.layers.Dense(3, name=f"block_{i}") for i in range(2)]

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return {"y": x}

    model = Own()
    found = probe(model, "block_?")(data()[0])
    np.testing.assert_allclose(found["block_1"], numpy(model(data()[0]))["y"], atol=1e-6)


def test_half_precision():
    model = build("bert", dtype="mixed_bfloat16")
    found = probe(model, "*")(batch(model, 2))
    assert {value.dtype for value in found.values()} <= {np.dtype("float32"), np.dtype("int32"), np.dtype("bool")}
    np.testing.assert_allclose(found["block_0_attention/probabilities"].sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in CORE or keras.backend.backend() == "torch" else pytest.mark.slow)
        for name in [*FAMILIES, *ENCODER_DECODERS, *ATTENTIONS]
    ],
)
def test_every_family(name):
    """The output is the model's; norms are normal; rows of attention are distributions, the softmax of scores."""
    model = shared(name)
    inputs = batch(model, 2)
    found = probe(model, "*")(inputs)
    plain = numpy(model(inputs))["sequence_output"]
    assert any(value.shape == plain.shape and np.abs(value - plain).max() < 1e-4 for value in found.values())
    for key, value in found.items():
        if key.endswith("/normalized"):
            np.testing.assert_allclose(np.mean(value**2, -1), 1, atol=2e-2, err_msg=key)
            if model.config.norm == "layer":
                np.testing.assert_allclose(value.mean(-1), 0, atol=1e-5, err_msg=key)
    attentions = [key[: -len("/probabilities")] for key in found if key.endswith("/probabilities")]
    assert len(attentions) == model.config.num_layers + 2 * (model.config.decoder_layers or 0)
    for layer in attentions:
        p, scores = found[f"{layer}/probabilities"], found.get(f"{layer}/scores")
        assert (scores is None) == name.startswith("linear")
        if name in TALKING or name.startswith(("linear", "gau_squared_relu")):  # rotated: rows sum to anything
            continue
        np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5, err_msg=layer)
        seen = p > 1e-20
        assert not seen.all()  # the second row is shorter
        high = np.where(seen, scores, -np.inf).max(-1, keepdims=True)
        own = np.where(seen, np.exp(scores.astype("float64") - high), 0.0)
        np.testing.assert_allclose(p, own / own.sum(-1, keepdims=True), atol=1e-5, err_msg=layer)


def test_attention_by_hand():
    """BERT's first block from its weights."""
    model = shared("bert")
    inputs = batch(model, 3)
    layer = model.get_layer("block_0_attention")
    found = probe(model, ["embedding_norm", "block_0_attention/*"])(inputs)
    kernel, bias = (np.asarray(ops.convert_to_numpy(v)) for v in (layer.qkv_kernel, layer.qkv_bias))
    q, k, _ = np.split(found["embedding_norm"] @ kernel + bias, 3, -1)
    q, k = (t.reshape(3, -1, 3, 4) for t in (q, k))
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(4)
    np.testing.assert_allclose(found["block_0_attention/scores"], scores, atol=1e-4)
    weights = np.exp(scores) * inputs["padding_mask"][:, None, None]
    weights /= weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(found["block_0_attention/probabilities"], weights, atol=1e-5)


def test_only_what_is_asked_for_leaves_the_fused_kernel(monkeypatch):
    from kexue.nn.attention import multihead

    calls = []
    real = multihead.attend
    monkeypatch.setattr(multihead, "attend", lambda *a, **k: calls.append(1) or real(*a, **k))
    model = build("bert", num_layers=3)
    probe(model, "block_1_attention/scores")(batch(model, 2))
    assert len(calls) == 2


@pytest.mark.slow
def test_resnet():
    """Layer outputs of the article's model, nested in another."""
    base = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=4)
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, keras.layers.Dense(2, name="top")(base(image)))
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    names = ["conv2_block1_add", "conv5_block2_add", "predictions"]
    found = probe(model, [*(f"{base.name}/{name}" for name in names), "top"])(x)
    inner = keras.Model(base.input, [base.get_layer(name).output for name in names])
    for name, value in zip(names, inner.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(found[f"{base.name}/{name}"], value, atol=1e-4, rtol=1e-4)
    assert list(probe(base, "*_add")(x)) == [layer.name for layer in base.layers if layer.name.endswith("_add")]
