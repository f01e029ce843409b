"""Checkpoints to models: errors that name file and tensor, slimming, renaming, changes on the way."""

import json
import re

import numpy as np
import pytest
from tests.models.tiny import batch, build, config, hidden, numpy, run, shared

from kexue.checkpoints import open_checkpoint, read_all, write_safetensors, write_tf_bundle
from kexue.errors import CheckpointError, ConfigError, KexueError
from kexue.models import Transformer, families
from kexue.models.weights import named_weights

LAYER = "bert.encoder.layer.1.attention.self.key.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small BERT in the hf layout with its LM head; do not change it."""
    path = tmp_path_factory.mktemp("hf") / "model"
    shared("bert", "lm").save_pretrained(path, format="hf")
    return path


def edited(folder, tmp_path, *, drop=(), change=None, settings=None):
    """A copy of the folder with some tensors or settings changed."""
    with open_checkpoint(folder) as checkpoint:
        tensors = read_all(checkpoint)
    for name in drop:
        del tensors[name]
    tensors.update(change or {})
    data = json.loads((folder / "config.json").read_text()) | (settings or {})
    target = tmp_path / "edited"
    target.mkdir()
    write_safetensors(target / "model.safetensors", tensors)
    (target / "config.json").write_text(json.dumps(data))
    return target


def test_loads(folder):
    model = shared("bert", "lm")
    again = Transformer.from_pretrained(folder, head="lm")
    data = batch(model)
    np.testing.assert_allclose(run(again, data)["logits"], run(model, data)["logits"], atol=1e-5)
    file = Transformer.from_pretrained(folder / "model.safetensors")
    np.testing.assert_allclose(hidden(file, data), hidden(model, data), atol=1e-5)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"drop": [LAYER]}, rf"model\.safetensors lacks {re.escape(LAYER)}"),
        ({"change": {LAYER: np.zeros((12, 13), "f4")}}, rf"{re.escape(LAYER)} has shape \(12, 13\)"),
        ({"change": {LAYER: np.zeros((6, 24), "f4")}}, rf"{re.escape(LAYER)} has shape \(6, 24\)"),
        ({"change": {LAYER: np.zeros((12,), "f4")}}, rf"{re.escape(LAYER)} has shape \(12,\)"),
        ({"change": {"bert.embeddings.LayerNorm.bias": np.zeros((), "f4")}}, r"LayerNorm\.bias has shape \(\)"),
        ({"change": {"bert.mystery.weight": np.zeros(3, "f4")}}, "unknown tensors bert.mystery.weight"),
        ({"drop": ["cls.predictions.transform.dense.bias"]}, "lacks cls.predictions.transform.dense.bias"),
        ({"settings": {"vocab_size": 30}}, r"word_embeddings\.weight has shape \(31, 12\).*\(30, 12\)"),
        ({"settings": {"hidden_size": 24}}, r"word_embeddings\.weight has shape \(31, 12\).*\(31, 24\)"),
        ({"settings": {"num_hidden_layers": 3}}, r"lacks bert\.encoder\.layer\.2\."),
        ({"settings": {"num_hidden_layers": 1}}, r"unknown tensors bert\.encoder\.layer\.1\."),
        ({"settings": {"max_position_embeddings": 512}}, r"position_embeddings\.weight has shape \(24, 12\)"),
        ({"settings": {"intermediate_size": 21}}, r"intermediate\.dense\.weight has shape \(20, 12\)"),
    ],
)
def test_errors_name_file_and_tensor(folder, tmp_path, edit, words):
    target = edited(folder, tmp_path, **edit)
    with pytest.raises(CheckpointError, match=words) as caught:
        Transformer.from_pretrained(target, head="lm")
    assert str(target) in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_type": "bart"}, "'bart'"),
        ({"hidden_size": None}, r"config\.json.*hidden_size"),
        ({"num_attention_heads": 5}, "num_heads=5"),
        ({"hidden_act": "gelo"}, "gelo"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"add_cross_attention": True}, "cross-attention"),
        ({"hidden_dropout_prob": "much"}, r"config\.json.*'much'"),
    ],
)
def test_configurations_that_cannot_work(folder, tmp_path, settings, words):
    with pytest.raises(ConfigError, match=words):
        Transformer.from_pretrained(edited(folder, tmp_path, settings=settings))


