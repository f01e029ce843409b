"""NEZHA: BERT with sinusoidal relative positions in place of a table (Wei et al., arXiv 1909.00204).

The names in TensorFlow are BERT's; PyTorch files begin with ``nezha.`` or ``bert.``. transformers had the family up to
version 4.
"""

from collections.abc import Mapping
from typing import Any

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, bert_fields, bert_official
from kexue.models.families.bert import (
    ALIASES,
    IGNORE,
    LM_ROWS,
    NSP_ROWS,
    block_rows,
    embedding_rows,
    pooler_rows,
)
from kexue.nn.positions.registry import without_defaults

__all__ = ["FAMILY"]


def _from_official(data: Mapping[str, Any]) -> TransformerConfig:
    # Some configurations have an embedding_size that no NEZHA uses.
    fields = bert_fields({name: value for name, value in data.items() if name != "embedding_size"})
    return TransformerConfig(
        family="nezha",
        position="shaw",
        position_options={"clip": data.get("max_relative_position", 64)},
        **fields,
    )


def _to_official(config: TransformerConfig) -> dict[str, Any]:
    options = without_defaults("shaw", config.position_options)
    if config.position != "shaw" or set(options) - {"clip"}:
        raise ConfigError(
            "the official format of nezha has sinusoidal relative positions on keys and values. Received: "
            f"position={config.position!r}, position_options={config.position_options!r}"
        )
    return {
        "model_type": "nezha",
        "max_relative_position": options.get("clip", 64),
        "use_relative_position": True,
    } | bert_official(config)


FAMILY = Family(
    name="nezha",
    model_types=("nezha",),
    rows=(*embedding_rows("nezha."), *block_rows("nezha."), *pooler_rows("nezha."), *LM_ROWS, *NSP_ROWS),
    prefix="nezha.",
    from_official=_from_official,
    to_official=_to_official,
    architectures={None: "NezhaModel", "lm": "NezhaForMaskedLM", "nsp": "NezhaForPreTraining"},
    ignore=(*IGNORE, r"relative_positions_encoding\.positions_encoding$"),
    aliases=(*ALIASES, (r"^bert\.", "nezha.")),
    tied="cls.predictions.decoder.weight",
)
