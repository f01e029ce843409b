"""Training batches of entity recognition."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import keras
import numpy as np

from kexue.tasks._conditions import condition_batch
from kexue.tasks._heads import EntityHead
from kexue.tasks._windows import Document, TokenSpan
from kexue.text import bucket_length

__all__ = ["Batches", "Row", "digest", "training_rows"]


@dataclass(frozen=True, eq=False)
class Row:
    """A window to train on.

    Attributes:
        token_ids: ``(n,)`` int32.
        counts: ``(n,)`` bool: tokens that say something: not special ones, not pieces of an entity that the window
            cuts, about which the window would teach something false.
        spans: ``(k, 3)`` int32: start, end inclusive, type; places in ``token_ids``.
        condition: of the text, ``(condition_size,)`` float32; None: the model takes none.
    """

    token_ids: np.ndarray
    counts: np.ndarray
    spans: np.ndarray
    condition: np.ndarray | None = None


def training_rows(
    documents: Sequence[Document], spans: Sequence[Sequence[TokenSpan]], counts: Counter[str]
) -> list[Row]:
    """Windows of all documents with the entities that lie in them; ``counts["long"]`` counts those that fit nowhere."""
    rows = []
    for document, entities in zip(documents, spans, strict=True):
        placed: set[TokenSpan] = set()
        for window in document.windows:
            low, high = window.start, window.start + window.size
            says = np.zeros(len(window), bool)
            says[window.first : window.first + window.size] = True
            inside = []
            shift = window.first - low
            for span in entities:
                if low <= span.start and span.end < high:
                    inside.append((span.start + shift, span.end + shift, span.type))
                    placed.add(span)
                elif span.start < high and span.end >= low:
                    says[max(span.start, low) + shift : min(span.end + 1, high) + shift] = False
            found = np.asarray(inside, np.int32).reshape(-1, 3)
            rows.append(Row(window.token_ids, says, found, window.condition))
        counts["long"] += len(set(entities) - placed)
    return rows


def digest(rows: Sequence[Row]) -> str:
    """A fingerprint of training data."""
    total = sha256()
    for row in rows:
        for array in (row.token_ids, row.counts, row.spans, row.condition):
            if array is None:
                continue
            total.update(np.asarray(array.shape, np.int64).tobytes())
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


class Batches(keras.utils.PyDataset):
    """Batches of rows of like length, in an order that depends only on the seed and the place in the run.

    All rows pass once, then all again in another order, and so on; an epoch is a stretch of this stream. Every batch
    has ``batch_size`` rows and a length from the buckets, so that there are few shapes; rows left over in a bucket go
    to the next longer one, so that one batch in a pass at most is filled up with empty rows.

    Args:
        rows: what to train on.
        head: makes the targets.
        batch_size: rows in a batch.
        max_length: lengths are not rounded up beyond this.
        pad_id: token id of padding.
        seed: of the order.
        steps: batches in an epoch; None: one pass.
        negative_share: greatest share of rows without entities in a pass; which ones is drawn anew for each pass.
        one_length: give all batches the length of the longest.
        draw: which rows a pass has, as many in each: numbers from a random generator; None: all of them.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        head: EntityHead,
        *,
        batch_size: int,
        max_length: int,
        pad_id: int,
        seed: int,
        steps: int | None = None,
        negative_share: float | None = None,
        one_length: bool = False,
        draw: Callable[[np.random.Generator], np.ndarray] | None = None,
    ) -> None:
        super().__init__()
        self.draw = draw
        self.rows, self.head, self.batch_size, self.pad_id, self.seed = rows, head, batch_size, pad_id, seed
        self.lengths = np.asarray([min(bucket_length(len(row.token_ids)), max_length) for row in rows])
        self.one_length = one_length
        if one_length:
            self.lengths[:] = self.lengths.max()
        empty = np.asarray([not len(row.spans) for row in rows], bool)
        self.positive, self.negative = np.flatnonzero(~empty), np.flatnonzero(empty)
        self.negatives = len(self.negative)
        if negative_share is not None and len(self.positive):
            most = round(len(self.positive) * negative_share / max(1.0 - negative_share, 1e-9))
            self.negatives = min(self.negatives, most)
        count = len(self.positive) + self.negatives if draw is None else len(draw(np.random.default_rng(0)))
        self.pass_steps = -(-count // batch_size)
        self.steps = steps or self.pass_steps
        self.capacity = head.capacity(rows, self.lengths)
        self.epoch = self.start = 0
        self._order = lru_cache(maxsize=2)(self._new_order)

    @property
    def num_batches(self) -> int:
        """Batches from ``start`` to the end of the epoch."""
        return self.steps - self.start

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        turn, place = divmod(self.epoch * self.steps + self.start + index, self.pass_steps)
        return self.batch(self._order(turn)[place])

    def _new_order(self, turn: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, turn])
        chosen = self._chosen(rng) if self.draw is None else self.draw(rng)
        rng.shuffle(chosen)
        waiting = chosen[:0]
        batches: list[np.ndarray] = []
        for length in np.unique(self.lengths[chosen]):
            waiting = np.concatenate([waiting, chosen[self.lengths[chosen] == length]])
            full = len(waiting) // self.batch_size * self.batch_size
            batches += list(waiting[:full].reshape(-1, self.batch_size))
            waiting = waiting[full:]
        if len(waiting):
            batches.append(waiting)
        return [batches[i] for i in rng.permutation(len(batches))]

    def _chosen(self, rng: np.random.Generator) -> np.ndarray:
        drawn = self.negative
        if self.negatives < len(drawn):
            drawn = rng.choice(drawn, self.negatives, replace=False)
        return np.concatenate([self.positive, drawn])

    def batch(self, members: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Inputs and targets of some rows."""
        length = int(self.lengths[members].max())
        shape = (self.batch_size, length)
        token_ids = np.full(shape, self.pad_id, np.int32)
        padding, says = np.zeros(shape, bool), np.zeros(shape, bool)
        rows = [self.rows[i] for i in members.tolist()]
        for i, row in enumerate(rows):
            size = len(row.token_ids)
            token_ids[i, :size] = row.token_ids
            padding[i, :size] = True
            says[i, :size] = row.counts
        inputs = {"token_ids": token_ids, "padding_mask": padding}
        if self.head.masks_spans:
            inputs["entity_mask"] = says
        inputs |= condition_batch([row.condition for row in rows], self.batch_size)
        return inputs, self.head.targets(rows, shape, self.capacity[length])

    def signature(self) -> Any:
        """What `tf.data` must know: two batches alone could suggest that all have one length."""
        import tensorflow as tf

        inputs, targets = self[0]
        length = int(self.lengths.max()) if self.one_length else None
        spec = {
            name: tf.TensorSpec(value.shape if name == "condition" else (self.batch_size, length), value.dtype)
            for name, value in inputs.items()
        }
        shape = list(targets.shape) if self.one_length else [self.batch_size, *[None] * (targets.ndim - 1)]
        shape[1 : 1 + len(self.head.fixed_target_axes)] = self.head.fixed_target_axes
        return spec, tf.TensorSpec(shape, targets.dtype)
