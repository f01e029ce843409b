"""Shards: contents, held-out documents, resuming after a kill, damage."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.text.corpus.conftest import make_documents, write_txt

from kexue.errors import CheckpointError, ConfigError, DataError
from kexue.text.corpus import Corpus, build_shards, held_out, open_shards, read_corpus
from kexue.text.corpus.shards import FILES


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ids(tokenizer, text):
    return tokenizer.with_literal_text().plain_pieces([text])[0].ids


def test_every_document_is_there_once(shards, tokenizer):
    """Against tokenising each part of each document by itself."""
    for name in shards.names:
        suffix = "tsv" if name == "pairs" else "txt"
        documents = list(read_corpus(shards.folder.parent / f"{name}.{suffix}"))
        for split in ("train", "valid"):
            kept = [
                document
                for number, document in enumerate(documents)
                if held_out(0, name, number, 0.1) == (split == "valid")
            ]
            found = shards.split(name, split)
            assert len(found) == len(kept)
            for number, document in enumerate(kept):
                parts = found.document(number)
                assert [part.tolist() for part in parts] == [ids(tokenizer, part) for part in document]
            counts = shards.counts(name, split)
            assert counts["documents"] == len(kept)
            assert counts["parts"] == sum(map(len, kept)) == len(found.part_offsets) - 1
            assert counts["characters"] == sum(len(part) for document in kept for part in document)
            assert counts["tokens"] == len(found.tokens) == len(found.word_starts)
            assert counts["unknown"] == int((found.tokens == tokenizer.unk_id).sum())
            starts = [not tokenizer.id_to_token(i).startswith("##") for i in found.tokens.tolist()]
            assert counts["words"] == sum(starts)
            assert found.word_starts.tolist() == starts
            assert found.word_starts.dtype == bool
            assert found.tokens.dtype == np.uint16
            assert isinstance(found.tokens, np.memmap)
            assert not found.tokens.flags.writeable


def test_held_out_documents_never_change(tokenizer, tmp_path):
    """Another tokenizer and a longer corpus keep them; another seed or name does not."""
    chosen = [i for i in range(2000) if held_out(7, "c", i, 0.05)]
    assert 60 < len(chosen) < 140  # 100 expected, 9.7 the standard deviation
    assert [i for i in range(2000) if held_out(8, "c", i, 0.05)] != chosen
    assert [i for i in range(2000) if held_out(7, "d", i, 0.05)] != chosen
    assert set(chosen) < {i for i in range(2000) if held_out(7, "c", i, 0.1)}
    documents = make_documents(400)
    texts = []
    for count in (200, 400):
        path = write_txt(tmp_path / f"{count}.txt", documents[:count])
        shards = build_shards({"c": path}, tokenizer, tmp_path / f"s{count}", holdout=0.2, progress=False)
        valid = shards.split("c", "valid")
        texts.append([[part.tolist() for part in valid.document(i)] for i in range(len(valid))])
    assert texts[1][: len(texts[0])] == texts[0]


def test_uint32_for_large_vocabularies(tmp_path):
    from kexue.text import Tokenizer

    size = (1 << 16) + 5
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(size - 6)), "终"]
    path = write_txt(tmp_path / "a.txt", [["终 w3"]])
    shards = build_shards({"c": path}, Tokenizer.from_vocab(tokens), tmp_path / "s", holdout=0, progress=False)
    assert shards.split("c").tokens.dtype == np.uint32
    assert shards.split("c").tokens.tolist() == [size - 1, 8]


def test_documents_without_tokens_are_left_out(tokenizer, tmp_path):
    path = write_txt(tmp_path / "a.txt", [["中"], ["\u200b"], ["国", "\u200b", "好"]])
    split = build_shards({"c": path}, tokenizer, tmp_path / "s", holdout=0, progress=False).split("c")
    assert [[len(part) for part in split.document(i)] for i in range(len(split))] == [[1], [1, 0, 1]]


SCRIPT = """
import os, signal, sys
from pathlib import Path
from kexue.text import Tokenizer
from kexue.text.corpus import Corpus, build_shards, building
left, sync = int(sys.argv[1]), os.fsync
def fsync(handle):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(handle)
os.fsync = fsync
building._CHUNK = 700
root = Path(sys.argv[2])
corpora = {"a": root / "a.txt", "b": Corpus(root / "b.txt")}
tokenizer = Tokenizer.from_pretrained(root / "tokenizer")
build_shards(corpora, tokenizer, root / sys.argv[3], holdout=0.1, shard_tokens=4000, progress=False)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_and_resumed(tokenizer, tmp_path):
    """Kills between any two writes to the disk: the same bytes in the end."""
    write_txt(tmp_path / "a.txt", make_documents(300, 5))
    write_txt(tmp_path / "b.txt", make_documents(100, 6))
    tokenizer.save(tmp_path / "tokenizer")

    def run(kill_after, folder):
        command = [sys.executable, "-c", SCRIPT, str(kill_after), str(tmp_path), folder]
        return subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})

    assert run(-1, "whole").returncode == 0
    expected = contents(tmp_path / "whole")
    assert set(expected) == {
        "manifest.json",
        *(f"{c}/{split}/{kind}.bin" for c in "ab" for split in ("train", "valid") for kind in FILES),
    }
    killed = 0
    # The first round dies in the journal, others within or after a flush of 8 files, with more and more progress.
    for kill_after in (1, 5, 13, 10, 12, 19, 28, 11, 37, -1):
        if run(kill_after, "killed").returncode:
            killed += 1
            with pytest.raises(CheckpointError, match=r"not finished|no shards"):
                open_shards(tmp_path / "killed")
    assert killed >= 6
    assert contents(tmp_path / "killed") == expected
    open_shards(tmp_path / "killed", verify=True)


