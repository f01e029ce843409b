"""``kexue generate`` on a small `ConditionalLM` of random weights."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from kexue.decoding import Sample
from kexue.tasks import ConditionalLM
from kexue.text import Tokenizer

SIZES = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "intermediate_size": 8, "max_length": 32}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    tokenizer = Tokenizer.from_vocab(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c"])
    path = tmp_path_factory.mktemp("task")
    options = {"tokenizer": tokenizer, "max_length": 6, "seed": 0}
    ConditionalLM.from_pretrained(SIZES, labels=["x", "y"], **options).save(path / "labels")
    ConditionalLM.from_pretrained(SIZES, condition_size=2, **options).save(path / "vectors")
    return {"LABELS": path / "labels", "VECTORS": path / "vectors"}


def test_labels(folders: dict[str, Path], command: Any) -> None:
    """One line of JSON a label, the texts those of the task itself."""
    done = command("generate", folders["LABELS"], "--label", "y", "--best", 3, "--seed", 4)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["label"] == "y"
    task = ConditionalLM.load(folders["LABELS"])
    assert [one["text"] for one in record["results"]] == task.predict(
        "y", Sample(top_p=0.95, seed=4), n=3, batch_size=8
    )
    if keras.backend.backend() != "torch":
        return
    every = command("generate", folders["LABELS"], "b a", "c", "--beam", 2, "--guidance", 2.5)
    records = [json.loads(line) for line in every.stdout.splitlines()]
    assert [(r["label"], r["prompt"]) for r in records] == [("x", "b a"), ("x", "c"), ("y", "b a"), ("y", "c")]
    assert all(r["results"][0]["text"].startswith(r["prompt"]) for r in records)


def test_vectors(folders: dict[str, Path], command: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.array([1.0, 2.0], "float32"))
    done = command(
        "generate", folders["VECTORS"], "--condition", "[1, 2]", "--condition", tmp_path / "c.npy", "--beam", 1
    )
    assert done.exit_code == 0, done.output
    one, other = (json.loads(line)["results"] for line in done.stdout.splitlines())
    assert one == other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["LABELS", "--label", "z"], "unknown label 'z'"),
        (["LABELS", "--condition", "[1]"], "takes --label"),
        (["LABELS", "--guidance", "nan"], "finite number"),
        (["LABELS", "--sample", "--beam", "2"], "exclude each other"),
        (["VECTORS"], "needs --condition"),
        (["VECTORS", "--label", "x"], "no labels"),
        (["VECTORS", "--condition", "[1]"], "2 numbers"),
        (["VECTORS", "--condition", "red"], "JSON list of numbers"),
        (["VECTORS", "--condition", "7"], "JSON list of numbers"),
        (["VECTORS", "--condition", "nowhere.npy"], "No such file"),
        (["nowhere", "a"], "does not exist"),
    ],
)
def test_mistakes(folders: dict[str, Path], mistake: Any, arguments: list[str], message: str) -> None:
    """One line and exit code 2."""
    assert message in mistake("generate", *[folders.get(a, a) for a in arguments])


def test_labels_are_for_conditional_models(mistake: Any, tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text('{"format": "kexue-task", "version": 1, "task": "seq2seq"}')
    assert "for a saved ConditionalLM" in mistake("generate", tmp_path, "a", "--label", "x")
