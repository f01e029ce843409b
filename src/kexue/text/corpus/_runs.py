"""Which characters a BERT tokenizer treats alone, and which runs of characters it treats together."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kexue.text._offsets import without_surrogates

__all__ = ["CharacterTable", "Runs", "bert_pieces"]

_NEW, _WORD, _SPACE = -3, -2, -1


class Runs(NamedTuple):
    """Texts joined by line ends and taken apart.

    Attributes:
        text: all texts, each with a line end behind it.
        codes: its code points.
        kinds: >= 0: a character that is a word of its own, with its number; < 0: white space or within a run.
        first: where each run of other characters starts.
        last: where it ends.
        words: the runs.
    """

    text: str
    codes: np.ndarray
    kinds: np.ndarray
    first: np.ndarray
    last: np.ndarray
    words: list[str]


def bert_pieces(normalizer: Any, pre_tokenizer: Any, text: str) -> list[str]:
    """The words of a text, normalised, as WordPiece gets them."""
    return [piece for piece, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))]


class CharacterTable:
    """What becomes of each character between two letters decides its kind; that is asked once for each character.

    Args:
        normalizer: a ``BertNormalizer``.
        pre_tokenizer: a ``BertPreTokenizer``.
        number: the number (>= 0) of a character that is a word of its own, from its normalised form; None: it is
            treated as part of a run.
    """

    def __init__(self, normalizer: Any, pre_tokenizer: Any, number: Callable[[str], int | None]) -> None:
        self._normalizer, self._pre_tokenizer, self._number = normalizer, pre_tokenizer, number
        self._kinds = np.full(0x110000, _NEW, "int32")

    def split(self, texts: Sequence[str]) -> Runs:
        """Take texts apart."""
        text = without_surrogates("\n".join(texts) + "\n")
        codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
        kinds = self._kinds[codes]
        if (kinds == _NEW).any():
            for code in np.unique(codes[kinds == _NEW]).tolist():
                self._kinds[code] = self._kind(chr(code))
            kinds = self._kinds[codes]
        edges = np.flatnonzero(np.diff(kinds == _WORD, prepend=False))  # even in number: a line end comes last
        first, last = edges[0::2], edges[1::2]
        words = [text[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True)]
        return Runs(text, codes, kinds, first, last, words)

    def _kind(self, character: str) -> int:
        pieces = bert_pieces(self._normalizer, self._pre_tokenizer, f"a{character}a")
        if pieces == ["a", "a"]:
            return _SPACE
        if len(pieces) == 3 and pieces[0] == pieces[2] == "a":
            number = self._number(pieces[1])
            return _WORD if number is None else number
        return _WORD
