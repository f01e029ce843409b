"""Masks: binomial statistics, whole words, spans, never a special token."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexue.errors import ConfigError
from kexue.text.corpus import Spans, mask_tokens

MASK, RANGE = 4, (10, 1000)


def make_rows(count, length, seed=0, word_start=0.4, piece=0.02):
    """Random rows: pieces framed by special tokens (1 and 2), words of random lengths, padding at the end."""
    rng = np.random.default_rng(seed)
    rows = {
        "token_ids": rng.integers(*RANGE, (count, length), dtype="int32"),
        "word_ids": np.full((count, length), -1, "int32"),
        "document_ids": np.zeros((count, length), "int32"),
    }
    for row in range(count):
        document, word, fresh = 1, -1, True
        for cell in range(int(length * rng.uniform(0.8, 1))):
            rows["document_ids"][row, cell] = document
            if rng.random() < piece:
                rows["token_ids"][row, cell] = 2
                document, fresh = document + 1, True
                continue
            if fresh or rng.random() < word_start:
                word, fresh = word + 1, False
            rows["word_ids"][row, cell] = word
    return rows


ROWS = make_rows(400, 256)
TEXT = ROWS["word_ids"] >= 0


def within(successes, trials, p, deviations=5):
    """Whether a count is that of a binomial distribution; five deviations are missed once in two million."""
    return abs(successes - trials * p) <= deviations * math.sqrt(trials * p * (1 - p))


def words_of(mask):
    """Each word with whether its cells are selected."""
    width = int(ROWS["word_ids"].max()) + 1
    key = np.nonzero(TEXT)[0] * width + ROWS["word_ids"][TEXT]
    cells = np.bincount(key)
    return np.bincount(key, mask[TEXT])[cells > 0], cells[cells > 0]


def masked(rows=ROWS, seed=0, **options):
    return mask_tokens(rows, np.random.default_rng(seed), mask_id=MASK, vocabulary_range=RANGE, **options)


def check_common(result):
    assert not result.weights[~TEXT].any()
    assert np.array_equal(result.token_ids[~result.weights], ROWS["token_ids"][~result.weights])
    assert np.array_equal(result.targets, ROWS["token_ids"])
    changed = result.token_ids[result.weights & (result.token_ids != result.targets)]
    assert ((changed == MASK) | ((changed >= RANGE[0]) & (changed < RANGE[1]))).all()
    assert result.token_ids.dtype == result.targets.dtype == np.int32
    assert result.weights.dtype == bool


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_whole_words(share):
    result = masked(share=share)
    check_common(result)
    selected, cells = words_of(result.weights)
    assert np.isin(selected, [0]).sum() + (selected == cells).sum() == len(cells)  # all of a word or nothing
    assert within((selected > 0).sum(), len(cells), share)


def test_single_tokens():
    result = masked(whole_words=False)
    check_common(result)
    assert within(result.weights.sum(), TEXT.sum(), 0.15)
    selected, cells = words_of(result.weights)
    assert ((selected > 0) & (selected < cells)).any()


@pytest.mark.parametrize("keep", [0, 0.1, 0.3])
@pytest.mark.parametrize("random", [0, 0.1, 0.5])
def test_what_becomes_of_the_selected(keep, random):
    result = masked(keep=keep, random=random)
    check_common(result)
    tokens, count = result.token_ids[result.weights], result.weights.sum()
    assert within((tokens == MASK).sum(), count, 1 - keep - random)
    luck = 1 / (RANGE[1] - RANGE[0])  # a random token may be the old one
    assert within((tokens == result.targets[result.weights]).sum(), count, keep + random * luck)


def test_replacements_are_uniform():
    result = masked(share=1, keep=0, random=1)
    counts = np.bincount(result.token_ids[TEXT], minlength=RANGE[1])[RANGE[0] :]
    expected = counts.mean()
    chi_square = ((counts - expected) ** 2 / expected).sum()
    degrees = len(counts) - 1
    assert abs(chi_square - degrees) < 5 * math.sqrt(2 * degrees)


def test_spans():
    result = masked(spans=Spans())
    check_common(result)
    selected, cells = words_of(result.weights)
    assert ((selected == 0) | (selected == cells)).all()
    assert 0.14 < result.weights.sum() / TEXT.sum() <= 0.1505
    shares = result.weights.sum(1) / TEXT.sum(1)
    assert shares.max() < 0.15 + 1 / 180  # each row, not only all of them
    # One span is all masked, all kept or all random; neighbouring spans run together, so most runs are of one kind.
    kinds = np.where(result.token_ids == MASK, 0, np.where(result.token_ids == result.targets, 1, 2))
    inner = result.weights[:, 1:] & result.weights[:, :-1]
    assert (kinds[:, 1:] == kinds[:, :-1])[inner].mean() > 0.9
    assert within((kinds[result.weights] == 0).sum(), result.weights.sum(), 0.8, 15)  # whole spans: wider


def test_span_lengths():
    """Alone in long rows, so that hardly any is refused: the cut-off geometric distribution of SpanBERT."""
    length = 4000
    rows = {
        "token_ids": np.full((60, length), 50, "int32"),
        "word_ids": np.tile(np.arange(length, dtype="int32"), (60, 1)),
        "document_ids": np.ones((60, length), "int32"),
    }
    weights = masked(rows, spans=Spans(), share=0.02).weights
    edges = np.diff(np.pad(weights.astype(int), ((0, 0), (1, 1))), axis=1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    numbers = np.arange(1, 11)
    chance = 0.2 * 0.8 ** (numbers - 1)
    chance /= chance.sum()
    mean = (numbers * chance).sum()
    assert mean == pytest.approx(3.797, abs=1e-3)  # SpanBERT, section 3.1: 3.8
    # Spans that touch each other count as one (about 1 in 30) and the last of a row is cut short by the budget.
    assert lengths.mean() == pytest.approx(mean, rel=0.08)
    assert lengths[lengths <= 10].max() == 10


def test_spans_stay_in_their_piece():
    """Pieces of one word each: no span can be longer than a word."""
    rows = make_rows(50, 128, piece=0.0, word_start=0.5)
    rows["document_ids"] = np.where(rows["word_ids"] >= 0, rows["word_ids"] + 1, 0)
    weights = masked(rows, spans=Spans(p=0.5)).weights
    assert weights.any()
    result = masked(rows, spans=Spans(p=0.01, longest=10))  # nearly always longer than the piece
    assert result.weights.sum() < weights.sum()


@given(st.integers(0, 2**32), st.sampled_from([None, Spans()]))
def test_deterministic_and_pure(seed, spans):
    rows = {name: value[:5].copy() for name, value in ROWS.items()}
    first, second = (masked(rows, seed, spans=spans) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one, other)
    for name, value in rows.items():
        assert np.array_equal(value, ROWS[name][:5])
    assert not np.array_equal(first.weights, masked(rows, seed + 1, spans=spans).weights)


def test_nothing_to_hide():
    rows = {"token_ids": np.ones((2, 3)), "word_ids": np.full((2, 3), -1), "document_ids": np.zeros((2, 3))}
    for spans in (None, Spans()):
        assert not masked(rows, spans=spans).weights.any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": 0},
        {"share": 1.5},
        {"keep": -0.1},
        {"keep": 0.6, "random": 0.5},
        {"spans": Spans(p=0)},
        {"spans": Spans(longest=0)},
    ],
)
def test_wrong_arguments(wrong):
    with pytest.raises(ConfigError):
        masked(**wrong)
    with pytest.raises(ConfigError, match="vocabulary_range"):
        mask_tokens(ROWS, np.random.default_rng(0), mask_id=MASK, vocabulary_range=(5, 5))
