"""Reading texts with a label or a condition each."""

import os
from collections.abc import Iterator
from typing import Any

from kexue.errors import ConfigError, DataError
from kexue.text.data.records import check_condition, checked_records, iterate_json
from kexue.text.data.sources import read_lines, read_source

__all__ = ["LABELLED_FORMATS", "read_labelled_texts"]

LABELLED_FORMATS = ("auto", "jsonl", "tsv")


def read_labelled_texts(
    path: str | os.PathLike[str], format: str = "auto", *, split: str | None = None
) -> list[dict[str, Any]]:
    """Read texts with what they are conditioned on.

    Formats: ``jsonl``, JSON Lines (or one JSON array) of ``{"text": str, "label": str}`` or ``{"text": str,
    "condition": [numbers]}``, null for none; other keys are passed over. ``tsv``: text TAB label. ``auto``: a file that
    opens with ``{`` or ``[{`` is JSON. Blank lines are passed over.

    Args:
        path: a file, ``.gz``, ``.xz``, ``archive.zip``, ``archive.zip/member``, or a folder (with ``split``).
        format: see above.
        split: ``"train"``, ``"valid"`` or ``"test"``: which file of a folder or archive.

    Raises:
        DataError: names file and line of what is wrong; an empty file too.
        ConfigError: an unknown format.
    """
    if format not in LABELLED_FORMATS:
        raise ConfigError(f"format must be one of {', '.join(LABELLED_FORMATS)}. Received: format={format!r}")
    name, data = read_source(path, split)
    lines = read_lines(name, data)
    first = next((line for line in lines if line is None or line.strip()), None) or ""
    json = first.lstrip().startswith(("{", "[{")) or first.strip() == "["
    records = iterate_json(name, lines) if format == "jsonl" or json else _columns(lines)
    return checked_records(name, records, _checked, "texts")


def _columns(lines: list[str | None]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, 1):
        if line is None:
            yield number, DataError("not valid UTF-8. Convert the file to UTF-8")
        elif line.strip():
            text, mark, label = line.rpartition("\t")
            if mark and label.strip():
                yield number, {"text": text, "label": label.strip()}
            else:
                yield number, DataError(f"expected a text, a TAB and a label. Received: {line!r:.60}")


def _checked(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise DataError(f"expected an object with the string 'text'. Received: {record!r:.80}")
    keys = [key for key in ("label", "condition") if key in record]
    if len(keys) != 1:
        raise DataError(f"expected 'label' or 'condition' beside 'text'. It has: {', '.join(map(repr, record)):.120}")
    value = record[keys[0]]
    if keys == ["condition"]:
        value = None if value is None else check_condition(value)
    elif value is not None and (not isinstance(value, str) or not value):
        raise DataError(f"the label must be a string that is not empty. Received: {value!r:.80}")
    return {"text": record["text"], keys[0]: value}
