"""Scores of a head have rank at most key_size: larger keys, or heads that talk (kexue.fm 7325).

One head is fitted to attention that it must reproduce: token i of n looks at token p(i) of a random permutation, with
90 % of its weight. Then a model with several heads learns to fetch, from positions alone, the tokens that random
permutations point to.

    python examples/parts/rank_limit.py
"""

import argparse
from typing import Any

import toy
import keras
import numpy as np
from keras import ops

from kexue.models import Transformer
from kexue.nn.attention.diagnostics import attention_maps, rank

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


def fetch(rng: np.random.Generator, permutations: np.ndarray, rows: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Random words; asked at each place: the sum modulo WORDS of the words that the permutations point to."""
    ids = rng.integers(0, WORDS, (rows, LENGTH)).astype("int32")
    return {"token_ids": ids}, ids[:, permutations].sum(1) % WORDS


def learns(options: dict[str, Any], permutations: np.ndarray, steps: int, seed: int) -> tuple[float, float]:
    """Accuracy after training, and the mean rank of the heads' scores."""
    keras.utils.set_random_seed(seed)
    config = {
        "vocabulary_size": WORDS,
        "hidden_size": 64,
        "num_layers": 1,
        "num_heads": 4,
        "intermediate_size": 256,
        "max_length": LENGTH,
        "num_segments": 0,
        "initializer": 0.1,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    }
    model = Transformer(config | options, head="lm")
    toy.train(model, lambda rng: fetch(rng, permutations, 64), steps, rate=4e-3, seed=seed)
    batch = fetch(np.random.default_rng(1), permutations, 2)[0]
    scores = attention_maps(model, batch, what=("scores",))
    ranks = np.mean([np.mean(rank(s)) for s in scores.values()])
    return toy.accuracy(model, lambda rng: fetch(rng, permutations, 64), count=4), float(ranks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    wanted = target(rng)
    sizes = (1, 2, 4, 8, 16, 32)
    print(f"one head against a permutation of {LENGTH} tokens: divergence that is left, nats a row")
    toy.show(("key_size", *sizes), [("", *(f"{divergence(k, wanted, 600):.4f}" for k in sizes))])
    permutations = np.stack([rng.permutation(LENGTH) for _ in range(1)])
    rows = []
    for talking in ("none", "pre", "pre_post"):
        for key_size in (1, 2, 4, 16):
            settings = {"key_size": key_size, "attention_options": {"talking": talking}}
            rows.append((talking, key_size, *learns(settings, permutations, options.steps, options.seed)))
    print("\nfetching by position, 4 heads of value size 16: tokens right, %, and rank of the scores")
    toy.show(("talking", "key_size", "accuracy", "rank"), rows)


if __name__ == "__main__":
    main()
