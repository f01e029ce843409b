"""The four ways to recognise entities, behind one face: which layer and loss, which targets, how to read the answer."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kexue.errors import ConfigError
from kexue.nn.heads import (
    CRF,
    CRFLoss,
    EfficientGlobalPointer,
    GlobalPointer,
    TokenClassifier,
    decode_spans,
    tag_constraints,
)
from kexue.nn.losses import GlobalPointerLoss, TokenCrossentropy
from kexue.tasks._tags import best_chains, best_tokens
from kexue.tasks._windows import Document, TokenSpan, Window, merge_features, merge_spans
from kexue.text import from_tags, length_batches

__all__ = ["HEADS", "EntityHead", "PointerHead", "TagHead", "make_head", "without_overlap"]

HEADS = ("global_pointer", "efficient_global_pointer", "crf", "softmax")


class EntityHead(ABC):
    """One way to recognise entities.

    Attributes:
        layer: the Keras layer, called ``head``.
        masks_spans: whether the layer takes a mask of the tokens at which an entity may begin or end.
        fixed_target_axes: sizes of the targets' axes after the batch that are the same in every batch.
    """

    masks_spans = False
    fixed_target_axes: tuple[int, ...] = ()
    nested = False

    def __init__(self, labels: Sequence[str], layer: keras.layers.Layer) -> None:
        self.labels, self.layer = tuple(labels), layer

    @abstractmethod
    def loss(self) -> keras.losses.Loss:
        """A new loss."""

    @abstractmethod
    def representable(self, spans: Sequence[TokenSpan], counts: Counter[str]) -> list[TokenSpan]:
        """The gold spans that the head can express; ``counts["nested"]`` counts the others."""

    @abstractmethod
    def capacity(self, rows: Sequence[Any], lengths: np.ndarray) -> dict[int, int]:
        """Size of the targets for each bucket length."""

    @abstractmethod
    def targets(self, rows: Sequence[Any], shape: tuple[int, int], capacity: int) -> np.ndarray:
        """Targets of a batch whose first rows are ``rows``."""

    @abstractmethod
    def read(self, outputs: np.ndarray, windows: Sequence[Window], threshold: Any) -> list[Any]:
        """What to keep of the outputs for each window."""

    @abstractmethod
    def conclude(self, documents: Sequence[Document], kept: Sequence[Sequence[Any]], threshold: Any) -> list[Any]:
        """Spans of each document from what was kept of its windows."""


class PointerHead(EntityHead):
    """Spans scored one by one; nested entities come as they are."""

    masks_spans = True
    nested = True

    def __init__(self, labels: Sequence[str], layer: keras.layers.Layer) -> None:
        super().__init__(labels, layer)
        self.fixed_target_axes = (len(labels),)

    def loss(self) -> keras.losses.Loss:
        return GlobalPointerLoss(sparse=True)

    def representable(self, spans: Sequence[TokenSpan], counts: Counter[str]) -> list[TokenSpan]:
        return list(spans)

    def capacity(self, rows: Sequence[Any], lengths: np.ndarray) -> dict[int, int]:
        # Leftovers of a bucket end up in a longer one, so the size must not fall with the length.
        result, most = {}, 1
        for length in np.unique(lengths):
            for i in np.flatnonzero(lengths == length).tolist():
                if len(rows[i].spans):
                    most = max(most, int(np.bincount(rows[i].spans[:, 2]).max()))
            result[int(length)] = -(-most // 4) * 4
        return result

    def targets(self, rows: Sequence[Any], shape: tuple[int, int], capacity: int) -> np.ndarray:
        """``(batch, types, capacity, 2)``: start and end, padded with -1."""
        result = np.full((shape[0], len(self.labels), capacity, 2), -1, np.int32)
        for i, row in enumerate(rows):
            used = [0] * len(self.labels)
            for start, end, kind in row.spans.tolist():
                result[i, kind, used[kind]] = start, end
                used[kind] += 1
        return result

    def read(self, outputs: np.ndarray, windows: Sequence[Window], threshold: Any) -> list[Any]:
        found = decode_spans(outputs[: len(windows)], threshold)
        return [
            [TokenSpan(s.start - window.first, s.end - window.first, s.type, s.score) for s in spans]
            for window, spans in zip(windows, found, strict=True)
        ]

    def conclude(self, documents: Sequence[Document], kept: Sequence[Sequence[Any]], threshold: Any) -> list[Any]:
        return [merge_spans(d, k) if d.windows else [] for d, k in zip(documents, kept, strict=True)]


class TagHead(EntityHead):
    """One tag a token; an entity that overlaps a longer one cannot be expressed."""

    def __init__(self, labels: Sequence[str], layer: keras.layers.Layer, tags: Sequence[str]) -> None:
        super().__init__(labels, layer)
        self.tags = tuple(tags)
        self._ids = {tag: i for i, tag in enumerate(tags)}
        self._inside = "M" if any(tag[0] == "M" for tag in tags) else "I"
        self._closed = any(tag[0] == "E" for tag in tags)
        self._types = {label: i for i, label in enumerate(labels)}

    def loss(self) -> keras.losses.Loss:
        return CRFLoss(self.layer) if isinstance(self.layer, CRF) else TokenCrossentropy()

    def representable(self, spans: Sequence[TokenSpan], counts: Counter[str]) -> list[TokenSpan]:
        kept = without_overlap(spans, lambda span: (span.start - span.end, span.start, span.type))
        counts["nested"] += len(spans) - len(kept)
        return kept

    def capacity(self, rows: Sequence[Any], lengths: np.ndarray) -> dict[int, int]:
        return {int(length): 0 for length in np.unique(lengths)}

    def targets(self, rows: Sequence[Any], shape: tuple[int, int], capacity: int) -> np.ndarray:
        """``(batch, length)``: numbers of the tags, -1 where a token says nothing."""
        result = np.full(shape, -1, np.int32)
        for i, row in enumerate(rows):
            tags = np.where(row.counts, 0, -1)
            for start, end, kind in row.spans.tolist():
                label = self.labels[kind]
                tags[start : end + 1] = self._ids[f"{self._inside}-{label}"]
                tags[start] = self._ids[f"B-{label}"]
                if self._closed:
                    tags[end] = self._ids[f"{'S' if start == end else 'E'}-{label}"]
            result[i, : len(tags)] = tags
        return result

    def read(self, outputs: np.ndarray, windows: Sequence[Window], threshold: Any) -> list[Any]:
        return [outputs[i, w.first : w.first + w.size].copy() for i, w in enumerate(windows)]

    def conclude(self, documents: Sequence[Document], kept: Sequence[Sequence[Any]], threshold: Any) -> list[Any]:
        result: list[list[TokenSpan]] = [[] for _ in documents]
        filled = [i for i, document in enumerate(documents) if document.windows]
        scores = [merge_features(documents[i], kept[i]) for i in filled]
        potentials = None
        if isinstance(self.layer, CRF):
            potentials = tuple(keras.ops.convert_to_numpy(value) for value in self.layer.potentials())
        limits = np.broadcast_to(np.asarray(threshold, np.float64), (len(self.labels),))
        for members in length_batches([len(s) for s in scores], 64, buckets=None):
            batch = [scores[i] for i in members]
            best = best_tokens(batch) if potentials is None else best_chains(batch, *potentials)
            for i, (tags, probability) in zip(members, best, strict=True):
                if not tags.any():
                    continue
                for span in from_tags([self.tags[t] for t in tags]):
                    kind, score = self._types[span.label], probability(span.start, span.end)
                    if score >= limits[kind]:
                        result[filled[i]].append(TokenSpan(span.start, span.end - 1, kind, score))
        return result


def without_overlap(spans: Sequence[TokenSpan], key: Any) -> list[TokenSpan]:
    """Spans in the order of ``key``, each kept unless it shares a token with one already kept; sorted by place."""
    kept: list[TokenSpan] = []
    for span in sorted(spans, key=key):
        if all(span.end < other.start or other.end < span.start for other in kept):
            kept.append(span)
    return sorted(kept)


def tag_names(labels: Sequence[str], scheme: str) -> list[str]:
    """``O`` and the tags of every label."""
    letters = {"bio": "BI", "bioes": "BIES", "bmes": "BMES"}
    if scheme not in letters:
        raise ConfigError(f"scheme must be one of {', '.join(letters)}. Received: scheme={scheme!r}")
    return ["O", *(f"{letter}-{label}" for label in labels for letter in letters[scheme])]


def make_head(
    name: str, labels: Sequence[str], *, head_size: int, rotary: bool, scheme: str, dtype: Any = None
) -> EntityHead:
    """A head by its name.

    Raises:
        ConfigError: an unknown name or scheme.
    """
    if name in ("global_pointer", "efficient_global_pointer"):
        make = GlobalPointer if name == "global_pointer" else EfficientGlobalPointer
        return PointerHead(labels, make(len(labels), head_size, rotary=rotary, dtype=dtype, name="head"))
    tags = tag_names(labels, scheme)
    if name == "crf":
        allowed, start, end = tag_constraints(tags)
        layer = CRF(len(tags), allowed=allowed, allowed_start=start, allowed_end=end, dtype=dtype, name="head")
        return TagHead(labels, layer, tags)
    if name == "softmax":
        return TagHead(labels, TokenClassifier(len(tags), dtype=dtype, name="head"), tags)
    raise ConfigError(f"head must be one of {', '.join(HEADS)}. Received: head={name!r}")
