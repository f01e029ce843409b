"""A `Transformer` to a checkpoint folder: kexue's own, Hugging Face's or Google's."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kexue.checkpoints import write_safetensors, write_tf_bundle
from kexue.errors import ConfigError
from kexue.files import atomic_folder
from kexue.models import families
from kexue.models.families.base import Family, expand
from kexue.models.transformer import Transformer
from kexue.models.weights import named_weights
from kexue.nn import masks

__all__ = ["save"]

# What an earlier save in another format may have left in the folder, and a reader could take for the model.
_STALE = ("model.safetensors*", "model-*.safetensors", "pytorch_model*.bin*", "bert_model.ckpt*", "checkpoint")


def save(model: Transformer, path: str | os.PathLike[str], format: str = "kexue", *, tokenizer: Any = None) -> None:
    """Write ``model`` into the folder ``path``; it appears complete or not at all.

    Args:
        model: what to write.
        path: the folder; files of an earlier save there are replaced.
        format: ``"kexue"`` (``config.json``, ``model.safetensors``); ``"hf"``, a folder that ``transformers`` loads
            with equal outputs; ``"tf"``, Google's layout (``bert_config.json``, ``bert_model.ckpt.*``).
        tokenizer: a `kexue.text.Tokenizer` to write along.

    Raises:
        ConfigError: the format cannot express the model.
    """
    arrays = {name: keras.ops.convert_to_numpy(v) for name, v in named_weights(model).items()}
    folder = Path(path)
    if format == "kexue":
        config: dict[str, Any] = {"format": "kexue", "version": 1, "transformer": model.config.to_dict()}
        config["transformer"]["mask"] = masks.to_config(model.mask)
    elif format in ("hf", "tf"):
        family = families.get(model.config.family)
        config = _official(model, family, format)
        arrays = _renamed(model, family, arrays, format)
    else:
        raise ConfigError(f"format must be 'kexue', 'hf' or 'tf'. Received: format={format!r}")
    name = "bert_config.json" if format == "tf" else "config.json"
    with atomic_folder(folder, last=name) as temporary:
        if format == "tf":
            write_tf_bundle(temporary / "bert_model.ckpt", arrays)
        else:
            if format == "kexue":
                arrays = {key.replace("/", "."): value for key, value in arrays.items()}
            write_safetensors(temporary / "model.safetensors", arrays, metadata={"format": "pt"})
        if tokenizer is not None:
            tokenizer.save(temporary)
        (temporary / name).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        written = {entry.name for entry in temporary.iterdir()} | {name}
    for pattern in (*_STALE, "bert_config.json" if name == "config.json" else "config.json"):
        for stale in folder.glob(pattern):
            if stale.name not in written:
                stale.unlink()


def _official(model: Transformer, family: Family, format: str) -> dict[str, Any]:
    config = model.config
    if model.mask not in (masks.Bidirectional(), masks.Causal()):
        raise ConfigError(
            f"the official formats know no mask {model.mask!r}; save in format='kexue', or rebuild the model with "
            "mask=None to export its weights alone."
        )
    causal = model.mask == masks.Causal()
    data = family.to_official(config.replace(mask="causal" if causal else "bidirectional"))
    if format == "tf":
        return data
    if family.architectures is None:
        raise ConfigError(f"transformers has no family {family.name}; use format='kexue' or 'tf'.")
    has = set(model.heads)
    kind = "nsp" if {"nsp", "lm"} <= has and "nsp" in family.architectures else "lm" if "lm" in has else None
    return {"architectures": [family.architectures[kind]], "dtype": "float32"} | data


def _renamed(
    model: Transformer, family: Family, arrays: Mapping[str, np.ndarray], layout: str
) -> dict[str, np.ndarray]:
    rows = {row.ours: row for row in expand(family.rows, model.config.num_layers)}
    out: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if name not in rows:
            raise ConfigError(f"the official format of {family.name} has no place for {name}; use format='kexue'.")
        row = rows[name]
        out.update(zip(row.names(layout), row.save(array, layout, model.config), strict=True))
    return out
