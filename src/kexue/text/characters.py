"""Classes of characters, and joining tokens back into text."""

import re
import unicodedata
from collections.abc import Collection, Iterable

__all__ = ["is_cjk", "is_punctuation", "is_spaceless", "join_tokens"]

_CJK_RANGES = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def is_cjk(character: str) -> bool:
    """True for the ideographs that BERT makes words of their own."""
    code = ord(character)
    return any(low <= code <= high for low, high in _CJK_RANGES)


def is_punctuation(character: str) -> bool:
    """BERT's punctuation: every ASCII character that is neither letter, digit, space nor control, and Unicode P*."""
    code = ord(character)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(character).startswith("P")


def _is_wide(character: str) -> bool:
    return is_cjk(character) or (unicodedata.east_asian_width(character) in "WF" and is_punctuation(character))


_CLOSING = frozenset(".,!?;:%)]}…’”")
_OPENING = frozenset("([{#@$“‘")
_BINDING = frozenset("/-_'=+<>~*^|\\&")  # no space on either side
_NUMBER = re.compile(r"(?<=\d)([.,:]) (?=\d)")


def join_tokens(tokens: Iterable[str], specials: Collection[str] = ()) -> str:
    """Join WordPiece tokens: ``##`` pieces glued, no spaces beside Chinese, usual spacing of Latin punctuation.

    Spaces of the original text are not in the tokens, so this is a readable guess, not an inverse.
    """
    text = ""
    for token in tokens:
        if not token:
            continue
        if token.startswith("##") and len(token) > 2:
            text += token[2:]
        else:
            glued = not text or (_is_wide(text[-1]) if token in specials else _glued(text[-1], token))
            text += token if glued else " " + token
    return _NUMBER.sub(r"\1", text)


def _glued(left: str, token: str) -> bool:
    right = token[0]
    if _is_wide(left) or _is_wide(right):
        return True
    return right in _CLOSING or left in _OPENING or right in _BINDING or left in _BINDING


def is_spaceless(character: str) -> bool:
    """True for characters of scripts written without spaces: ideographs, kana, full-width punctuation."""
    return _is_wide(character) or "\u3040" <= character <= "\u30ff"
