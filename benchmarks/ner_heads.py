"""GlobalPointer, the same without rotary positions, Efficient GlobalPointer, CRF and softmax on real data.

One small encoder trained from scratch for each head, with equal shape, seed, data, batches and number of steps, on
CLUENER (10 types) and People's Daily (3 types). F1 is over exact character spans of whole sentences of the validation
set (CLUENER, whose test set has no labels) or test set (People's Daily).
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import arguments, data_folder, publish, table

HEADS: Mapping[str, dict[str, Any]] = {
    "GlobalPointer": {"head": "global_pointer"},
    "GlobalPointer without rotary": {"head": "global_pointer", "rotary": False},
    "Efficient GlobalPointer": {"head": "efficient_global_pointer"},
    "CRF": {"head": "crf"},
    "softmax": {"head": "softmax"},
}


def datasets(folder: Path, names: list[str]) -> dict[str, tuple[list[Any], list[Any]]]:
    from kexue.text import read_entities

    paths = {
        "CLUENER": ("ner/cluener/train.json", "ner/cluener/dev.json"),
        "People's Daily": (
            "ner/people_daily/NER_chi/example.train.zip",
            "ner/people_daily/NER_chi/example.test.zip",
        ),
    }
    return {
        name: tuple(read_entities(folder / path) for path in paths[name])  # type: ignore[misc]
        for name in names
    }


def vocabulary(texts: list[str]) -> list[str]:
    characters = sorted({c for text in texts for c in text.lower() if not c.isspace()})
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return [*specials, *characters, *(f"##{c}" for c in characters if c.isascii())]


def run(train: list[Any], test: list[Any], settings: dict[str, Any], options: Any) -> tuple[Any, ...]:
    import keras

    from kexue.tasks import NER
    from kexue.text import Tokenizer

    keras.utils.set_random_seed(options.seed)
    labels = sorted({entity["label"] for example in train for entity in example["entities"]})
    tokenizer = Tokenizer.from_vocab(vocabulary([example["text"] for example in train]))
    config = {
        "hidden_size": options.hidden,
        "num_layers": options.layers,
        "num_heads": options.hidden // 64,
        "intermediate_size": 4 * options.hidden,
        "position": "rotary",
        "dropout": 0.1,
    }
    ner = NER.from_pretrained(config, labels, tokenizer=tokenizer, max_length=256, seed=options.seed, **settings)
    steps = -(-len(train) // options.batch_size)
    start = time.perf_counter()
    ner.fit(
        train,
        epochs=max(1, round(options.steps / steps)),
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        head_learning_rate=options.learning_rate,
        seed=options.seed,
        verbose=0,
    )
    trained = time.perf_counter() - start
    texts = [example["text"] for example in test]
    ner.predict(texts)  # compiles
    start = time.perf_counter()
    ner.predict(texts)
    predicted = time.perf_counter() - start
    scores = ner.evaluate(test)
    return scores.precision, scores.recall, scores.f1, trained, len(texts) / predicted


def report(rows: list[tuple[str, ...]], options: Any) -> None:
    header = ("data", "head", "precision %", "recall %", "F1 %", "training s", "sentences/s in prediction")
    body = (
        f"Encoder: {options.layers} blocks of {options.hidden}, rotary, random initial weights, characters; about "
        f"{options.steps} steps of {options.batch_size} sentences, rounded to whole epochs, AdamW "
        f"{options.learning_rate:g} with warm-up and linear decay, seed {options.seed}. Training seconds include "
        f"compilation.\n\n{table(header, rows)}"
    )
    publish("ner_heads", "Entity heads on real data", "python -m benchmarks.ner_heads", body, options.write)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", nargs="+", default=["CLUENER", "People's Daily"])
    parser.add_argument("--heads", nargs="+", default=list(HEADS))
    parser.add_argument("--steps", type=int, default=650, help="rounded to whole epochs")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import kexue  # noqa: F401  chooses the backend

    rows = []
    for name, (train, test) in datasets(data_folder(), options.data).items():
        for head in options.heads:
            precision, recall, f1, seconds, speed = run(train, test, HEADS[head], options)
            rows.append(
                (name, head, *(f"{100 * v:.2f}" for v in (precision, recall, f1)), f"{seconds:.0f}", f"{speed:.0f}")
            )
            print(rows[-1], flush=True)
            report(rows, options)


if __name__ == "__main__":
    main()
