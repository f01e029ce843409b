"""Model families by name, and telling which one a checkpoint is."""

from collections.abc import Collection, Mapping
from typing import Any

from kexue.errors import ConfigError
from kexue.models.families import (
    albert,
    bert,
    electra,
    gpt,
    gpt2,
    gpt2_ml,
    llama,
    modernbert,
    nezha,
    roberta,
    roformer,
    roformer_v2,
    t5,
)
from kexue.models.families.base import Family, Row, expand

__all__ = ["FAMILIES", "Family", "Row", "detect", "expand", "get"]

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        bert.FAMILY,
        roberta.FAMILY,
        roformer.FAMILY,
        roformer_v2.FAMILY,
        albert.FAMILY,
        electra.FAMILY,
        electra.GENERATOR,
        nezha.FAMILY,
        modernbert.FAMILY,
        gpt.FAMILY,
        gpt2.FAMILY,
        gpt2_ml.FAMILY,
        llama.LLAMA,
        llama.QWEN2,
        llama.QWEN3,
        t5.T5,
        t5.MT5,
    )
}
# Names that TensorFlow checkpoints of a family, and of no other, begin with.
_ROOTS = {"newslm/": "gpt2_ml", "model/h0/": "gpt2", "gpt/": "gpt", "encoder/block_000/": "t5"}


def get(name: str) -> Family:
    """The family called ``name``.

    Raises:
        ConfigError: there is none.
    """
    if name not in FAMILIES:
        raise ConfigError(f"unknown family {name!r}. Known: {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def detect(config: Mapping[str, Any], tensors: Collection[str]) -> Family:
    """The family of an official configuration: by its ``model_type``, or where it has none by the tensors' names.

    Google's configurations do not name their family; ALBERT's blocks stand in groups, ELECTRA has names of its own,
    BERT has a position table, RoFormer has none, RoFormerV2 has no norm weights either. NEZHA's tensors are
    RoFormer's: its configuration tells it (``use_relative_position``).

    Raises:
        ConfigError: a ``model_type`` that no family claims.
    """
    kind = config.get("model_type")
    if kind is not None:
        for family in FAMILIES.values():
            if kind in family.model_types:
                return family
        known = sorted(name for family in FAMILIES.values() for name in family.model_types)
        raise ConfigError(f"model_type={kind!r} is not a family that kexue knows. Known: {', '.join(known)}.")
    for root, family_name in _ROOTS.items():
        if any(name.startswith(root) for name in tensors):
            return FAMILIES[family_name]
    if any("/inner_group_0/" in name or "albert_layer_groups." in name for name in tensors):
        return FAMILIES["albert"]
    if any(name.startswith(("electra/", "electra.")) for name in tensors):
        return FAMILIES["electra"]
    if config.get("use_relative_position") or "max_relative_position" in config:
        return FAMILIES["nezha"]
    if any("position_embeddings" in name for name in tensors):
        return FAMILIES["roberta"] if any(name.startswith("roberta") for name in tensors) else FAMILIES["bert"]
    return FAMILIES["roformer"] if any("LayerNorm" in name for name in tensors) else FAMILIES["roformer_v2"]
