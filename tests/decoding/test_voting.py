"""Answers by vote against plain NumPy that runs the whole model for each passage and text."""

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from tests.decoding.test_generation import EAGER, STOP, TOY, log_p, many, toy

from kexue.decoding import Beam, Greedy, Sample
from kexue.decoding.engine import make
from kexue.decoding.loop import compilations
from kexue.decoding.voting import VOTES, Asked, Voted, combine, vote_generate
from kexue.errors import ConfigError, DataError

ROOM = 5
TOKENS = [t for t in range(TOY["vocabulary_size"]) if t != STOP]


def prompts(count: int, seed: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.choice([1, 3, 4, 5, 6], rng.integers(1, 8)).tolist() for _ in range(count)]


def stops_at_once(prompt: list[int]) -> bool:
    return int(np.argmax(log_p("unilm", tuple(prompt), ()))) == STOP


POOL = prompts(60, 0)
OPEN = [prompt for prompt in POOL if not stops_at_once(prompt)]
SHAPES = (1, 3, 4, 2, 3) if EAGER else (3, 4, 3, 4, 3)  # elsewhere each power of two is a compilation
CLOSED = [prompt for prompt in POOL if stops_at_once(prompt)]


def plain(p: np.ndarray, vote: str) -> np.ndarray:
    """The formulas, on probabilities ``(prompts, vocabulary)``."""
    return {
        "confidence": (p**2).sum(0) / (p.sum(0) + 1),
        "mean": p.mean(0),
        "log_mean": p.prod(0) ** (1 / len(p)),
        "product": p.prod(0),
    }[vote]


def scores(rows: list[list[int]], text: tuple[int, ...], vote: str) -> np.ndarray:
    return np.log(plain(np.exp([log_p("unilm", tuple(row), text) for row in rows]), vote))


def grams(rows: list[list[int]], text: tuple[int, ...]) -> set[int]:
    """Tokens that go on with ``text`` somewhere in the rows, and the stop token."""
    n = len(text)
    return {row[i + n] for row in rows for i in range(len(row) - n) if tuple(row[i : i + n]) == text} | {STOP}


def greedy(
    rows: list[list[int]], vote: str, copy: bool = False, sources: list[list[int]] | None = None
) -> tuple[list[int], float]:
    """The text and its score; ``sources`` to copy from instead of the passages that vote."""
    rows = [row for row in rows if not stops_at_once(row)]
    text: list[int] = []
    total = 0.0
    while rows and len(text) < ROOM:
        s = scores(rows, tuple(text), vote)
        if copy:
            s = np.where(np.isin(np.arange(len(s)), list(grams(sources or rows, tuple(text)))), s, -np.inf)
        token = int(np.argmax(s))
        total += float(s[token])
        if token == STOP:
            break
        text.append(token)
    return text, total


def ask(rows: list[list[int]], copy: bool = False) -> Asked:
    return Asked(rows, [(0, len(row)) for row in rows] if copy else None)


def run(questions: list[Asked], search: Any = None, **options: Any) -> list[list[Voted]]:
    return vote_generate(toy("unilm"), questions, search, **{"stop": STOP, "max_tokens": ROOM} | options)


def same(one: list[Voted], other: list[Voted], order: Any = None) -> None:
    for a, b in zip(one, other, strict=True):
        assert (a.tokens, a.reason) == (b.tokens, b.reason)
        assert a.score == pytest.approx(b.score, abs=1e-4)
        theirs = b.support if order is None else [b.support[i] for i in order]
        assert [v is None for v in a.support] == [v is None for v in theirs]
        assert [v or 0 for v in a.support] == pytest.approx([v or 0 for v in theirs], abs=1e-4)


def test_the_example_of_the_article() -> None:
    """Two sure passages of three; and the other votes, and passages that do not count."""
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    found = np.exp(keras.ops.convert_to_numpy(combine(np.log(p)[None].astype("float32"), np.ones((1, 3), bool))))
    np.testing.assert_allclose(found[0], [0.448148, 0.352174], atol=1e-6)
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(6), (4, 5))
    counts = rng.random((4, 5)) < 0.6
    counts[:, 0] = True
    for vote in VOTES:
        found = keras.ops.convert_to_numpy(combine(np.log(p).astype("float32"), counts, vote))
        for row, mask, result in zip(p, counts, found, strict=True):
            np.testing.assert_allclose(np.exp(result), plain(row[mask], vote), rtol=2e-5)
    # Tiny probabilities, whose squares float32 cannot hold, keep their order.
    tiny = combine(np.array([[[-60.0, -61.0]]], "float32"), np.ones((1, 1), bool))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(tiny)[0], [-120, -122], rtol=1e-6)


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("vote", VOTES if EAGER else ["confidence"])
def test_greedy_against_numpy(vote: str, copy: bool) -> None:
    """Texts, scores, who voted and with what; a text that is copied is a piece of a passage that voted."""
    rng = np.random.default_rng(2)
    questions = [[POOL[i] for i in rng.choice(len(POOL), n, replace=False)] for n in SHAPES]
    questions.append(CLOSED[:3])
    if copy:  # one where a passage that has left would allow another token
        pairs = [[one, other] for one in OPEN for other in CLOSED]
        questions.append(next(rows for rows in pairs if greedy(rows, vote, True) != greedy(rows, vote, True, rows)))
    found = run([ask(rows, copy) for rows in questions], vote=vote, batch_size=4)
    for rows, (one,) in zip(questions, found, strict=True):
        text, total = greedy(rows, vote, copy)
        assert one.tokens == text
        assert [v is None for v in one.support] == [stops_at_once(row) for row in rows]
        if all(map(stops_at_once, rows)):
            assert one.score == pytest.approx(np.mean([log_p("unilm", tuple(row), ())[STOP] for row in rows]), abs=1e-4)
            continue
        assert one.score == pytest.approx(total, abs=1e-4)
        for row, value in zip(rows, one.support, strict=True):
            if value is not None and text:
                own = sum(log_p("unilm", tuple(row), tuple(text[:n]))[t] for n, t in enumerate(text))
                assert value == pytest.approx(own, abs=1e-4)
        if copy and text:
            left = [row for row in rows if not stops_at_once(row)]
            assert any(row[i : i + len(text)] == text for row in left for i in range(len(row)))
    assert sum(bool(one.tokens) for (one,) in found) >= 2  # there was something to compare


