"""Labelled data for the commands."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kexue.errors import DataError
from kexue.tasks._conditions import condition_of
from kexue.text import read_entities, read_pairs, split

__all__ = ["check_conditions", "hold_out", "labels_of", "read_labelled", "read_pairs_of"]

HELD_OUT = 0.1


def read_labelled(path: Path, format: str, part: str, labels: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Examples of a file, or of the file of a folder that ``part`` (train, valid, test) names.

    Raises:
        KexueError: no such file, a wrong format, a label that is not among ``labels``.
    """
    try:
        return read_entities(path, format, split=part if path.is_dir() else None, labels=labels)
    except DataError as error:
        if labels is not None and "unknown label" in str(error):
            raise DataError(f"{error} (the labels of the task are fixed when its training begins: --labels)") from None
        raise


def read_pairs_of(path: Path, format: str, part: str) -> list[dict[str, str]]:
    """Pairs of a file, or of the file of a folder that ``part`` (train, valid, test) names.

    Raises:
        KexueError: no such file, a wrong format, a broken line.
    """
    return read_pairs(path, format, split=part if path.is_dir() else None)


def check_conditions(examples: Sequence[dict[str, Any]], size: int | None, path: Path) -> None:
    """Whether all examples have the condition that the model takes; before they are shuffled, to name the right one.

    Raises:
        DataError: names the first that does not.
    """
    for index, example in enumerate(examples):
        where = f"{path}, example {index} ({example['text']!r:.40})"
        try:
            condition_of(example.get("condition"), size, where)
        except DataError as error:
            raise DataError(f"{error} (on the command line: --condition-size, when the training begins)") from None


def labels_of(examples: Sequence[dict[str, Any]]) -> list[str]:
    """The labels in use, sorted.

    Raises:
        DataError: none.
    """
    labels = sorted({entity["label"] for example in examples for entity in example["entities"]})
    if not labels:
        raise DataError("the training data has no entity at all. Give labelled data, or name the labels with --labels")
    return labels


def hold_out(examples: list[dict[str, Any]], seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Cut off a tenth, at least one example, for validation; the same seed gives the same cut."""
    share = max(HELD_OUT, 1 / len(examples))
    train, valid = split(examples, (1 - share, share), seed=seed)
    return train, valid
