"""Pairs of texts as rows of one sequence, and batches of them for training."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import keras
import numpy as np

from kexue.errors import ConfigError, DataError
from kexue.text import Tokenizer
from kexue.text.batching import bucket_length

__all__ = ["Pair", "PairBatches", "check_pairs", "digest", "encode_pairs", "encode_sources", "stop_token"]


class Pair(NamedTuple):
    """``[CLS] source [SEP] target [SEP]``.

    Attributes:
        token_ids: ``(n,)`` int32.
        source: tokens before the target's first.
    """

    token_ids: np.ndarray
    source: int


def encode_sources(tokenizer: Tokenizer, texts: Sequence[str], max_length: int, what: str = "text") -> list[np.ndarray]:
    """Token ids with special tokens, the end of long texts left out.

    Raises:
        DataError: something that is not a text.
    """
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"{what} {number}: expected a string. Received: {type(text).__name__}")
    return [encoding.token_ids for encoding in tokenizer.encode_batch(list(texts), max_length=max_length)]


def stop_token(tokenizer: Tokenizer) -> int:
    """The token that ends a text, [SEP] in BERT.

    Raises:
        ConfigError: the tokenizer puts none there.
    """
    empty = tokenizer.encode("")
    if not len(empty) or not empty.special[-1]:
        raise ConfigError("a target needs a token that ends it, and the tokenizer puts none at the end of a text.")
    return int(empty.token_ids[-1])


def check_pairs(data: Iterable[Mapping[str, Any]], what: str) -> list[Mapping[str, Any]]:
    """The pairs themselves.

    Raises:
        DataError: a broken example; the message names it.
    """
    if isinstance(data, (str, Mapping)) or not hasattr(data, "__iter__"):
        raise DataError(f'{what} must be a list of {{"source": str, "target": str}}. Received: {data!r:.80}')
    pairs = list(data)
    for number, example in enumerate(pairs):
        if not isinstance(example, Mapping) or not all(isinstance(example.get(n), str) for n in ("source", "target")):
            raise DataError(
                f'{what} {number}: expected {{"source": str, "target": str}}. Received: {str(example)[:80]}'
            )
    return pairs


def encode_pairs(
    tokenizer: Tokenizer, data: Iterable[Mapping[str, Any]], max_source: int, max_target: int, what: str
) -> list[Pair]:
    """Rows of ``{"source": str, "target": str}``; a target counts its end token.

    Raises:
        DataError: a broken example; the message names it.
    """
    pairs = check_pairs(data, what)
    stop = stop_token(tokenizer)
    rows = []
    encoded = tokenizer.encode_batch([pair["target"] for pair in pairs])
    sources = encode_sources(tokenizer, [pair["source"] for pair in pairs], max_source)
    for source, target in zip(sources, encoded, strict=True):
        own = target.token_ids[~target.special][: max_target - 1]
        rows.append(Pair(np.concatenate([source, own, [stop]]).astype("int32"), len(source)))
    return rows


def digest(rows: Sequence[Pair]) -> str:
    """A fingerprint of training data."""
    total = sha256()
    for row in rows:
        total.update(np.asarray([len(row.token_ids), row.source], np.int64).tobytes())
        total.update(np.ascontiguousarray(row.token_ids).tobytes())
    return total.hexdigest()


class PairBatches(keras.utils.PyDataset):
    """Batches of rows of like length, in an order that depends only on the seed and the place in the run.

    Inputs of `kexue.tasks.pretraining.network.PretrainingModel`: the head looks at the places that predict the target
    and at no others.

    Args:
        rows: what to train on.
        batch_size: rows in a batch.
        pad_id: token id of padding.
        seed: of the order; None keeps it.
        names: inputs of the model.
        limit: lengths are not rounded up beyond this.
        steps: batches in an epoch; None: one pass.
        draw: which rows a pass has, as many in each: numbers from a random generator; None: all of them.
    """

    def __init__(
        self,
        rows: Sequence[Pair],
        *,
        batch_size: int,
        pad_id: int,
        seed: int | None,
        names: Iterable[str],
        limit: int | None,
        steps: int | None = None,
        draw: Callable[[np.random.Generator], np.ndarray] | None = None,
    ) -> None:
        super().__init__()
        self.draw = draw
        self.rows, self.batch_size, self.pad_id, self.seed = rows, batch_size, pad_id, seed
        lengths = [len(row.token_ids) for row in rows]
        self.lengths = np.asarray([n if limit is None else max(n, min(bucket_length(n), limit)) for n in lengths])
        if limit is None:
            self.lengths = np.asarray([bucket_length(n) for n in lengths])
        self.room = bucket_length(max(len(row.token_ids) - row.source for row in rows))
        self.names = set(names)
        count = len(rows) if draw is None else len(draw(np.random.default_rng(0)))
        self.pass_steps = -(-count // batch_size)
        self.steps = steps or self.pass_steps
        self.epoch = self.start = 0
        self._order = lru_cache(maxsize=2)(self._new_order)

    @property
    def num_batches(self) -> int:
        """Batches from ``start`` to the end of the epoch."""
        return self.steps - self.start

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        turn, place = divmod(self.epoch * self.steps + self.start + index, self.pass_steps)
        return (self.batch(self._order(0 if self.seed is None else turn)[place]),)

    def _new_order(self, turn: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed or 0, turn])
        chosen = np.arange(len(self.rows)) if self.draw is None else self.draw(rng)
        if self.seed is not None:
            rng.shuffle(chosen)
        chosen = chosen[np.argsort(self.lengths[chosen], kind="stable")]
        cut = [chosen[n : n + self.batch_size] for n in range(0, len(chosen), self.batch_size)]
        return [cut[i] for i in rng.permutation(len(cut))] if self.seed is not None else cut

    def order(self) -> list[np.ndarray]:
        """The rows of each batch of the first pass."""
        return self._order(0)

    def batch(self, members: np.ndarray) -> dict[str, np.ndarray]:
        """Inputs of some rows, filled up with empty ones."""
        shape = (self.batch_size, int(self.lengths[members].max()))
        ids, segments = np.full(shape, self.pad_id, np.int32), np.zeros(shape, np.int32)
        real = np.zeros(shape, bool)
        # As many targets as tokens mean all places in order to the network.
        all_places = self.room >= shape[1]
        wide = shape if all_places else (self.batch_size, self.room)
        places, answers = np.zeros(wide, np.int32), np.zeros(wide, np.int32)
        weights = np.zeros(wide, np.float32)
        for n, row in enumerate(self.rows[i] for i in members.tolist()):
            size, count = len(row.token_ids), len(row.token_ids) - row.source
            ids[n, :size], real[n, :size] = row.token_ids, True
            segments[n, row.source : size] = 1
            here = np.arange(row.source - 1, size - 1) if all_places else np.arange(count)
            places[n, here] = np.arange(row.source - 1, size - 1)
            answers[n, here] = row.token_ids[row.source :]
            weights[n, here] = 1.0
        if all_places:
            places[:] = np.arange(shape[1])
        batch = {"token_ids": ids, "segment_ids": segments, "padding_mask": real}
        batch = {name: value for name, value in batch.items() if name in self.names}
        targets = {"target_positions": places, "target_ids": answers, "target_weights": weights}
        return batch | targets | {"objective": np.zeros((self.batch_size, 1), np.int32)}

    def signature(self) -> Any:
        """What `tf.data` must know."""
        import tensorflow as tf

        (inputs,) = self[0]
        columns = {name: 1 if name == "objective" else None for name in inputs}
        return ({name: tf.TensorSpec((self.batch_size, columns[name]), value.dtype) for name, value in inputs.items()},)
