"""Fine-tuning for one class, one number or one span a text, out of the parts of kexue."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import kexue  # noqa: F401  chooses the backend

# isort: split
import keras
import numpy as np
from keras import ops

from kexue.models import Transformer
from kexue.nn.heads.pooling import pool
from kexue.text import Encoding, length_batches, pad
from kexue.training import AdamW, WarmupLinear, layer_decay_rules
from kexue.training.running import run
from kexue.training.seeding import seeded_training

MASKED = -1e4


class Row(NamedTuple):
    """One or two encodings (two: each goes through the encoder by itself) and what to learn."""

    encodings: tuple[Encoding, ...]
    target: Any


class Batches(keras.utils.PyDataset):
    """Batches of like length, in an order that depends on the seed and the epoch.

    Segments are all 0, as they were when the network was trained under the bidirectional mask.
    """

    def __init__(self, rows: Sequence[Row], batch_size: int, max_length: int, seed: int | None, reading: bool) -> None:
        super().__init__()
        self.rows, self.batch_size, self.max_length = rows, batch_size, max_length
        self.seed, self.reading = seed, reading
        self.lengths = [max(map(len, row.encodings)) for row in rows]
        self.epoch, self.start, self._planned = 0, 0, -1
        self.plan()

    def plan(self) -> list[list[int]]:
        """Members of the batches of the present epoch."""
        if self._planned != self.epoch:
            seed = None if self.seed is None else 1_000_003 * self.seed + self.epoch
            self._members = length_batches(self.lengths, self.batch_size, shuffle_seed=seed)
            self._planned = self.epoch
        return self._members

    @property
    def num_batches(self) -> int:
        """The same in all epochs."""
        return len(self._members)

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        rows = [self.rows[i] for i in self.plan()[index]]
        inputs: dict[str, np.ndarray] = {}
        for place, encodings in enumerate(zip(*(row.encodings for row in rows), strict=True)):
            batch = pad(encodings, max_length=self.max_length)
            suffix = "_2" if place else ""
            inputs |= {f"{name}{suffix}": batch[name] for name in ("token_ids", "padding_mask")}
            if self.reading:
                says = np.zeros_like(batch["padding_mask"])
                for i, encoding in enumerate(encodings):
                    says[i, : len(encoding)] = encoding.sequence_ids == 1
                says[:, 0] = True  # "not here"
                inputs["pointable"] = says
        dtype = "int32" if isinstance(rows[0].target, (int, tuple)) else "float32"
        return inputs, np.asarray([row.target for row in rows], dtype)

    def signature(self) -> Any:
        """Shapes for `tf.data`."""
        import tensorflow as tf

        inputs, targets = self[0]
        spec = {name: tf.TensorSpec((None, None), value.dtype) for name, value in inputs.items()}
        return spec, tf.TensorSpec((None, *targets.shape[1:]), targets.dtype)


def network(encoder: Transformer, kind: str, classes: int = 2, dropout: float = 0.1) -> keras.Model:
    """The encoder with a head.

    ``"class"``: logits from the mean of the hidden states; ``"score"``: one number in (0, 1) from it; ``"cosine"``: the
    cosine of the means of two texts; ``"span"``: ``(batch, 2, length)`` logits of the first and last token.
    """

    def encoded(suffix: str) -> tuple[dict[str, Any], Any, Any]:
        inputs = {
            f"token_ids{suffix}": keras.Input((None,), dtype="int32", name=f"token_ids{suffix}"),
            f"padding_mask{suffix}": keras.Input((None,), dtype="bool", name=f"padding_mask{suffix}"),
        }
        padding = inputs[f"padding_mask{suffix}"]
        hidden = encoder({"token_ids": inputs[f"token_ids{suffix}"], "padding_mask": padding})["sequence_output"]
        return inputs, hidden, padding

    def dense(units: int, activation: str | None = None) -> keras.layers.Layer:
        return keras.layers.Dense(units, activation=activation, dtype="float32", name="head")

    inputs, hidden, padding = encoded("")
    if kind == "span":
        inputs["pointable"] = keras.Input((None,), dtype="bool", name="pointable")
        logits = ops.transpose(dense(2)(keras.layers.Dropout(dropout, dtype="float32")(hidden)), (0, 2, 1))
        return keras.Model(inputs, ops.where(ops.expand_dims(inputs["pointable"], 1), logits, MASKED))
    mean = keras.layers.Dropout(dropout, dtype="float32")(pool(hidden, padding))
    if kind == "class":
        return keras.Model(inputs, dense(classes)(mean))
    if kind == "score":
        return keras.Model(inputs, dense(1, "sigmoid")(mean)[:, 0])
    more, hidden, padding = encoded("_2")
    other = keras.layers.Dropout(dropout, dtype="float32")(pool(hidden, padding))
    lengths = ops.sqrt(ops.sum(mean * mean, -1) * ops.sum(other * other, -1) + 1e-12)
    return keras.Model(inputs | more, ops.sum(mean * other, -1) / lengths)


LOSSES = {
    "class": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "span": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "score": keras.losses.BinaryCrossentropy,
    "cosine": keras.losses.MeanSquaredError,
}


class Progress(keras.callbacks.Callback):
    """A line an epoch: loss and seconds."""

    def __init__(self, name: str, epochs: int) -> None:
        super().__init__()
        self.name, self.epochs, self.begin = name, epochs, time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Print it."""
        seconds = time.perf_counter() - self.begin
        loss = float((logs or {}).get("loss", float("nan")))
        print(f"  {self.name}: epoch {epoch + 1}/{self.epochs}  loss {loss:.4f}  {seconds:.0f} s", flush=True)


def train(
    model: keras.Model,
    encoder: Transformer,
    rows: Sequence[Row],
    kind: str,
    *,
    epochs: int,
    batch_size: int,
    max_length: int,
    learning_rate: float,
    head_learning_rate: float,
    layer_decay: float = 1.0,
    seed: int,
    name: str,
) -> None:
    """AdamW with warm-up and linear decay, the head with a rate of its own."""
    batches = Batches(rows, batch_size, max_length, seed, kind == "span")
    optimizer = AdamW(
        WarmupLinear(learning_rate, len(batches) * epochs, 0.1),
        rate_rules=[
            ("(^|/)head/", head_learning_rate / learning_rate),
            *layer_decay_rules(encoder.config.num_layers, layer_decay),
        ],
        weight_decay=0.01,
        global_clipnorm=1.0,
    )
    model.compile(optimizer=optimizer, loss=LOSSES[kind]())
    with seeded_training(model, seed):
        run(model, batches, epochs=epochs, callbacks=[Progress(name, epochs)], verbose=0)


def outputs(model: keras.Model, rows: Sequence[Row], kind: str, *, batch_size: int, max_length: int) -> list[Any]:
    """The network's output for each row, in the rows' order."""
    batches = Batches(rows, batch_size, max_length, None, kind == "span")
    found: list[Any] = [None] * len(rows)
    for number, members in enumerate(batches.plan()):
        values = model.predict_on_batch(batches[number][0])
        for index, value in zip(members, values, strict=True):
            found[index] = value
    return found
