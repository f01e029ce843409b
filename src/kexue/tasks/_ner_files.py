"""A recogniser as a folder: ``task.json``, ``head.safetensors``, and the encoder with its tokenizer."""

import os
from pathlib import Path
from typing import Any

from kexue.errors import CheckpointError, KexueError
from kexue.models import Transformer
from kexue.tasks._task_files import assign_layer, read_task, write_task
from kexue.text import Tokenizer

__all__ = ["load", "save"]

_FIELDS = ("labels", "head", "max_length", "stride", "flat", "threshold", "head_size", "rotary", "scheme")


def save(ner: Any, folder: str | os.PathLike[str]) -> None:
    """See `NER.save`."""
    hook = ner.tokenizer._hook
    task = {name: getattr(ner, name) for name in _FIELDS}
    task |= {"labels": list(ner.labels), "pre_tokenize": hook if hook is None or hook == "jieba" else "custom"}
    if not isinstance(ner.threshold, (int, float)):
        task["threshold"] = dict(ner.threshold)
    write_task(folder, "ner", task, ner.encoder, ner.tokenizer, ner._head.layer)


def load(cls: Any, folder: str | os.PathLike[str], dtype: Any, pre_tokenize: Any) -> Any:
    """See `NER.load`."""
    path = Path(folder) / "task.json"
    task = read_task(folder, "ner", _FIELDS, "NER")
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
    assign_layer(folder, ner._head.layer)
    return ner
