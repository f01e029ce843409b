"""WebQA by writing: zh-mini reads snippets of the web, one alone or five of which four are about other things.

python examples/reading/webqa.py [--data FOLDER] [--epochs 5] [--output runs/reading]

The data set has one passage for each question, and it always holds the answer. Here each question gets passages of
other questions beside it, so that the reader must learn to say "not here": two for training, four for the second score.
A fifth of the questions is held out, with no passage in common with the rest.
"""

import common
from kexue.tasks import Reader
from kexue.text import read_reading, split_reading
from kexue.text.answer_scores import score_answers
import numpy as np

VOTES = ("confidence", "mean", "log_mean", "product")


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
    parser = common.options(__doc__, epochs=5)
    given = parser.parse_args()
    records = read_reading(common.folder_of(parser, given) / "webqa" / "me_test.ann.json")[: given.limit]
    train, test = split_reading(records, 0.8, seed=0)
    folder = given.output / "webqa-write"
    sizes = {"max_passage": 128, "max_question": 48, "max_answer": 16}
    reader = common.trained(Reader, with_others(train, 2, seed=1), folder, given, **sizes)
    options = {"batch_size": 16}
    rows = {
        "own passage": reader.evaluate(test, **options),
        "own passage, generative": reader.evaluate(test, mode="generative", **options),
        "own passage, an answer in any case": reader.evaluate(test, must_answer=True, **options),
    }
    five = with_others(test, 4, seed=2)
    own = [record["passages"].index(one["passages"][0]) for record, one in zip(five, test, strict=True)]
    for vote in VOTES:
        found = reader.predict(five, vote=vote, cut=True, **options)
        right = np.mean([answer["passage"] == place for answer, place in zip(found, own, strict=True)])
        print(f"five passages, vote {vote}: {right:.1%} of the questions are answered from their own")
        answers = [record["answers"] for record in five]
        rows[f"five passages, {vote}"] = score_answers([one["text"] for one in found], answers)
    common.note(folder, rows)
    print("\nSome answers:")
    for record, answer in zip(five[:5], found, strict=False):
        print(f"- {record['question']} {answer['text'] or '(none)'} [{', '.join(record['answers'])}]")


if __name__ == "__main__":
    main()
