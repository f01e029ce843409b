"""GPT: a causal Transformer with the norms after the residuals (Radford et al., 2018).

PyTorch files have queries, keys and values as one matrix ``c_attn``, stored as (in, out). TensorFlow names are those of
bert4keras, BERT's with ``gpt`` for ``bert`` and ``transformer`` for ``encoder``. CDialGPT, a GPT that adds rows of the
token table as segments, is loaded with ``shared_segments=True``.
"""

from collections.abc import Mapping
from typing import Any

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row, check_parts
from kexue.models.families.bert import IGNORE as BERT_IGNORE

__all__ = ["DECODER_PARTS", "FAMILY", "IGNORE", "gpt_fields", "gpt_official"]

DECODER_PARTS = {
    "num_segments": 0,
    "attention": "softmax",
    "gated": False,
    "norm_scale": True,
    "block_groups": None,
    "condition_size": None,
    "decoder_layers": None,
    "embedding_size": None,
    "position_offset": 0,
    "positions_from_padding": False,
}
"""Fields that no official configuration of a decoder can change."""


def gpt_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that GPT and GPT-2 configurations share, mapped to ours.

    Raises:
        ConfigError: one that decides the shape is missing, or asks for what kexue does not have.
    """
    needed = ("vocab_size", "n_embd", "n_layer", "n_head")
    missing = [name for name in needed if data.get(name) is None]
    if missing:
        raise ConfigError(f"the configuration lacks {', '.join(missing)}. It has: {', '.join(sorted(data))}.")
    for name, plain in (
        ("scale_attn_weights", True),
        ("scale_attn_by_inverse_layer_idx", False),
        ("add_cross_attention", False),
    ):
        if data.get(name, plain) is not plain:
            raise ConfigError(f"{name}={data[name]!r} is not supported; expected {plain!r}.")
    return {
        "vocabulary_size": data["vocab_size"],
        "hidden_size": data["n_embd"],
        "num_layers": data["n_layer"],
        "num_heads": data["n_head"],
        "intermediate_size": data.get("n_inner") or 4 * data["n_embd"],
        "num_segments": 0,
        "mask": "causal",
        "position": "learned",
        "norm_epsilon": data.get("layer_norm_epsilon", 1e-5),
        "embedding_norm": False,
        "dropout": data.get("resid_pdrop", 0.1),
        "attention_dropout": data.get("attn_pdrop", 0.1),
        "initializer": data.get("initializer_range", 0.02),
        "lm_transform": False,
        "lm_bias": False,
        "tie_embeddings": data.get("tie_word_embeddings", True),
        "pad_id": data.get("pad_token_id") or 0,
    }


def gpt_official(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `gpt_fields`.

    Raises:
        ConfigError: the model has parts that the official format cannot express.
    """
    check_parts(
        config,
        DECODER_PARTS
        | {
            "position": "learned",
            "position_options": {},
            "attention_options": {},
            "key_heads": None,
            "query_key_norm": False,
            "local_window": None,
            "shared_segments": False,
        },
    )
    return {
        "vocab_size": config.vocabulary_size,
        "n_positions": config.max_length,
        "n_embd": config.hidden_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.attention_dropout,
        "layer_norm_epsilon": config.norm_epsilon,
        "initializer_range": config.initializer if isinstance(config.initializer, float) else 0.02,
        "pad_token_id": config.pad_id or None,
        "tie_word_embeddings": config.tie_embeddings,
    }


# transformers' GPT calls the tanh form "gelu" and knows no other.
_ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "silu": "silu", "swish": "silu"}


def _from_official(data: Mapping[str, Any]) -> TransformerConfig:
    name = data.get("afn", "gelu")
    if name not in _ACTIVATIONS:
        raise ConfigError(f"afn must be one of {', '.join(_ACTIVATIONS)}. Received: afn={name!r}")
    max_length = data.get("n_positions", 512)
    return TransformerConfig(family="gpt", activation=_ACTIVATIONS[name], max_length=max_length, **gpt_fields(data))


def _to_official(config: TransformerConfig) -> dict[str, Any]:
    names = {ours: name for name, ours in reversed(_ACTIVATIONS.items())}
    if config.activation not in names:
        raise ConfigError(
            f"GPT's official format has activations {', '.join(names)}. Received: {config.activation!r}; "
            "use format='kexue'."
        )
    check_parts(config, {"norm_order": "post", "intermediate_size": 4 * config.hidden_size})
    return {"model_type": "openai-gpt", "afn": names[config.activation]} | gpt_official(config)


def _map(ours: str, hf: str, tf: str) -> tuple[Row, Row]:
    """A dense map, (in, out) in both layouts."""
    return (
        Row(f"{ours}kernel", "same", f"{hf}.weight", f"{tf}/kernel"),
        Row(f"{ours}bias", "same", f"{hf}.bias", f"{tf}/bias"),
    )


def _norm(ours: str, hf: str, tf: str) -> tuple[Row, Row]:
    return (
        Row(f"{ours}/gain", "same", f"{hf}.weight", f"{tf}/gamma"),
        Row(f"{ours}/bias", "same", f"{hf}.bias", f"{tf}/beta"),
    )


_HF, _TF = "transformer.h.{i}.", "gpt/transformer/layer_{i}/"
_SELF = ("query", "key", "value")

IGNORE = (*BERT_IGNORE, r"\.attn\.(bias|masked_bias)$", r"(^|\.)position_ids$")

FAMILY = Family(
    name="gpt",
    model_types=("openai-gpt",),
    rows=(
        Row("token_embedding/table", "same", "transformer.tokens_embed.weight", "gpt/embeddings/word_embeddings"),
        Row(
            "position_embedding/table",
            "same",
            "transformer.positions_embed.weight",
            "gpt/embeddings/position_embeddings",
        ),
        Row(
            "block_{i}_attention/qkv_kernel",
            "fused",
            f"{_HF}attn.c_attn.weight",
            tuple(f"{_TF}attention/self/{n}/kernel" for n in _SELF),
        ),
        Row(
            "block_{i}_attention/qkv_bias",
            "fused",
            f"{_HF}attn.c_attn.bias",
            tuple(f"{_TF}attention/self/{n}/bias" for n in _SELF),
        ),
        *_map("block_{i}_attention/output_", f"{_HF}attn.c_proj", f"{_TF}attention/output/dense"),
        *_norm("block_{i}_attention_norm", f"{_HF}ln_1", f"{_TF}attention/output/LayerNorm"),
        *_map("block_{i}_feedforward/up_", f"{_HF}mlp.c_fc", f"{_TF}intermediate/dense"),
        *_map("block_{i}_feedforward/down_", f"{_HF}mlp.c_proj", f"{_TF}output/dense"),
        *_norm("block_{i}_feedforward_norm", f"{_HF}ln_2", f"{_TF}output/LayerNorm"),
        Row("lm_head/output_table", "same", "lm_head.weight", "gpt/output_weights", "lm"),
    ),
    prefix="transformer.",
    from_official=_from_official,
    to_official=_to_official,
    architectures={None: "OpenAIGPTModel", "lm": "OpenAIGPTLMHeadModel"},
    ignore=IGNORE,
    tied="lm_head.weight",
)
