"""XLNet: relative positions of Transformer-XL, and a second stream for permutation language models.

Without a mask of its own it is an encoder. ``two_stream=True`` with ``mask=Permuted()`` is its pretraining; see
`kexue.models.streams`. Memories of earlier segments are not built. Names of Hugging Face and of the authors'
TensorFlow files, whose biases of all blocks stand in one tensor.

Source: Yang et al., arXiv 1906.08237.
"""

from collections.abc import Mapping
from typing import Any

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row, bert_official, dense, norm
from kexue.models.families.bert import IGNORE

__all__ = ["FAMILY"]


def _from_official(data: Mapping[str, Any]) -> TransformerConfig:
    needed = ("d_model", "n_layer", "n_head", "d_inner")
    missing = [name for name in needed if name not in data]
    if "vocab_size" not in data and "n_token" not in data:
        missing.append("vocab_size")
    if missing:
        raise ConfigError(f"the configuration lacks {', '.join(missing)}. It has: {', '.join(sorted(data))}.")
    for name, usual in (("bi_data", False), ("same_length", False), ("untie_r", True)):
        if data.get(name, usual) is not usual:
            raise ConfigError(f"{name}={data[name]!r} is not supported; expected {usual}.")
    clamp = data.get("clamp_len", -1)
    size = data.get("d_head") or data["d_model"] // data["n_head"]
    sizes = {} if size * data["n_head"] == data["d_model"] else {"key_size": size, "value_size": size}
    return TransformerConfig(
        family="xlnet",
        vocabulary_size=data.get("vocab_size", data.get("n_token")),
        hidden_size=data["d_model"],
        num_layers=data["n_layer"],
        num_heads=data["n_head"],
        intermediate_size=data["d_inner"],
        num_segments=0,
        mask="causal" if data.get("attn_type", "bi") == "uni" else "bidirectional",
        position="transformer_xl",
        position_options={"segments": True} | ({"clamp": clamp} if clamp > 0 else {}),
        mask_vector=True,
        activation=data.get("ff_activation", "gelu"),
        norm_epsilon=data.get("layer_norm_eps", 1e-12),
        embedding_norm=False,
        attention_bias=False,
        dropout=data.get("dropout", 0.1),
        attention_dropout=data.get("dropout", 0.1),
        initializer=data.get("initializer_range", 0.02),
        lm_transform=False,
        tie_embeddings=data.get("tie_word_embeddings", True),
        pad_id=5 if data.get("pad_token_id") is None else data["pad_token_id"],
        **sizes,
    )


def _to_official(config: TransformerConfig) -> dict[str, Any]:
    options = config.position_options
    if config.position != "transformer_xl" or not options.get("segments"):
        raise ConfigError(
            "XLNet's official format has the positions 'transformer_xl' with segments only; use format='kexue'. "
            f"Received: position={config.position!r}, position_options={options!r}"
        )
    data = bert_official(config)
    return {
        "model_type": "xlnet",
        "vocab_size": data["vocab_size"],
        "d_model": data["hidden_size"],
        "n_layer": data["num_hidden_layers"],
        "n_head": data["num_attention_heads"],
        "d_head": config.key_dim,
        "d_inner": data["intermediate_size"],
        "ff_activation": data["hidden_act"],
        "attn_type": "uni" if config.mask == "causal" else "bi",
        "clamp_len": options.get("clamp") or -1,
        "untie_r": True,
        "layer_norm_eps": data["layer_norm_eps"],
        "dropout": data["hidden_dropout_prob"],
        "initializer_range": data["initializer_range"],
        "pad_token_id": data["pad_token_id"],
        "tie_word_embeddings": data["tie_word_embeddings"],
    }


_HF, _TF = "transformer.layer.{i}.", "model/transformer/layer_{i}/"
_RELATIVE = f"{_HF}rel_attn."


def _shared(ours: str, hf: str) -> Row:
    """A weight of each block that TensorFlow files hold in one tensor for all blocks."""
    return Row(f"block_{{i}}_attention/{ours}", "same", f"{_RELATIVE}{hf}", f"model/transformer/{hf}[{{i}}]")


FAMILY = Family(
    name="xlnet",
    model_types=("xlnet",),
    rows=(
        Row(
            "token_embedding/table",
            "same",
            "transformer.word_embedding.weight",
            "model/transformer/word_embedding/lookup_table",
        ),
        Row("token_embedding/mask_vector", "same", "transformer.mask_emb", "model/transformer/mask_emb/mask_emb"),
        Row(
            "block_{i}_attention/qkv_kernel",
            "heads",
            tuple(f"{_RELATIVE}{n}" for n in "qkv"),
            tuple(f"{_TF}rel_attn/{n}/kernel" for n in "qkv"),
        ),
        Row("block_{i}_attention/output_kernel", "heads_out", f"{_RELATIVE}o", f"{_TF}rel_attn/o/kernel"),
        Row("block_{i}_attention/position_kernel", "heads", f"{_RELATIVE}r", f"{_TF}rel_attn/r/kernel"),
        _shared("content_bias", "r_w_bias"),
        _shared("position_bias", "r_r_bias"),
        _shared("segment_bias", "r_s_bias"),
        _shared("segment_table", "seg_embed"),
        *norm("block_{i}_attention_norm", f"{_RELATIVE}layer_norm", f"{_TF}rel_attn/LayerNorm"),
        *dense("block_{i}_feedforward/up_", f"{_HF}ff.layer_1", f"{_TF}ff/layer_1"),
        *dense("block_{i}_feedforward/down_", f"{_HF}ff.layer_2", f"{_TF}ff/layer_2"),
        *norm("block_{i}_feedforward_norm", f"{_HF}ff.layer_norm", f"{_TF}ff/LayerNorm"),
        Row("lm_head/bias", "same", "lm_loss.bias", "model/lm_loss/bias", "lm"),
        Row("lm_head/output_table", "same", "lm_loss.weight", "model/lm_loss/weight", "lm"),
    ),
    prefix="transformer.",
    from_official=_from_official,
    to_official=_to_official,
    architectures={None: "XLNetModel", "lm": "XLNetLMHeadModel"},
    ignore=(*IGNORE, r"^lm_loss\.weight$"),
    tied="lm_loss.weight",
)
