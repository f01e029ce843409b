"""Documents of a corpus, one after another: text, JSON lines and columns, plain or compressed.

A document is a list of parts: paragraphs, sentences, verses, or the two sides of a pair. Nothing is read further
ahead than one document, so the memory needed does not grow with the corpus.
"""

import glob as globbing
import gzip
import io
import json
import lzma
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from kexue.errors import ConfigError, DataError

__all__ = ["CORPUS_FORMATS", "POETRY_FIELDS", "Document", "corpus_files", "read_corpus"]

Document = list[str]
CORPUS_FORMATS = ("txt", "jsonl", "tsv")
POETRY_FIELDS = ("title", "author", "lines")
_PACKED = (".gz", ".xz", ".lzma", ".zst")
_LONGEST_LINE = 1 << 26  # bytes: a longer one is hardly text, and would have to be held in memory
_LONGEST_DOCUMENT = 1 << 20  # characters: longer ones are given in several, so that memory stays bounded
Fields = Sequence[str] | Sequence[int] | None


def read_corpus(
    path: str | os.PathLike[str], *, format: str = "auto", text_fields: Fields = None
) -> Iterator[Document]:
    """Read the documents of a corpus one by one.

    Formats (``"auto"`` goes by the name without ``.gz``, ``.xz``, ``.lzma``, ``.zst``):

    - ``"txt"``: a line is a part, blank lines separate documents;
    - ``"jsonl"`` (also ``.json``, ``.ndjson``): a line is an object and a document. Its parts are the lines of the
      fields named by ``text_fields``; a field is a string (cut at line ends), a list of strings, or absent. Default:
      ``text`` where there is one, else ``title``, ``author`` and ``lines`` (poems);
    - ``"tsv"``: a line is a document; its columns are the parts. Default: exactly two, a pair.

    Args:
        path: a file, a folder (all files below it whose name tells their format, by name), or a pattern such as
            ``"books/*.txt.xz"``.
        format: one of the above for all files.
        text_fields: names for JSON lines; column numbers from 0 for TSV.

    Yields:
        Non-empty lists of strings without surrounding white space. A text document of more than 2^20 characters
        comes as several.

    Raises:
        DataError: no file, a damaged one, or a line that is not what the format says; with file and line.
        ConfigError: unknown format, or fields of the wrong kind.
    """
    if format not in ("auto", *CORPUS_FORMATS):
        raise ConfigError(f"format must be 'auto', 'txt', 'jsonl' or 'tsv'. Received: format={format!r}")
    if isinstance(text_fields, str):
        raise ConfigError(f"text_fields must be a list. Received: text_fields={text_fields!r}")
    files = [(file, _format_of(file, format, text_fields)) for file in corpus_files(path, format)]
    return _documents(files, text_fields)


def corpus_files(path: str | os.PathLike[str], format: str = "auto") -> list[Path]:
    """The files that `read_corpus` reads, in its order.

    Raises:
        DataError: there are none.
    """
    place = Path(path)
    if place.is_dir():
        found = [file for file in place.rglob("*") if file.is_file() and not file.name.startswith(".")]
        found = [file for file in found if _guess(file) is not None]
    elif place.is_file():
        found = [place]
    elif globbing.has_magic(str(path)):
        found = [Path(name) for name in globbing.glob(str(path), recursive=True) if Path(name).is_file()]
    else:
        raise DataError(f"{path}: no such file or folder")
    if not found:
        raise DataError(f"{path}: no file of a known format (.txt, .jsonl, .tsv, also compressed) found there")
    return sorted(found)


