"""CMRC 2018 and DRCD by writing (`Reader`) or by pointing (`SpanReader`), from zh-mini.

python examples/reading/squad_style.py cmrc|drcd write|point [--data FOLDER] [--epochs 3] [--output runs/reading]

Only the development sets (and DRCD's test set) are at hand. CMRC 2018: trained on the questions of four fifths of the
articles of the development set, scored on the rest. DRCD: trained on the development set, scored on the questions of the
test set about articles that the development set does not have. No passage is on both sides.

zh-mini knows no traditional characters; with the package opencc installed DRCD is read in simplified ones (--original
leaves it as it is).
"""

import argparse
import os
import time
from pathlib import Path

import kexue  # noqa: F401  chooses the backend
from kexue.tasks import Reader, SpanReader
from kexue.text import read_reading, split_reading


def simplified(records: list[dict]) -> list[dict]:
    """Texts in simplified characters, each as long as before, so that places stay."""
    from opencc import OpenCC

    convert = OpenCC("t2s").convert
    known: dict[str, str] = {}

    def change(text: str) -> str:
        if text not in known:
            known[text] = convert(text)
            assert len(known[text]) == len(text)
        return known[text]

    names = ("passages", "answers")
    return [
        record | {"question": change(record["question"])} | {name: [change(t) for t in record[name]] for name in names}
        for record in records
    ]


def load(name: str, data: Path, original: bool) -> tuple[list[dict], list[dict]]:
    """Questions to train on and to score."""
    if name == "cmrc":
        return split_reading(read_reading(data / "cmrc2018" / "squad-style-data" / "cmrc2018_dev.json"), 0.8, seed=0)
    train, test = (read_reading(data / "drcd" / f"DRCD_{part}.json") for part in ("dev", "test"))
    seen = {record["group"] for record in train}
    test = [record for record in test if record["group"] not in seen]
    return (train, test) if original else (simplified(train), simplified(test))


def main() -> None:
    """Train and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("cmrc", "drcd"))
    parser.add_argument("method", choices=("write", "point"))
    parser.add_argument("--data", type=Path, default=os.environ.get("KEXUE_DATA"), help="default: KEXUE_DATA")
    parser.add_argument("--model", default="zh-mini")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--original", action="store_true", help="leave DRCD in traditional characters")
    parser.add_argument("--output", default="runs/reading")
    parser.add_argument("--scored", type=int, default=1000, help="at most so many questions are scored, the first ones")
    parser.add_argument("--limit", type=int, help="only so many questions of each part (a trial)")
    options = parser.parse_args()
    if options.data is None:
        parser.error("set KEXUE_DATA to the folder that holds mrc/, or give --data")
    train, test = (part[: options.limit] for part in load(options.set, Path(options.data) / "mrc", options.original))
    task = Reader if options.method == "write" else SpanReader
    sizes = {"max_passage": 128, "max_question": 40, "max_answer": 32, "stride": 94}
    test = test[: options.scored]
    reader = task.from_pretrained(options.model, seed=0, dtype=options.dtype, **sizes)
    began = time.perf_counter()
    folder = f"{options.output}-{options.set}-{options.method}"
    reader.fit(
        train,
        epochs=options.epochs,
        batch_size=16,
        learning_rate=options.rate,
        negatives=0.25,
        resume=f"{folder}-training",
        verbose=2,
    )
    articles = [len({record["group"] for record in part}) for part in (train, test)]
    print(f"{time.perf_counter() - began:.0f} s of training on {len(train):,} questions about {articles[0]} articles")
    reader.save(folder)
    began = time.perf_counter()
    print(f"\n{len(test):,} questions about {articles[1]} other articles, an answer to each")
    print(reader.evaluate(test, must_answer=True).table())
    print(f"{time.perf_counter() - began:.0f} s. Some answers:")
    for record in test[:5]:
        answer = reader.predict(record, must_answer=True)
        print(f"- {record['question']} {answer['text']} [{', '.join(record['answers'])}]")


if __name__ == "__main__":
    main()
