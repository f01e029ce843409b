"""What every family and every part must do in a model, each property once for all of them, on each backend.

The table is `SUITE` in tiny.py. One shape of batch serves nearly all of it, because JAX compiles each one.
"""

import functools
import json

import keras
import numpy as np
import pytest
from keras import ops
from tests.models.tiny import (
    BACKEND,
    LENGTH,
    MASKS,
    ROWS,
    RULES,
    SUITE,
    batch,
    build,
    config,
    numpy,
    run,
    shared,
)

from kexue.errors import ConfigError
from kexue.models import Transformer, TransformerConfig, families
from kexue.models.weights import named_weights
from kexue.nn import masks
from kexue.nn.attention import feature_maps, gau, scales
from kexue.nn.attention import registry as attention_kinds
from kexue.nn.positions import registry as position_kinds

each = pytest.mark.parametrize("name", SUITE)
TIGHT = {"rtol": 1e-4, "atol": 5e-5}
SIDES = ("", "decoder_")

# Features that are 0 for half of all vectors: a key that the mask shows may still add nothing to a query.
SPARSE = ("linear_relu", "gau_squared_relu")
# Sums of such features may be next to nothing, and their ratio loses what little precision there is.
COARSE = {"linear_relu": 2.0}
# Two documents of a row share the only condition that it has; a condition for each token goes with its document.
ROW_CONDITIONS = tuple(n for n, c in SUITE.items() if c.get("condition_size") and not c.get("condition_per_token"))
# Parts that do not go together: the model says so as it is built.
REFUSED = {
    "linear, window": ("linear_exp", {"mask": MASKS["window"]}, "linear attention can do"),
    "linear, not": ("linear_exp", {"mask": RULES["strictly_before"]}, "linear attention can do"),
    "linear, scores": ("linear_exp", {"position": "alibi"}, "never forms scores"),
    "gau, values": ("gau_alpha", {"position": "shaw"}, "cannot add to values"),
    "gau, heads": ("gau_alpha", {"num_heads": 3}, "has one head"),
    "convolution, order": ("conv", {"mask": "permuted"}, "would show tokens that the mask"),
    "decoder, residual": ("t5", {"attention_options": {"residual_scores": True}}, "decoder_layers needs"),
    "decoder, linear": ("decoder_rotary", {"attention": "linear"}, "decoder_layers needs"),
    "two streams, table": ("two_stream", {"position": "learned", "position_options": {}}, "two_stream=True needs"),
    "two streams, linear": ("two_stream_rotary", {"attention": "linear"}, "two_stream=True needs"),
}


def side_of(model, output):
    """Whose tokens an output has."""
    decoder = model.config.decoder_layers and output != "encoder_output"
    return "decoder_" if decoder else ""


def states(model, outputs):
    """Outputs with a vector for each token of a side, and that side."""
    return {n: (v, side_of(model, n)) for n, v in outputs.items()}


def cut(data, length, decoder_length):
    """The first tokens of each row."""

    def part(name, value):
        if name == "condition" and value.ndim == 2:
            return value
        return value[:, : decoder_length if name.startswith("decoder_") else length]

    return {name: part(name, value) for name, value in data.items()}


def put_order(data, counts):
    """Orders of generation in which the real tokens come before the padding."""
    if "order" in data:
        rng = np.random.default_rng(1)
        rows = [np.r_[rng.permutation(n), n:LENGTH] for n in counts]
        data["order"] = np.array(rows, "int32")


def eagerly(model, data):
    """The model operation by operation, on JAX too."""
    model.compile_calls = False
    try:
        return model(data)
    finally:
        model.compile_calls = True


@functools.cache
def expected(name):
    """A batch, and what the shared model makes of it operation by operation."""
    model = shared(name, "lm")
    data = batch(model)
    return data, numpy(eagerly(model, data))


def other_token(ids):
    return (ids - 3 + 11) % 28 + 3


# ---------------------------------------------------------------- 1. padding


