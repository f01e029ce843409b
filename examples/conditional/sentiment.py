"""Reviews written to order: good or bad, by a conditional language model, judged by a classifier that it never met.

    python -m examples.conditional.sentiment --output runs/sentiment [--epochs 2] [--texts 300]

The reviews (the set of bert4keras' examples) are divided: 3,000 for the language model, 7,000 for the judge, its test
file for neither. Both begin with the weights of zh-mini. A run that was killed goes on where it was.
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
from kexue.files import atomic_write
from kexue.models import Transformer
from kexue.tasks import ConditionalLM
from kexue.text import Tokenizer, cut_at_pauses
from kexue.training.seeding import seeded_weights

LABELS = ("bad", "good")
MAX_LENGTH = 128
DTYPE = "mixed_bfloat16"  # of the trainings
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
        "lm": [rest[i] for i in order[:3000]],
        "judge": [rest[i] for i in order[5000:12_000]],
        "test": parts["test"],
    }


class Grams:
    """A second judge of another kind: logistic regression on runs of one to three characters."""

    def __init__(self, records: list[Record]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        words = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True)
        self.model = make_pipeline(words, LogisticRegression(C=10, max_iter=200))
        self.model.fit([record["text"] for record in records], [record["label"] for record in records])

    def right(self, records: list[Record]) -> np.ndarray:
        """Whether each text is taken for what its record says."""
        return self.model.predict([record["text"] for record in records]) == [record["label"] for record in records]


class Judge:
    """An encoder with mean pooling and one layer, trained on pieces of reviews as long as those that are generated."""

    def __init__(self, folder: Path, records: list[Record], epochs: int) -> None:
        self.tokenizer = Tokenizer.from_pretrained("zh-mini")
        encoder = Transformer.from_pretrained("zh-mini", mask="bidirectional", dtype=DTYPE)
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


def figures(judges: dict[str, Any], records: list[Record], known: set[str]) -> list[str]:
    """A line of the table."""
    found = variety([record["text"] for record in records], known)
    shares = []
    for judge in judges.values():
        right = judge.right(records)
        shares.append(f"{100 * right.mean():.1f} %")
        of = [100 * right[[record["label"] == label for record in records]].mean() for label in LABELS]
        shares.append(" / ".join(f"{share:.1f}" for share in of))
    distinct = [f"{found[f'distinct-{n}']:.3f}" for n in (1, 2, 4)]
    more = [f"{100 * found[name]:.1f} %" for name in ("repeating", "copied")]
    return [str(len(records)), *shares, f"{found['characters']:.0f}", *distinct, *more]


def language_model(folder: Path, records: list[Record], epochs: int) -> ConditionalLM:
    """zh-mini on reviews and their labels: trained, or read where it was saved."""
    saved = folder / "lm"
    if not (saved / "task.json").is_file():
        lm = ConditionalLM.from_pretrained(
            "zh-mini", labels=LABELS, max_length=MAX_LENGTH, segment=1, seed=0, dtype=DTYPE
        )
        rates = {"learning_rate": 1e-3, "condition_learning_rate": 1e-3}
        lm.fit(records, epochs=epochs, **rates, seed=0, resume=folder / "state", save_every=20, verbose=2)
        lm.save(saved)
    return ConditionalLM.load(saved)


def write(lm: ConditionalLM, path: Path, weight: float, count: int) -> list[Record]:
    """``count`` texts for each label, from the file where they are written already."""
    if not path.is_file():
        search = Sample(top_k=500, top_p=0.95, seed=1000)
        found = lm.predict(list(LABELS), search, n=count, guidance=weight, batch_size=64)
        records = [{"text": t, "label": label} for label, texts in zip(LABELS, found, strict=True) for t in texts]
        with atomic_write(path) as temporary:
            lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
            temporary.write_text("".join(lines), encoding="utf-8")
        print(f"w = {weight:g}: {len(records)} texts written", flush=True)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Train, write, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/sentiment"))
    parser.add_argument("--epochs", type=int, default=2, help="of the language model")
    parser.add_argument("--judge-epochs", type=int, default=2)
    parser.add_argument("--judges", nargs="+", choices=("encoder", "n-grams"), default=["encoder", "n-grams"])
    parser.add_argument("--texts", type=int, default=250, help="for each label and weight")
    parser.add_argument("--weights", type=float, nargs="+", default=[1.0, 2.0, 3.0, 5.0, 0.0])
    options = parser.parse_args()
    data = read(data_folder() / "cls" / "sentiment" / "datasets" / "sentiment.zip")
    options.output.mkdir(parents=True, exist_ok=True)

    lm = language_model(options.output, data["lm"], options.epochs)
    names = {w: options.output / f"texts-{w:g}-{options.texts}.jsonl" for w in options.weights}
    written = {w: write(lm, path, w, options.texts) for w, path in names.items()}

    judged = pieces(lm.tokenizer, data["judge"])
    makers = {"encoder": lambda: Judge(options.output, judged, options.judge_epochs), "n-grams": lambda: Grams(judged)}
    judges = {name: makers[name]() for name in options.judges}
    learnt = [record["text"] for record in pieces(lm.tokenizer, data["lm"])]
    known = {text[i : i + 10] for text in learnt for i in range(len(text))}
    real = pieces(lm.tokenizer, data["test"])
    few = [real[i] for i in np.random.default_rng(0).permutation(len(real))[: 2 * options.texts]]
    lines = [["real", *figures(judges, real, known)], ["real, as many", *figures(judges, few, known)]]
    lines += [[f"w = {w:g}", *figures(judges, records, known)] for w, records in written.items()]
    shares = [column for name in judges for column in (f"right by {name}", " / ".join(LABELS))]
    measures = ["characters", "distinct-1", "-2", "-4", "repeating", "copied"]
    print(f"\n{table(['texts', 'number', *shares, *measures], lines)}\n")
    for w, records in written.items():
        for place in (0, options.texts):
            print(f"- w = {w:g}, {records[place]['label']}: {records[place]['text']}")
    scores = lm.evaluate(data["test"][:300])
    print("\nlanguage model on 300 test reviews: " + json.dumps({name: round(x, 3) for name, x in scores.items()}))


if __name__ == "__main__":
    main()
