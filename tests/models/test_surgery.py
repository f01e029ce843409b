"""Surgery on any Keras model: pieces and edits against the same networks written out by hand."""

import keras
import numpy as np
import pytest
from keras import layers
from tests.models.tiny import numpy

from kexue.errors import ConfigError
from kexue.models import surgery

X = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
EXACT = {"rtol": 1e-6, "atol": 1e-6}


def mlp():
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(8, "relu", name="a"), layers.Dense(7, "tanh", name="b"), layers.Dense(3, name="c")]
    return keras.Sequential([keras.Input((6,)), *stack], name="mlp")


def residual():
    """Three blocks with skips, batch norms and a side output."""
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((6,), name="x")
    x = layers.Dense(8, name="start")(x)
    for n in range(3):
        y = layers.BatchNormalization(name=f"norm_{n}")(x)
        y = layers.Dense(8, "tanh", name=f"dense_{n}")(y)
        x = layers.Add(name=f"add_{n}")([x, y])
    model = keras.Model(inputs, layers.Dense(2, name="end")(x), name="residual")
    rng = np.random.default_rng(2)
    for weight in model.weights:
        near = 1.0 if weight.name in ("gamma", "moving_variance") else 0.0
        weight.assign(near + rng.uniform(-0.5, 0.5, size=weight.shape))
    return model


class Scaled(layers.Layer):
    """An argument that is no tensor, and one that is."""

    def call(self, x, factor=1.0, shift=None):
        return x * factor if shift is None else x * factor + shift


def shared_layers():
    """One layer at three nodes, with other arguments each time."""
    keras.utils.set_random_seed(3)
    dense, scaled = layers.Dense(6, name="dense"), Scaled(name="scaled")
    inputs = keras.Input((6,), name="x")
    first = scaled(dense(inputs), factor=2.0)
    second = scaled(dense(first), factor=3.0, shift=first)
    return keras.Model(inputs, dense(second), name="shared"), dense


# ---------------------------------------------------------------- cutting


@pytest.mark.parametrize("name", ["a", "b"])
def test_split_of_a_sequential_model(name):
    model = mlp()
    head, tail = surgery.split(model, name)
    np.testing.assert_allclose(numpy(tail(head(X))), numpy(model(X)), **EXACT)
    kept = ["b", "c"] if name == "a" else ["c"]
    assert [layer.name for layer in tail.layers if layer.weights] == kept
    assert tail.count_params() == sum(model.get_layer(n).count_params() for n in kept)
    assert all(any(w is v for v in model.weights) for w in tail.weights)
    np.testing.assert_allclose(numpy(surgery.tail(model, name)(head(X))), numpy(model(X)), **EXACT)


@pytest.mark.parametrize("at", ["start", "add_0", "add_1", "add_2", "x", "end", ["add_0", "dense_1"]])
def test_split_of_a_residual_network(at):
    model = residual()
    head, tail = surgery.split(model, at)
    middle = head(X)
    assert isinstance(middle, dict) == isinstance(at, list)
    np.testing.assert_allclose(numpy(tail(middle)), numpy(model(X)), **EXACT)


@pytest.mark.parametrize(
    ("at", "missing"), [("norm_1", ["add_0"]), ("dense_2", ["add_1"]), (["norm_1", "dense_2"], ["add_0"])]
)
def test_a_cut_that_is_by_passed(at, missing):
    model = residual()
    with pytest.raises(ConfigError, match=rf"by-passed: {', '.join(missing)} also lead") as caught:
        surgery.split(model, at)
    assert "complete=True" in str(caught.value)
    with pytest.raises(ConfigError, match="by-passed"):
        surgery.outputs_of(model, at)
    head, tail = surgery.split(model, at, complete=True)
    assert set(missing) < set(tail.input)
    np.testing.assert_allclose(numpy(tail(head(X))), numpy(model(X)), **EXACT)


def test_a_cut_behind_arithmetic():
    """Keras calls ``x * 2`` sparse; the tail takes what the head gives, and is saved as a dense model."""
    inputs = keras.Input((6,), name="x")
    doubled = layers.Dense(4, name="first")(inputs) * 2.0
    model = keras.Model(inputs, layers.Dense(2, name="second")(doubled))
    name = doubled._keras_history.operation.name
    head, tail = surgery.split(model, name)
    assert not tail.input.sparse
    np.testing.assert_allclose(numpy(tail(head(X))), numpy(model(X)), **EXACT)


