"""Entity scores against set counts, seqeval and scikit-learn's definitions; the Keras metric against both."""

import json
import warnings

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.harness import as_numpy, jit

from kexue.errors import DataError
from kexue.nn.heads import decode_spans
from kexue.nn.metrics import Scores, SpanF1, span_scores

spans = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from("abc")), max_size=6)
examples = st.lists(st.tuples(spans, spans), max_size=5)


@settings(max_examples=150)
@given(examples)
def test_equals_set_counts(pairs):
    result = span_scores([p for p, _ in pairs], [g for _, g in pairs])
    found = {(n, *s) for n, (p, _) in enumerate(pairs) for s in p}
    gold = {(n, *s) for n, (_, g) in enumerate(pairs) for s in g}
    assert result.micro == Scores(len(found & gold), len(found), len(gold))
    assert list(result.labels) == sorted({s[3] for s in found | gold})
    f1 = []
    for label, row in result.labels.items():
        p, g = ({s for s in side if s[3] == label} for side in (found, gold))
        assert row == Scores(len(p & g), len(p), len(g))
        precision, recall = (len(p & g) / len(side) if side else 0.0 for side in (p, g))
        assert (row.precision, row.recall) == (precision, recall)
        f1.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
        assert row.f1 == pytest.approx(f1[-1])
    assert result.macro["f1"] == pytest.approx(np.mean(f1) if f1 else 0.0)
    assert result.f1 == result.micro.f1
    assert json.loads(json.dumps(result.as_dict()))["micro"]["correct"] == len(found & gold)


def test_forms_labels_and_empty_sets():
    gold = [[{"start": 1, "end": 3, "label": "人", "text": "ab"}], []]
    result = span_scores([[(1, 3, "人"), (1, 3, "人")], [(0, 1, "place")]], gold, labels=["place", "人", "time"])
    assert list(result.labels) == ["place", "人", "time"]
    assert result.labels["time"] == Scores(0, 0, 0)
    assert result.labels["time"].f1 == 0
    assert (result.precision, result.recall, result.f1) == (0.5, 1.0, 2 / 3)
    assert result.macro["f1"] == pytest.approx(1 / 3)
    lines = result.table().splitlines()
    assert [line.split()[0] for line in lines] == ["label", "place", "人", "time", "micro", "macro"]
    assert [len(line) + line.count("人") for line in lines] == [len(lines[0])] * 6
    assert "0.6667" in lines[4]
    empty = span_scores([], [])
    assert (empty.f1, empty.macro["f1"], empty.labels) == (0.0, 0.0, {})
    assert empty.table().count("\n") == 2


def test_errors():
    with pytest.raises(DataError, match="1 predicted, 2 gold"):
        span_scores([[]], [[], []])
    with pytest.raises(DataError, match="without \\['b'\\]"):
        span_scores([[(0, 1, "b")]], [[]], labels=["a"])
    for bad in ((1, 2), {"start": 1, "label": "a"}, 7, ("x", 1, "a")):
        with pytest.raises(DataError, match="Received"):
            span_scores([[bad]], [[]])


@pytest.mark.peer
def test_equals_seqeval_on_flat_bio():
    metrics = pytest.importorskip("seqeval.metrics")
    labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    rng = np.random.default_rng(0)
    tags = ["O", "B-a", "I-a", "B-b", "I-b", "B-c", "I-c"]
    gold = [[tags[i] for i in rng.integers(0, 7, rng.integers(1, 12))] for _ in range(60)]
    mine = [[t if rng.random() < 0.7 else tags[rng.integers(0, 5)] for t in row] for row in gold]
    entities = [[[(s, e, k) for k, s, e in labeling.get_entities(row)] for row in side] for side in (mine, gold)]
    result = span_scores(*entities)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = metrics.classification_report(gold, mine, output_dict=True, zero_division=0)
    for name, ours in [*result.labels.items(), ("micro avg", result.micro)]:
        theirs = report[name]
        assert (ours.precision, ours.recall, ours.f1, ours.support) == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"])
        )
    for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
        assert result.macro[ours] == pytest.approx(report["macro avg"][theirs])


def random_batches(seed=0):
    rng = np.random.default_rng(seed)
    for size in (3, 2, 1):
        logits = np.where(np.tri(5, k=-1, dtype=bool), -1e12, rng.normal(size=(size, 2, 5, 5))).astype("float32")
        gold = [[[(0, 1), (2, 4), (0, 1)], [(1, 1)]] for _ in range(size - 1)] + [[[], [(3, 3)]]]
        sparse = np.full((size, 2, 4, 2), -1, "int32")
        dense = np.zeros((size, 2, 5, 5), "int32")
        for b in range(size):
            for t in range(2):
                for n, (i, j) in enumerate(gold[b][t]):
                    sparse[b, t, n] = i, j
                    dense[b, t, i, j] = 1
        entities = [[(i, j, str(t)) for t in range(2) for i, j in gold[b][t]] for b in range(size)]
        yield logits, sparse, dense, entities


@pytest.mark.parametrize("sparse", [False, True])
def test_span_f1_equals_decoded_scores(sparse):
    metric = SpanF1(sparse=sparse, threshold=0.3)
    assert as_numpy(metric.result()) == 0
    predicted, gold = [], []
    for logits, pairs, grid, entities in random_batches():
        metric.update_state(pairs if sparse else grid, logits)
        predicted += [[(s.start, s.end, str(s.type)) for s in row] for row in decode_spans(logits, 0.3)]
        gold += entities
        want = span_scores(predicted, gold)
        assert as_numpy(metric.result()) == pytest.approx(want.f1, rel=1e-6)
    assert as_numpy(metric.correct.value) == want.micro.correct > 0
    assert as_numpy(metric.predicted.value) == want.micro.predicted
    assert as_numpy(metric.support.value) == want.micro.support
    again = SpanF1.from_config(metric.get_config())
    assert again.get_config() == metric.get_config()
    metric.reset_state()
    assert as_numpy(metric.result()) == 0


def test_span_f1_weights_and_compiled():
    logits, pairs, grid, _ = next(random_batches())
    some, weighted, compiled = SpanF1(), SpanF1(), SpanF1(sparse=True)
    some.update_state(grid[:2], logits[:2])
    weighted.update_state(grid, logits, sample_weight=[1, 1, 0])
    assert as_numpy(weighted.result()) == as_numpy(some.result()) > 0
    plain = SpanF1()
    plain.update_state(grid, logits)
    if keras.backend.backend() == "jax":
        state = jit(compiled.stateless_update_state)([v.value for v in compiled.variables], pairs, logits)
        assert as_numpy(compiled.stateless_result(state)) == as_numpy(plain.result())
    else:
        jit(compiled.update_state)(pairs, logits)
        assert as_numpy(compiled.result()) == as_numpy(plain.result())
    beyond = np.concatenate([pairs, np.full((3, 2, 1, 2), 9, "int32")], axis=2)  # outside the row: missed
    cut = SpanF1(sparse=True)
    cut.update_state(beyond, logits)
    assert as_numpy(cut.support.value) == as_numpy(plain.support.value) + 6
    assert as_numpy(cut.correct.value) == as_numpy(plain.correct.value)
