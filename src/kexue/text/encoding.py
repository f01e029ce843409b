"""One encoded text or pair: token ids and their place in the original string.

All offsets count code points of the original Python string and are half-open: ``text[start:end]`` is what a token
stands for, whatever lower-casing or accent stripping did in between.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from kexue.errors import ConfigError, DataError

__all__ = ["Encoding", "Template", "Truncation", "truncated_lengths"]

Truncation = Literal["longest", "first", "second", "error"]
"""What to shorten: the longest of the two, only the first, only the second, or nothing (an error if too long)."""


@dataclass(frozen=True)
class Template:
    """Where the special tokens go: pieces in order, each ``(token id, segment id)`` or ``(slot, segment id)``.

    A slot is ``"A"`` or ``"B"``. BERT: ``[CLS] A [SEP] B [SEP]`` with segments 0 0 0 1 1.
    """

    single: tuple[tuple[int | str, int], ...]
    pair: tuple[tuple[int | str, int], ...]

    def specials(self, pair: bool) -> int:
        """Number of special tokens that are added."""
        return sum(not isinstance(piece, str) for piece, _ in (self.pair if pair else self.single))


@dataclass(frozen=True, eq=False)
class Encoding:
    """Token ids with character offsets.

    Attributes:
        token_ids: ``(n,)`` int32.
        segment_ids: ``(n,)`` int32, 0 for the first text, 1 for the second (RoBERTa: all 0).
        offsets: ``(n, 2)`` int32, half-open code point ranges of the original text; ``(0, 0)`` for added specials.
        special: ``(n,)`` bool, true at the tokens that the template added (not at a literal ``[MASK]`` in the text).
        sequence_ids: ``(n,)`` int32: 0 first text, 1 second text, -1 added special.
        tokens: the tokens as strings.
        texts: the original text, or both of a pair.
        limits: for each text the range of characters this encoding represents; less than the whole text after
            truncation and in windows.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    offsets: np.ndarray
    special: np.ndarray
    sequence_ids: np.ndarray
    tokens: tuple[str, ...]
    texts: tuple[str, ...]
    limits: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def truncated(self) -> bool:
        """Whether some of the text is not represented."""
        return any(limit != (0, len(text)) for limit, text in zip(self.limits, self.texts, strict=True))

    def token_range(self, sequence: int = 0) -> tuple[int, int]:
        """Half-open range of the tokens of text 0 or 1 (empty where it has none)."""
        self._check_sequence(sequence)
        where = np.flatnonzero(self.sequence_ids == sequence)
        return (int(where[0]), int(where[-1]) + 1) if len(where) else (0, 0)

    def char_to_token(self, index: int, sequence: int = 0) -> int | None:
        """The first token that covers character ``index`` of text ``sequence``; None where no token does
        (white space, removed control characters, truncated)."""
        first, last = self.token_range(sequence)
        inside = (self.offsets[first:last, 0] <= index) & (index < self.offsets[first:last, 1])
        where = np.flatnonzero(inside)
        return first + int(where[0]) if len(where) else None

    def token_span(self, start: int, end: int, sequence: int = 0) -> tuple[int, int] | None:
        """Half-open range of tokens that stands for the characters ``[start, end)``.

        Characters that no token covers (white space, removed accents and control characters) may lie at the edges.

        Returns:
            ``(i, j)``, or None if an edge lies inside a token, part of the span was truncated, or no token covers it.

        Raises:
            DataError: the range is empty or outside the text.
        """
        first, last = self.token_range(sequence)
        text = self.texts[sequence]
        if not 0 <= start < end <= len(text):
            raise DataError(f"a span needs 0 <= start < end <= {len(text)}. Received: start={start}, end={end}")
        low, high = self.limits[sequence]
        if start < low or end > high:
            return None
        offsets = self.offsets[first:last]
        touched = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > start))
        if not len(touched):
            return None
        i, j = int(touched[0]), int(touched[-1]) + 1
        if offsets[i, 0] < start or offsets[j - 1, 1] > end:
            return None
        return first + i, first + j

    def char_span(self, i: int, j: int) -> tuple[int, int] | None:
        """Half-open range of characters behind the tokens ``[i, j)``.

        Combining marks that the normaliser removed right after the last token are included, so that a span never
        cuts an accent from its letter.

        Returns:
            ``(start, end)``, or None if the range is empty, outside, or holds an added special token.
        """
        if not 0 <= i < j <= len(self):
            return None
        sequences = self.sequence_ids[i:j]
        sequence = int(sequences[0])
        if sequence < 0 or (sequences != sequence).any():
            return None
        start, end = int(self.offsets[i:j, 0].min()), int(self.offsets[i:j, 1].max())
        text = self.texts[sequence]
        limit = len(text)
        if j < len(self) and self.sequence_ids[j] == sequence:
            limit = int(self.offsets[j, 0])
        while end < limit and unicodedata.category(text[end]) == "Mn":
            end += 1
        return start, end

    def _check_sequence(self, sequence: int) -> None:
        if not 0 <= sequence < len(self.texts):
            raise ConfigError(f"this encoding has {len(self.texts)} text(s), 0-based. Received: sequence={sequence}")


