"""From the files of a checkpoint to a Rust tokenizer, and back."""

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import normalizers

from kexue.errors import ConfigError, DataError
from kexue.text import _rust

Loaded = tuple[tokenizers.Tokenizer, dict[str, str]]

__all__ = ["build_word_piece", "file_contents", "load_pretrained"]


def load_pretrained(path: Path, lowercase: bool | None) -> tuple[tokenizers.Tokenizer, dict[str, str], bool]:
    """The Rust tokenizer of a folder or file, the names of its special tokens, and ``specials_in_text`` as saved.

    See `Tokenizer.from_pretrained`.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    folder = path if path.is_dir() else path.parent
    settings = [
        _rust.read_json(folder / name) if (folder / name).is_file() else {}
        for name in ("tokenizer_config.json", "special_tokens_map.json")
    ]
    file = tokenizer_file(path)
    if file.name in ("vocab.json", "merges.txt"):
        loaded = _load_bpe(file, settings, lowercase)
    elif file.suffix == ".json":
        loaded = _load_json(file, settings, lowercase)
    else:
        loaded = _load_vocabulary(file, settings, lowercase)
    return *loaded, not settings[0].get("split_special_tokens", False)


def _load_vocabulary(file: Path, settings: list[dict[str, Any]], lowercase: bool | None) -> Loaded:
    config = settings[0]
    if lowercase is None:
        lowercase = config.get("do_lower_case")
    vocabulary = _rust.read_vocabulary(file)
    return build_word_piece(
        vocabulary,
        specials=_rust.BERT_SPECIALS | _rust.find_specials(dict.fromkeys(vocabulary, 0), *settings),
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


def _load_bpe(file: Path, settings: list[dict[str, Any]], lowercase: bool | None) -> Loaded:
    if lowercase:
        raise ConfigError(f"{file}: byte-level BPE has no lower-casing. Received: lowercase=True")
    vocab, merges = file.with_name("vocab.json"), file.with_name("merges.txt")
    specials = _rust.ROBERTA_SPECIALS | _rust.find_specials(_rust.read_json(vocab), *settings)
    rust = _rust.bpe(vocab, merges, specials, bool(settings[0].get("add_prefix_space", False)))
    return rust, _rust.find_specials(rust.get_vocab(), *settings)


def _load_json(file: Path, settings: list[dict[str, Any]], lowercase: bool | None) -> Loaded:
    rust = _rust.load_json_tokenizer(file)
    ids = rust.get_vocab()
    specials = _rust.find_specials(ids, *settings)
    if type(rust.model).__name__ == "WordPiece":
        _rust.require_specials(ids, _rust.BERT_SPECIALS | specials, str(file))
    config = settings[0]
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
        if rust.post_processor is None:
            rust.post_processor = _rust.bert_processor(ids, specials)
    elif lowercase is not None:
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
    if any(file.is_file() for file in pair):
        raise DataError(f"{path}: byte-level BPE needs both vocab.json and merges.txt, one of them is missing")
    raise DataError(f"{path}: no tokenizer found. Expected tokenizer.json, vocab.txt, or vocab.json with merges.txt")


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
    elif kind == "BPE":
        config["tokenizer_class"] = "RobertaTokenizer" if "cls" in specials else "PreTrainedTokenizerFast"
        config["add_prefix_space"] = bool(getattr(rust.pre_tokenizer, "add_prefix_space", False))
        model = json.loads(files["tokenizer.json"])["model"]
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        ids = {token: index for index, token in enumerate(tokens) if token}
        files["vocab.json"] = json.dumps(ids, ensure_ascii=False)
        files["merges.txt"] = "".join(line + "\n" for line in ["#version: 0.2", *merges])
    else:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    files["tokenizer_config.json"] = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
    return files