def test_an_output_before_the_cut():
    inputs = keras.Input((6,), name="x")
    first = layers.Dense(4, name="first")(inputs)
    model = keras.Model(inputs, {"early": first, "late": layers.Dense(2, name="second")(layers.ReLU(name="r")(first))})
    with pytest.raises(ConfigError, match="first also lead"):
        surgery.split(model, "r")
    head, tail = surgery.split(model, ["r", "first"])
    for name, value in numpy(tail(head(X))).items():
        np.testing.assert_allclose(value, numpy(model(X))[name], **EXACT)


def test_each_call_of_a_layer_is_a_place_of_its_own():
    model, dense = shared_layers()
    assert surgery.addresses(model) == ["x", "dense#1", "scaled#1", "dense#2", "scaled#2", "dense#3"]
    with pytest.raises(ConfigError, match=r"dense is called 3 times.*dense#1, dense#2, dense#3"):
        surgery.split(model, "dense")
    for at in ("dense#1", "scaled#1", ["scaled#1", "dense#2"], "scaled#2"):
        head, tail = surgery.split(model, at)
        np.testing.assert_allclose(numpy(tail(head(X))), numpy(model(X)), **EXACT)
        assert tail.get_layer("dense") is dense
    with pytest.raises(ConfigError, match="by-passed: scaled#1 also"):
        surgery.split(model, "dense#2")  # the shift, a keyword argument, comes from before
    assert surgery.addresses(surgery.tail(model, "scaled#2")) == ["scaled#2", "dense"]
    every = surgery.extract(model, surgery.addresses(model))  # each address is a name
    assert list(every.output) == surgery.addresses(model)
    assert list(surgery.extract(model, "d*e").output) == ["dense#1", "dense#2", "dense#3"]  # a pattern: all calls
    # A piece is a model like any other: cut it again.
    head, tail = surgery.split(surgery.tail(model, "scaled#1"), "scaled")
    start = surgery.extract(model, "scaled#1")(X)["scaled#1"]
    np.testing.assert_allclose(numpy(tail(head(start))), numpy(model(X)), **EXACT)


def test_a_nested_model_called_twice():
    """A cut that is by-passed is mended by the names that its error gives."""
    keras.utils.set_random_seed(4)
    x = keras.Input((6,), name="within")
    h = layers.Dense(4, "relu", name="deep")(x)
    nested = keras.Model(x, [h, layers.Dense(2, name="last")(h)], name="nested")
    inputs = {name: keras.Input((6,), name=name) for name in ("a", "b")}
    (u, v), (y, z) = (nested(inputs[name]) for name in ("a", "b"))
    model = keras.Model(inputs, {"joined": layers.Dense(3, name="end")(keras.ops.concatenate([u, y])), "dot": v * z})
    data = {"a": X, "b": 2 * X}
    with pytest.raises(ConfigError, match=r"nested is called 2 times.*nested#1:0, nested#2:0"):
        surgery.split(model, "nested:0")
    with pytest.raises(ConfigError, match=r"deep'\. It is a layer inside the nested model nested"):
        surgery.split(model, "deep")
    with pytest.raises(ConfigError, match="by-passed") as caught:
        surgery.split(model, "nested#1")
    names = str(caught.value).split("at=[")[1].split("]")[0].split(", ")
    assert names == ["nested#1:0", "nested#1:1", "nested#2:0", "nested#2:1"]
    for at in (names, ["nested#1", "nested#2"]):
        head, tail = surgery.split(model, at)
        assert list(tail.input) == names
        for name, value in numpy(tail(head(data))).items():
            np.testing.assert_allclose(value, numpy(model(data))[name], **EXACT)


