"""RoBERTa with byte-level BPE (Liu et al., arXiv 1907.11692), XLM-RoBERTa's encoder included.

Positions start at row 2 of the table. The language-model head always uses the exact GELU. Chinese "RoBERTa-wwm"
checkpoints are BERT in shape and names and belong to `kexue.models.families.bert`.
"""

from collections.abc import Mapping
from typing import Any

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row, bert_fields, bert_official, dense, norm
from kexue.models.families.bert import ALIASES, IGNORE, block_rows, embedding_rows, pooler_rows, position_rows

__all__ = ["FAMILY"]

# Google never published a layout for RoBERTa; its TensorFlow names follow BERT's under another root.
_TF = "cls/predictions/"
_LM_ROWS = (
    *dense("lm_head/dense_", "lm_head.dense", f"{_TF}transform/dense", "lm"),
    *norm("lm_head/norm", "lm_head.layer_norm", f"{_TF}transform/LayerNorm", "lm"),
    Row("lm_head/bias", "same", "lm_head.bias", f"{_TF}output_bias", "lm", twin="lm_head.decoder.bias"),
    Row("lm_head/output_table", "same", "lm_head.decoder.weight", f"{_TF}output_weights", "lm"),
)


def _from_official(data: Mapping[str, Any]) -> TransformerConfig:
    fields = bert_fields(data)
    pad = data.get("pad_token_id", 1)
    return TransformerConfig(
        **fields
        | {
            "family": "roberta",
            "num_segments": data.get("type_vocab_size", 2),
            "max_length": data.get("max_position_embeddings", 512),
            "pad_id": pad,
            "position": "learned",
            "position_offset": pad + 1,
            "positions_from_padding": True,
            "lm_activation": "gelu",
        }
    )


def _to_official(config: TransformerConfig) -> dict[str, Any]:
    if config.position != "learned" or config.position_offset != config.pad_id + 1:
        raise ConfigError(
            "RoBERTa's official format has learned positions that start at row pad_id + 1. Received: "
            f"position={config.position!r}, position_offset={config.position_offset}, pad_id={config.pad_id}"
        )
    if (config.lm_activation or config.activation) != "gelu":
        raise ConfigError(f"RoBERTa's LM head has activation 'gelu'. Received: {config.lm_activation!r}")
    return {"model_type": "roberta", "bos_token_id": 0, "eos_token_id": 2} | bert_official(config)


FAMILY = Family(
    name="roberta",
    model_types=("roberta", "xlm-roberta", "camembert"),
    rows=(
        *embedding_rows("roberta.", "roberta/"),
        *position_rows("roberta.", "roberta/"),
        *block_rows("roberta.", "roberta/"),
        *pooler_rows("roberta.", "roberta/"),
        *_LM_ROWS,
    ),
    prefix="roberta.",
    from_official=_from_official,
    to_official=_to_official,
    architectures={None: "RobertaModel", "lm": "RobertaForMaskedLM"},
    ignore=(*IGNORE, r"^lm_head\.decoder\.(weight|bias)$"),
    aliases=ALIASES,
    tied="lm_head.decoder.weight",
)
