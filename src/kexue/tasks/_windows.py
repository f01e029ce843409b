"""Texts to windows of tokens, character entities to token spans, and the answers of windows back to their text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kexue.errors import DataError
from kexue.tasks._conditions import condition_of
from kexue.text import Encoding, windows

__all__ = [
    "Document",
    "LabelledText",
    "TokenSpan",
    "Window",
    "align",
    "check_examples",
    "cut",
    "merge_blocks",
    "merge_features",
    "merge_spans",
]


class TokenSpan(NamedTuple):
    """An entity over the text tokens of a document, both ends inclusive; ``type`` is the index of its label."""

    start: int
    end: int
    type: int
    score: float = 0.0


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of a document's tokens between special tokens.

    Attributes:
        token_ids: ``(n,)`` with the special tokens.
        first: how many special tokens come before the text.
        start: place of its first text token in the document.
        size: number of text tokens.
        condition: ``(condition_size,)`` float32, that of the whole text; None: the model takes none.
    """

    token_ids: np.ndarray
    first: int
    start: int
    size: int
    condition: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True, eq=False)
class Document:
    """A text with its windows; a text without tokens has none."""

    encoding: Encoding
    first: int
    size: int
    windows: tuple[Window, ...]

    def characters(self, span: TokenSpan) -> tuple[int, int] | None:
        """Character range of a span, None if it is empty."""
        place = self.encoding.char_span(self.first + span.start, self.first + span.end + 1)
        return place if place and place[0] < place[1] else None


def cut(encoding: Encoding, max_length: int, stride: int, condition: np.ndarray | None = None) -> Document:
    """Cut an encoded text into windows, each with the condition of the text."""
    first, last = encoding.token_range()
    size = last - first
    if not size:
        return Document(encoding, first, 0, ())
    around = len(encoding) - size
    parts = windows(encoding, max_length, stride)
    return Document(
        encoding,
        first,
        size,
        tuple(Window(part.token_ids, first, k * stride, len(part) - around, condition) for k, part in enumerate(parts)),
    )


class LabelledText(NamedTuple):
    """A checked example."""

    text: str
    entities: list[tuple[int, int, str]]
    condition: np.ndarray | None


def check_examples(
    data: Any, labels: Sequence[str], what: str, condition_size: int | None = None
) -> list[LabelledText]:
    """Texts with their entities, duplicates gone, and their conditions where the model takes some.

    Raises:
        DataError: names the example by its index and says what is wrong with it.
    """
    if isinstance(data, (str, Mapping)) or not hasattr(data, "__iter__"):
        raise DataError(f"{what} must be a list of examples {{'text': ..., 'entities': [...]}}. Received: {data!r:.80}")
    known = set(labels)
    checked = []
    for index, example in enumerate(data):
        try:
            text, entities = example["text"], example["entities"]
            found = [(int(e["start"]), int(e["end"]), e["label"]) for e in entities]
            condition = example.get("condition")
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(
                f"{what}, example {index}: expected {{'text': str, 'entities': [{{'start', 'end', 'label'}}]}}, "
                f"received {example!r:.120} ({error!r})"
            ) from None
        if not isinstance(text, str):
            raise DataError(f"{what}, example {index}: the text must be a string. Received: {type(text).__name__}")
        for start, end, label in found:
            if label not in known:
                raise DataError(
                    f"{what}, example {index}: unknown label {label!r}. The recogniser's labels: {', '.join(labels)}"
                )
            if not 0 <= start < end <= len(text):
                raise DataError(
                    f"{what}, example {index}: an entity needs 0 <= start < end <= {len(text)} (the text's length). "
                    f"Received: start={start}, end={end}"
                )
        vector = condition_of(condition, condition_size, f"{what}, example {index}")
        checked.append(LabelledText(text, list(dict.fromkeys(found)), vector))
    return checked


def align(
    document: Document, entities: Sequence[tuple[int, int, str]], types: Mapping[str, int], counts: Counter[str]
) -> list[TokenSpan]:
    """Token spans of character entities.

    An entity that begins or ends inside a token has none. ``counts["misaligned"]`` counts those, and those whose span
    stands for other characters (such as a blank at an edge), which no prediction can hit.
    """
    spans = []
    for start, end, label in entities:
        place = document.encoding.token_span(start, end)
        span = None
        if place is not None:
            span = TokenSpan(place[0] - document.first, place[1] - document.first - 1, types[label])
            spans.append(span)
        if span is None or document.characters(span) != (start, end):
            counts["misaligned"] += 1
    return spans


def _context(document: Document, window: Window, start: int, end: int) -> float:
    """Tokens between a span and the nearest edge of its window at which the text was cut; below 0 if it is not in."""
    left = start - window.start
    right = window.start + window.size - 1 - end
    if left < 0 or right < 0:
        return -1.0
    return min(
        left if window.start else np.inf,
        right if window.start + window.size < document.size else np.inf,
    )


def merge_spans(document: Document, found: Sequence[Sequence[TokenSpan]]) -> list[TokenSpan]:
    """Spans of the document from those of its windows, which are in window coordinates (0 = first text token).

    A span that fits into several windows is judged by the one in which it has most context, so that a fragment at the
    edge of one window cannot stand against the whole entity seen by the next.
    """
    if len(document.windows) == 1:
        return list(found[0])
    merged = []
    for index, (window, spans) in enumerate(zip(document.windows, found, strict=True)):
        for span in spans:
            start, end = span.start + window.start, span.end + window.start
            contexts = [_context(document, other, start, end) for other in document.windows]
            if int(np.argmax(contexts)) == index:
                merged.append(span._replace(start=start, end=end))
    return sorted(merged)


def merge_features(document: Document, features: Sequence[np.ndarray]) -> np.ndarray:
    """One row a token: each from the window in which the token has most context."""
    if len(document.windows) == 1:
        return features[0]
    result = np.empty((document.size, *features[0].shape[1:]), features[0].dtype)
    best = np.full(document.size, -1.0)
    for window, values in zip(document.windows, features, strict=True):
        place = np.arange(window.start, window.start + window.size)
        context = np.minimum(
            place - window.start if window.start else np.inf,
            window.start + window.size - 1 - place if window.start + window.size < document.size else np.inf,
        )
        better = context > best[place]
        result[place[better]] = values[better]
        best[place[better]] = np.broadcast_to(context, place.shape)[better]
    return result


def merge_blocks(document: Document, blocks: Sequence[np.ndarray], types: int, fill: float) -> np.ndarray:
    """``(types, n, n)`` scores of spans from those of the windows, each from the window in which it has most context.

    Args:
        document: with n text tokens.
        blocks: ``(types, size, size)`` for each window; of an empty document there are none.
        types: how many.
        fill: score of the spans that fit into no window.
    """
    n = document.size
    scores = np.full((types, n, n), fill, np.float32)
    best = np.full((n, n), -1.0)
    for window, block in zip(document.windows, blocks, strict=True):
        place = np.arange(window.size)
        left = place if window.start else np.full(window.size, np.inf)
        right = place[::-1] if window.start + window.size < n else np.full(window.size, np.inf)
        context = np.minimum(left[:, None], right[None, :])
        here = slice(window.start, window.start + window.size)
        better = context > best[here, here]
        scores[:, here, here] = np.where(better, block, scores[:, here, here])
        best[here, here] = np.where(better, context, best[here, here])
    return scores
