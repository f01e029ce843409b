"""Scores of a head have rank at most key_size: larger keys, or heads that talk (kexue.fm 7325).

One head is fitted to attention that it must reproduce: token i of n looks at token p(i) of a random permutation, with
90 % of its weight. Then a model with 4 heads learns to fetch, from positions alone, the words that a
permutation points to: narrow heads cannot point well, heads that talk combine what they have.

    python examples/parts/rank_limit.py
"""

import argparse
from typing import Any

import toy
import keras
import numpy as np
from keras import ops

from kexue.models import Transformer

LENGTH, WORDS = 32, 20


def target(rng: np.random.Generator) -> np.ndarray:
    """Attention of LENGTH tokens that is far from low rank."""
    wanted = np.full((LENGTH, LENGTH), 0.1 / (LENGTH - 1), "float32")
    wanted[np.arange(LENGTH), rng.permutation(LENGTH)] = 0.9
    return wanted


class OneHead(keras.Model):
    """softmax(Q K^T / sqrt(k)) with free Q and K: what one head can do at best, whatever its input."""

    def __init__(self, key_size: int) -> None:
        super().__init__()
        self.key_size = key_size

    def build(self, _: Any) -> None:
        shape = (LENGTH, self.key_size)
        self.q, self.k = (self.add_weight(shape=shape, initializer="random_normal", name=n) for n in "qk")

    def call(self, x: Any) -> Any:
        return ops.log_softmax(ops.matmul(self.q, ops.transpose(self.k)) * self.key_size**-0.5)[None] + 0 * x


def divergence(key_size: int, wanted: np.ndarray, steps: int) -> float:
    """Kullback-Leibler divergence from the wanted attention, mean over rows, after fitting."""
    model = OneHead(key_size)
    truth = wanted[None]

    def loss(y: Any, logits: Any) -> Any:
        return ops.mean(ops.sum(y * (ops.log(y) - logits), -1))

    model.compile(keras.optimizers.Adam(0.1), loss)
    zero = np.zeros((1, 1, 1), "float32")
    for _ in range(steps):
        value = model.train_on_batch(zero, truth)
    return float(value)


def fetch(rng: np.random.Generator, order: np.ndarray, rows: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Random words; each place is to tell the word that ``order`` points to."""
    ids = rng.integers(0, WORDS, (rows, len(order))).astype("int32")
    return {"token_ids": ids}, ids[:, order]


def learns(key_size: int, talking: str, order: np.ndarray, steps: int, seed: int) -> float:
    """Accuracy after training a block of 4 heads."""
    keras.utils.set_random_seed(seed)
    config = {
        "vocabulary_size": WORDS,
        "hidden_size": 64,
        "num_layers": 1,
        "num_heads": 4,
        "key_size": key_size,
        "attention_options": {"talking": talking},
        "intermediate_size": 128,
        "max_length": len(order),
        "num_segments": 0,
        "initializer": 0.1,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    }
    model = Transformer(config, head="lm")
    toy.train(model, lambda rng: fetch(rng, order, 32), steps, rate=4e-3, seed=seed)
    return toy.accuracy(model, lambda rng: fetch(rng, order, 32), count=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--places", type=int, default=64, help="of the texts in which words are fetched")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    wanted = target(rng)
    sizes = (1, 2, 4, 8, 16, 32)
    print(f"one head against a permutation of {LENGTH} tokens: divergence that is left, nats a row")
    toy.show(("key_size", *sizes), [("", *(f"{divergence(k, wanted, 600):.4f}" for k in sizes))])
    order = rng.permutation(options.places)
    sizes = (1, 2, 4)
    rows = [
        (talking, *(learns(k, talking, order, options.steps, options.seed) for k in sizes))
        for talking in ("none", "pre", "pre_post")
    ]
    print(f"\nwords fetched from {options.places} places by 4 heads, % right, by key size")
    toy.show(("talking", *sizes), rows)


if __name__ == "__main__":
    main()
