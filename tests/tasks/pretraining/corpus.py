"""A small corpus with structure to learn, its vocabulary and shards."""

import numpy as np

from kexue.text import Tokenizer
from kexue.text.corpus import build_shards

LETTERS = "天地玄黄宇宙洪荒日月盈昃辰宿列张"
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tokenizer():
    return Tokenizer.from_vocab([*SPECIALS, *LETTERS, "。", "，"])


def write(folder, documents=300, seed=0):
    """Sentences in which each character tells the next; pairs whose second half repeats the first."""
    rng = np.random.default_rng(seed)

    def sentence(size):
        first = rng.integers(len(LETTERS))
        return "".join(LETTERS[(first + i) % len(LETTERS)] for i in range(size + 2)) + "。"

    plain = "\n\n".join("\n".join(sentence(rng.integers(3, 12)) for _ in range(4)) for _ in range(documents))
    (folder / "plain.txt").write_text(plain, encoding="utf-8")
    halves = [sentence(rng.integers(3, 9)) for _ in range(documents)]
    (folder / "pairs.tsv").write_text("".join(f"{half}\t{half}\n" for half in halves), encoding="utf-8")
    return {"plain": folder / "plain.txt", "pairs": folder / "pairs.tsv"}


def shards(folder, **options):
    return build_shards(write(folder), tokenizer(), folder / "shards", holdout=0.1, progress=False, **options)
