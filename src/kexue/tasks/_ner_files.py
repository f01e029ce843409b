"""A recogniser as a folder: ``task.json``, ``head.safetensors``, and the encoder with its tokenizer."""

import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kexue.checkpoints import open_checkpoint, write_safetensors
from kexue.errors import CheckpointError, KexueError
from kexue.files import atomic_folder
from kexue.models import Transformer
from kexue.tasks.loading import read_task
from kexue.text import Tokenizer

__all__ = ["load", "save"]

_FIELDS = ("labels", "head", "max_length", "stride", "flat", "threshold", "head_size", "rotary", "scheme")


def _weights(layer: keras.layers.Layer) -> dict[str, Any]:
    return {v.path.rsplit(f"{layer.name}/", 1)[-1].replace("/", "."): v for v in layer.weights}


def save(ner: Any, folder: str | os.PathLike[str]) -> None:
    """See `NER.save`."""
    hook = ner.tokenizer._hook
    task = {"format": "kexue-task", "version": 1, "task": "ner"}
    task |= {name: getattr(ner, name) for name in _FIELDS}
    task |= {"labels": list(ner.labels), "pre_tokenize": hook if hook is None or hook == "jieba" else "custom"}
    if not isinstance(ner.threshold, (int, float)):
        task["threshold"] = dict(ner.threshold)
    arrays = {name: np.asarray(keras.ops.convert_to_numpy(v.value)) for name, v in _weights(ner._head.layer).items()}
    with atomic_folder(folder, last="task.json") as temporary:
        ner.encoder.save_pretrained(temporary, tokenizer=ner.tokenizer)
        write_safetensors(temporary / "head.safetensors", arrays)
        text = json.dumps(task, indent=2, ensure_ascii=False) + "\n"
        (temporary / "task.json").write_text(text, encoding="utf-8")


def load(cls: Any, folder: str | os.PathLike[str], dtype: Any, pre_tokenize: Any) -> Any:
    """See `NER.load`."""
    path = Path(folder) / "task.json"
    task = read_task(folder, "ner")
    missing = [name for name in _FIELDS if name not in task]
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}.")
    if pre_tokenize is None:
        pre_tokenize = task.get("pre_tokenize")
        if pre_tokenize == "custom":
            raise CheckpointError(
                f"{path}: this recogniser was trained with a pre_tokenize function, which no file can hold. "
                "Pass it: NER.load(folder, pre_tokenize=function)."
            )
    tokenizer = Tokenizer.from_pretrained(folder, pre_tokenize=pre_tokenize)
    encoder = Transformer.from_pretrained(folder, dtype=dtype)
    try:
        ner = cls(encoder, tokenizer, dtype=dtype, **{name: task[name] for name in _FIELDS})
    except (KexueError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    weights, source = _weights(ner._head.layer), Path(folder) / "head.safetensors"
    if not source.is_file():
        raise CheckpointError(f"{source} is missing.")
    with open_checkpoint(source) as checkpoint:
        expected = {name: tuple(v.shape) for name, v in weights.items()}
        found = {name: tuple(np.shape(checkpoint[name])) for name in checkpoint.names()}
        if expected != found:
            wrong = sorted(name for name in {**expected, **found} if expected.get(name) != found.get(name))
            raise CheckpointError(
                f"{source} does not fit {path.name}: "
                + "; ".join(f"{name} should be {expected.get(name)}, is {found.get(name)}" for name in wrong[:4])
            )
        arrays = {name: np.array(checkpoint[name]) for name in checkpoint.names()}
    for name, array in arrays.items():
        weights[name].assign(array)
    return ner
