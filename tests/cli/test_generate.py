"""``kexue generate`` on a small task of random weights."""

import json
from pathlib import Path
from typing import Any

import pytest

from kexue.tasks import Seq2Seq
from kexue.text import Tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "intermediate_size": 8, "max_length": 32}
    tokenizer = Tokenizer.from_vocab(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c"])
    path = tmp_path_factory.mktemp("task") / "task"
    Seq2Seq.from_pretrained(sizes, tokenizer=tokenizer, max_source=8, max_target=4, seed=0).save(path)
    return path


def test_results(folder: Path, command: Any) -> None:
    """One line of JSON a text, in order; the same as the task itself; n results on request."""
    done = command("generate", folder, "-", "--beam", 3, "--best", 2, stdin="a b\n\nc\n")
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["text"] for record in records] == ["a b", "", "c"]
    assert all(len(record["results"]) == 2 for record in records)
    assert "texts have more" not in done.stderr
    long = command("generate", folder, "a b c " * 9, "--beam", 3, "--best", 2)
    assert long.exit_code == 0
    assert "1 of 1 texts have more than the 6 tokens that are read: text 1" in long.stderr
    drawn = ("generate", folder, "a b", "--sample", "--seed", 3, "--max-tokens", 2)
    one, again = command(*drawn), command(*drawn)
    assert one.stdout == again.stdout
    assert json.loads(one.stdout)["text"] == "a b"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "a"], "does not exist"),
        (["FOLDER", "a", "--sample", "--top-p", "2"], "top_p"),
        (["FOLDER", "a", "--file", "x"], "not both"),
        (["FOLDER", "--file", "nowhere.txt"], "No such file"),
    ],
)
def test_mistakes(folder: Path, mistake: Any, arguments: list[str], message: str) -> None:
    """One line and exit code 2."""
    assert message in mistake("generate", *[folder if a == "FOLDER" else a for a in arguments])
