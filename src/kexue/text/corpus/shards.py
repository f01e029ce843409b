"""Tokenised corpora as memory-mapped files.

    folder/manifest.json                  written last: without it the folder is not finished
    folder/<corpus>/<train or valid>/
        tokens.bin       uint16, or uint32 where the vocabulary has more than 65,536 tokens
        word_starts.bin  uint8, 1 where a word starts
        parts.bin        int64, where each part ends in tokens
        documents.bin    int64, where each document ends in parts

All numbers are little-endian. No file holds a time or a path: the same corpora give the same bytes.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from kexue.errors import CheckpointError, ConfigError

__all__ = ["FILES", "SPLITS", "Shards", "Split", "open_shards"]

FORMAT = "kexue-shards"
VERSION = 1
SPLITS = ("train", "valid")
FILES = ("tokens", "word_starts", "parts", "documents")
MANIFEST = "manifest.json"


@dataclass(frozen=True, eq=False)
class Split:
    """Documents as flat arrays; from `Shards.split` they are memory-mapped and read-only.

    Attributes:
        tokens: ``(N,)`` ids.
        word_starts: ``(N,)`` bool, true at the first token of each word.
        part_offsets: ``(P + 1,)`` int64: part p is ``tokens[part_offsets[p] : part_offsets[p + 1]]``.
        document_offsets: ``(D + 1,)`` int64: document d consists of the parts ``document_offsets[d]`` up to
            ``document_offsets[d + 1]``.
        name: for messages.
    """

    tokens: np.ndarray
    word_starts: np.ndarray
    part_offsets: np.ndarray
    document_offsets: np.ndarray
    name: str = ""

    def __len__(self) -> int:
        return len(self.document_offsets) - 1

    def document(self, index: int) -> list[np.ndarray]:
        """The tokens of each part of a document."""
        first, last = self.document_offsets[index : index + 2]
        limits = self.part_offsets[first : last + 1]
        return [self.tokens[a:b] for a, b in pairwise(limits)]


class Shards:
    """Tokenised corpora in a folder, see `open_shards`.

    Attributes:
        folder: where they are.
        manifest: counts, checksums and the settings they were made with.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest

    @property
    def names(self) -> tuple[str, ...]:
        """The corpora."""
        return tuple(self.manifest["corpora"])

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and of every file's checksum: equal exactly when the data is equal."""
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()

    @property
    def vocabulary_sha256(self) -> str:
        """Of the tokens in order, see `vocabulary_hash`."""
        return str(self.manifest["settings"]["vocabulary_sha256"])

    def counts(self, name: str, split: str = "train") -> dict[str, Any]:
        """``documents, parts, tokens, words, characters, unknown`` of a split; ``unknown`` counts tokens."""
        return dict(self._split(name, split)["counts"])

    def split(self, name: str, split: str = "train") -> Split:
        """The documents of one corpus, memory-mapped.

        Raises:
            ConfigError: no such corpus or split.
        """
        self._split(name, split)
        arrays = {
            kind: _map(self.folder / name / split / f"{kind}.bin", dtype)
            for kind, dtype in dtypes(self.manifest["settings"]["vocabulary_size"]).items()
        }
        return Split(
            arrays["tokens"],
            arrays["word_starts"].view(bool),
            arrays["parts"],
            arrays["documents"],
            name=f"{name}/{split}",
        )

    def _split(self, name: str, split: str) -> Any:
        if name not in self.manifest["corpora"] or split not in SPLITS:
            raise ConfigError(f"no split {name!r}/{split!r}. There are: {', '.join(self.names)}; train and valid")
        return self.manifest["corpora"][name]["splits"][split]

    def __repr__(self) -> str:
        sizes = [f"{name} {self.counts(name)['tokens']:,}" for name in self.names]
        return f"Shards({str(self.folder)!r}, training tokens: {', '.join(sizes)})"


def open_shards(folder: str | os.PathLike[str], *, verify: bool = False) -> Shards:
    """Open what `build_shards` wrote.

    Args:
        folder: the folder.
        verify: read every file and compare checksums; otherwise sizes and the last offsets are compared.

    Raises:
        CheckpointError: not finished, a file missing, truncated or altered.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        building = (folder / "building.json").is_file()
        hint = "it was not finished; run build_shards again, it goes on where it stopped" if building else "no shards"
        raise CheckpointError(f"{folder}: there is no {MANIFEST}: {hint}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or manifest["version"] != VERSION:
            raise CheckpointError(
                f"{path}: expected {FORMAT} version {VERSION}. Received: {manifest['format']} {manifest['version']}"
            )
        size = manifest["settings"]["vocabulary_size"]
        for name, corpus in manifest["corpora"].items():
            for split in SPLITS:
                _check(folder / name / split, corpus["splits"][split], dtypes(size), verify)
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged ({error!r}). Build the shards again in an empty folder") from None
    return Shards(folder, manifest)


def dtypes(vocabulary_size: int) -> dict[str, np.dtype]:
    """Of each file."""
    token = "<u2" if vocabulary_size <= 1 << 16 else "<u4"
    return {"tokens": np.dtype(token), "word_starts": np.dtype("u1"), "parts": np.dtype("<i8")} | {
        "documents": np.dtype("<i8")
    }


def vocabulary_hash(tokens: list[str]) -> str:
    """SHA-256 of the tokens, each followed by a line end: that of a ``vocab.txt``."""
    return hashlib.sha256("".join(f"{token}\n" for token in tokens).encode("utf-8", "surrogatepass")).hexdigest()


def _map(path: Path, dtype: np.dtype) -> np.ndarray:
    if not path.stat().st_size:  # an empty file cannot be mapped
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, "r")


def _check(folder: Path, entry: Mapping[str, Any], kinds: Mapping[str, np.dtype], verify: bool) -> None:
    counts = entry["counts"]
    for kind, count in (
        ("tokens", counts["tokens"]),
        ("word_starts", counts["tokens"]),
        ("parts", counts["parts"] + 1),
        ("documents", counts["documents"] + 1),
    ):
        path = folder / f"{kind}.bin"
        expected = count * kinds[kind].itemsize
        if not path.is_file():
            raise CheckpointError(f"{path}: missing. Build the shards again in an empty folder")
        if path.stat().st_size != expected:
            raise CheckpointError(
                f"{path}: expected {expected} bytes, found {path.stat().st_size}: cut off or altered. "
                "Build the shards again in an empty folder"
            )
        if verify and checksum(path) != entry["crc32"][kind]:
            raise CheckpointError(f"{path}: the checksum differs: altered. Build the shards again in an empty folder")
    for kind, last in (("parts", counts["tokens"]), ("documents", counts["parts"])):
        array = _map(folder / f"{kind}.bin", kinds[kind])
        if array[0] != 0 or array[-1] != last:
            raise CheckpointError(f"{folder / kind}.bin: does not end at {last}. Build the shards again")


def checksum(path: Path, length: int | None = None) -> int:
    """CRC-32 of the first ``length`` bytes of a file, or of all."""
    value, left = 0, path.stat().st_size if length is None else length
    with open(path, "rb") as file:
        while left and (block := file.read(min(left, 1 << 20))):
            value = zlib.crc32(block, value)
            left -= len(block)
    return value