def test_same_bytes_for_any_chunks_and_processes(tokenizer, tmp_path, monkeypatch):
    path = write_txt(tmp_path / "a.txt", make_documents(60, 5))
    whole = build_shards({"c": path}, tokenizer, tmp_path / "1", progress=False)
    monkeypatch.setattr("kexue.text.corpus.building._CHUNK", 100)
    many = build_shards({"c": path}, tokenizer, tmp_path / "2", progress=False, shard_tokens=1, processes=2)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert whole.fingerprint == many.fingerprint
    other = build_shards({"c": path}, tokenizer, tmp_path / "3", progress=False, seed=1)
    assert other.fingerprint != whole.fingerprint
    with pytest.raises(ConfigError, match="must be one of a module"):
        build_shards({"c": path}, tokenizer, tmp_path / "4", words=lambda text: [text], processes=2)


def test_a_process_that_dies(tokenizer, tmp_path, monkeypatch):
    """Is told with what to do; the build goes on afterwards."""
    path = write_txt(tmp_path / "a.txt", make_documents(20))
    with monkeypatch.context() as patch:
        patch.setattr("kexue.text.corpus.building._start_worker", os._exit)
        with pytest.raises(DataError, match="one of the 2 processes that tokenise died"):
            build_shards({"c": path}, tokenizer, tmp_path / "s", progress=False, processes=2)
    build_shards({"c": path}, tokenizer, tmp_path / "s", progress=False)


def test_finished_is_finished(tokenizer, tmp_path):
    """A second call does nothing; other settings or a changed corpus are refused."""
    path = write_txt(tmp_path / "a.txt", make_documents(30))
    folder = tmp_path / "s"
    build_shards({"c": path}, tokenizer, folder, progress=False)
    times = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    build_shards({"c": path}, tokenizer, folder, progress=False)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == times
    with pytest.raises(DataError, match=r"other settings \(seed\)"):
        build_shards({"c": path}, tokenizer, folder, seed=3)
    with pytest.raises(DataError, match="vocabulary"):
        build_shards({"c": path}, tokenizer.with_vocabulary([*tokenizer.vocabulary, "新"]), folder)
    path.write_text(path.read_text() + "more")
    with pytest.raises(DataError, match=r"other settings \(sources\)"):
        build_shards({"c": path}, tokenizer, folder)


