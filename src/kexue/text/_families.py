"""Model families as their tokenizers see them: names of the special tokens and where these stand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenizers import processors

from kexue.errors import ConfigError, DataError

__all__ = ["FAMILIES", "TextFamily", "find_family", "get_family", "template"]

Slots = tuple[tuple[str, int], ...]
"""Pieces in order with their segment ids: a role of a special token, or ``A`` and ``B`` for the texts."""

_BERT = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_FAIRSEQ = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>", "bos": "<s>", "eos": "</s>"}
_END_OF_TEXT = "<|endoftext|>"

_BERT_SINGLE: Slots = (("cls", 0), ("A", 0), ("sep", 0))
_BERT_PAIR: Slots = (*_BERT_SINGLE, ("B", 1), ("sep", 1))


@dataclass(frozen=True)
class TextFamily:
    """One family.

    Attributes:
        name: as ``model_type`` of ``config.json``.
        specials: names of the special tokens by role; a configuration file may say otherwise.
        single: what stands around one text.
        pair: what stands around two texts.
        lowercase: whether text is lower-cased where no configuration says.
        can_lowercase: whether a user may choose.
        cleans: quotes ```` and '' become ", accents are removed, before the rules of the SentencePiece model.
        extra_ids: how many ``<extra_id_i>`` follow the vocabulary.
        named: further special tokens where the vocabulary has them.
        appended: roles whose token is put behind the vocabulary where it lacks them.
    """

    name: str
    specials: Mapping[str, str]
    single: Slots = (("A", 0),)
    pair: Slots = (("A", 0), ("B", 1))
    lowercase: bool = False
    can_lowercase: bool = False
    cleans: bool = False
    extra_ids: int = 0
    named: tuple[str, ...] = ()
    appended: tuple[str, ...] = field(default=())


_T5 = {"pad": "<pad>", "unk": "<unk>", "eos": "</s>"}
_T5_SINGLE: Slots = (("A", 0), ("eos", 0))

FAMILIES: dict[str, TextFamily] = {
    family.name: family
    for family in (
        # SentencePiece
        TextFamily(
            "albert",
            _BERT | {"pad": "<pad>", "unk": "<unk>", "bos": "[CLS]", "eos": "[SEP]"},
            _BERT_SINGLE,
            _BERT_PAIR,
            lowercase=True,
            can_lowercase=True,
            cleans=True,
        ),
        TextFamily("t5", _T5, _T5_SINGLE, (*_T5_SINGLE, ("B", 0), ("eos", 0)), extra_ids=100),
        TextFamily("mt5", _T5, _T5_SINGLE, (*_T5_SINGLE, ("B", 0), ("eos", 0))),
        TextFamily(
            "xlnet",
            _FAIRSEQ | {"cls": "<cls>", "sep": "<sep>"},
            (("A", 0), ("sep", 0), ("cls", 2)),
            (("A", 0), ("sep", 0), ("B", 1), ("sep", 1), ("cls", 2)),
            can_lowercase=True,
            cleans=True,
            named=("<eop>", "<eod>"),
        ),
        TextFamily(
            "deberta-v2",
            _BERT | {"bos": "[CLS]", "eos": "[SEP]"},
            _BERT_SINGLE,
            _BERT_PAIR,
            can_lowercase=True,
            appended=("mask",),
        ),
        TextFamily(
            "llama",
            {"unk": "<unk>", "bos": "<s>", "eos": "</s>"},
            (("bos", 0), ("A", 0)),
            (("bos", 0), ("A", 0), ("bos", 1), ("B", 1)),
        ),
        TextFamily(
            "xlm-roberta",
            _FAIRSEQ,
            _BERT_SINGLE,
            (("cls", 0), ("A", 0), ("sep", 0), ("sep", 0), ("B", 0), ("sep", 0)),
        ),
        TextFamily("plain", {"pad": "<pad>", "unk": "<unk>", "bos": "<s>", "eos": "</s>", "mask": "<mask>"}),
        # vocab.json with merges.txt
        TextFamily(
            "roberta",
            _FAIRSEQ,
            _BERT_SINGLE,
            (("cls", 0), ("A", 0), ("sep", 0), ("sep", 0), ("B", 0), ("sep", 0)),
        ),
        TextFamily("gpt2", {"unk": _END_OF_TEXT, "bos": _END_OF_TEXT, "eos": _END_OF_TEXT}),
        TextFamily("openai-gpt", {"unk": "<unk>"}, lowercase=True),
        TextFamily("qwen2", {"unk": _END_OF_TEXT, "eos": _END_OF_TEXT, "pad": _END_OF_TEXT}),
    )
}

_CLASSES = {
    "Albert": "albert",
    "T5": "t5",
    "MT5": "mt5",
    "XLNet": "xlnet",
    "DebertaV2": "deberta-v2",
    "Llama": "llama",
    "XLMRoberta": "xlm-roberta",
    "Roberta": "roberta",
    "Bart": "roberta",
    "GPT2": "gpt2",
    "OpenAIGPT": "openai-gpt",
    "Qwen2": "qwen2",
}
_MODEL_TYPES = {name: name for name in FAMILIES if name != "plain"} | {
    "umt5": "mt5",
    "mistral": "llama",
    "bart": "roberta",
    "qwen3": "qwen2",
    "qwen2_moe": "qwen2",
    "qwen3_moe": "qwen2",
    "deberta-v3": "deberta-v2",
    "deberta_v2": "deberta-v2",
    "openai_gpt": "openai-gpt",
    "xlm_roberta": "xlm-roberta",
    "gpt": "openai-gpt",
    "qwen": "qwen2",
}


def get_family(name: str) -> TextFamily:
    """The family of that name.

    Raises:
        ConfigError: there is none.
    """
    found = _MODEL_TYPES.get(name, name)
    if found not in FAMILIES:
        raise ConfigError(f"family must be one of {', '.join(sorted(FAMILIES))}. Received: family={name!r}")
    return FAMILIES[found]


def find_family(tokenizer_config: Mapping[str, Any], model_config: Mapping[str, Any]) -> TextFamily | None:
    """The family that ``tokenizer_class``, else ``model_type`` (``family`` in kexue's own config) names."""
    names = (model_config.get("model_type"), model_config.get("family"))
    by_model = next((_MODEL_TYPES[name] for name in names if isinstance(name, str) and name in _MODEL_TYPES), None)
    kind = tokenizer_config.get("tokenizer_class")
    by_class = None
    if isinstance(kind, str):
        by_class = _CLASSES.get(kind.removesuffix("Fast").removesuffix("Tokenizer"))
    found = by_model if by_class is None or (by_class == "t5" and by_model == "mt5") else by_class
    return None if found is None else FAMILIES[found]


def template(single: Slots, pair: Slots, specials: Mapping[str, str], ids: Mapping[str, int], name: str) -> Any:
    """The Rust post-processor that puts the special tokens around texts.

    Raises:
        DataError: the vocabulary lacks one of them.
    """
    roles = dict.fromkeys(role for role, _ in single + pair if role not in ("A", "B"))
    missing = [specials.get(role, f"a token for {role}") for role in roles if specials.get(role) not in ids]
    if missing:
        raise DataError(
            f"{name}: the vocabulary of {len(ids)} tokens lacks {', '.join(missing)}. "
            "Is this the vocabulary of the model?"
        )

    def spell(slots: Slots) -> list[str]:
        # a list, not a string: names of tokens may hold spaces
        return [f"${role}:{kind}" if role in ("A", "B") else f"{specials[role]}:{kind}" for role, kind in slots]

    tokens = dict.fromkeys(specials[role] for role in roles)
    return processors.TemplateProcessing(
        single=spell(single), pair=spell(pair), special_tokens=[(token, ids[token]) for token in tokens]
    )
