"""``vocab.json`` with ``merges.txt``: RoBERTa, GPT-2 and Qwen (bytes), GPT (words in lower case)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from kexue.errors import ConfigError, DataError
from kexue.text import _rust
from kexue.text._families import FAMILIES, TextFamily, template

__all__ = ["bpe_class", "build_bpe"]

# Contractions; a word with at most one sign before it; single digits; signs; line ends; other white space.
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_END_OF_WORD = "</w>"
_CLASSES = {
    "roberta": "RobertaTokenizer",
    "gpt2": "GPT2Tokenizer",
    "openai-gpt": "OpenAIGPTTokenizer",
    "qwen2": "Qwen2Tokenizer",
}


def build_bpe(
    file: Path,
    family: TextFamily | None,
    config: Mapping[str, Any],
    specials: Mapping[str, str],
    added: _rust.Added,
    lowercase: bool | None,
) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """The Rust tokenizer of the two files, and the names of its special tokens.

    Args:
        file: one of the two.
        family: ``roberta``, ``gpt2``, ``openai-gpt`` or ``qwen2``; None: read off the vocabulary.
        config: ``tokenizer_config.json`` and ``special_tokens_map.json``, merged.
        specials: names of special tokens by role that the user or a configuration gives.
        added: further tokens with their ids.
        lowercase: only what the family does anyway.
    """
    vocab, merges = file.with_name("vocab.json"), file.with_name("merges.txt")
    ids = _read_ids(vocab)
    family = family or _guess(ids)
    if family.name not in _CLASSES:
        raise DataError(f"{file}: {family.name} has no vocab.json with merges.txt. Expected the files of that model")
    if lowercase is not None and lowercase != family.lowercase:
        does = "always lower-cases" if family.lowercase else "byte-level BPE has no lower-casing"
        raise ConfigError(f"{file}: {family.name}: {does}. Received: {lowercase=}")
    named = {**family.specials, **specials}
    if family.name in ("roberta", "openai-gpt"):
        roles = ("unk", "cls", "sep") if family.name == "roberta" else ("unk",)
        _rust.require_specials(ids, named, str(vocab), roles)
    words = family.name == "openai-gpt"
    unknown = named["unk"] if words else None
    try:
        rust = tokenizers.Tokenizer(
            models.BPE(
                ids,
                _read_merges(merges, ids),
                continuing_subword_prefix="",
                end_of_word_suffix=_END_OF_WORD if words else "",
                fuse_unk=False,
                unk_token=unknown,
            )
        )
    except DataError:
        raise
    except Exception as error:  # the Rust library raises bare Exception
        raise DataError(f"{merges}: does not fit {vocab.name} ({error})") from None
    _dress(rust, family, config, words)
    _rust.add_at_ids(rust, added, str(file))
    marks = {token: role == "mask" and family.name == "roberta" for role, token in named.items() if token in ids}
    rust.add_special_tokens([AddedToken(token, special=True, lstrip=strip) for token, strip in marks.items()])
    ids = rust.get_vocab(with_added_tokens=True)
    if family.name == "roberta":
        prefix = bool(config.get("add_prefix_space", False))
        sep, cls = ((named[role], ids[named[role]]) for role in ("sep", "cls"))
        rust.post_processor = processors.RobertaProcessing(sep, cls, True, prefix)
    elif config.get("add_bos_token"):
        single, pair = (("bos", 0), ("A", 0)), (("bos", 0), ("A", 0), ("bos", 1), ("B", 1))
        rust.post_processor = template(single, pair, named, ids, str(file))
    return rust, {role: token for role, token in named.items() if token in ids}


def bpe_class(parts: Mapping[str, Any]) -> str | None:
    """The class of ``transformers`` that builds the same tokenizer from ``vocab.json`` and ``merges.txt``, if any.

    Args:
        parts: a tokenizer as ``tokenizer.json`` has it.
    """
    kinds = [(parts.get(part) or {}).get("type") for part in ("normalizer", "pre_tokenizer", "post_processor")]
    if kinds[:2] == [None, "ByteLevel"]:
        return _CLASSES["roberta" if kinds[2] == "RobertaProcessing" else "gpt2"]
    if parts["model"].get("end_of_word_suffix") == _END_OF_WORD and kinds[0] == "BertNormalizer":
        return _CLASSES["openai-gpt"]
    if kinds[:2] == ["NFC", "Sequence"]:
        first = parts["pre_tokenizer"]["pretokenizers"][0]
        if first.get("pattern") == {"Regex": _QWEN_WORDS}:
            return _CLASSES["qwen2"]
    return None


def _read_ids(vocab: Path) -> dict[str, int]:
    ids = _rust.read_json(vocab)
    for token, index in ids.items():
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise DataError(f"{vocab}: the id of {token!r} must be a non-negative integer. Received: {index!r}")
    if len(set(ids.values())) != len(ids):
        raise DataError(f"{vocab}: two tokens share one id")
    if not ids:
        raise DataError(f"{vocab}: the vocabulary is empty")
    return ids


def _read_merges(path: Path, ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """The merges, each of tokens of the vocabulary into a token of it: the Rust library aborts on others."""
    merges = []
    for number, line in enumerate(_rust.read_text(path).split("\n"), 1):
        parts = line.rstrip("\r").split(" ")
        if parts == [""] or (number == 1 and line.startswith("#version")):
            continue
        if len(parts) != 2 or not all(parts):
            raise DataError(f"{path}:{number}: a merge is two tokens and one space. Received: {line!r}")
        unknown = [token for token in (*parts, "".join(parts)) if token not in ids]
        if unknown:
            raise DataError(f"{path}:{number}: does not fit vocab.json, which has no token {unknown[0]!r}")
        merges.append((parts[0], parts[1]))
    return merges


def _guess(ids: Mapping[str, int]) -> TextFamily:
    """RoBERTa has sentence marks, GPT has ends of words, GPT-2 has neither."""
    if "<s>" in ids:
        return FAMILIES["roberta"]
    if any(token.endswith(_END_OF_WORD) for token in ids):
        return FAMILIES["openai-gpt"]
    return FAMILIES["gpt2" if "<|endoftext|>" in ids else "roberta"]


def _dress(rust: tokenizers.Tokenizer, family: TextFamily, config: Mapping[str, Any], words: bool) -> None:
    if words:
        rust.normalizer = normalizers.BertNormalizer(lowercase=True)
        rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        rust.decoder = decoders.BPEDecoder(suffix=_END_OF_WORD)
        return
    prefix = bool(config.get("add_prefix_space", False))
    rust.decoder = decoders.ByteLevel()
    if family.name == "qwen2":
        rust.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(_QWEN_WORDS), "isolated")
        tail = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False)
        rust.pre_tokenizer = pre_tokenizers.Sequence([split, tail])
    else:
        rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
