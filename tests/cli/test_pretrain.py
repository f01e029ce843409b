"""The command ``kexue pretrain``: from text to a checkpoint, again after an interruption, and mistakes."""

import csv
import json

import numpy as np
import pytest
from tests.tasks.pretraining.corpus import write

from kexue.checkpoints import open_checkpoint
from kexue.models import Transformer, TransformerConfig
from kexue.text import Tokenizer

SMALL = {
    "family": "roformer_v2", "position": "rotary", "vocabulary_size": 5, "hidden_size": 16, "num_layers": 1,
    "num_heads": 2, "intermediate_size": 32, "max_length": 64, "dropout": 0.2, "attention_dropout": 0.2,
}  # fmt: skip


@pytest.fixture
def corpora(tmp_path):
    return write(tmp_path, documents=60)


@pytest.fixture
def configuration(tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps(TransformerConfig(**SMALL).to_dict()))
    return path


def arguments(corpora, configuration, output, *more):
    return [
        "pretrain", "--corpus", corpora["plain"], "--corpus", f"twins={corpora['pairs']}", "--model", configuration,
        "--objective", "mlm=0.5,unilm=0.5", "--steps", 4, "--valid-every", 2, "--save-every", 1, "--log-every", 1,
        "--length", 32, "--batch-size", 2, "--vocabulary-size", 200, "--holdout", 0.1, "--dropout", 0, *more,
        "-o", output,
    ]  # fmt: skip


def arrays(folder):
    with open_checkpoint(folder) as checkpoint:
        return {name: np.array(checkpoint[name]) for name in checkpoint.names()}


def test_pretrain(command, mistake, corpora, configuration, tmp_path):
    output = tmp_path / "run"
    result = command(*arguments(corpora, configuration, output))
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["plain", "twins"]
    model = Transformer.from_pretrained(output, head="lm")
    tokenizer = Tokenizer.from_pretrained(output)
    assert model.config.vocabulary_size == len(tokenizer)
    assert model.config.dropout == 0.2  # that of the configuration, not of the pretraining
    assert model.mask.__class__.__name__ == "Bidirectional"
    report = json.loads((output / "pretraining.json").read_text())
    assert set(report["held_out"]) == {"plain", "twins"}
    assert report["corpora"]["plain"]["valid"]["documents"] > 0
    with open(output / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[1]["val_loss"]
    assert float(rows[0]["learning_rate"]) > 0
    assert "finished run" in mistake(*arguments(corpora, configuration, output))
    again = command(*arguments(corpora, configuration, output, "--restart"))
    assert again.exit_code == 0, again.output


def test_goes_on(command, corpora, configuration, tmp_path):
    output = tmp_path / "run"
    options = ["--noise-scale", "--accumulation", "2", "--ema", "0.9", "--schedule", "wsd", "--optimizer", "lamb"]
    assert command(*arguments(corpora, configuration, output, *options)).exit_code == 0
    expected = arrays(output)
    assert (output / "noise.csv").is_file()
    # As if the process had died after the state of the last step and before the checkpoint.
    for name in ("pretraining.json", "model.safetensors", "config.json"):
        (output / name).unlink()
    result = command(*arguments(corpora, configuration, output, *options))
    assert result.exit_code == 0, result.output
    assert "going on with the run" in result.stderr
    found = arrays(output)
    assert set(found) == set(expected)
    assert all((found[name] == expected[name]).all() for name in found)


def test_interrupted(command, mistake, corpora, configuration, tmp_path, monkeypatch):
    """Also when beginning anew; and the vocabulary that is there must be the one that is asked for."""
    output = tmp_path / "run"
    assert command(*arguments(corpora, configuration, output)).exit_code == 0

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kexue.tasks.pretrainer.run", interrupt)
        assert command(*arguments(corpora, configuration, output, "--restart")).exit_code == 130
    error = mistake(*arguments(corpora, configuration, output, "--vocabulary-size", 150), partial=True)
    assert "--vocabulary-size 200" in error
    assert command(*arguments(corpora, configuration, output)).exit_code == 0
    assert (output / "pretraining.json").is_file()


def test_mistakes(mistake, corpora, configuration, tmp_path):
    output = tmp_path / "run"
    assert "no such" in mistake("pretrain", "--corpus", tmp_path / "absent.txt", "-o", output).lower()
    twice = ["--corpus", corpora["plain"], "--corpus", corpora["plain"]]
    assert "a name of its own" in mistake("pretrain", *twice, "-o", output)
    wrong = [
        ("--objective", "bert"),
        ("--optimizer", "sgd"),
        ("--schedule", "up"),
        ("--model", tmp_path / "absent"),
        ("--dtype", "float7"),
    ]
    for option, value in wrong:
        message = mistake(*arguments(corpora, configuration, output, option, value), partial=True)
        assert str(value).split("/")[-1] in message
    (tmp_path / "file").write_text("")
    assert "is a file" in mistake(*arguments(corpora, configuration, tmp_path / "file"))


def test_tensorboard_that_is_not_there(mistake, corpora, configuration, tmp_path, monkeypatch):
    monkeypatch.setattr("kexue.cli._pretrain.find_spec", lambda name: None if name == "tensorboard" else object())
    error = mistake(*arguments(corpora, configuration, tmp_path / "run", "--tensorboard"))
    assert "needs the package tensorboard" in error


def test_progress_shows_the_speed(monkeypatch):
    """On a terminal: loss, tokens and operations a second of the epoch so far."""
    import io
    import itertools

    import keras

    from kexue.cli import _progress
    from kexue.tasks.pretraining.logs import Speed

    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    console = _progress.Console(file=screen, force_terminal=True, width=160)
    monkeypatch.setattr(_progress, "Console", lambda **_: console)
    speed, shown = Speed(tokens=1000, flops=2e9), _progress.TrainingProgress()
    shown.speed = speed
    clock = itertools.count()
    monkeypatch.setattr("kexue.tasks.pretraining.logs.time.perf_counter", lambda: next(clock) / 2)  # two steps a second
    callbacks = keras.callbacks.CallbackList([speed, shown], params={"steps": 3, "epochs": 1})
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for step in range(3):
        callbacks.on_train_batch_end(step, {"loss": 1.5})
    shown.bar.refresh()
    callbacks.on_train_end()
    assert "loss 1.5000 2 ktokens/s  4 GFLOP/s" in screen.getvalue()
