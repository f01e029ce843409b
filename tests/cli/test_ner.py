"""Train, evaluate and predict through the command, as a user would, and with everything that can go wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kexue as package
from kexue.text import write_jsonl

PLACES = ["青阳", "临河", "北京", "上海", "南京", "东海"]
CONFIG = {"vocabulary_size": 1, "hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 64,
          "family": "roformer", "position": "rotary", "dropout": 0.0, "attention_dropout": 0.0}  # fmt: skip


def sentences(pairs):
    """``去X和Y`` with both places marked."""
    return [
        {
            "text": f"去{a}和{b}",
            "entities": [{"start": 1, "end": 3, "label": "地点"}, {"start": 4, "end": 6, "label": "地点"}],
        }
        for a, b in pairs
    ]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Folder with train.jsonl, valid.jsonl, other.jsonl (another label) and the configuration of a tiny model."""
    folder = tmp_path_factory.mktemp("data")
    pairs = [(a, b) for a in PLACES for b in PLACES if a != b]
    write_jsonl(folder / "train.jsonl", sentences(pairs[:24]))
    write_jsonl(folder / "valid.jsonl", sentences(pairs[24:]))
    other = sentences(pairs[:2])
    other[1]["entities"][0]["label"] = "人名"
    write_jsonl(folder / "other.jsonl", other)
    (folder / "model.json").write_text(json.dumps(CONFIG))
    return folder


def arguments(data, output, epochs=8):
    return ["train", "ner", "--data", data / "train.jsonl", "--valid", data / "valid.jsonl", "--model",
            data / "model.json", "--output", output, "--epochs", epochs, "--batch-size", 8, "--max-length", 16,
            "--learning-rate", 1e-2]  # fmt: skip


@pytest.fixture(scope="session")
def trained(command, data, tmp_path_factory):
    """The folder of a trained task, and what the training printed."""
    folder = tmp_path_factory.mktemp("run") / "task"
    result = command(*arguments(data, folder), "--test", data / "valid.jsonl")
    assert result.exit_code == 0, result.output
    return folder, result


def test_training_says_what_it_does(trained):
    folder, result = trained
    assert "RANDOM INITIAL WEIGHTS" in result.stderr
    assert "vocabulary" in result.stderr
    assert "24 examples, 48 entities" in result.stderr
    assert f"kexue predict {folder}" in result.stdout
    metrics = json.loads((folder / "metrics.json").read_text())
    assert len(metrics["history"]["loss"]) == 8
    assert metrics["test"]["micro"]["support"] == 12
    assert metrics["test"]["micro"]["f1"] > 0.9  # learnable: every other character is the same
    assert not (folder / ".training").exists()


def test_evaluate(command, trained, data):
    folder, _ = trained
    result = command("evaluate", folder, "--data", data / "valid.jsonl", "--json")
    scores = json.loads(result.stdout)
    assert scores == json.loads((folder / "metrics.json").read_text())["test"]
    assert "地点" in command("evaluate", folder, "--data", data / "valid.jsonl").stdout


def records(result):
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.split("\n") if line]


def test_predict_from_everywhere(command, trained, tmp_path):
    folder, _ = trained
    texts = ["去青阳和北京", "", "  去南京和东海", "去上海\u2028和临河"]
    first = records(command("predict", folder, *texts))
    assert [record["text"] for record in first] == texts
    assert [e["text"] for e in first[0]["entities"]] == ["青阳", "北京"]
    for record in first:
        for entity in record["entities"]:
            assert record["text"][entity["start"] : entity["end"]] == entity["text"]
    lines = "".join(text + "\r\n" for text in texts)
    (tmp_path / "lines.txt").write_bytes(b"\xef\xbb\xbf" + lines.encode())

    def spans(found):
        return [(r["text"], [(e["start"], e["end"], e["label"]) for e in r["entities"]]) for r in found]

    for result in (
        command("predict", folder, "-", stdin=lines),
        command("predict", folder, stdin=lines.removesuffix("\r\n")),
        command("predict", folder, "--file", tmp_path / "lines.txt", "--jsonl"),
        command("predict", folder, "--file", "-", stdin=lines),
    ):
        assert spans(records(result)) == spans(first)
    result = command("predict", folder, "--json", *texts)
    assert spans(json.loads(result.stdout)) == spans(first)
    assert json.loads(command("predict", folder, "-", "--json", stdin="").stdout) == []
    assert records(command("predict", folder, "-", stdin="")) == []
    assert records(command("predict", folder, texts[0], "--threshold", "1000"))[0]["entities"] == []


def test_prediction_mistakes(mistake, trained, tmp_path):
    folder, _ = trained
    assert "Is a directory" in mistake("predict", folder, "--file", tmp_path)
    assert "No such file" in mistake("predict", folder, "--file", tmp_path / "none")
    assert "not both" in mistake("predict", folder, "text", "--file", tmp_path / "none")
    assert "stdin:2" in mistake("predict", folder, "-", "--json", stdin=b"ok\n\xff\n", partial=True)
    assert "task.json" in mistake("predict", tmp_path, "text")
    assert "exclude" in mistake("predict", folder, "text", "--json", "--jsonl")
    broken = tmp_path / "broken"
    for name in ("head.safetensors", "model.safetensors"):
        shutil.copytree(folder, broken, dirs_exist_ok=True)
        content = (broken / name).read_bytes()
        (broken / name).write_bytes(content[:-100])
        assert name in mistake("predict", broken, "text")


