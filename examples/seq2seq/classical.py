"""Classical to modern Chinese with zh-mini.

KEXUE_DATA=data python examples/seq2seq/classical.py [--model zh-mini] [--output runs/classical]

The corpus is in book order. Trained on 20,000 pairs of its first seven tenths. Tested on those of the last two tenths
that zh-mini did not see in its pretraining (its held-out documents) and of which neither side occurs anywhere else in
the corpus; pairs of the same kind from the tenth between choose the best epoch. Other sentences of the test's books
zh-mini has seen in its pretraining.
"""

from collections import Counter
from pathlib import Path

from common import Data, main, pairs_of
from kexue.text.corpus import held_out, read_corpus

SETTINGS = {"max_source": 80, "max_target": 96, "epochs": 1, "batch_size": 32, "learning_rate": 1e-3}
TRAIN = 20_000


def data(folder: Path) -> Data:
    """Every so manieth pair of the first part for training."""
    documents = list(read_corpus(folder / "corpora" / "classical_modern.tsv.xz"))
    sides = [Counter(document[side] for document in documents) for side in (0, 1)]
    unseen = [
        index
        for index, document in enumerate(documents)
        if held_out(0, "classical_modern", index, 0.005)
        and all(count[text] == 1 for count, text in zip(sides, document, strict=True))
    ]
    first, second = len(documents) * 7 // 10, len(documents) * 8 // 10
    train = range(0, first, first // TRAIN)[:TRAIN]
    valid = [index for index in unseen if first <= index < second]
    test = [index for index in unseen if index >= second]
    return Data(*(pairs_of(documents[index] for index in part) for part in (train, valid, test)))


def trivial(source: str) -> str:
    """Copy the source."""
    return source


if __name__ == "__main__":
    main(__doc__, data, SETTINGS, trivial)
