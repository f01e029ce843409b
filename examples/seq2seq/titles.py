"""Titles of papers from their abstracts (CSL) with zh-mini.

KEXUE_DATA=data python examples/seq2seq/titles.py [--model zh-mini] [--output runs/titles]

CSL's training part is not in the data: trained on 900 of the 1,000 pairs of its development part, the last 100 choose
the best epoch; tested on the 1,000 pairs of its test part. zh-mini has not seen any paper.
"""

import re
from pathlib import Path

from common import Data, main
from kexue.text import read_pairs

SETTINGS = {"max_source": 224, "max_target": 40, "epochs": 5, "batch_size": 16, "learning_rate": 1e-3}


def data(folder: Path) -> Data:
    """900, 100 and 1,000 pairs."""
    dev, test = (read_pairs(folder / "seq" / "csl" / "benchmark" / "ts" / f"{name}.tsv") for name in ("dev", "test"))
    return Data(dev[:900], dev[900:], test)


def trivial(source: str) -> str:
    """The first sentence, as far as the first comma or stop."""
    return re.split(r"[,，。.;；:：]", source, maxsplit=1)[0]


if __name__ == "__main__":
    main(__doc__, data, SETTINGS, trivial)
