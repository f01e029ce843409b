"""``kexue train reader`` and ``kexue read``: as a user would, killed half-way, and with all that can go wrong."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import pytest
from tests.tasks.reading import CONFIG, pointer, reader, records

import kexue as package

EAGER = keras.backend.backend() == "torch"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two untrained readers, ``write`` and ``point``."""
    path = tmp_path_factory.mktemp("tasks")
    reader().save(path / "write")
    pointer().save(path / "point")
    (path / "one.txt").write_text("a:甲乙,b:丙", encoding="utf-8")
    (path / "latin.txt").write_bytes(b"\xff\xfe\xfa")
    return path


@pytest.mark.parametrize("kind", ["write", "point"])
def test_answers(kind: str, folder: Path, command: Any) -> None:
    """One JSON object, the same from arguments, a file and stdin; as the task itself."""
    asked = ("read", folder / kind, "-q", "a", "--must-answer")
    passages = ["a:甲乙,b:丙", "c:丁"]
    done = command(*asked, *passages)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["question"] == "a"
    assert passages[found["passage"]][found["start"] : found["end"]] == found["text"] != ""
    if not EAGER:  # each command compiles anew
        return
    assert json.loads(command(*asked, "-", stdin="a:甲乙,b:丙\n\nc:丁\n").stdout) == found
    alone = json.loads(command(*asked, "--file", folder / "one.txt").stdout)
    assert alone == json.loads(command(*asked, passages[0]).stdout)
    assert len(json.loads(command(*asked, *passages, "--best", 2).stdout)["alternatives"]) == 2


def test_the_line_of_a_mistake(folder: Path, mistake: Any) -> None:
    """A question that is too long is named by its line, not by its place in what is read at a time."""
    lines = [json.dumps({"question": q, "passages": ["a:甲"]}) for q in ("a", "a", "甲" * 99)]
    assert "stdin:3: the question has" in mistake("predict", folder / "write", "-", stdin="\n".join(lines))


@pytest.mark.skipif(not EAGER, reason="each command compiles anew")
def test_the_task_options(folder: Path, command: Any) -> None:
    done = command("read", folder / "write", "-q", "a", "a:甲", "--mode", "generative", "--vote", "mean", "--beam", 2)
    assert done.exit_code == 0, done.output
    found = json.loads(command("read", folder / "point", "-q", "a", "a:甲", "--threshold", 1e6).stdout)
    assert (found["text"], found["passage"]) == ("", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["read", "nowhere", "-q", "a", "b"], "does not exist"),
        (["read", "WRITE", "-q", " ", "b"], "question must be a text that is not empty"),
        (["read", "WRITE", "-q", "a", " "], "passage 0 must be a text that is not empty"),
        (["read", "WRITE", "-q", "a", "-"], "no passages to read"),
        (["read", "WRITE", "-q", "a b c d e", "a"], "reader takes 3"),
        (["read", "WRITE", "-q", "a", "a", "--vote", "x"], "vote must be one of"),
        (["read", "WRITE", "-q", "a", "a", "--mode", "x"], "mode must be one of"),
        (["read", "WRITE", "-q", "a", "a", "--threshold", "1"], "--threshold is not for"),
        (["read", "POINT", "-q", "a", "a", "--beam", "2"], "--beam is not for"),
        (["read", "WRITE", "-q", "a", "--file", "nowhere.txt"], "No such file"),
        (["read", "WRITE", "-q", "a", "--file", "LATIN"], "not valid UTF-8"),
        (["read", "WRITE", "-q", "a", "b", "--file", "LATIN"], "not both"),
    ],
)
def test_mistakes(folder: Path, mistake: Any, arguments: list[str], message: str) -> None:
    """One line and exit code 2."""
    names = {"WRITE": folder / "write", "POINT": folder / "point", "LATIN": folder / "latin.txt"}
    assert message in mistake(*[names.get(a, a) for a in arguments], stdin="")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    lines = [json.dumps(record, ensure_ascii=False) for record in records(48, 0)]
    (path / "train.jsonl").write_text("\n".join(lines[:40]), encoding="utf-8")
    (path / "valid.jsonl").write_text("\n".join(lines[40:]), encoding="utf-8")
    (path / "broken.jsonl").write_text('{"question": "a"}', encoding="utf-8")
    (path / "model.json").write_text(json.dumps(CONFIG | {"vocabulary_size": 1}))
    return path


def arguments(data: Path, output: Path, *more: Any) -> list[Any]:
    return ["train", "reader", "--data", data / "train.jsonl", "--valid", data / "valid.jsonl", "--model",
            data / "model.json", "--output", output, "--epochs", 2, "--batch-size", 8, "--max-passage", 24,
            "--max-question", 4, "--max-answer", 6, "--save-every", 1, *more]  # fmt: skip


def test_train(data: Path, tmp_path: Path, command: Any, mistake: Any) -> None:
    """From a file to a folder that reads; a finished one is not overwritten."""
    output = tmp_path / "task"
    done = command(*arguments(data, output, "--method", "point", "--test", data / "valid.jsonl"))
    assert done.exit_code == 0, done.output
    assert "exact match" in done.stdout
    metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test"] == metrics["valid"]
    assert not (output / ".training").exists()
    assert command("read", output, "-q", "a", "a:甲").exit_code == 0
    line = json.dumps({"question": "a", "passages": ["a:甲", "b:乙"]})
    answer = json.loads(command("predict", output, "-", stdin=line + "\n").stdout)["answer"]
    asked = json.loads(command("read", output, "-q", "a", "a:甲", "b:乙").stdout)
    assert {"question": "a"} | answer == pytest.approx(asked)
    scores = json.loads(command("evaluate", output, "--data", data / "valid.jsonl", "--json").stdout)
    assert scores == metrics["valid"]
    assert "takes JSON objects" in mistake("predict", output, "-", stdin="a text\n")
    assert "finished task" in mistake(*arguments(data, output, "--method", "point"))
    assert "holds no reader" not in mistake("read", output, "-q", "a", "a", "--vote", "mean")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "guess"], "--method must be one of write, point"),
        (["--method", "point", "--vote", "mean"], "--vote is for --method write"),
        (["--format", "csv"], "format must be one of"),
        (["--data", "nowhere.json"], "no such file"),
        (["--data", "BROKEN"], "lacks the key 'passages'"),
        (["--max-passage", 4, "--stride", 9], "stride must lie in"),
        (["--model", "nowhere"], "does not exist"),
    ],
)
def test_train_mistakes(data: Path, tmp_path: Path, mistake: Any, more: list[Any], message: str) -> None:
    more = [data / "broken.jsonl" if a == "BROKEN" else a for a in more]
    assert message in mistake(*arguments(data, tmp_path / "task", *more))


@pytest.mark.slow
def test_a_killed_training_goes_on(data: Path, tmp_path: Path) -> None:
    """Killed after its first saved steps, the same command ends with the scores of one that was left alone."""
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1])}

    def start(output: Path) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "kexue.cli", *map(str, arguments(data, output))]
        return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    straight = start(tmp_path / "straight")
    text, _ = straight.communicate()
    assert straight.returncode == 0, text
    killed = start(tmp_path / "killed")
    state = tmp_path / "killed" / ".training" / "state" / "state.json"
    while killed.poll() is None and not state.exists():
        pass
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed" / "task.json").exists()
    again = start(tmp_path / "killed")
    text, _ = again.communicate()
    assert again.returncode == 0, text
    assert "going on with the training" in text
    one, other = (
        json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8")) for name in ("straight", "killed")
    )
    assert one["history"] == other["history"]
    assert one["valid"] == other["valid"]
