"""The folder of a `ConditionalLM`."""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kexue.checkpoints import open_checkpoint, write_safetensors
from kexue.errors import CheckpointError, ConfigError
from kexue.files import atomic_folder
from kexue.models import Transformer
from kexue.tasks._condition_source import ConditionSource, check_conditioner, check_labels
from kexue.text import Tokenizer

__all__ = ["load_source", "save_task"]

_VECTORS, _CONDITIONER = "condition.safetensors", "conditioner.keras"


def save_task(
    folder: str | os.PathLike[str],
    model: Transformer,
    tokenizer: Tokenizer,
    source: ConditionSource,
    **sizes: int,
) -> None:
    """Write ``task.json``, the model, the tokenizer, the vectors of labels and null condition, and the conditioner."""
    task: dict[str, Any] = {"format": "kexue-task", "version": 1, "task": "conditional_lm"}
    task |= {"labels": None if source.labels is None else list(source.labels), "condition_size": source.size}
    task |= {"conditioner": source.conditioner is not None, **sizes}
    with atomic_folder(folder, last="task.json") as temporary:
        model.save_pretrained(temporary, tokenizer=tokenizer)
        arrays = {name: np.array(keras.ops.convert_to_numpy(v.value)) for name, v in source.own_weights.items()}
        write_safetensors(temporary / _VECTORS, arrays)
        if source.conditioner is not None:
            source.conditioner.save(temporary / _CONDITIONER)
        (temporary / "task.json").write_text(json.dumps(task, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def load_source(path: Path, task: Mapping[str, Any]) -> tuple[ConditionSource, dict[str, int]]:
    """Where conditions come from, and ``max_length`` and ``segment``, by ``task.json`` and the files beside it.

    Raises:
        CheckpointError: something is missing, damaged or does not fit; the message names the file.
    """
    try:
        size, labels = int(task["condition_size"]), task["labels"]
        sizes = {name: int(task[name]) for name in ("max_length", "segment")}
        labels = None if labels is None else check_labels(labels)
        wanted = bool(task["conditioner"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not the description of a ConditionalLM: {error!r}") from None
    conditioner = _conditioner(path.parent / _CONDITIONER, size) if wanted else None
    source = ConditionSource(size, labels, conditioner)
    with open_checkpoint(path.parent / _VECTORS) as checkpoint:
        arrays = {name: np.array(checkpoint[name]) for name in checkpoint.names()}
    for name, variable in source.own_weights.items():
        shape = tuple(variable.shape)
        if name not in arrays or arrays[name].shape != shape:
            found = f"shape {arrays[name].shape}" if name in arrays else "nothing"
            raise CheckpointError(f"{path.parent / _VECTORS}: expected {name} of shape {shape}. Received: {found}")
        variable.assign(arrays[name])
    return source, sizes


def _conditioner(path: Path, size: int) -> keras.Model:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: the conditioner is missing.")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path} cannot be loaded: {first:.300}") from None
    try:
        found = check_conditioner(model)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if found != size:
        raise CheckpointError(f"{path} gives vectors of {found} numbers; task.json says condition_size={size}.")
    return model
