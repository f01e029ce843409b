"""Log-probabilities out of a `Transformer` with an ``lm`` head, for rows of different lengths."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.text.batching import bucket_length

__all__ = ["Forward", "Rows", "no_gradients"]

Rows = Sequence[Sequence[int]]
"""Token ids of several sequences, special tokens included."""


class Forward:
    """A model on rows of ids: padded to buckets, some at a time, without gradients.

    Args:
        model: a `kexue.models.Transformer` with the head ``lm``, or anything that maps a batch dict to a dict with
            ``logits`` (rows, length, V).
        segment: segment id of all tokens; None leaves the input out.
        pad_id: id of padding.
        batch_size: rows at a time.
    """

    def __init__(self, model: Any, *, segment: int | None = None, pad_id: int = 0, batch_size: int = 64) -> None:
        if "lm" not in getattr(model, "heads", ("lm",)):
            raise ConfigError(
                f"the model must have the head 'lm'. Received: heads {list(model.heads)}. Load it with head='lm'."
            )
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1. Received: {batch_size}")
        self.model, self.segment, self.pad_id, self.batch_size = model, segment, pad_id, batch_size

    @property
    def longest(self) -> int | None:
        """Greatest number of tokens in a row, None for no limit."""
        return getattr(self.model, "max_tokens", None)

    def at(self, rows: Rows, places: Any) -> np.ndarray:
        """Log-probabilities of all tokens at ``places`` (n, k) of each row: ``(n, k, V)`` float32."""
        where = np.asarray(places, "int32").reshape(len(rows), -1)
        found = []
        for part, outputs, _ in self._outputs(rows):
            logits = outputs["logits"]
            picked = np.zeros((logits.shape[0], where.shape[1]), "int32")
            picked[: len(where[part])] = where[part]
            taken = ops.take_along_axis(logits, ops.convert_to_tensor(picked[:, :, None]), axis=1)
            logs = ops.log_softmax(ops.cast(taken, "float32"), axis=-1)
            found.append(_numpy(logs)[: len(where[part])])
        return np.concatenate(found)

    def next_tokens(self, rows: Rows) -> list[np.ndarray]:
        """For each row of n tokens the log-probabilities of its tokens 1 to n - 1 given those before, float64."""
        found: list[np.ndarray] = []
        for part, outputs, ids in self._outputs(rows):
            logits = ops.cast(outputs["logits"][:, :-1], "float32")
            own = ops.take_along_axis(logits, ops.convert_to_tensor(ids[:, 1:, None]), axis=-1)[:, :, 0]
            logs = _numpy(own - ops.logsumexp(logits, axis=-1)).astype("float64")
            found += [logs[i, : len(row) - 1] for i, row in enumerate(rows[part])]
        return found

    def hidden(self, rows: Rows) -> Iterator[tuple[slice, Any]]:
        """Parts of the rows and their ``sequence_output`` on the device (more rows than the part has, maybe)."""
        for part, outputs, _ in self._outputs(rows):
            yield part, outputs["sequence_output"]

    def _outputs(self, rows: Rows) -> Iterator[tuple[slice, Any, np.ndarray]]:
        """Parts of the rows, the model's outputs and the padded ids."""
        if not all(len(row) for row in rows):
            raise ConfigError("a row without tokens cannot be scored. Give at least one token in each.")
        for begin in range(0, len(rows), self.batch_size):
            part = slice(begin, begin + self.batch_size)
            batch = self._batch(rows[part])
            with no_gradients():
                yield part, self.model(batch), batch["token_ids"]

    def _batch(self, rows: Rows) -> dict[str, np.ndarray]:
        longest = max(len(row) for row in rows)
        length = bucket_length(longest)
        if self.longest is not None:
            length = max(min(length, self.longest), longest)
        # One compilation for each power of two, where anything is compiled.
        count = len(rows) if keras.backend.backend() == "torch" else 1 << (len(rows) - 1).bit_length()
        ids = np.full((count, length), self.pad_id, "int32")
        real = np.zeros((count, length), bool)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            real[index, : len(row)] = True
        batch = {"token_ids": ids, "padding_mask": real}
        return batch if self.segment is None else batch | {"segment_ids": np.full_like(ids, self.segment)}


def no_gradients() -> AbstractContextManager[Any]:
    """Compute without recording what gradients would need."""
    if keras.backend.backend() != "torch":
        return nullcontext()
    from kexue.decoding.search.forward_torch import no_gradients

    return no_gradients()


def _numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))