@dataclass(frozen=True)
class Piece:
    """Tokens of one text before the special tokens are added."""

    text: str
    ids: Sequence[int]
    offsets: Sequence[tuple[int, int]]
    tokens: Sequence[str]
    limit: tuple[int, int]

    def __len__(self) -> int:
        return len(self.ids)

    def cut(self, start: int, end: int) -> "Piece":
        """The tokens ``[start, end)`` with the characters that they stand for."""
        if start <= 0 and end >= len(self.ids):
            return self
        low, high = self.limit
        if start > 0:
            low = self.offsets[start - 1][1] if end > start else high
        if end < len(self.ids):
            high = max(low, self.offsets[end][0] if end > start else low)
        return replace(
            self,
            ids=self.ids[start:end],
            offsets=self.offsets[start:end],
            tokens=self.tokens[start:end],
            limit=(low, high),
        )


def assemble(template: Template, first: Piece, second: Piece | None, special_tokens: dict[int, str]) -> Encoding:
    """Put the pieces into the template."""
    ids: list[int] = []
    segments: list[int] = []
    sequences: list[int] = []
    offsets: list[tuple[int, int]] = []
    tokens: list[str] = []
    for entry, segment in template.single if second is None else template.pair:
        if isinstance(entry, str):
            piece = first if entry == "A" or second is None else second
            ids += piece.ids
            offsets += piece.offsets
            tokens += piece.tokens
            segments += [segment] * len(piece)
            sequences += [0 if entry == "A" else 1] * len(piece)
        else:
            ids.append(entry)
            offsets.append((0, 0))
            tokens.append(special_tokens[entry])
            segments.append(segment)
            sequences.append(-1)
    sequence_ids = np.asarray(sequences, "int32")
    pieces = (first,) if second is None else (first, second)
    return Encoding(
        token_ids=np.asarray(ids, "int32"),
        segment_ids=np.asarray(segments, "int32"),
        offsets=np.asarray(offsets, "int32").reshape(-1, 2),
        special=sequence_ids < 0,
        sequence_ids=sequence_ids,
        tokens=tuple(tokens),
        texts=tuple(piece.text for piece in pieces),
        limits=tuple(piece.limit for piece in pieces),
    )


def truncated_lengths(first: int, second: int | None, budget: int, truncation: Truncation) -> tuple[int, int]:
    """How many tokens of each text to keep so that both fit into ``budget``.

    ``"longest"`` removes tokens from the end of the currently longest text, one by one; where both end up equally
    long and one token is left over, it goes to the one that was longer (to the second if both were equal), which is
    what the Rust ``tokenizers`` library does.

    Raises:
        DataError: the texts do not fit in the permitted way.
    """
    other = second or 0
    if first + other <= budget:
        return first, other
    if truncation == "error":
        raise DataError(
            f"{first + other} tokens, but only {budget} fit beside the special tokens. Raise max_length, "
            "choose truncation='longest', or cut the text with kexue.text.windows"
        )
    if second is None or truncation == "first":
        keep = budget - other
        if keep < 0:
            raise DataError(
                f"truncation='first': the second text alone has {other} tokens, {budget} fit. Use truncation='longest'"
            )
        return min(first, keep), other
    if truncation == "second":
        keep = budget - first
        if keep < 0:
            raise DataError(
                f"truncation='second': the first text alone has {first} tokens, {budget} fit. Use truncation='longest'"
            )
        return first, min(other, keep)
    short = min(first, other, budget // 2)
    return (budget - short, short) if first > other else (short, budget - short)
