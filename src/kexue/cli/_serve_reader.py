"""Answers to questions: `kexue.tasks.Reader` and `SpanReader` for ``kexue predict`` and ``kexue evaluate``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from kexue.cli._common import chunks, one_line
from kexue.errors import DataError
from kexue.tasks._passages import check_question
from kexue.text import read_reading

__all__ = ["EVALUATE", "PREDICT", "records", "score", "show"]

PREDICT: tuple[str, ...] = ()
EVALUATE: tuple[str, ...] = ()


def records(task: Any, lines: Iterator[tuple[str, str]], batch_size: int) -> Iterator[dict[str, Any]]:
    """The record of each line, ``{"question": str, "passages": [str, ...]}``, with its ``answer``."""
    for chunk in chunks(lines, batch_size):
        asked = [_parsed(place, line) for place, line in chunk]
        try:
            answers = task.predict(asked, batch_size=batch_size)
        except DataError as error:  # it counts the records of the chunk
            number, _, what = str(error).removeprefix("record ").partition(": ")
            if not number.isdecimal():
                raise
            raise DataError(f"{chunk[int(number)][0]}: {what}") from None
        for record, answer in zip(asked, answers, strict=True):
            yield {"question": record["question"], "answer": answer}


def _parsed(place: str, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(
            f'{place}: a reader takes JSON objects {{"question": "...", "passages": ["...", ...]}}. '
            f"Received: {line:.80}"
        ) from None
    check_question(record, place)
    return record


def show(task: Any, record: dict[str, Any]) -> None:
    """The answer alone, on one line."""
    typer.echo(one_line(record["answer"]["text"]) or "(no answer)")


def score(task: Any, path: Path, format: str, batch_size: int) -> tuple[Any, int]:
    """Exact match and F1 of CMRC 2018, and SogouQA's scores."""
    data = read_reading(path, format, split="test" if path.is_dir() else None)
    return task.evaluate(data, batch_size=batch_size), len(data)
