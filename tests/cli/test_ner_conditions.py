"""The commands on texts that come with a condition."""

import json

import pytest
from tests.cli.test_ner import CONFIG, PLACES

from kexue.text import write_jsonl

KINDS = {"出发": [1.0, 0.0], "到达": [0.0, 1.0]}


def example(place, label):
    return {"text": f"在{place}的", "entities": [{"start": 1, "end": 3, "label": label}], "condition": KINDS[label]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder with train.jsonl, valid.jsonl, plain.jsonl (no conditions), long.jsonl (of another length)."""
    folder = tmp_path_factory.mktemp("conditions")
    everything = [example(place, label) for place in PLACES for label in KINDS]
    write_jsonl(folder / "train.jsonl", everything)
    write_jsonl(folder / "valid.jsonl", everything[:4])
    plain = [{key: e[key] for key in ("text", "entities")} for e in everything]
    write_jsonl(folder / "plain.jsonl", plain)
    write_jsonl(folder / "long.jsonl", [*everything[:-1], {**everything[-1], "condition": [1.0, 2.0, 3.0]}])
    (folder / "model.json").write_text(json.dumps(CONFIG))
    return folder


def arguments(data, output, train="train.jsonl"):
    return ["train", "ner", "--data", data / train, "--valid", data / "valid.jsonl", "--model", data / "model.json",
            "--output", output, "--epochs", 12, "--batch-size", 6, "--max-length", 16, "--learning-rate",
            2e-2]  # fmt: skip


@pytest.fixture(scope="module")
def trained(command, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "task"
    result = command(*arguments(data, folder), "--condition-size", 2)
    assert result.exit_code == 0, result.output
    return folder, result


def test_train_evaluate_predict(command, trained, data):
    folder, result = trained
    assert json.loads((folder / "metrics.json").read_text())["valid"]["micro"]["f1"] == 1.0
    assert '"condition": [1.0, 0.0]' in result.stdout.splitlines()[-1]  # the command to predict with
    scores = json.loads(command("evaluate", folder, "--data", data / "train.jsonl", "--json").stdout)
    assert scores["micro"]["f1"] == 1.0
    lines = [json.dumps({"text": "在上海的", "condition": c}, ensure_ascii=False) for c in KINDS.values()]
    expected = [("在上海的", condition, [label]) for label, condition in KINDS.items()]

    def shown(*source, **options):
        found = command("predict", folder, *source, **options)
        assert found.exit_code == 0, found.output
        records = [json.loads(line) for line in found.stdout.splitlines()]
        return [(r["text"], r["condition"], [e["label"] for e in r["entities"]]) for r in records]

    assert shown(*lines) == expected
    assert shown("-", stdin="\ufeff" + "\r\n\n".join(lines) + "\n") == expected
    assert [labels for _, _, labels in shown("--file", data / "valid.jsonl")] == [["出发"], ["到达"]] * 2


def test_mistakes(mistake, trained, data, tmp_path):
    folder, _ = trained
    output = tmp_path / "out"
    line = mistake(*arguments(data, output))
    assert "train.jsonl, example 0 ('在青阳的'): it has a condition" in line
    assert "--condition-size" in line
    line = mistake(*arguments(data, output, "plain.jsonl"), "--condition-size", 2)
    assert "plain.jsonl, example 0 ('在青阳的'): it has no condition" in line
    line = mistake(*arguments(data, output, "long.jsonl"), "--condition-size", 2)
    assert "long.jsonl, example 11 ('在东海的'): the condition must have 2 numbers" in line
    assert "valid.jsonl, example 0" in mistake(*arguments(data, output, "plain.jsonl"))  # only --valid has conditions
    assert not output.exists()
    assert "plain.jsonl, example 0" in mistake("evaluate", folder, "--data", data / "plain.jsonl")
    assert "long.jsonl, example 11" in mistake("evaluate", folder, "--data", data / "long.jsonl")
    good = json.dumps({"text": "在上海的", "condition": [0, 1]})
    for broken, message in (
        ("在上海的", "JSON object"),
        ('"在上海的"', "JSON object"),
        ('{"condition": [0, 1]}', "JSON object"),
        ('{"text": 3, "condition": [0, 1]}', "the text must be a string"),
        ('{"text": "在"}', "it has no condition"),
        ('{"text": "在", "condition": [0, 1, 2]}', "must have 2 numbers"),
        ('{"text": "在", "condition": [0, "1"]}', "at place 1"),
    ):
        line = mistake("predict", folder, "-", stdin=f"{good}\n{broken}\n", partial=True)
        assert "stdin:2: " in line
        assert message in line
    assert "text 2: " in mistake("predict", folder, good, "在")
