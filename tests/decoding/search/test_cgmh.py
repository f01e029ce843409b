"""CGMH: detailed balance over all strings, keywords that stay, the faithful mode's deviation."""

import numpy as np
import pytest
from tests.decoding.search.toy import Table

from kexue.decoding import search
from kexue.decoding.search import CGMH, Sentence
from kexue.errors import ConfigError

OPTIONS = {
    "all candidates": {"candidates": None},
    "one candidate": {"candidates": 1},
    "smoothed": {"candidates": 1, "smoothing": 0.3},
    "rescored": {"candidates": None, "rescore": lambda xs: np.array([0.4 * len(x) + 0.7 * sum(x) for x in xs])},
    "empty allowed": {"shortest": 0},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("keywords", [(), (1,), (0, 0)])
def test_exact_mode_is_balanced(name, keywords):
    table = Table(letters=3 if name == "rescored" else 2, longest=3)
    options = {"shortest": 1, "longest": 3} | OPTIONS[name]
    states = table.space(options["shortest"], keywords)
    law = table.law(states)
    kernel = CGMH(table.target, table.slots, **options).kernel(states)
    assert kernel.min() >= 0
    assert search.balance_gap(kernel, law) < 1e-12
    np.testing.assert_allclose(law @ kernel, law, atol=1e-12)
    if name != "one candidate":  # every state can be reached
        np.testing.assert_allclose(search.stationary_law(kernel), law, atol=1e-9)


def test_faithful_mode_deviates():
    """Without keywords the numbers of places cancel, and with all tokens as candidates nothing is wrong; with
    keywords, or with few candidates, the balance is broken."""
    table = Table()
    for keywords, candidates, broken in (((), None, False), ((1,), None, True), ((), 1, True)):
        states = table.space(1, keywords)
        chain = CGMH(table.target, table.slots, mode="faithful", candidates=candidates, longest=3)
        gap = search.balance_gap(chain.kernel(states), table.law(states))
        assert (gap > 1e-3) if broken else (gap < 1e-12), (keywords, candidates, gap)


def test_samples_follow_the_kernel():
    table = Table()
    states = table.space(1, (1,))
    chain = CGMH(table.target, table.slots, longest=3)
    run = chain.sample([search.with_keywords([(1,)])] * 300, 60, burn_in=30, thin=3, seed=0)
    exact = dict(zip(states, table.law(states), strict=True))
    assert search.total_variation(search.empirical_law(run.flat()), exact) < 0.04
    assert all(s.tokens[s.keywords.index(1)] == 1 for s in run.flat())


def test_keywords_are_never_broken():
    table = Table(letters=4, longest=6)
    chain = CGMH(lambda xs: np.zeros(len(xs)), table.slots, longest=6)
    start = search.with_keywords([(1, 2), (3,)])
    assert start.gaps() == [0, 2, 3]
    assert start.free() == []
    run = chain.sample([start] * 20, 60, seed=0)
    seen = set()
    for sentence in run.flat():
        words = "".join(map(str, sentence.tokens))
        assert "12" in words
        assert "3" in words[words.index("12") + 2 :]
        assert len(sentence) <= 6
        seen.add(len(sentence))
    assert seen == {3, 4, 5, 6}


def test_forbidden_tokens_and_growth():
    table = Table(letters=4, longest=6)
    chain = CGMH(lambda xs: np.zeros(len(xs)), table.slots, longest=6, forbidden=[0, 2], smoothing=0.5)
    grown = chain.grown([Sentence((1,), (1,))] * 30, 5, seed=0)
    assert {len(s) for s in grown} == {5}
    run = chain.sample(grown, 40, seed=0)
    assert {t for s in run.flat() for t in s.tokens} == {1, 3}


def test_gamma_and_the_smaller_law():
    language = lambda xs: -np.array([float(len(x)) for x in xs])  # noqa: E731
    score = search.target(language, gamma=0.5, extra=lambda xs: np.where([0 in x for x in xs], 0.0, -np.inf))
    assert score([(0, 1), (1,)]).tolist() == [-1.0, -np.inf]
    both = search.smaller(lambda a, b: np.array([[0.0, -1.0]]), lambda a, b: np.array([[-2.0, 0.0]]))
    assert both([()], [()]).tolist() == [[-2.0, -1.0]]


@pytest.mark.parametrize(
    "call",
    [
        lambda t: CGMH(t.target, t.slots, mode="fast"),
        lambda t: CGMH(t.target, t.slots, smoothing=2),
        lambda t: CGMH(t.target, t.slots, candidates=0),
        lambda t: CGMH(t.target, t.slots, shortest=4, longest=3),
        lambda t: CGMH(t.target, t.slots, longest=2).sample([Sentence((0, 1, 0))], 3),
        lambda t: CGMH(t.target, t.slots, forbidden=[0, 1]).sample([Sentence((0,))], 30, seed=0),
        lambda t: CGMH(t.target, lambda a, b: np.zeros(2)).sample([Sentence((0,))], 30, seed=0),
        lambda t: CGMH(t.target, t.slots, longest=3).kernel(t.space()[:3]),
        lambda t: Sentence((0, 1), (1,)),
        lambda t: search.with_keywords([]),
        lambda t: search.with_keywords([[1], []]),
        lambda t: search.target(t.target, gamma=-1),
    ],
)
def test_mistakes(call):
    with pytest.raises(ConfigError):
        call(Table())
