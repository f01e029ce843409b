"""``kexue train seq2seq``, and what ``evaluate``, ``predict`` and ``generate`` make of its folder."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kexue as package
from kexue.tasks import Seq2Seq, load

CONFIG = {"vocabulary_size": 1, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32,
          "family": "roformer", "position": "rotary", "dropout": 0.0, "attention_dropout": 0.0}  # fmt: skip
WORDS = "天地玄黄宇宙洪荒"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """train.tsv, valid.jsonl, and the configuration of a tiny model: copy two characters."""
    folder = tmp_path_factory.mktemp("pairs")
    pairs = [a + b for a in WORDS for b in WORDS]
    (folder / "train.tsv").write_text("".join(f"{text}\t{text}\n" for text in pairs[:56]), encoding="utf-8")
    lines = [json.dumps({"source": text, "target": text}) for text in pairs[56:]]
    (folder / "valid.jsonl").write_text("\n\n".join(lines))
    (folder / "model.json").write_text(json.dumps(CONFIG))
    return folder


def arguments(data, output, epochs=3):
    return ["train", "seq2seq", "--data", data / "train.tsv", "--valid", data / "valid.jsonl", "--model",
            data / "model.json", "--output", output, "--epochs", epochs, "--batch-size", 8, "--max-source", 6,
            "--max-target", 4, "--save-every", 4]  # fmt: skip


@pytest.fixture(scope="module")
def trained(command, data, tmp_path_factory):
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    folder = tmp_path_factory.mktemp("run") / "task"
    result = command(*arguments(data, folder), "--test", data / "valid.jsonl")
    assert result.exit_code == 0, result.output
    return folder, result


def test_training(trained):
    folder, result = trained
    assert "training: 56 pairs" in result.stderr
    assert "RANDOM INITIAL WEIGHTS" in result.stderr
    assert result.stdout.splitlines()[-1].startswith(f"kexue generate {folder} ")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["history"]["loss"][-1] < metrics["history"]["loss"][0]
    assert {"bleu", "chrf", "rouge_l", "perplexity"} < set(metrics["test"])
    assert not (folder / ".training").exists()
    assert isinstance(load(folder), Seq2Seq)


def test_inspect_and_convert(command, mistake, trained, tmp_path):
    assert "seq2seq, max_source 6, max_target 4" in command("inspect", trained[0]).stdout
    assert "know no mask Prefix" in mistake("convert", trained[0], tmp_path / "hf", "--to", "hf")
    result = command("convert", trained[0], tmp_path / "model", "--to", "kexue")
    assert result.exit_code == 0, result.output
    assert "its task.json has no place" in result.stderr


def test_evaluation_and_prediction(command, trained, data, tmp_path):
    """The scores of the training come again; `predict` writes what `evaluate` scored."""
    folder, _ = trained
    result = command("evaluate", folder, "--data", data / "valid.jsonl", "--json", "--outputs", tmp_path / "out.jsonl")
    assert result.exit_code == 0, result.output
    expected = json.loads((folder / "metrics.json").read_text())["test"]
    assert json.loads(result.stdout) == pytest.approx(expected, rel=1e-5)
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    texts = "".join(f"{record['source']}\n" for record in written)
    predicted = command("predict", folder, "-", stdin=texts)
    records = [json.loads(line) for line in predicted.stdout.splitlines()]
    assert records == [{"text": record["source"], "target": record["output"]} for record in written]


def test_mistakes(mistake, trained, data, tmp_path):
    folder, _ = trained
    train = ["train", "seq2seq", "--model", data / "model.json", "--output", tmp_path / "out", "--data"]
    for name, content, message in (
        ("empty.tsv", "\n", "holds no pairs"),
        ("one.tsv", "a\tb\nc\n", "one.tsv:2: expected 2 columns"),
        ("cut.jsonl", '{"source": "a", "target": "b"}\n{"sou', "cut.jsonl:2: not valid JSON"),
        ("blank.tsv", "a\t\n", "blank.tsv:1: the target is empty"),
    ):
        (tmp_path / name).write_text(content)
        assert message in mistake(*train, tmp_path / name)
    assert "no such file" in mistake(*train, tmp_path / "none.tsv")
    assert "format" in mistake(*train, data / "train.tsv", "--format", "csv")
    assert "--slim" in mistake(*train, data / "train.tsv", "--slim")
    assert not (tmp_path / "out").exists()
    assert "--restart" in mistake(*arguments(data, folder))
    assert "--threshold is not for" in mistake("predict", folder, "天", "--threshold", 1)
    assert "no such file" in mistake("evaluate", folder, "--data", tmp_path / "none.tsv")
    assert "model.json:1: expected the keys" in mistake("evaluate", folder, "--data", data / "model.json")


def test_long_texts_are_told(trained, capsys):
    """A warning counts what is cut."""
    from kexue.cli._train_seq2seq import describe

    pairs = [{"source": "天地玄黄宇宙洪荒", "target": "天"}, {"source": "天", "target": "天地玄黄"}] * 4
    describe("training", pairs, load(trained[0]))
    told = capsys.readouterr().err
    assert "4 of 8 sources of the training data are longer than --max-source 6" in told
    assert "4 of 8 targets of the training data are longer than --max-target 4" in told


@pytest.mark.slow
def test_killed_training_goes_on(command, mistake, trained, data, tmp_path):
    """Killed in the middle of an epoch: the same command gives the history of a training that was not."""
    output = tmp_path / "task"
    code = (
        "import os, signal, sys\nfrom kexue.cli import app, _progress\n"
        "def die(self, batch, logs=None):\n    if batch == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "_progress.TrainingProgress.on_train_batch_end = die\napp(sys.argv[1:])"
    )
    env = dict(os.environ) | {"PYTHONPATH": str(Path(package.__file__).parents[1])}
    command_line = [sys.executable, "-c", code, *map(str, arguments(data, output))]
    done = subprocess.run(command_line, capture_output=True, env=env, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert json.loads((output / ".training" / "state" / "state.json").read_text())["step"] == 4
    assert "epochs was 3, now 4" in mistake(*arguments(data, output, epochs=4))
    result = command(*arguments(data, output))
    assert result.exit_code == 0, result.output
    assert "going on" in result.stderr
    histories = [json.loads((f / "metrics.json").read_text())["history"] for f in (output, trained[0])]
    assert histories[0]["loss"] == pytest.approx(histories[1]["loss"], rel=1e-5)
