"""Batches of a pretraining run, each a function of the seed and its number alone, so that a run resumes anywhere."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import keras
import numpy as np

from kexue.tasks.pretraining.objectives import Batch, Mixture, Objective, Specials
from kexue.text.corpus import PackedRows, Split

__all__ = ["PretrainingBatches", "parts"]


def parts(objective: Objective) -> tuple[Objective, ...]:
    """The objectives between which steps choose."""
    return objective.parts if isinstance(objective, Mixture) else (objective,)


class PretrainingBatches(keras.utils.PyDataset):
    """Packed rows in an endless stream: all documents once, then all again in another order and with other masks.

    Args:
        splits: of the shards.
        objective: makes the targets.
        specials: of the vocabulary.
        cls_id, pad_id: ids of ``[CLS]`` and ``[PAD]``.
        length: tokens of a row.
        batch_size: rows of a batch.
        seed: of order and masks.
        steps: batches in an epoch, which is a stretch of the stream.
        total: batches in all epochs, so that the last may be shorter; None: whole epochs.
        fixed: rows in order from the first on and one objective after the other, for validation.
        share: ``(i, n)``: only the i-th of n equal parts of each batch, for one of n processes.
    """

    def __init__(
        self,
        splits: Sequence[Split],
        objective: Objective,
        specials: Specials,
        *,
        cls_id: int,
        pad_id: int,
        length: int,
        batch_size: int,
        seed: int,
        steps: int,
        total: int | None = None,
        fixed: bool = False,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__()
        self.objective, self.specials, self.length, self.batch_size = objective, specials, length, batch_size
        self.parts = parts(objective)
        self.seed, self.steps, self.total, self.fixed, self.share = seed, steps, total, fixed, share
        self.epoch = self.start = 0
        self._size: int | None = None

        @lru_cache(maxsize=2)
        def turn(index: int) -> PackedRows:
            return PackedRows(
                splits,
                length=length,
                seed=seed,
                epoch=index,
                cls_id=cls_id,
                sep_id=specials.sep_id,
                pad_id=pad_id,
                pairs="separated",
            )

        self._turn = turn

    @property
    def num_batches(self) -> int:
        """Batches from ``start`` to the end of the epoch."""
        steps = self.steps if self.total is None else min(self.steps, self.total - self.epoch * self.steps)
        return steps - self.start

    def __len__(self) -> int:
        return self.num_batches

    @property
    def available(self) -> int:
        """Rows in a pass."""
        if self._size is None:
            self._size = len(self._turn(0))
        return self._size

    def rows(self, first: int, count: int) -> dict[str, np.ndarray]:
        """Rows ``first`` to ``first + count`` of the stream."""
        pieces: list[dict[str, np.ndarray]] = []
        # Every pass has the same pieces, and how many rows they fill depends on their lengths alone.
        size = self.available
        while count:
            turn, place = divmod(first, size)
            n = min(count, size - place)
            pieces.append(self._turn(turn).take(np.arange(place, place + n)))
            first, count = first + n, count - n
        if len(pieces) == 1:
            return pieces[0]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def __getitem__(self, index: int) -> tuple[Batch]:
        step = self.epoch * self.steps + self.start + index
        if self.fixed:  # the same rows under each objective
            turn, which = divmod(index, len(self.parts))
        else:
            turn = step
            draw = np.random.default_rng([self.seed, 1, step])
            which = self.objective.draw(draw) if isinstance(self.objective, Mixture) else 0
        rows = self.rows(turn * self.batch_size, self.batch_size)
        rng = np.random.default_rng([self.seed, 2, index if self.fixed else step])
        batch = self.parts[which].batch(rows, self.specials, rng)
        batch |= {name: rows[name] for name in ("document_ids", "padding_mask")}
        batch["objective"] = np.full((self.batch_size, 1), which, "int32")
        # Each process makes the whole batch, so that it does not matter how many there are.
        place, count = self.share
        size = self.batch_size // count
        return ({name: value[place * size : (place + 1) * size] for name, value in batch.items()},)

    def signature(self) -> Any:
        """What `tf.data` must know; objectives differ in their number of targets."""
        import tensorflow as tf

        (batch,) = self[0]
        return (
            {
                name: tf.TensorSpec([v.shape[0], None if name.startswith("target_") else v.shape[1]], v.dtype)
                for name, v in batch.items()
            },
        )
