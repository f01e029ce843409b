"""What a family is: one configuration mapping and one table of weight names, both usable in two directions.

A table row names one weight of ours, how it is stored elsewhere, and the names it has there:

    Row("block_{i}_feedforward/up_kernel", "dense", "encoder.layer.{i}.intermediate.dense.weight",
        "encoder/layer_{i}/intermediate/dense/kernel")

``{i}`` is the block. PyTorch stores dense matrices as (out, in), Keras and TensorFlow as (in, out).
A layout that a family does not have is an empty tuple of names.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig

__all__ = ["Family", "Row", "bert_fields", "bert_official", "dense", "expand", "fused", "norm"]

Storage = Literal["same", "dense", "transposed", "fused_dense", "fused"]
"""How a weight is stored elsewhere:

``same``: as ours.
``dense``: a matrix, transposed in PyTorch.
``transposed``: a matrix, transposed in PyTorch and in TensorFlow (BERT's NSP weights).
``fused_dense``: our ``[q | k | v]`` matrix, three dense matrices there.
``fused``: our ``[q | k | v]`` bias, three vectors there.
"""


@dataclass(frozen=True)
class Row:
    """One weight: ours, how it is stored, and its names in PyTorch (``hf``) and TensorFlow (``tf``) checkpoints.

    Fused weights have three names. ``group`` is the head a row belongs to, None for the encoder. ``twin`` is a second
    name in PyTorch files, of a copy that wins where it exists: transformers' ``decoder.bias``, which its models use.
    """

    ours: str
    storage: Storage
    hf: str | tuple[str, ...]
    tf: str | tuple[str, ...]
    group: str | None = None
    twin: str | None = None

    def names(self, layout: str) -> tuple[str, ...]:
        names = self.hf if layout == "hf" else self.tf
        return (names,) if isinstance(names, str) else names

    def load(self, arrays: Sequence[np.ndarray], layout: str) -> np.ndarray:
        """Our array from theirs."""
        turn = self.storage == "transposed" or (layout == "hf" and self.storage in ("dense", "fused_dense"))
        arrays = [a.T for a in arrays] if turn else list(arrays)
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)

    def save(self, array: np.ndarray, layout: str, config: TransformerConfig) -> list[np.ndarray]:
        """Their arrays from ours; the inverse of `load`."""
        parts = [array]
        if self.storage in ("fused", "fused_dense"):
            keys = config.num_heads * config.key_dim
            parts = np.split(array, [keys, 2 * keys], axis=-1)
        turn = self.storage == "transposed" or (layout == "hf" and self.storage in ("dense", "fused_dense"))
        return [np.ascontiguousarray(part.T if turn else part) for part in parts]


def dense(ours: str, hf: str, tf: str, group: str | None = None) -> tuple[Row, Row]:
    """Kernel and bias of a dense map; ``ours`` ends where ``kernel`` follows (``"pooler/"``, ``".../up_"``)."""
    return (
        Row(f"{ours}kernel", "dense", f"{hf}.weight", f"{tf}/kernel", group),
        Row(f"{ours}bias", "same", f"{hf}.bias", f"{tf}/bias", group),
    )


def fused(ours: str, hf: str, tf: str, names: tuple[str, ...]) -> tuple[Row, Row]:
    """Several dense maps there, one of ours."""
    return (
        Row(
            f"{ours}kernel",
            "fused_dense",
            tuple(f"{hf}{n}.weight" for n in names),
            tuple(f"{tf}{n}/kernel" for n in names),
        ),
        Row(f"{ours}bias", "fused", tuple(f"{hf}{n}.bias" for n in names), tuple(f"{tf}{n}/bias" for n in names)),
    )


def norm(ours: str, hf: str, tf: str, group: str | None = None) -> tuple[Row, Row]:
    """Gain and bias of a norm."""
    return (
        Row(f"{ours}/gain", "same", f"{hf}.weight", f"{tf}/gamma", group),
        Row(f"{ours}/bias", "same", f"{hf}.bias", f"{tf}/beta", group),
    )


@dataclass(frozen=True)
class Family:
    """A model family.

    Attributes:
        name: what ``TransformerConfig.family`` says.
        model_types: ``model_type`` values of Hugging Face configurations that mean it.
        rows: the weight table; rows whose weight a configuration does not build are skipped.
        prefix: of encoder tensors in Hugging Face files; may be absent there (a bare encoder).
        ignore: patterns of foreign tensors that carry nothing (buffers, tied copies, optimizer slots).
        aliases: ``{pattern: replacement}`` applied to foreign names first (old spellings).
        constants: tensors of Hugging Face files that hold what kexue computes, as functions of the configuration;
            written, and compared on loading.
        tied: name in Hugging Face files of the output matrix that is a copy of the token table where they are tied.
        from_official: configuration of a Hugging Face or Google folder to ours.
        to_official: the inverse.
        architectures: head to ``architectures`` entry; None when transformers has no such family.
    """

    name: str
    model_types: tuple[str, ...]
    rows: tuple[Row, ...]
    prefix: str
    from_official: Callable[[Mapping[str, Any]], TransformerConfig]
    to_official: Callable[[TransformerConfig], dict[str, Any]]
    architectures: Mapping[str | None, str] | None
    ignore: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    constants: Mapping[str, Callable[[TransformerConfig], np.ndarray]] = field(default_factory=dict)
    tied: str | None = None

    def has_layout(self, layout: str) -> bool:
        """Checkpoints of the layout ``"hf"`` or ``"tf"`` exist."""
        return any(row.names(layout) for row in self.rows)

    def canonical(self, name: str) -> str:
        """A foreign name with old spellings replaced."""
        for pattern, replacement in self.aliases:
            name = re.sub(pattern, replacement, name)
        return name


def expand(rows: Sequence[Row], num_layers: int) -> list[Row]:
    """Rows with ``{i}`` repeated for every block."""
    out = []
    for row in rows:
        for i in range(num_layers) if "{i}" in row.ours else (None,):

            def fill(name: str, i: int | None = i) -> str:
                return name.replace("{i}", str(i))

            hf = tuple(fill(n) for n in row.names("hf"))
            tf = tuple(fill(n) for n in row.names("tf"))
            out.append(replace(row, ours=fill(row.ours), hf=hf, tf=tf))
    return out


def bert_fields(data: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    """Fields that configurations in BERT's vocabulary share, mapped to ours.

    Raises:
        ConfigError: one that decides the shape is missing.
    """
    needed = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", *required)
    missing = [name for name in needed if name not in data]
    if missing:
        raise ConfigError(f"the configuration lacks {', '.join(missing)}. It has: {', '.join(sorted(data))}.")
    fields = {
        "vocabulary_size": data["vocab_size"],
        "hidden_size": data["hidden_size"],
        "num_layers": data["num_hidden_layers"],
        "num_heads": data["num_attention_heads"],
        "intermediate_size": data["intermediate_size"],
        "num_segments": data.get("type_vocab_size", 2),
        "max_length": data.get("max_position_embeddings", 512),
        "activation": data.get("hidden_act", "gelu"),
        "norm_epsilon": data.get("layer_norm_eps", 1e-12),
        "dropout": data.get("hidden_dropout_prob", 0.1),
        "attention_dropout": data.get("attention_probs_dropout_prob", 0.1),
        "initializer": data.get("initializer_range", 0.02),
        "tie_embeddings": data.get("tie_word_embeddings", True),
        "pad_id": data.get("pad_token_id", 0) or 0,
        "mask": "causal" if data.get("is_decoder") else "bidirectional",
    }
    # Names that bert4keras configurations use for models with independent sizes.
    if data.get("attention_key_size") is not None:
        fields["key_size"] = data["attention_key_size"]
    if data.get("attention_head_size") is not None:
        fields.setdefault("key_size", data["attention_head_size"])
        fields["value_size"] = data["attention_head_size"]
    if data.get("embedding_size") not in (None, data["hidden_size"]):
        fields["embedding_size"] = data["embedding_size"]
    kind = data.get("position_embedding_type") or "absolute"
    if kind != "absolute":
        raise ConfigError(f"position_embedding_type={kind!r} is not supported by this family; expected 'absolute'.")
    if data.get("add_cross_attention"):
        raise ConfigError("add_cross_attention=true (a decoder with cross-attention) is not supported.")
    return fields


def bert_official(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `bert_fields`.

    Raises:
        ConfigError: the model has parts that the official format cannot express.
    """
    plain_parts = {
        "gated": False,
        "norm_order": "post",
        "condition_size": None,
        "attention": "softmax",
        "attention_options": {},
        "key_heads": None,
        "query_key_norm": False,
        "local_window": None,
        "block_groups": None,
    }
    for name, plain in plain_parts.items():
        if getattr(config, name) != plain:
            raise ConfigError(
                f"a model with {name}={getattr(config, name)!r} cannot be written in the official format of "
                f"{config.family}; use format='kexue'."
            )
    data = {
        "vocab_size": config.vocabulary_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "type_vocab_size": config.num_segments,
        "max_position_embeddings": config.max_length,
        "hidden_act": config.activation,
        "layer_norm_eps": config.norm_epsilon,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "initializer_range": config.initializer if isinstance(config.initializer, float) else 0.02,
        "pad_token_id": config.pad_id,
        "tie_word_embeddings": config.tie_embeddings,
    }
    if config.mask == "causal":
        data["is_decoder"] = True
    if not config.key_dim * config.num_heads == config.value_dim * config.num_heads == config.hidden_size:
        # Both, as bert4keras takes the key size from the head size where it is left out.
        data |= {"attention_key_size": config.key_dim, "attention_head_size": config.value_dim}
    if config.embedding_size is not None:
        data["embedding_size"] = config.embedding_size
    return data
