"""A `Transformer` to a checkpoint folder: kexue's own, Hugging Face's or Google's."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np

from kexue.checkpoints import write_safetensors, write_tf_bundle
from kexue.errors import ConfigError
from kexue.files import atomic_folder
from kexue.models import families
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, gathered
from kexue.models.transformer import Transformer
from kexue.models.weights import named_weights
from kexue.nn import masks
from kexue.nn.positions.registry import without_defaults

__all__ = ["save"]

_DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}

# What an earlier save in another format may have left in the folder, and a reader could take for the model.
_STALE = ("model.safetensors*", "model-*.safetensors", "pytorch_model*.bin*", "bert_model.ckpt*", "checkpoint")


def save(
    model: Transformer,
    path: str | os.PathLike[str],
    format: str = "kexue",
    *,
    tokenizer: Any = None,
    weights_dtype: str | None = None,
) -> None:
    """Write ``model`` into the folder ``path``; it appears complete or not at all.

    Args:
        model: what to write.
        path: the folder; files of an earlier save there are replaced.
        format: ``"kexue"`` (``config.json``, ``model.safetensors``); ``"hf"``, a folder that ``transformers`` loads
            with equal outputs; ``"tf"``, Google's layout (``bert_config.json``, ``bert_model.ckpt.*``).
        tokenizer: a `kexue.text.Tokenizer` to write along.
        weights_dtype: ``"float16"`` or ``"bfloat16"`` halves the file of the formats ``"kexue"`` and ``"hf"``; None: as
            the weights are.

    Raises:
        ConfigError: the format cannot express the model.
    """
    arrays = {name: keras.ops.convert_to_numpy(v) for name, v in named_weights(model).items()}
    if weights_dtype is not None:
        if weights_dtype not in _DTYPES or format == "tf":
            raise ConfigError(
                f"weights_dtype must be one of {', '.join(_DTYPES)}, and None with format='tf'. Received: "
                f"{weights_dtype!r} with format={format!r}"
            )
        arrays = {name: array.astype(_DTYPES[weights_dtype]) for name, array in arrays.items()}
    folder = Path(path)
    if format == "kexue":
        config: dict[str, Any] = {"format": "kexue", "version": 1, "transformer": model.config.to_dict()}
        if masks.get(model.config.mask) != model.mask:
            config["transformer"]["mask"] = masks.to_config(model.mask)
    elif format in ("hf", "tf"):
        family = families.get(model.config.family)
        if format == "tf" and not family.has_layout("tf"):
            raise ConfigError(f"the family {family.name} has no TensorFlow layout; use format='kexue' or 'hf'.")
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
    config = config.replace(mask="causal" if causal else "bidirectional")
    data = family.to_official(config)
    try:
        back = family.from_official(data)
    except ConfigError as error:
        raise ConfigError(f"the official format cannot express this model ({error}); use format='kexue'.") from None
    _check_expressed(config, back, model.heads)
    if format == "tf":
        return data
    if family.architectures is None:
        raise ConfigError(f"transformers has no family {family.name}; use format='kexue' or 'tf'.")
    usual = config.key_dim * config.num_heads == config.value_dim * config.num_heads == config.hidden_size
    if not usual and not family.head_sizes:
        raise ConfigError(
            "transformers has no key and value sizes of their own; use format='kexue' or 'tf'. Received: "
            f"key_size={config.key_dim}, value_size={config.value_dim}"
        )
    has = set(model.heads)
    kind = "nsp" if {"nsp", "lm"} <= has and "nsp" in family.architectures else "lm" if "lm" in has else None
    if config.decoder_layers is None and "encoder" in family.architectures:
        kind = "encoder"
    kind = "discriminator" if "discriminator" in has and kind is None else kind
    return {"architectures": [family.architectures[kind]], "dtype": "float32"} | data


def _check_expressed(config: TransformerConfig, back: TransformerConfig, heads: Sequence[str]) -> None:
    """Raise when a reader of the official configuration would build another model."""

    def facts(c: TransformerConfig) -> dict[str, Any]:
        data = c.to_dict() | {"key_size": c.key_dim, "value_size": c.value_dim, "embedding_size": c.embedding_dim}
        data["position_options"] = without_defaults(c.position, c.position_options)
        local = c.local_position_options
        data["local_position_options"] = None if local is None else without_defaults(c.position, local)
        data["block_groups"], data["embedding_projection"] = c.num_blocks, c.projects_embeddings
        data["lm_dense_bias"] = c.feedforward_bias if c.lm_dense_bias is None else c.lm_dense_bias
        data["attention_output_bias"] = c.attention_bias if c.attention_output_bias is None else c.attention_output_bias
        data["lm_activation"] = c.lm_activation or c.activation
        idle = {"initializer", "two_stream"}
        idle |= {name for name in data if name.startswith("lm_") and "lm" not in heads}
        idle |= {"lm_activation"} if not c.lm_transform else set()
        idle |= {"lm_dense_bias"} if not c.lm_transform and c.embedding_dim == c.hidden_size else set()
        idle |= {"global_every", "local_position_options"} if c.local_window is None else set()
        idle |= {"tie_embeddings"} if "lm" not in heads else set()
        idle |= {"norm_bias"} if c.norm == "rms" else set()
        return {name: value for name, value in data.items() if name not in idle}

    ours, theirs = facts(config), facts(back)
    different = [name for name in ours if ours[name] != theirs.get(name)]
    if different:
        name = different[0]
        raise ConfigError(
            f"the official format of {config.family} cannot express {name}={ours[name]!r} (it would be read as "
            f"{theirs.get(name)!r}); use format='kexue'."
        )


def _renamed(
    model: Transformer, family: Family, arrays: Mapping[str, np.ndarray], layout: str
) -> dict[str, np.ndarray]:
    rows = {row.ours: row for row in family.table(model.config)}
    out: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if name not in rows:
            raise ConfigError(f"the official format of {family.name} has no place for {name}; use format='kexue'.")
        row = rows[name]
        out.update(zip(row.names(layout), row.save(array, layout, model.config), strict=True))
        if layout == "hf" and row.twin is not None and not model.config.tie_embeddings:
            out[row.twin] = array
    if layout == "hf":
        out.update((name, make(model.config)) for name, make in family.constants.items())
    return gathered(out)
