"""Tasks as folders: ``task.json``, the model with its tokenizer, and ``head.safetensors`` where there is a head."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kexue.checkpoints import open_checkpoint, write_safetensors
from kexue.errors import CheckpointError
from kexue.files import atomic_folder

__all__ = ["assign_layer", "open_task", "read_task", "write_task"]


def _weights(layer: keras.layers.Layer) -> dict[str, Any]:
    return {v.path.rsplit(f"{layer.name}/", 1)[-1].replace("/", "."): v for v in layer.weights}


def write_task(
    folder: str | os.PathLike[str],
    kind: str,
    fields: Mapping[str, Any],
    model: Any,
    tokenizer: Any,
    head: keras.layers.Layer | None = None,
    more: Callable[[Path], None] | None = None,
) -> None:
    """Write a task; whole or not at all. ``more`` writes further files into the folder that it is given."""
    task = {"format": "kexue-task", "version": 1, "task": kind, **fields}
    arrays: dict[str, np.ndarray] = {}
    if head is not None:
        arrays = {name: np.asarray(keras.ops.convert_to_numpy(v.value)) for name, v in _weights(head).items()}
    with atomic_folder(folder, last="task.json") as temporary:
        model.save_pretrained(temporary, tokenizer=tokenizer)
        if head is not None:
            write_safetensors(temporary / "head.safetensors", arrays)
        if more is not None:
            more(temporary)
        text = json.dumps(task, indent=2, ensure_ascii=False) + "\n"
        (temporary / "task.json").write_text(text, encoding="utf-8")


def read_task(folder: str | os.PathLike[str], kind: str, fields: Sequence[str], writer: str) -> dict[str, Any]:
    """What ``task.json`` says.

    Args:
        folder: of the task.
        kind: that it must be of.
        fields: that it must have.
        writer: class that writes such folders, for messages.

    Raises:
        CheckpointError: there is none, or it is another.
    """
    task = open_task(folder, [kind], writer)
    path = Path(folder) / "task.json"
    missing = [name for name in fields if name not in task]
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}.")
    return task


def open_task(folder: str | os.PathLike[str], kinds: Sequence[str], writer: str) -> dict[str, Any]:
    """What ``task.json`` says, of one of several kinds; see `read_task`."""
    path = Path(folder) / "task.json"
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: expected a folder that {writer}.save wrote.")
    try:
        task = json.loads(path.read_text(encoding="utf-8"))
        known = (task["format"], task["version"], task["task"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not the description of a {writer}: {error!r}") from None
    if known[:2] != ("kexue-task", 1) or known[2] not in kinds:
        raise CheckpointError(
            f"{path}: expected a kexue-task of version 1 and kind {' or '.join(kinds)}, which {writer}.save writes. "
            f"Received: {known[0]!r}, version {known[1]!r}, kind {known[2]!r}"
        )
    return dict(task)


def assign_layer(folder: str | os.PathLike[str], layer: keras.layers.Layer) -> None:
    """Give a head the weights of ``head.safetensors``.

    Raises:
        CheckpointError: the file is missing, damaged or does not fit.
    """
    weights, source = _weights(layer), Path(folder) / "head.safetensors"
    if not source.is_file():
        raise CheckpointError(f"{source} is missing.")
    with open_checkpoint(source) as checkpoint:
        expected = {name: tuple(v.shape) for name, v in weights.items()}
        found = {name: tuple(np.shape(checkpoint[name])) for name in checkpoint.names()}
        if expected != found:
            wrong = sorted(name for name in {**expected, **found} if expected.get(name) != found.get(name))
            raise CheckpointError(
                f"{source} does not fit task.json: "
                + "; ".join(f"{name} should be {expected.get(name)}, is {found.get(name)}" for name in wrong[:4])
            )
        arrays = {name: np.array(checkpoint[name]) for name in checkpoint.names()}
    for name, array in arrays.items():
        weights[name].assign(array)