@pytest.mark.parametrize("text", ["", "{", "[1]", '"bert"', "\\xff", "{" * 100_000, '{"model_type": "bert"}'])
def test_broken_configuration_files(folder, tmp_path, text):
    target = edited(folder, tmp_path)
    (target / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"config\.json"):
        Transformer.from_pretrained(target)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"format": "kexue"}', "transformer"),
        ('{"format": "kexue", "version": 2, "transformer": {}}', "version 1"),
        ('{"format": "kexue", "transformer": {}}', "lacks vocabulary_size"),
        ('{"format": "kexue", "transformer": {"vocabulary_sise": 3}}', "vocabulary_size"),
    ],
)
def test_broken_configurations_of_ours(tmp_path, text, words):
    build("bert").save_pretrained(tmp_path / "x")
    (tmp_path / "x" / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"config\.json.*{words}"):
        Transformer.from_pretrained(tmp_path / "x")


def test_nothing_there(tmp_path, folder):
    with pytest.raises(CheckpointError, match="does not exist"):
        Transformer.from_pretrained(tmp_path / "no" / "such")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no configuration"):
        Transformer.from_pretrained(tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(CheckpointError, match="no checkpoint found"):
        Transformer.from_pretrained(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="does not exist"):
        Transformer.from_pretrained(folder, config=tmp_path / "none.json")


@pytest.mark.parametrize("format", ["kexue", "hf", "tf"])
def test_damaged_weights(tmp_path, format):
    """A flipped byte in any tensor: refused, whatever the format."""
    build("bert").save_pretrained(tmp_path / "x", format=format)
    file = next((tmp_path / "x").glob("*.data-*" if format == "tf" else "*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-len(content) // 4] ^= 0x40
    file.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        Transformer.from_pretrained(tmp_path / "x")
    file.write_bytes(bytes(content[: len(content) // 2]))
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        Transformer.from_pretrained(tmp_path / "x")


def test_missing_head(tmp_path):
    for format in ("kexue", "hf", "tf"):
        shared("bert").save_pretrained(tmp_path / format, format=format)
        with pytest.raises(CheckpointError, match=r"lacks (lm_head|cls)"):
            Transformer.from_pretrained(tmp_path / format, head="lm")
        with pytest.raises(CheckpointError, match=r"lacks .*pooler"):
            Transformer.from_pretrained(tmp_path / format, head="pooler")


def test_not_strict(folder, tmp_path):
    target = edited(folder, tmp_path, drop=[LAYER], change={"extra.weight": np.zeros(2, "f4")})
    with pytest.warns(UserWarning, match=rf"lacks {re.escape(LAYER)} and has unknown tensors extra\.weight"):
        model = Transformer.from_pretrained(target, strict=False)
    data = batch(model)
    full = named_weights(shared("bert"))
    for name, variable in named_weights(model).items():
        same = np.array_equal(numpy(variable.value), numpy(full[name].value))
        assert same == (name != "block_1_attention/qkv_kernel"), name
    assert np.isfinite(hidden(model, data)).all()


def test_keep_tokens(folder):
    """Logits of the slimmed model are those of the full one at the kept ids (spec 4)."""
    full, keep = shared("bert", "lm"), [3, 0, 30, 7, 7, 12]
    slim = Transformer.from_pretrained(folder, head="lm", keep_tokens=keep)
    assert slim.config.vocabulary_size == 6
    data = batch(full)
    new = np.random.default_rng(0).integers(0, 6, data["token_ids"].shape)
    small = {**data, "token_ids": new.astype("int32")}
    large = {**data, "token_ids": np.array(keep, "int32")[new]}
    np.testing.assert_allclose(run(slim, small)["logits"], run(full, large)["logits"][..., keep], atol=1e-4)


@pytest.mark.parametrize("format", ["kexue", "hf", "tf"])
@pytest.mark.parametrize("name", ["bert", "untied", "roformer_v2"])
def test_compound_tokens(tmp_path, name, format):
    if name == "roformer_v2" and format == "hf":
        pytest.skip("transformers has no RoFormerV2")
    model = build(name, "lm", **({"embedding_norm": True} if name == "untied" else {}))
    model.save_pretrained(tmp_path, format=format)
    keep, compound = [1, 4, 2], [([5, 6], [1, 3]), ([9], [0.5])]
    slim = Transformer.from_pretrained(tmp_path, head="lm", keep_tokens=keep, compound_tokens=compound,
                                       **({"tie_embeddings": False} if name == "untied" else {}))  # fmt: skip
    assert slim.config.vocabulary_size == 5
    ours, theirs = named_weights(slim), named_weights(model)
    for weight in ("token_embedding/table", "lm_head/bias", "lm_head/output_table"):
        if weight in theirs:
            table = numpy(theirs[weight].value)
            want = [*table[keep], 0.25 * table[5] + 0.75 * table[6], table[9]]
            np.testing.assert_allclose(numpy(ours[weight].value), want, atol=1e-6, err_msg=weight)
    alone = Transformer.from_pretrained(tmp_path, compound_tokens=[([0, 1], [1, 1])],
                                        **({"tie_embeddings": False} if name == "untied" else {}))  # fmt: skip
    assert alone.config.vocabulary_size == 32
    old, new = (numpy(w["token_embedding/table"].value) for w in (theirs, named_weights(alone)))
    np.testing.assert_array_equal(new, np.concatenate([old, (old[:1] + old[1:2]) / 2]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"keep_tokens": [0, 31]}, "keep_tokens must lie between 0 and 30.*31"),
        ({"keep_tokens": [-1, 2]}, "keep_tokens must lie"),
        ({"keep_tokens": []}, "non-empty"),
        ({"keep_tokens": [0.5]}, "float64"),
        ({"compound_tokens": [([40], [1])]}, "compound_tokens must lie"),
        ({"compound_tokens": [([1, 2], [1])]}, "one weight an id"),
        ({"compound_tokens": [([1, 2], [1, -1])]}, "sum that is not 0"),
        ({"hiden_size": 3}, "hidden_size"),
        ({"family": "albert"}, "albert"),
        ({"head": "crf"}, "'crf'"),
    ],
)
def test_wrong_arguments(folder, arguments, words):
    with pytest.raises(KexueError, match=words):
        Transformer.from_pretrained(folder, **arguments)


def test_changes_on_the_way(folder):
    """Hierarchical positions on a loaded BERT, another mask, no dropout, a condition."""
    full = shared("bert")
    model = Transformer.from_pretrained(folder, position="hierarchical", mask="causal", dropout=0.0, condition_size=4)
    assert model.max_tokens == 24**2
    assert model.config.dropout == 0
    long = {"token_ids": np.random.default_rng(0).integers(3, 31, (1, 60)).astype("int32")}
    out = hidden(model, long)
    assert np.isfinite(out).all()
    causal = hidden(shared("causal"), {"token_ids": long["token_ids"][:, :24]})
    np.testing.assert_allclose(out[:, :24], causal, atol=1e-4)
    assert {n for n in named_weights(model) if n.endswith("gain_kernel")}
    assert full.config.position == "learned"


@pytest.mark.parametrize("format", ["kexue", "hf", "tf"])
def test_a_condition_is_added_to_any_format(tmp_path, format):
    """Its weights are in no checkpoint and start at zero: the model is reproduced exactly."""
    model = shared("bert")
    model.save_pretrained(tmp_path, format=format)
    again = Transformer.from_pretrained(tmp_path, condition_size=4)
    data = batch(model)
    conditions = np.random.default_rng(0).normal(size=(len(data["token_ids"]), 4)).astype("float32")
    np.testing.assert_allclose(hidden(again, {**data, "condition": conditions}), hidden(model, data), atol=1e-6)


def test_dtype(folder):
    model = Transformer.from_pretrained(folder, dtype="mixed_bfloat16")
    assert "bfloat16" in str(model(batch(model))["sequence_output"].dtype)
    np.testing.assert_array_equal(model.get_weights()[0], shared("bert").get_weights()[0])


def test_rename(folder, tmp_path):
    with open_checkpoint(folder) as checkpoint:
        tensors = {f"model.{n}".replace("encoder.layer", "blocks"): v for n, v in read_all(checkpoint).items()}
    write_safetensors(tmp_path / "model.safetensors", tensors)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(CheckpointError, match="rename="):
        Transformer.from_pretrained(tmp_path)
    model = Transformer.from_pretrained(tmp_path, rename={r"^model\.": "", r"\.blocks\.": ".encoder.layer."})
    np.testing.assert_allclose(hidden(model, batch(model)), hidden(shared("bert"), batch(model)), atol=1e-5)


def test_configuration_from_elsewhere(folder, tmp_path):
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    data = json.loads((folder / "config.json").read_text())
    for given in (folder / "config.json", data, config("bert")):
        model = Transformer.from_pretrained(tmp_path, config=given)
        np.testing.assert_allclose(hidden(model, batch(model)), hidden(shared("bert"), batch(model)), atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "roberta", "roformer", "roformer_v2"])
def test_families_of_google_folders_are_told_by_tensors(tmp_path, name):
    """``bert_config.json`` does not name its family."""
    build(name, "lm").save_pretrained(tmp_path, format="tf")
    path = tmp_path / "bert_config.json"
    data = json.loads(path.read_text())
    del data["model_type"]
    if name == "roformer_v2":
        del data["layer_norm_eps"]  # absent in the author's files
    path.write_text(json.dumps(data))
    with open_checkpoint(tmp_path) as checkpoint:
        assert families.detect(data, checkpoint.names()).name == name
    model = Transformer.from_pretrained(tmp_path, head="lm")
    reference = shared(name, "lm")
    data = batch(reference)
    np.testing.assert_allclose(run(model, data)["logits"], run(reference, data)["logits"], atol=1e-5)


def test_optimizer_slots_are_left(tmp_path):
    """Google's own training checkpoints carry Adam's moments and a step counter."""
    build("bert", ("lm", "pooler", "nsp")).save_pretrained(tmp_path, format="tf")
    with open_checkpoint(tmp_path) as checkpoint:
        tensors = read_all(checkpoint)
    slots = {f"{n}/adam_{s}": np.zeros_like(v) for n, v in tensors.items() for s in "mv"}
    write_tf_bundle(tmp_path / "bert_model.ckpt", tensors | slots | {"global_step": np.array(3, "int64")})
    Transformer.from_pretrained(tmp_path, head=("lm", "nsp"))


def test_a_tensor_of_text_is_no_weight(tmp_path):
    tf = pytest.importorskip("tensorflow")
    build("bert").save_pretrained(tmp_path, format="tf")
    with open_checkpoint(tmp_path) as checkpoint:
        tensors = read_all(checkpoint)
    name = "bert/embeddings/LayerNorm/beta"
    values = {n: tf.constant(v) for n, v in tensors.items()} | {name: tf.constant(["a"] * 12)}
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "bert_model.ckpt"), tensor_names=list(values), shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )  # fmt: skip
    with pytest.raises(CheckpointError, match=rf"{name} must hold numbers"):
        Transformer.from_pretrained(tmp_path)


def test_google_checkpoint_written_by_tensorflow(tmp_path):
    """Written with real TensorFlow, loaded without it, bit-equal."""
    tf = pytest.importorskip("tensorflow")
    c = config("bert", num_layers=1)
    rng = np.random.default_rng(0)
    model = build("bert", ("lm", "pooler", "nsp"), num_layers=1)
    model.save_pretrained(tmp_path / "names", format="tf")  # only for the names and shapes
    with open_checkpoint(tmp_path / "names") as checkpoint:
        shapes = {n: checkpoint.shape(n) for n in checkpoint.names()}
    assert "bert/encoder/layer_0/attention/self/query/kernel" in shapes
    values = {n: rng.normal(size=s).astype("float32") for n, s in shapes.items()}
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session() as session:
        for name, value in values.items():
            tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "google" / "bert_model.ckpt"))
    official = {
        "vocab_size": 31, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "type_vocab_size": 2,
        "intermediate_size": 20, "max_position_embeddings": 24, "hidden_act": "gelu",
    }  # fmt: skip
    (tmp_path / "google" / "bert_config.json").write_text(json.dumps(official))
    loaded = Transformer.from_pretrained(tmp_path / "google", head=("lm", "pooler", "nsp"))
    assert loaded.config.replace(initializer=c.initializer) == c
    ours = {name: numpy(v.value) for name, v in named_weights(loaded).items()}
    side = [values[f"bert/encoder/layer_0/attention/self/{n}/kernel"] for n in ("query", "key", "value")]
    np.testing.assert_array_equal(ours["block_0_attention/qkv_kernel"], np.concatenate(side, axis=1))
    np.testing.assert_array_equal(ours["token_embedding/table"], values["bert/embeddings/word_embeddings"])
    up = values["bert/encoder/layer_0/intermediate/dense/kernel"]
    np.testing.assert_array_equal(ours["block_0_feedforward/up_kernel"], up)
    np.testing.assert_array_equal(ours["nsp_head/kernel"], values["cls/seq_relationship/output_weights"].T)
    np.testing.assert_array_equal(ours["lm_head/norm/gain"], values["cls/predictions/transform/LayerNorm/gamma"])
    assert sum(v.size for v in ours.values()) == sum(v.size for v in values.values())
    # Back to Google's layout, read by TensorFlow: the same names and bits.
    loaded.save_pretrained(tmp_path / "back", format="tf")
    reader = tf.train.load_checkpoint(str(tmp_path / "back" / "bert_model.ckpt"))
    assert set(reader.get_variable_to_shape_map()) == set(values)
    for name, value in values.items():
        np.testing.assert_array_equal(reader.get_tensor(name), value)
