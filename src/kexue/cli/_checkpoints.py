"""What can be said of a checkpoint without building its model."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from kexue.errors import DataError
from kexue.models import families
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family
from kexue.nn import masks

__all__ = ["configuration", "heads_in", "parts_of", "tokenizer_in"]

_OWN_HEADS = {"lm": "lm_head.", "pooler": "pooler.", "nsp": "nsp_head.", "discriminator": "discriminator_head."}
_TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"),
    *("spiece.model", "spm.model", "tokenizer.model", "sentencepiece.bpe.model"),
)


def configuration(data: Any, names: Iterable[str], family: str | None) -> tuple[TransformerConfig, Family, bool]:
    """Configuration and family of a checkpoint, and whether it has kexue's own layout.

    Args:
        data: as `kexue.models.loading.read_config` gives it.
        names: of the tensors.
        family: instead of telling it.

    Raises:
        ConfigError: the configuration fits no family or lacks something.
    """
    if isinstance(data, Mapping) and data.get("format") != "kexue":
        names = list(names)
        chosen = families.get(family) if family else families.detect(data, names)
        return chosen.configure(data, names), chosen, False
    config = data if isinstance(data, TransformerConfig) else TransformerConfig.from_dict(data["transformer"])
    return config, families.get(family or config.family), True


def parts_of(config: TransformerConfig, family: Family, names: Iterable[str], layout: str) -> dict[str, list[str]]:
    """Tensors by what they belong to: ``encoder``, ``lm`` and other heads, ``ignored``, ``unknown``.

    Args:
        config: of the model.
        family: whose table of names to use.
        names: of the tensors, in an official layout.
        layout: ``"hf"`` or ``"tf"``.
    """
    rows = family.table(config)
    if config.tie_embeddings:  # then the output table is a copy
        rows = [row for row in rows if row.ours != "lm_head/output_table"]
    groups = {name: row.group for row in rows for name in row.names(layout)}
    known = [family.canonical(name) for name in names]
    bare = layout == "hf" and not any(name.startswith(family.prefix) for name in known)
    if bare:
        groups = {name.removeprefix(family.prefix): group for name, group in groups.items()}
    ignored = [re.compile(pattern) for pattern in family.ignore]
    parts: dict[str, list[str]] = {}
    for name, canonical in zip(names, known, strict=True):
        if canonical in groups:
            part = groups[canonical] or "encoder"
        else:
            part = "ignored" if any(pattern.search(canonical) for pattern in ignored) else "unknown"
        parts.setdefault(part, []).append(name)
    return parts


def heads_in(config: TransformerConfig, family: Family, names: Iterable[str], layout: str, own: bool) -> list[str]:
    """Heads whose tensors a checkpoint has."""
    names = list(names)
    if own:
        heads = [head for head, prefix in _OWN_HEADS.items() if any(name.startswith(prefix) for name in names)]
        return ["lm", *heads] if _free_head(config) else heads
    parts = parts_of(config, family, names, layout)
    heads = [head for head in _OWN_HEADS if parts.get(head)]
    if "lm" not in heads and _free_head(config):
        heads.insert(0, "lm")
    if "pooler" not in heads and "nsp" in heads:
        heads.remove("nsp")  # it reads the pooled output
    return heads


def _free_head(config: TransformerConfig) -> bool:
    """A language model whose logits need the token table and no other weight (GPT): no tensor tells of its head."""
    language = masks.get(config.mask).lowering().causal or config.decoder_layers is not None
    return language and config.tie_embeddings and not config.lm_transform and not config.lm_bias


def tokenizer_in(folder: str | os.PathLike[str]) -> Any | None:
    """The tokenizer of a folder, None if it has no file of one.

    Raises:
        DataError: there is one and it is broken.
    """
    from kexue.text import Tokenizer

    if not any(os.path.isfile(os.path.join(folder, name)) for name in _TOKENIZER_FILES):
        return None
    try:
        return Tokenizer.from_pretrained(folder)
    except DataError as error:
        raise DataError(f"the tokenizer cannot be read: {error}") from None