def _guess(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    return {".txt": "txt", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".tsv": "tsv"}.get(last)


def _format_of(path: Path, format: str, text_fields: Fields) -> str:
    kind = _guess(path) if format == "auto" else format
    if kind is None:
        raise DataError(f"{path}: the name does not tell the format. Give format='txt', 'jsonl' or 'tsv'")
    wanted = {"jsonl": str, "tsv": int}.get(kind)
    if text_fields is not None:
        if wanted is None:
            raise ConfigError(f"text_fields={list(text_fields)!r}: {path} is plain text and has no fields")
        if not text_fields or not all(isinstance(f, wanted) and not isinstance(f, bool) for f in text_fields):
            names = "names of fields" if wanted is str else "numbers of columns"
            raise ConfigError(f"text_fields must be {names} for {path}. Received: text_fields={list(text_fields)!r}")
    return kind


def _documents(files: list[tuple[Path, str]], text_fields: Fields) -> Iterator[Document]:
    readers: dict[str, Callable[..., Iterator[Document]]] = {"txt": _text, "jsonl": _json_lines, "tsv": _columns}
    for path, kind in files:
        yield from readers[kind](path, text_fields)


def _open(path: Path) -> BinaryIO:
    """By the first bytes, since names lie."""
    with open(path, "rb") as file:
        head = file.read(6)
    if head[:2] == b"\x1f\x8b":
        return io.BufferedReader(gzip.open(path, "rb"), 1 << 20)
    if head == b"\xfd7zXZ\x00" or path.suffix == ".lzma":
        return io.BufferedReader(lzma.open(path, "rb"), 1 << 20)
    if head[:4] == b"\x28\xb5\x2f\xfd":
        try:
            import zstandard
        except ImportError:
            raise ConfigError(f"{path}: needs the package zstandard: pip install zstandard") from None
        return io.BufferedReader(zstandard.open(path, "rb"), 1 << 20)
    return open(path, "rb", buffering=1 << 20)


def _damage() -> tuple[type[BaseException], ...]:
    try:
        import zstandard
    except ImportError:
        return (OSError, EOFError, zlib.error, lzma.LZMAError)
    return (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Numbered lines; only ``\n`` and ``\r\n`` end one."""
    number = 0
    try:
        with _open(path) as file:
            while raw := file.readline(_LONGEST_LINE + 1):
                number += 1
                if len(raw) > _LONGEST_LINE:
                    raise DataError(f"{path}:{number}: a line of more than {_LONGEST_LINE >> 20} MiB. Is this text?")
                if number == 1:
                    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
                        raise DataError(f"{path}:1: the file is UTF-16. Convert it to UTF-8")
                    raw = raw.removeprefix(b"\xef\xbb\xbf")
                yield number, str(raw, "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: not valid UTF-8 (byte {error.start} of the line). Convert the file to UTF-8"
        ) from None
    except _damage() as error:
        raise DataError(f"{path}: cannot be read beyond line {number}, is the file complete? ({error})") from None


def _text(path: Path, _: Fields) -> Iterator[Document]:
    document: Document = []
    size = 0
    for _number, line in _lines(path):
        part = line.strip()
        if part:
            document.append(part)
            size += len(part)
        if document and (not part or size >= _LONGEST_DOCUMENT):
            yield document
            document, size = [], 0
    if document:
        yield document


def _json_lines(path: Path, fields: Fields) -> Iterator[Document]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            raise DataError(f"{place}: not valid JSON ({reason}). Each line must be one JSON object") from None
        if not isinstance(value, dict):
            raise DataError(f"{place}: expected a JSON object. Received: {type(value).__name__}")
        names = fields if fields is not None else ("text",) if "text" in value else POETRY_FIELDS
        document = [part for name in names for part in _parts(value.get(name), place, str(name))]
        if document:
            yield document
        elif not any(name in value for name in names):
            raise DataError(
                f"{place}: none of the fields {', '.join(map(str, names))}. There are: {', '.join(value) or 'none'}. "
                "Name the ones with text: text_fields=[...]"
            )


def _parts(value: Any, place: str, name: str) -> list[str]:
    if value is None:
        return []
    lines = value.split("\n") if isinstance(value, str) else value
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise DataError(f"{place}: the field {name!r} must be a string or a list of strings. Received: {value!r:.80}")
    return [part for line in lines if (part := line.strip())]


def _columns(path: Path, fields: Fields) -> Iterator[Document]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        columns = line.split("\t")
        if fields is None:
            if len(columns) != 2:
                raise DataError(
                    f"{path}:{number}: expected two columns (one TAB), found {len(columns)}. "
                    "For other tables name the columns with text: text_fields=[0]"
                )
        else:
            lacking = [column for column in fields if not 0 <= int(column) < len(columns)]
            if lacking:
                raise DataError(f"{path}:{number}: no column {lacking[0]}, the line has {len(columns)} (from 0)")
            columns = [columns[int(column)] for column in fields]
        document = [column.strip() for column in columns]
        if all(document):
            yield document
        elif any(document):
            raise DataError(f"{path}:{number}: an empty column beside one with text. Repair or remove the line")
