"""Long texts in pieces that end where a reader would pause."""

import numpy as np

from kexue.errors import ConfigError
from kexue.text.encoding import Encoding

__all__ = ["cut_at_pauses"]

_MARKS = ("\n。！？!?；;…", "，,、：:", " \t\u3000")
"""Where to end a piece, the best marks first."""
_CLOSING = "”’」』）)》\"'"
"""These stay with the mark before them."""


def cut_at_pauses(encoding: Encoding, limit: int) -> list[np.ndarray]:
    """Token ids of the pieces of one text, ``limit`` tokens each at most, special tokens left out.

    A piece ends behind the last mark in its second half that ends a sentence, else behind the last comma there, else at
    the last space, else at the limit (not inside a word where that can be avoided). The pieces together are all tokens
    of the text; a text without tokens has no pieces.

    Raises:
        ConfigError: a limit below 1.
    """
    if limit < 1:
        raise ConfigError(f"a piece needs a token at least. Received: limit={limit}")
    own = np.flatnonzero(~encoding.special)
    ids, offsets = encoding.token_ids[own], encoding.offsets[own].tolist()
    tokens = [encoding.tokens[i] for i in own.tolist()]
    pieces, first = [], 0
    while first < len(ids):
        end = len(ids) if len(ids) - first <= limit else _end(encoding.texts[0], tokens, offsets, first, limit)
        pieces.append(ids[first:end])
        first = end
    return pieces


def _end(text: str, tokens: list[str], offsets: list[list[int]], first: int, limit: int) -> int:
    """The token that the next piece begins with."""
    last = first + limit
    for marks in _MARKS:
        for end in range(last, first + limit // 2, -1):
            # From the last character of the piece to the first one of the next: white space has no tokens.
            seam = text[max(offsets[end - 1][1] - 1, 0) : offsets[end][0] + 1]
            gap = seam[1:-1]
            mark = text[: offsets[end - 1][1]].rstrip(_CLOSING)[-1:] if seam[0] in _CLOSING else seam[0]
            stop = mark == "." and gap != "" and marks == _MARKS[0]  # but not that of a number
            if seam[-1] not in _CLOSING and (mark in marks or stop or any(c in marks for c in gap)):
                return end
    return next((end for end in range(last, first, -1) if not tokens[end].startswith("##")), last)
