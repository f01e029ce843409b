"""T5's span corruption: spans leave the text, the decoder writes them down. All rows at once, in numpy."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kexue.errors import ConfigError

__all__ = ["Corrupted", "corrupt_spans"]

Array = np.ndarray


class Corrupted(NamedTuple):
    """Input of an encoder and what the decoder has to write; all ``(n, length)``, packed as the rows were.

    Attributes:
        token_ids: int32, the text with one sentinel in the place of each span.
        document_ids: int32, the piece each token belongs to, 0 at padding.
        position_ids: int32, from 0 in each piece.
        padding_mask: bool, false at padding.
        targets: int32, for each piece ``sentinel 0, span 0, sentinel 1, span 1, ..., end``.
        target_document_ids: int32, the piece each target belongs to, 0 at padding.
        target_position_ids: int32, from 0 in each piece.
        weights: bool, false at padding of the targets.
    """

    token_ids: Array
    document_ids: Array
    position_ids: Array
    padding_mask: Array
    targets: Array
    target_document_ids: Array
    target_position_ids: Array
    weights: Array


def corrupt_spans(
    rows: Mapping[str, Array],
    rng: np.random.Generator,
    *,
    sentinels: Sequence[int],
    end_id: int,
    share: float = 0.15,
    mean_length: float = 3.0,
    pad_id: int = 0,
) -> Corrupted:
    """Take random spans out of each piece.

    Of a piece of m tokens of text, ``share * m`` (chance decides about the fraction) are taken, in
    ``round(taken / mean_length)`` spans. Lengths of the spans and of what stands between them are random partitions,
    all equally likely; as in T5 a piece begins with text that stays and ends with a span. Special tokens stay in the
    input. A piece from which nothing is taken has no targets.

    Args:
        rows: ``token_ids``, ``document_ids`` and ``word_ids`` (-1 at special tokens) as from `PackedRows.take`.
        rng: where chance comes from.
        sentinels: ids for the spans of a piece, in order; a piece has at most so many spans.
        end_id: id that closes the targets of a piece.
        share: part of the tokens to take.
        mean_length: of a span.
        pad_id: id of padding.

    Raises:
        ConfigError: an argument that cannot work.

    Source: Raffel et al., arXiv 1910.10683, section 3.1.4 and 3.3.4.
    """
    if not (0 < share < 1 and mean_length >= 1 and len(sentinels)):
        raise ConfigError(
            "expected 0 < share < 1, mean_length >= 1 and at least one sentinel. "
            f"Received: share={share}, mean_length={mean_length}, {len(sentinels)} sentinels"
        )
    documents = np.asarray(rows["document_ids"])
    shape = documents.shape
    real = documents > 0
    row = np.nonzero(real)[0]
    ids, document = np.asarray(rows["token_ids"], "int32")[real], documents[real]
    text = np.asarray(rows["word_ids"])[real] >= 0
    piece = np.cumsum(np.diff(row * (shape[1] + 1) + document, prepend=-1) != 0) - 1
    count = int(piece[-1]) + 1 if len(piece) else 0
    sizes = np.bincount(piece[text], minlength=count)
    taken = share * sizes
    taken = np.minimum(np.floor(taken) + (rng.random(count) < taken % 1), np.maximum(sizes - 1, 0)).astype("int64")
    spans = np.maximum(np.round(taken / mean_length), 1).astype("int64")
    spans = np.where(taken > 0, np.minimum(spans, np.minimum(np.minimum(taken, sizes - taken), len(sentinels))), 0)
    active = spans > 0
    stay = _partition((sizes - taken)[active], spans[active], rng)
    go = _partition(taken[active], spans[active], rng)
    # Flags of the text tokens of active pieces: stay, go, stay, go, ...
    lengths = np.stack([stay, go], 1).reshape(-1)
    flags = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    noise, opens = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    cells = np.flatnonzero(text & active[piece]) if count else np.zeros(0, "int64")
    noise[cells] = flags
    opens[cells] = flags & (np.diff(flags.astype("int8"), prepend=0) == 1)
    order = np.asarray(sentinels, "int32")
    number = np.cumsum(opens) - 1  # of the span, in all rows
    before = np.cumsum(spans) - spans
    sentinel = np.where(opens, order[np.where(opens, number - (before[piece] if count else 0), 0)], 0)
    kept = ~noise | opens
    inputs = _place(shape, pad_id, row[kept], document[kept], np.where(opens, sentinel, ids)[kept])
    # A token of a span gives one target, two where its sentinel stands before it, and the last one the end.
    closes = np.zeros(len(ids), bool)
    closes[cells] = flags & (np.diff(piece[cells], append=-1) != 0)
    copies = noise.astype("int64") + opens + closes
    source = np.repeat(np.arange(len(ids)), copies)
    targets = ids[source]
    ends = np.cumsum(copies)
    targets[(ends - copies)[opens]] = sentinel[opens]
    targets[(ends - 1)[closes]] = end_id
    return Corrupted(*inputs, *_place(shape, pad_id, row[source], document[source], targets))


def _partition(sizes: Array, parts: Array, rng: np.random.Generator) -> Array:
    """Each size as a sum of so many positive parts, every such sum equally likely; all parts one after another."""
    total = int(sizes.sum())
    begins = np.cumsum(sizes) - sizes
    group = np.repeat(np.arange(len(sizes)), sizes)
    keys = rng.random(total)
    keys[begins] = -1  # a part begins at the first item
    order = np.lexsort((keys, group))
    starts = np.zeros(total, bool)
    starts[order] = np.arange(total) - begins[group] < parts[group]
    return np.diff(np.flatnonzero(starts), append=total)


def _place(shape: tuple[int, ...], pad_id: int, row: Array, document: Array, values: Array) -> tuple[Array, ...]:
    """Values into rows, each row from its start: ids, document ids, position ids, mask."""
    first_of_row = np.searchsorted(row, np.arange(shape[0]))
    column = np.arange(len(row)) - first_of_row[row]
    new = np.flatnonzero(np.diff(row * (shape[1] + 1) + document, prepend=-1))
    position = np.arange(len(row)) - np.repeat(new, np.diff(new, append=len(row)))
    result = [np.full(shape, pad_id, "int32"), *(np.zeros(shape, kind) for kind in ("int32", "int32", bool))]
    for array, value in zip(result, (values, document, position, True), strict=True):
        array[row, column] = value
    return tuple(result)