@pytest.fixture
def small(tokenizer, tmp_path):
    path = write_txt(tmp_path / "a.txt", make_documents(40))
    return build_shards({"c": path}, tokenizer, tmp_path / "s", holdout=0.2, progress=False).folder


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("kind", FILES)
def test_damage_is_found(small, split, kind):
    path = small / "c" / split / f"{kind}.bin"
    data = path.read_bytes()
    for broken in (data[:-1], data + b"\0" * 8, b""):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match=f"{kind}.bin: expected {len(data)} bytes"):
            open_shards(small)
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(CheckpointError, match=f"{kind}.bin"):
        open_shards(small, verify=True)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{kind}.bin: missing"):
        open_shards(small)


@given(st.data())
def test_damaged_manifest(shards, tmp_path_factory, data):
    text = (shards.folder / "manifest.json").read_text(encoding="utf-8")
    cut = data.draw(st.integers(0, len(text) - 1))
    folder = tmp_path_factory.mktemp("m")
    (folder / "manifest.json").write_text(text[:cut], encoding="utf-8")
    with pytest.raises(CheckpointError, match="damaged"):
        open_shards(folder)


def test_other_version(small):
    path = small / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    with pytest.raises(CheckpointError, match="expected kexue-shards version 1"):
        open_shards(small)


def test_altered_while_stopped(tokenizer, tmp_path, monkeypatch):
    """A file changed between two runs of a build is not built upon."""
    path = write_txt(tmp_path / "a.txt", make_documents(200))
    original, calls = os.fsync, iter(range(14))

    def fsync(handle):
        if next(calls, None) is None:
            raise OSError("the disk is full")
        original(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr("kexue.text.corpus.building._CHUNK", 500)
    with pytest.raises(OSError, match="full"):
        build_shards({"c": path}, tokenizer, tmp_path / "s", shard_tokens=500, progress=False)
    monkeypatch.setattr(os, "fsync", original)
    tokens = tmp_path / "s" / "c" / "train" / "tokens.bin"
    data = tokens.read_bytes()
    tokens.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(DataError, match=r"tokens.bin: was altered"):
        build_shards({"c": path}, tokenizer, tmp_path / "s", shard_tokens=500, progress=False)
    tokens.write_bytes(data)
    build_shards({"c": path}, tokenizer, tmp_path / "s", shard_tokens=500, progress=False)
    open_shards(tmp_path / "s", verify=True)


def test_wrong_arguments(tokenizer, tmp_path, shards):
    path = write_txt(tmp_path / "a.txt", [["中"]])
    for corpora in ({}, [path], {"../up": path}, {"": path}, {"a/b": path}):
        with pytest.raises(ConfigError):
            build_shards(corpora, tokenizer, tmp_path / "s")
    for wrong in ({"holdout": 1}, {"shard_tokens": 0}, {"processes": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            build_shards({"c": path}, tokenizer, tmp_path / "s", **wrong)
    with pytest.raises(DataError, match="is not empty"):
        build_shards({"c": path}, tokenizer, tmp_path)
    empty = write_txt(tmp_path / "e.txt", [])
    with pytest.raises(DataError, match="has no documents"):
        build_shards({"c": Corpus(empty)}, tokenizer, tmp_path / "s")
    with pytest.raises(CheckpointError, match="no shards"):
        open_shards(Path(tmp_path))
    for name, split in (("none", "train"), ("long", "test")):
        with pytest.raises(ConfigError, match="There are: long, short, pairs"):
            shards.split(name, split)