def test_masks_travel_with_the_graph():
    inputs = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(9, 4, mask_zero=True, name="embedding")(inputs)
    model = keras.Model(inputs, layers.LSTM(3, name="lstm")(layers.Dropout(0.1, name="drop")(x)), name="m")
    ids = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]], "int32")
    head, tail = surgery.split(model, "drop", complete=True)
    np.testing.assert_allclose(numpy(tail(head(ids))), numpy(model(ids)), **EXACT)


def test_training_a_tail_moves_the_model():
    model = residual()
    before = [numpy(w.value) for w in model.weights]
    head, tail = surgery.split(model, "add_1")
    tail.compile(keras.optimizers.SGD(0.1), "mse")
    tail.train_on_batch(numpy(head(X)), np.ones((5, 2), "float32"))
    for weight, old in zip(model.weights, before, strict=True):
        moved = np.abs(numpy(weight.value) - old).max() > 1e-6
        assert moved == any(part in weight.path for part in ("dense_2", "norm_2", "end")), weight.path


def test_outputs_of_goes_on_from_tensors_of_yours():
    model = residual()
    mine = keras.Input((8,))
    _, outputs = surgery.outputs_of(model, "add_1", inputs=layers.ReLU()(mine))
    z = np.random.default_rng(3).normal(size=(5, 8)).astype("float32")
    want = numpy(surgery.tail(model, "add_1")(np.maximum(z, 0)))
    np.testing.assert_allclose(numpy(keras.Model(mine, outputs)(z)), want, **EXACT)
    new, outputs = surgery.outputs_of(model, ["add_0", "dense_1"])
    assert list(new) == ["add_0", "dense_1"]
    two = {"dense_1": keras.Input((8,), name="dense_1"), "add_0": keras.Input((8,), name="add_0")}
    _, outputs = surgery.outputs_of(model, ["add_0", "dense_1"], inputs=two)
    values = {"add_0": z, "dense_1": 2 * z}
    want = numpy(surgery.tail(model, ["add_0", "dense_1"])(values))
    np.testing.assert_allclose(numpy(keras.Model(two, outputs)(values)), want, **EXACT)
    with pytest.raises(ConfigError, match=r"of shape \(None, 8\). Received: shape \(None, 7\)"):
        surgery.outputs_of(model, "add_1", inputs=keras.Input((7,)))
    with pytest.raises(ConfigError, match="Received: 2 inputs"):
        surgery.outputs_of(model, "add_1", inputs=[mine, mine])
    with pytest.raises(ConfigError, match=r"names add_1\. Received: add_2"):
        surgery.outputs_of(model, "add_1", inputs={"add_2": mine})


# ---------------------------------------------------------------- reading out


def test_extract_by_all_kinds_of_names():
    model = residual()
    want = {f"add_{n}": numpy(keras.Model(model.input, model.get_layer(f"add_{n}").output)(X)) for n in range(3)}
    tensor, layer, nth = model.get_layer("add_0").output, model.get_layer("add_1"), surgery.Nth(layers.Add, -1)
    for what in ("add_*", ["add_0", "add_1", "add_2"], [tensor, layer, nth]):
        inner = surgery.extract(model, what)
        got = numpy(inner(X))
        assert list(got) == list(want)
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, **EXACT)
    assert [layer.name for layer in surgery.extract(model, "add_0").layers if layer.weights] == [
        "start",
        "norm_0",
        "dense_0",
    ]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("add_7", r"residual has nothing called 'add_7'. Near are: .*add_2"),
        ("nothing_*", "nothing called 'nothing_"),
        ([], "at least one layer"),
        (surgery.Nth(layers.Add, 3), "has 3 calls of Add. Received: index 3"),
        (keras.Input((2,), name="other"), "'other' is not of the graph"),
    ],
)
def test_what_is_not_there(what, words):
    with pytest.raises(ConfigError, match=words):
        surgery.extract(residual(), what)


def test_models_without_a_graph():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ConfigError, match=r"functional or sequential.*Received: Own"):
        surgery.addresses(Own())
    with pytest.raises(ConfigError, match="not built yet"):
        surgery.addresses(keras.Sequential([layers.Dense(2)]))


