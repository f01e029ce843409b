"""Reading, writing, splitting and counting labelled entities."""

import json
import os
import random
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from kexue.errors import ConfigError, DataError
from kexue.files import atomic_write
from kexue.text.data.columns import COLUMN_FORMATS, ColumnReader, looks_like_germeval
from kexue.text.data.records import (
    JSON_READERS,
    Example,
    check_condition,
    check_example,
    iterate_json,
    json_format,
)
from kexue.text.data.sources import DataWarning, read_lines, read_source

__all__ = ["ENTITY_FORMATS", "read_entities", "split", "statistics", "write_jsonl"]

ENTITY_FORMATS: tuple[str, ...] = ("auto", *JSON_READERS, *COLUMN_FORMATS)


def read_entities(
    path: str | os.PathLike[str],
    format: str = "auto",
    *,
    split: str | None = None,
    labels: Collection[str] | None = None,
    labelled: bool = True,
    on_error: Literal["raise", "skip"] = "raise",
    columns: tuple[int, int] | None = None,
    join: str | None = None,
    strict: bool = False,
    end_inclusive: bool | None = None,
) -> list[Example]:
    """Read a data set of entities.

    Formats:
        ``jsonl``: kexue JSON Lines, one canonical example a line. ``cluener``: JSON Lines with ``label: {type:
        {surface: [[start, inclusive end]]}}``. ``cmeee``: entities with ``start_idx``, inclusive ``end_idx``,
        ``type``. Each of the three may also be one JSON array, and their records may hold a ``condition``, a list of
        numbers, which is kept.
        ``bio`` (IOB2), ``iob1``, ``bioes`` (also BILOU letters), ``bmes`` (also called ``bmeso``): token and tag in
        columns, tab or space between them, a blank line between sentences, ``-DOCSTART-`` lines ignored. Tokens that
        are all one character and a digit (Weibo) lose the digit. ``germeval``: index, token, outer and inner tag
        (the index may be absent), nested entities.
        ``auto`` looks at the content: a file that opens with ``{"`` or ``[{`` is JSON and its first record with
        entities decides; otherwise columns, where tag letters decide the scheme.

    Args:
        path: a file, ``.gz``, ``.xz``, ``archive.zip``, ``archive.zip/member``, or a folder (with ``split``).
        format: see above.
        split: ``"train"``, ``"valid"`` or ``"test"``: which file of a folder or archive.
        labels: permitted labels; another one is an error.
        labelled: False: records without the key of the entities are read as texts without entities.
        on_error: ``"skip"`` leaves broken examples out and warns how many.
        columns: positions of token and tag; default first and last.
        join: what stands between two tokens of a column file; default: nothing for files of single characters, else
            a space save beside Chinese or Japanese.
        strict: a tag sequence that the scheme cannot produce is an error; otherwise it is read by the rules of the
            CoNLL evaluation, with a warning that counts them.
        end_inclusive: whether ends in ``cluener`` and ``cmeee`` files are inclusive; default: yes for ``cluener``;
            for ``cmeee`` as the surfaces show (CBLUE's first release is inclusive), yes without surfaces.

    Returns:
        Examples ``{"text": str, "entities": [{"start": int, "end": int, "label": str}]}``, end exclusive, character
        offsets, entities sorted; with the key ``"condition"`` where the record has one.

    Raises:
        DataError: names file and line of what is wrong; an empty file too.
        ConfigError: an unknown format or option.
    """
    if format not in ENTITY_FORMATS:
        raise ConfigError(f"format must be one of {', '.join(ENTITY_FORMATS)}. Received: format={format!r}")
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"on_error must be 'raise' or 'skip'. Received: on_error={on_error!r}")
    labels = None if labels is None else set(labels)
    name, data = read_source(path, split)
    lines = read_lines(name, data)
    reader: ColumnReader | None = None
    if format in JSON_READERS or (format == "auto" and _is_json(lines)):
        records: Iterator[tuple[int, Any]] = _json_examples(
            name, lines, format, labels=labels, labelled=labelled, end_inclusive=end_inclusive
        )
    else:
        if format == "auto" and columns is None and looks_like_germeval(lines):
            format = "germeval"
        reader = ColumnReader(
            name,
            lines,
            scheme=None if format == "auto" else format,
            columns=columns,
            join=join,
            strict=strict,
            labels=labels,
        )
        records = iter(reader)
    examples, skipped = _collect(name, records, on_error)
    if not examples:
        raise DataError(f"{name}: no examples in it" + (f", all {skipped} were broken" if skipped else ""))
    if reader is not None and reader.repaired:
        warnings.warn(
            f"{name}: {reader.repaired} entities do not begin as the scheme {reader.scheme} has it (first in line "
            f"{reader.repaired_at}); read by the rules of the CoNLL evaluation. strict=True refuses them",
            DataWarning,
            stacklevel=2,
        )
    return examples


def _collect(name: str, records: Iterable[tuple[int, Any]], on_error: str) -> tuple[list[Example], int]:
    examples: list[Example] = []
    skipped = 0
    first = ""
    for number, record in records:
        if isinstance(record, DataError):
            message = str(record)
            if not message.startswith(name + ":"):
                message = f"{name}:{number}: {message}"
            if on_error == "raise":
                raise DataError(message)
            first = first or message
            skipped += 1
        else:
            examples.append(record)
    if skipped:
        total = skipped + len(examples)
        warnings.warn(f"{name}: skipped {skipped} of {total} examples. The first: {first}", DataWarning, stacklevel=3)
    return examples, skipped


