"""Texts to flat arrays of ids, fast.

A BERT tokenizer treats ideographs and punctuation one by one, whatever stands beside them, and a word only ever
depends on its own characters. So a table of characters and a table of words seen give the same ids as running the
tokenizer, at many times its speed; the tokenizer itself fills the tables. Other kinds of tokenizer are run as they are.
"""

from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from tokenizers import normalizers, pre_tokenizers

from kexue.errors import ConfigError
from kexue.text._words import align_words, resolve_hook
from kexue.text.corpus._runs import CharacterTable
from kexue.text.tokenizer import Tokenizer

__all__ = ["Encoded", "Encoder"]

_MOST_WORDS = 1 << 20  # words remembered; then the table starts afresh


class Encoded(NamedTuple):
    """Tokens of many texts: ``tokens (N,)`` int32, ``word_starts (N,)`` bool, ``sizes`` tokens of each text."""

    tokens: np.ndarray
    word_starts: np.ndarray
    sizes: np.ndarray


class Encoder:
    """Encodes lists of texts without special tokens; a literal ``[MASK]`` in a text is text, never that token.

    Args:
        tokenizer: any; a BERT one is fast.
        words: where words start. None: at every token that is no ``##`` continuation, so every ideograph is a word.
            ``"jieba"`` or a callable ``text -> words``: at the first token of each word that it finds.
    """

    def __init__(self, tokenizer: Tokenizer, words: Callable[[str], Sequence[str]] | str | None = None) -> None:
        self.tokenizer = tokenizer.with_literal_text()
        self._segment = resolve_hook(words, "words")
        self._starts = _word_start_table(tokenizer)
        rust = self.tokenizer._rust
        self._fast = (
            tokenizer.is_word_piece
            and not tokenizer.has_words
            and isinstance(rust.normalizer, normalizers.BertNormalizer)
            and isinstance(rust.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        )
        if self._fast:
            self._characters = CharacterTable(rust.normalizer, rust.pre_tokenizer, self._single)
        self._forget_words()

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """Encode texts."""
        if not texts:
            return Encoded(np.zeros(0, "int32"), np.zeros(0, bool), np.zeros(0, "int64"))
        tokens, places, sizes = self._by_tables(texts) if self._fast else self._by_tokenizer(texts)
        starts = self._starts[tokens]
        if self._segment is not None:
            starts &= self._segment_starts(texts)[places]
        ends = np.cumsum(sizes)
        starts[(ends - sizes)[sizes > 0]] = True
        return Encoded(tokens, starts, sizes)

    def _by_tables(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        _, codes, kinds, first, _, words = self._characters.split(texts)
        rows = self._rows(words)
        pieces = np.array(self._word_offsets, "int64")
        counts = (kinds >= 0).astype("int32")
        word_sizes = np.diff(pieces)[rows] if len(rows) else rows
        counts[first] = word_sizes
        before = np.cumsum(counts, dtype="int64") - counts
        tokens = np.empty(int(counts.sum()), "int32")
        places = np.repeat(np.arange(len(codes)), counts)
        single = kinds >= 0
        tokens[before[single]] = kinds[single]
        total = int(word_sizes.sum())
        within = np.arange(total) - np.repeat(np.cumsum(word_sizes) - word_sizes, word_sizes)
        flat = np.array(self._word_tokens, "int32")
        tokens[np.repeat(before[first], word_sizes) + within] = flat[np.repeat(pieces[rows], word_sizes) + within]
        ends = np.cumsum([len(item) + 1 for item in texts])
        sizes = np.diff(np.r_[0, np.cumsum(counts, dtype="int64")[ends - 1]])
        return tokens, places, sizes

    def _single(self, character: str) -> int | None:
        ids = self.tokenizer._rust.encode(character, add_special_tokens=False).ids
        return ids[0] if len(ids) == 1 else None

    def _forget_words(self) -> None:
        self._word_rows: dict[str, int] = {}
        self._word_tokens = array("i")
        self._word_offsets = array("q", [0])

    def _rows(self, words: list[str]) -> np.ndarray:
        """Row of each word in the table of words, which grows by those not yet in it."""
        if len(self._word_rows) > _MOST_WORDS:
            self._forget_words()
        known = self._word_rows
        new = [word for word in dict.fromkeys(words) if word not in known]
        encoded = self.tokenizer._rust.encode_batch(new, add_special_tokens=False) if new else []
        for word, item in zip(new, encoded, strict=True):
            known[word] = len(known)
            self._word_tokens.extend(item.ids)
            self._word_offsets.append(len(self._word_tokens))
        return np.fromiter((known[word] for word in words), "int64", len(words))

    def _by_tokenizer(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pieces = self.tokenizer.encode_batch(texts) if self.tokenizer.has_words else None
        if pieces is not None:
            content = [~piece.special for piece in pieces]
            ids = [piece.token_ids[keep].tolist() for piece, keep in zip(pieces, content, strict=True)]
            offsets = [piece.offsets[keep][:, 0].tolist() for piece, keep in zip(pieces, content, strict=True)]
        else:
            plain = self.tokenizer.plain_pieces(list(texts))
            ids = [list(piece.ids) for piece in plain]
            offsets = [[a for a, _ in piece.offsets] for piece in plain]
        sizes = np.fromiter(map(len, ids), "int64", len(ids))
        total = int(sizes.sum())
        tokens = np.fromiter(chain.from_iterable(ids), "int32", total)
        begins = np.cumsum([0] + [len(text) + 1 for text in texts])[:-1]
        places = np.fromiter(chain.from_iterable(offsets), "int64", total) + np.repeat(begins, sizes)
        return tokens, places, sizes

    def _segment_starts(self, texts: Sequence[str]) -> np.ndarray:
        assert self._segment is not None
        begins, flags = 0, np.zeros(sum(map(len, texts)) + len(texts) + 1, bool)
        for text in texts:
            flags[[begins + start for start, _ in align_words(text, list(self._segment(text)))]] = True
            begins += len(text) + 1
        return flags


def _word_start_table(tokenizer: Tokenizer) -> np.ndarray:
    """Which tokens may start a word: not ``##x``; in other vocabularies those with a space before, and ideographs."""
    tokens = tokenizer.vocabulary
    if tokenizer.is_word_piece:
        return np.array([not (token.startswith("##") and len(token) > 2) for token in tokens], bool)
    if not any(token.startswith(("\u2581", "\u0120")) for token in tokens):
        raise ConfigError("the vocabulary does not show where words start (no ##, no \u2581). Give words=a segmenter")
    return np.array([not token[:1].isalnum() or ord(token[0]) > 0x2E7F for token in tokens], bool)
