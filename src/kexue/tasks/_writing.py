"""Text as it is written."""

from collections.abc import Callable, Iterator

__all__ = ["text_pieces"]


def text_pieces(decode: Callable[[list[int]], str], tokens: Iterator[int]) -> Iterator[str]:
    """New characters of the text so far; what may still change (the last character of a broken one) waits."""
    ids: list[int] = []
    shown = ""
    for token in tokens:
        ids.append(token)
        text = decode(ids)
        if text.startswith(shown) and not text.endswith("\ufffd"):
            yield text[len(shown) :]
            shown = text
    rest = decode(ids)
    if rest.startswith(shown) and len(rest) > len(shown):
        yield rest[len(shown) :]
