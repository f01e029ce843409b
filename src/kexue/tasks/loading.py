"""`load`: whatever task a folder holds."""

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from kexue.errors import CheckpointError

__all__ = ["TASKS", "load", "read_task"]

TASKS = {
    "ner": ("kexue.tasks.ner", "NER"),
    "seq2seq": ("kexue.tasks.seq2seq", "Seq2Seq"),
}
"""What ``task.json`` calls a task, and the class that loads it."""


def load(folder: str | os.PathLike[str], **options: Any) -> Any:
    """The task that a folder holds: a `kexue.tasks.NER`, `kexue.tasks.Seq2Seq` ...

    Args:
        folder: what the ``save`` of a task wrote.
        **options: of that class's ``load``, such as ``dtype``.

    Raises:
        CheckpointError: no task, an unknown one, or a damaged one; the message names the file.
    """
    module, name = TASKS[read_task(folder)["task"]]
    return getattr(import_module(module), name).load(folder, **options)


def read_task(folder: str | os.PathLike[str], kind: str | None = None) -> dict[str, Any]:
    """The checked content of ``task.json``.

    Args:
        folder: of the task.
        kind: a name of `TASKS` that it must be; None: any.

    Raises:
        CheckpointError: there is none, it is broken, or of another kind.
    """
    path = Path(folder) / "task.json"
    if not path.is_file():
        names = TASKS[kind][1] if kind is not None else " or ".join(name for _, name in TASKS.values())
        raise CheckpointError(f"{path} does not exist: expected a folder that {names}.save wrote.")
    try:
        task = json.loads(path.read_text(encoding="utf-8"))
        form, version, found = task["format"], task["version"], task["task"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not the description of a task: {error!r}") from None
    wanted = [kind] if kind is not None else list(TASKS)
    if form != "kexue-task" or version != 1 or found not in wanted:
        hint = f" {TASKS[found][1]}.load reads it." if kind is not None and found in TASKS else ""
        raise CheckpointError(
            f"{path}: expected a kexue-task of version 1 and kind {' or '.join(wanted)}. Received: {form!r}, "
            f"version {version!r}, kind {found!r}.{hint}"
        )
    return dict(task)
