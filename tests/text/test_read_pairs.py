"""Readers of pairs: every format gives the same pairs, every mistake names its line."""

import gzip
import json

import pytest

from kexue.errors import ConfigError, DataError
from kexue.text import read_pairs

PAIRS = [{"source": "学而时习之", "target": "学了又按时温习它"}, {"source": "a b", "target": "甲\u2028乙"}]


def json_lines(first, second):
    return "".join(json.dumps({first: p["source"], second: p["target"], "id": 3}) + "\n" for p in PAIRS)


CONTENTS = {
    "a.jsonl": json_lines("source", "target"),
    "b.jsonl": json_lines("text_a", "text_b"),
    "c.json": json.dumps(PAIRS, indent=1),
    "d.tsv": "".join(f"{p['source']}\t{p['target']} \r\n\n" for p in PAIRS),
    "e.tsv": "\ufeff" + "".join(f"to title\t{p['source']}\t{p['target']}\n" for p in PAIRS),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_formats(name, tmp_path):
    (tmp_path / name).write_text(CONTENTS[name], encoding="utf-8", newline="")
    assert read_pairs(tmp_path / name) == PAIRS
    with gzip.open(tmp_path / "train.gz", "wt", encoding="utf-8", newline="") as file:
        file.write(CONTENTS[name])
    assert read_pairs(tmp_path / "train.gz") == PAIRS
    (tmp_path / name).unlink()
    assert read_pairs(tmp_path, split="train") == PAIRS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no pairs"),
        ("\n  \n", "holds no pairs"),
        ("a\tb\nc\n", ":2: expected 2 columns .* Found: 1"),
        ("a\tb\n\n\t d\n", ":3: the source is empty"),
        ("a\t \n", ":1: the target is empty"),
        ("x\ta\tb\nc\td\n", ":2: expected 3 columns"),
        ('{"source": "a", "target": "b"}\n{"source": "a"}\n', ":2: expected the keys .* It has: 'source'"),
        ('{"source": "a", "target": "b"}\n[1]\n', ":2: expected an object"),
        ('{"source": "a", "target": 3}\n', ":1: 'target' must be a string"),
        ('{"source": "a", "target": "b"\n', ":1: not valid JSON"),
        ('{"source": "a", "target": "b"}\n\n{"sou', ":3: not valid JSON"),
        ('[{"source": "a", "target": "b"}', "not closed"),
        ("a\tb\n\udcff\n", ":2: not valid UTF-8"),
    ],
)
def test_mistakes(content, message, tmp_path):
    path = tmp_path / "pairs.data"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=message):
        read_pairs(path)


def test_wrong_arguments(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_pairs(tmp_path / "none")
    with pytest.raises(ConfigError, match="format"):
        read_pairs(tmp_path / "none", "csv")
