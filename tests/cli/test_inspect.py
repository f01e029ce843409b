"""What is shown of checkpoints, bare tensors and broken folders."""

import json
import math

import numpy as np

from kexue.checkpoints import write_safetensors


def shown(command, *arguments):
    result = command("inspect", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_checkpoint(command, checkpoint):
    text = shown(command, checkpoint)
    for word in ("Hugging Face", "bert", "lm, pooler, nsp", "hidden_size", "lower-casing", "1e-06"):
        assert word in text
    assert "query" not in text  # no tensors unless asked for
    listing = shown(command, checkpoint, "--tensors")
    line = next(line for line in listing.splitlines() if "layer.1.intermediate.dense.weight" in line)
    assert line.split() == ["bert.encoder.layer.1.intermediate.dense.weight", "20x12", "float32"]


def test_json_agrees_with_the_model(command, checkpoint, tmp_path):
    from kexue.models import Transformer

    model = Transformer.from_pretrained(checkpoint, head=("lm", "pooler", "nsp"))
    expected = sum(math.prod(w.shape) for w in model.trainable_weights)
    for format in ("hf", "tf", "kexue"):
        command("convert", checkpoint, tmp_path / format, "--to", format)
        report = json.loads(shown(command, tmp_path / format, "--json", "--tensors"))
        assert report["parameters"] == expected
        assert report["family"] == "bert"
        assert report["heads"] == ["lm", "pooler", "nsp"]
        assert report["config"] == model.config.to_dict() | {"mask": report["config"]["mask"]}
        assert report["tokenizer"] == {"kind": "WordPiece", "size": model.config.vocabulary_size, "cased": False}
        assert len(report["tensors"]) == report["tensor_count"]


def test_optimizer_states_are_no_parameters(command, checkpoint, tmp_path):
    from kexue.checkpoints import open_checkpoint, read_all, write_tf_bundle

    command("convert", checkpoint, tmp_path, "--to", "tf")
    with open_checkpoint(tmp_path) as source:
        arrays = read_all(source)
    before = json.loads(shown(command, tmp_path, "--json"))["parameters"]
    slots = {f"{name}/adam_m": a for name, a in arrays.items()} | {"global_step": np.array(3)}
    write_tf_bundle(tmp_path / "bert_model.ckpt", arrays | slots)
    report = json.loads(shown(command, tmp_path, "--json"))
    assert report["parameters"] == before
    assert report["parts"]["ignored"] == before + 1
    assert "optimizer" in shown(command, tmp_path)


def test_bare_tensors(command, tmp_path):
    write_safetensors(tmp_path / "x.safetensors", {"a.b": np.zeros((2, 3), "float16"), "c": np.ones((), "int64")})
    text = shown(command, tmp_path / "x.safetensors", "--tensors")
    assert "bare tensors (safetensors)" in text
    assert sorted(line.split() for line in text.splitlines()[-2:]) == [
        ["a.b", "2x3", "float16"],
        ["c", "scalar", "int64"],
    ]
    report = json.loads(shown(command, tmp_path / "x.safetensors", "--json"))
    assert report["parameters"] == 7
    assert report["tokenizer"] is None


def test_a_foreign_configuration_is_a_remark(command, tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"a": np.zeros(2, "float32")})
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    text = shown(command, tmp_path)
    assert "gpt2" in text
    assert "problem" in text


def test_mistakes(mistake, tmp_path):
    assert "no such file" in mistake("inspect", tmp_path / "none")
    assert "no checkpoint found" in mistake("inspect", tmp_path)
    (tmp_path / "x.txt").write_text("hello")
    assert "not recognised" in mistake("inspect", tmp_path / "x.txt")
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    assert "model.safetensors" in mistake("inspect", tmp_path)
