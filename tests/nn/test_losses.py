"""ZLPR against its pairwise definition, its sparse form, finite differences and extreme scores."""

import functools
import itertools
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from tests.nn.harness import as_numpy, gradient, jit

from kexue.errors import ConfigError
from kexue.nn import losses
from kexue.nn.losses import (
    MASKED_SCORE,
    multilabel_categorical_crossentropy,
    sparse_multilabel_categorical_crossentropy,
)


def dense(logits, targets, **kwargs):
    loss = jit(lambda s, y: multilabel_categorical_crossentropy(s, y, **kwargs))
    return as_numpy(loss(np.asarray(logits), np.asarray(targets)))


def sparse(logits, indices, **kwargs):
    loss = jit(lambda s, i: sparse_multilabel_categorical_crossentropy(s, i, **kwargs))
    return as_numpy(loss(np.asarray(logits), np.asarray(indices, "int32")))


def reference(scores, targets):
    """log(1 + sum_neg e^s) + log(1 + sum_pos e^-s), in Python floats with exact big sums by the largest term."""
    total = 0.0
    for terms in (
        [s for s, y in zip(scores, targets, strict=True) if not y],
        [-s for s, y in zip(scores, targets, strict=True) if y],
    ):
        top = max([0.0, *terms])
        rest = math.fsum([math.exp(-top), *(math.exp(t - top) for t in terms)])
        total += top + math.log1p(math.fsum([math.exp(t) for t in terms])) if top == 0 else top + math.log(rest)
    return total


def test_golden_value():
    assert dense([1, -2, 0.5, 3], [1, 0, 0, 1]) == pytest.approx(1.372921, abs=1e-6)
    assert sparse([1, -2, 0.5, 3], [0, 3]) == pytest.approx(1.372921, abs=1e-6)


scores_and_targets = st.integers(1, 8).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(-20, 20, width=32), min_size=n, max_size=n), st.lists(st.booleans(), min_size=n, max_size=n)
    )
)


@settings(max_examples=40)
@given(scores_and_targets)
def test_equals_definition_and_pairwise_form(case):
    scores, targets = case
    pos = [s for s, y in zip(scores, targets, strict=True) if y]
    neg = [s for s, y in zip(scores, targets, strict=True) if not y]
    pairs = [math.exp(a - b) for a in neg for b in pos] + [math.exp(a) for a in neg] + [math.exp(-b) for b in pos]
    loss = float(dense(np.float32(scores), np.float32(targets)))
    assert loss == pytest.approx(math.log1p(math.fsum(pairs)), rel=1e-5, abs=1e-12)
    assert loss == pytest.approx(reference(scores, targets), rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("top", [0.0, 15.0, 80.0, 1e4, 1e30])
def test_sparse_equals_dense_when_a_positive_dominates(top):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (6, 50)).astype("float32")
    logits[:, 7] = top
    targets = np.zeros((6, 50), "float32")
    indices = np.full((6, 4), -1)
    for row in range(6):
        indices[row, :2] = [7, row + 10]
        indices[row, 3] = 7  # twice
        targets[row, indices[row, :2]] = 1
    np.testing.assert_allclose(sparse(logits, indices), dense(logits, targets), rtol=1e-6)
    want = [reference(s.astype(float).tolist(), y.tolist()) for s, y in zip(logits, targets, strict=True)]
    np.testing.assert_allclose(sparse(logits, indices), want, rtol=1e-6)


def test_sparse_any_rank_empty_rows_and_jit():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 3, 9)).astype("float32")
    logits[0, 0, 4] = MASKED_SCORE
    indices = np.full((2, 3, 3), -1, "int32")
    indices[0, 0] = [4, 2, -1]
    indices[1, 2] = [8, 0, 8]
    targets = np.zeros((2, 3, 9), "float32")
    for place in itertools.product(range(2), range(3)):
        targets[(*place, indices[place][indices[place] >= 0])] = 1
    want = dense(logits, targets)
    np.testing.assert_allclose(sparse(logits, indices), want, rtol=1e-6)
    np.testing.assert_allclose(as_numpy(sparse_multilabel_categorical_crossentropy(logits, indices)), want, 1e-6)
    assert sparse(logits[0, 1], np.zeros(0)).shape == ()
    np.testing.assert_allclose(sparse(logits[0, 1], np.zeros(0)), want[0, 1], rtol=1e-6)


