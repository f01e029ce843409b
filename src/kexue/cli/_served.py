"""How ``kexue predict`` and ``kexue evaluate`` serve each kind of saved task.

A kind has a module with

- ``PREDICT`` and ``EVALUATE``: names of the options that it understands beside those of every task;
- ``records(task, lines, batch_size, **options)``: a record for each ``(place, line)``, in order;
- ``show(task, record)``: prints one for people;
- ``score(task, path, format, batch_size, **options)``: scores with ``as_dict()`` and ``table()``, and their number of
  examples.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from kexue.cli._common import die
from kexue.errors import ConfigError

__all__ = ["SERVED", "chosen", "server"]

SERVED = {
    "conditional_lm": "kexue.cli._serve_conditional",
    "ner": "kexue.cli._serve_ner",
    "reader": "kexue.cli._serve_reader",
    "seq2seq": "kexue.cli._serve_seq2seq",
    "span-reader": "kexue.cli._serve_reader",
}


def server(folder: Path) -> Any:
    """The module that serves the folder's task.

    Raises:
        CheckpointError: there is no task in the folder.
        ConfigError: one of another kind.
    """
    from kexue.tasks.loading import kind_of

    kind = kind_of(folder)
    if kind not in SERVED:
        raise ConfigError(f"{folder} holds a task of the kind {kind}; this command serves {', '.join(SERVED)}.")
    return import_module(SERVED[kind])


def chosen(options: Mapping[str, Any], known: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """The options that were given; one that the task does not know ends the command."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in known:
            die(f"--{name.replace('_', '-')} is not for the kind of task in {folder}.")
    return given
