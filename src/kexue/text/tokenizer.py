"""Tokenizers: WordPiece (BERT), byte-level BPE (GPT-2) and SentencePiece (T5) over the Rust ``tokenizers`` library.

Notable choices:
- ids equal those of ``transformers`` for the same files, and those of SentencePiece for its models;
- offsets always refer to the original Python string;
- truncation and special tokens are applied here from a template read off the Rust post-processor, so that a
  vocabulary file and a ``tokenizer.json`` take the same road;
- ``pre_tokenize`` cuts the text into words first and keeps those that the vocabulary has (WoBERT, RoFormer).
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import normalizers

from kexue.errors import ConfigError, DataError
from kexue.files import atomic_write, shipped
from kexue.text import _rust
from kexue.text._files import build_word_piece, file_contents, load_pretrained
from kexue.text._lookup import Lookup
from kexue.text._offsets import exact_offsets, without_surrogates
from kexue.text._unigram import guard
from kexue.text._words import Words, resolve_hook
from kexue.text.characters import join_tokens
from kexue.text.encoding import Encoding, Piece, Truncation, assemble, truncated_lengths

__all__ = ["Tokenizer"]

Text = str | tuple[str, str]


class Tokenizer(Lookup):
    """Text to token ids and back.

    Make one with `from_pretrained` or `from_vocab`; the constructor takes a ready Rust tokenizer.

    Args:
        rust: a ``tokenizers.Tokenizer``.
        specials: names of the special tokens, roles ``pad, unk, cls, sep, mask, bos, eos``.
        pre_tokenize: callable ``text -> list of words`` or ``"jieba"``. A word that the vocabulary has (after
            lower-casing) becomes one token, any other word goes through WordPiece. The words must spell the text;
            only white space may be left out. The callable is not saved.
        specials_in_text: True (as in ``transformers``): a literal ``[MASK]`` or ``[SEP]`` in the text is that token,
            which is how one writes a text with blanks. Nothing in kexue looks for separators or padding by their id
            (masks and segments are explicit), so a stray ``[SEP]`` in user text changes only its own token. False:
            such text is split like any other, the choice for text of strangers where even that is unwanted.

    Raises:
        DataError: a needed special token is missing.
    """

    def __init__(
        self,
        rust: tokenizers.Tokenizer,
        *,
        specials: dict[str, str] | None = None,
        pre_tokenize: Callable[[str], Sequence[str]] | str | None = None,
        specials_in_text: bool = True,
    ) -> None:
        self._rust = rust
        self._rust.encode_special_tokens = not specials_in_text
        if not specials_in_text:
            guard(rust)
        ids = rust.get_vocab(with_added_tokens=True)
        self._specials = _rust.find_specials(ids, {}) if specials is None else dict(specials)
        self._specials_in_text = specials_in_text
        self._ids = ids
        size = max(ids.values(), default=-1) + 1
        self._tokens: list[str] = [""] * size  # ids without a token (holes) stay empty
        for token, index in ids.items():
            self._tokens[index] = token
        self._is_word_piece = type(rust.model).__name__ == "WordPiece"
        self._template = _rust.read_template(rust)
        entries = {entry for entry, _ in self._template.single + self._template.pair}
        self._template_tokens = {entry: self._tokens[entry] for entry in entries if not isinstance(entry, str)}
        added = sorted((t.content for t in rust.get_added_tokens_decoder().values()), key=len, reverse=True)
        self._literal_specials = re.compile("|".join(map(re.escape, added))) if added and specials_in_text else None
        self._hook = pre_tokenize
        words = resolve_hook(pre_tokenize)
        if words is not None and not self._is_word_piece:
            raise ConfigError("pre_tokenize works with WordPiece vocabularies only; this tokenizer is not one")
        self._words = None if words is None else Words(words, self)

    # ---------------------------------------------------------------- making one

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        *,
        family: str | None = None,
        specials: dict[str, str] | None = None,
        lowercase: bool | None = None,
        pre_tokenize: Callable[[str], Sequence[str]] | str | None = None,
        specials_in_text: bool | None = None,
    ) -> "Tokenizer":
        """Read the tokenizer of a checkpoint.

        Looks for ``tokenizer.json``, else ``vocab.txt`` (WordPiece), else a SentencePiece model (``spiece.model``,
        ``spm.model``, ``tokenizer.model``, ``sentencepiece.bpe.model``; neither the package sentencepiece nor
        protobuf is needed), else ``vocab.json`` with ``merges.txt`` (BPE). ``tokenizer_config.json``,
        ``special_tokens_map.json`` and ``added_tokens.json`` beside it are honoured.

        Args:
            path: the folder, or one of these files.
            family: for SentencePiece and ``vocab.json``: whose special tokens to use and where to put them:
                ``albert, t5, mt5, xlnet, deberta-v2, llama, xlm-roberta, plain`` (none), and ``roberta, gpt2,
                openai-gpt, qwen2``. Default: by ``tokenizer_class`` of ``tokenizer_config.json``, else ``model_type``
                of ``config.json``, else (``vocab.json`` only) by the vocabulary.
            specials: names of special tokens by role, where they differ from what the files say: GPT-2 has no padding
                token, ``{"pad": "<|endoftext|>"}`` gives it one.
            lowercase: default: ``do_lower_case`` of ``tokenizer_config.json``; without it what ``tokenizer.json``
                says; for a bare ``vocab.txt`` False if any token that is not bracketed like ``[CLS]`` has an
                upper-case ASCII letter, else True. Accents are stripped exactly when lower-casing, unless
                ``strip_accents`` is configured.
            pre_tokenize: see the class.
            specials_in_text: see the class; default: as saved (``split_special_tokens``), else True.

        Raises:
            DataError: no tokenizer file, a broken one, or special tokens missing.
            ConfigError: an unknown family or role, no family for a SentencePiece model, or lower-casing where the
                family has none.
        """
        rust, specials, saved = load_pretrained(shipped(path), lowercase=lowercase, family=family, specials=specials)
        specials_in_text = saved if specials_in_text is None else specials_in_text
        return cls(rust, specials=specials, pre_tokenize=pre_tokenize, specials_in_text=specials_in_text)

    @classmethod
    def from_vocab(
        cls,
        vocabulary: str | os.PathLike[str] | Sequence[str],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        split_chinese: bool = True,
        max_word_length: int = 100,
        specials: dict[str, str] | None = None,
        pre_tokenize: Callable[[str], Sequence[str]] | str | None = None,
        specials_in_text: bool = True,
        name: str | None = None,
    ) -> "Tokenizer":
        """A BERT WordPiece tokenizer from a ``vocab.txt`` or a list of tokens (id = position).

        Args:
            vocabulary: file or tokens.
            lowercase: lower-case the text.
            strip_accents: remove combining accents; None: exactly when lower-casing.
            split_chinese: every CJK ideograph is a word of its own.
            max_word_length: longer words are unknown (100 in ``transformers``, 200 in bert4keras).
            specials: names of the special tokens where they differ from ``[PAD]``, ``[UNK]``, ``[CLS]``, ``[SEP]``,
                ``[MASK]``; ``mask`` may be absent.
            pre_tokenize: see the class.
            specials_in_text: see the class.
            name: what to call the vocabulary in errors.

        Raises:
            DataError: empty vocabulary, a token twice, or a needed special token missing.
        """
        if isinstance(vocabulary, (str, os.PathLike)):
            name = name or str(vocabulary)
            tokens = _rust.read_vocabulary(vocabulary)
        else:
            tokens = list(vocabulary)
            _rust.check_vocabulary(tokens, name or "vocabulary")
        rust, merged = build_word_piece(
            tokens,
            specials=_rust.BERT_SPECIALS | (specials or {}),
            name=name or "vocabulary",
            lowercase=lowercase,
            strip_accents=strip_accents,
            split_chinese=split_chinese,
            max_word_length=max_word_length,
        )
        return cls(rust, specials=merged, pre_tokenize=pre_tokenize, specials_in_text=specials_in_text)

    # ---------------------------------------------------------------- encoding

    def encode(
        self, text: str, pair: str | None = None, *, max_length: int | None = None, truncation: Truncation = "longest"
    ) -> Encoding:
        """Encode one text or a pair.

        Args:
            text: the text.
            pair: a second text.
            max_length: greatest number of tokens, special ones included; None: no limit.
            truncation: what to shorten, see `Truncation`. Special tokens are always kept.

        Raises:
            DataError: the text does not fit and may not be shortened, or is not a string.
            ConfigError: ``max_length`` leaves no room for the special tokens.
        """
        return self.encode_batch(
            [text if pair is None else (text, pair)], max_length=max_length, truncation=truncation
        )[0]

    def encode_batch(
        self, texts: Sequence[Text], *, max_length: int | None = None, truncation: Truncation = "longest"
    ) -> list[Encoding]:
        """Encode many texts or ``(text, pair)`` tuples; arguments as in `encode`."""
        if isinstance(texts, str):
            raise ConfigError("encode_batch needs a list of texts, received one string. Use encode(text)")
        if truncation not in ("longest", "first", "second", "error"):
            raise ConfigError(
                f"truncation must be 'longest', 'first', 'second' or 'error'. Received: truncation={truncation!r}"
            )
        flat: list[str] = []
        for index, item in enumerate(texts):
            parts = (item,) if isinstance(item, str) else item
            if not isinstance(parts, (tuple, list)) or len(parts) not in (1, 2):
                raise DataError(f"text {index}: expected a string or a pair of strings. Received: {item!r}")
            for part in parts:
                if not isinstance(part, str):
                    raise DataError(f"text {index}: expected a string. Received: {type(part).__name__}")
                flat.append(part)
        pieces = iter(self.pieces(flat))
        result = []
        for index, item in enumerate(texts):
            first = next(pieces)
            second = None if isinstance(item, str) or len(item) == 1 else next(pieces)
            if max_length is not None:
                budget = max_length - self._template.specials(second is not None)
                if budget < 0:
                    raise ConfigError(
                        f"max_length={max_length} leaves no room for {max_length - budget} special tokens"
                    )
                try:
                    keep = truncated_lengths(len(first), None if second is None else len(second), budget, truncation)
                except DataError as error:
                    raise DataError(f"text {index}: {error}") from None
                first = first.cut(0, keep[0])
                second = None if second is None else second.cut(0, keep[1])
            result.append(self.assemble(first, second))
        return result

    def assemble(self, first: Piece, second: Piece | None = None) -> Encoding:
        """Add the special tokens to the tokens of one or two texts."""
        return assemble(self._template, first, second, self._template_tokens)

    def special_count(self, pair: bool = False) -> int:
        """How many special tokens `encode` adds to one text or to a pair."""
        return self._template.specials(pair)

    def pieces(self, texts: list[str]) -> list[Piece]:
        """Tokens of texts without special tokens, for `assemble`."""
        return self.plain_pieces(texts) if self._words is None else self._words.pieces(texts)

    def plain_pieces(self, texts: list[str]) -> list[Piece]:
        """Tokens of texts without special tokens and without the ``pre_tokenize`` hook."""
        pieces = []
        encoded = self._rust.encode_batch([without_surrogates(text) for text in texts], add_special_tokens=False)
        for text, item in zip(texts, encoded, strict=True):
            ids, offsets = item.ids, item.offsets
            tokens = [self._tokens[i] for i in ids]
            if not self._is_word_piece:
                offsets = exact_offsets(text, tokens, offsets)
            pieces.append(Piece(text, ids, offsets, tokens, (0, len(text))))
        return pieces

    # ---------------------------------------------------------------- decoding

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of token ids: ``##`` pieces joined, no spaces within Chinese, usual spacing of punctuation.

        Raises:
            DataError: an id outside the vocabulary.
        """
        ids = [int(i) for i in ids]
        tokens = [self.id_to_token(i) for i in ids]
        if not self._is_word_piece:
            return self._rust.decode(ids, skip_special_tokens=skip_special)
        if skip_special:
            hidden = set(self._specials.values()) - {self._specials.get("unk")}
            tokens = [token for token in tokens if token not in hidden]
        return join_tokens(tokens, set(self._specials.values()))

    def split_specials(self, text: str) -> list[tuple[int, int, bool]]:
        """Ranges ``(start, end, is special)`` of the literal special tokens in a text and what is between them."""
        result, position = [], 0
        for match in self._literal_specials.finditer(text) if self._literal_specials else ():
            if match.start() > position:
                result.append((position, match.start(), False))
            result.append((match.start(), match.end(), True))
            position = match.end()
        if position < len(text):
            result.append((position, len(text), False))
        return result

    def with_vocabulary(self, vocabulary: Sequence[str]) -> "Tokenizer":
        """The same WordPiece settings over another vocabulary."""
        if not self._is_word_piece:
            raise ConfigError("only a WordPiece tokenizer can take another vocabulary")
        normalizer = self._rust.normalizer
        bert = isinstance(normalizer, normalizers.BertNormalizer)
        return Tokenizer.from_vocab(
            vocabulary,
            lowercase=bool(bert and normalizer.lowercase),
            strip_accents=normalizer.strip_accents if bert else None,
            split_chinese=bool(normalizer.handle_chinese_chars) if bert else True,
            max_word_length=self._rust.model.max_input_chars_per_word,
            specials=self._specials,
            pre_tokenize=self._hook,
            specials_in_text=self._specials_in_text,
        )

    def with_literal_text(self) -> "Tokenizer":
        """The same tokenizer for text of strangers: ``specials_in_text=False``."""
        return self if not self._specials_in_text else self.__class__(**self._state() | {"specials_in_text": False})

    # ---------------------------------------------------------------- files

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json``, the vocabulary files and ``tokenizer_config.json``; other files are left alone.

        ``transformers`` loads the folder too. A ``pre_tokenize`` hook is Python code and is not written: give it to
        `from_pretrained` again.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = file_contents(self._rust, self._specials, self._tokens, self._specials_in_text)
        for name, content in files.items():
            with atomic_write(folder / name) as temporary:
                temporary.write_bytes(content.encode("utf-8"))

    def _state(self) -> dict[str, Any]:
        return {
            "rust": tokenizers.Tokenizer.from_str(self._rust.to_str()),
            "specials": self._specials,
            "pre_tokenize": self._hook,
            "specials_in_text": self._specials_in_text,
        }

    def __getstate__(self) -> dict[str, Any]:
        return self._state() | {"rust": self._rust.to_str()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        rust = tokenizers.Tokenizer.from_str(state.pop("rust"))
        self.__init__(rust, **state)  # type: ignore[misc]

    def __repr__(self) -> str:
        kind = type(self._rust.model).__name__
        hook = "" if self._hook is None else f", pre_tokenize={self._hook!r}"
        return f"Tokenizer({kind}, {len(self)} tokens, lowercase={self.lowercase}{hook})"
