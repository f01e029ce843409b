"""Surgery on every family of `Transformer`, and on a large network of Keras."""

import keras
import numpy as np
import pytest
from keras import layers
from tests.models.tiny import ENCODER_DECODERS, FAMILIES, batch, build, config, numpy, run, shared

from kexue.errors import ConfigError
from kexue.models import Transformer, surgery

QUICK = ("bert", "roformer", "albert")
ALL = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
    for name in (*FAMILIES, *ENCODER_DECODERS, "two_stream", "condition")
]


def plainly(model):
    """Without a compilation for each piece."""
    model.compile_calls = False
    return model


def inner(model):
    """The place after the first block's last layer but its residual and norm."""
    return [a for a in surgery.addresses(model) if a.startswith("block_0") and a.split("#")[0].endswith("_dropout")][-1]


def close(got, want, exact=1e-6):
    for name, value in numpy(want).items():
        np.testing.assert_allclose(numpy(got)[name], value, rtol=exact, atol=exact, err_msg=name)


@pytest.mark.parametrize("name", ALL)
def test_split_save_and_join(name, tmp_path):
    """Cut in the middle of a block, with all that by-passes the cut; the tail read from a file does the same."""
    model = plainly(build(name, "lm"))
    data = batch(model, 2, 5)
    want = model(data)
    head, tail = map(plainly, surgery.split(model, inner(model), complete=True))
    middle = head(data)
    close(tail(middle), want)
    assert not {layer.name for layer in tail.layers} & {"segment_embedding", "embedding_norm", "position_embedding"}
    assert {id(w) for w in tail.weights} < {id(w) for w in model.weights}
    tail.save(tmp_path / "tail.keras")
    close(plainly(keras.models.load_model(tmp_path / "tail.keras"))(middle), want)


@pytest.mark.parametrize("name", ALL)
def test_insert_clone_and_keep_optional_inputs(name, tmp_path):
    model = plainly(build(name, "lm"))
    data = batch(model, 2, 5)
    adapter = layers.Dense(12, kernel_initializer="identity", name="adapter")
    changed = plainly(surgery.insert_after(model, inner(model), adapter))
    close(changed(data), model(data))
    only = {n: data[n] for n in ("token_ids", "decoder_token_ids", "order") if n in data}
    close(changed(only), model(only))
    adapter.kernel.assign(np.zeros((12, 12)))
    assert np.abs(numpy(changed(only))["logits"] - numpy(model(only))["logits"]).max() > 1e-3
    changed.save(tmp_path / "changed.keras")
    close(plainly(keras.models.load_model(tmp_path / "changed.keras"))(only), changed(only))
    again = plainly(surgery.clone(changed, copy_weights=True))
    assert not {id(w) for w in again.weights} & {id(w) for w in changed.weights}
    close(again(only), changed(only))


@pytest.mark.parametrize("name", ["roformer", pytest.param("t5", marks=pytest.mark.slow)])
def test_clone_of_a_transformer(name):
    model = plainly(shared(name, "lm"))
    data = batch(model, 2, 5)
    fresh = plainly(surgery.clone(model))
    copy = plainly(surgery.clone(model, copy_weights=True, name_suffix="_b"))
    model.compile_calls = True
    assert (type(copy), copy.name) == (Transformer, f"{model.name}_b")
    assert copy.config == model.config
    assert np.abs(numpy(fresh(data))["logits"] - run(model, data)["logits"]).max() > 1e-2
    close(copy(data), run(model, data), 1e-5)


def test_a_cut_of_bert_names_the_attention_mask():
    model = shared("bert")
    with pytest.raises(ConfigError, match="block_0_feedforward_norm is by-passed: attention_mask also"):
        surgery.split(model, "block_0_feedforward_norm")
    head, tail = surgery.split(model, ["block_0_feedforward_norm", "attention_mask"])
    assert list(tail.input) == ["block_0_feedforward_norm", "attention_mask"]
    data = batch(model)
    middle = head(data)  # compiled on JAX
    close(tail(middle), run(model, data), 1e-5)
    # Without padding there is no mask, and the tail does without it.
    middle = head(data["token_ids"])
    assert middle["attention_mask"] is None
    close(tail(middle), run(model, data["token_ids"]), 1e-5)
    close(tail(middle["block_0_feedforward_norm"]), run(model, data["token_ids"]), 1e-5)
    with pytest.raises(ConfigError, match="unknown input 'token_ids'"):
        tail(data)


def test_cut_at_the_model_s_own_inputs():
    """The tail takes hidden states and the original inputs, in place of masks worked out from them."""
    model = shared("bert")
    at = ["block_0_feedforward_norm", "token_ids", "padding_mask", "segment_ids", "document_ids"]
    head, tail = surgery.split(model, at)
    data = batch(model)
    close(tail(head(data)), run(model, data), 1e-5)
    only = {n: data[n] for n in ("token_ids", "padding_mask")}
    state = head(only)["block_0_feedforward_norm"]
    close(tail({"block_0_feedforward_norm": state, **only}), run(model, only), 1e-5)


