"""BERT, and what has its shape and names: RoBERTa-wwm, MacBERT, WoBERT (Devlin et al., arXiv 1810.04805)."""

from collections.abc import Mapping
from typing import Any

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row, bert_fields, bert_official

__all__ = ["FAMILY", "block_rows", "embedding_rows"]

_QKV = ("query", "key", "value")


def embedding_rows(prefix: str, tf: str = "bert/") -> tuple[Row, ...]:
    """Token and segment tables and the norm over their sum."""
    return (
        Row("token_embedding/table", "same", f"{prefix}embeddings.word_embeddings.weight", f"{tf}embeddings/word_embeddings"),
        Row("segment_embedding/table", "same", f"{prefix}embeddings.token_type_embeddings.weight", f"{tf}embeddings/token_type_embeddings"),
        Row("embedding_norm/gain", "same", f"{prefix}embeddings.LayerNorm.weight", f"{tf}embeddings/LayerNorm/gamma"),
        Row("embedding_norm/bias", "same", f"{prefix}embeddings.LayerNorm.bias", f"{tf}embeddings/LayerNorm/beta"),
    )  # fmt: skip


def block_rows(prefix: str, tf: str = "bert/") -> tuple[Row, ...]:
    """The weights of one block."""
    hf, tf = f"{prefix}encoder.layer.{{i}}.", f"{tf}encoder/layer_{{i}}/"
    return (
        Row("block_{i}_attention/qkv_kernel", "fused_dense", tuple(f"{hf}attention.self.{n}.weight" for n in _QKV), tuple(f"{tf}attention/self/{n}/kernel" for n in _QKV)),
        Row("block_{i}_attention/qkv_bias", "fused", tuple(f"{hf}attention.self.{n}.bias" for n in _QKV), tuple(f"{tf}attention/self/{n}/bias" for n in _QKV)),
        Row("block_{i}_attention/output_kernel", "dense", f"{hf}attention.output.dense.weight", f"{tf}attention/output/dense/kernel"),
        Row("block_{i}_attention/output_bias", "same", f"{hf}attention.output.dense.bias", f"{tf}attention/output/dense/bias"),
        Row("block_{i}_attention_norm/gain", "same", f"{hf}attention.output.LayerNorm.weight", f"{tf}attention/output/LayerNorm/gamma"),
        Row("block_{i}_attention_norm/bias", "same", f"{hf}attention.output.LayerNorm.bias", f"{tf}attention/output/LayerNorm/beta"),
        Row("block_{i}_feedforward/up_kernel", "dense", f"{hf}intermediate.dense.weight", f"{tf}intermediate/dense/kernel"),
        Row("block_{i}_feedforward/up_bias", "same", f"{hf}intermediate.dense.bias", f"{tf}intermediate/dense/bias"),
        Row("block_{i}_feedforward/down_kernel", "dense", f"{hf}output.dense.weight", f"{tf}output/dense/kernel"),
        Row("block_{i}_feedforward/down_bias", "same", f"{hf}output.dense.bias", f"{tf}output/dense/bias"),
        Row("block_{i}_feedforward_norm/gain", "same", f"{hf}output.LayerNorm.weight", f"{tf}output/LayerNorm/gamma"),
        Row("block_{i}_feedforward_norm/bias", "same", f"{hf}output.LayerNorm.bias", f"{tf}output/LayerNorm/beta"),
    )  # fmt: skip


def position_rows(prefix: str, tf: str = "bert/") -> tuple[Row, ...]:
    """The table of learned positions."""
    return (Row("position_embedding/table", "same", f"{prefix}embeddings.position_embeddings.weight", f"{tf}embeddings/position_embeddings"),)  # fmt: skip


def pooler_rows(prefix: str, tf: str = "bert/") -> tuple[Row, ...]:
    """The pooled output."""
    return (
        Row("pooler/kernel", "dense", f"{prefix}pooler.dense.weight", f"{tf}pooler/dense/kernel", "pooler"),
        Row("pooler/bias", "same", f"{prefix}pooler.dense.bias", f"{tf}pooler/dense/bias", "pooler"),
    )


LM_ROWS = (
    Row("lm_head/dense_kernel", "dense", "cls.predictions.transform.dense.weight", "cls/predictions/transform/dense/kernel", "lm"),
    Row("lm_head/dense_bias", "same", "cls.predictions.transform.dense.bias", "cls/predictions/transform/dense/bias", "lm"),
    Row("lm_head/norm/gain", "same", "cls.predictions.transform.LayerNorm.weight", "cls/predictions/transform/LayerNorm/gamma", "lm"),
    Row("lm_head/norm/bias", "same", "cls.predictions.transform.LayerNorm.bias", "cls/predictions/transform/LayerNorm/beta", "lm"),
    Row("lm_head/bias", "same", "cls.predictions.bias", "cls/predictions/output_bias", "lm"),
    Row("lm_head/output_table", "same", "cls.predictions.decoder.weight", "cls/predictions/output_weights", "lm"),
)  # fmt: skip

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
)
