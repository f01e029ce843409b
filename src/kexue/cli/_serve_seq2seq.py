"""Texts from texts: `kexue.tasks.Seq2Seq` for ``kexue predict`` and ``kexue evaluate``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from kexue.cli._common import chunks, note, one_line, write_lines
from kexue.cli._data import read_pairs_of
from kexue.decoding import Beam, Greedy

__all__ = ["EVALUATE", "PREDICT", "records", "score", "show", "tell_cut"]

PREDICT = ("beam", "max_tokens")
EVALUATE = (*PREDICT, "outputs")


def _options(beam: int, max_tokens: int | None) -> dict[str, Any]:
    chosen: dict[str, Any] = {"search": Greedy() if beam == 1 else Beam(beam, length_penalty=1.0)}
    return chosen if max_tokens is None else chosen | {"max_tokens": max_tokens}


def tell_cut(task: Any, part: list[tuple[str, str]]) -> None:
    """Say on stderr which of the ``(place, text)`` are longer than the task reads."""
    room = task.max_source - task.tokenizer.special_count()
    sizes = [len(pieces) for pieces in task.tokenizer.plain_pieces([text for _, text in part])]
    long = [place for (place, _), size in zip(part, sizes, strict=True) if size > room]
    if long:
        note(f"{len(long)} of {len(part)} texts have more than the {room} tokens that are read: {long[0]} ...")


def records(
    task: Any, lines: Iterator[tuple[str, str]], batch_size: int, beam: int = 4, max_tokens: int | None = None
) -> Iterator[dict[str, Any]]:
    """``{"text", "target"}`` for each text."""
    for chunk in chunks(lines, batch_size):
        tell_cut(task, chunk)
        texts = [text for _, text in chunk]
        found = task.generate(texts, batch_size=batch_size, **_options(beam, max_tokens))
        for text, row in zip(texts, found.sequences, strict=True):
            if row and row[0].reason != "interrupted":
                yield {"text": text, "target": task.tokenizer.decode(row[0].tokens)}
        if found.interrupted:
            raise KeyboardInterrupt


def show(task: Any, record: dict[str, Any]) -> None:
    """The target alone, on one line."""
    typer.echo(one_line(record["target"]))


def score(
    task: Any,
    path: Path,
    format: str,
    batch_size: int,
    beam: int = 4,
    max_tokens: int | None = None,
    outputs: Path | None = None,
) -> tuple[Any, int]:
    """BLEU, chrF, ROUGE and the loss of the targets; the written texts go to the file ``outputs``."""
    pairs = read_pairs_of(path, format, "test")
    scores = task.evaluate(pairs, batch_size=batch_size, **_options(beam, max_tokens))
    if outputs is not None:
        write_lines(outputs, ({**pair, "output": text} for pair, text in zip(pairs, scores.outputs, strict=True)))
    return scores, len(pairs)
