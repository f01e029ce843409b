"""T5's span corruption: input and targets together are the text; statistics; uniform partitions."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.text.corpus.test_masking import ROWS, make_rows

from kexue.errors import ConfigError
from kexue.text.corpus import corrupt_spans
from kexue.text.corpus.spans import _partition

SENTINELS = list(range(5000, 5100))
END = 4999


def corrupt(rows, seed=0, **options):
    options = {"sentinels": SENTINELS, "end_id": END} | options
    return corrupt_spans(rows, np.random.default_rng(seed), **options)


def put_together(inputs, targets):
    """The text again: each sentinel of the input replaced by what follows it in the targets."""
    assert not targets or targets[-1] == END
    spans, now = {}, None
    for token in targets[:-1]:
        if token in SENTINELS:
            now = token
            spans[now] = []
        else:
            spans[now].append(token)
    assert list(spans) == SENTINELS[: len(spans)]  # in order, from the first
    assert all(spans.values())  # none empty
    assert [token for token in inputs if token in SENTINELS] == list(spans)
    return [token for item in inputs for token in spans.get(item, [item])], spans


@given(st.integers(0, 1000), st.sampled_from([0.15, 0.5, 0.9]), st.sampled_from([1.0, 3.0, 8.0]))
def test_nothing_is_lost(seed, share, mean_length):
    rows = make_rows(3, 60, seed, piece=0.1)
    before = {name: value.copy() for name, value in rows.items()}
    result = corrupt(rows, seed, share=share, mean_length=mean_length)
    assert all(np.array_equal(rows[name], before[name]) for name in rows)
    for row in range(3):
        for number in range(1, rows["document_ids"][row].max() + 1):
            cells = rows["document_ids"][row] == number
            mine, theirs = result.document_ids[row] == number, result.target_document_ids[row] == number
            inputs, targets = result.token_ids[row, mine].tolist(), result.targets[row, theirs].tolist()
            whole, spans = put_together(inputs, targets)
            assert whole == rows["token_ids"][row, cells].tolist()
            special = rows["token_ids"][row, cells & (rows["word_ids"][row] < 0)].tolist()
            assert [token for token in inputs if token == 2] == special
            size = (cells & (rows["word_ids"][row] >= 0)).sum()
            taken = sum(map(len, spans.values()))
            assert share * size - 1 < taken < share * size + 1 or taken == size - 1
            assert result.position_ids[row, mine].tolist() == list(range(len(inputs)))
            assert result.target_position_ids[row, theirs].tolist() == list(range(len(targets)))
    assert np.array_equal(result.padding_mask, result.document_ids > 0)
    assert np.array_equal(result.weights, result.target_document_ids > 0)
    for mask in (result.padding_mask, result.weights):
        assert (np.diff(mask.astype(int), axis=1) <= 0).all()


def test_statistics():
    result = corrupt(ROWS)
    text = (ROWS["word_ids"] >= 0).sum()
    sentinels = np.isin(result.targets, SENTINELS) & result.weights
    taken = (result.weights & ~sentinels & (result.targets != END)).sum()
    assert taken / text == pytest.approx(0.15, rel=0.03)
    assert taken / sentinels.sum() == pytest.approx(3, rel=0.12)  # short pieces round


def test_partitions_are_uniform():
    """7 = a + b + c has 15 solutions; a chi-square test with 14 degrees of freedom."""
    sizes, parts = np.full(6000, 7), np.full(6000, 3)
    found = _partition(sizes, parts, np.random.default_rng(0)).reshape(-1, 3)
    assert (found.sum(1) == 7).all()
    assert found.min() == 1
    counts = Counter(map(tuple, found.tolist()))
    assert len(counts) == 15
    assert sum((count - 400) ** 2 / 400 for count in counts.values()) < 42.6  # p = 1e-4


def test_few_sentinels_and_wrong_arguments():
    result = corrupt(ROWS, sentinels=[5000, 5001], share=0.5, mean_length=1)
    assert result.weights.any()
    for row in range(20):
        for number in range(1, ROWS["document_ids"][row].max() + 1):
            targets = result.targets[row, result.target_document_ids[row] == number]
            assert np.isin(targets, SENTINELS).sum() <= 2
    for wrong in ({"share": 0}, {"share": 1}, {"mean_length": 0.5}, {"sentinels": []}):
        with pytest.raises(ConfigError):
            corrupt(ROWS, **wrong)
    empty = {name: np.zeros((2, 4), "int32") for name in ("token_ids", "document_ids")}
    assert not corrupt(empty | {"word_ids": np.full((2, 4), -1)}).weights.any()