@each
def test_padding_does_not_matter(name):
    """Neither what stands there, at the end, at the start or in between, nor how much of it there is."""
    model = shared(name, "lm")
    data = batch(model)
    for side in SIDES[: 1 + bool(model.config.decoder_layers)]:
        keep = data[f"{side}padding_mask"]
        keep[:, -2:] = False
        keep[1, 3:] = keep[2, :2] = keep[3, 1] = False
    put_order(data, [LENGTH - 2] * ROWS)
    first = run(model, data)
    other = dict(data)
    for side in SIDES[: 1 + bool(model.config.decoder_layers)]:
        ids, keep = data[f"{side}token_ids"], data[f"{side}padding_mask"]
        other[f"{side}token_ids"] = np.where(keep, ids, other_token(ids)).astype("int32")
    if model.config.condition_per_token:
        other["condition"] = np.where(keep[..., None], data["condition"], 9.0).astype("float32")
    if "segment_ids" in data and model.config.num_segments > 1:
        at_end = ~np.logical_or.accumulate(data["padding_mask"][:, ::-1], axis=1)[:, ::-1]
        other["segment_ids"] = np.where(at_end, 1 - data["segment_ids"], data["segment_ids"]).astype("int32")
    second = run(model, other)
    short = run(model, cut(data, LENGTH - 2, LENGTH - 4))
    for output, (value, side) in states(model, first).items():
        keep = data[f"{side}padding_mask"]
        np.testing.assert_array_equal(second[output][keep], value[keep], err_msg=output)
        length = keep.shape[1] - 2
        keep = keep[:, :length]
        np.testing.assert_allclose(short[output][keep], value[:, :length][keep], err_msg=output, **TIGHT)


# ---------------------------------------------------------------- 2. masks


def visible(model, data):
    facts = {n: data[n][:1] for n in ("segment_ids", "order", "padding_mask", "document_ids") if n in data}
    return np.broadcast_to(numpy(model.mask.dense(LENGTH, **facts))[0, 0], (LENGTH, LENGTH))


def paths(config, seen, layers):
    """Which token can influence which through so many blocks; the residual stream carries a token's own."""
    own, place = np.eye(len(seen), dtype=bool), np.arange(len(seen))
    out = own
    for block in range(layers):
        step = seen
        if not config.is_global(block):
            step = seen & (abs(place[:, None] - place) <= config.local_window)
        out = ((step | own).astype(int) @ out.astype(int)) > 0
    return out


def allowed_influence(model, data):
    """``(changed side, output)`` to a boolean (tokens of the output, tokens of the side)."""
    c, seen = model.config, visible(model, data)
    encoder = paths(c, seen, c.num_layers)
    if c.decoder_layers:
        n = data["decoder_token_ids"].shape[1]
        source = np.broadcast_to(data["padding_mask"][0], (n, LENGTH))
        source = (source.astype(int) @ encoder.astype(int)) > 0
        return {
            ("", "encoder_output"): encoder,
            ("", "sequence_output"): source,
            ("decoder_", "encoder_output"): np.zeros((LENGTH, n), bool),
            ("decoder_", "sequence_output"): np.tri(n, dtype=bool),
        }
    found = {("", "sequence_output"): encoder}
    if c.two_stream:  # a target never sees its own token, save through others that the mask shows it
        strict = seen & ~np.eye(LENGTH, dtype=bool)
        found["", "target_output"] = (strict.astype(int) @ paths(c, seen, c.num_layers - 1).astype(int)) > 0
    return found


@each
def test_influence_follows_the_mask_exactly(name):
    """Another token k changes output q where the mask lets k reach q, and elsewhere not by one bit."""
    model = shared(name, "lm")
    data = {n: np.repeat(v[:1], ROWS, axis=0) for n, v in batch(model).items()}
    data["padding_mask"][:, -1] = False
    if "segment_ids" in data and "block" in model.mask.needs:
        data["segment_ids"][:] = [0, 0, 0, 1, 1, 1, 1]
    before = run(model, data)
    after = {}
    for side in SIDES[: 1 + bool(model.config.decoder_layers)]:
        changed = dict(data)
        changed[f"{side}token_ids"] = ids = data[f"{side}token_ids"].copy()
        places = np.arange(ids.shape[1])  # row k has another token k
        ids[places, places] = other_token(ids[places, places])
        after[side] = run(model, changed)
    for (side, output), allowed in allowed_influence(model, data).items():
        # Rows at the same place of a batch: rounding may depend on it.
        moved = np.abs(after[side][output] - before[output])[: allowed.shape[1]].max(-1).T
        assert (moved[~allowed] == 0).all(), output
        if name in SPARSE:
            others = allowed & ~np.eye(len(allowed), dtype=bool)
            assert (moved[others] > 0).mean() > 0.5
            assert (moved.diagonal() > 0).all()
        else:
            assert (moved[allowed] > 0).all(), output