@many
@pytest.mark.parametrize("vote", ["confidence", "product"])
def test_one_passage_is_a_plain_beam(vote: str) -> None:
    """Beams as wide as there are texts find the best sums of log p^2 / (p + 1), in order."""
    room, row = 3, OPEN[0]
    every = []
    for n in range(room + 1):
        for text in itertools.product(TOKENS, repeat=n):
            total = sum(float(scores([row], text[:i], vote)[t]) for i, t in enumerate(text))
            if n < room:
                total += float(scores([row], text, vote)[STOP])
            every.append((total, list(text)))
    every.sort(key=lambda one: -one[0])
    found = run([ask([row])], Beam(36, n_best=8), vote=vote, max_tokens=room)[0]
    assert [one.tokens for one in found] == [text for _, text in every[:8]]
    np.testing.assert_allclose([one.score for one in found], [total for total, _ in every[:8]], atol=1e-4)


def beam(rows: list[list[int]], width: int, step: Callable[..., np.ndarray]) -> list[int]:
    """bert4keras' rule: stop when the best has ended, otherwise drop those that have."""
    beams: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for _ in range(ROOM):
        grown = [(total + s, (*text, t)) for total, text in beams for t, s in enumerate(step(rows, text))]
        grown.sort(key=lambda one: -one[0])
        beams = grown[:width]
        if beams[0][1][-1] == STOP:
            return list(beams[0][1][:-1])
        kept = [one for one in beams if one[1][-1] != STOP]
        width, beams = len(kept), kept
    return list(beams[0][1])


@many
@pytest.mark.parametrize("copy", [False, True])
def test_beams_against_numpy(copy: bool) -> None:
    def step(rows: list[list[int]], text: tuple[int, ...]) -> np.ndarray:
        s = scores(rows, text, "confidence")
        may = list(grams(rows, text)) if copy else range(len(s))
        return np.where(np.isin(np.arange(len(s)), may), s, -1e30)

    for n in range(6):
        rows = OPEN[n : n + 3]
        found = run([ask(rows, copy)], Beam(3, rule="bert4keras"))[0]
        assert found[0].tokens == beam(rows, 3, step)


@many
@pytest.mark.parametrize("search", [Greedy(), Beam(3, n_best=2, length_penalty=1.0)], ids=["greedy", "beam"])
@pytest.mark.parametrize("copy", [False, True])
def test_what_changes_nothing(search: Any, copy: bool) -> None:
    """The order of passages, other questions, padding, batches, and the cache."""
    questions = [ask(OPEN[:3], copy), ask([CLOSED[0], OPEN[5]], copy), ask([OPEN[7]], copy), ask(CLOSED[:2], copy)]
    together = run(questions, search)
    for question, expected in zip(questions, together, strict=True):
        same(run([question], search)[0], expected)
        order = list(range(len(question.rows)))[::-1]
        turned = Asked([question.rows[i] for i in order], question.spans and [question.spans[i] for i in order])
        same(run([turned], search)[0], expected, order)
    for options in ({"batch_size": 2}, {"cached": False}):
        for one, expected in zip(run(questions, search, **options), together, strict=True):
            same(one, expected)


def test_no_answer() -> None:
    """The empty text where all passages say so; with ``must_answer`` they vote all the same."""
    rows = CLOSED[:2]
    (nothing,) = run([ask(rows)])[0]
    assert (nothing.tokens, nothing.reason, nothing.support) == ([], "stop", [None, None])
    (forced,) = run([ask(rows)], must_answer=True)[0]
    s = scores(rows, (), "confidence")
    s[STOP] = -np.inf
    assert forced.tokens[0] == int(np.argmax(s))
    assert None not in forced.support


def test_few_compilations() -> None:
    """Requests of all shapes share a handful of programs."""
    if EAGER:
        pytest.skip("nothing is compiled")
    model = toy("unilm")
    rng = np.random.default_rng(3)

    def requests(count: int) -> None:
        for _ in range(count):
            questions = [ask([POOL[i] for i in rng.choice(len(POOL), n)], True) for n in rng.integers(1, 3, 3)]
            vote_generate(model, questions, stop=STOP, max_tokens=ROOM, batch_size=1)

    before = compilations(make(model))
    requests(10)
    assert compilations(make(model)) - before <= 4  # one or two passages; begin and go


def test_errors() -> None:
    for options, message in (
        ({"vote": "majority"}, "vote must be one of confidence"),
        ({"search": Sample()}, "Greedy"),
        ({"search": Beam(2, temperature=2.0)}, "temperature 1"),
        ({"max_tokens": 0}, "max_tokens"),
    ):
        with pytest.raises(ConfigError, match=message):
            run([ask([[4]])], **options)
    with pytest.raises(DataError, match="question 1 has no prompts"):
        run([ask([[4]]), Asked([])])
    with pytest.raises(DataError, match=r"question 0: .*between 0 and"):
        run([ask([[99]])])
    with pytest.raises(ConfigError, match="2 prompts and 1 spans"):
        run([Asked([[4], [5]], [(0, 1)])])
    with pytest.raises(ConfigError, match="or none"):
        run([ask([[4]]), ask([[4]], True)])