def test_evaluation_mistakes(mistake, trained, data, tmp_path):
    folder, _ = trained
    line = mistake("evaluate", folder, "--data", data / "other.jsonl")
    assert "other.jsonl:2" in line
    assert "人名" in line
    assert "no such file" in mistake("evaluate", folder, "--data", tmp_path / "none")
    assert "format" in mistake("evaluate", folder, "--data", data / "valid.jsonl", "--format", "conll")
    (tmp_path / "empty.jsonl").write_text("")
    assert "no examples" in mistake("evaluate", folder, "--data", tmp_path / "empty.jsonl")


def test_training_mistakes(mistake, data, tmp_path):
    train = ["train", "ner", "--data", data / "train.jsonl", "--output", tmp_path / "out"]
    assert "none.jsonl: no such file" in mistake("train", "ner", "--data", tmp_path / "none.jsonl")
    assert "not exist" in mistake(*train, "--model", "huge")
    assert "人名" in mistake(*train, "--valid", data / "other.jsonl")
    assert "unknown label '地点'" in mistake(*train, "--labels", "人名")
    assert "head" in mistake(*train, "--model", data / "model.json", "--head", "biaffine")
    (tmp_path / "broken.json").write_text("{")
    assert "broken.json" in mistake(*train, "--model", tmp_path / "broken.json")
    (tmp_path / "plain.jsonl").write_text('{"text": "无", "entities": []}\n{"text": "没有", "entities": []}\n')
    assert "no entity" in mistake("train", "ner", "--data", tmp_path / "plain.jsonl", "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for extra in ([], ["--restart"]):
        assert "not empty" in mistake(
            "train", "ner", "--data", data / "train.jsonl", "--output", tmp_path / "mine", *extra
        )


def test_a_finished_task_is_not_replaced_unasked(mistake, trained, data):
    folder, _ = trained
    before = (folder / "model.safetensors").read_bytes()
    assert "--restart" in mistake(*arguments(data, folder))
    assert (folder / "model.safetensors").read_bytes() == before


def test_interrupted_training_goes_on(command, mistake, trained, data, tmp_path, monkeypatch):
    from kexue.cli import _progress

    output = tmp_path / "task"
    with monkeypatch.context() as patch:
        end = _progress.TrainingProgress.on_epoch_begin

        def stop(self, epoch, logs=None):
            if epoch == 5:
                raise KeyboardInterrupt
            end(self, epoch, logs)

        patch.setattr(_progress.TrainingProgress, "on_epoch_begin", stop)
        result = command(*arguments(data, output))
        assert result.exit_code == 130
        assert "same command" in result.stderr
        assert not (output / "task.json").exists()
    assert "epochs was 8, now 9" in mistake(*arguments(data, output, epochs=9))
    result = command(*arguments(data, output))
    assert result.exit_code == 0, result.output
    assert "going on" in result.stderr
    assert "epoch 5/8" not in result.stderr
    assert "epoch 6/8" in result.stderr
    histories = [json.loads((f / "metrics.json").read_text())["history"] for f in (output, trained[0])]
    assert histories[0]["loss"] == pytest.approx(histories[1]["loss"], rel=1e-5)
    assert not (output / ".training").exists()


@pytest.mark.slow
def test_killed_training_goes_on(command, trained, data, tmp_path):
    output = tmp_path / "task"
    code = (
        "import os, signal, sys\nfrom kexue.cli import app, _progress\n"
        "def die(self, epoch, logs=None):\n    if epoch == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "_progress.TrainingProgress.on_epoch_begin = die\napp(sys.argv[1:])"
    )
    env = dict(os.environ) | {"PYTHONPATH": str(Path(package.__file__).parents[1])}
    command_line = [sys.executable, "-c", code, *map(str, arguments(data, output))]
    done = subprocess.run(command_line, capture_output=True, env=env, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    result = command(*arguments(data, output))
    assert result.exit_code == 0, result.output
    assert "epoch 3/8" not in result.stderr
    assert "epoch 4/8" in result.stderr
    histories = [json.loads((f / "metrics.json").read_text())["history"] for f in (output, trained[0])]
    assert histories[0]["loss"] == pytest.approx(histories[1]["loss"], rel=1e-5)


def test_held_out_share_is_the_same_every_time(data):
    from kexue.cli._data import hold_out, read_labelled

    examples = read_labelled(data / "train.jsonl", "auto", "train")
    train, valid = hold_out(examples, seed=3)
    assert (len(train), len(valid)) == (22, 2)
    assert hold_out(examples, seed=3) == (train, valid)
    assert hold_out(examples, seed=4)[1] != valid
    assert [len(part) for part in hold_out(examples[:2], seed=0)] == [1, 1]


def test_vocabulary_of_the_data_spells_it():
    from kexue.cli._scratch import character_vocabulary

    texts = ["青阳 Rain 12℃，", "É wind"]
    tokenizer = character_vocabulary(texts)
    for text in texts:
        encoding = tokenizer.encode(text)
        assert tokenizer.unk_id not in encoding.token_ids
        assert "".join(t.removeprefix("##") for t in encoding.tokens[1:-1]) == text.replace(" ", "")
    assert character_vocabulary(reversed(texts)).vocabulary == tokenizer.vocabulary
    long = character_vocabulary(["的" * 30_000, "罕"])  # a rare character trains [UNK]
    assert "罕" not in long.vocabulary


def test_inspect_knows_tasks(command, trained):
    folder, _ = trained
    text = command("inspect", folder).stdout
    assert "global_pointer" in text
    assert "地点" in text
    report = json.loads(command("inspect", folder, "--json").stdout)
    assert report["task"]["labels"] == ["地点"]
    assert report["head_parameters"] == 33 * 2 * 64


def test_convert_of_a_task_says_what_is_lost(command, trained, tmp_path):
    result = command("convert", trained[0], tmp_path / "hf", "--to", "hf")
    assert result.exit_code == 0, result.output
    assert "head has no place" in result.stderr
