"""T5: encoder-decoder with bucketed relative positions, RMS norms first, no biases and no scale of the scores.

T5 1.0 (Raffel et al., arXiv 1910.10683) has a plain ReLU part and logits from the token table, of hidden states times
``hidden_size ** -0.5``. T5 1.1 and mT5 (arXiv 2010.11934) have a gated part and an output matrix of their own, without
that factor. ``transformers`` 5 writes ``tie_word_embeddings: true`` into every configuration; the tensors tell.

TensorFlow names are those of Google's release, which has no JSON configuration: pass one with ``config=``.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row, check_parts
from kexue.models.families.bert import IGNORE
from kexue.models.families.gpt import DECODER_PARTS

__all__ = ["MT5", "T5"]

_OUTPUT = ("lm_head.weight", "decoder/logits/kernel")


def _fields(data: Mapping[str, Any], scaled: bool, feedforward: str) -> dict[str, Any]:
    needed = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
    missing = [name for name in needed if data.get(name) is None]
    if missing:
        raise ConfigError(f"the configuration lacks {', '.join(missing)}. It has: {', '.join(sorted(data))}.")
    width, heads, size = data["d_model"], data["num_heads"], data["d_kv"]
    kind = data.get("feed_forward_proj", feedforward)
    gated, activation = kind.startswith("gated-"), kind.removeprefix("gated-")
    fields = {
        "vocabulary_size": data["vocab_size"],
        "hidden_size": width,
        "num_layers": data["num_layers"],
        "decoder_layers": data.get("num_decoder_layers") or data["num_layers"],
        "num_heads": heads,
        "intermediate_size": data["d_ff"],
        "max_length": data.get("n_positions", 512),
        "num_segments": 0,
        "position": "t5",
        "position_options": {
            "bidirectional": True,
            "num_buckets": data.get("relative_attention_num_buckets", 32),
            "max_distance": data.get("relative_attention_max_distance", 128),
        },
        "attention_options": {"scale": 1.0},
        "activation": "gelu_new" if kind == "gated-gelu" else activation,
        "gated": gated,
        "norm": "rms",
        "norm_bias": False,
        "norm_epsilon": data.get("layer_norm_epsilon", 1e-6),
        "norm_order": "pre",
        "embedding_norm": False,
        "attention_bias": False,
        "feedforward_bias": False,
        "dropout": data.get("dropout_rate", 0.1),
        "attention_dropout": data.get("dropout_rate", 0.1),
        "lm_transform": False,
        "lm_bias": False,
        "lm_scale": width**-0.5 if scaled else 1.0,
        "tie_embeddings": data.get("tie_word_embeddings", True),
        "pad_id": data.get("pad_token_id", 0) or 0,
    }
    if data.get("is_encoder_decoder") is False:
        fields["decoder_layers"] = None
    if size * heads != width:
        fields |= {"key_size": size, "value_size": size}
    return fields


def _official(config: TransformerConfig) -> dict[str, Any]:
    parts = {name: value for name, value in DECODER_PARTS.items() if name not in ("gated", "decoder_layers")}
    options = {"scale": 1.0}
    check_parts(
        config,
        parts | {"position": "t5", "attention_options": options, "norm": "rms", "norm_order": "pre", "first_norm": True}
        | {"local_window": None, "key_heads": None, "query_key_norm": False, "attention_dropout": config.dropout},
    )  # fmt: skip
    if config.key_dim != config.value_dim:
        raise ConfigError(
            f"the official format of {config.family} has one size of heads. Received: key_size={config.key_dim}, "
            f"value_size={config.value_dim}; use format='kexue'."
        )
    plain = "gelu" if config.gated and config.activation == "gelu_new" else config.activation
    return {
        "is_encoder_decoder": config.decoder_layers is not None,
        "vocab_size": config.vocabulary_size,
        "d_model": config.hidden_size,
        "d_kv": config.key_dim,
        "d_ff": config.intermediate_size,
        "num_layers": config.num_layers,
        "num_decoder_layers": config.decoder_layers or config.num_layers,
        "num_heads": config.num_heads,
        "n_positions": config.max_length,
        "relative_attention_num_buckets": config.position_options.get("num_buckets", 32),
        "relative_attention_max_distance": config.position_options.get("max_distance", 128),
        "dropout_rate": config.dropout,
        "layer_norm_epsilon": config.norm_epsilon,
        "feed_forward_proj": f"gated-{plain}" if config.gated else plain,
        "tie_word_embeddings": config.tie_embeddings,
        "pad_token_id": config.pad_id,
        "decoder_start_token_id": config.pad_id,
        "eos_token_id": 1,
    }


def _t5_from(data: Mapping[str, Any]) -> TransformerConfig:
    # Older configurations say it through tying alone.
    scaled = data.get("scale_decoder_outputs", data.get("tie_word_embeddings", True))
    return TransformerConfig(family="t5", **_fields(data, scaled, "relu"))


def _t5_to(config: TransformerConfig) -> dict[str, Any]:
    return {"model_type": "t5", "scale_decoder_outputs": config.lm_scale != 1.0} | _official(config)


def _mt5_from(data: Mapping[str, Any]) -> TransformerConfig:
    return TransformerConfig(family="mt5", **_fields(data, False, "gated-gelu"))


def _mt5_to(config: TransformerConfig) -> dict[str, Any]:
    return {"model_type": "mt5"} | _official(config)


def _adapt(config: TransformerConfig, names: Collection[str]) -> TransformerConfig:
    """No decoder where the file has none (an encoder of sentences); an output matrix where it has one."""
    if names and not any(name.startswith("decoder") for name in names):
        config = config.replace(decoder_layers=None)
    # With the factor the matrix is T5 1.0's copy of the table; that it is one, is checked.
    if config.lm_scale == 1.0 and any(name in _OUTPUT for name in names):
        config = config.replace(tie_embeddings=False)
    return config


def _attention(ours: str, prefix: str, hf: str, cross: bool = False) -> tuple[Row, ...]:
    """Rows of an attention layer; ``hf`` is its name, which TensorFlow has with other separators."""
    tf = _tf(hf)

    def row(name: str, parts: str) -> Row:
        letters = tuple(parts)
        return Row(
            f"{ours}/{name}",
            "fused_dense",
            tuple(f"{prefix}.{hf}.{n}.weight" for n in letters),
            tuple(f"{prefix}/{tf}/{n}" for n in letters),
        )

    kernels = (row("query_kernel", "q"), row("key_value_kernel", "kv")) if cross else (row("qkv_kernel", "qkv"),)
    return (*kernels, row("output_kernel", "o"))


def _tf(name: str) -> str:
    """``block.{i}.layer.0.x`` as TensorFlow has it: ``block_{i:03d}/layer_000/x``."""
    name = name.replace("block.{i}", "block_{i:03d}")
    for n in range(3):
        name = name.replace(f"layer.{n}.", f"layer_00{n}.")
    return name.replace(".", "/")


def _norm(ours: str, prefix: str, hf: str) -> Row:
    return Row(f"{ours}/gain", "same", f"{prefix}.{hf}.weight", f"{prefix}/{_tf(hf)}/scale")


def _feedforward(ours: str, prefix: str, hf: str) -> tuple[Row, ...]:
    def row(name: str, parts: tuple[str, ...], gated: bool | None) -> Row:
        return Row(
            f"{ours}/{name}",
            "fused_dense",
            tuple(f"{prefix}.{hf}.{n}.weight" for n in parts),
            tuple(f"{prefix}/{_tf(hf)}/{n}/kernel" for n in parts),
            gated=gated,
        )

    return (
        row("up_kernel", ("wi",), False),
        row("up_kernel", ("wi_0", "wi_1"), True),
        row("down_kernel", ("wo",), None),
    )


def _stack(prefix: str, ours: str) -> tuple[Row, ...]:
    """Rows of the encoder (``ours=""``) or the decoder."""
    block, cross = f"{ours}block_{{i}}", bool(ours)
    last = "layer.2" if cross else "layer.1"
    rows = [
        Row(
            f"{ours}position_tables/{ours}position/table",
            "tf_transposed",
            f"{prefix}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            f"{prefix}/block_000/layer_000/SelfAttention/relative_attention_bias",
        ),
        *_attention(f"{block}_attention", prefix, "block.{i}.layer.0.SelfAttention"),
        _norm(f"{block}_attention_norm", prefix, "block.{i}.layer.0.layer_norm"),
        *_feedforward(f"{block}_feedforward", prefix, f"block.{{i}}.{last}.DenseReluDense"),
        _norm(f"{block}_feedforward_norm", prefix, f"block.{{i}}.{last}.layer_norm"),
        _norm(f"{ours}final_norm", prefix, "final_layer_norm"),
    ]
    if cross:
        rows += _attention(f"{block}_cross_attention", prefix, "block.{i}.layer.1.EncDecAttention", cross=True)
        rows.append(_norm(f"{block}_cross_attention_norm", prefix, "block.{i}.layer.1.layer_norm"))
    return tuple(rows)


T5 = Family(
    name="t5",
    model_types=("t5",),
    rows=(
        Row("token_embedding/table", "same", "shared.weight", "shared/embedding"),
        *_stack("encoder", ""),
        *_stack("decoder", "decoder_"),
        Row("lm_head/output_table", "tf_transposed", "lm_head.weight", "decoder/logits/kernel", "lm"),
    ),
    prefix="",
    from_official=_t5_from,
    to_official=_t5_to,
    architectures={None: "T5Model", "lm": "T5ForConditionalGeneration", "encoder": "T5EncoderModel"},
    ignore=(*IGNORE, r"^(en|de)coder\.embed_tokens\.weight$", r"EncDecAttention\.relative_attention_bias", r"_slot_"),
    aliases=((r"^encoder\.embed_tokens\.weight$", "shared.weight"),),
    tied="lm_head.weight",
    adapt=_adapt,
    head_sizes=True,
)
MT5 = dataclasses.replace(
    T5,
    name="mt5",
    model_types=("mt5",),
    from_official=_mt5_from,
    to_official=_mt5_to,
    architectures={None: "MT5Model", "lm": "MT5ForConditionalGeneration", "encoder": "MT5EncoderModel"},
)
