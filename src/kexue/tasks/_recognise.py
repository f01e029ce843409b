"""From texts to entities: encode, run the windows in batches of like length, put the answers together."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kexue.tasks._conditions import condition_batch
from kexue.tasks._forward import Forward, rows_for
from kexue.tasks._heads import EntityHead, without_overlap
from kexue.tasks._windows import Document, TokenSpan, Window
from kexue.text import DEFAULT_BUCKETS, bucket_length, length_batches

__all__ = ["recognise", "run_windows"]


def _batch(windows: Sequence[Window], rows: int, length: int, pad_id: int, mask_spans: bool) -> dict[str, np.ndarray]:
    token_ids = np.full((rows, length), pad_id, np.int32)
    padding, text = np.zeros((rows, length), bool), np.zeros((rows, length), bool)
    for i, window in enumerate(windows):
        token_ids[i, : len(window)] = window.token_ids
        padding[i, : len(window)] = True
        text[i, window.first : window.first + window.size] = True
    batch = {"token_ids": token_ids, "padding_mask": padding}
    batch |= condition_batch([window.condition for window in windows], rows)
    return {**batch, "entity_mask": text} if mask_spans else batch


def run_windows(
    forward: Forward,
    head: EntityHead,
    windows: Sequence[Window],
    keep: Callable[[np.ndarray, Sequence[Window]], list[Any]],
    *,
    batch_size: int,
    max_length: int,
    pad_id: int,
    progress: Any = None,
) -> list[Any]:
    """``keep(outputs, windows of a batch)`` of all windows, in their order.

    While one batch is read on the host, the next is already under way on the device.
    """
    # Where every new shape is compiled lengths are rounded up to buckets; elsewhere only to the longest of the batch.
    buckets = None if keras.backend.backend() == "torch" else DEFAULT_BUCKETS
    result: list[Any] = [None] * len(windows)
    waiting: tuple[list[int], Any] | None = None

    def collect(members: list[int], outputs: Any) -> None:
        values = keep(keras.ops.convert_to_numpy(outputs), [windows[i] for i in members])
        for i, value in zip(members, values, strict=True):
            result[i] = value
        if progress is not None:
            progress.add(len(members))

    for members in length_batches([len(window) for window in windows], batch_size, buckets=buckets):
        longest = max(len(windows[i]) for i in members)
        length = max(min(bucket_length(longest, buckets), max_length), longest)
        batch = _batch(
            [windows[i] for i in members], rows_for(len(members), batch_size), length, pad_id, head.masks_spans
        )
        outputs = forward(batch)
        if waiting is not None:
            collect(*waiting)
        waiting = members, outputs
    if waiting is not None:
        collect(*waiting)
    return result


def recognise(
    forward: Forward,
    head: EntityHead,
    documents: Sequence[Document],
    *,
    threshold: Any,
    flat: bool,
    verbose: int,
    **options: Any,
) -> list[list[dict[str, Any]]]:
    """Entities of documents; ``options`` as in `run_windows`."""
    windows = [window for document in documents for window in document.windows]
    progress = keras.utils.Progbar(len(windows), unit_name="text") if verbose and windows else None
    kept = run_windows(forward, head, windows, lambda o, w: head.read(o, w, threshold), progress=progress, **options)
    ends = np.cumsum([len(document.windows) for document in documents])
    grouped = [kept[end - len(d.windows) : end] for end, d in zip(ends.tolist(), documents, strict=True)]
    spans = head.conclude(documents, grouped, threshold)
    if flat and head.nested:
        spans = [without_overlap(found, lambda span: (-span.score, span.start, span.end, span.type)) for found in spans]
    return [entities(document, found, head.labels) for document, found in zip(documents, spans, strict=True)]


def entities(document: Document, spans: Sequence[TokenSpan], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Spans as characters of the text; of two token spans for the same characters the better counts."""
    found: dict[tuple[int, int, int], float] = {}
    for span in spans:
        place = document.characters(span)
        if place is not None:
            key = (*place, span.type)
            found[key] = max(span.score, found.get(key, span.score))
    text = document.encoding.texts[0]
    return [
        {"start": start, "end": end, "label": labels[kind], "score": float(score), "text": text[start:end]}
        for (start, end, kind), score in sorted(found.items())
    ]
