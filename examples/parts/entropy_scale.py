"""Beyond the training length: scores scaled by log n keep attention focused (kexue.fm 9034).

A rotary masked language model is trained on texts of 32 tokens, once with scores divided by sqrt(d) and once with
(log n / log 32) / sqrt(d), and tested on longer texts.

    python examples/parts/entropy_scale.py
"""

import argparse

import numpy as np
import toy

from kexue.models import Transformer
from kexue.nn.attention.scales import LogN

TRAINED = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--words", type=int, default=200)
    parser.add_argument("--choices", type=int, default=5)
    options = parser.parse_args()
    lengths = (TRAINED, 64, 128, 256, 512)
    found: dict[str, list[list[float]]] = {}
    for seed in range(options.seeds):
        table = toy.chain(np.random.default_rng(seed), options.words, options.choices)
        for name, scale in (("1 / sqrt(d)", "sqrt"), ("log_32 n / sqrt(d)", LogN(TRAINED))):
            import keras

            keras.utils.set_random_seed(seed)
            model = Transformer(
                {
                    "vocabulary_size": len(table) + 1,
                    "hidden_size": 64,
                    "num_layers": 2,
                    "num_heads": 4,
                    "intermediate_size": 256,
                    "num_segments": 0,
                    "position": "rotary",
                    "attention_options": {"scale": scale if isinstance(scale, str) else vars(scale)},
                    "dropout": 0.0,
                    "attention_dropout": 0.0,
                },
                head="lm",
            )
            toy.train(model, lambda rng: toy.masked(rng, toy.text(rng, table, 64, TRAINED)), options.steps, seed=seed)
            scores = []
            for n in lengths:
                scores.append(toy.accuracy(model, lambda rng, n=n: toy.masked(rng, toy.text(rng, table, 16, n))))
            found.setdefault(name, []).append(scores)
            print(name, seed, scores, flush=True)
    print("masked tokens predicted right, %, mean over seeds, by the length of the text")
    toy.show(("scale", *lengths), [(name, *np.mean(runs, 0).tolist()) for name, runs in found.items()])


if __name__ == "__main__":
    main()