def test_search_looks_upwards_and_inside():
    inner = residual()
    inputs = keras.Input((6,))
    other = layers.Dense(2, name="beside")(inputs)
    x = layers.Dense(3, name="above")(inner(inputs))
    model = keras.Model(inputs, [layers.ReLU(name="last")(x), other])
    assert surgery.search(x, "dense_1") is inner.get_layer("dense_1")
    assert surgery.search(model, "beside").name == "beside"
    assert surgery.search(model.get_layer("last"), "ab*").name == "above"
    for start, name in ((x, "beside"), (x, "last"), (inner, "above")):
        with pytest.raises(ConfigError, match=f"no layer '{name}'"):
            surgery.search(start, name)


# ---------------------------------------------------------------- changes, against the network written out


def by_hand(model, dense_1=None, after_add_0=None, before_dense_1=None, add_1=True):
    """`residual` in plain calls of its layers, with changes."""
    get, x = model.get_layer, keras.ops.convert_to_tensor(X)
    x = get("start")(x)
    for n in range(3):
        y = get(f"norm_{n}")(x)
        y = before_dense_1(y) if n == 1 and before_dense_1 else y
        y = dense_1(y) if n == 1 and dense_1 else get(f"dense_{n}")(y)
        x = x + y if n != 1 or add_1 else x
        x = after_add_0(x) if n == 0 and after_add_0 else x
    return numpy(get("end")(x))


def test_insert_after():
    model = residual()
    old = numpy(model(X))
    new = layers.Dense(8, "tanh", name="adapter")
    changed = surgery.insert_after(model, "add_0", new)
    np.testing.assert_allclose(numpy(changed(X)), by_hand(model, after_add_0=new), rtol=1e-5, atol=1e-6)
    assert np.abs(numpy(changed(X)) - old).max() > 1e-3
    np.testing.assert_allclose(numpy(model(X)), old, **EXACT)
    assert [w is v for w, v in zip(model.weights, (w for w in changed.weights if "adapter" not in w.path), strict=True)]


def test_insert_after_an_input_an_output_and_at_many_places():
    model = residual()
    double = keras.Sequential([keras.Input((6,)), layers.Rescaling(2.0)], name="double")
    np.testing.assert_allclose(numpy(surgery.insert_after(model, "x", double)(X)), numpy(model(2 * X)), **EXACT)
    last = surgery.insert_after(model, "end", layers.ReLU(name="relu"))
    np.testing.assert_allclose(numpy(last(X)), np.maximum(numpy(model(X)), 0), **EXACT)
    many = surgery.insert_after(model, "add_*", lambda name: layers.Dense(8, name=f"{name}_extra"))
    extra = [layer.name for layer in many.layers if layer.name.endswith("_extra")]
    assert extra == ["add_0_extra", "add_1_extra", "add_2_extra"]
    one = surgery.insert_after(model, "add_*", layers.Dense(8, name="one"))
    assert len(one.weights) == len(model.weights) + 2


def test_insert_before():
    model = residual()
    new = layers.Dense(8, "tanh", name="adapter")
    changed = surgery.insert_before(model, "dense_1", new)
    np.testing.assert_allclose(numpy(changed(X)), by_hand(model, before_dense_1=new), rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match=r"add_1 takes 2 tensors alike \(add_0, dense_1\)"):
        surgery.insert_before(model, "add_1", layers.ReLU())
    second = surgery.insert_before(model, "add_1", layers.Rescaling(0.5), input=1)
    want = by_hand(model, dense_1=lambda y: 0.5 * model.get_layer("dense_1")(y))
    np.testing.assert_allclose(numpy(second(X)), want, rtol=1e-5, atol=1e-6)


def test_replace_and_share():
    model = residual()
    new = layers.Dense(8, "relu", name="other")
    np.testing.assert_allclose(
        numpy(surgery.replace(model, "dense_1", new)(X)), by_hand(model, dense_1=new), rtol=1e-5, atol=1e-6
    )
    tied = surgery.share(model, "dense_[01]")
    assert len(tied.weights) == len(model.weights) - 2
    want = by_hand(model, dense_1=model.get_layer("dense_0"))
    np.testing.assert_allclose(numpy(tied(X)), want, rtol=1e-5, atol=1e-6)
    model, _ = shared_layers()
    once = surgery.replace(model, "dense#2", layers.Activation("tanh", name="t"))
    assert surgery.addresses(once) == ["x", "dense#1", "scaled#1", "t", "scaled#2", "dense#2"]


