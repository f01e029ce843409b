"""Spans to tags and back: BIO, IOB1, BIOES, BMES.

One reader serves all schemes, because their prefixes mean the same wherever they appear: ``B`` opens, ``I`` or ``M``
continues, ``E`` or ``L`` closes, ``S`` or ``U`` stands alone, ``O`` is outside. The lenient mode follows the rules of
the CoNLL evaluation script (and of ``seqeval`` outside its strict mode); the strict mode accepts exactly what
`to_tags` can write.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from kexue.errors import ConfigError, DataError

__all__ = ["SCHEMES", "Scheme", "Span", "from_tags", "split_tag", "to_tags"]

Scheme = Literal["bio", "iob1", "bioes", "bmes"]
SCHEMES: tuple[str, ...] = ("bio", "iob1", "bioes", "bmes")

_MEANING = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "O": "O"}
_LETTERS = {"bio": "BI", "iob1": "BI", "bioes": "BIES", "bmes": "BMES"}
_AFTER = {"B": "IE", "I": "IE", "E": "BSO", "S": "BSO", "O": "BSO"}  # legal successors with four letters


class Span(NamedTuple):
    """An entity over tokens, half-open."""

    start: int
    end: int
    label: str


@lru_cache(maxsize=4096)
def split_tag(tag: str) -> tuple[str, str]:
    """``"B-PER"`` to ``("B", "PER")``, ``"O"`` to ``("O", "")``; the letter is one of B, I, E, S, O.

    Raises:
        DataError: not a tag of any scheme.
    """
    if tag == "O":
        return "O", ""
    letter, dash, label = tag[:1], tag[1:2], tag[2:]
    if dash not in ("-", "_") or not label or _MEANING.get(letter, "O") == "O":
        raise DataError(f"unknown tag {tag!r}. Expected O or a letter of B I M E S, a dash and a label, like B-PER")
    return _MEANING[letter], label


def to_tags(length: int | Sequence[object], spans: Iterable[tuple[int, int, str]], scheme: Scheme = "bio") -> list[str]:
    """Write flat spans as one tag for each token.

    Args:
        length: number of tokens, or the tokens themselves.
        spans: ``(start, end, label)`` over tokens, half-open.
        scheme: ``"bio"`` (IOB2), ``"iob1"`` (B only between touching entities of one label), ``"bioes"``, ``"bmes"``.

    Raises:
        DataError: a span outside the tokens, empty, or overlapping another one.
        ConfigError: an unknown scheme.
    """
    _check_scheme(scheme)
    size = length if isinstance(length, int) else len(length)
    tags = ["O"] * size
    inside = _LETTERS[scheme][1]
    previous: Span | None = None
    for span in sorted(Span(*span) for span in spans):
        if not 0 <= span.start < span.end <= size:
            raise DataError(f"a span needs 0 <= start < end <= {size}. Received: {tuple(span)}")
        if previous is not None and span.start < previous.end:
            raise DataError(
                f"tags cannot express overlapping entities: {tuple(previous)} and {tuple(span)}. Use spans (jsonl)"
            )
        touching = previous is not None and previous.end == span.start and previous.label == span.label
        first = "I" if scheme == "iob1" and not touching else "B"
        letters = [first, *inside * (span.end - span.start - 1)]
        if scheme in ("bioes", "bmes"):
            letters[-1] = "S" if len(letters) == 1 else "E"
        tags[span.start : span.end] = [f"{letter}-{span.label}" for letter in letters]
        previous = span
    return tags


def from_tags(tags: Sequence[str], scheme: Scheme | None = None, *, strict: bool = False) -> list[Span]:
    """Read the spans off tags.

    Args:
        tags: one for each token.
        scheme: only looked at when ``strict``; there None means ``"bio"``.
        strict: False: any sequence is read by the rules of the CoNLL evaluation (an ``I`` or ``E`` that nothing
            opened opens, a change of label opens, ``E`` and ``S`` close). True: a sequence that the scheme cannot
            produce is an error.

    Raises:
        DataError: an unknown tag, or with ``strict`` an impossible sequence; the message names the position.
    """
    parsed = []
    for position, tag in enumerate(tags):
        try:
            parsed.append(split_tag(tag))
        except DataError as error:
            raise DataError(f"tag {position}: {error}") from None
    if strict:
        scheme = scheme or "bio"
        _check_scheme(scheme)
        for position in range(len(parsed) + 1):
            problem = _violation(tags, parsed, position, scheme)
            if problem:
                raise DataError(f"tag {position}: {problem}. Use strict=False to read it by the CoNLL rules")
    spans: list[Span] = []
    start: int | None = None
    last, last_label = "O", ""
    for position, (letter, label) in enumerate([*parsed, ("O", "")]):
        if start is not None and (last in "ES" or letter in "BSO" or label != last_label):
            spans.append(Span(start, position, last_label))
            start = None
        if letter != "O" and start is None:
            start = position
        last, last_label = letter, label
    return spans


def _violation(tags: Sequence[str], parsed: list[tuple[str, str]], position: int, scheme: str) -> str | None:
    """What is wrong with the step from the tag before ``position`` to the one there."""
    before = parsed[position - 1] if position else ("O", "")
    here = parsed[position] if position < len(parsed) else ("O", "")
    shown = tags[position] if position < len(parsed) else "the end"
    came = tags[position - 1] if position else "the start"
    if position < len(parsed) and here[0] != "O" and shown[0] not in _LETTERS[scheme]:
        return f"{shown!r} is not a tag of the scheme {scheme}"
    continues = here[0] in "IE"
    if scheme == "iob1":
        if here[0] == "B" and (before[0] == "O" or before[1] != here[1]):
            return f"{shown!r} after {came!r}: B stands only between touching entities of one label"
        return None
    if continues and (before[0] not in "BI" or before[1] != here[1]):
        return f"{shown!r} after {came!r}: nothing of that label is open"
    if scheme != "bio" and here[0] not in _AFTER[before[0]]:
        return f"{shown!r} after {came!r}: the entity is not closed"
    return None


def _check_scheme(scheme: str) -> None:
    if scheme not in SCHEMES:
        raise ConfigError(f"scheme must be one of {', '.join(SCHEMES)}. Received: scheme={scheme!r}")
