"""WebQA by writing: zh-mini reads encyclopaedia and forum snippets, one alone or five of which four are about other things.

python examples/reading/webqa.py [--data FOLDER] [--epochs 5] [--output runs/webqa]

The data set has one passage for each question, and it always holds the answer. Here each question gets passages of other
questions beside it, so that the reader must learn to say "not here": two for training, four for the second score. A
fifth of the questions is held out, with no passage in common with the rest.
"""

import argparse
import os
import time
from pathlib import Path

import kexue  # noqa: F401  chooses the backend
from kexue.tasks import Reader
from kexue.text import read_reading, split_reading
from kexue.text.answer_scores import score_answers
import numpy as np


def with_others(records: list[dict], count: int, seed: int) -> list[dict]:
    """Records with so many passages of other records beside their own, in random order."""
    rng = np.random.default_rng(seed)
    found = []
    for n, record in enumerate(records):
        others = rng.choice([i for i in range(len(records)) if i != n], count, replace=False)
        passages = [*record["passages"], *(records[i]["passages"][0] for i in others)]
        found.append(record | {"passages": [passages[i] for i in rng.permutation(len(passages))]})
    return found


def main() -> None:
    """Train and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("KEXUE_DATA"), help="default: KEXUE_DATA")
    parser.add_argument("--model", default="zh-mini")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--output", default="runs/webqa")
    parser.add_argument("--limit", type=int, help="only so many questions (a trial)")
    options = parser.parse_args()
    if options.data is None:
        parser.error("set KEXUE_DATA to the folder that holds mrc/, or give --data")
    records = read_reading(Path(options.data) / "mrc" / "webqa" / "me_test.ann.json")[: options.limit]
    train, test = split_reading(records, 0.8, seed=0)
    sizes = {"max_passage": 128, "max_question": 48, "max_answer": 16}
    reader = Reader.from_pretrained(options.model, seed=0, dtype=options.dtype, **sizes)
    began = time.perf_counter()
    reader.fit(
        with_others(train, 2, seed=1),
        epochs=options.epochs,
        batch_size=16,
        learning_rate=options.rate,
        negatives=0.25,
        resume=f"{options.output}-training",
        verbose=2,
    )
    print(f"{time.perf_counter() - began:.0f} s of training on {len(train):,} questions")
    reader.save(options.output)
    began = time.perf_counter()
    print(f"\n{len(test):,} questions held out, each with its own passage")
    for mode in ("extractive", "generative"):
        print(f"\n{mode}\n{reader.evaluate(test, mode=mode).table()}")
    print("\nextractive, an answer in any case")
    print(reader.evaluate(test, must_answer=True).table())
    five = with_others(test, 4, seed=2)
    print("\nEach with four other passages")
    for vote in ("confidence", "mean", "log_mean", "product"):
        found = reader.predict(five, vote=vote, batch_size=16)
        own = [record["passages"].index(one["passages"][0]) for record, one in zip(five, test, strict=True)]
        right = np.mean([answer["passage"] == place for answer, place in zip(found, own, strict=True)])
        print(f"\nvote {vote}, {right:.1%} from the question's own passage")
        print(score_answers([one["text"] for one in found], [record["answers"] for record in five]).table())
    print(f"\n{time.perf_counter() - began:.0f} s for all scores. Some answers:")
    for record in five[:5]:
        answer = reader.predict(record)
        print(f"- {record['question']} {answer['text'] or '(none)'} [{', '.join(record['answers'])}]")


if __name__ == "__main__":
    main()
