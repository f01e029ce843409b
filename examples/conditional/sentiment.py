"""Reviews written to order: good or bad, by a conditional language model, judged by a classifier that it never met.

    python -m examples.conditional.sentiment --output runs/sentiment [--epochs 2] [--texts 300]

The reviews (the set of bert4keras' examples) are divided: 10,000 for the language model, the rest of its training and
validation files for the judge, its test file for neither. Both begin with the weights of zh-mini. A run that was killed
goes on where it was.
"""

import argparse
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import kexue  # noqa: F401  chooses the backend
import numpy as np

from benchmarks.downstream_train import Row, network, outputs, train
from benchmarks.report import data_folder, table
from kexue.decoding import Sample
from kexue.models import Transformer
from kexue.tasks import ConditionalLM
from kexue.text import Tokenizer, cut_at_pauses
from kexue.training.seeding import seeded_weights

LABELS = ("bad", "good")
MAX_LENGTH = 128
Record = dict[str, Any]


def read(path: Path) -> dict[str, list[Record]]:
    """``lm``, ``judge`` and ``test``: reviews without repetitions, in an order that never changes."""
    parts: dict[str, list[Record]] = {}
    seen: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        for part in ("test", "valid", "train"):
            lines = archive.read(f"sentiment/sentiment.{part}.data").decode("utf-8").split("\n")
            pairs = [line.rsplit("\t", 1) for line in lines if line.strip()]
            fresh = dict(pair for pair in pairs if pair[0] not in seen)
            seen |= set(fresh)
            parts[part] = [{"text": text, "label": LABELS[int(label)]} for text, label in fresh.items()]
    rest = parts["train"] + parts["valid"]
    order = np.random.default_rng(0).permutation(len(rest))
    return {
        "lm": [rest[i] for i in order[:10_000]],
        "judge": [rest[i] for i in order[10_000:]],
        "test": parts["test"],
    }


class Judge:
    """An encoder with mean pooling and one layer, trained on pieces of reviews as long as those that are generated."""

    def __init__(self, folder: Path, records: list[Record], epochs: int) -> None:
        self.tokenizer = Tokenizer.from_pretrained("zh-mini")
        encoder = Transformer.from_pretrained("zh-mini", mask="bidirectional", dropout=0.1, attention_dropout=0.1)
        with seeded_weights(1):
            self.model = network(encoder, "class")
        weights = folder / "judge.weights.h5"
        if weights.is_file():
            self.model.load_weights(weights)
            return
        options = {"batch_size": 32, "max_length": MAX_LENGTH, "learning_rate": 5e-4, "head_learning_rate": 1e-3}
        train(self.model, encoder, self.rows(records), "class", epochs=epochs, seed=1, name="judge", **options)
        self.model.save_weights(weights)

    def rows(self, records: list[Record]) -> list[Row]:
        """Texts of at most `MAX_LENGTH` tokens."""
        encodings = self.tokenizer.encode_batch([record["text"] for record in records], max_length=MAX_LENGTH)
        return [Row((e,), LABELS.index(record["label"])) for e, record in zip(encodings, records, strict=True)]

    def right(self, records: list[Record]) -> np.ndarray:
        """Whether each text is taken for what its record says."""
        rows = self.rows(records)
        logits = outputs(self.model, rows, "class", batch_size=64, max_length=MAX_LENGTH)
        return np.array([value.argmax() == row.target for value, row in zip(logits, rows, strict=True)])


def pieces(tokenizer: Tokenizer, records: list[Record]) -> list[Record]:
    """Reviews cut as the language model learns them."""
    encoded = tokenizer.encode_batch([record["text"] for record in records])
    return [
        {"text": tokenizer.decode(piece), "label": record["label"]}
        for record, encoding in zip(records, encoded, strict=True)
        for piece in cut_at_pauses(encoding, MAX_LENGTH - 2)
    ]


