"""From encodings to arrays: padding to buckets, batches of equal lengths, packing, windows.

A batch is a dict of arrays with the names of KerasHub: ``token_ids``, ``segment_ids`` (int32), ``padding_mask``
(bool, true at real tokens), and where needed ``position_ids`` and ``document_ids`` (int32). Lengths are rounded up to
a bucket, because JAX and TensorFlow compile once for every shape they meet.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kexue.errors import ConfigError, DataError
from kexue.text.encoding import Encoding

__all__ = [
    "DEFAULT_BUCKETS",
    "Batch",
    "PackedBatch",
    "bucket_length",
    "length_batches",
    "pack",
    "pad",
    "unpack",
    "windows",
]

Batch = dict[str, np.ndarray]

DEFAULT_BUCKETS: tuple[int, ...] = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Beyond the last bucket lengths go up to multiples of 256."""


def bucket_length(length: int, buckets: Sequence[int] | None = DEFAULT_BUCKETS) -> int:
    """The smallest bucket that holds ``length``; beyond the last one the next multiple of 256; None: no rounding."""
    if buckets is None:
        return length
    if not buckets or min(buckets) < 1:
        raise ConfigError(f"buckets must be positive lengths. Received: buckets={buckets!r}")
    fitting = [bucket for bucket in buckets if bucket >= length]
    return min(fitting) if fitting else max(256 * -(-length // 256), 1)


def pad(
    encodings: Sequence[Encoding],
    *,
    length: int | None = None,
    buckets: Sequence[int] | None = DEFAULT_BUCKETS,
    pad_id: int = 0,
    batch_size: int | None = None,
    max_length: int | None = None,
) -> Batch:
    """Stack encodings into arrays of shape ``(rows, length)``.

    Args:
        encodings: at least one.
        length: the length of the rows; None: the bucket of the longest encoding.
        buckets: see `bucket_length`.
        pad_id: token id of padding.
        batch_size: number of rows; missing ones are added with ``padding_mask`` false everywhere, so that the last
            batch of a data set has the shape of all others.
        max_length: the bucket is not rounded up beyond this (the greatest length of the model).

    Returns:
        ``token_ids``, ``segment_ids``, ``padding_mask``.

    Raises:
        ConfigError: an encoding is longer than ``length``, or there are more than ``batch_size``.
    """
    rows = len(encodings) if batch_size is None else batch_size
    if not encodings:
        raise ConfigError("a batch needs at least one encoding")
    if len(encodings) > rows:
        raise ConfigError(f"{len(encodings)} encodings do not fit into a batch of {rows}")
    longest = max(len(encoding) for encoding in encodings)
    if length is None:
        length = bucket_length(longest, buckets)
        if max_length is not None:
            length = max(min(length, max_length), longest)
    if longest > length:
        raise ConfigError(
            f"an encoding has {longest} tokens, the rows {length}. Encode with max_length={length} or use windows()"
        )
    token_ids = np.full((rows, length), pad_id, "int32")
    segment_ids = np.zeros((rows, length), "int32")
    padding_mask = np.zeros((rows, length), bool)
    for row, encoding in enumerate(encodings):
        size = len(encoding)
        token_ids[row, :size] = encoding.token_ids
        segment_ids[row, :size] = encoding.segment_ids
        padding_mask[row, :size] = True
    return {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": padding_mask}


def length_batches(
    lengths: Sequence[int],
    batch_size: int | None = None,
    *,
    max_tokens: int | None = None,
    shuffle_seed: int | None = None,
    buckets: Sequence[int] | None = DEFAULT_BUCKETS,
) -> list[list[int]]:
    """Group examples of like length; every index stands in exactly one batch.

    Args:
        lengths: number of tokens of each example.
        batch_size: greatest number of examples in a batch.
        max_tokens: greatest ``rows * bucket length``, padding included. One of the two limits, or both.
        shuffle_seed: None: short batches first, indices in order within a bucket. Otherwise examples are shuffled
            within their bucket and then the batches, the same for the same seed.
        buckets: see `bucket_length`; None: sorted by length, no buckets.

    Raises:
        ConfigError: no limit given, or one that is not positive.
        DataError: an example alone exceeds ``max_tokens``.
    """
    if batch_size is None and max_tokens is None:
        raise ConfigError("length_batches needs batch_size, max_tokens or both")
    for name, value in (("batch_size", batch_size), ("max_tokens", max_tokens)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be positive. Received: {name}={value}")
    groups: dict[int, list[int]] = {}
    bucket = {int(length): bucket_length(int(length), buckets) for length in set(lengths)}
    padded = [bucket[int(length)] for length in lengths]
    for index, size in enumerate(padded):
        groups.setdefault(size if buckets is not None else 0, []).append(index)
    rng = None if shuffle_seed is None else random.Random(shuffle_seed)
    batches: list[list[int]] = []
    for key in sorted(groups):
        members = groups[key]
        if rng is not None:
            rng.shuffle(members)
        if buckets is None:
            members.sort(key=lambda index: padded[index])
        current: list[int] = []
        for index in members:
            size = padded[index]
            if max_tokens is not None and size > max_tokens:
                raise DataError(
                    f"example {index} takes {size} tokens (its bucket), more than max_tokens={max_tokens}. "
                    "Raise max_tokens or truncate"
                )
            full = (batch_size is not None and len(current) >= batch_size) or (
                max_tokens is not None and (len(current) + 1) * size > max_tokens
            )
            if full:
                batches.append(current)
                current = []
            current.append(index)
        if current:
            batches.append(current)
    if rng is not None:
        rng.shuffle(batches)
    return batches


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Several documents in each row.

    Attributes:
        batch: arrays ``(rows, length)``: ``token_ids``, ``segment_ids``, ``padding_mask``, ``position_ids``
            (restarting at 0 for each document), ``document_ids`` (1, 2, ... within a row, 0 for padding).
        places: for each document, in the original order, ``(row, start, end)``.
    """

    batch: Batch
    places: tuple[tuple[int, int, int], ...]

    @property
    def efficiency(self) -> float:
        """Share of the cells that hold a real token."""
        return float(self.batch["padding_mask"].mean())


def pack(encodings: Sequence[Encoding], length: int, *, pad_id: int = 0, batch_size: int | None = None) -> PackedBatch:
    """Put documents into as few rows as best-fit-decreasing finds.

    The longest document goes first, each into the fullest row that still has room. Attention must respect
    ``document_ids``.

    Args:
        encodings: the documents.
        length: length of the rows.
        pad_id: token id of padding.
        batch_size: number of rows to pad to; None: as many as are needed.

    Raises:
        DataError: a document longer than ``length``.
        ConfigError: more rows are needed than ``batch_size``.
    """
    sizes = [len(encoding) for encoding in encodings]
    for index, size in enumerate(sizes):
        if size > length:
            raise DataError(
                f"document {index} has {size} tokens, the rows have {length}. Encode with max_length={length}, "
                "or cut it with kexue.text.windows first"
            )
    used: list[int] = []
    rows_with_room: dict[int, list[int]] = {}  # free cells -> rows
    places: list[tuple[int, int, int]] = [(0, 0, 0)] * len(encodings)
    for index in sorted(range(len(encodings)), key=lambda i: (-sizes[i], i)):
        size = sizes[index]
        free = min((room for room, rows in rows_with_room.items() if room >= size and rows), default=None)
        if free is None:
            row = len(used)
            used.append(0)
        else:
            row = rows_with_room[free].pop(0)
        places[index] = (row, used[row], used[row] + size)
        used[row] += size
        rows_with_room.setdefault(length - used[row], []).append(row)
    rows = len(used) if batch_size is None else batch_size
    if len(used) > rows:
        raise ConfigError(f"the documents need {len(used)} rows of {length}, batch_size is {rows}")
    batch: Batch = {
        "token_ids": np.full((rows, length), pad_id, "int32"),
        **{name: np.zeros((rows, length), "int32") for name in ("segment_ids", "position_ids", "document_ids")},
        "padding_mask": np.zeros((rows, length), bool),
    }
    documents = [0] * rows
    for index in sorted(range(len(encodings)), key=lambda i: places[i]):
        row, start, end = places[index]
        documents[row] += 1
        batch["token_ids"][row, start:end] = encodings[index].token_ids
        batch["segment_ids"][row, start:end] = encodings[index].segment_ids
        batch["position_ids"][row, start:end] = np.arange(end - start)
        batch["document_ids"][row, start:end] = documents[row]
        batch["padding_mask"][row, start:end] = True
    return PackedBatch(batch, tuple(places))


def unpack(values: Any, packed: PackedBatch) -> list[Any]:
    """Per-token values of each document, in the original order: the exact inverse of `pack`.

    Args:
        values: ``(rows, length, ...)`` of any kind that slices, or a dict of such (a dict for each document results).
        packed: from `pack`.

    Raises:
        ConfigError: the shape is not that of the packed rows.
    """
    if isinstance(values, dict):
        parts = {name: unpack(value, packed) for name, value in values.items()}
        return [{name: part[i] for name, part in parts.items()} for i in range(len(packed.places))]
    expected = packed.batch["token_ids"].shape
    if tuple(values.shape[:2]) != expected:
        raise ConfigError(f"expected values of shape {expected} + (...). Received: {tuple(values.shape)}")
    return [values[row, start:end] for row, start, end in packed.places]


def windows(encoding: Encoding, max_length: int, stride: int) -> list[Encoding]:
    """Cut the encoding of a long text into overlapping windows, each with the special tokens of the whole.

    Offsets still refer to the original text, and every token lies in at least one window.

    Args:
        encoding: of one text, not a pair.
        max_length: greatest number of tokens of a window, special ones included.
        stride: how many tokens a window starts after the one before it.

    Raises:
        ConfigError: a pair, or ``stride`` not in ``[1, max_length - special tokens]``.
    """
    if len(encoding.texts) != 1:
        raise ConfigError("windows cuts one text, received a pair. Cut the long one before pairing it")
    first, last = encoding.token_range()
    special = len(encoding) - (last - first)
    room = max_length - special
    if not 1 <= stride <= room:
        raise ConfigError(
            f"stride must lie in [1, {room}] (max_length={max_length} less {special} special tokens). "
            f"Received: stride={stride}"
        )
    if len(encoding) <= max_length:
        return [encoding]
    result = []
    low, high = encoding.limits[0]
    for start in range(first, last, stride):
        end = min(start + room, last)
        keep = np.r_[0:first, start:end, last : len(encoding)]
        limit = (
            low if start == first else int(encoding.offsets[start - 1, 1]),
            high if end == last else int(encoding.offsets[end, 0]),
        )
        result.append(
            replace(
                encoding,
                token_ids=encoding.token_ids[keep],
                segment_ids=encoding.segment_ids[keep],
                offsets=encoding.offsets[keep],
                special=encoding.special[keep],
                sequence_ids=encoding.sequence_ids[keep],
                tokens=tuple(encoding.tokens[i] for i in keep),
                limits=(limit,),
            )
        )
        if end == last:
            break
    return result