def _is_json(lines: list[str | None]) -> bool:
    """Whether the file opens like ``{"`` or ``[{`` (a column file may have a bracket as its first token)."""
    opening = ""
    for line in lines:
        opening += (line or "").replace(" ", "").replace("\t", "")
        if len(opening) >= 2:
            break
    return opening[:2] in ('{"', "[{", "[]", "{}", "{'") or opening == "{"


def _json_examples(
    name: str,
    lines: list[str | None],
    format: str,
    *,
    labels: Collection[str] | None,
    labelled: bool,
    end_inclusive: bool | None,
) -> Iterator[tuple[int, Any]]:
    records = list(iterate_json(name, lines))
    if format == "auto":
        format = next((kind for kind in (json_format(record) for _, record in records) if kind != "jsonl"), "jsonl")
    if end_inclusive is None:
        end_inclusive = format != "cmeee" or _ends_are_inclusive(records)
    for number, record in records:
        if isinstance(record, DataError):
            yield number, record
            continue
        try:
            example = JSON_READERS[format](record, labels, labelled, end_inclusive)
            if record.get("condition") is not None:
                example["condition"] = check_condition(record["condition"])
            yield number, example
        except DataError as error:
            yield number, error


def _ends_are_inclusive(records: list[tuple[int, Any]]) -> bool:
    """Compare the surfaces of CMeEE entities with both readings of their ends."""
    votes = [0, 0]
    for _, record in records:
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            continue
        for entity in record.get("entities") or ():
            if isinstance(entity, dict) and all(isinstance(entity.get(k), int) for k in ("start_idx", "end_idx")):
                start, end, surface = entity["start_idx"], entity["end_idx"], entity.get("entity")
                votes[0] += record["text"][start:end] == surface
                votes[1] += record["text"][start : end + 1] == surface
    return votes[1] >= votes[0]


def write_jsonl(path: str | os.PathLike[str], examples: Iterable[Example]) -> None:
    """Write canonical examples as JSON Lines, atomically; each is checked first.

    Raises:
        DataError: an example that `read_entities` would refuse; nothing is written then.
    """
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        for number, example in enumerate(examples, 1):
            try:
                entities = [(e["start"], e["end"], e["label"], None) for e in example["entities"]]
                checked = check_example(example["text"], entities, None)
                if "condition" in example and example["condition"] is not None:
                    checked["condition"] = check_condition(example["condition"])
            except (KeyError, TypeError) as error:
                raise DataError(f"example {number}: not of the form of kexue's examples ({error!r})") from None
            except DataError as error:
                raise DataError(f"example {number}: {error}") from None
            try:
                line = json.dumps(checked, ensure_ascii=False).encode("utf-8")
            except UnicodeEncodeError:  # a lone surrogate can only be written as an escape
                line = json.dumps(checked).encode("utf-8")
            file.write(line + b"\n")


def split(examples: Sequence[Any], fractions: Sequence[float], seed: int = 0) -> tuple[list[Any], ...]:
    """Shuffle and cut into parts; every example goes to at most one part (exactly one if the fractions sum to 1).

    Args:
        examples: anything.
        fractions: non-negative, sum at most 1.
        seed: the same seed gives the same parts.
    """
    if not fractions or min(fractions) < 0 or sum(fractions) > 1 + 1e-9:
        raise ConfigError(f"fractions must be non-negative and sum to at most 1. Received: {list(fractions)}")
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)
    ends = [round(len(order) * sum(fractions[: i + 1])) for i in range(len(fractions))]
    starts = [0, *ends[:-1]]
    return tuple([examples[i] for i in order[a:b]] for a, b in zip(starts, ends, strict=True))


def statistics(examples: Sequence[Example]) -> dict[str, Any]:
    """Counts of a data set.

    Returns:
        ``examples``, ``empty`` (examples without entities), ``entities``, ``labels`` (count by label, descending),
        ``characters`` and ``entity_characters`` (mean, median, 95th percentile, maximum of the lengths), ``nested``
        (share of entities that overlap another one).
    """
    lengths = [len(example["text"]) for example in examples]
    counts: Counter[str] = Counter()
    entity_lengths: list[int] = []
    overlapping = 0
    for example in examples:
        spans = [(entity["start"], entity["end"]) for entity in example["entities"]]
        counts.update(entity["label"] for entity in example["entities"])
        entity_lengths += [end - start for start, end in spans]
        for i, (start, end) in enumerate(spans):
            overlapping += any(i != j and start < b and a < end for j, (a, b) in enumerate(spans))
    total = len(entity_lengths)
    return {
        "examples": len(examples),
        "empty": sum(not example["entities"] for example in examples),
        "entities": total,
        "labels": dict(counts.most_common()),
        "characters": _summary(lengths),
        "entity_characters": _summary(entity_lengths),
        "nested": overlapping / total if total else 0.0,
    }


def _summary(values: list[int]) -> dict[str, float]:
    if not values:
        return {"mean": 0.0, "median": 0.0, "p95": 0.0, "max": 0.0}
    array = np.asarray(values)
    return {
        "mean": float(array.mean()),
        "median": float(np.median(array)),
        "p95": float(np.percentile(array, 95)),
        "max": float(array.max()),
    }
