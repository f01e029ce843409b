"""`load`: whatever task a folder holds."""

import os
from importlib import import_module
from typing import Any

from kexue.tasks._task_files import open_task

__all__ = ["TASKS", "kind_of", "load"]

TASKS = {
    "conditional_lm": "kexue.tasks.conditional_lm.ConditionalLM",
    "ner": "kexue.tasks.ner.NER",
    "reader": "kexue.tasks.reader.Reader",
    "seq2seq": "kexue.tasks.seq2seq.Seq2Seq",
    "span-reader": "kexue.tasks.span_reader.SpanReader",
}
"""What ``task.json`` calls a task, and the class that loads it."""


def kind_of(folder: str | os.PathLike[str]) -> str:
    """The name in `TASKS` of the task that a folder holds.

    Raises:
        CheckpointError: no task, an unknown one, or a broken ``task.json``.
    """
    return str(open_task(folder, list(TASKS), "task")["task"])


def load(folder: str | os.PathLike[str], **options: Any) -> Any:
    """The task that a folder holds: a `kexue.tasks.NER`, `kexue.tasks.Seq2Seq` ...

    Args:
        folder: what the ``save`` of a task wrote.
        **options: of that class's ``load``, such as ``dtype``.

    Raises:
        CheckpointError: no task, an unknown one, or a damaged one; the message names the file.
    """
    module, name = TASKS[kind_of(folder)].rsplit(".", 1)
    return getattr(import_module(module), name).load(folder, **options)
