"""CMRC 2018 and DRCD by writing (`Reader`) or by pointing (`SpanReader`), from zh-mini.

python examples/reading/squad_style.py cmrc|drcd write|point [--data FOLDER] [--epochs 2] [--output runs/reading]

Only the development sets (and DRCD's test set) are at hand. CMRC 2018: trained on the questions of four fifths of the
articles of the development set, scored on the rest. DRCD: trained on the development set, scored on the questions of
the test set about articles that the development set does not have. No passage is on both sides. Every question has an
answer, so that one is given in any case.

zh-mini knows no traditional characters; with the package opencc installed DRCD is read in simplified ones (--original
leaves it as it is).
"""

from pathlib import Path

import common
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
    seen = {record["group"] for record in train} | {passage for record in train for passage in record["passages"]}
    test = [record for record in test if not {record["group"], *record["passages"]} & seen]
    return (train, test) if original else (simplified(train), simplified(test))


def main() -> None:
    """Train and print the scores."""
    parser = common.options(__doc__, epochs=2)
    parser.add_argument("set", choices=("cmrc", "drcd"))
    parser.add_argument("method", choices=("write", "point"))
    parser.add_argument("--original", action="store_true", help="leave DRCD in traditional characters")
    parser.add_argument("--scored", type=int, default=400, help="at most so many questions are scored, the first ones")
    given = parser.parse_args()
    train, test = (part[: given.limit] for part in load(given.set, common.folder_of(parser, given), given.original))
    articles = [len({record["group"] for record in part}) for part in (train, test)]
    print(
        f"{len(train):,} questions about {articles[0]} articles to train on, {len(test):,} about {articles[1]} others"
    )
    folder = given.output / f"{given.set}-{given.method}"
    task = Reader if given.method == "write" else SpanReader
    sizes = {"max_passage": 128, "max_question": 40, "max_answer": 32, "stride": 94}
    reader = common.trained(task, train, folder, given, **sizes)
    test = test[: given.scored]
    common.note(folder, {f"{given.set}, {given.method}": reader.evaluate(test, must_answer=True)})
    print("\nSome answers:")
    for record, answer in zip(test[:5], reader.predict(test[:5], must_answer=True), strict=True):
        print(f"- {record['question']} {answer['text']} [{', '.join(record['answers'])}]")


if __name__ == "__main__":
    main()
