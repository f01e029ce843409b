"""The pure functions of `benchmarks.downstream`: windows, answers and scores of extractive reading, options."""

import argparse
from difflib import SequenceMatcher
from itertools import product
from typing import Any

import numpy as np
import pytest
from benchmarks.downstream import numbers
from benchmarks.downstream_tasks import TASKS, WEIGHTS, Start
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import downstream_reading as reading
from kexue.text import Tokenizer

PASSAGE = "《战国无双3》是由光荣和ω-force开发的游戏，2009年由光荣发行。"
QUESTION = "谁开发了《战国无双3》？"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    characters = sorted(set((PASSAGE + QUESTION).lower()))
    return Tokenizer.from_vocab(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters if c.isascii())]
    )


def question(answer: str, place: int = 0) -> reading.Question:
    return reading.Question("a", PASSAGE, QUESTION, reading.nearest(PASSAGE, answer, place), (answer,))


def test_nearest() -> None:
    first, second = PASSAGE.index("光荣"), PASSAGE.rindex("光荣")
    assert reading.nearest(PASSAGE, "光荣", second - 1) == (second, second + 2)
    assert reading.nearest(PASSAGE, "光荣", 0) == (first, first + 2)
    assert reading.nearest(PASSAGE, "任天堂", 0) is None


@pytest.mark.parametrize("length", [24, 32, 80])
@pytest.mark.parametrize("text", ["光荣和ω-force", "2009年", "《战国无双3》"])
def test_windows_and_answers_are_inverse(tokenizer: Tokenizer, length: int, text: str) -> None:
    asked = question(text)
    windows = reading.windows(tokenizer, asked, length, stride=2)
    assert all(len(window) <= length for window in windows)
    covered = {int(i) for w in windows for a, b in w.offsets[w.sequence_ids == 1] for i in range(a, b)}
    assert covered == set(range(len(PASSAGE)))
    parts, places = [], 0
    for window in windows:
        scores = np.zeros((2, len(window) + 3), "float32")  # padded
        scores[:, len(window) :] = 99
        place = reading.target(window, asked.span)
        if place is None:
            scores[:, 0] = 5  # "not here"
        else:
            places += 1
            scores[0, place[0]], scores[1, place[1]] = 9, 9
        parts.append((window, scores))
    if places:
        assert reading.answer(parts, longest=30) == text
    else:
        assert length == 24  # too short a window for this answer


def test_training_windows(tokenizer: Tokenizer) -> None:
    questions = [question("2009年"), reading.Question("b", PASSAGE, QUESTION, None, ("任天堂",))]
    made = list(reading.training_windows(tokenizer, questions, 24, 4, negatives=1.0, seed=0))
    assert len(made) == 2  # one with and one without; the question without an answer in its passage is left out
    (inside, place), (outside, nowhere) = made
    characters = inside.char_span(place[0], place[1] + 1)
    assert characters is not None
    assert PASSAGE[slice(*characters)] == "2009年"
    assert nowhere == (0, 0)
    assert reading.target(outside, questions[0].span) is None


def test_split_keeps_articles_whole() -> None:
    questions = [reading.Question(str(i // 3), "", str(i), None, ()) for i in range(60)]
    first, second = reading.split_by_article(questions, 0.8, seed=0)
    assert len(first) == 48
    assert sorted(map(int, (q.question for q in first + second))) == list(range(60))
    assert not {q.article for q in first} & {q.article for q in second}


@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 10_000))
def test_best_span_against_brute_force(size: int, longest: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    starts, ends, allowed = rng.normal(size=size), rng.normal(size=size), rng.random(size) < 0.7
    fits = [
        (starts[i] + ends[j], (i, j))
        for i, j in product(range(size), repeat=2)
        if allowed[i] and allowed[j] and i <= j < i + longest
    ]
    score, span = reading.best_span(starts, ends, allowed, longest)
    assert (score, span) == (max(fits) if fits else (-np.inf, None))


@settings(max_examples=100)
@given(st.text("ab中国", max_size=12), st.text("ab中国", max_size=12))
def test_longest_common_run(first: str, second: str) -> None:
    found = SequenceMatcher(None, first, second, autojunk=False).find_longest_match()
    assert reading.longest_common_run(first, second) == found.size


def test_scores() -> None:
    assert reading.segments("光荣和Omega force，2.5版") == ["光", "荣", "和", "omega", "force", "2.5", "版"]
    assert reading.exact_match("《光荣》。", ["任天堂", "光荣"]) == 1
    assert reading.exact_match("光", ["光荣"]) == 0
    assert reading.f1("光荣公司", ["光荣", "公司名"]) == pytest.approx(2 * 2 / (4 + 2))
    assert reading.f1("", ["光荣"]) == 0 == reading.f1("光", ["荣"])


def test_numbers() -> None:
    assert numbers("3", ["a", "b"], int) == {"a": 3, "b": 3}
    assert numbers("a=3,b=5", ["a", "b", "c"], int) == {"a": 3, "b": 5}
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number"):
        numbers("a=x", ["a"], int)


def test_what_is_taken_from_the_checkpoint() -> None:
    found = {
        weights: {path: v.numpy() for path, v in _weights(Start("zh-mini", weights, 3, "float32", None).encoder())}
        for weights in WEIGHTS
    }
    table = "token_embedding/table"
    for path, value in found["tokens"].items():
        assert np.array_equal(value, found["all" if path == table else "none"][path]), path
        assert not np.array_equal(found["all"][path], found["none"][path])
    assert TASKS["cluener"].settings.rate("all") == TASKS["cluener"].settings.rates[0]


def _weights(encoder: Any) -> list[tuple[str, Any]]:
    return [(weight.path, weight) for weight in encoder.weights]
