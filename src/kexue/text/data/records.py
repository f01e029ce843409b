"""Checking one example, and readers of the JSON formats."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from kexue.errors import DataError

__all__ = [
    "JSON_READERS",
    "Example",
    "check_condition",
    "check_example",
    "checked_records",
    "iterate_json",
    "json_format",
]

Example = dict[str, Any]
"""``{"text": str, "entities": [{"start": int, "end": int, "label": str}]}``, end exclusive, in characters; where
the text has a condition, also ``"condition": [float, ...]``."""

Checked = TypeVar("Checked")

_NUMBERS = (int, float, np.integer, np.floating)
_LARGEST = float(np.finfo("float32").max)


def check_example(text: Any, spans: list[tuple[Any, Any, Any, Any]], labels: Collection[str] | None) -> Example:
    """A canonical example; entities sorted, exact repetitions removed.

    Args:
        text: the text.
        spans: ``(start, end, label, surface or None)``; the surface, where given, must equal the slice.
        labels: permitted labels, None: any.

    Raises:
        DataError: says what is wrong, without the place.
    """
    if not isinstance(text, str):
        raise DataError(f"'text' must be a string. Received: {type(text).__name__}")
    found = set()
    for start, end, label, surface in spans:
        for name, value in (("start", start), ("end", end)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise DataError(f"the {name} of an entity must be an integer. Received: {value!r}")
        if not isinstance(label, str) or not label:
            raise DataError(f"the label of an entity must be a non-empty string. Received: {label!r}")
        if not 0 <= start < end <= len(text):
            raise DataError(
                f"an entity needs 0 <= start < end <= {len(text)} (the length of the text, end exclusive). "
                f"Received: start={start}, end={end}, label={label!r}"
            )
        if surface is not None and surface != text[start:end]:
            raise DataError(
                f"the entity {surface!r} is not what stands at [{start}, {end}): {text[start:end]!r}. "
                "Are the offsets characters (code points), not bytes or UTF-16 units?"
            )
        if labels is not None and label not in labels:
            raise DataError(f"unknown label {label!r}. Expected one of: {', '.join(sorted(labels))}")
        found.add((start, end, label))
    entities = [{"start": start, "end": end, "label": label} for start, end, label in sorted(found)]
    return {"text": text, "entities": entities}


def check_condition(value: Any) -> list[float]:
    """The numbers of a condition.

    Raises:
        DataError: says what is wrong, without the place.
    """
    if hasattr(value, "__array__"):
        value = np.asarray(value).tolist()
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise DataError(f"the condition must be a list of numbers. Received: {value!r:.80}")
    numbers = list(value)
    if not numbers:
        raise DataError("the condition must be a list of numbers. Received: an empty one")
    for place, number in enumerate(numbers):
        # Written so that NaN fails too.
        if isinstance(number, bool) or not isinstance(number, _NUMBERS) or not -_LARGEST <= number <= _LARGEST:
            raise DataError(
                f"the condition must be a list of finite 32-bit numbers. Received at place {place}: {number!r:.80}"
            )
    return [float(number) for number in numbers]


def checked_records(
    name: str, records: Iterable[tuple[int, Any]], check: Callable[[Any], Checked], what: str
) -> list[Checked]:
    """What ``check`` makes of each record.

    Args:
        name: of the file, for messages.
        records: line numbers and records; a DataError stands for a broken one.
        check: raises DataError for what is wrong with a record.
        what: the records are, for the message where there are none.

    Raises:
        DataError: names the line.
    """
    found = []
    for number, record in records:
        try:
            if isinstance(record, DataError):
                raise record
            found.append(check(record))
        except DataError as error:
            raise DataError(f"{name}:{number}: {error}") from None
    if not found:
        raise DataError(f"{name}: holds no {what}")
    return found


def iterate_json(name: str, lines: list[str | None]) -> Iterator[tuple[int, Any]]:
    """Line number and record of a JSON Lines file or of one JSON array; a DataError stands for a broken record."""
    first = next((line for line in lines if line is None or line.strip()), "") or ""
    if first.lstrip().startswith("["):
        yield from _iterate_array(name, lines)
        return
    for number, line in enumerate(lines, 1):
        if line is None:
            yield number, DataError("not valid UTF-8")
        elif line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                yield number, DataError(f"not valid JSON at column {error.colno} ({error.msg})")
            except (RecursionError, ValueError) as error:  # nested too deeply; a number of too many digits
                yield number, DataError(f"not usable JSON ({error})")


def _iterate_array(name: str, lines: list[str | None]) -> Iterator[tuple[int, Any]]:
    if None in lines:
        raise DataError(f"{name}:{lines.index(None) + 1}: not valid UTF-8. Convert the file to UTF-8")
    text = "\n".join(line or "" for line in lines)
    decoder = json.JSONDecoder()
    position, number = _skip(text, text.index("[") + 1), 1
    counted = 0
    comma = False
    while position < len(text) and text[position] != "]":
        number += text.count("\n", counted, position)
        counted = position
        try:
            record, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise DataError(f"{name}:{error.lineno}: not valid JSON at column {error.colno} ({error.msg})") from None
        except (RecursionError, ValueError) as error:
            raise DataError(f"{name}:{number}: not usable JSON ({error})") from None
        yield number, record
        position = _skip(text, position)
        comma = text[position : position + 1] == ","
        if comma:
            position = _skip(text, position + 1)
        elif text[position : position + 1] != "]":
            break
    line = 1 + text.count("\n", 0, min(position, len(text)))
    if position >= len(text) or text[position] != "]" or comma:
        raise DataError(f"{name}:{line}: the JSON array is not closed properly. Is the file complete?")
    if text[position + 1 :].strip():
        raise DataError(f"{name}:{line}: something follows the JSON array")


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def json_format(record: Any) -> str:
    """Which of the JSON formats a record is in."""
    if isinstance(record, dict):
        if isinstance(record.get("label"), dict):
            return "cluener"
        entities = record.get("entities")
        if isinstance(entities, list) and any(isinstance(e, dict) and "start_idx" in e for e in entities):
            return "cmeee"
    return "jsonl"


def _get(record: Any, key: str, what: str = "a record") -> Any:
    if not isinstance(record, dict):
        raise DataError(f"{what} must be a JSON object. Received: {type(record).__name__}")
    if key not in record:
        raise DataError(f"{what} lacks the key {key!r}. It has: {', '.join(map(repr, record)) or 'none'}")
    return record[key]


def _labels_of(record: Any, key: str, kind: type, labelled: bool) -> Any:
    text_first = _get(record, "text")  # a missing text is the more telling error
    del text_first
    if not labelled and key not in record:
        return kind()
    try:
        value = _get(record, key)
    except DataError as error:
        raise DataError(f"{error}. For texts without labels pass labelled=False") from None
    if not isinstance(value, kind):
        wanted = "a list" if kind is list else "an object"
        raise DataError(f"{key!r} must be {wanted}. Received: {type(value).__name__}")
    return value


def _read_jsonl(record: Any, labels: Collection[str] | None, labelled: bool, inclusive: bool) -> Example:
    spans = []
    for entity in _labels_of(record, "entities", list, labelled):
        start, end, label = (_get(entity, key, "an entity") for key in ("start", "end", "label"))
        spans.append((start, end, label, entity.get("text")))
    return check_example(record["text"], spans, labels)


def _read_cmeee(record: Any, labels: Collection[str] | None, labelled: bool, inclusive: bool) -> Example:
    spans = []
    for entity in _labels_of(record, "entities", list, labelled):
        start, end, label = (_get(entity, key, "an entity") for key in ("start_idx", "end_idx", "type"))
        spans.append((start, _exclusive(end, inclusive), label, entity.get("entity")))
    return check_example(record["text"], spans, labels)


def _read_cluener(record: Any, labels: Collection[str] | None, labelled: bool, inclusive: bool) -> Example:
    spans = []
    for label, surfaces in _labels_of(record, "label", dict, labelled).items():
        if not isinstance(surfaces, dict):
            raise DataError(f"the entry of {label!r} must be an object. Received: {type(surfaces).__name__}")
        for surface, ranges in surfaces.items():
            for pair in ranges if isinstance(ranges, list) else [ranges]:
                if not isinstance(pair, list) or len(pair) != 2:
                    raise DataError(f"{surface!r} needs a list of [start, end] pairs. Received: {ranges!r}")
                spans.append((pair[0], _exclusive(pair[1], inclusive), label, surface))
    return check_example(record["text"], spans, labels)


def _exclusive(end: Any, inclusive: bool) -> Any:
    return end + 1 if inclusive and isinstance(end, int) and not isinstance(end, bool) else end


JSON_READERS: dict[str, Callable[[Any, Collection[str] | None, bool, bool], Example]] = {
    "jsonl": _read_jsonl,
    "cmeee": _read_cmeee,
    "cluener": _read_cluener,
}
