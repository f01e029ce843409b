"""Conditional language models for ``kexue predict`` (the label of a text by Bayes' rule) and ``kexue evaluate``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from kexue.cli._common import chunks, one_line
from kexue.text.data.labelled import read_labelled_texts

__all__ = ["EVALUATE", "PREDICT", "records", "score", "show"]

PREDICT: tuple[str, ...] = ()
EVALUATE: tuple[str, ...] = ()


class Scores(NamedTuple):
    """Figures by name."""

    figures: dict[str, float]

    def as_dict(self) -> dict[str, float]:
        """The figures."""
        return self.figures

    def table(self) -> str:
        """A line for each."""
        wide = max(map(len, self.figures))
        return "\n".join(f"{name:{wide}}  {value:.4f}" for name, value in self.figures.items())


def records(task: Any, lines: Iterator[tuple[str, str]], batch_size: int) -> Iterator[dict[str, Any]]:
    """``{"text", "label", "log_prob"}``: the label under which each text is most probable, and log p under each."""
    for chunk in chunks(lines, batch_size):
        texts = [text for _, text in chunk]
        for text, row in zip(texts, task.label_log_prob(texts, batch_size=batch_size), strict=True):
            found = {label: round(float(value), 4) for label, value in zip(task.labels, row, strict=True)}
            yield {"text": text, "label": task.labels[int(row.argmax())], "log_prob": found}


def show(task: Any, record: dict[str, Any]) -> None:
    """The label and the text on one line."""
    typer.echo(f"{record['label']}\t{one_line(record['text'])}")


def score(task: Any, path: Path, format: str, batch_size: int) -> tuple[Scores, int]:
    """Loss and perplexity under the texts' own conditions and under none, and how often Bayes' rule is right."""
    data = read_labelled_texts(path, format, split="test" if path.is_dir() else None)
    return Scores(task.evaluate(data, batch_size=batch_size)), len(data)
