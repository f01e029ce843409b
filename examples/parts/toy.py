"""What the scripts of this folder share: synthetic text, a training loop, tables."""

from collections.abc import Callable, Sequence
from typing import Any

import kexue  # noqa: F401  chooses the Keras backend before Keras is imported
import keras
import numpy as np

from kexue.nn.losses import TokenCrossentropy
from kexue.training import AdamW, WarmupLinear

MASK = 0


def chain(rng: np.random.Generator, words: int, choices: int) -> np.ndarray:
    """A Markov chain over ``words`` words with ``choices`` likely successors each: rows of transition probabilities."""
    scores = np.full((words, words), -6.0)
    for row in scores:
        row[rng.choice(words, choices, replace=False)] = rng.normal(0, 1, choices)
    table = np.exp(scores)
    return table / table.sum(1, keepdims=True)


def text(rng: np.random.Generator, table: np.ndarray, rows: int, length: int) -> np.ndarray:
    """Sentences of the chain, ids from 1: 0 is the mask token."""
    limits = table.cumsum(1)
    ids = np.empty((rows, length), "int32")
    ids[:, 0] = rng.integers(0, len(table), rows)
    for t in range(1, length):
        ids[:, t] = (limits[ids[:, t - 1]] < rng.random((rows, 1))).sum(1).clip(max=len(table) - 1)
    return ids + 1


def masked(rng: np.random.Generator, ids: np.ndarray, rate: float = 0.15) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Masked-language-model batch: inputs, and targets that are -1 where nothing is asked."""
    chosen = rng.random(ids.shape) < rate
    return {"token_ids": np.where(chosen, MASK, ids)}, np.where(chosen, ids, -1)


class Logits(keras.Model):
    """The logits of a Transformer as the only output, for ``fit``."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self.inner = model

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.inner(inputs, training=training)["logits"]


def train(
    model: keras.Model, make: Callable[[np.random.Generator], Any], steps: int, rate: float = 2e-3, seed: int = 0
) -> None:
    """Train the logits of ``model`` on ``make(rng) -> (inputs, targets)``."""
    logits = Logits(model)
    logits.compile(AdamW(WarmupLinear(rate, steps, warmup=0.1)), TokenCrossentropy())
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        logits.train_on_batch(*make(rng))


def accuracy(model: keras.Model, make: Callable[[np.random.Generator], Any], count: int = 8, seed: int = 99) -> float:
    """Share of asked tokens that the logits get right, in per cent."""
    right = asked = 0
    rng = np.random.default_rng(seed)
    for _ in range(count):
        inputs, targets = make(rng)
        best = keras.ops.convert_to_numpy(keras.ops.argmax(model(inputs)["logits"], -1))
        right += int(((best == targets) & (targets >= 0)).sum())
        asked += int((targets >= 0).sum())
    return 100.0 * right / asked


def show(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; numbers get one decimal."""
    cells = [[f"{c:.1f}" if isinstance(c, float) else str(c) for c in row] for row in [list(header), *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        print("  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))))
