"""Entities: `kexue.tasks.NER` for ``kexue predict`` and ``kexue evaluate``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kexue.cli._common import chunks
from kexue.cli._data import check_conditions, read_labelled
from kexue.errors import DataError
from kexue.tasks._conditions import condition_of

__all__ = ["EVALUATE", "PREDICT", "records", "score", "show"]

PREDICT = ("threshold", "flat")
EVALUATE = ()


def records(
    task: Any, lines: Iterator[tuple[str, str]], batch_size: int, threshold: Any = None, flat: Any = None
) -> Iterator[dict[str, Any]]:
    """``{"text", "entities"}`` for each text, with the condition where the task takes one."""
    for chunk in chunks(_parsed(lines, task.condition_size), batch_size):
        found = task.predict(chunk, batch_size=batch_size, threshold=threshold, flat=flat)
        for record, entities in zip(chunk, found, strict=True):
            yield record | {"entities": entities}


def _parsed(lines: Iterator[tuple[str, str]], size: int | None) -> Iterator[dict[str, Any]]:
    """Records to predict: plain texts, or JSON objects where the task takes conditions."""
    for place, line in lines:
        if size is None:
            yield {"text": line}
        elif line.strip():
            hint = 'the task takes conditions, so expected a JSON object {"text": "...", "condition": [...]}'
            try:
                record = json.loads(line)
                text, condition = record["text"], record.get("condition")
            except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
                raise DataError(f"{place}: {hint}. Received: {line:.80}") from None
            if not isinstance(text, str):
                raise DataError(f"{place}: {hint}; the text must be a string. Received: {text!r:.80}")
            condition_of(condition, size, place)
            yield {"text": text, "condition": condition}


def show(task: Any, record: dict[str, Any]) -> None:
    """The text in colours."""
    from kexue.cli._highlight import show as highlight

    highlight(record["text"], record["entities"], task.labels)


def score(task: Any, path: Path, format: str, batch_size: int) -> tuple[Any, int]:
    """Precision, recall and F1."""
    examples = read_labelled(path, format, "test", task.labels)
    check_conditions(examples, task.condition_size, path)
    return task.evaluate(examples, batch_size=batch_size), len(examples)
