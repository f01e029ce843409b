"""DeBERTa-v2 and v3: content and relative positions attend to each other (He et al., arXiv 2006.03654, 2111.09543).

The mask of transformers' model hides padding queries too; outputs at padding differ, those of tokens do not. Its
pooler, with another activation than BERT's, exists in models for classification only.
"""

from collections.abc import Mapping
from typing import Any

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row, bert_fields, bert_official, dense, norm
from kexue.models.families.bert import ALIASES, IGNORE

__all__ = ["FAMILY"]

_TERMS = ("c2p", "p2c")


def _words(value: Any) -> list[str]:
    """``"p2c|c2p"`` of Microsoft's configurations, or a list."""
    return [word.strip() for word in value.lower().split("|")] if isinstance(value, str) else list(value or [])


def _from_official(data: Mapping[str, Any]) -> TransformerConfig:
    data = {"type_vocab_size": 0, "layer_norm_eps": 1e-7} | dict(data)
    fields = bert_fields(data)
    terms = [term for term in _TERMS if term in _words(data.get("pos_att_type"))]
    if not data.get("relative_attention", False) or not terms:
        raise ConfigError(
            "expected relative_attention=true with 'c2p' or 'p2c' in pos_att_type; without them it is a BERT. "
            f"Received: {data.get('relative_attention')!r}, pos_att_type={data.get('pos_att_type')!r}"
        )
    if "embedding_size" in fields:
        raise ConfigError("embedding_size differs from hidden_size: that is not supported for DeBERTa.")
    if data.get("conv_groups", 1) != 1:
        raise ConfigError(f"conv_groups={data['conv_groups']} is not supported; expected 1.")
    longest = data.get("max_relative_positions", -1)
    buckets, kernel = data.get("position_buckets", -1), data.get("conv_kernel_size", 0)
    return TransformerConfig(
        family="deberta_v2",
        position="deberta",
        position_options={
            "max_distance": longest if longest > 0 else fields["max_length"],
            "buckets": buckets if buckets > 0 else None,
            "terms": terms,
            "shared_keys": data.get("share_att_key", False),
            "norm": fields["norm_epsilon"] if "layer_norm" in _words(data.get("norm_rel_ebd", "none")) else None,
        },
        absolute_positions=data.get("position_biased_input", True),
        convolution_size=kernel if kernel > 0 else None,
        convolution_activation=data.get("conv_act", "tanh"),
        pooler_activation=data.get("pooler_hidden_act", "gelu"),
        **fields,
    )


def _to_official(config: TransformerConfig) -> dict[str, Any]:
    if config.position != "deberta":
        raise ConfigError(
            f"DeBERTa's official format has the positions 'deberta' only, this model has {config.position!r}; "
            "use format='kexue'."
        )
    options = config.position_options
    return {
        "model_type": "deberta-v2",
        "relative_attention": True,
        "max_relative_positions": options.get("max_distance", config.max_length),
        "position_buckets": options.get("buckets") or -1,
        "pos_att_type": list(options.get("terms", _TERMS)),
        "share_att_key": options.get("shared_keys", False),
        "norm_rel_ebd": "none" if options.get("norm") is None else "layer_norm",
        "position_biased_input": config.absolute_positions,
        "conv_kernel_size": config.convolution_size or 0,
        "conv_act": config.convolution_activation,
        "pooler_hidden_act": config.pooler_activation,
        "pooler_hidden_size": config.hidden_size,
        "legacy": True,
    } | bert_official(config)


_EMBEDDINGS, _HF = "deberta.embeddings.", "deberta.encoder.layer.{i}."
_TABLE, _HEAD = "position_tables/position/", "cls.predictions."


def _dense(ours: str, hf: str, group: str | None = None) -> tuple[Row, ...]:
    return tuple(_hf_only(row) for row in dense(ours, hf, "", group))


def _norm(ours: str, hf: str, group: str | None = None) -> tuple[Row, ...]:
    return tuple(_hf_only(row) for row in norm(ours, hf, "", group))


def _hf_only(row: Row) -> Row:
    """DeBERTa was published for PyTorch alone."""
    return Row(row.ours, row.storage, row.hf, (), row.group, row.twin)


_PROJECTIONS = tuple(f"{_HF}attention.self.{name}_proj" for name in ("query", "key", "value"))

FAMILY = Family(
    name="deberta_v2",
    model_types=("deberta-v2",),
    rows=(
        Row("token_embedding/table", "same", f"{_EMBEDDINGS}word_embeddings.weight"),
        Row("segment_embedding/table", "same", f"{_EMBEDDINGS}token_type_embeddings.weight"),
        Row("position_embedding/table", "same", f"{_EMBEDDINGS}position_embeddings.weight"),
        *_norm("embedding_norm", f"{_EMBEDDINGS}LayerNorm"),
        Row(f"{_TABLE}table", "same", "deberta.encoder.rel_embeddings.weight"),
        *_norm(f"{_TABLE}norm", "deberta.encoder.LayerNorm"),
        Row("convolution/kernel", "convolution", "deberta.encoder.conv.conv.weight"),
        Row("convolution/bias", "same", "deberta.encoder.conv.conv.bias"),
        *_norm("convolution_norm", "deberta.encoder.conv.LayerNorm"),
        Row("block_{i}_attention/qkv_kernel", "fused_dense", tuple(f"{name}.weight" for name in _PROJECTIONS)),
        Row("block_{i}_attention/qkv_bias", "fused", tuple(f"{name}.bias" for name in _PROJECTIONS)),
        *_dense("block_{i}_attention/position_key_", f"{_HF}attention.self.pos_key_proj"),
        *_dense("block_{i}_attention/position_query_", f"{_HF}attention.self.pos_query_proj"),
        *_dense("block_{i}_attention/output_", f"{_HF}attention.output.dense"),
        *_norm("block_{i}_attention_norm", f"{_HF}attention.output.LayerNorm"),
        *_dense("block_{i}_feedforward/up_", f"{_HF}intermediate.dense"),
        *_dense("block_{i}_feedforward/down_", f"{_HF}output.dense"),
        *_norm("block_{i}_feedforward_norm", f"{_HF}output.LayerNorm"),
        *_dense("pooler/", "pooler.dense", "pooler"),
        *_dense("lm_head/dense_", f"{_HEAD}transform.dense", "lm"),
        *_norm("lm_head/norm", f"{_HEAD}transform.LayerNorm", "lm"),
        Row("lm_head/bias", "same", f"{_HEAD}bias", (), "lm", twin=f"{_HEAD}decoder.bias"),
        Row("lm_head/output_table", "same", f"{_HEAD}decoder.weight", (), "lm"),
    ),
    prefix="deberta.",
    from_official=_from_official,
    to_official=_to_official,
    architectures={None: "DebertaV2Model", "lm": "DebertaV2ForMaskedLM"},
    # The generator's and the discriminator's heads of Microsoft's files; an absolute table that is not read.
    ignore=(
        *IGNORE,
        r"^(mask_predictions|lm_mask_predictions)\.",
        r"^deberta\.embeddings\.position_embeddings\.weight$",
    ),
    aliases=(
        *ALIASES,
        # The head of models that are not "legacy" in transformers' words, and of Microsoft's files.
        (r"^lm_predictions\.lm_head\.dense\.", f"{_HEAD}transform.dense."),
        (r"^lm_predictions\.lm_head\.LayerNorm\.", f"{_HEAD}transform.LayerNorm."),
        (r"^lm_predictions\.lm_head\.bias$", f"{_HEAD}bias"),
    ),
    tied="cls.predictions.decoder.weight",
)
