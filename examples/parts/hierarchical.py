"""Learned positions beyond their table (kexue.fm 7947).

A masked language model with 512 learned positions reads texts of 1,536 tokens: with its table continued
hierarchically, with new random rows after the trained ones, and with each after a little more training.

    python examples/parts/hierarchical.py
"""

import argparse
from typing import Any

import toy
import keras
import numpy as np

from kexue.models import Transformer
from kexue.models.weights import named_weights


def build(words: int, rows: int, position: str = "learned") -> Transformer:
    config: dict[str, Any] = {
        "vocabulary_size": words + 1,
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 128,
        "num_segments": 0,
        "max_length": rows,
        "position": position,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "initializer": 0.05,
    }
    return Transformer(config, head="lm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained", type=int, default=512)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--more", type=int, default=150, help="steps on long texts")
    parser.add_argument("--words", type=int, default=50)
    options = parser.parse_args()
    short, long = options.trained, 3 * options.trained
    table = toy.chain(np.random.default_rng(0), options.words, 3)

    def texts(rng: np.random.Generator, rows: int, length: int) -> Any:
        return toy.masked(rng, toy.text(rng, table, rows, length))

    def score(model: Transformer, length: int) -> float:
        return toy.accuracy(model, lambda rng: texts(rng, 4, length))

    keras.utils.set_random_seed(0)
    model = build(options.words, short)
    toy.train(model, lambda rng: texts(rng, 8, short), options.steps)
    weights = {name: keras.ops.convert_to_numpy(value) for name, value in named_weights(model).items()}
    rows = [("trained", f"{score(model, short):.1f}", "", "")]
    for name, size, position in (("hierarchical", short, "hierarchical"), ("new random rows", long, "learned")):
        other = build(options.words, size, position)
        for key, variable in named_weights(other).items():
            value = weights[key]
            if key == "position_embedding/table" and size > short:
                value = np.concatenate([value, keras.ops.convert_to_numpy(variable)[short:]])
            variable.assign(value)
        at_once = score(other, long)
        kept = score(other, short)
        toy.train(other, lambda rng: texts(rng, 3, long), options.more, rate=5e-4, seed=1)
        rows.append((name, f"{kept:.1f}", f"{at_once:.1f}", f"{score(other, long):.1f}"))
    print("masked tokens predicted right, %")
    toy.show(("positions", f"{short} tokens", f"{long} at once", f"{long} after {options.more} steps"), rows)


if __name__ == "__main__":
    main()
