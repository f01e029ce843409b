"""The second line of a couplet from the first, with zh-mini.

KEXUE_DATA=data python examples/seq2seq/couplets.py [--model zh-mini] [--output runs/couplets]

Of the 3,834 couplets of the data (a test part whose training part they lack), in the order of the file, the first
3,034 train, 300 choose the best epoch, the last 500 test. zh-mini has seen verse, no such couplets.
"""

from pathlib import Path

from common import Data, main, pairs_of

SETTINGS = {"max_source": 40, "max_target": 40, "epochs": 6, "batch_size": 32, "learning_rate": 1e-3}


def data(folder: Path) -> Data:
    """Two files of lines, a space after each character."""
    lines = [
        (folder / "seq" / "couplet" / "test" / f"{name}.txt").read_text(encoding="utf-8").replace(" ", "").splitlines()
        for name in ("in", "out")
    ]
    pairs = pairs_of(pair for pair in zip(*lines, strict=True) if all(pair))
    return Data(pairs[:-800], pairs[-800:-500], pairs[-500:])


def trivial(source: str) -> str:
    """Copy the source."""
    return source


if __name__ == "__main__":
    main(__doc__, data, SETTINGS, trivial)
