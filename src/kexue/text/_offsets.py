"""Places in the original string: what the Rust library reports, made exact."""

import re
from collections.abc import Sequence

__all__ = ["exact_offsets", "without_surrogates"]

Range = tuple[int, int]

_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTE = re.compile("<0x[0-9A-F]{2}>")
_SPACES = frozenset("▁Ġ")


def without_surrogates(text: str) -> str:
    """Lone surrogates cannot be encoded; U+FFFD takes their place one for one, so offsets stay right."""
    return _SURROGATE.sub("\ufffd", text) if not text.isascii() else text


def exact_offsets(text: str, tokens: Sequence[str], offsets: Sequence[Range]) -> list[Range]:
    """Ranges of the tokens of BPE and unigram models.

    - White space at the edges of a token (``▁the`` stands for " the") does not belong to its range.
    - A ``▁`` alone has an empty range: where it was put before the text, the library gives it the first character.
    - A run of unknown characters that became bytes is one range in the Rust unigram model: each byte gets the range of
      its own character. Characters that normalisation changed share what is left between the others.
    """
    ranges = list(offsets)
    index = 0
    while index < len(tokens):
        last = index + 1
        if offsets[index][1] - offsets[index][0] > 1 and _BYTE.fullmatch(tokens[index]):
            while last < len(tokens) and offsets[last] == offsets[index] and _BYTE.fullmatch(tokens[last]):
                last += 1
            ranges[index:last] = _by_character(text, tokens[index:last], *offsets[index])
        index = last
    return [
        (start, start) if _is_space(text, token, start, end) else _trimmed(text, start, end)
        for token, (start, end) in zip(tokens, ranges, strict=True)
    ]


def _is_space(text: str, token: str, start: int, end: int) -> bool:
    """Whether a token stands for spaces only, of the text or put before it (not for a literal ``▁`` of the text)."""
    return bool(token) and _SPACES.issuperset(token) and _SPACES.isdisjoint(text[start:end])


def _trimmed(text: str, start: int, end: int) -> Range:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _by_character(text: str, tokens: Sequence[str], start: int, end: int) -> list[Range]:
    """Range of each byte token of a run: characters are matched from the left, then from the right."""
    data = bytes(int(token[3:5], 16) for token in tokens)
    left: list[Range] = []
    right: list[Range] = []
    while start < end and data.startswith(code := _bytes(text[start]), len(left)):
        left += [(start, start + 1)] * len(code)
        start += 1
    while start < end and data.endswith(code := _bytes(text[end - 1]), len(left), len(data) - len(right)):
        right += [(end - 1, end)] * len(code)
        end -= 1
    return left + [(start, end)] * (len(data) - len(left) - len(right)) + right[::-1]


def _bytes(character: str) -> bytes:
    return without_surrogates(character).encode("utf-8")
