"""``inspect`` and ``convert`` on decoders and encoder-decoders."""

import json

import numpy as np
import pytest
from tests.models.tiny import ENCODER_DECODERS, shared

from kexue.checkpoints import open_checkpoint, read_all
from kexue.models import families

NAMES = ["gpt", "gpt2", "gpt2_ml", "llama", "qwen2", "qwen3", *ENCODER_DECODERS]


def tensors(folder):
    with open_checkpoint(folder) as checkpoint:
        return read_all(checkpoint)


@pytest.mark.parametrize("name", NAMES)
def test_inspect_and_convert(name, command, tmp_path):
    """The head is there although a tied one has no tensor; through kexue's format and back nothing is lost."""
    family = families.get(name)
    official = "hf" if family.architectures else "tf"
    shared(name, "lm").save_pretrained(tmp_path / "a", official)
    result = command("inspect", tmp_path / "a", "--json", "--tensors")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["family"], report["heads"]) == (name, ["lm"])
    assert "unknown" not in report["parts"]
    assert "problem" not in report
    assert report["parameters"] == sum(
        int(np.prod(w.shape)) for w in shared(name, "lm").weights if "seed" not in w.name
    )
    assert command("inspect", tmp_path / "a").exit_code == 0
    for source, target, to in (("a", "b", "kexue"), ("b", "c", official)):
        result = command("convert", tmp_path / source, tmp_path / target, "--to", to)
        assert result.exit_code == 0, result.output
        assert "encoder + lm" in result.stderr
    before, after = tensors(tmp_path / "a"), tensors(tmp_path / "c")
    assert sorted(before) == sorted(after)
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    report = json.loads(command("inspect", tmp_path / "b", "--json").stdout)
    assert report["heads"] == ["lm"]


def test_layouts_that_do_not_exist(mistake, tmp_path):
    shared("llama", "lm").save_pretrained(tmp_path / "a", "hf")
    assert "no TensorFlow layout" in mistake("convert", tmp_path / "a", tmp_path / "b", "--to", "tf", partial=True)
    shared("gpt2_ml", "lm").save_pretrained(tmp_path / "c", "tf")
    assert "gpt2_ml" in mistake("convert", tmp_path / "c", tmp_path / "d", "--to", "hf", partial=True)