def test_bypass():
    model = residual()
    without = surgery.bypass(model, "dense_1")
    np.testing.assert_allclose(numpy(without(X)), by_hand(model, dense_1=lambda y: y), rtol=1e-5, atol=1e-6)
    assert "dense_1" not in [layer.name for layer in without.layers]
    block = surgery.bypass(model, "add_1", input=0)
    np.testing.assert_allclose(numpy(block(X)), by_hand(model, add_1=False), rtol=1e-5, atol=1e-6)
    assert not {"dense_1", "norm_1"} & {layer.name for layer in block.layers}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: surgery.bypass(m, "end"), r"takes \(None, 8\) float32 and gives \(None, 2\)"),
        (lambda m: surgery.bypass(m, "add_1", input=2), "takes 2 tensors. Received: input=2"),
        (lambda m: surgery.bypass(m, "x"), "cannot be by-passed"),
        (lambda m: surgery.insert_after(m, "add_0", layers.Dense(5)), "residual cannot be rebuilt so"),
        (lambda m: surgery.insert_after(m, "add_0", layers.Dense(8, name="end")), 'cannot be rebuilt so.*"end"'),
        (lambda m: surgery.insert_after(m, "add_0", lambda name: name), "layer at add_0 must be a Keras layer"),
        (lambda m: surgery.replace(m, "add_0", lambda old: None), "must be a Keras layer. Received: NoneType"),
        (lambda m: surgery.share(m, ["dense_1", "norm_1"]), "all of one class.*BatchNormalization, Dense"),
        (lambda m: surgery.share(m, ["start", "dense_1"]), "start cannot stand in for dense_1"),
    ],
)
def test_changes_that_cannot_be(change, words):
    with pytest.raises(ConfigError, match=words):
        change(residual())


def test_differences_are_told():
    model = residual()
    assert not surgery.diff(model, residual())
    assert surgery.diff(model, residual()).shared == 0
    changed = surgery.insert_after(model, "add_0", layers.Dense(8, name="adapter"))
    changed = surgery.replace(changed, "dense_2", layers.Dense(8, "relu", name="dense_2b"))
    found = surgery.diff(model, changed)
    assert found.added == [
        "adapter: Dense of add_0 gives (None, 8)",
        "dense_2b: Dense of norm_2 gives (None, 8)",
    ]
    assert found.removed == ["dense_2: Dense of norm_2 gives (None, 8)"]
    assert [address for address, _ in found.changed] == ["norm_1", "add_1", "add_2"]
    assert found.shared == model.count_params() - model.get_layer("dense_2").count_params()
    assert "~ norm_1\n    inputs: add_0 -> adapter" in str(found)
    other = surgery.replace(model, "dense_1", layers.Dense(8, "relu", name="dense_1"))
    assert surgery.diff(model, other).changed == [("dense_1", ['activation: "tanh" -> "relu"'])]


# ---------------------------------------------------------------- results are models


