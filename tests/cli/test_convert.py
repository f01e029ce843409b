"""Conversion loses nothing and overwrites nothing."""

import json
import shutil

import numpy as np
import pytest

from kexue.checkpoints import open_checkpoint, read_all, write_safetensors
from kexue.text import Tokenizer


def tensors(folder):
    with open_checkpoint(folder) as checkpoint:
        return read_all(checkpoint)


def same(a, b):
    assert sorted(a) == sorted(b)
    for name, array in a.items():
        assert array.dtype == b[name].dtype, name
        assert array.shape == b[name].shape, name
        assert array.tobytes() == b[name].tobytes(), name


def test_round_trip_keeps_every_byte(command, checkpoint, tmp_path):
    source = checkpoint
    for format in ("kexue", "tf", "hf"):
        result = command("convert", source, tmp_path / format, "--to", format)
        assert result.exit_code == 0, result.output
        assert "lm" in result.stderr
        assert "nsp" in result.stderr
        source = tmp_path / format
    before = tensors(checkpoint)
    assert {"cls.predictions.bias", "cls.seq_relationship.weight", "bert.pooler.dense.bias"} <= set(before)
    same(before, tensors(tmp_path / "hf"))
    assert json.loads((checkpoint / "config.json").read_text()) == json.loads((source / "config.json").read_text())
    text = "青阳气象局 Rainy 发布!"
    first, last = (Tokenizer.from_pretrained(folder) for folder in (checkpoint, source))
    assert first.vocabulary == last.vocabulary
    assert first.encode(text).tokens == last.encode(text).tokens


@pytest.mark.parametrize("heads", [(), ("pooler",), ("lm",)])
def test_only_heads_in_the_source_are_written(command, checkpoint, tmp_path, heads):
    from kexue.models import Transformer

    Transformer.from_pretrained(checkpoint, head=heads).save_pretrained(tmp_path / "a", "tf")
    result = command("convert", tmp_path / "a", tmp_path / "b", "--to", "hf")
    assert result.exit_code == 0, result.output
    names = set(tensors(tmp_path / "b"))
    assert any("pooler" in name for name in names) == ("pooler" in heads)
    assert any("cls.predictions" in name for name in names) == ("lm" in heads)
    assert not any("seq_relationship" in name for name in names)
    assert "no tokenizer" in result.stderr


def test_transformers_loads_what_was_converted(command, checkpoint, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    command("convert", checkpoint, tmp_path / "tf", "--to", "tf")
    command("convert", tmp_path / "tf", tmp_path / "hf", "--to", "hf")
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    with torch.no_grad():
        a, b = (transformers.BertForPreTraining.from_pretrained(f)(ids) for f in (checkpoint, tmp_path / "hf"))
    np.testing.assert_array_equal(a.prediction_logits, b.prediction_logits)
    np.testing.assert_array_equal(a.seq_relationship_logits, b.seq_relationship_logits)


def test_refuses_to_overwrite(command, mistake, checkpoint, tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    assert "not empty" in mistake("convert", checkpoint, target, "--to", "kexue")
    assert sorted(p.name for p in target.iterdir()) == ["notes.txt"]
    assert command("convert", checkpoint, target, "--to", "kexue", "--force").exit_code == 0
    assert (target / "notes.txt").read_text() == "mine"
    assert (target / "model.safetensors").exists()
    assert "is a file" in mistake("convert", checkpoint, target / "notes.txt", "--to", "kexue", "--force")


def test_source_and_target_must_differ(mistake, checkpoint, tmp_path):
    before = tensors(checkpoint)
    link = tmp_path / "link"
    link.symlink_to(checkpoint)
    for target in (checkpoint, checkpoint / ".", link):
        assert "same folder" in mistake("convert", checkpoint, target, "--to", "tf", "--force")
    assert "same folder" in mistake("convert", checkpoint / "model.safetensors", checkpoint, "--to", "tf", "--force")
    same(before, tensors(checkpoint))


def test_broken_sources(mistake, checkpoint, tmp_path):
    assert "does not exist" in mistake("convert", tmp_path / "none", tmp_path / "out", "--to", "tf")
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    data = bytearray((broken / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (broken / "model.safetensors").write_bytes(data)
    assert "model.safetensors" in mistake("convert", broken, tmp_path / "out", "--to", "tf")
    (broken / "model.safetensors").write_bytes(data[: len(data) // 2])
    assert "model.safetensors" in mistake("convert", broken, tmp_path / "out", "--to", "tf")
    kept = {name: a for name, a in tensors(checkpoint).items() if "layer.1.output.dense.weight" not in name}
    write_safetensors(broken / "model.safetensors", kept)
    assert "bert.encoder.layer.1.output.dense.weight" in mistake("convert", broken, tmp_path / "out", "--to", "tf")
    (broken / "config.json").write_text("{")
    assert "config.json" in mistake("convert", broken, tmp_path / "out", "--to", "tf")
    assert not (tmp_path / "out").exists()


def test_a_broken_tokenizer_is_not_left_out_silently(mistake, checkpoint, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    (broken / "tokenizer.json").write_text("{}")
    assert "tokenizer" in mistake("convert", broken, tmp_path / "out", "--to", "tf")
    assert not (tmp_path / "out").exists()