# ---------------------------------------------------------------- 3. packing

DOCUMENTS = {"": (3, 1, 2), "decoder_": (1, 2, 1)}


@each
def test_packed_equals_padded(name):
    """Documents of one row equal rows of their own, and know nothing of each other."""
    model = shared(name, "lm")
    sides = SIDES[: 1 + bool(model.config.decoder_layers)]
    data = batch(model)
    data.pop("document_ids", None)
    counts = {side: [*DOCUMENTS[side], *[1] * (ROWS - 3)] for side in sides}
    for side in sides:
        width = data[f"{side}token_ids"].shape[1]
        data[f"{side}padding_mask"] = np.arange(width) < np.array(counts[side])[:, None]
    put_order(data, counts[""])
    packed = {}
    if name in ROW_CONDITIONS:
        data["condition"][:] = data["condition"][:1]
        packed["condition"] = data["condition"]
    for n in set(data) - set(packed):
        side = "decoder_" if n.startswith("decoder_") else ""
        row = np.concatenate([data[n][i, :k] for i, k in enumerate(DOCUMENTS[side])])
        rest = data[n].shape[1] - len(row)
        row = np.pad(row, ((0, rest), *[(0, 0)] * (row.ndim - 1)))
        packed[n] = np.repeat(row[None], ROWS, axis=0)
    for side in sides:
        ids = np.repeat([1, 2, 3], DOCUMENTS[side])
        rest = data[f"{side}token_ids"].shape[1] - len(ids)
        packed[f"{side}document_ids"] = np.repeat(np.pad(ids, (0, rest))[None], ROWS, axis=0).astype("int32")
    alone = data
    if "document" in model.mask.needs:
        alone = data | {"document_ids": np.ones((ROWS, LENGTH), "int32")}
    want, got = run(model, alone), run(model, packed)
    for output, (value, side) in states(model, got).items():
        starts = np.cumsum([0, *DOCUMENTS[side]])
        for row, n in enumerate(DOCUMENTS[side]):
            mine = slice(starts[row], starts[row] + n)
            np.testing.assert_allclose(value[0, mine], want[output][row, :n], err_msg=output, **TIGHT)
    for side in sides:  # rows 0, 1, 2 get other tokens in document 1, 2, 3
        changed = dict(packed)
        changed[f"{side}token_ids"] = ids = packed[f"{side}token_ids"].copy()
        for row in range(3):
            mine = packed[f"{side}document_ids"][row] == row + 1
            ids[row, mine] = other_token(ids[row, mine])
        for output, value in run(model, changed).items():
            documents = packed[f"{side_of(model, output)}document_ids"]
            for row in range(3):
                rest = (documents[row] != row + 1) & (documents[row] > 0)
                np.testing.assert_array_equal(value[row, rest], got[output][row, rest], err_msg=output)


# ---------------------------------------------------------------- 4, 5. files and configurations


def same_model(again, name):
    """Weights bit by bit, parts, outputs."""
    model, (data, want) = shared(name, "lm"), expected(name)
    assert isinstance(again, Transformer)
    assert (again.mask, again.heads) == (model.mask, model.heads)
    ours, theirs = named_weights(again), named_weights(model)
    assert list(ours) == list(theirs)
    for weight, variable in ours.items():
        np.testing.assert_array_equal(numpy(variable.value), numpy(theirs[weight].value), err_msg=weight)
    got = numpy(eagerly(again, data))
    assert list(got) == list(want)
    for output, value in got.items():
        np.testing.assert_allclose(value, want[output], rtol=1e-6, atol=1e-6, err_msg=output)


@each
def test_keras_files(name, tmp_path):
    model = shared(name, "lm")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.config == model.config
    same_model(again, name)


@each
def test_kexue_folders(name, tmp_path):
    model = shared(name, "lm")
    model.save_pretrained(tmp_path / "a")
    again = Transformer.from_pretrained(tmp_path / "a", head="lm")
    assert again.config == model.config
    same_model(again, name)
    again.save_pretrained(tmp_path / "b")
    assert (tmp_path / "a" / "config.json").read_bytes() == (tmp_path / "b" / "config.json").read_bytes()


@each
def test_configurations(name):
    """As JSON, and back to an equal one and an equal model."""
    model = shared(name, "lm")
    assert TransformerConfig.from_dict(json.loads(json.dumps(model.config.to_dict()))) == model.config
    data = model.get_config()
    again = Transformer.from_config(json.loads(json.dumps(data)))
    assert again.get_config() == data
    assert again.config == model.config
    again.set_weights(model.get_weights())
    same_model(again, name)


