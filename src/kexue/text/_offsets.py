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
    - A ``▁`` that was put before the text stands for nothing: its range is empty, not that of the first character.
    - A run of unknown characters that became bytes is one range in the Rust unigram model: each byte gets the range of
      its own character, unless normalisation changed the characters.
    """
    result = [
        (start, start) if _is_added(text, token, start, end) else _trimmed(text, start, end)
        for token, (start, end) in zip(tokens, offsets, strict=True)
    ]
    index = 0
    while index < len(tokens):
        last = index + 1
        if offsets[index][1] - offsets[index][0] > 1 and _BYTE.fullmatch(tokens[index]):
            while last < len(tokens) and offsets[last] == offsets[index] and _BYTE.fullmatch(tokens[last]):
                last += 1
            start, end = offsets[index]
            result[index:last] = _by_character(text, tokens[index:last], start, end) or result[index:last]
        index = last
    return result


def _is_added(text: str, token: str, start: int, end: int) -> bool:
    return not _SPACES.isdisjoint(token) and _SPACES.issuperset(token) and not _SPACES & set(text[start:end])


def _trimmed(text: str, start: int, end: int) -> Range:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _by_character(text: str, tokens: Sequence[str], start: int, end: int) -> list[Range]:
    """Range of each byte token, empty if the bytes do not spell the characters."""
    spelt = text[start:end].encode("utf-8", "replace")
    if bytes(int(token[3:5], 16) for token in tokens) != spelt:
        return []
    return [(place, place + 1) for place in range(start, end) for _ in text[place].encode("utf-8")]
