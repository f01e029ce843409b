"""``kexue predict``: entities of texts from the command line, a file or stdin."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from kexue.cli._common import die, dumps, guarded, interactive, load_task, note
from kexue.errors import DataError

__all__ = ["EXAMPLE", "predict"]

EXAMPLE = "Example: kexue predict runs/ner 青阳气象局发布暴雨橙色预警   or   cat lines.txt | kexue predict runs/ner -"

_CHUNK = 512  # texts read before the next prediction; memory does not grow with the file


@guarded
def predict(
    *,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Saved task.")],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts; a single - stands for lines of stdin.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="File with one text a line; - for stdin.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="JSON Lines, the default unless on a terminal.")] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Least score of an entity (pointer heads); the task's own by default.")
    ] = None,
    flat: Annotated[
        bool | None, typer.Option("--flat/--nested", help="No overlapping entities; the task's own choice by default.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts at a time.")] = 32,
) -> None:
    """Find entities. Shows them in colour on a terminal, writes JSON Lines otherwise, one line for each text.

    For a task that takes conditions each text or line is a JSON object: {"text": "...", "condition": [0.5, 1.0]}.
    """
    if as_json and as_jsonl:
        die("--json and --jsonl exclude each other.")
    source = _source(texts or [], file)
    task = load_task(folder)
    records = _records(task, source, batch_size, threshold, flat)
    if as_json:
        _write_array(records)
    elif as_jsonl or not interactive():
        for record in records:
            typer.echo(dumps(record))
    else:
        from kexue.cli._highlight import show

        for record in records:
            show(record["text"], record["entities"], task.labels)


def _source(texts: list[str], file: Path | None) -> Iterator[tuple[str, str]]:
    """Places and texts from wherever they come; a file is opened at once, so that a wrong name is told before a task
    is loaded."""
    stdin = texts == ["-"] or (file is not None and str(file) == "-") or (not texts and file is None)
    if texts and texts != ["-"] and file is not None:
        die("Give texts or --file, not both.")
    if stdin:
        if sys.stdin.isatty():
            if not texts and file is None:
                die("Nothing to do: give a text, --file FILE, or - for stdin.")
            note("Reading lines from the terminal; end with Ctrl-D.")
        return _lines("stdin", sys.stdin.buffer)
    if file is not None:
        return _lines(str(file), open(file, "rb"))
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            die("a text on the command line is not valid UTF-8.")
    return ((f"text {number}", text) for number, text in enumerate(texts, 1))


def _lines(name: str, stream: BinaryIO) -> Iterator[tuple[str, str]]:
    """Places and lines without their ends; only ``\\n`` and ``\\r\\n`` end a line."""
    with nullcontext(stream) if stream is sys.stdin.buffer else stream:
        for number, line in enumerate(stream, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901
            try:
                yield f"{name}:{number}", line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
            except UnicodeDecodeError:
                raise DataError(f"{name}:{number}: not valid UTF-8. Convert the file to UTF-8") from None


def _parsed(lines: Iterator[tuple[str, str]], size: int | None) -> Iterator[dict[str, Any]]:
    """Records to predict: plain texts, or JSON objects where the task takes conditions."""
    from kexue.tasks._conditions import condition_of

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


def _records(
    task: Any, lines: Iterator[tuple[str, str]], batch_size: int, threshold: float | None, flat: bool | None
) -> Iterator[dict[str, Any]]:
    """A record for each text, in order, computed chunk by chunk."""
    size = 1 if sys.stdin.isatty() else max(_CHUNK, batch_size)
    records = _parsed(lines, task.condition_size)
    while chunk := list(islice(records, size)):
        found = task.predict(chunk, batch_size=batch_size, threshold=threshold, flat=flat)
        for record, entities in zip(chunk, found, strict=True):
            yield record | {"entities": entities}


def _write_array(records: Iterable[dict[str, Any]]) -> None:
    typer.echo("[", nl=False)
    for number, record in enumerate(records):
        typer.echo(("," if number else "") + "\n" + dumps(record), nl=False)
    typer.echo("\n]")
