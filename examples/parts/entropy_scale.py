"""Beyond the training length: scores scaled by log n keep attention focused (kexue.fm 8823, 9034).

A masked language model is trained on texts of 32 tokens. Ordinary attention and attention with (log n / log 32) /
sqrt(d) agree at n = 32, so that the one model can be read with either at other lengths.

--task facts (default): a fact is one token, a name with a value; a quarter of the values are masked and stand
  elsewhere in the text. The longer the text, the more keys compete with the right one. No positions; queries and keys
  of unit variance, as in the derivation.
--task chain: text of a Markov chain, rotary positions. What fails there beyond 32 tokens is distances that were never
  seen, which no scale can mend.

    python examples/parts/entropy_scale.py
"""

import argparse
from typing import Any

import toy
import keras
import numpy as np

from kexue.models import Transformer
from kexue.nn.attention.diagnostics import attention_maps, entropy

NAMES, VALUES, WORDS, TRAINED = 1024, 4, 200, 32
MODELS = {
    "facts": {
        "vocabulary_size": NAMES * (VALUES + 1),
        "num_layers": 1,
        "num_heads": 2,
        "key_size": 8,
        "position": "none",
        "query_key_norm": True,
    },
    "chain": {"vocabulary_size": WORDS + 1, "num_layers": 2, "num_heads": 4, "position": "rotary"},
}


def facts(rng: np.random.Generator, rows: int, length: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Texts of ``length`` tokens: name and value, and for a quarter of them a name whose value is asked."""
    asked = length // 4
    names = np.argsort(rng.random((rows, NAMES)), 1)[:, : length - asked]
    told = names * VALUES + rng.integers(0, VALUES, names.shape)
    which = np.argsort(rng.random(names.shape), 1)[:, :asked]
    questions = NAMES * VALUES + np.take_along_axis(names, which, 1)
    answers = np.take_along_axis(told, which, 1)
    order = np.argsort(rng.random((rows, length)), 1)
    ids = np.take_along_axis(np.concatenate([told, questions], 1), order, 1)
    targets = np.take_along_axis(np.concatenate([np.full(told.shape, -1), answers], 1), order, 1)
    return {"token_ids": ids.astype("int32")}, targets


CHAIN = toy.chain(np.random.default_rng(0), WORDS, 5)
TASKS = {"facts": facts, "chain": lambda rng, rows, length: toy.masked(rng, toy.text(rng, CHAIN, rows, length))}


def build(task: str, scale: Any) -> Transformer:
    common = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_segments": 0,
        "attention_options": {"scale": scale},
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "initializer": 0.05,
    }
    return Transformer(common | MODELS[task], head="lm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=list(TASKS), default="facts")
    parser.add_argument("--steps", type=int, help="350 for facts, 1,500 for the chain")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    task, make = options.task, TASKS[options.task]
    steps = options.steps or {"facts": 350, "chain": 1500}[task]
    lengths = (TRAINED, 64, 128, 256, 512, 1024)
    right: dict[str, list[list[float]]] = {}
    spread: dict[str, list[list[float]]] = {}
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        model = build(task, "sqrt")
        toy.train(model, lambda rng: make(rng, 64, TRAINED), steps, seed=seed)
        for name, scale in (("1 / sqrt(d)", "sqrt"), ("log_32 n / sqrt(d)", {"train_length": TRAINED})):
            reader = build(task, scale)
            reader.set_weights(model.get_weights())
            scores, entropies = [], []
            for n in lengths:
                scores.append(toy.accuracy(reader, lambda rng, n=n: make(rng, 8, n), count=4))
                maps = attention_maps(reader, make(np.random.default_rng(5), 2, n)[0], what=("probabilities",))
                entropies.append(float(np.mean([entropy(p) for p in maps.values()])))
            right.setdefault(name, []).append(scores)
            spread.setdefault(name, []).append(entropies)
    print(f"masked tokens predicted right, %, mean of {options.seeds} seeds, by the number of tokens")
    toy.show(("scale", *lengths), [(name, *np.mean(runs, 0).tolist()) for name, runs in right.items()])
    print("\nmean entropy of attention, nats")
    toy.show(("scale", *lengths), [(name, *np.mean(runs, 0).tolist()) for name, runs in spread.items()])


if __name__ == "__main__":
    main()
