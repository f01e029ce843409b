"""Readers of questions with passages: each format, its repairs and its complaints; parts without common passages."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kexue.errors import ConfigError, DataError
from kexue.text import DataWarning, read_reading, split_reading
from kexue.text.data.reading import nearest_occurrence

PASSAGE = "法国核电的比例最高，法国在欧洲。"
SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "核电",
            "paragraphs": [
                {
                    "context": PASSAGE,
                    "qas": [
                        {
                            "id": "a",
                            "question": "谁最高？",
                            "answers": [{"text": "法国", "answer_start": 0}, {"text": "法国", "answer_start": 0}],
                        },
                        {"id": "b", "question": "谁最低？", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}
WEBQA = {
    "q1": {
        "question": "谁最高？",
        "evidences": {
            "e1": {"answer": ["法国"], "evidence": PASSAGE},
            "e2": {"answer": ["no_answer"], "evidence": "无"},
        },
    }
}
SOGOU = [
    {"id": 7, "question": "谁？", "passages": [{"passage": PASSAGE, "answer": "法国"}, {"passage": "无", "answer": ""}]}
]
CMRC = [{"context_text": PASSAGE, "qas": [{"query_text": "谁？", "query_id": "c", "answers": ["欧洲", 39764.0]}]}]
OWN = {
    "question": "谁？",
    "passages": [PASSAGE],
    "answers": ["法国"],
    "spans": [{"passage": 0, "start": 10, "end": 12}],
}


def write(folder: Path, content: Any) -> Path:
    path = folder / "data.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def test_squad(tmp_path: Path) -> None:
    one, other = read_reading(write(tmp_path, SQUAD))
    span = {"passage": 0, "start": 0, "end": 2}
    base = {"passages": [PASSAGE], "group": "核电"}
    assert one == {"id": "a", "question": "谁最高？", "answers": ["法国"], "spans": [span], **base}
    assert other == {"id": "b", "question": "谁最低？", "answers": [], "spans": [], **base}


def test_wrong_places_are_put_right(tmp_path: Path) -> None:
    content = json.loads(json.dumps(SQUAD))
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"] = [
        {"text": "法国", "answer_start": 9}, {"text": "英国", "answer_start": 3},
    ]  # fmt: skip
    with pytest.warns(DataWarning, match=r"1 answers do not stand .*1 stand nowhere"):
        one, _ = read_reading(write(tmp_path, content))
    assert one["answers"] == ["法国", "英国"]
    assert [PASSAGE[span["start"] : span["end"]] for span in one["spans"]] == ["法国"]
    assert one["spans"][0]["start"] == 10


@pytest.mark.parametrize("place", range(-1, 14))
def test_nearest_occurrence(place: int) -> None:
    text = "aa-aa----aaa"
    starts = [i for i in range(len(text)) if text.startswith("aa", i)]
    best = min(abs(i - place) for i in starts)
    found = nearest_occurrence(text, "aa", place)
    assert found is not None
    assert abs(found[0] - place) == best
    assert text[slice(*found)] == "aa"
    assert nearest_occurrence(text, "b", place) is None is nearest_occurrence(text, "", place)


def test_other_formats(tmp_path: Path) -> None:
    (webqa,) = read_reading(write(tmp_path, WEBQA))
    assert (webqa["id"], webqa["passages"], webqa["answers"], webqa["spans"]) == ("q1", [PASSAGE, "无"], ["法国"], [])
    (sogou,) = read_reading(write(tmp_path, SOGOU))
    assert (sogou["id"], sogou["passages"], sogou["answers"]) == ("7", [PASSAGE, "无"], ["法国"])
    with pytest.warns(DataWarning, match="1 stand nowhere"):
        (cmrc,) = read_reading(write(tmp_path, CMRC))
    assert cmrc["answers"] == ["欧洲", "39764.0"]
    lines = write(tmp_path, json.dumps(OWN) + "\n" + json.dumps(OWN | {"answers": [], "spans": []}))
    for format in ("auto", "jsonl"):
        first, second = read_reading(lines, format)
        assert first["spans"] == OWN["spans"]
        assert second["answers"] == []
    assert read_reading(write(tmp_path, [OWN]))[0] == first
    assert read_reading(write(tmp_path, OWN))[0] == first  # one line alone


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        ("", "squad", "not valid JSON"),
        ('{"data": [', "squad", r"data\.json:1: not valid JSON .*complete"),
        ({"data": []}, "auto", "no questions"),
        ({"data": [{}]}, "auto", r"data\[0\] lacks the key 'paragraphs'"),
        ({"data": [{"paragraphs": [{"context": " ", "qas": []}]}]}, "auto", "'context' is empty"),
        ({"data": [{"paragraphs": [{"context": "a", "qas": [{"question": ""}]}]}]}, "auto", "'question' is empty"),
        ({"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "q"}]}]}]}, "auto", "lacks the key 'answers'"),
        ({"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "q", "answers": [{"text": "a",
          "answer_start": "x"}]}]}]}]}, "auto", "'answer_start' must be an integer"),
        ({"q": {"question": "a", "evidences": {}}}, "auto", "no evidences"),
        ({"q": {"question": "a", "evidences": {"e": {"evidence": "x", "answer": "y"}}}}, "auto", "must be a list"),
        ([{"question": "a", "passages": [{"answer": "x"}]}], "auto", "lacks the key 'passage'"),
        ({"a": 1}, "auto", "not a known form"),
        ([OWN | {"passages": []}], "jsonl", "no passages"),
        ([OWN | {"passages": [""]}], "jsonl", "'passages' must be a list of texts"),
        ([OWN | {"spans": [{"passage": 1, "start": 0, "end": 1}]}], "jsonl", "outside its passage"),
        ("{}\n{", "jsonl", r"data\.json:1 lacks the key 'question'"),
        ([1], "webqa", "expected an object"),
        ({}, "sogouqa", "expected a list"),
    ],
)  # fmt: skip
def test_complaints(tmp_path: Path, content: Any, format: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_reading(write(tmp_path, content), format)
    assert "data.json" in str(caught.value)


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of auto, jsonl, squad"):
        read_reading(write(tmp_path, SQUAD), "csv")
    with pytest.raises(DataError, match="no such file"):
        read_reading(tmp_path / "nowhere.json")


def test_split() -> None:
    """Questions of one article stay together, and so do those that share a passage over articles."""
    records = [{"group": str(i // 3), "passages": [f"p{i // 2}"], "n": i} for i in range(60)]
    one, other = split_reading(records, 0.5, seed=1)
    assert sorted(r["n"] for r in one + other) == list(range(60))
    assert one
    assert other
    for name in ("group", "passages"):
        assert not {str(r[name]) for r in one} & {str(r[name]) for r in other}
    assert split_reading(records, 0.5, seed=1) == (one, other)
    assert split_reading(records, 0.5, seed=2) != (one, other)
    assert split_reading(records, 1.0)[1] == []
    with pytest.raises(ConfigError, match="share"):
        split_reading(records, 2)


@pytest.mark.data
@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("cmrc2018/squad-style-data/cmrc2018_dev.json", 3219),
        ("drcd/DRCD_dev.json", 3524),
        ("drcd/DRCD_test.json", 3493),
        ("webqa/me_test.ann.json", 3024),
    ],
)
@pytest.mark.filterwarnings("ignore:.*answer_start")
def test_real_files(path: str, count: int) -> None:
    file = Path(os.environ.get("KEXUE_DATA", "../shared/data")) / "mrc" / path
    if not file.exists():
        pytest.skip(f"{file} is not here")
    records = read_reading(file)
    assert len(records) == count
    for record in records:
        for span in record["spans"]:
            assert record["passages"][span["passage"]][span["start"] : span["end"]] in record["answers"]
