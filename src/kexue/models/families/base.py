"""What a family is: one configuration mapping and one table of weight names, both usable in two directions.

A table row names one weight of ours, how it is stored elsewhere, and the names it has there:

    Row("block_{i}_feedforward/up_kernel", "dense", "encoder.layer.{i}.intermediate.dense.weight",
        "encoder/layer_{i}/intermediate/dense/kernel")

``{i}`` is the block, ``{i:02d}`` with leading zeros. PyTorch stores dense matrices as (out, in), Keras and TensorFlow
as (in, out). A layout that a family does not have is an empty tuple of names. A name that ends with an index, such
as ``bias[{i}]``, is that entry of a tensor which holds those of all blocks.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig

__all__ = [
    "Family",
    "Row",
    "bert_fields",
    "bert_official",
    "bert_words",
    "check_parts",
    "dense",
    "entry",
    "expand",
    "fused",
    "gathered",
    "norm",
]

Storage = Literal[
    "same", "dense", "transposed", "fused_dense", "fused", "tf_transposed", "tf_stacked", "heads", "heads_out",
    "convolution",
]  # fmt: skip
"""How a weight is stored elsewhere:

``same``: as ours.
``dense``: a matrix, transposed in PyTorch.
``transposed``: a matrix, transposed in PyTorch and in TensorFlow (BERT's NSP weights).
``fused_dense``: our ``[q | k | v]``, ``[k | v]`` or ``[gate | up]`` matrix, as many dense matrices there.
``fused``: our fused vector, as many vectors there; or a matrix that PyTorch too has as (in, out).
``tf_transposed``: as ours in PyTorch, transposed in TensorFlow (T5's table of relative positions).
``tf_stacked``: as ours in PyTorch, with a leading axis of 1 in TensorFlow (OpenAI's GPT-2).
``heads``: our matrix (in, heads size) is (in, heads, size) there; or our fused matrix, several of these.
``heads_out``: our matrix (heads size, out) is (out, heads, size) there.
``convolution``: ours is (places, in, out), PyTorch's (out, in, places).
"""


@dataclass(frozen=True)
class Row:
    """One weight: ours, how it is stored, and its names in PyTorch (``hf``) and TensorFlow (``tf``) checkpoints.

    Fused weights have several names in a layout that does not fuse them. ``group`` is the head a row belongs to, None
    for the encoder. ``twin`` is a second name in PyTorch files, of a copy that wins where it exists: transformers'
    ``decoder.bias``, which its models use. ``gated``: the row holds for gated feed-forward parts only, or for plain
    ones only.
    """

    ours: str
    storage: Storage
    hf: str | tuple[str, ...] = ()
    tf: str | tuple[str, ...] = ()
    group: str | None = None
    twin: str | None = None
    gated: bool | None = None

    def names(self, layout: str) -> tuple[str, ...]:
        names = self.hf if layout == "hf" else self.tf
        return (names,) if isinstance(names, str) else names

    def load(self, arrays: Sequence[np.ndarray], layout: str) -> np.ndarray:
        """Our array from theirs."""
        arrays = [self._turned(a, layout) for a in arrays]
        array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)
        if self.storage == "tf_stacked" and layout == "tf" and array.shape[:1] == (1,):
            return array[0]
        return array

    def save(self, array: np.ndarray, layout: str, config: TransformerConfig) -> list[np.ndarray]:
        """Their arrays from ours; the inverse of `load`."""
        parts = [array]
        if len(self.names(layout)) > 1:
            parts = np.split(array, self._cuts(array.shape[-1], len(self.names(layout)), config), axis=-1)
        if self.storage == "tf_stacked" and layout == "tf":
            parts = [part[None] for part in parts]
        if self.storage in ("heads", "heads_out"):
            parts = [part.T if self.storage == "heads_out" else part for part in parts]
            return [np.ascontiguousarray(part.reshape(len(part), config.num_heads, -1)) for part in parts]
        return [np.ascontiguousarray(self._turned(part, layout)) for part in parts]

    def _turned(self, array: np.ndarray, layout: str) -> np.ndarray:
        if self.storage in ("heads", "heads_out") and array.ndim == 3:
            array = array.reshape(len(array), -1)
            return array.T if self.storage == "heads_out" else array
        if self.storage == "convolution":
            return array.T
        kinds = {"hf": ("transposed", "dense", "fused_dense"), "tf": ("transposed", "tf_transposed")}
        return array.T if self.storage in kinds[layout] else array

    def _cuts(self, size: int, parts: int, config: TransformerConfig) -> list[int]:
        """Where the parts of a fused weight end."""
        key_heads = config.key_heads or config.num_heads
        if "qkv" in self.ours:
            queries = config.num_heads * config.key_dim
            return [queries, queries + key_heads * config.key_dim]
        if "key_value" in self.ours:
            return [key_heads * config.key_dim]
        return [size * n // parts for n in range(1, parts)]


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


def entry(name: str) -> tuple[str, int | None]:
    """A tensor's name, and the index where ``name`` means one entry of it: ``"bias[3]"`` is ``("bias", 3)``."""
    found = re.fullmatch(r"(.*)\[(\d+)\]", name)
    return (found[1], int(found[2])) if found else (name, None)


def gathered(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors by their names from entries of them; the inverse of `entry`."""
    out: dict[str, np.ndarray] = {}
    parts: dict[str, dict[int, np.ndarray]] = {}
    for name, array in arrays.items():
        base, index = entry(name)
        if index is None:
            out[base] = array
        else:
            parts.setdefault(base, {})[index] = array
    return out | {base: np.stack([found[i] for i in sorted(found)]) for base, found in parts.items()}


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
        architectures: head to ``architectures`` entry, ``"encoder"`` for one without its decoder; None when
            transformers has no such family.
        adapt: changes a configuration by what the names of the tensors tell beyond it.
        head_sizes: the Hugging Face configuration names the size of heads.
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
    adapt: Callable[[TransformerConfig, Collection[str]], TransformerConfig] | None = None
    head_sizes: bool = False

    def configure(self, data: Mapping[str, Any], names: Collection[str]) -> TransformerConfig:
        """Our configuration from an official one and the names of the tensors beside it.

        Raises:
            ConfigError: it lacks something, or asks for what kexue does not have.
        """
        config = self.from_official(data)
        return config if self.adapt is None else self.adapt(config, names)

    def table(self, config: TransformerConfig) -> "list[Row]":
        """The rows for every block of such a model."""
        rows = [row for row in self.rows if row.gated in (None, config.gated)]
        return expand(rows, config.num_blocks, config.decoder_layers or 0)

    def has_layout(self, layout: str) -> bool:
        """Checkpoints of the layout ``"hf"`` or ``"tf"`` exist."""
        return any(row.names(layout) for row in self.rows)

    def canonical(self, name: str) -> str:
        """A foreign name with old spellings replaced."""
        for pattern, replacement in self.aliases:
            name = re.sub(pattern, replacement, name)
        return name


def expand(rows: Sequence[Row], num_layers: int, decoder_layers: int = 0) -> list[Row]:
    """Rows with ``{i}`` repeated for every block, those of ``decoder_block_{i}`` for every block of the decoder."""
    out = []
    for row in rows:
        blocks = decoder_layers if row.ours.startswith("decoder_") else num_layers
        for i in range(blocks) if "{i}" in row.ours else (None,):

            def fill(name: str, i: int | None = i) -> str:
                return re.sub(r"\{i(:\w+)?\}", lambda m: format(i, (m[1] or ":d")[1:]), name)

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


def check_parts(config: TransformerConfig, parts: Mapping[str, Any]) -> None:
    """Raise ConfigError unless the fields have these values, the only ones that the official format can mean."""
    for name, plain in parts.items():
        if getattr(config, name) != plain:
            raise ConfigError(
                f"a model with {name}={getattr(config, name)!r} cannot be written in the official format of "
                f"{config.family}, which means {plain!r}; use format='kexue'."
            )


def bert_words(config: TransformerConfig) -> dict[str, Any]:
    """Sizes and numerics of a model in the words of BERT's configurations."""
    data = {
        "vocab_size": config.vocabulary_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_length,
        "hidden_act": config.activation,
        "layer_norm_eps": config.norm_epsilon,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "initializer_range": config.initializer if isinstance(config.initializer, float) else 0.02,
        "pad_token_id": config.pad_id,
        "tie_word_embeddings": config.tie_embeddings,
    }
    if not config.key_dim * config.num_heads == config.value_dim * config.num_heads == config.hidden_size:
        # Both, as bert4keras takes the key size from the head size where it is left out.
        data |= {"attention_key_size": config.key_dim, "attention_head_size": config.value_dim}
    return data


_BERT_PARTS = {
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


def bert_official(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `bert_fields`.

    Raises:
        ConfigError: the model has parts that the official format cannot express.
    """
    check_parts(config, _BERT_PARTS)
    data = bert_words(config) | {"type_vocab_size": config.num_segments}
    if config.mask == "causal":
        data["is_decoder"] = True
    if config.embedding_size is not None:
        data["embedding_size"] = config.embedding_size
    return data
