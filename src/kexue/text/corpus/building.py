"""Building shards: corpora in, memory-mapped files out, resumable after a kill at any moment.

Files only ever grow at their ends. Every ``shard_tokens`` tokens they are flushed to the disk, and then
``building.json`` notes (atomically) how long each file is and how many documents it holds; a build that starts again
cuts the files to those lengths and skips those documents. So the result is the same bytes however often it stopped.
"""

import hashlib
import json
import os
import pickle
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from kexue.errors import ConfigError, DataError
from kexue.files import atomic_write
from kexue.text.corpus.encoding import Encoded, Encoder
from kexue.text.corpus.progress import Progress
from kexue.text.corpus.readers import Document, Fields, corpus_files, read_corpus
from kexue.text.corpus.shards import (
    FILES,
    FORMAT,
    MANIFEST,
    SPLITS,
    VERSION,
    Shards,
    checksum,
    dtypes,
    open_shards,
    vocabulary_hash,
)
from kexue.text.tokenizer import Tokenizer

__all__ = ["Corpus", "build_shards", "held_out"]

JOURNAL = "building.json"
_CHUNK = 1 << 18  # characters encoded at once
_NAME = re.compile(r"\w[\w.-]*")
State = dict[str, Any]


@dataclass(frozen=True)
class Corpus:
    """A corpus and how to read it: the arguments of `read_corpus`."""

    path: str | os.PathLike[str]
    format: str = "auto"
    text_fields: Fields = None


def build_shards(
    corpora: Mapping[str, str | os.PathLike[str] | Corpus],
    tokenizer: Tokenizer,
    folder: str | os.PathLike[str],
    *,
    holdout: float = 0.005,
    seed: int = 0,
    words: Callable[[str], Sequence[str]] | str | None = None,
    shard_tokens: int = 1 << 24,
    processes: int = 1,
    progress: bool = True,
) -> Shards:
    """Tokenise corpora into memory-mapped files.

    If the folder holds the same build unfinished, it goes on; if it is finished, nothing is done.

    Args:
        corpora: name of each corpus and its path, or a `Corpus`.
        tokenizer: its special tokens are never taken from the text.
        folder: where to write.
        holdout: share of the documents that go to the split ``"valid"``. Which ones depends on the seed, the
            corpus's name and the document's number only: a longer corpus or another tokenizer keeps them.
        seed: of that choice.
        words: where words start, for whole-word masking: see `Encoder`. None: an ideograph is a word.
        shard_tokens: tokens between two points from which a stopped build can go on.
        processes: encode in this many processes (worth it with ``words="jieba"``); the result does not depend on it.
        progress: show progress on a terminal.

    Raises:
        ConfigError: an argument that cannot work.
        DataError: a corpus that cannot be read, a folder with other shards in it, or a process that was killed.
    """
    _check_arguments(corpora, holdout, shard_tokens, processes)
    folder = Path(folder)
    sources = {name: item if isinstance(item, Corpus) else Corpus(item) for name, item in corpora.items()}
    settings = {
        "vocabulary_sha256": vocabulary_hash(tokenizer.vocabulary),
        "vocabulary_size": len(tokenizer),
        "tokenizer_sha256": hashlib.sha256(tokenizer._rust.to_str().encode()).hexdigest(),
        "holdout": holdout,
        "seed": seed,
        "words": words if words is None or isinstance(words, str) else _name_of(words),
        "sources": {name: _source(item) for name, item in sources.items()},
    }
    journal = folder / JOURNAL
    for name in (JOURNAL, MANIFEST):  # what a kill within an atomic write leaves
        for leftover in folder.glob(f".{name}.*.tmp"):
            leftover.unlink()
    if (folder / MANIFEST).exists():
        done = open_shards(folder)
        _same(settings, done.manifest["settings"], folder)
        journal.unlink(missing_ok=True)
        return done
    state: State = {"settings": settings, "corpora": {}}
    if journal.exists():
        state = json.loads(journal.read_text(encoding="utf-8"))
        _same(settings, state["settings"], folder)
    elif folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty and holds no shards. Give another folder")

    def save() -> None:
        with atomic_write(journal) as temporary:
            temporary.write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")

    save()
    with Progress(progress) as shown, _Encoding(tokenizer, words, processes) as encode:
        for name, source in sources.items():
            entry = state["corpora"].setdefault(name, {"finished": False, "read": 0, "splits": _no_splits()})
            if not entry["finished"]:
                with _Writer(folder / name, entry, len(tokenizer), tokenizer.unk_id) as writer:
                    shown.start(name, entry["read"])
                    for documents, encoded in encode(_chunks(source, entry["read"])):
                        writer.add(documents, encoded, _held_out(documents, writer.read, name, seed, holdout))
                        shown.advance(len(documents), len(encoded.tokens))
                        if writer.waiting >= shard_tokens:
                            writer.flush()
                            save()
                    writer.flush()
                if not entry["read"]:
                    raise DataError(f"the corpus {name!r} ({source.path}) has no documents")
                entry["finished"] = True
                save()
    manifest = {"format": FORMAT, "version": VERSION, "settings": settings, "corpora": {}}
    manifest["corpora"] = {
        name: {"documents": state["corpora"][name]["read"], "splits": state["corpora"][name]["splits"]}
        for name in sources
    }
    with atomic_write(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, ensure_ascii=False, indent=1), encoding="utf-8")
    journal.unlink()
    return open_shards(folder)


