"""Vocabularies and paths that several tests share."""

import os
from pathlib import Path

import pytest
from tests.text.spiece import write
from tests.text.spiece_families import FILES, FIRST, family_bytes

from kexue.text import Tokenizer

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CHARS = list("abcdefghijklmnopqrstuvwxyzαβσ0123456789中国北京上海天气今好不错的了。，！？,.!?()[]'\"-中ａᄀが❤")
PIECES = ["hello", "world", "##s", "un", "##aff", "##able", "cafe", "今天", "天气", "北京", "is", "##ing"]


class Vocabulary(list):
    def __repr__(self) -> str:  # hypothesis prints the arguments of failing tests
        return f"<{len(self)} tokens>"


def small_vocabulary() -> list[str]:
    chars = list(dict.fromkeys(CHARS))
    return Vocabulary(dict.fromkeys(SPECIALS + chars + ["##" + c for c in chars if c.isalnum()] + PIECES))


@pytest.fixture(scope="session")
def vocabulary() -> list[str]:
    return small_vocabulary()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("KEXUE_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; set KEXUE_DATA")
    return folder


@pytest.fixture(scope="session")
def family_folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {family: write(root / family, FILES.get(family, "spiece.model"), family_bytes(family)) for family in FIRST}


@pytest.fixture(scope="session")
def tokenizers_of(family_folders):
    return {family: Tokenizer.from_pretrained(folder, family=family) for family, folder in family_folders.items()}
