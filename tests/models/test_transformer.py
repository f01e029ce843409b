"""The Keras model: outputs, saving, precision, training, and what Keras users expect of a functional model."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from tests.models.tiny import (
    BACKEND,
    CONFIGS,
    FAMILIES,
    LENGTH,
    ROWS,
    batch,
    build,
    config,
    hidden,
    numpy,
    run,
    shared,
)

from kexue.errors import ConfigError
from kexue.models import Transformer
from kexue.models.weights import named_weights
from kexue.nn.masks import Causal, Mask, Prefix, Window

HEADS = ("lm", "pooler", "nsp", "discriminator")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("heads", [None, "lm", "mlm", ("pooler",), HEADS])
def test_outputs_as_declared(name, heads):
    model = shared(name, heads)
    out = run(model, batch(model, 2, 5))
    c = model.config
    want = {"sequence_output": (2, 5, c.hidden_size)}
    names = [heads] if isinstance(heads, str) else list(heads or ())
    if {"lm", "mlm"} & set(names):
        want["logits"] = (2, 5, c.vocabulary_size)
    if "pooler" in names:
        want["pooled_output"] = (2, c.hidden_size)
    if "nsp" in names:
        want["nsp_logits"] = (2, 2)
    if "discriminator" in names:
        want["discriminator_logits"] = (2, 5)
    assert {n: v.shape for n, v in out.items()} == want
    for n, tensor in model.output.items():
        assert keras.backend.standardize_dtype(tensor.dtype) == "float32"
        last = None if n == "discriminator_logits" else want[n][-1]
        assert tensor.shape == (None, *[None] * (len(want[n]) - 2), last)


def test_clone_and_weights_file(tmp_path):
    model = shared("bert", HEADS)
    clone = Transformer.from_config(model.get_config())
    assert clone.heads == HEADS
    model.save_weights(tmp_path / "w.weights.h5")
    clone.load_weights(tmp_path / "w.weights.h5")
    data = batch(model)
    np.testing.assert_allclose(run(clone, data)["nsp_logits"], run(model, data)["nsp_logits"], atol=1e-6)


def test_keras_clone_model():
    """Keras' clone is a plain functional model, which forgets that inputs were optional."""
    model = shared("bert")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    data = batch(model)
    data["position_ids"] = np.tile(np.arange(LENGTH, dtype="int32"), (ROWS, 1))
    data["document_ids"] = np.ones((ROWS, LENGTH), "int32")
    np.testing.assert_allclose(hidden(clone, data), hidden(model, data), atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_keras_clone_model_with_a_tied_head(name):
    """The copy's head multiplies by the copy's own table."""
    model = shared(name, "lm")
    clone = keras.models.clone_model(model)
    assert [w.shape for w in clone.weights] == [w.shape for w in model.weights]
    assert not {id(w) for w in clone.weights} & {id(w) for w in model.weights}
    clone.set_weights(model.get_weights())
    data = batch(model)
    data["position_ids"] = np.tile(np.arange(LENGTH, dtype="int32"), (ROWS, 1))
    data["document_ids"] = np.ones((ROWS, LENGTH), "int32")
    complete = {name: data.get(name, np.zeros((ROWS, LENGTH), "int32")) for name in model.input}
    want = run(model, complete)["logits"]
    np.testing.assert_allclose(run(clone, complete)["logits"], want, rtol=1e-4, atol=1e-5)
    if model.config.tie_embeddings:
        clone.get_layer("token_embedding").table.assign(np.zeros((31, model.config.embedding_dim)))
        assert np.ptp(run(clone, complete)["logits"] - numpy(_bias(clone)), axis=-1).max() < 1e-5


def _bias(model):
    bias = model.get_layer("lm_head").logits_bias
    return np.zeros(31) if bias is None else ops.convert_to_tensor(bias)


def test_optional_inputs():
    """Every subset of the optional inputs; one left out equals its default value."""
    model = build("bert", num_layers=1)
    full = batch(model, 2, 5)
    full["position_ids"] = np.tile(np.arange(5, dtype="int32"), (2, 1))
    full["document_ids"] = np.ones((2, 5), "int32")
    full["padding_mask"][:] = True
    full["segment_ids"][:] = 0
    want = hidden(model, full)
    optional = [n for n in full if n != "token_ids"]
    for count in range(len(optional)):
        for names in itertools.combinations(optional, count):
            some = {n: full[n] for n in ("token_ids", *names)}
            np.testing.assert_allclose(hidden(model, some), want, atol=1e-5, err_msg=str(names))
    none = {**dict.fromkeys(full), "token_ids": full["token_ids"]}
    np.testing.assert_allclose(hidden(model, none), want, atol=1e-5)
    np.testing.assert_allclose(hidden(model, full["token_ids"]), want, atol=1e-5)


def test_causal_language_model_from_the_same_weights():
    encoder, causal = shared("bert"), build("bert", mask=Causal())
    assert [w.shape for w in encoder.weights] == [w.shape for w in causal.weights]
    data = batch(encoder)
    np.testing.assert_allclose(hidden(causal, data), hidden(shared("causal"), data), atol=1e-6)


def loss_and_gradients(model, data):
    """Sum of squares of all outputs, and its gradient by each weight."""
    if BACKEND == "jax":
        import jax

        trainable = [v.value for v in model.trainable_variables]
        rest = [v.value for v in model.non_trainable_variables]

        def loss(values):
            out, _ = model.stateless_call(values, rest, data, training=False)
            return sum(ops.sum(o**2) for o in out.values())

        value, grads = jax.jit(jax.value_and_grad(loss))(trainable)
    elif BACKEND == "torch":
        model.zero_grad()
        value = sum(ops.sum(o**2) for o in model(data, training=False).values())
        value.backward()
        grads = [v.value.grad for v in model.trainable_variables]
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = sum(ops.sum(o**2) for o in model(data, training=False).values())
        grads = tape.gradient(value, [v.value for v in model.trainable_variables])
        grads = [tf.convert_to_tensor(g) for g in grads]
    return float(numpy(value)), dict(zip([v.path for v in model.trainable_variables], map(numpy, grads), strict=True))


REACHED = ("bert", "roformer_v2", "causal", "norm_first", "factorised", "untied", "condition", "condition_each",
           "albert", "electra", "nezha", "shaw_learned", "modernbert")  # fmt: skip


@pytest.mark.parametrize("name", REACHED)
def test_gradients_are_finite_and_reach_every_weight(name):
    model = build(name, ("lm", "pooler", *(["discriminator"] if name == "electra" else [])))
    data = batch(model)
    data["padding_mask"][0] = False
    value, grads = loss_and_gradients(model, {n: ops.convert_to_tensor(v) for n, v in data.items()})
    assert np.isfinite(value)
    for path, grad in grads.items():
        assert np.isfinite(grad).all(), path
        assert np.abs(grad).max() > 0, path


def test_training_uses_seeded_dropout():
    model = shared("bert")
    data = batch(model)
    plain = hidden(model, data)
    np.testing.assert_allclose(hidden(model, data, training=False), plain, atol=1e-5)

    def train(seed):
        keras.utils.set_random_seed(seed)
        return hidden(Transformer(config("bert")), data, training=True)

    np.testing.assert_array_equal(train(1), train(1))
    assert np.abs(train(1) - train(2)).max() > 0.01
    keras.utils.set_random_seed(0)
    fresh = build("bert")
    first, second = (hidden(fresh, data, training=True) for _ in range(2))
    assert np.abs(first - second).max() > 0.01
    no_dropout = build("bert", dropout=0.0, attention_dropout=0.0)
    np.testing.assert_allclose(hidden(no_dropout, data, training=True), plain, atol=1e-5)


def test_fit_and_predict():
    """Keras' own loop: the loss falls, dropout and optional inputs included; predict equals the direct call."""
    keras.utils.set_random_seed(0)
    model = Transformer(config("roformer"), head="lm")
    data = batch(model, rows=16)
    labels = data["token_ids"]
    loss = {"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "sequence_output": None}
    model.compile(keras.optimizers.Adam(1e-2), loss=loss)
    history = model.fit(data, {"logits": labels}, epochs=8, batch_size=8, verbose=0)
    assert history.history["loss"][-1] < 0.7 * history.history["loss"][0]
    predicted = model.predict(data, batch_size=16, verbose=0)
    np.testing.assert_allclose(predicted["logits"], run(model, data)["logits"], atol=1e-4)


def test_functional_surgery():
    """summary, get_layer(name).output, sub-models and heads of one's own."""
    model = shared("bert")
    lines = []
    model.summary(print_fn=lines.append)
    assert "block_1_feedforward" in "\n".join(lines)
    inner = keras.Model(model.input, model.get_layer("block_0_feedforward_norm").output)
    data = batch(model)
    inputs = {**data, "position_ids": None, "document_ids": None}
    assert numpy(inner(inputs)).shape == (*data["token_ids"].shape, 12)
    score = keras.layers.Dense(1)(model.output["sequence_output"])
    assert numpy(keras.Model(model.input, score)(inputs)).shape == (*data["token_ids"].shape, 1)
    ids = keras.Input((None,), dtype="int32")
    nested = keras.Model(ids, model({"token_ids": ids})["sequence_output"])
    np.testing.assert_allclose(numpy(nested(data["token_ids"])), hidden(model, data["token_ids"]), atol=1e-5)


def test_parameter_names_are_unique_and_count_once():
    for name in CONFIGS:
        model = shared(name, "lm")
        named = named_weights(model)
        tracked = {id(v) for v in model.weights}
        assert len(named) == len(tracked)
        assert {id(v) for v in named.values()} == tracked


CONDITIONS = (
    {},
    {"condition_hidden_size": 3, "condition_activation": "tanh"},
    {"condition_per_token": True},
    {"condition_per_token": True, "condition_hidden_size": 2, "condition_activation": "swish"},
)


@pytest.mark.parametrize("changes", CONDITIONS, ids=["sequence", "hidden", "token", "token-hidden"])
@pytest.mark.parametrize("name", FAMILIES)
def test_conditions_start_as_nothing_and_then_matter(name, changes):
    """Norms of every family, that of the LM head too; a fresh condition changes nothing, a trained one does."""
    plain = shared(name, "lm")
    conditional = Transformer(config(name, condition_size=5, **changes), head="lm")
    named = named_weights(conditional)
    for weight, variable in named_weights(plain).items():
        named[weight].assign(variable)
    data = batch(conditional)
    without = {n: v for n, v in data.items() if n != "condition"}
    want = run(plain, without)
    for output, value in run(conditional, data).items():
        np.testing.assert_allclose(value, want[output], rtol=1e-5, atol=1e-5)
    trained = build(name, "lm", condition_size=5, **changes)
    other = {**data, "condition": data["condition"] + 1}
    assert np.abs(hidden(trained, data) - hidden(trained, other)).max() > 0.05
    if conditional.config.lm_transform:
        for weight, variable in named.items():  # the head's norm alone
            if weight in ("lm_head/norm/gain_kernel", "lm_head/norm/bias_kernel"):
                variable.assign(np.ones(variable.shape))
        out = run(conditional, data)
        np.testing.assert_allclose(out["sequence_output"], want["sequence_output"], rtol=1e-5, atol=1e-5)
        assert np.abs(out["logits"] - want["logits"]).max() > 0.1


def test_a_condition_for_each_token_stays_with_it():
    """Token-wise parts only: with attention silent, a token's output depends on its own condition alone."""
    model = build("condition_each")
    for weight, variable in named_weights(model).items():
        if weight.endswith(("attention/output_kernel", "attention/output_bias")):
            variable.assign(np.zeros(variable.shape))
    data = batch(model)
    data["padding_mask"][:] = True
    moved = {**data, "condition": data["condition"].copy()}
    moved["condition"][:, 3] += 1
    change = np.abs(hidden(model, moved) - hidden(model, data)).max(-1)
    assert (change[:, 3] > 1e-3).all()
    assert (np.delete(change, 3, axis=1) == 0).all()


@pytest.mark.parametrize("name", ["condition", "condition_each"])
def test_conditions_of_wrong_shape(name):
    model = shared(name)
    data = batch(model)
    shape = data["condition"].shape
    for wrong in ((*shape[:-1], 4), (7, *shape[1:]), shape[:-1]):
        with pytest.raises(ConfigError, match=r"condition must be of shape \(8, "):
            model({**data, "condition": np.zeros(wrong, "float32")})
    with pytest.raises(ConfigError, match="need a condition_size"):
        config("bert", condition_per_token=True)
    with pytest.raises(ConfigError, match="need a condition_size"):
        config("bert", condition_hidden_size=3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: build("bert", "mlmm"), "'mlmm'"),
        (lambda: build("bert", mask="causl"), "causl"),
        (lambda: build("bert", activation="gelo"), "gelo"),
        (lambda: build("bert", norm="batch"), "batch"),
        (lambda: build("roformer", key_size=3), "even"),
        (lambda: build("bert", position="hierarchical", position_options={"alpha": 0.5}), "alpha=0.5"),
        (lambda: Transformer({"hidden_size": 3}), "vocabulary_size"),
    ],
)
def test_errors_when_building(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_a_mask_of_ones_own_runs_but_is_not_written(tmp_path):
    class Even(Mask):
        def rule(self, q, k):
            return (q.index - k.index) % 2 == 0

    model = build("bert", mask=Even() & Window(4, 4))
    assert np.isfinite(hidden(model, batch(model))).all()
    with pytest.raises(ConfigError, match="of your own"):
        model.save_pretrained(tmp_path / "x")
    assert build("bert", mask=Prefix()).mask == Prefix()
