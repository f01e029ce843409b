"""ALBERT: BERT with narrow embeddings and one block for all layers (Lan et al., arXiv 1909.11942).

``num_hidden_groups`` blocks serve ``num_hidden_layers`` layers. Loaded with ``block_groups=None``, each layer has its
own copy ("unshared"); such a model is written with as many groups as layers. The ``nsp`` head is its sentence-order
head. Google's Chinese checkpoints (``albert_*_google_zh``) have Google's layout; brightmart's first ones
(``layer_shared``) project tokens before positions are added, which is another model.
"""

from collections.abc import Mapping
from typing import Any

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row, bert_fields, bert_official, dense, fused, norm
from kexue.models.families.bert import ALIASES, IGNORE, embedding_rows, position_rows

__all__ = ["FAMILY"]

_SELF = ("query", "key", "value")
_BLOCK, _TF_BLOCK = "albert.encoder.albert_layer_groups.{i}.albert_layers.0.", "bert/encoder/transformer/group_{i}/"
_INNER = f"{_TF_BLOCK}inner_group_0/"

_BLOCK_ROWS = (
    *fused("block_{i}_attention/qkv_", f"{_BLOCK}attention.", f"{_INNER}attention_1/self/", _SELF),
    *dense("block_{i}_attention/output_", f"{_BLOCK}attention.dense", f"{_INNER}attention_1/output/dense"),
    *norm("block_{i}_attention_norm", f"{_BLOCK}attention.LayerNorm", f"{_INNER}LayerNorm"),
    *dense("block_{i}_feedforward/up_", f"{_BLOCK}ffn", f"{_INNER}ffn_1/intermediate/dense"),
    *dense("block_{i}_feedforward/down_", f"{_BLOCK}ffn_output", f"{_INNER}ffn_1/intermediate/output/dense"),
    *norm("block_{i}_feedforward_norm", f"{_BLOCK}full_layer_layer_norm", f"{_INNER}LayerNorm_1"),
)

_TF = "cls/predictions/"
_HEAD_ROWS = (
    *dense("pooler/", "albert.pooler", "bert/pooler/dense", "pooler"),
    *dense("lm_head/dense_", "predictions.dense", f"{_TF}transform/dense", "lm"),
    *norm("lm_head/norm", "predictions.LayerNorm", f"{_TF}transform/LayerNorm", "lm"),
    Row("lm_head/bias", "same", "predictions.bias", f"{_TF}output_bias", "lm", twin="predictions.decoder.bias"),
    Row("lm_head/output_table", "same", "predictions.decoder.weight", f"{_TF}output_weights", "lm"),
    Row("nsp_head/kernel", "transposed", "sop_classifier.classifier.weight", "cls/seq_relationship/output_weights",
        "nsp"),
    Row("nsp_head/bias", "same", "sop_classifier.classifier.bias", "cls/seq_relationship/output_bias", "nsp"),
)  # fmt: skip


def _from_official(data: Mapping[str, Any]) -> TransformerConfig:
    if data.get("inner_group_num", 1) != 1:
        raise ConfigError(
            f"expected inner_group_num=1 (as all published ALBERT have). Received: {data['inner_group_num']}"
        )
    defaults: dict[str, Any] = {"embedding_size": 128, "hidden_act": "gelu_new"}
    defaults |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    data = defaults | dict(data)
    if "model_type" not in data and data["hidden_act"] == "gelu":
        data["hidden_act"] = "gelu_new"  # Google's ALBERT knows the tanh form only, and calls it gelu
    return TransformerConfig(
        family="albert",
        position="learned",
        block_groups=data.get("num_hidden_groups", 1),
        embedding_projection=True,
        **bert_fields(data),
    )


def _to_official(config: TransformerConfig) -> dict[str, Any]:
    if config.position != "learned":
        raise ConfigError(
            f"ALBERT's official format has learned positions only, this model has {config.position!r}; "
            "use format='kexue'."
        )
    data = {"model_type": "albert"} | bert_official(config.replace(block_groups=None))
    return data | {
        "embedding_size": config.embedding_dim,
        "num_hidden_groups": config.num_blocks,
        "inner_group_num": 1,
        "classifier_dropout_prob": 0.1,
    }


FAMILY = Family(
    name="albert",
    model_types=("albert",),
    rows=(
        *embedding_rows("albert."),
        *position_rows("albert."),
        *dense(
            "embedding_projection/",
            "albert.encoder.embedding_hidden_mapping_in",
            "bert/encoder/embedding_hidden_mapping_in",
        ),
        *_BLOCK_ROWS,
        *_HEAD_ROWS,
    ),
    prefix="albert.",
    from_official=_from_official,
    to_official=_to_official,
    architectures={None: "AlbertModel", "lm": "AlbertForMaskedLM", "nsp": "AlbertForPreTraining"},
    ignore=IGNORE,
    aliases=ALIASES,
    tied="predictions.decoder.weight",
)