def test_early_exit():
    model = shared("bert", "lm")
    exit_ = surgery.extract(model, ["block_0_feedforward_norm"])
    assert not [layer.name for layer in exit_.layers if "block_1" in layer.name or layer.name == "lm_head"]
    data = batch(model)
    states = surgery.extract(model, "block_*_feedforward_norm")(data)
    assert list(states) == ["block_0_feedforward_norm", "block_1_feedforward_norm"]
    np.testing.assert_allclose(
        numpy(states["block_1_feedforward_norm"]), run(model, data)["sequence_output"], atol=1e-5
    )
    # The language model's head on the first block: a tail from the last state, fed with the first.
    _, tail = surgery.split(model, "block_1_feedforward_norm")
    early = tail(exit_(data)["block_0_feedforward_norm"])
    head = model.get_layer("lm_head")
    table = model.get_layer("token_embedding").table
    np.testing.assert_allclose(
        numpy(early["logits"]), numpy(head(states["block_0_feedforward_norm"], table=table)), atol=1e-4
    )


def test_adapters_are_trained_alone():
    """fit with a dict of labels; only the adapters move, in the model that shares all else."""
    keras.utils.set_random_seed(0)
    model = Transformer(config("roformer", dropout=0.0, attention_dropout=0.0), head="lm")
    model.trainable = False
    changed = surgery.insert_after(
        model, "block_*_feedforward_dropout", lambda name: layers.Dense(12, "gelu", name=f"{name}_adapter")
    )
    assert len(changed.trainable_weights) == 4
    data = batch(model)
    loss = {"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "sequence_output": None}
    changed.compile(keras.optimizers.Adam(3e-2), loss=loss)
    before = [numpy(w.value) for w in model.weights]
    losses = changed.fit(data, {"logits": data["token_ids"]}, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(numpy(weight.value), old)
    close(changed.predict(data, verbose=0), changed(data), 1e-4)


def test_wrapping_attention_and_feedforward(tmp_path):
    model = plainly(build("roformer", "lm"))
    data = batch(model, 2, 5)
    wrapped = surgery.replace(model, ["block_*_attention", "block_*_feedforward"], lambda old: surgery.LowRank(old, 3))
    close(plainly(wrapped)(data), model(data))
    assert sum("low_rank/up" in w.path for w in wrapped.trainable_weights) == 4
    wrapped.get_layer("block_0_attention_low_rank").up.assign(np.random.default_rng(0).normal(size=(3, 12)))
    assert np.abs(numpy(wrapped(data))["logits"] - numpy(model(data))["logits"]).max() > 1e-2
    wrapped.save(tmp_path / "w.keras")
    close(plainly(keras.models.load_model(tmp_path / "w.keras"))(data), wrapped(data))


def test_sharing_and_leaving_out_blocks():
    """BERT whose blocks share weights as ALBERT's do, and BERT without its second block."""
    model = plainly(build("bert"))
    data = batch(model, 2, 5)
    kinds = ("attention", "attention_norm", "feedforward", "feedforward_norm")
    tied = model
    for kind in kinds:
        tied = surgery.share(tied, f"block_*_{kind}")
    want = plainly(build("bert", block_groups=1))
    for ours, theirs in ((f"block_0_{kind}", f"block_0_{kind}") for kind in kinds):
        want.get_layer(theirs).set_weights(model.get_layer(ours).get_weights())
    for name in ("token_embedding", "segment_embedding", "position_embedding", "embedding_norm"):
        want.get_layer(name).set_weights(model.get_layer(name).get_weights())
    close(plainly(tied)(data), want(data), 1e-5)
    assert tied.count_params() == want.count_params()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["split", "by-passed", "train", "save"])
def test_resnet(way, tmp_path):
    """The article's case: begin at the fifteenth of the sixteen residual additions."""
    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=10)
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    place = surgery.Nth(layers.Add, 14)
    head, tail = surgery.split(model, place)
    middle = numpy(head(x))
    if way == "split":
        np.testing.assert_allclose(numpy(tail(middle)), numpy(model(x)), rtol=1e-6, atol=1e-6)
        assert surgery.Graph(model).find_calls(place)[0].address == "conv5_block2_add"
        assert head.count_params() + tail.count_params() == model.count_params()
        assert len([layer for layer in tail.layers if isinstance(layer, layers.Conv2D)]) == 3
    elif way == "by-passed":
        with pytest.raises(ConfigError, match="by-passed: conv5_block2_out also lead"):
            surgery.split(model, "conv5_block3_2_conv")
        pair = surgery.split(model, "conv5_block3_2_conv", complete=True)
        np.testing.assert_allclose(numpy(pair[1](pair[0](x))), numpy(model(x)), rtol=1e-6, atol=1e-6)
    elif way == "train":
        before = [numpy(w.value) for w in model.weights]
        tail.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        tail.train_on_batch(middle, np.array([1, 2]))
        moved = {w.path.split("_block")[0] for w, old in zip(model.weights, before, strict=True)
                 if np.abs(numpy(w.value) - old).max() > 0}  # fmt: skip
        assert moved <= {"conv5", "predictions/kernel", "predictions/bias"}
        assert "conv5" in moved
    else:
        tail.save(tmp_path / "tail.keras")
        again = keras.models.load_model(tmp_path / "tail.keras")
        np.testing.assert_allclose(numpy(again(middle)), numpy(tail(middle)), rtol=1e-6, atol=1e-6)
