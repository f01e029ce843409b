"""Training of a conditional language model: rows with their conditions, and the network."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from kexue.errors import DataError
from kexue.models import Transformer
from kexue.tasks._condition_source import ConditionSource, Given
from kexue.tasks._pairs import Pair, PairBatches, digest
from kexue.tasks.pretraining.network import PretrainingModel, at_positions
from kexue.text import Tokenizer, cut_at_pauses

__all__ = ["ConditionalNetwork", "ConditionedBatches", "first_token", "rows_of", "texts_of"]


class ConditionalNetwork(PretrainingModel):
    """A language model whose norms get the vector of a `ConditionSource`.

    Batches are those of `PretrainingModel` with ``given`` and ``present``.
    """

    def __init__(self, transformer: Transformer, source: ConditionSource) -> None:
        super().__init__(transformer, ("lm",))
        self.facts = tuple(name for name in self.facts if name != "document_ids")  # one text a row
        self.source = source

    def logits(self, inputs: Mapping[str, Any], training: bool) -> Any:
        """(batch, targets, vocabulary)."""
        vector = self.source({name: inputs[name] for name in ("given", "present")}, training=training)
        known = {name: inputs[name] for name in self.facts}
        hidden = self.body(known | {"condition": vector}, training=training)
        x = at_positions(hidden, inputs["target_positions"])
        table = {} if self.embedding is None else {"table": self.embedding(x, table=True)}
        return self.head(x, **table, condition=vector)


def texts_of(data: Iterable[Mapping[str, Any]], key: str, what: str) -> tuple[list[str], list[Any]]:
    """The texts of records and what they are conditioned on.

    Args:
        data: ``{"text": str, key: ...}``; None under the key: nothing.
        key: ``"label"`` or ``"condition"``.
        what: names the records in messages.

    Raises:
        DataError: no records, or a broken one; the message names it.
    """
    texts, values = [], []
    for number, record in enumerate(data):
        if not isinstance(record, Mapping) or not isinstance(record.get("text"), str):
            raise DataError(f'{what} {number}: expected {{"text": str, "{key}": ...}}. Received: {record!r:.80}')
        if key not in record:
            raise DataError(
                f"{what} {number}: it has no {key!r}. Give one, or None for a text that is to be learned without. "
                f"Received: {record!r:.80}"
            )
        texts.append(record["text"])
        values.append(record[key])
    if not texts:
        raise DataError(f"{what} holds no examples.")
    return texts, values


def first_token(tokenizer: Tokenizer) -> int:
    """The token that every text begins with, [CLS] in BERT; that of its end where there is only one, as in T5."""
    return int(tokenizer.encode("").token_ids[0])


def rows_of(tokenizer: Tokenizer, texts: Sequence[str], stop: int, max_length: int) -> tuple[list[Pair], np.ndarray]:
    """``[CLS] piece [SEP]`` for each piece of each text, and the number of the text that it is from."""
    rows, origin = [], []
    start = first_token(tokenizer)
    for number, encoding in enumerate(tokenizer.encode_batch(list(texts))):
        for piece in cut_at_pauses(encoding, max_length - 2):
            rows.append(Pair(np.concatenate([[start], piece, [stop]]).astype("int32"), 1))
            origin.append(number)
    return rows, np.asarray(origin, "int64")


class ConditionedBatches(PairBatches):
    """Batches of rows with what they are conditioned on.

    Args:
        rows: see `rows_of`.
        given: for each text.
        origin: for each row the number of its text.
        segment: of all tokens.
        dtype: of what is given.
        dropout: share of the rows that get the null condition instead, others in each pass.
        **options: of `PairBatches`.
    """

    def __init__(
        self,
        rows: Sequence[Pair],
        given: Given,
        origin: np.ndarray,
        *,
        segment: int,
        dtype: str,
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(rows, **options)
        self.given, self.origin, self.segment = given, origin, segment
        self.dtype, self.dropout = dtype, dropout

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        turn, place = divmod(self.epoch * self.steps + self.start + index, self.pass_steps)
        batch = self.batch(self._order(0 if self.seed is None else turn)[place])
        if self.dropout and self.seed is not None:
            rng = np.random.default_rng([self.seed, turn, place, 1])
            batch["present"] &= rng.random((self.batch_size, 1)) >= self.dropout
        return (batch,)

    def batch(self, members: np.ndarray) -> dict[str, np.ndarray]:
        """Inputs of some rows, filled up with empty ones, whose conditions repeat those of the others."""
        batch = super().batch(members)
        texts = self.origin[np.resize(members, self.batch_size)]
        given = np.stack([self.given.values[i] for i in texts.tolist()])
        if "segment_ids" in batch:
            batch["segment_ids"] = np.where(batch["padding_mask"], self.segment, 0).astype("int32")
        return batch | {"given": given.astype(self.dtype), "present": self.given.present[texts][:, None]}

    def fingerprint(self) -> str:
        """Of rows and conditions."""
        total = sha256(digest(self.rows).encode())
        for value in (self.origin, self.given.present, *self.given.values):
            total.update(np.ascontiguousarray(value).tobytes())
        return total.hexdigest()

    def signature(self) -> Any:
        """What `tf.data` must know."""
        import tensorflow as tf

        (spec,) = super().signature()
        (inputs,) = self[0]
        own = {name: tf.TensorSpec(inputs[name].shape, inputs[name].dtype) for name in ("given", "present")}
        return (spec | own,)
