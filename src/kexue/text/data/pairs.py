"""Reading pairs of texts: a source and its target."""

import os
from collections.abc import Iterator
from typing import Any

from kexue.errors import ConfigError, DataError
from kexue.text.data.records import checked_records, iterate_json
from kexue.text.data.sources import read_lines, read_source

__all__ = ["PAIR_FORMATS", "read_pairs"]

PAIR_FORMATS = ("auto", "jsonl", "tsv", "csl")
_COLUMNS = {"tsv": 2, "csl": 3}
_KEYS = {"source": "source", "target": "target"}, {"source": "text_a", "target": "text_b"}

Pair = dict[str, str]


def read_pairs(path: str | os.PathLike[str], format: str = "auto", *, split: str | None = None) -> list[Pair]:
    r"""Read pairs of texts.

    Formats: ``jsonl``, JSON Lines (or one JSON array) of ``{"source": str, "target": str}``, or ``text_a`` and
    ``text_b`` as CSL names them; other keys are passed over. ``tsv``: two columns, source TAB target. ``csl``: three,
    the first names the task. ``auto``: a file that opens with ``{`` or ``[{`` is JSON; otherwise the columns of its
    first line decide. Blank lines are passed over; white space around a text is not part of it.

    Args:
        path: a file, ``.gz``, ``.xz``, ``archive.zip``, ``archive.zip/member``, or a folder (with ``split``).
        format: see above.
        split: ``"train"``, ``"valid"`` or ``"test"``: which file of a folder or archive.

    Returns:
        ``{"source": str, "target": str}`` each, in the order of the file.

    Raises:
        DataError: names file and line of what is wrong, an empty text among it; an empty file too.
        ConfigError: an unknown format.
    """
    if format not in PAIR_FORMATS:
        raise ConfigError(f"format must be one of {', '.join(PAIR_FORMATS)}. Received: format={format!r}")
    name, data = read_source(path, split)
    lines = read_lines(name, data)
    kind = _guess(lines) if format == "auto" else format
    records = iterate_json(name, lines) if kind == "jsonl" else _columns(lines, _COLUMNS[kind])
    return checked_records(name, records, _pair, "pairs")


def _guess(lines: list[str | None]) -> str:
    first = next((line for line in lines if line is None or line.strip()), None) or ""
    if first.lstrip().startswith(("{", "[{")) or first.strip() == "[":
        return "jsonl"
    return "csl" if first.count("\t") == 2 else "tsv"


def _columns(lines: list[str | None], wanted: int) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, 1):
        if line is None:
            yield number, DataError("not valid UTF-8. Convert the file to UTF-8")
        elif line.strip():
            columns = line.split("\t")
            if len(columns) == wanted:
                yield number, {"source": columns[-2], "target": columns[-1]}
            else:
                yield number, DataError(f"expected {wanted} columns with a TAB between two. Found: {len(columns)}")


def _pair(record: Any) -> Pair:
    if not isinstance(record, dict):
        raise DataError(f"expected an object with 'source' and 'target'. Received: {type(record).__name__}")
    keys = next((names for names in _KEYS if set(names.values()) <= set(record)), None)
    if keys is None:
        has = ", ".join(map(repr, record)) or "none"
        raise DataError(f"expected the keys 'source' and 'target' (or 'text_a' and 'text_b'). It has: {has:.120}")
    pair = {}
    for name, key in keys.items():
        value = record[key]
        if not isinstance(value, str):
            raise DataError(f"{key!r} must be a string. Received: {value!r:.80}")
        if not value.strip():
            raise DataError(f"the {name} is empty")
        pair[name] = value.strip()
    return pair
