"""Scores of answers against values worked out by hand, against brute force, and against NLTK's words."""

from collections import Counter
from difflib import SequenceMatcher

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue.errors import DataError
from kexue.text.answer_scores import (
    answer_f1,
    exact_match,
    longest_common_run,
    score_answers,
    segments,
    sogou_accuracy,
    sogou_f1,
)


def test_segments() -> None:
    """Punctuation goes before runs are formed; characters one by one, words as the Penn Treebank has them."""
    assert segments("光荣和Omega Force，2.5版") == ["光", "荣", "和", "omega", "force2.5", "版"]
    assert segments("3.5-inch (old) disk's.") == ["3.5inch", "(", "old", ")", "disk", "'s", "."]
    assert segments("1,000人") == ["1,000", "人"]
    assert segments(" ，。") == []


@pytest.mark.peer
@pytest.mark.parametrize(
    "text",
    [
        "omega force", "a, b and 1,000.5 (about) it's 5%", "what?! \"quoted\" [x] {y} <z>", "don't we'll i'm you'd ",
        "mr. smith... went", "a&b c@d #e $5; end.", "'single' quotes", "u.s.a. and e.g. this", "end.)",
        "$1.2bn", "\"r. d", "a—b ‘c",
        "o'neil",
    ],
)  # fmt: skip
def test_words_are_those_of_nltk(text: str) -> None:
    tokenize = pytest.importorskip("nltk.tokenize").NLTKWordTokenizer().tokenize
    # Characters that CMRC's script leaves out never reach the tokenizer.
    assert segments(text) == tokenize(text.lower().strip())


def test_cmrc_by_hand() -> None:
    assert exact_match("《光荣》。", ["任天堂", "光荣"]) == 1
    assert exact_match("光", ["光荣"]) == 0
    assert exact_match(" ABC ", ["abc"]) == 1
    assert exact_match("a b", ["ab"]) == 0  # blanks inside count
    # A common run of two, of four and two characters: 2 * 2 / (4 + 2).
    assert answer_f1("光荣公司", ["光荣", "公司名"]) == pytest.approx(2 / 3)
    # The longest run counts, not all that is common: 甲 乙, not 丁.
    assert answer_f1("甲乙丙丁", ["甲乙戊丁"]) == pytest.approx(0.5)
    assert answer_f1("", ["光荣"]) == 0 == answer_f1("光", ["荣"])
    assert exact_match("", []) == 1 == answer_f1("，", [])
    assert exact_match("光", []) == 0 == answer_f1("光", [])


def test_sogou_by_hand() -> None:
    for prediction, answer in (
        ("AGM X2", "agmx2"),
        ("ＡＢ（１）", "ab1"),
        ("天作孽，犹可违", "天作孽犹可违"),
        ("刘备 关羽 张飞", "张飞 刘备 关羽"),
        ("A、B、O、AB", "O A AB B"),
    ):
        assert sogou_accuracy(prediction, [answer]) == 1, prediction
    assert sogou_accuracy("刘备 关羽", ["张飞 刘备 关羽"]) == 0
    assert sogou_accuracy("  ", ["", " "]) == 0
    # Characters with multiplicity: 2 of 3 and 2 of 2, whatever their order.
    assert sogou_f1("四川省", ["川四"]) == pytest.approx(2 * (2 / 3) / (2 / 3 + 1))
    assert sogou_f1("aab", ["ab", "aa"]) == pytest.approx(0.8)
    assert sogou_f1("", ["a"]) == 0 == sogou_f1("b", ["a"])


@settings(max_examples=80)
@given(st.text("ab中国", max_size=12), st.text("ab中国", max_size=12))
def test_longest_common_run(first: str, second: str) -> None:
    found = SequenceMatcher(None, first, second, autojunk=False).find_longest_match()
    assert longest_common_run(list(first), list(second)) == found.size


@settings(max_examples=80)
@given(st.text("甲乙丙丁", min_size=1, max_size=8), st.lists(st.text("甲乙丙丁", min_size=1, max_size=8), min_size=1))
def test_bounds(text: str, answers: list[str]) -> None:
    """In [0, 1], 1 exactly for an equal text; F1 of SogouQA is never below that of CMRC 2018 for plain characters."""
    one, other = answer_f1(text, answers), sogou_f1(text, answers)
    assert 0 <= one <= other + 1e-12 <= 1 + 1e-12
    assert (one == 1) == (text in answers) == (exact_match(text, answers) == 1)
    assert (other == 1) == any(Counter(text) == Counter(answer) for answer in answers)


def test_means() -> None:
    scores = score_answers(["光荣", "光", "", "甲"], [["光荣"], ["光荣"], [], []])
    assert scores.exact == pytest.approx((1 + 0 + 1 + 0) / 4)
    assert scores.f1 == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)
    assert scores.accuracy == pytest.approx(1 / 2)
    assert scores.sogou_f1 == pytest.approx((1 + 2 / 3) / 2)
    assert scores.final == pytest.approx((scores.accuracy + scores.sogou_f1) / 2)
    assert (scores.answered, scores.count) == (0.75, 4)
    assert set(scores.as_dict()) == {"exact", "f1", "accuracy", "sogou_f1", "final", "answered", "count"}
    assert "4 questions" in scores.table()
    for texts in (["a"], []):
        with pytest.raises(DataError, match="as many predictions"):
            score_answers(texts, [])
