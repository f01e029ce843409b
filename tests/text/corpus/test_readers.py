"""Reading corpora: formats, compression, folders, errors with places, constant memory."""

import gzip
import json
import lzma
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexue.errors import ConfigError, DataError
from kexue.text.corpus import read_corpus

OPENERS = {"": open, ".gz": gzip.open, ".xz": lzma.open}
parts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\t"), min_size=1).map(str.strip)
documents = st.lists(st.lists(parts.filter(bool), min_size=1, max_size=4), max_size=6)


def write(path, text):
    with OPENERS[path.suffix if path.suffix in OPENERS else ""](path, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("packing", OPENERS)
@given(documents=documents)
def test_text_round_trip(tmp_path_factory, packing, documents):
    """Line separators such as U+2028 or U+0085 inside a line do not end it."""
    path = tmp_path_factory.mktemp("c") / f"a.txt{packing}"
    write(path, "\n\n\n".join("\n".join(document) for document in documents))
    assert list(read_corpus(path)) == documents


def test_text_details(tmp_path):
    path = write(tmp_path / "a.txt", "\ufeff\n 一 \r\n二\r\n  \r\n三".encode())
    assert list(read_corpus(path)) == [["一", "二"], ["三"]]
    assert list(read_corpus(write(tmp_path / "empty.txt", b""))) == []


def test_json_lines(tmp_path):
    rows = [
        {"text": "一\n二\n"},
        {"text": ["三", " 四 ", ""]},
        {"kind": "唐诗", "title": "静夜思", "author": "李白", "lines": ["床前明月光", "疑是地上霜"]},
        {"text": ""},
    ]
    path = write(tmp_path / "a.jsonl.xz", "\n".join(json.dumps(row) for row in rows) + "\n\n")
    assert list(read_corpus(path)) == [["一", "二"], ["三", "四"], ["静夜思", "李白", "床前明月光", "疑是地上霜"]]
    poem = write(tmp_path / "b.jsonl", json.dumps(rows[2]))
    assert list(read_corpus(poem, text_fields=["kind", "lines"])) == [["唐诗", "床前明月光", "疑是地上霜"]]


def test_columns(tmp_path):
    path = write(tmp_path / "a.tsv.gz", "古\t今\n\n甲\t乙\n")
    assert list(read_corpus(path)) == [["古", "今"], ["甲", "乙"]]
    assert list(read_corpus(path, text_fields=[1])) == [["今"], ["乙"]]


def test_folders_and_patterns(tmp_path):
    (tmp_path / "deep").mkdir()
    write(tmp_path / "b.txt", "二")
    write(tmp_path / "a.txt.xz", "一")
    write(tmp_path / "deep" / "c.tsv", "三\t四")
    write(tmp_path / "README.md", "no corpus")
    write(tmp_path / ".hidden.txt", "no corpus")
    assert list(read_corpus(tmp_path)) == [["一"], ["二"], ["三", "四"]]
    assert list(read_corpus(str(tmp_path / "*.txt*"))) == [["一"], ["二"]]
    assert list(read_corpus(tmp_path / "README.md", format="txt")) == [["no corpus"]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"good\n\xff\n", r"a\.txt:2: not valid UTF-8"),
        ("a.txt", "中".encode("utf-16"), r"a\.txt:1: the file is UTF-16"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a\.jsonl:2: not valid JSON"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl:1: expected a JSON object"),
        ("a.jsonl", b"\n" + b"[" * 100_000, r"a\.jsonl:2: not valid JSON"),
        ("a.jsonl", b'{"text": 3}\n', r"a\.jsonl:1: the field 'text' must be a string"),
        ("a.jsonl", b'{"body": "x"}\n', r"a\.jsonl:1: none of the fields title, author, lines. There are: body"),
        ("a.tsv", b"a\tb\na\tb\tc\n", r"a\.tsv:2: expected two columns .* found 3"),
        ("a.tsv", b"a\tb\na\n", r"a\.tsv:2: expected two columns .* found 1"),
        ("a.tsv", b"a\tb\na\t \n", r"a\.tsv:2: an empty column"),
        ("a.pdf", b"x", "does not tell the format"),
    ],
)
def test_broken_lines_are_named(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        list(read_corpus(path))


@pytest.mark.parametrize("packing", [".gz", ".xz"])
def test_truncated_archive(tmp_path, packing):
    whole = write(tmp_path / f"a.txt{packing}", "\n".join(str(i**5) for i in range(20_000)))
    whole.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(DataError, match="is the file complete"):
        list(read_corpus(whole))


def test_wrong_arguments(tmp_path):
    path = write(tmp_path / "a.txt", "x")
    tsv = write(tmp_path / "a.tsv", "x\ty")
    with pytest.raises(ConfigError, match="format must be"):
        read_corpus(path, format="csv")
    with pytest.raises(ConfigError, match="has no fields"):
        read_corpus(path, text_fields=["text"])
    with pytest.raises(ConfigError, match="numbers of columns"):
        read_corpus(tsv, text_fields=["text"])
    with pytest.raises(ConfigError, match="must be a list"):
        read_corpus(tsv, text_fields="text")
    with pytest.raises(DataError, match="no column 2"):
        list(read_corpus(tsv, text_fields=[2]))
    with pytest.raises(DataError, match="no such file"):
        read_corpus(tmp_path / "none.txt")
    with pytest.raises(DataError, match="no file of a known format"):
        read_corpus(tmp_path / "none*.txt")


def test_memory_stays_constant(tmp_path):
    """60 MB without a blank line in a compressed file need far less than that."""
    path = write(tmp_path / "a.txt.xz", ("abcdefghi" * 110 + "\n") * 60_000)
    tracemalloc.start()
    size = sum(len(part) for document in read_corpus(path) for part in document)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == 60_000 * 990
    assert peak < 15e6
