"""A small tokenizer and corpora of random text."""

import random

import pytest

from kexue.text import Tokenizer
from kexue.text.corpus import build_shards

CHARACTERS = "中国北京上海天气今好不错的了。，！"
WORDS = ["hello", "worlds", "unaffable", "cafés", "12", "is", "zzz"]
ALPHABET = [*CHARACTERS, *"abcdefghijklmnopqrstuvwxyz0123456789,.!?()[]'-中国", "##unused"]
PIECES = ["hello", "world", "un", "##aff", "##able", "cafe", "##s", "is"]


def make_documents(count: int, seed: int = 0, longest: int = 60) -> list[list[str]]:
    rng = random.Random(seed)
    documents = []
    for _ in range(count):
        parts = []
        for _ in range(rng.randint(1, 5)):
            part = "".join(rng.choice(CHARACTERS) for _ in range(rng.randint(1, longest)))
            parts.append(" ".join([part, *rng.choices(WORDS, k=rng.randint(0, 4))]))
        documents.append(parts)
    return documents


def write_txt(path, documents):
    path.write_text("\n\n".join("\n".join(document) for document in documents) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    letters = [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"]
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return Tokenizer.from_vocab(list(dict.fromkeys([*specials, *ALPHABET, *letters, *PIECES])))


@pytest.fixture(scope="session")
def shards(tokenizer, tmp_path_factory):
    root = tmp_path_factory.mktemp("corpora")
    long = write_txt(root / "long.txt", make_documents(300))
    short = write_txt(root / "short.txt", make_documents(500, seed=1, longest=12))
    pairs = root / "pairs.tsv"
    pairs.write_text(
        "".join(f"{a[0]}\t{b[0]}\n" for a, b in zip(make_documents(200, 2), make_documents(200, 3), strict=False))
    )
    corpora = {"long": long, "short": short, "pairs": pairs}
    return build_shards(corpora, tokenizer, root / "shards", holdout=0.1)