def test_mask_zero_leaves_class_0_out():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(4, 6)).astype("float32")
    indices = np.array([[0, 0, 0], [1, 5, 0], [0, 3, 0], [2, 2, 4]])
    targets = np.zeros((4, 6), "float32")
    np.put_along_axis(targets, indices, 1, axis=-1)
    want = dense(logits[:, 1:], targets[:, 1:])
    np.testing.assert_allclose(sparse(logits, indices, mask_zero=True), want, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_masked_entries_do_not_exist(dtype):
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(5, 12)).astype("float32")
    targets = (rng.random((5, 12)) < 0.4).astype("float32")
    hidden = rng.random((5, 12)) < 0.5
    with np.errstate(over="ignore"):
        masked = np.where(hidden, MASKED_SCORE, logits).astype(dtype)  # -inf in float16
    want = [
        reference(logits[i][~hidden[i]].astype(dtype).astype(float).tolist(), targets[i][~hidden[i]]) for i in range(5)
    ]
    np.testing.assert_allclose(dense(masked, targets), want, rtol=1e-5)
    np.testing.assert_allclose(dense(logits.astype(dtype), targets, mask=~hidden), want, rtol=1e-5)
    for soft in (False, True):

        def total(s, soft=soft):
            return ops.sum(multilabel_categorical_crossentropy(s, targets, soft=soft))

        slope = gradient(total, masked)
        assert np.isfinite(slope).all()
        assert (slope[hidden] == 0).all()
        assert (slope[~hidden] != 0).all()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("size", [1e4, 1e11, 1e30])
def test_extreme_scores(size, soft):
    """All signs with all targets of three classes; at 1e30 the negative scores count as masked."""
    cases = list(itertools.product(itertools.product([-1, 1], repeat=3), itertools.product([0, 1], repeat=3)))
    logits = np.float32(size) * np.array([signs for signs, _ in cases], "float32")
    targets = np.array([y for _, y in cases], "float32")
    want = []
    for row, y in zip(logits, targets, strict=True):
        real = row > MASKED_SCORE / 2
        want.append(reference(row[real].astype(float).tolist(), y[real]))
    np.testing.assert_allclose(dense(logits, targets, soft=soft), want, rtol=1e-6)
    slope = gradient(lambda s: ops.sum(multilabel_categorical_crossentropy(s, targets, soft=soft)), logits)
    assert np.isfinite(slope).all()
    if not soft:
        indices = np.where(targets > 0, np.arange(3), -1)
        np.testing.assert_allclose(sparse(logits, indices), want, rtol=1e-6)
        other = gradient(lambda s: ops.sum(sparse_multilabel_categorical_crossentropy(s, indices)), logits)
        np.testing.assert_allclose(other, slope, atol=1e-6)


def test_nothing_exists_and_no_positives():
    empty = np.full((2, 4), MASKED_SCORE, "float32")
    np.testing.assert_array_equal(dense(empty, np.ones((2, 4))), 0)
    np.testing.assert_array_equal(
        gradient(lambda s: ops.sum(multilabel_categorical_crossentropy(s, empty * 0)), empty), 0
    )
    # far on the right side the loss is tiny but not rounded to 0
    assert dense([-30.0, -30.0], [0, 0]) == pytest.approx(2 * math.exp(-30), rel=1e-5, abs=0)


def test_single_positive_without_threshold_pairs_is_softmax():
    """Pairwise part alone: with the threshold pairs removed the loss is the softmax cross-entropy."""
    scores = np.array([0.3, -1.2, 2.0, 0.7])
    pairs = math.exp(float(dense(scores, [0, 0, 1, 0]))) - sum(np.exp(scores[[0, 1, 3]])) - math.exp(-scores[2])
    assert math.log(pairs) == pytest.approx(np.log(np.exp(scores).sum()) - scores[2], rel=1e-5)


@pytest.mark.parametrize("soft", [False, True])
def test_gradient_equals_finite_differences(soft):
    rng = np.random.default_rng(4)
    logits = rng.normal(size=7).astype("float32")
    targets = rng.random(7).astype("float32") if soft else np.array([1, 0, 0, 1, 0, 1, 0], "float32")

    def exact(s):
        y = targets.astype(float)
        return np.log1p(((1 - y) * np.exp(s)).sum()) + np.log1p((y * np.exp(-s)).sum())

    step = 1e-5
    want = [(exact(logits + step * e) - exact(logits - step * e)) / (2 * step) for e in np.eye(7)]
    slope = gradient(lambda s: multilabel_categorical_crossentropy(s, targets, soft=soft), logits)
    np.testing.assert_allclose(slope, want, atol=1e-5)
    if not soft:
        index = np.flatnonzero(targets)
        slope = gradient(lambda s: sparse_multilabel_categorical_crossentropy(s, np.append(index, index[0])), logits)
        np.testing.assert_allclose(slope, want, atol=1e-5)


def test_soft_minimum_is_half_the_log_odds():
    y = np.array([0.1, 0.5, 0.9, 0.03], "float32")
    best = np.log(y / (1 - y)) / 2
    slope = gradient(lambda s: multilabel_categorical_crossentropy(s, y, soft=True), best)
    np.testing.assert_allclose(slope, 0, atol=1e-6)