def test_results_are_saved_and_trained(tmp_path):
    model = residual()
    adapter = layers.Dense(8, name="adapter", kernel_initializer="identity")
    changed = surgery.insert_after(model, "add_1", adapter)
    np.testing.assert_allclose(changed.predict(X, verbose=0), numpy(model(X)), rtol=1e-5, atol=1e-6)
    head, tail = surgery.split(changed, ["norm_1", "add_0"])
    changed.compile(keras.optimizers.SGD(0.05), "mse")
    losses = changed.fit(X, np.ones((5, 2), "float32"), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for piece, inputs in ((changed, X), (head, X), (tail, head(X)), (surgery.extract(model, "add_*"), X)):
        piece.save(tmp_path / "piece.keras")
        again = keras.models.load_model(tmp_path / "piece.keras")
        assert surgery.addresses(again) == surgery.addresses(piece)
        want, got = numpy(piece(inputs)), numpy(again(inputs))
        keras.tree.map_structure(lambda a, b: np.testing.assert_allclose(a, b, **EXACT), got, want)


@pytest.mark.parametrize("make", [mlp, residual, lambda: shared_layers()[0]])
def test_clone(make):
    keras.utils.set_random_seed(0)
    with keras.saving.custom_object_scope({"Scaled": Scaled}):
        model = make()
        fresh = surgery.clone(model, name_suffix="_2")
        copy = surgery.clone(model, copy_weights=True)
    assert type(fresh) is type(model)
    assert fresh.name == f"{model.name}_2"
    assert not {id(w) for w in model.weights} & {id(w) for w in [*fresh.weights, *copy.weights]}
    assert np.abs(numpy(fresh(X)) - numpy(model(X))).max() > 1e-3
    np.testing.assert_array_equal(numpy(copy(X)), numpy(model(X)))
    fresh.set_weights(model.get_weights())
    np.testing.assert_array_equal(numpy(fresh(X)), numpy(model(X)))
    names = [{layer.name for layer in m.layers if layer.weights} for m in (model, fresh)]
    assert names[1] == {f"{name}_2" for name in names[0]}


def test_a_clone_with_another_name_fits_beside_the_original():
    inputs = keras.Input((6,), name="x")
    inner = residual()
    model = keras.Model(inputs, layers.Dense(2, name="top")(inner(inputs)), name="outer")
    copy = surgery.clone(model, copy_weights=True, name_suffix="_b")
    both = keras.Model(inputs, layers.Add()([model(inputs), copy(inputs)]))
    np.testing.assert_allclose(numpy(both(X)), 2 * numpy(model(X)), rtol=1e-5)
    assert copy.get_layer("residual_b").get_layer("dense_1_b") is not inner.get_layer("dense_1")


# ---------------------------------------------------------------- weights of other layers


def tied(**options):
    keras.utils.set_random_seed(0)
    ids = keras.Input((3,), dtype="int32", name="ids")
    embedding = layers.Embedding(7, 4, embeddings_initializer=keras.initializers.RandomNormal(stddev=0.5), name="e")
    x = layers.Activation("tanh", name="act")(embedding(ids))
    return keras.Model(ids, surgery.TiedDense(embedding, name="out", **options)(x), name="tied"), embedding


IDS = np.array([[1, 2, 1], [3, 0, 6]], "int32")


def test_tied_output():
    model, embedding = tied()
    table = numpy(embedding.embeddings.value)
    logits = np.tanh(table[IDS]) @ table.T
    want = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(numpy(model(IDS)), want, rtol=1e-5)
    assert model.output_shape == (None, 3, 7)
    assert [w.path for w in model.weights] == ["e/embeddings", "out/bias"]
    assert model.count_params() == 7 * 4 + 7
    embedding.embeddings.assign(2 * table)  # no stale copy
    np.testing.assert_allclose(numpy(model(IDS)).argmax(-1), (np.tanh(2 * table[IDS]) @ table.T).argmax(-1))


def test_the_gradient_of_a_tied_matrix_has_both_parts():
    """A step of SGD at rate 1 is minus the gradient; against central differences of NumPy's loss."""
    model, embedding = tied(activation=None)
    target = np.random.default_rng(1).normal(size=(2, 3, 7))
    table = numpy(embedding.embeddings.value).astype("float64")

    def loss(inner, outer):
        return ((np.tanh(inner[IDS]) @ outer.T - target) ** 2).mean()

    def slope(*parts):
        out = np.zeros_like(table)
        for place in np.ndindex(*table.shape):
            step = np.zeros_like(table)
            step[place] = 1e-5
            up, down = ([table + sign * step * part for part in parts] for sign in (1, -1))
            out[place] = (loss(*up) - loss(*down)) / 2e-5
        return out

    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(IDS, target.astype("float32"))
    got = table - numpy(embedding.embeddings.value)
    inner, outer = slope(1, 0), slope(0, 1)
    np.testing.assert_allclose(got, slope(1, 1), atol=1e-5)
    np.testing.assert_allclose(got, inner + outer, atol=1e-5)
    assert min(np.abs(inner).max(), np.abs(outer).max()) > 1e-2


@pytest.mark.parametrize("way", ["save", "clone", "tail"])
def test_the_tie_survives(way, tmp_path):
    model, _ = tied()
    if way == "clone":
        again = surgery.clone(model, copy_weights=True)
    elif way == "save":
        model.save(tmp_path / "m.keras")
        again = keras.models.load_model(tmp_path / "m.keras")
    else:
        head, tail = surgery.split(model, "act")
        tail.save(tmp_path / "t.keras")
        again = keras.models.load_model(tmp_path / "t.keras")
        assert {w.path for w in again.weights} == {"e/embeddings", "out/bias"}
        np.testing.assert_allclose(numpy(again(head(IDS))), numpy(model(IDS)), **EXACT)
        return
    np.testing.assert_allclose(numpy(again(IDS)), numpy(model(IDS)), **EXACT)
    assert len(again.weights) == 2
    assert again.get_layer("out").source is again.get_layer("e")
    assert again.get_layer("e") is not model.get_layer("e")


def test_tied_to_a_dense_kernel_and_what_is_refused():
    first = layers.Dense(4, name="first")
    inputs = keras.Input((6,))
    hidden = first(inputs)
    decoder = surgery.TiedDense(first, use_bias=False, activation=None)(hidden)  # an autoencoder: (6, 4) as (V, d)
    model = keras.Model(inputs, decoder)
    np.testing.assert_allclose(
        numpy(model(X)), (X @ numpy(first.kernel.value)) @ numpy(first.kernel.value).T, rtol=1e-4
    )
    again = surgery.TiedDense(first, "kernel", transpose=True, use_bias=False, activation=None)
    np.testing.assert_allclose(numpy(again(X)), X @ numpy(first.kernel.value), rtol=1e-4, atol=1e-6)
    with pytest.raises(ConfigError, match=r"of size 4 of first\. Received: inputs of size 6"):
        surgery.TiedDense(first)(X)
    with pytest.raises(ConfigError, match="must be called before"):
        surgery.TiedDense(layers.Embedding(3, 4))(X)
    with pytest.raises(ConfigError, match="no matrix called nothing"):
        surgery.TiedDense(first, "nothing")(X)
    with pytest.raises(ConfigError, match="must be a layer"):
        surgery.TiedDense(first.kernel)
    with pytest.raises(ConfigError, match=r"kexue\.models\.surgery\.clone"):
        keras.models.clone_model(tied()[0])


def test_low_rank_branches(tmp_path):
    model = residual()
    model.get_layer("dense_1").activation = keras.activations.linear
    want = numpy(model(X))
    wrapped = surgery.replace(model, "dense_*", lambda old: surgery.LowRank(old, rank=2, alpha=4.0))
    np.testing.assert_allclose(numpy(wrapped(X)), want, **EXACT)  # nothing at first
    train = {w.path.split("/")[-2] for w in wrapped.trainable_weights if "low_rank" in w.path}
    assert train == {f"dense_{n}_low_rank" for n in range(3)}
    frozen = numpy(model.get_layer("dense_1").kernel.value)
    wrapped.compile(keras.optimizers.SGD(0.05), "mse")
    wrapped.fit(X, np.ones((5, 2), "float32"), epochs=5, verbose=0)
    np.testing.assert_array_equal(numpy(model.get_layer("dense_1").kernel.value), frozen)
    got = numpy(wrapped(X))
    assert np.abs(got - want).max() > 1e-2
    wrapped.save(tmp_path / "w.keras")
    np.testing.assert_allclose(numpy(keras.models.load_model(tmp_path / "w.keras")(X)), got, **EXACT)
    branch = wrapped.get_layer("dense_1_low_rank")
    merged = surgery.replace(wrapped, branch, branch.merge())
    np.testing.assert_allclose(numpy(merged(X)), got, rtol=1e-5, atol=1e-5)
    assert np.linalg.matrix_rank(numpy(branch.layer.kernel.value) - frozen, tol=1e-5) == 2
    with pytest.raises(ConfigError, match="without activation"):
        wrapped.get_layer("dense_0_low_rank").merge()
    with pytest.raises(ConfigError, match="rank=0"):
        surgery.LowRank(layers.Dense(2), rank=0)
    with pytest.raises(ConfigError, match="not called yet"):
        surgery.LowRank(layers.Dense(2))
