"""Models to checkpoints and back, in every format."""

import json

import numpy as np
import pytest
from tests.models.tiny import ENCODER_DECODERS, FAMILIES, HEADS, batch, build, config, numpy, run, shared

from kexue.errors import ConfigError
from kexue.models import Transformer, families
from kexue.models.weights import named_weights
from kexue.nn.masks import Causal, Window


def same(a, b, exact=True):
    ours, theirs = named_weights(a), named_weights(b)
    assert list(ours) == list(theirs)
    for name in ours:
        np.testing.assert_array_equal(numpy(ours[name].value), numpy(theirs[name].value), err_msg=name)


def test_kexue_format_keeps_the_mask_of_the_model(tmp_path):
    model = build("bert", mask=Causal() & Window(3, 0))
    assert Transformer.from_config(model.get_config()).mask == model.mask
    model.save_pretrained(tmp_path)
    assert Transformer.from_pretrained(tmp_path).mask == Causal() & Window(3, 0)
    assert Transformer.from_pretrained(tmp_path, mask="prefix").mask != Causal()


@pytest.mark.parametrize("format", ["hf", "tf"])
@pytest.mark.parametrize("name", [*FAMILIES, *ENCODER_DECODERS])
@pytest.mark.parametrize("heads", [None, "lm", ("lm", "pooler", "nsp")])
def test_official_formats(name, format, heads, tmp_path):
    family = families.get(name)
    groups = {row.group for row in family.rows}
    if isinstance(heads, tuple):
        heads = HEADS.get(name, heads)
    if heads and not groups.issuperset([heads] if isinstance(heads, str) else heads):
        heads = "lm"
    model = shared(name, heads)
    if not (family.architectures if format == "hf" else family.has_layout("tf")):
        with pytest.raises(ConfigError, match=rf"family {name}.*'kexue'"):
            model.save_pretrained(tmp_path, format=format)
        return
    model.save_pretrained(tmp_path, format=format)
    again = Transformer.from_pretrained(
        tmp_path, head=heads, family=name if name == "electra_generator" and format == "tf" else None
    )
    c = again.config.replace(family=name)
    assert c.replace(initializer=model.config.initializer, lm_activation=model.config.lm_activation) == model.config
    same(again, model)


@pytest.mark.parametrize("sizes", [{"key_size": 6}, {"value_size": 2}, {"key_size": 2, "value_size": 6}])
def test_unusual_sizes_survive_google_layout(sizes, tmp_path):
    model = build("roformer", **sizes)
    model.save_pretrained(tmp_path, format="tf")
    again = Transformer.from_pretrained(tmp_path)
    assert (again.config.key_dim, again.config.value_dim) == (model.config.key_dim, model.config.value_dim)
    same(again, model)
    with pytest.raises(ConfigError, match="key_size"):
        model.save_pretrained(tmp_path / "hf", format="hf")


BEYOND = (
    "norm_first",
    "gated_silu",
    "hierarchical",
    "condition",
    "shaw_learned",
    "groups",
    "rotary_half",
    "no_positions",
    "factorised",
)


@pytest.mark.parametrize("format", ["hf", "tf"])
@pytest.mark.parametrize("name", [*BEYOND, "prefix", "window", "reverse", "permuted"])
def test_what_an_official_format_cannot_say_is_refused(name, format, tmp_path):
    with pytest.raises(ConfigError, match=r"format=.?'kexue'"):
        shared(name, "lm").save_pretrained(tmp_path / "x", format=format)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "rms"},
        {"norm_scale": False},
        {"attention_bias": False},
        {"feedforward_bias": False},
        {"lm_transform": False},
        {"lm_bias": False},
        {"lm_activation": "relu"},
        {"position_offset": 2},
        {"positions_from_padding": True},
        {"embedding_norm": False},
    ],
)
def test_small_differences_are_refused_too(changes, tmp_path):
    with pytest.raises(ConfigError, match="'kexue'"):
        build("bert", "lm", **changes).save_pretrained(tmp_path / "x", format="hf")


def test_causal_models_are_decoders(tmp_path):
    model = build("bert", mask=Causal())
    model.save_pretrained(tmp_path, format="hf")
    assert json.loads((tmp_path / "config.json").read_text())["is_decoder"] is True
    assert Transformer.from_pretrained(tmp_path).mask == Causal()


def test_formats_replace_each_other(tmp_path):
    """Saving in another format leaves nothing that a reader could take for the model; other files stay."""
    (tmp_path / "notes.txt").write_text("mine")
    models = {f: build("bert", seed_word) for f, seed_word in (("kexue", None), ("hf", "lm"), ("tf", "pooler"))}
    for format in ("kexue", "tf", "hf", "tf", "kexue"):
        models[format].save_pretrained(tmp_path, format=format)
        again = Transformer.from_pretrained(tmp_path, head=models[format].heads)
        same(again, models[format])
        assert (tmp_path / "notes.txt").read_text() == "mine"
        assert not list(tmp_path.glob(".*tmp*"))


def test_a_failed_save_leaves_the_old_files(tmp_path, monkeypatch):
    first = build("bert")
    first.save_pretrained(tmp_path / "x")
    before = {f.name: f.read_bytes() for f in (tmp_path / "x").iterdir()}

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("kexue.models.saving.write_safetensors", fail)
    with pytest.raises(OSError, match="disk full"):
        build("roformer").save_pretrained(tmp_path / "x")
    assert {f.name: f.read_bytes() for f in (tmp_path / "x").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_errors(tmp_path):
    with pytest.raises(ConfigError, match="'onnx'"):
        shared("bert").save_pretrained(tmp_path, format="onnx")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_low_precision_models(policy, tmp_path):
    model = build("bert", dtype=policy)
    model.save_pretrained(tmp_path)
    again = Transformer.from_pretrained(tmp_path, dtype=policy)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(np.asarray(a, "float32"), np.asarray(b, "float32"))


def test_saved_heads_may_be_left_out(tmp_path):
    model = shared("bert", ("lm", "pooler", "nsp"))
    for format in ("kexue", "hf", "tf"):
        model.save_pretrained(tmp_path / format, format=format)
        for heads in (None, "lm", "pooler", ("pooler", "nsp")):
            again = Transformer.from_pretrained(tmp_path / format, head=heads)
            data = batch(model)
            want = run(model, data)
            for name, value in run(again, data).items():
                np.testing.assert_allclose(value, want[name], atol=1e-5)


def test_round_trips_through_all_formats(tmp_path):
    model = shared("roformer", "lm")
    current = model
    for i, format in enumerate(("tf", "hf", "kexue", "hf", "tf")):
        current.save_pretrained(tmp_path / str(i), format=format)
        current = Transformer.from_pretrained(tmp_path / str(i), head="lm")
    same(current, model)
    assert current.config.replace(initializer=0.3) == config("roformer")
