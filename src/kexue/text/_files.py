"""From the files of a checkpoint to a Rust tokenizer, and back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import normalizers

from kexue.errors import ConfigError, DataError
from kexue.text import _rust
from kexue.text._bpe import bpe_class, build_bpe
from kexue.text._families import TextFamily, find_family, get_family
from kexue.text._unigram import SENTENCEPIECE_FILES, build_sentencepiece

Loaded = tuple[tokenizers.Tokenizer, dict[str, str]]

__all__ = ["build_word_piece", "file_contents", "load_pretrained", "lower_cases"]


@dataclass(frozen=True)
class Beside:
    """What the files beside a tokenizer file say about it, and the user.

    Attributes:
        config: ``tokenizer_config.json``, then ``special_tokens_map.json``.
        named: special tokens by role, the user's first.
        added: tokens beyond the vocabulary of the model.
        family: the user's choice, else that of the configuration.
        lowercase: the user's choice.
    """

    config: dict[str, Any]
    named: dict[str, str]
    added: _rust.Added
    family: TextFamily | None
    lowercase: bool | None


def load_pretrained(
    path: Path, *, lowercase: bool | None = None, family: str | None = None, specials: Mapping[str, str] | None = None
) -> tuple[tokenizers.Tokenizer, dict[str, str], bool]:
    """The Rust tokenizer of a folder or file, the names of its special tokens, and ``specials_in_text`` as saved.

    See `Tokenizer.from_pretrained`.
    """
    unknown = sorted(set(specials or {}) - set(_rust.ROLES))
    if unknown:
        raise ConfigError(f"specials are named by the roles {', '.join(_rust.ROLES)}. Received: {', '.join(unknown)}")
    chosen = None if family is None else get_family(family)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    folder = path if path.is_dir() else path.parent
    settings, token_map, model_config, added = (
        _rust.read_json(folder / name) if (folder / name).is_file() else {}
        for name in ("tokenizer_config.json", "special_tokens_map.json", "config.json", "added_tokens.json")
    )
    beside = Beside(
        config=token_map | settings,
        named=_rust.named_specials(dict(_roles(specials or {})), settings, token_map),
        added=_added_tokens(folder, settings.get("added_tokens_decoder"), added),
        family=chosen or find_family(settings, model_config),
        lowercase=lowercase,
    )
    file = tokenizer_file(path)
    if file.name in ("vocab.json", "merges.txt"):
        loaded = build_bpe(file, beside.family, beside.config, beside.named, beside.added, lowercase)
    elif file.suffix == ".model":
        loaded = _load_sentencepiece(file, beside)
    elif file.suffix == ".json":
        loaded = _load_json(file, beside)
    else:
        loaded = _load_vocabulary(file, beside)
    missing = sorted(set((specials or {}).values()) - loaded[0].get_vocab().keys())
    if missing:
        raise DataError(f"{file}: the vocabulary lacks the special tokens that were asked for: {', '.join(missing)}")
    return *loaded, not settings.get("split_special_tokens", False)


def _roles(specials: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(f"{role}_token", token) for role, token in specials.items()]


def _added_tokens(folder: Path, decoder: Any, plain: dict[str, Any]) -> _rust.Added:
    """Added tokens of ``tokenizer_config.json``, else of ``added_tokens.json``, by id."""
    found: dict[str, tuple[int, tokenizers.AddedToken]] = {}
    entries = list(decoder.items()) if isinstance(decoder, dict) else [(index, name) for name, index in plain.items()]
    for index, entry in entries:
        fields = entry if isinstance(entry, dict) else {"content": entry, "special": True}
        content = fields.get("content")
        try:
            number = int(index)
        except (TypeError, ValueError):
            number = -1
        if number < 0 or not isinstance(content, str) or not content:
            raise DataError(f"{folder}: an added token needs a text and an id. Received: {index!r}: {entry!r}")
        flags = {
            name: bool(fields[name]) for name in ("lstrip", "rstrip", "single_word", "normalized") if name in fields
        }
        special = bool(fields.get("special", False))
        flags.setdefault("normalized", not special)
        found[content] = number, tokenizers.AddedToken(content, special=special, **flags)
    return dict(sorted(found.items(), key=lambda item: item[1][0]))


def _load_sentencepiece(file: Path, beside: Beside) -> Loaded:
    if beside.family is None:
        raise ConfigError(
            f"{file}: a SentencePiece model does not say which special tokens its model puts around texts, and no "
            "tokenizer_config.json (tokenizer_class) or config.json (model_type) beside it does. Give "
            "family='albert', 't5', 'mt5', 'xlnet', 'deberta-v2', 'llama', 'xlm-roberta', or 'plain' for none"
        )
    return build_sentencepiece(file, beside.family, beside.config, beside.named, beside.added, beside.lowercase)


def _load_vocabulary(file: Path, beside: Beside) -> Loaded:
    config, lowercase = beside.config, beside.lowercase
    if lowercase is None:
        lowercase = config.get("do_lower_case")
    vocabulary = _rust.read_vocabulary(file)
    return build_word_piece(
        vocabulary,
        specials=_rust.BERT_SPECIALS | _rust.find_specials(dict.fromkeys(vocabulary, 0), beside.named),
        name=str(file),
        lowercase=(not _rust.looks_cased(vocabulary)) if lowercase is None else bool(lowercase),
        strip_accents=config.get("strip_accents"),
        split_chinese=bool(config.get("tokenize_chinese_chars", True)),
        max_word_length=100,
    )


def build_word_piece(tokens: list[str], *, specials: dict[str, str], name: str, **settings: Any) -> Loaded:
    """WordPiece over checked tokens; the special tokens that exist."""
    ids = {token: index for index, token in enumerate(tokens)}
    _rust.require_specials(ids, specials, name)
    specials = {role: token for role, token in specials.items() if token in ids}
    return _rust.word_piece(tokens, specials=specials, **settings), specials


def _load_json(file: Path, beside: Beside) -> Loaded:
    rust = _rust.load_json_tokenizer(file)
    ids = rust.get_vocab()
    word_piece = type(rust.model).__name__ == "WordPiece"
    family = None if beside.family is None or word_piece else beside.family.specials
    absent = () if word_piece else [role for role in _rust.ROLES if beside.config.get(f"{role}_token", "") is None]
    specials = _rust.find_specials(ids, beside.named, family, absent)
    if word_piece:
        _rust.require_specials(ids, _rust.BERT_SPECIALS | specials, str(file))
    config, lowercase = beside.config, beside.lowercase
    wanted = lowercase if lowercase is not None else config.get("do_lower_case")
    normalizer = rust.normalizer
    if isinstance(normalizer, normalizers.BertNormalizer):
        if wanted is not None:
            normalizer.lowercase = bool(wanted)
        if "strip_accents" in config:
            normalizer.strip_accents = config["strip_accents"]
        if "tokenize_chinese_chars" in config:
            normalizer.handle_chinese_chars = bool(config["tokenize_chinese_chars"])
        rust.normalizer = normalizer
        if word_piece and rust.post_processor is None:
            rust.post_processor = _rust.bert_processor(ids, specials)
    elif lowercase is not None and lowercase != lower_cases(rust):
        raise ConfigError(
            f"{file}: its normaliser is not BERT's, so lower-casing cannot be chosen. Received: {lowercase=}"
        )
    return rust, specials


def tokenizer_file(path: Path) -> Path:
    """The file of ``path`` (a folder or a file) that defines the tokenizer."""
    if path.is_file():
        return path
    for name in ("tokenizer.json", "vocab.txt"):
        if (path / name).is_file():
            return path / name
    pair = [path / "vocab.json", path / "merges.txt"]
    if all(file.is_file() for file in pair):
        return pair[0]
    for name in SENTENCEPIECE_FILES:
        if (path / name).is_file():
            return path / name
    if any(file.is_file() for file in pair):
        raise DataError(f"{path}: byte-level BPE needs both vocab.json and merges.txt, one of them is missing")
    raise DataError(
        f"{path}: no tokenizer found. Expected tokenizer.json, vocab.txt, vocab.json with merges.txt, "
        f"or {', '.join(SENTENCEPIECE_FILES)}"
    )


def lower_cases(rust: tokenizers.Tokenizer) -> bool:
    """Whether the normaliser turns text into lower case."""
    normalizer = rust.normalizer
    several = isinstance(normalizer, normalizers.Sequence)
    steps = [normalizer[index] for index in range(len(normalizer))] if several else [normalizer]
    return any(
        isinstance(step, normalizers.Lowercase) or (isinstance(step, normalizers.BertNormalizer) and step.lowercase)
        for step in steps
    )


def file_contents(
    rust: tokenizers.Tokenizer, specials: dict[str, str], tokens: list[str], specials_in_text: bool
) -> dict[str, str]:
    """Name and content of every file that `Tokenizer.save` writes."""
    config: dict[str, Any] = {f"{role}_token": token for role, token in specials.items()}
    if not specials_in_text:
        config["split_special_tokens"] = True  # the name that transformers has for it
    files = {"tokenizer.json": rust.to_str(pretty=False)}
    kind = type(rust.model).__name__
    if kind == "WordPiece":
        normalizer = rust.normalizer
        config["tokenizer_class"] = "BertTokenizer"
        if isinstance(normalizer, normalizers.BertNormalizer):
            config["do_lower_case"] = bool(normalizer.lowercase)
            config["strip_accents"] = normalizer.strip_accents
            config["tokenize_chinese_chars"] = bool(normalizer.handle_chinese_chars)
        files["vocab.txt"] = "".join(token + "\n" for token in tokens)
    else:
        parts = json.loads(files["tokenizer.json"])
        known = bpe_class(parts) if kind == "BPE" else None
        config["tokenizer_class"] = known or "PreTrainedTokenizerFast"
        config |= {f"{role}_token": None for role in _rust.ROLES if role not in specials}  # there is none: no guessing
        if known:
            config["add_prefix_space"] = bool(getattr(rust.pre_tokenizer, "add_prefix_space", False))
            if known == "GPT2Tokenizer" and rust.post_processor is not None:
                config["add_bos_token"] = True
            merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in parts["model"]["merges"]]
            ids = {token: index for index, token in enumerate(tokens) if token}
            files["vocab.json"] = json.dumps(ids, ensure_ascii=False)
            files["merges.txt"] = "".join(line + "\n" for line in ["#version: 0.2", *merges])
    files["tokenizer_config.json"] = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
    return files
