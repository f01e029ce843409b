"""Pieces of long texts."""

import numpy as np
import pytest

from kexue.errors import ConfigError
from kexue.text import Tokenizer, cut_at_pauses

TOKENIZER = Tokenizer.from_vocab(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"一二三四五，。！”ab", "##a", "##b", ".", ",", "c", "##c"], lowercase=False
)


def pieces(text: str, limit: int) -> list[str]:
    return ["".join(TOKENIZER.vocabulary[i].removeprefix("##") for i in piece) for piece in cut(text, limit)]


def cut(text: str, limit: int) -> list[np.ndarray]:
    return cut_at_pauses(TOKENIZER.encode(text), limit)


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("一二三", 5, ["一二三"]),
        ("一二。三四，五一二", 6, ["一二。三四，", "五一二"]),  # no sentence ends in the second half
        ("一二三。四，五一", 6, ["一二三。", "四，五一"]),  # the sentence's end before the later comma
        ("一二三。四五。一", 7, ["一二三。四五。", "一"]),  # the last of several
        ("一二三！”四五一", 6, ["一二三！”", "四五一"]),  # a closing mark stays with its sentence
        ("一二三四五一", 4, ["一二三四", "五一"]),  # nothing to go by
        ("一二三 四五一二", 5, ["一二三", "四五一二"]),  # white space is a pause without a token
        ("a b c. a, b c a", 7, ["abc.", "a,bca"]),  # a full stop before a space ends a sentence
        ("a b c.a, b c a", 7, ["abc.a,", "bca"]),  # that of a number does not
        ("a.ccc", 3, ["a.", "ccc"]),
        ("一二abc", 4, ["一二", "abc"]),  # a word stays whole
        ("abcabc", 4, ["abca", "bc"]),  # unless it is longer than a piece
        ("", 4, []),
        ("   ", 4, []),
    ],
)
def test_pieces(text: str, limit: int, expected: list[str]) -> None:
    assert pieces(text, limit) == expected


def test_nothing_is_lost() -> None:
    """Any text, any limit: all tokens in order, none too long."""
    rng = np.random.default_rng(0)
    for limit in (1, 2, 3, 7, 20):
        for _ in range(20):
            text = "".join(rng.choice(list("一二三四五，。！”ab. \n"), 40))
            encoding = TOKENIZER.encode(text)
            found = cut_at_pauses(encoding, limit)
            assert np.concatenate(found).tolist() == encoding.token_ids[~encoding.special].tolist()
            assert all(1 <= len(piece) <= limit for piece in found)


def test_limit() -> None:
    with pytest.raises(ConfigError, match="limit=0"):
        cut("一", 0)
