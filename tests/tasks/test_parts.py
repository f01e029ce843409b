"""Windows, training rows, batches and probabilities of tags, without any model."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tasks.conftest import LABELS, TOKENS

from kexue.tasks._heads import make_head
from kexue.tasks._rows import Batches, Row, training_rows
from kexue.tasks._tags import best_chains, best_tokens
from kexue.tasks._windows import TokenSpan, align, cut, merge_features, merge_spans
from kexue.text import Tokenizer

TOKENIZER = Tokenizer.from_vocab(TOKENS)


def head(name="global_pointer"):
    return make_head(name, LABELS, head_size=4, rotary=True, scheme="bioes")


@given(st.integers(0, 90), st.integers(3, 20), st.data())
@settings(max_examples=60)
def test_windows_cover_and_merge(size, max_length, data):
    stride = data.draw(st.integers(1, max_length - 2))
    document = cut(TOKENIZER.encode("我" * size), max_length, stride)
    assert document.size == size
    seen = np.zeros(size, int)
    for window in document.windows:
        assert len(window) <= max_length
        assert (window.token_ids[window.first : window.first + window.size] == TOKENIZER.token_to_id("我")).all()
        seen[window.start : window.start + window.size] += 1
    assert (seen > 0).all()
    if not size:
        return
    # Every window says where in the document its tokens are; whichever is asked, the answer is the same.
    places = [np.arange(w.start, w.start + w.size)[:, None] for w in document.windows]
    np.testing.assert_array_equal(merge_features(document, places)[:, 0], np.arange(size))
    # A span that all windows see comes out once; one that fits into no window, never.
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start, size - 1))
    found = [
        [TokenSpan(start - w.start, end - w.start, 0)] if w.start <= start and end < w.start + w.size else []
        for w in document.windows
    ]
    merged = merge_spans(document, found)
    assert merged == ([TokenSpan(start, end, 0)] if any(found) else [])


def test_a_fragment_at_the_edge_of_a_window_does_not_count():
    document = cut(TOKENIZER.encode("我" * 12), 10, 4)  # windows of the tokens 0-7, 4-11
    assert [(w.start, w.size) for w in document.windows] == [(0, 8), (4, 8)]
    fragment, whole = TokenSpan(6, 7, 0, 9.0), TokenSpan(2, 4, 0, 1.0)  # the entity 6-8, of which window 0 sees 6-7
    assert merge_spans(document, [[fragment], [whole]]) == [TokenSpan(6, 8, 0, 1.0)]
    # The middle belongs to the window that sees more around it.
    features = merge_features(document, [np.zeros((8, 1)), np.ones((8, 1))])
    assert features[:, 0].tolist() == [0] * 6 + [1] * 6


def test_cut_entities_teach_nothing():
    document = cut(TOKENIZER.encode("我" * 12), 10, 4)
    spans = [TokenSpan(6, 8, 0), TokenSpan(0, 1, 1), TokenSpan(2, 11, 1)]
    counts: Counter[str] = Counter()
    rows = training_rows([document], [spans], counts)
    assert counts["long"] == 1  # ten tokens, windows have eight
    # In both windows the long entity is cut; in the first the entity 6-8 as well.
    assert rows[0].counts.tolist() == [False, True, True, *[False] * 6, False]
    assert rows[0].spans.tolist() == [[1, 2, 1]]
    assert rows[1].spans.tolist() == [[3, 5, 0]]
    assert not rows[1].counts.any()
    tags = head("crf").targets(training_rows([document], [spans[:2]], counts), (2, 10), 0)
    names = ["O", *(f"{letter}-{label}" for label in LABELS for letter in "BIES")]
    shown = [[names[t] if t >= 0 else "." for t in row] for row in tags]
    assert shown[0] == [".", "B-office", "E-office", "O", "O", "O", "O", ".", ".", "."]
    assert shown[1] == [".", "O", "O", "B-place", "I-place", "E-place", "O", "O", "O", "."]


def test_alignment_survives_lower_casing_and_emoji():
    text = "İs青阳市\U0001f600 é́局xx İ"
    document = cut(TOKENIZER.encode(text), 32, 16)
    counts: Counter[str] = Counter()
    types = {label: i for i, label in enumerate(LABELS)}
    for surface in ("İs", "青阳市", "\U0001f600", "局", "İ", text):
        start = text.rindex(surface)
        spans = align(document, [(start, start + len(surface), "office")], types, counts)
        assert document.characters(spans[0]) == (start, start + len(surface))
    assert not counts
    half = text.index("x")  # xx is one unknown word
    assert align(document, [(half, half + 1, "place")], types, counts) == []
    blank = text.index(" ")
    assert len(align(document, [(blank - 1, blank + 1, "place")], types, counts)) == 1  # a blank at the edge
    assert counts["misaligned"] == 2


def rows_of(lengths, empty=()):
    return [
        Row(np.full(n, i, np.int32), np.ones(n, bool), np.zeros((0 if i in empty else 1, 3), np.int32))
        for i, n in enumerate(lengths)
    ]


def members(batches, index):
    inputs, targets = batches[index]
    assert len(targets) == len(inputs["token_ids"]) == 4
    return inputs["token_ids"][inputs["padding_mask"].any(1), 0].tolist()


def options(**changes):
    return {"batch_size": 4, "max_length": 40, "pad_id": 0, "seed": 0} | changes


def test_every_row_comes_once_in_a_pass():
    rows = rows_of([5, 17, 3, 39, 20, 8, 33, 12, 2, 30, 21])
    batches = Batches(rows, head(), **options())
    assert len(batches) == 3
    orders = []
    for epoch in range(3):
        batches.epoch = epoch
        found = [members(batches, i) for i in range(3)]
        assert sorted(itertools.chain(*found)) == list(range(11))
        assert sorted(map(len, found)) == [3, 4, 4]
        orders.append(found)
    assert orders[0] != orders[1]
    assert {batches[i][0]["token_ids"].shape[1] for i in range(3)} <= {16, 32, 40}
    # Anywhere in the run the same batch comes whatever was asked before.
    again = Batches(rows, head(), **options())
    again.epoch, again.start = 2, 1
    assert len(again) == 2
    assert [members(again, 0), members(again, 1)] == orders[2][1:]
    assert [members(Batches(rows, head(), **options(seed=1)), i) for i in range(3)] != orders[0]


def test_epochs_of_other_lengths_go_through_all_rows_too():
    batches = Batches(rows_of([5] * 12), head(), **options(steps=2))
    seen: Counter[int] = Counter()
    for epoch in range(3):  # six steps: two passes of three
        batches.epoch = epoch
        for i in range(2):
            seen.update(members(batches, i))
    assert set(seen.values()) == {2}


def test_negative_share():
    rows = rows_of([5] * 40, empty=range(8, 40))
    batches = Batches(rows, head(), **options(negative_share=0.5))
    assert len(batches) == 4
    drawn = []
    for epoch in range(2):
        batches.epoch = epoch
        found = sorted(itertools.chain(*(members(batches, i) for i in range(4))))
        assert found[:8] == list(range(8))
        assert len(set(found)) == 16
        drawn.append(found)
    assert drawn[0] != drawn[1]


def test_pointer_targets():
    rows = [Row(np.zeros(9, np.int32), np.ones(9, bool), np.asarray([[1, 2, 1], [3, 3, 1], [1, 5, 0]], np.int32))]
    targets = head().targets(rows, (2, 16), 4)
    assert targets.shape == (2, 2, 4, 2)
    assert targets[0, 0].tolist() == [[1, 5], *[[-1, -1]] * 3]
    assert targets[0, 1].tolist() == [[1, 2], [3, 3], *[[-1, -1]] * 2]
    assert (targets[1] == -1).all()


@pytest.mark.parametrize("seed", range(3))
def test_probability_of_a_stretch_of_a_chain(seed):
    rng = np.random.default_rng(seed)
    kinds, sizes = 3, (4, 1, 3)
    transitions, start, end = rng.normal(size=(kinds, kinds)), rng.normal(size=kinds), rng.normal(size=kinds)
    transitions[0, 2] = start[2] = -1e12  # forbidden
    scores = [rng.normal(0, 3, size=(n, kinds)).astype("float32") for n in sizes]
    for emissions, (tags, probability) in zip(scores, best_chains(scores, transitions, start, end), strict=True):
        n = len(emissions)
        weights = {}
        for path in itertools.product(range(kinds), repeat=n):
            value = start[path[0]] + end[path[-1]] + sum(emissions[t, k] for t, k in enumerate(path))
            value += sum(transitions[a, b] for a, b in itertools.pairwise(path))
            weights[path] = np.exp(value)
        assert tuple(tags.tolist()) == max(weights, key=weights.get)
        for i, j in itertools.combinations(range(n + 1), 2):
            share = sum(w for path, w in weights.items() if path[i:j] == tuple(tags[i:j].tolist()))
            assert probability(i, j) == pytest.approx(share / sum(weights.values()), rel=1e-6)


def test_probability_of_independent_tags():
    scores = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    ((tags, probability),) = best_tokens([scores])
    p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    assert tags.tolist() == scores.argmax(-1).tolist()
    assert probability(1, 4) == pytest.approx(p.max(-1)[1:4].prod(), rel=1e-5)
