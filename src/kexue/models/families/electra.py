"""ELECTRA: a generator fills masked tokens, a discriminator tells which were filled (Clark et al., arXiv 2003.10555).

Hugging Face keeps each in a folder of its own: the generator has the head ``"lm"``, the discriminator the head
``"discriminator"``; neither has a pooler. Google's checkpoints hold both, the discriminator's encoder under
``electra/``, the generator's under ``generator/`` with the discriminator's token tables: load the generator with
``family="electra_generator"`` and its own configuration.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row, bert_fields, bert_official, dense, norm
from kexue.models.families.bert import ALIASES, IGNORE, block_rows, embedding_rows, position_rows

__all__ = ["FAMILY", "GENERATOR"]

_SHARED_ROWS = (*embedding_rows("electra.", "electra/"), *position_rows("electra.", "electra/"))
_LM_ROWS = (
    *dense("lm_head/dense_", "generator_predictions.dense", "generator_predictions/dense", "lm"),
    *norm("lm_head/norm", "generator_predictions.LayerNorm", "generator_predictions/LayerNorm", "lm"),
    Row("lm_head/bias", "same", "generator_lm_head.bias", "generator_predictions/output_bias", "lm"),
    Row("lm_head/output_table", "same", "generator_lm_head.weight", "generator_predictions/output_weights", "lm"),
)
_DISCRIMINATOR, _GROUP = "discriminator_predictions", "discriminator"
_DISCRIMINATOR_ROWS = (
    *dense("discriminator_head/dense_", f"{_DISCRIMINATOR}.dense", f"{_DISCRIMINATOR}/dense", _GROUP),
    *dense("discriminator_head/", f"{_DISCRIMINATOR}.dense_prediction", f"{_DISCRIMINATOR}/dense_1", _GROUP),
)


def _encoder_rows(tf: str) -> tuple[Row, ...]:
    projection = dense("embedding_projection/", "electra.embeddings_project", f"{tf}embeddings_project")
    return (*projection, *block_rows("electra.", tf))


def _from_official(data: Mapping[str, Any]) -> TransformerConfig:
    fields = bert_fields(data)
    return TransformerConfig(family="electra", position="learned", lm_activation="gelu", **fields)


def _to_official(config: TransformerConfig) -> dict[str, Any]:
    if config.position != "learned":
        raise ConfigError(
            f"ELECTRA's official format has learned positions only, this model has {config.position!r}; "
            "use format='kexue'."
        )
    return {"model_type": "electra"} | bert_official(config) | {"embedding_size": config.embedding_dim}


FAMILY = Family(
    name="electra",
    model_types=("electra",),
    rows=(*_SHARED_ROWS, *_encoder_rows("electra/"), *_LM_ROWS, *_DISCRIMINATOR_ROWS),
    prefix="electra.",
    from_official=_from_official,
    to_official=_to_official,
    architectures={None: "ElectraModel", "lm": "ElectraForMaskedLM", "discriminator": "ElectraForPreTraining"},
    ignore=(*IGNORE, r"^generator/"),
    aliases=ALIASES,
    tied="generator_lm_head.weight",
)

GENERATOR = replace(
    FAMILY,
    name="electra_generator",
    model_types=(),
    rows=(*_SHARED_ROWS, *_encoder_rows("generator/"), *_LM_ROWS),
    from_official=lambda data: _from_official(data).replace(family="electra_generator"),
    ignore=(*IGNORE, r"^electra/(encoder|embeddings_project)/", rf"^{_DISCRIMINATOR}[./]"),
)