def variety(texts: list[str], known: set[str]) -> dict[str, float]:
    """How texts repeat: distinct n-grams among all, texts that say four characters twice, and what is copied.

    Args:
        texts: to look at.
        known: runs of ten characters of the training texts.
    """
    grams = {n: Counter(text[i : i + n] for text in texts for i in range(len(text) - n + 1)) for n in (1, 2, 4, 10)}
    twice = [max(Counter(text[i : i + 4] for i in range(len(text) - 3)).values(), default=0) > 1 for text in texts]
    copied = sum(count for gram, count in grams[10].items() if gram in known)
    return {
        "characters": float(np.mean([len(text) for text in texts])),
        "distinct-1": len(grams[1]) / grams[1].total(),
        "distinct-2": len(grams[2]) / grams[2].total(),
        "distinct-4": len(grams[4]) / grams[4].total(),
        "repeating": float(np.mean(twice)),
        "copied": copied / max(1, grams[10].total()),
    }


def figures(right: np.ndarray, records: list[Record], known: set[str]) -> list[str]:
    """A line of the table."""
    found = variety([record["text"] for record in records], known)
    of = {label: right[[record["label"] == label for record in records]] for label in LABELS}
    shares = [f"{100 * x.mean():.1f} %" for x in (right, *of.values())]
    distinct = [f"{found[f'distinct-{n}']:.3f}" for n in (1, 2, 4)]
    more = [f"{100 * found[name]:.1f} %" for name in ("repeating", "copied")]
    return [str(len(records)), *shares, f"{found['characters']:.0f}", *distinct, *more]


def main() -> None:
    """Train, write, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/sentiment"))
    parser.add_argument("--epochs", type=int, default=2, help="of the language model")
    parser.add_argument("--judge-epochs", type=int, default=2)
    parser.add_argument("--texts", type=int, default=300, help="for each label and weight")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 1.0, 1.5, 2.0, 3.0, 5.0])
    parser.add_argument("--top-p", type=float, default=0.95)
    options = parser.parse_args()
    data = read(data_folder() / "cls" / "sentiment" / "datasets" / "sentiment.zip")
    options.output.mkdir(parents=True, exist_ok=True)

    saved = options.output / "lm"
    if (saved / "task.json").is_file():
        lm = ConditionalLM.load(saved)
    else:
        lm = ConditionalLM.from_pretrained("zh-mini", labels=LABELS, max_length=MAX_LENGTH, segment=1, seed=0)
        rates = {"learning_rate": 1e-3, "condition_learning_rate": 1e-3}
        state = options.output / "state"
        lm.fit(data["lm"], epochs=options.epochs, **rates, seed=0, resume=state, save_every=100, verbose=2)
        lm.save(saved)
    scores = lm.evaluate(data["test"])
    print("language model on the test reviews: " + json.dumps({name: round(x, 3) for name, x in scores.items()}))

    judge = Judge(options.output, pieces(lm.tokenizer, data["judge"]), options.judge_epochs)
    tests = pieces(lm.tokenizer, data["test"])
    learnt = [record["text"] for record in pieces(lm.tokenizer, data["lm"])]
    known = {text[i : i + 10] for text in learnt for i in range(len(text))}
    lines = [["real", *figures(judge.right(tests), tests, known)]]
    few = [tests[i] for i in np.random.default_rng(0).permutation(len(tests))[: 2 * options.texts]]
    lines.append(["real, as many", *figures(judge.right(few), few, known)])
    examples = []
    for weight in options.weights:
        search = Sample(top_p=options.top_p, seed=1000)
        found = lm.predict(list(LABELS), search, n=options.texts, guidance=weight, batch_size=32)
        records = [{"text": t, "label": label} for label, texts in zip(LABELS, found, strict=True) for t in texts]
        lines.append([f"w = {weight:g}", *figures(judge.right(records), records, known)])
        examples += [f"- w = {weight:g}, {label}: {texts[0]}" for label, texts in zip(LABELS, found, strict=True)]
        print(" | ".join(lines[-1]), flush=True)
        (options.output / f"texts-{weight:g}.jsonl").write_text(
            "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8"
        )
    header = ["texts", "number", "judged right", *LABELS, "characters", "distinct-1", "-2", "-4", "repeating", "copied"]
    print(f"\n{table(header, lines)}\n\n" + "\n".join(examples))


if __name__ == "__main__":
    main()
