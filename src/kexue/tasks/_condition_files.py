"""The folder of a `ConditionalLM`."""

import os
import zipfile
from pathlib import Path

import keras
import numpy as np

from kexue.checkpoints import open_checkpoint, write_safetensors
from kexue.errors import CheckpointError, ConfigError
from kexue.models import Transformer
from kexue.tasks._condition_source import ConditionSource, check_conditioner, check_labels
from kexue.tasks._task_files import read_task, write_task
from kexue.text import Tokenizer

__all__ = ["KIND", "load_source", "save_task"]

KIND = "conditional_lm"
_VECTORS, _CONDITIONER = "condition.safetensors", "conditioner.keras"


def save_task(
    folder: str | os.PathLike[str],
    model: Transformer,
    tokenizer: Tokenizer,
    source: ConditionSource,
    **sizes: int,
) -> None:
    """Write ``task.json``, the model, the tokenizer, the vectors of labels and null condition, and the conditioner."""
    fields = {"labels": source.labels, "condition_size": source.size, "conditioner": source.conditioner is not None}

    def more(temporary: Path) -> None:
        arrays = {name: np.array(keras.ops.convert_to_numpy(v.value)) for name, v in source.own_weights.items()}
        write_safetensors(temporary / _VECTORS, arrays)
        if source.conditioner is not None:
            source.conditioner.save(temporary / _CONDITIONER)

    write_task(folder, KIND, fields | sizes, model, tokenizer, more=more)


def load_source(folder: str | os.PathLike[str]) -> tuple[ConditionSource, dict[str, int]]:
    """Where conditions come from, and ``max_length`` and ``segment``, by ``task.json`` and the files beside it.

    Raises:
        CheckpointError: something is missing, damaged or does not fit; the message names the file.
    """
    fields = ("labels", "condition_size", "conditioner", "max_length", "segment")
    path, task = Path(folder) / "task.json", read_task(folder, KIND, fields, "ConditionalLM")
    try:
        size, labels = int(task["condition_size"]), task["labels"]
        sizes = {name: int(task[name]) for name in ("max_length", "segment")}
        labels = None if labels is None else check_labels(labels)
        wanted = bool(task["conditioner"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not the description of a ConditionalLM: {error!r}") from None
    conditioner = _conditioner(path.parent / _CONDITIONER, size) if wanted else None
    with open_checkpoint(path.parent / _VECTORS) as checkpoint:
        arrays = {name: np.array(checkpoint[name]) for name in checkpoint.names()}
    if "null" in arrays and arrays["null"].shape != (size,):  # before anything of that size is made
        raise CheckpointError(
            f"{path.parent / _VECTORS}: expected null of shape {(size,)}, the condition_size in task.json. Received: "
            f"shape {arrays['null'].shape}"
        )
    source = ConditionSource(size, labels, conditioner)
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
