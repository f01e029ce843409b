"""GPT2-ML, the Chinese GPT-2 of 1.5 billion parameters in Grover's shape (Zellers et al., arXiv 1905.12616).

A block is ``x' = x + Att(x); y = LN1(x' + FFN(LN0(x')))``; the sum of embeddings is normalised. ``transformers`` has no
such family: TensorFlow names only.
"""

from collections.abc import Mapping
from typing import Any

from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row, bert_fields, bert_words, check_parts
from kexue.models.families.bert import IGNORE
from kexue.models.families.gpt import DECODER_PARTS

__all__ = ["FAMILY"]


def _from_official(data: Mapping[str, Any]) -> TransformerConfig:
    return TransformerConfig(
        **bert_fields(data)
        | {
            "family": "gpt2_ml",
            "num_segments": 0,
            "max_length": data.get("max_position_embeddings", 1024),
            "mask": "causal",
            "norm_order": "feedforward",
            "norm_epsilon": data.get("layer_norm_eps", 1e-5),
            "lm_transform": False,
            "lm_bias": False,
        }
    )


def _to_official(config: TransformerConfig) -> dict[str, Any]:
    check_parts(
        config,
        DECODER_PARTS
        | {
            "norm_order": "feedforward",
            "position": "learned",
            "position_options": {},
            "attention_options": {},
            "key_heads": None,
            "query_key_norm": False,
            "local_window": None,
            "shared_segments": False,
        },
    )
    return {"model_type": "gpt2_ml"} | bert_words(config)


_TF = "newslm/layer{i:02d}/"


def _dense(ours: str, names: tuple[str, ...]) -> tuple[Row, Row]:
    return (
        Row(f"{ours}kernel", "fused", tf=tuple(f"{_TF}{n}/kernel" for n in names)),
        Row(f"{ours}bias", "fused", tf=tuple(f"{_TF}{n}/bias" for n in names)),
    )


def _norm(ours: str, tf: str) -> tuple[Row, Row]:
    return Row(f"{ours}/gain", "same", tf=f"{tf}/gamma"), Row(f"{ours}/bias", "same", tf=f"{tf}/beta")


FAMILY = Family(
    name="gpt2_ml",
    model_types=("gpt2_ml",),
    rows=(
        Row("token_embedding/table", "same", tf="newslm/embeddings/word_embed"),
        Row("position_embedding/table", "same", tf="newslm/embeddings/pos_embed"),
        *_norm("embedding_norm", "newslm/embeddings/LayerNorm_embed_norm"),
        *_dense("block_{i}_attention/qkv_", ("query_layer", "key_layer", "value_layer")),
        *_dense("block_{i}_attention/output_", ("context_projection_layer",)),
        *_norm("block_{i}_feedforward_input_norm", f"{_TF}LayerNorm_mlp_ln0"),
        *_dense("block_{i}_feedforward/up_", ("intermediate",)),
        *_dense("block_{i}_feedforward/down_", ("output",)),
        *_norm("block_{i}_feedforward_norm", f"{_TF}LayerNorm_mlp_ln1"),
        Row("lm_head/output_table", "same", tf="newslm/lm_head/output_weights", group="lm"),
    ),
    prefix="",
    from_official=_from_official,
    to_official=_to_official,
    architectures=None,
    ignore=IGNORE,
)
