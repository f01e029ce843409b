"""From a SentencePiece model to a Rust tokenizer with the same ids.

The Rust library has the two models (unigram, BPE with byte fallback) and the compiled normalisation; what it lacks is
said with its other parts:
- spaces at the ends and several in a row: replaced by pattern before ``▁`` is put in;
- control, unknown and byte pieces, which SentencePiece never finds in a text: a split inside each of their names;
- user-defined symbols, which SentencePiece scores by their length.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from kexue.errors import ConfigError, DataError
from kexue.text._families import TextFamily, template
from kexue.text._rust import Added, add_at_ids
from kexue.text._sentencepiece import Kind, SentencePieceModel, read_sentencepiece

__all__ = ["SENTENCEPIECE_FILES", "build_sentencepiece", "guard"]

SENTENCEPIECE_FILES = ("spiece.model", "spm.model", "tokenizer.model", "sentencepiece.bpe.model")

_SPACE = "▁"
_NUMBER_COMMA = re.compile(r"\d,\Z")
_FAIRSEQ = ["<s>", "<pad>", "</s>", "<unk>"]


def build_sentencepiece(
    file: Path,
    family: TextFamily,
    config: Mapping[str, Any],
    named: Mapping[str, str],
    added: Added,
    lowercase: bool | None,
) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """The Rust tokenizer of a model file, and the names of its special tokens.

    Args:
        file: the model.
        family: what to put around it.
        config: ``tokenizer_config.json`` and ``special_tokens_map.json``, merged.
        named: names of special tokens by role that the user or a configuration gives.
        added: further tokens with their ids.
        lowercase: see `Tokenizer.from_pretrained`.
    """
    model = read_sentencepiece(file)
    if family.name == "xlm-roberta":
        model = _as_fairseq(model, file)
    if lowercase is None:
        lowercase = bool(config.get("do_lower_case", family.lowercase))
    if lowercase and not family.can_lowercase:
        raise ConfigError(f"{file}: {family.name} has no lower-casing. Received: lowercase=True")
    if config.get("split_by_punct"):
        raise DataError(f"{file}: split_by_punct of tokenizer_config.json is not supported")
    specials = {**family.specials, **named}
    rust = tokenizers.Tokenizer(_bpe(model) if model.bpe else _unigram(model, family, file))
    normalizer = _normalizer(model, family, config, lowercase)
    if normalizer:
        rust.normalizer = normalizers.Sequence(normalizer)
    _add_tokens(rust, model, family, config, specials, added, file)
    rust.pre_tokenizer = _pre_tokenizer(model, config)
    rust.decoder = _decoder(model)
    ids = rust.get_vocab(with_added_tokens=True)
    single, pair = family.single, family.pair
    if family.name == "llama":
        single, pair = _with_ends(config)
    rust.post_processor = template(single, pair, specials, ids, str(file))
    guard(rust)
    return rust, {role: token for role, token in specials.items() if token in ids}


def guard(rust: tokenizers.Tokenizer) -> None:
    """Split inside the names of special tokens and of bytes, so that only the table of special tokens finds them.

    The Rust unigram model would take a literal ``</s>`` or ``<0x41>`` of the text for that piece; SentencePiece does
    not.
    """
    if type(rust.model).__name__ != "Unigram":
        return
    ids = rust.get_vocab(with_added_tokens=False)
    special = [token.content for token in rust.get_added_tokens_decoder().values() if token.special]
    names = sorted(name for name in special if name in ids and len(name) > 1)
    patterns = [f"{re.escape(name[:-1])}(?={re.escape(name[-1])})" for name in names]
    if "<0x00>" in ids:
        patterns.append("<0x[0-9A-F]{2}(?=>)")
    if not patterns:
        return
    split = pre_tokenizers.Split(Regex("|".join(patterns)), "isolated")
    before = rust.pre_tokenizer
    if before is not None and split.__getstate__() in before.__getstate__():
        return
    rust.pre_tokenizer = split if before is None else pre_tokenizers.Sequence([before, split])


def _unigram(model: SentencePieceModel, family: TextFamily, file: Path) -> Any:
    if Kind.NORMAL not in model.kinds:
        raise DataError(f"{file}: not a valid SentencePiece model (it has no normal pieces)")

    def score(piece: str, given: float, kind: Kind) -> float:
        if kind is Kind.USER_DEFINED:
            return 0.1 * len(piece.encode()) - 0.1  # as sentencepiece 0.2.3 does, whatever score is stored
        if kind is not Kind.NORMAL:
            return 0.0
        # "9," is cut into "9" and ",", as the original code of ALBERT and XLNet does
        return given - 100.0 if family.cleans and _NUMBER_COMMA.search(piece) else given

    parts = zip(model.pieces, model.scores, model.kinds, strict=True)
    scores = [(piece, score(piece, given, kind)) for piece, given, kind in parts]
    try:
        return models.Unigram(scores, model.unknown, model.byte_fallback)
    except Exception as error:  # the Rust library raises bare Exception
        raise DataError(f"{file}: not a valid SentencePiece model ({error})") from None


def _bpe(model: SentencePieceModel) -> Any:
    """A merge of SentencePiece is any two neighbours whose union is a piece, the one with the highest score first."""
    ids = {piece: index for index, piece in enumerate(model.pieces)}
    usable = {piece for piece, kind in zip(model.pieces, model.kinds, strict=True) if kind is Kind.NORMAL}
    merges = []
    for piece in sorted(usable, key=lambda piece: (-model.scores[ids[piece]], ids[piece])):
        parts = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        parts = [(left, right) for left, right in parts if left in usable and right in usable]
        merges += sorted(parts, key=lambda part: (ids[part[0]], ids[part[1]]))
    unknown = model.pieces[model.unknown]
    return models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=model.byte_fallback)


def _normalizer(model: SentencePieceModel, family: TextFamily, config: Mapping[str, Any], lowercase: bool) -> list[Any]:
    steps: list[Any] = []
    if family.cleans:
        steps += [
            normalizers.Replace(Regex(r"[\s\x1c-\x1f]+"), " "),
            normalizers.Replace("``", '"'),
            normalizers.Replace("''", '"'),
        ]
        if not config.get("keep_accents", False):
            steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if lowercase:
        steps.append(normalizers.Lowercase())
    if model.charsmap:
        rules = normalizers.Precompiled(model.charsmap)
        if rules.normalize_str("e\u0301") == "\u00e9":
            # The rules compose letters and accents. The Rust library looks only at short clusters and takes the first
            # rule that fits their beginning; composed beforehand, most clusters need no rule.
            steps.append(normalizers.NFC())
        steps.append(rules)
    if model.strip_spaces:
        steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace(Regex(r"\A | \z"), "")]
    elif model.dummy_prefix and not _only_first(model, config):
        # Metaspace would put no second "▁" before a text that opens with a space
        steps += [normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)]
    return steps


def _only_first(model: SentencePieceModel, config: Mapping[str, Any]) -> bool:
    """Whether the prefix belongs before the whole text only, not after every special token (``legacy: false``)."""
    return config.get("legacy") is False or (model.bpe and Kind.USER_DEFINED in model.kinds)


def _scheme(model: SentencePieceModel, config: Mapping[str, Any]) -> str:
    if not model.dummy_prefix:
        return "never"
    if model.strip_spaces:
        return "always"
    return "first" if _only_first(model, config) else "never"  # never: the normaliser has done it


def _pre_tokenizer(model: SentencePieceModel, config: Mapping[str, Any]) -> Any:
    # Words one by one are quicker (they are cached), and the same where no piece reaches across a space.
    split = _SPACE in model.pieces and not any(_SPACE in piece[1:] for piece in model.pieces)
    return pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=_scheme(model, config), split=split)


def _decoder(model: SentencePieceModel) -> Any:
    steps: list[Any] = [decoders.ByteFallback()] if model.byte_fallback else []
    steps += [decoders.Replace(_SPACE, " "), decoders.Fuse()]
    if model.dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


def _add_tokens(
    rust: tokenizers.Tokenizer,
    model: SentencePieceModel,
    family: TextFamily,
    config: Mapping[str, Any],
    specials: Mapping[str, str],
    added: Added,
    file: Path,
) -> None:
    known = {piece: index for index, piece in enumerate(model.pieces)}
    names = {*specials.values(), *family.named, *_names(config)}
    special = [p for p, k in zip(model.pieces, model.kinds, strict=True) if k is Kind.CONTROL or p in names]
    rust.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    rust.add_tokens([AddedToken(token, normalized=False) for token in _symbols(model, names)])
    add_at_ids(rust, added, str(file))
    has_extra = any("<extra_id_0>" in piece for piece in model.pieces)
    extra = 0 if has_extra else config.get("extra_ids", family.extra_ids)
    if isinstance(extra, bool) or not isinstance(extra, int) or not 0 <= extra <= 10000:
        raise DataError(f"{file}: extra_ids of tokenizer_config.json must be a number of tokens. Received: {extra!r}")
    missing = [f"<extra_id_{index}>" for index in reversed(range(extra))]
    missing += [specials[role] for role in family.appended]
    missing = [token for token in missing if token not in known]
    rust.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in missing])


def _names(config: Mapping[str, Any]) -> list[str]:
    """Special tokens that a configuration lists without a role."""
    found: list[str] = []
    for key in ("additional_special_tokens", "extra_special_tokens"):
        values = config.get(key)
        if isinstance(values, dict):
            values = list(values.values())
        for value in values if isinstance(values, list) else ():
            name = value.get("content") if isinstance(value, dict) else value
            if isinstance(name, str):
                found.append(name)
    return found


def _symbols(model: SentencePieceModel, special: set[str]) -> list[str]:
    """User-defined symbols that the Rust model would not find: no merge leads to them, or the rules change them."""
    rules = normalizers.Precompiled(model.charsmap) if model.charsmap else None
    return [
        piece
        for piece, kind in zip(model.pieces, model.kinds, strict=True)
        if kind is Kind.USER_DEFINED
        and piece not in special
        and (model.bpe or (rules is not None and rules.normalize_str(piece) != piece))
    ]


def _with_ends(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """LLaMA: ``<s> A``, and ``</s>`` behind where the configuration wants it."""
    start = [("bos", 0)] if config.get("add_bos_token", True) else []
    end = [("eos", 0)] if config.get("add_eos_token", False) else []
    single = (*start, ("A", 0), *end)
    return single, (*single, *((role if role != "A" else "B", 1) for role, _ in single))


def _as_fairseq(model: SentencePieceModel, file: Path) -> SentencePieceModel:
    """XLM-RoBERTa counts four tokens of its own before the pieces and one behind."""
    if model.pieces[:3] != ["<unk>", "<s>", "</s>"]:
        raise DataError(f"{file}: XLM-RoBERTa's model opens with <unk>, <s>, </s>. Received: {model.pieces[:3]}")
    control = Kind.CONTROL
    return SentencePieceModel(
        pieces=[*_FAIRSEQ, *model.pieces[3:], "<mask>"],
        scores=[0.0] * 4 + model.scores[3:] + [0.0],
        kinds=[control, control, control, Kind.UNKNOWN, *model.kinds[3:], control],
        bpe=model.bpe,
        byte_fallback=model.byte_fallback,
        charsmap=model.charsmap,
        dummy_prefix=model.dummy_prefix,
        strip_spaces=model.strip_spaces,
    )
