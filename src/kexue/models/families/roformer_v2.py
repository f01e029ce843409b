"""RoFormerV2: no biases, RMS norm without gain, rotary positions, relu (kexue.fm article 8998).

transformers has no such family; PyTorch files of it use RoFormer's names without the absent weights.
"""

from collections.abc import Mapping
from typing import Any

from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row, bert_fields
from kexue.models.families.bert import ALIASES, IGNORE, block_rows, embedding_rows
from kexue.models.families.roformer import PROJECTION_ROWS, rotary_official, sinusoids

__all__ = ["BARE", "FAMILY"]


BARE = {
    "norm": "rms",
    "norm_scale": False,
    "norm_bias": False,
    "attention_bias": False,
    "feedforward_bias": False,
    "lm_transform": False,
    "lm_bias": False,
}
"""No biases, no gains, no transform before the logits: what RoFormerV2 and GAU-alpha leave away."""


def _from_official(data: Mapping[str, Any]) -> TransformerConfig:
    fields = bert_fields(data)
    return TransformerConfig(
        **fields
        | BARE
        | {
            "family": "roformer_v2",
            "position": "rotary",
            "activation": data.get("hidden_act", "relu"),
            "norm_epsilon": data.get("layer_norm_eps", 1e-7),
            "initializer": {"depth_scaled": data["num_hidden_layers"]},
        }
    )


def _to_official(config: TransformerConfig) -> dict[str, Any]:
    return {"model_type": "roformer_v2"} | rotary_official(config)


def _without(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(row for row in rows if not row.ours.endswith(("bias", "gain")))


FAMILY = Family(
    name="roformer_v2",
    model_types=("roformer_v2",),
    rows=(
        *_without(embedding_rows("roformer.")),
        *_without(PROJECTION_ROWS),
        *_without(block_rows("roformer.")),
        Row(
            "lm_head/dense_kernel",
            "dense",
            "cls.predictions.transform.dense.weight",
            "cls/predictions/transform/dense/kernel",
            "lm",
        ),
        Row("lm_head/output_table", "same", "cls.predictions.decoder.weight", "cls/predictions/output_weights", "lm"),
    ),
    prefix="roformer.",
    from_official=_from_official,
    to_official=_to_official,
    architectures=None,
    ignore=IGNORE,
    aliases=ALIASES,
    constants={"roformer.encoder.embed_positions.weight": sinusoids},
    tied="cls.predictions.decoder.weight",
)
