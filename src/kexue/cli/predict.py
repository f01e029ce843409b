"""``kexue predict``: a saved task on texts from the command line, a file or stdin."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from kexue.cli._common import die, dumps, guarded, interactive, load_task, note, start_keras
from kexue.cli._served import chosen, server
from kexue.errors import DataError

__all__ = ["EXAMPLE", "predict"]

EXAMPLE = "Example: kexue predict runs/ner 青阳气象局发布暴雨橙色预警   or   cat lines.txt | kexue predict runs/ner -"


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
    batch_size: Annotated[int, typer.Option(min=1, help="Texts at a time.")] = 32,
    threshold: Annotated[
        float | None,
        typer.Option(help="Entities: least score (pointer heads); the task's own by default.", show_default=False),
    ] = None,
    flat: Annotated[
        bool | None,
        typer.Option(
            "--flat/--nested", help="Entities: no overlapping ones; the task's own by default.", show_default=False
        ),
    ] = None,
    beam: Annotated[
        int | None, typer.Option(min=1, help="Written texts: beams, 4 by default.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Written texts: most tokens; the task's own by default.", show_default=False),
    ] = None,
) -> None:
    """Apply a saved task. For people on a terminal (entities in colour), otherwise JSON Lines, one line for each text:
    {"text", "entities"} of an entity recogniser, {"text", "target"} of a seq2seq task.

    For a task that takes conditions each text or line is a JSON object: {"text": "...", "condition": [0.5, 1.0]}.
    """
    if as_json and as_jsonl:
        die("--json and --jsonl exclude each other.")
    source = _source(texts or [], file)
    start_keras()
    served = server(folder)
    options = {"threshold": threshold, "flat": flat, "beam": beam, "max_tokens": max_tokens}
    options = chosen(options, served.PREDICT, folder)
    task = load_task(folder)
    records = served.records(task, source, batch_size, **options)
    if as_json:
        _write_array(records)
    elif as_jsonl or not interactive():
        for record in records:
            typer.echo(dumps(record))
    else:
        for record in records:
            served.show(task, record)


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


def _write_array(records: Iterable[dict[str, Any]]) -> None:
    typer.echo("[", nl=False)
    for number, record in enumerate(records):
        typer.echo(("," if number else "") + "\n" + dumps(record), nl=False)
    typer.echo("\n]")
