"""Building Rust tokenizers from the files that checkpoints come with."""

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from kexue.errors import DataError
from kexue.text.encoding import Template

__all__ = [
    "Added",
    "Special",
    "add_at_ids",
    "find_specials",
    "load_json_tokenizer",
    "looks_cased",
    "named_specials",
    "read_vocabulary",
    "word_piece",
]

BERT_SPECIALS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA_SPECIALS = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
ROBERTA_SPECIALS |= {"bos": "<s>", "eos": "</s>"}
_XLNET_SPECIALS = {"cls": "<cls>", "sep": "<sep>"}
ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
Special = dict[str, str]
Added = Mapping[str, tuple[int, tokenizers.AddedToken]]
"""Tokens beyond the model's own vocabulary with their ids, in order of the ids."""

_BRACKETED = re.compile(r"\[[^\[\]]+\]|<[^<>]+>")


def read_text(path: str | os.PathLike[str]) -> str:
    """A whole file as UTF-8 without a byte order mark."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not valid UTF-8 (byte {error.start}). Convert the file to UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A JSON file that holds one object."""
    try:
        value = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not valid JSON ({error.msg})") from None
    except RecursionError:
        raise DataError(f"{path}: nested too deeply to be a tokenizer file") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object. Received: {type(value).__name__}")
    return value


def read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    r"""Read ``vocab.txt``: one token a line, the id is the line number.

    Lines end at ``\n`` or ``\r\n`` only: the vocabulary of Chinese BERT contains U+2028, at which ``splitlines``
    would break. Empty lines at the end are ignored.
    """
    lines = read_text(path).split("\n")
    lines = [line[:-1] if line.endswith("\r") else line for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    check_vocabulary(lines, str(path))
    return lines


def check_vocabulary(tokens: list[str], name: str = "vocabulary") -> None:
    """Raise DataError for an empty vocabulary or a token that stands twice."""
    if not tokens:
        raise DataError(f"{name}: the vocabulary is empty")
    seen: dict[str, int] = {}
    for line, token in enumerate(tokens, 1):
        if not isinstance(token, str):
            raise DataError(f"{name}: tokens must be strings. Received at line {line}: {token!r}")
        if token in seen:
            raise DataError(
                f"{name}:{line}: the token {token!r} stands twice (first in line {seen[token]}); "
                "ids would be ambiguous. Remove one and the row of its embedding"
            )
        seen[token] = line


def looks_cased(vocabulary: Iterable[str]) -> bool:
    """True if any token that is not bracketed like ``[CLS]`` or ``<s>`` has an upper-case ASCII letter."""
    return any(
        not _BRACKETED.fullmatch(token) and token.lower() != token and any("A" <= c <= "Z" for c in token)
        for token in vocabulary
    )


def word_piece(
    vocabulary: list[str],
    *,
    specials: Special,
    lowercase: bool,
    strip_accents: bool | None,
    split_chinese: bool,
    max_word_length: int,
) -> tokenizers.Tokenizer:
    """BERT WordPiece, the same pipeline as ``transformers.BertTokenizer``."""
    ids = {token: index for index, token in enumerate(vocabulary)}
    rust = tokenizers.Tokenizer(
        models.WordPiece(ids, unk_token=specials["unk"], max_input_chars_per_word=max_word_length)
    )
    rust.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=split_chinese, strip_accents=strip_accents, lowercase=lowercase
    )
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.WordPiece(prefix="##")
    rust.add_special_tokens([tokenizers.AddedToken(token, special=True) for token in specials.values()])
    rust.post_processor = bert_processor(ids, specials)
    return rust


def bert_processor(ids: Mapping[str, int], specials: Special) -> Any:
    """``[CLS] A [SEP] B [SEP]``."""
    cls, sep = specials["cls"], specials["sep"]
    return processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, ids[cls]), (sep, ids[sep])],
    )


def add_at_ids(rust: tokenizers.Tokenizer, added: Added, name: str) -> None:
    """Add tokens whose ids are known beforehand.

    Raises:
        DataError: a token would get another id.
    """
    for token, (index, settings) in added.items():
        rust.add_tokens([settings])
        if rust.token_to_id(token) == index:
            continue
        raise DataError(
            f"{name}: the configuration beside it gives the added token {token!r} the id {index}, "
            f"but its place is {rust.token_to_id(token)}. Are these files of one model?"
        )


def load_json_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """``tokenizer.json`` of the Rust library, with its truncation and padding switched off."""
    text = read_text(path)
    read_json(path)
    try:
        rust = tokenizers.Tokenizer.from_str(text)
    except BaseException as error:  # the Rust library raises bare Exception, or panics, which is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{path}: not a tokenizer of the tokenizers library ({error})") from None
    rust.no_truncation()
    rust.no_padding()
    if not rust.get_vocab_size():
        raise DataError(f"{path}: the vocabulary is empty")
    return rust


def named_specials(*settings: Mapping[str, Any]) -> Special:
    """The special tokens by role as the settings name them, the first setting that names one wins."""
    found: Special = {}
    for role in ROLES:
        for setting in settings:
            value = setting.get(f"{role}_token")
            value = value.get("content") if isinstance(value, dict) else value
            if isinstance(value, str):
                found.setdefault(role, value)
    return found


def find_specials(
    ids: Mapping[str, int],
    named: Mapping[str, str],
    family: Mapping[str, str] | None = None,
    absent: Collection[str] = (),
) -> Special:
    """The special tokens that exist: as they are named, else by the names of the family, else by the usual names.

    Roles in ``absent`` are not guessed.
    """
    xlnet = {"<cls>", "<sep>"} <= ids.keys()
    usual = (_XLNET_SPECIALS, ROBERTA_SPECIALS) if xlnet else (BERT_SPECIALS, ROBERTA_SPECIALS)
    found: Special = {}
    for role in ROLES:
        for names in (named, *(usual if family is None else (family,))):
            if names is not named and role in absent:
                continue
            if names is ROBERTA_SPECIALS and role in ("bos", "eos") and "[CLS]" in ids:
                continue  # a BERT vocabulary with <s> among its words
            if names.get(role) in ids:
                found[role] = names[role]
                break
    return found


def require_specials(
    ids: Mapping[str, int], specials: Special, name: str, roles: Iterable[str] = ("pad", "unk", "cls", "sep")
) -> None:
    """Raise DataError naming every special token that the vocabulary lacks."""
    missing = [specials.get(role, f"<{role}>") for role in roles if specials.get(role) not in ids]
    if missing:
        raise DataError(
            f"{name}: the vocabulary of {len(ids)} tokens lacks {', '.join(missing)}. "
            "Is this the vocabulary of the model, one token a line?"
        )


def read_template(rust: tokenizers.Tokenizer) -> Template:
    """Read the template off the post-processor by giving it texts of one known token each."""
    probe = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    pieces = [probe.encode(text, add_special_tokens=False) for text in ("a", "b")]

    def read(encoding: Any) -> tuple[tuple[int | str, int], ...]:
        rows = zip(encoding.ids, encoding.type_ids, encoding.special_tokens_mask, encoding.sequence_ids, strict=True)
        return tuple(("AB"[sequence] if not special else index, kind) for index, kind, special, sequence in rows)

    if rust.post_processor is None:
        return Template((("A", 0),), (("A", 0), ("B", 1)))
    return Template(read(rust.post_process(pieces[0])), read(rust.post_process(pieces[0], pieces[1])))
