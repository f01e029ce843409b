"""RoFormer: BERT with rotary positions instead of a table (Su et al., arXiv 2104.09864; kexue.fm article 8265)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, bert_fields, bert_official, dense
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

__all__ = ["FAMILY", "PROJECTION_ROWS", "rotary_official"]

PROJECTION_ROWS = dense(
    "embedding_projection/", "roformer.embeddings_project", "bert/encoder/embedding_hidden_mapping_in"
)


def _from_official(data: Mapping[str, Any]) -> TransformerConfig:
    fields = bert_fields(data) | {"max_length": data.get("max_position_embeddings", 1536)}
    return TransformerConfig(
        family="roformer",
        position="rotary",
        position_options={"values": True} if data.get("rotary_value", False) else {},
        **fields,
    )


def rotary_official(config: TransformerConfig) -> dict[str, Any]:
    """`bert_official` for families with the author's rotary positions."""
    if config.position != "rotary" or set(without_defaults("rotary", config.position_options)) - {"values"}:
        raise ConfigError(
            f"the official format of {config.family} has interleaved rotary positions of base 10000. Received: "
            f"position={config.position!r}, position_options={config.position_options!r}"
        )
    return bert_official(config)


def sinusoids(config: TransformerConfig) -> np.ndarray:
    """transformers' table of rotary angles, ``(max_length, key_dim)``: all sines, then all cosines."""
    theta = 10000.0 ** (-np.arange(0, config.key_dim, 2) / config.key_dim)
    angles = np.arange(config.max_length)[:, None] * theta
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1).astype("float32")


def _to_official(config: TransformerConfig) -> dict[str, Any]:
    data = {
        "model_type": "roformer",
        "rotary_value": bool(config.position_options.get("values", False)),
    } | rotary_official(config)
    return {"embedding_size": config.embedding_dim} | data


FAMILY = Family(
    name="roformer",
    model_types=("roformer",),
    rows=(
        *embedding_rows("roformer."),
        *PROJECTION_ROWS,
        *block_rows("roformer."),
        *pooler_rows("roformer."),
        *LM_ROWS,
        *NSP_ROWS,
    ),
    prefix="roformer.",
    from_official=_from_official,
    to_official=_to_official,
    architectures={None: "RoFormerModel", "lm": "RoFormerForMaskedLM"},
    ignore=IGNORE,
    aliases=ALIASES,
    constants={"roformer.encoder.embed_positions.weight": sinusoids},
    tied="cls.predictions.decoder.weight",
)
