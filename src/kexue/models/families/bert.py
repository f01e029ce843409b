"""BERT, and what has its shape and names: RoBERTa-wwm, MacBERT, WoBERT (Devlin et al., arXiv 1810.04805)."""

from collections.abc import Mapping
from typing import Any

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row, bert_fields, bert_official, dense, fused, norm

__all__ = ["FAMILY", "block_rows", "embedding_rows"]

_SELF = ("query", "key", "value")


def embedding_rows(prefix: str, tf: str = "bert/") -> tuple[Row, ...]:
    """Token and segment tables and the norm over their sum."""
    hf, tf = f"{prefix}embeddings.", f"{tf}embeddings/"
    return (
        Row("token_embedding/table", "same", f"{hf}word_embeddings.weight", f"{tf}word_embeddings"),
        Row("segment_embedding/table", "same", f"{hf}token_type_embeddings.weight", f"{tf}token_type_embeddings"),
        *norm("embedding_norm", f"{hf}LayerNorm", f"{tf}LayerNorm"),
    )


def position_rows(prefix: str, tf: str = "bert/") -> tuple[Row, ...]:
    """The table of learned positions."""
    hf, tf = f"{prefix}embeddings.position_embeddings.weight", f"{tf}embeddings/position_embeddings"
    return (Row("position_embedding/table", "same", hf, tf),)


def block_rows(prefix: str, tf: str = "bert/") -> tuple[Row, ...]:
    """The weights of one block."""
    hf, tf = f"{prefix}encoder.layer.{{i}}.", f"{tf}encoder/layer_{{i}}/"
    return (
        *fused("block_{i}_attention/qkv_", f"{hf}attention.self.", f"{tf}attention/self/", _SELF),
        *dense("block_{i}_attention/output_", f"{hf}attention.output.dense", f"{tf}attention/output/dense"),
        *norm("block_{i}_attention_norm", f"{hf}attention.output.LayerNorm", f"{tf}attention/output/LayerNorm"),
        *dense("block_{i}_feedforward/up_", f"{hf}intermediate.dense", f"{tf}intermediate/dense"),
        *dense("block_{i}_feedforward/down_", f"{hf}output.dense", f"{tf}output/dense"),
        *norm("block_{i}_feedforward_norm", f"{hf}output.LayerNorm", f"{tf}output/LayerNorm"),
    )


def pooler_rows(prefix: str, tf: str = "bert/") -> tuple[Row, ...]:
    """The pooled output."""
    return dense("pooler/", f"{prefix}pooler.dense", f"{tf}pooler/dense", "pooler")


_HF, _TF = "cls.predictions.", "cls/predictions/"

LM_ROWS = (
    *dense("lm_head/dense_", f"{_HF}transform.dense", f"{_TF}transform/dense", "lm"),
    *norm("lm_head/norm", f"{_HF}transform.LayerNorm", f"{_TF}transform/LayerNorm", "lm"),
    Row("lm_head/bias", "same", f"{_HF}bias", f"{_TF}output_bias", "lm", twin=f"{_HF}decoder.bias"),
    Row("lm_head/output_table", "same", f"{_HF}decoder.weight", f"{_TF}output_weights", "lm"),
)

NSP_ROWS = (
    Row("nsp_head/kernel", "transposed", "cls.seq_relationship.weight", "cls/seq_relationship/output_weights", "nsp"),
    Row("nsp_head/bias", "same", "cls.seq_relationship.bias", "cls/seq_relationship/output_bias", "nsp"),
)

# Buffers and tied copies of Hugging Face files, optimizer slots and counters of TensorFlow files.
IGNORE = (
    r"embeddings\.(position_ids|token_type_ids)$",
    r"predictions\.decoder\.(weight|bias)$",
    r"(^|/)(adam_[mv]|global_step|AdamWeightDecayOptimizer|LAMBOptimizer)(_\d+)?(/|$)",
    r"/(adam_[mv]|lamb_[mv]|Adam|Adam_1|ExponentialMovingAverage)$",
    r"^(beta[12]_power|global_step|_CHECKPOINTABLE_OBJECT_GRAPH|save_counter.*)$",
)

ALIASES = (
    (r"^module\.", ""),
    (r"LayerNorm\.gamma$", "LayerNorm.weight"),
    (r"LayerNorm\.beta$", "LayerNorm.bias"),
)


def _from_official(data: Mapping[str, Any]) -> TransformerConfig:
    fields = bert_fields(data)
    if "embedding_size" in fields:
        raise ConfigError("embedding_size differs from hidden_size: BERT has no factorised embeddings.")
    return TransformerConfig(family="bert", position="learned", **fields)


def _to_official(config: TransformerConfig) -> dict[str, Any]:
    if config.position != "learned":
        raise ConfigError(
            f"BERT's official format has learned positions only, this model has {config.position!r}; "
            "use format='kexue'."
        )
    return {"model_type": "bert"} | bert_official(config)


FAMILY = Family(
    name="bert",
    model_types=("bert", "macbert"),
    rows=(
        *embedding_rows("bert."),
        *position_rows("bert."),
        *block_rows("bert."),
        *pooler_rows("bert."),
        *LM_ROWS,
        *NSP_ROWS,
    ),
    prefix="bert.",
    from_official=_from_official,
    to_official=_to_official,
    architectures={None: "BertModel", "lm": "BertForMaskedLM", "nsp": "BertForPreTraining"},
    ignore=IGNORE,
    aliases=ALIASES,
    tied="cls.predictions.decoder.weight",
)