# ---------------------------------------------------------------- 6. precision

# Largest difference to float32, as a share of the largest value.
PRECISIONS = {"float16": 0.03, "mixed_float16": 0.03, "bfloat16": 0.25, "mixed_bfloat16": 0.25}


@each
@pytest.mark.parametrize("policy", PRECISIONS)
def test_low_precision(name, policy):
    """Rows of padding alone give numbers, on either side, and real tokens nearly those of float32."""
    model = shared(name, "lm")
    low = Transformer(model.config, head="lm", dtype=policy)
    low.set_weights(model.get_weights())
    data = batch(model)
    data["padding_mask"][1] = False
    if model.config.decoder_layers:
        data["decoder_padding_mask"][1:3] = False
        data["padding_mask"][3] = False
    want, out = run(model, data), eagerly(low, data)
    for output, tensor in out.items():
        kind = "float32" if output == "logits" else keras.DTypePolicy(policy).compute_dtype
        assert keras.backend.standardize_dtype(tensor.dtype) == kind, output
        got = numpy(ops.cast(tensor, "float32"))
        assert np.isfinite(got).all(), output
        assert np.isfinite(want[output]).all(), output
        keep = data[f"{side_of(model, output)}padding_mask"]
        worst = np.abs(got - want[output])[keep].max() / np.abs(want[output]).max()
        assert worst < PRECISIONS[policy] * COARSE.get(name, 1.0), output


# ---------------------------------------------------------------- 7. compilation


def compiled(model):
    """``batch -> outputs``, as the backend compiles a model; PyTorch, whose models run as they are, has the function
    of weights and inputs that Keras compiles elsewhere."""
    if BACKEND == "jax":
        return model  # called directly, it is compiled
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(model, reduce_retracing=True)
    trainable, rest = ([v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables))
    return lambda data: model.stateless_call(trainable, rest, data, training=False)[0]


@each
def test_compiled_equals_eager(name):
    model = shared(name, "lm")
    data, want = expected(name)
    short = cut(data, LENGTH - 2, LENGTH - 4)
    if "order" in short:
        short["order"] = np.argsort(np.argsort(short["order"], axis=1), axis=1).astype("int32")
    function = compiled(model)
    for inputs, outputs in ((data, want), (short, numpy(eagerly(model, short)))):
        tensors = {n: ops.convert_to_tensor(v) for n, v in inputs.items()}
        for output, value in numpy(function(tensors)).items():
            np.testing.assert_allclose(value, outputs[output], err_msg=output, **TIGHT)


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize("case", REFUSED)
def test_parts_that_do_not_go_together_are_refused(case):
    name, changes, words = REFUSED[case]
    changes = ({"attention_options": {}} if "attention" in changes else {}) | changes
    with pytest.raises(ConfigError, match=words):
        build(name, **changes)


def leaves(mask):
    """Names of all rules in a configuration of a mask."""
    if isinstance(mask, str):
        return {mask}
    inner = [v for v in mask.get("config", {}).values() if isinstance(v, dict) or v in masks._NAMED]
    return {mask["name"]}.union(*map(leaves, inner))


def test_the_suite_has_everything():
    """A new family, encoding, kind of attention, feature map, scale or mask fails here until the table has it."""
    all_of = [config(name) for name in SUITE]

    def options(kind, name):
        return {c.attention_options.get(name) for c in all_of if c.attention == kind}

    assert {c.family for c in all_of} == set(families.FAMILIES)
    assert {c.position for c in all_of} == {"none", *position_kinds.KINDS}
    assert {c.attention for c in all_of} == set(attention_kinds.KINDS)
    assert set().union(*(leaves(c.mask) for c in all_of)) == set(masks._NAMED)
    named = {str(c.attention_options.get("scale")) for c in all_of}
    assert named >= {*scales._NAMED, "1.0"}
    assert options("softmax", "talking") == {None, "pre", "pre_post"}
    assert options("softmax", "residual_scores") == {None, True}
    assert options("linear", "feature") == {None, "performer", *feature_maps.NAMES} - {"exp"}
    assert options("gau", "normalizer") >= set(gau.NORMALIZERS)
    assert {c.norm for c in all_of if c.condition_size} == {"layer", "rms"}
    assert {c.two_stream for c in all_of} == {False, True}