def held_out(seed: int, corpus: str, document: int, share: float) -> bool:
    """Whether a document belongs to the held-out split: a hash of the first three, below ``share``."""
    digest = hashlib.blake2b(f"{seed}/{corpus}/{document}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * 2.0**64


def _held_out(documents: list[Document], first: int, name: str, seed: int, holdout: float) -> np.ndarray:
    return np.array([held_out(seed, name, first + i, holdout) for i in range(len(documents))], bool)


def _chunks(source: Corpus, skip: int) -> Iterator[list[Document]]:
    reader = read_corpus(source.path, format=source.format, text_fields=source.text_fields)
    chunk: list[Document] = []
    size = 0
    for document in islice(reader, skip, None):
        chunk.append(document)
        size += sum(map(len, document))
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


_worker: Encoder | None = None


def _start_worker(tokenizer: Tokenizer, words: Any) -> None:
    global _worker  # noqa: PLW0603  one encoder a process, with its tables of words seen
    _worker = Encoder(tokenizer, words)


def _work(documents: list[Document]) -> Encoded:
    assert _worker is not None
    return _worker([part for document in documents for part in document])


class _Encoding:
    """Encodes chunks in this process or in others, in order and with few chunks under way."""

    def __init__(self, tokenizer: Tokenizer, words: Any, processes: int) -> None:
        self.processes = processes
        self._pool: ProcessPoolExecutor | None = None
        if processes == 1:
            self._encoder = Encoder(tokenizer, words)
        else:
            Encoder(tokenizer, words)  # its errors belong here, not into a broken pool
            try:
                pickle.dumps(words)
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise ConfigError(
                    f"with processes={processes} the function words must be one of a module, which other processes "
                    f"can import ({error}). Define it there, or give processes=1"
                ) from None
            self._pool = ProcessPoolExecutor(
                processes, get_context("spawn"), initializer=_start_worker, initargs=(tokenizer, words)
            )

    def __enter__(self) -> "_Encoding":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __call__(self, chunks: Iterable[list[Document]]) -> Iterator[tuple[list[Document], Encoded]]:
        if self._pool is None:
            for documents in chunks:
                yield documents, self._encoder([part for document in documents for part in document])
            return
        waiting: deque[tuple[list[Document], Future[Encoded]]] = deque()
        try:
            for documents in chunks:
                waiting.append((documents, self._pool.submit(_work, documents)))
                if len(waiting) > 2 * self.processes:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for documents, future in waiting:
                yield documents, future.result()
        except BrokenProcessPool:
            raise DataError(
                f"one of the {self.processes} processes that tokenise died, mostly because memory ran out. Give fewer; "
                "the build goes on where it stopped."
            ) from None


class _Writer:
    """The files of one corpus, both splits. What was written since the last `flush` may be lost in a crash."""

    def __init__(self, folder: Path, entry: State, vocabulary_size: int, unk_id: int | None) -> None:
        self.entry = entry
        self.read = entry["read"]
        self.waiting = 0
        self._unk = -1 if unk_id is None else unk_id
        self._dtypes = dtypes(vocabulary_size)
        self._state = json.loads(json.dumps(entry["splits"]))
        self._files = {}
        for split in SPLITS:
            (folder / split).mkdir(parents=True, exist_ok=True)
            for kind in FILES:
                path = folder / split / f"{kind}.bin"
                path.touch()
                length = entry["splits"][split]["bytes"][kind]
                if path.stat().st_size < length or checksum(path, length) != entry["splits"][split]["crc32"][kind]:
                    raise DataError(f"{path}: was altered since the build stopped. Delete the folder and start anew")
                file = open(path, "r+b")  # noqa: SIM115  closed in __exit__
                file.truncate(length)
                file.seek(length)
                self._files[split, kind] = file
                if kind in ("parts", "documents") and not length:
                    self._append(split, kind, np.zeros(1, "int64"))

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def add(self, documents: list[Document], encoded: Encoded, held_out: np.ndarray) -> None:
        """Append documents; those without any token are left out."""
        parts = np.fromiter(map(len, documents), "int64", len(documents))
        of_part = np.repeat(np.arange(len(documents)), parts)
        tokens = np.bincount(of_part, encoded.sizes, len(documents)).astype("int64")
        lengths = np.fromiter((len(part) for document in documents for part in document), "int64", len(of_part))
        characters = np.bincount(of_part, lengths, len(documents))
        for split in SPLITS:
            keep = (held_out == (split == "valid")) & (tokens > 0)
            if not keep.any():
                continue
            keep_part = keep[of_part]
            keep_token = np.repeat(keep_part, encoded.sizes)
            ids, starts = encoded.tokens[keep_token], encoded.word_starts[keep_token]
            counts = self._state[split]["counts"]
            self._append(split, "parts", counts["tokens"] + np.cumsum(encoded.sizes[keep_part]))
            self._append(split, "documents", counts["parts"] + np.cumsum(parts[keep]))
            self._append(split, "tokens", ids)
            self._append(split, "word_starts", starts)
            for kind, value in (
                ("documents", keep.sum()),
                ("parts", keep_part.sum()),
                ("tokens", len(ids)),
                ("words", starts.sum()),
                ("characters", characters[keep].sum()),
                ("unknown", (ids == self._unk).sum()),
            ):
                counts[kind] += int(value)
        self.read += len(documents)
        self.waiting += len(encoded.tokens)

    def flush(self) -> None:
        """Bring everything to the disk and into ``entry``, which the caller then saves."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self.entry["splits"] = json.loads(json.dumps(self._state))
        self.entry["read"] = self.read
        self.waiting = 0

    def _append(self, split: str, kind: str, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values, self._dtypes[kind]).tobytes()
        self._files[split, kind].write(data)
        state = self._state[split]
        state["bytes"][kind] += len(data)
        state["crc32"][kind] = zlib.crc32(data, state["crc32"][kind])


def _no_splits() -> State:
    counts = ("documents", "parts", "tokens", "words", "characters", "unknown")
    return {
        split: {"counts": dict.fromkeys(counts, 0), "bytes": dict.fromkeys(FILES, 0), "crc32": dict.fromkeys(FILES, 0)}
        for split in SPLITS
    }


def _check_arguments(corpora: Mapping[str, Any], holdout: float, shard_tokens: int, processes: int) -> None:
    if not isinstance(corpora, Mapping) or not corpora:
        raise ConfigError(f"corpora must be a mapping of names to paths. Received: {corpora!r:.80}")
    bad = [name for name in corpora if not isinstance(name, str) or not _NAME.fullmatch(name)]
    if bad:
        raise ConfigError(f"a corpus's name becomes a folder: letters, digits, '_', '.', '-'. Received: {bad[0]!r}")
    if not 0 <= holdout < 1:
        raise ConfigError(f"holdout must lie in [0, 1). Received: holdout={holdout}")
    for name, value in (("shard_tokens", shard_tokens), ("processes", processes)):
        if value < 1:
            raise ConfigError(f"{name} must be positive. Received: {name}={value}")


def _name_of(words: Callable[..., Any]) -> str:
    return f"{getattr(words, '__module__', '')}.{getattr(words, '__qualname__', type(words).__qualname__)}"


def _source(corpus: Corpus) -> State:
    """What tells a corpus from another one without reading it: names, sizes and ends of its files."""
    files = []
    for path in corpus_files(corpus.path, corpus.format):
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(1 << 16)
            file.seek(max(0, size - (1 << 16)))
            ends = zlib.crc32(file.read(), zlib.crc32(head))
        files.append({"name": path.name, "bytes": size, "crc32_of_ends": ends})
    fields = None if corpus.text_fields is None else list(corpus.text_fields)
    return {"format": corpus.format, "text_fields": fields, "files": files}


def _same(wanted: State, found: State, folder: Path) -> None:
    different = [key for key in wanted if json.loads(json.dumps(wanted[key])) != found.get(key)]
    if different or list(wanted["sources"]) != list(found["sources"]):
        raise DataError(
            f"{folder}: holds shards made with other settings ({', '.join(different) or 'order of corpora'}). "
            "Give another folder, or delete this one"
        )
