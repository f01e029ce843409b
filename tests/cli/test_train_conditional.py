"""``kexue train conditional-lm``, and what its folder serves."""

import json
from pathlib import Path
from typing import Any

import keras
import pytest

from kexue.errors import DataError
from kexue.text.data.labelled import read_labelled_texts

LINES = "ab ba ab\tx\nba ab\tx\nab ab ba ab\tx\ncd dc\ty\ndc dc cd\ty\ncd cd cd\ty\n"


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="the task has its test; this is the command's")
def test_from_data_to_texts(command: Any, mistake: Any, tmp_path: Path) -> None:
    """Train, generate, classify, score; a finished folder is not written over."""
    (tmp_path / "data.tsv").write_text(LINES * 10)
    folder = tmp_path / "run"
    arguments = ("train", "conditional-lm", "--data", tmp_path / "data.tsv", "--output", folder)
    small = ("--model", "tiny", "--epochs", 10, "--batch-size", 8, "--max-length", 16)
    done = command(*arguments, *small)
    assert done.exit_code == 0, done.output
    assert "labels: x, y" in done.stderr
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["valid"]["label_accuracy"] == 1.0
    assert not (folder / ".training").exists()
    written = json.loads(command("generate", folder, "--label", "y", "--best", 4, "--top-p", 0.6).stdout)
    assert all(set(one["text"]) <= set("cd ") for one in written["results"])
    found = json.loads(command("predict", folder, "dc cd dc").stdout)
    assert found["label"] == "y"
    assert found["log_prob"]["y"] > found["log_prob"]["x"]
    scores = json.loads(command("evaluate", folder, "--data", tmp_path / "data.tsv", "--json").stdout)
    assert scores["label_accuracy"] == 1.0
    assert "finished task" in mistake(*arguments, *small)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "no label\n", "a.tsv:1: expected a text, a TAB and a label"),
        ("a.tsv", "a\tx\n\nb\t \n", "a.tsv:3"),
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": "a"}\n', "a.jsonl:2: expected 'label' or 'condition'"),
        ("a.jsonl", '{"text": 3, "label": "x"}\n', "the string 'text'"),
        ("a.jsonl", '{"text": "a", "label": 3}\n', "label must be a string"),
        ("a.jsonl", '{"text": "a", "condition": [1, NaN]}\n', "finite"),
        ("a.jsonl", '{"text": "a", "condition": [1], "label": "x"}\n', "expected 'label' or 'condition'"),
        ("a.tsv", "\n", "holds no texts"),
    ],
)
def test_broken_data(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_labelled_texts(tmp_path / name)


def test_mixed_data(mistake: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": "a", "condition": [1]}\n')
    assert "one kind" in mistake("train", "conditional-lm", "--data", path, "--output", tmp_path / "run")
    path.write_text('{"text": "a", "condition": [1]}\n{"text": "a", "condition": [1, 2]}\n')
    arguments = ("train", "conditional-lm", "--data", path, "--output", tmp_path / "run", "--model", "tiny")
    assert "1 numbers" in mistake(*arguments, "--max-length", 8)
    path.write_text('{"text": "a", "label": "x"}\n{"text": "a", "label": "y"}\n')
    assert "unknown label" in mistake(*arguments, "--max-length", 8, "--labels", "x,z")