def pointer_case():
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(3, 2, 6, 6)).astype("float32")
    length = [6, 4, 0]  # the last example is padding only
    for b, n in enumerate(length):
        for i, j in itertools.product(range(6), range(6)):
            if i > j or j >= n:
                logits[b, :, i, j] = MASKED_SCORE
    spans = np.full((3, 2, 3, 2), -1, "int32")
    spans[0, 0, 0], spans[0, 0, 1], spans[0, 1, 0], spans[1, 1, 2] = (1, 2), (0, 5), (3, 3), (0, 3)
    targets = np.zeros((3, 2, 6, 6), "int32")
    for b, t, n in itertools.product(range(3), range(2), range(3)):
        if spans[b, t, n, 0] >= 0:
            targets[(b, t, *spans[b, t, n])] = 1
    terms = np.zeros((2, 2))
    for b, t in itertools.product(range(2), range(2)):
        cells = [(i, j) for i in range(length[b]) for j in range(i, length[b])]
        terms[b, t] = reference([float(logits[(b, t, *c)]) for c in cells], [targets[(b, t, *c)] for c in cells])
    return logits, targets, spans, terms


def test_global_pointer_loss():
    logits, targets, spans, terms = pointer_case()
    for is_sparse, y in ((False, targets), (True, spans)):
        for weights, want in ((None, terms.mean()), ([1, 3], (terms @ [0.25, 0.75]).mean())):
            options = {"sparse": is_sparse, "type_weights": weights}
            got = jit(functools.partial(losses.global_pointer_loss, **options))(logits, y)
            assert as_numpy(got) == pytest.approx(want, rel=1e-5)
            assert as_numpy(jit(losses.GlobalPointerLoss(**options))(y, logits)) == pytest.approx(want, rel=1e-5)
    nothing = np.full((2, 2, 3, 3), MASKED_SCORE, "float32")
    assert as_numpy(losses.global_pointer_loss(nothing, nothing * 0)) == 0
    assert as_numpy(losses.GlobalPointerLoss()(nothing * 0, nothing)) == 0
    beyond = np.concatenate([spans, np.array([[[[0, 9]], [[7, 2]]]] * 3, "int32")], axis=2)  # cut off by truncation
    assert as_numpy(losses.global_pointer_loss(logits, beyond, sparse=True)) == pytest.approx(terms.mean(), rel=1e-5)
    each = as_numpy(losses.GlobalPointerLoss(reduction="none")(targets, logits))
    np.testing.assert_allclose(each, [*terms.mean(1), 0], rtol=1e-5)


def test_bad_weights_are_refused():
    logits, targets, _, _ = pointer_case()
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0]):
        with pytest.raises(ConfigError, match="type_weights"):
            losses.global_pointer_loss(logits, targets, type_weights=weights)
    with pytest.raises(ConfigError, match="class_weights"):
        losses.token_crossentropy(np.zeros((1, 2, 3)), np.zeros((1, 2)), class_weights=[1.0])


def test_token_crossentropy_ignores_padding():
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(2, 4, 3)).astype("float32")
    tags = np.array([[0, 2, 1, -1], [1, -1, -1, -1]])
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    nll = [-math.log(p[b, t, tags[b, t]]) for b, t in zip(*np.nonzero(tags >= 0), strict=True)]
    assert as_numpy(losses.TokenCrossentropy()(tags, logits)) == pytest.approx(np.mean(nll), rel=1e-5)
    weights = np.array([1.0, 2.0, 0.5])
    w = weights[tags[tags >= 0]]
    got = as_numpy(losses.TokenCrossentropy(class_weights=weights)(tags, logits))
    assert got == pytest.approx(np.dot(w, nll) / w.sum(), rel=1e-5)
    smooth = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    want = as_numpy(smooth(np.eye(3)[tags[tags >= 0]], logits[tags >= 0]))
    assert as_numpy(losses.TokenCrossentropy(label_smoothing=0.2)(tags, logits)) == pytest.approx(want, rel=1e-5)
    assert as_numpy(losses.TokenCrossentropy()(np.full((2, 4), -1), logits)) == 0


@pytest.mark.parametrize(
    "loss",
    [
        losses.MultilabelCategoricalCrossentropy(soft=True),
        losses.SparseMultilabelCategoricalCrossentropy(mask_zero=True),
        losses.GlobalPointerLoss(sparse=True, type_weights=[1, 2]),
        losses.TokenCrossentropy(ignore=-100, label_smoothing=0.1, class_weights=[1, 2, 3]),
    ],
)
def test_loss_configuration(loss):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    assert again.dtype == "float32"


def test_indices_survive_a_low_default_dtype():
    logits = np.zeros((1, 600), "float32")
    logits[0, 257] = 20  # bfloat16 would read 256
    before = keras.config.floatx()
    keras.config.set_floatx("bfloat16")
    try:
        loss = as_numpy(losses.SparseMultilabelCategoricalCrossentropy()(np.array([[257]]), logits))
    finally:
        keras.config.set_floatx(before)
    assert loss == pytest.approx(np.log(600), rel=1e-5)
