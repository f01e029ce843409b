"""Pointer heads against a double loop, and span decoding against brute force."""

import functools
import itertools

import keras
import numpy as np
import pytest
from tests.nn.harness import as_numpy, check_layer

from kexue.errors import ConfigError, DataError
from kexue.nn.heads import EfficientGlobalPointer, GlobalPointer, decode_spans
from kexue.nn.losses import MASKED_SCORE, GlobalPointerLoss
from kexue.nn.metrics import SpanF1

HEADS = [GlobalPointer, EfficientGlobalPointer]
PADDING = np.array([[1] * 5, [1, 1, 1, 0, 0]])


def features(shape=(2, 5, 7), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def turned(v, position, base, layout):
    """The rotation of one vector, by complex numbers."""
    d = len(v)
    z = v[0::2] + 1j * v[1::2] if layout == "interleaved" else v[: d // 2] + 1j * v[d // 2 :]
    z = z * np.exp(1j * position * base ** (-2 * np.arange(d // 2) / d))
    out = np.empty(d)
    if layout == "interleaved":
        out[0::2], out[1::2] = z.real, z.imag
    else:
        out[: d // 2], out[d // 2 :] = z.real, z.imag
    return out


def brute_force(layer, x, positions):
    """Scores of one example by the formulas, one span at a time."""
    d, types = layer.head_size, layer.types
    weights = [np.asarray(w, float) for w in layer.get_weights()]
    y = x @ weights[0] + (weights[1] if layer.use_bias else 0)

    def turn(v, m):
        return turned(v, positions[m], layer.rotary_base, layer.rotary_layout) if layer.rotary else v

    out = np.zeros((types, len(x), len(x)))
    for t, i, j in itertools.product(range(types), range(len(x)), range(len(x))):
        if isinstance(layer, GlobalPointer):
            q, k = y[i, 2 * d * t : 2 * d * t + d], y[j, 2 * d * t + d : 2 * d * (t + 1)]
            extra = 0.0
        else:
            q, k = y[i, 0::2], y[j, 1::2]
            e = y @ weights[-2 if layer.use_bias else -1] + (weights[-1] if layer.use_bias else 0)
            extra = (e[j, 2 * t] + e[i, 2 * t + 1]) / 2
        out[t, i, j] = turn(q, i) @ turn(k, j) / np.sqrt(d) + extra
    return out


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rotary": False, "use_bias": False},
        {"rotary_base": 50.0, "rotary_layout": "half"},
        {"triangular": False},
        {"rotary": False, "head_size": 3},
    ],
)
def test_scores_equal_double_loop(head, options):
    layer = head(**{"types": 3, "head_size": 4, **options})
    x = features()
    layer(x)
    layer.set_weights([features(w.shape, seed=i) for i, w in enumerate(layer.weights)])
    positions = np.array([[0, 1, 2, 3, 4], [0, 1, 0, 1, 2]])
    documents = np.array([[1, 1, 1, 1, 1], [1, 1, 2, 2, 2]])
    padding = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    got = as_numpy(layer(x, padding_mask=padding, position_ids=positions, document_ids=documents))
    assert got.dtype == np.float32
    for b in range(2):
        want = brute_force(layer, x[b].astype(float), positions[b])
        for i, j in itertools.product(range(5), range(5)):
            may = padding[b, i] and padding[b, j] and documents[b, i] == documents[b, j]
            if not may or (layer.triangular and i > j):
                np.testing.assert_array_equal(got[b, :, i, j], np.float32(MASKED_SCORE))
            else:
                np.testing.assert_allclose(got[b, :, i, j], want[:, i, j], atol=1e-4)
    plain = as_numpy(layer(x))
    upper = np.triu(np.ones((5, 5), bool))
    np.testing.assert_allclose(plain[0][:, upper], brute_force(layer, x[0], range(5))[:, upper], atol=1e-4)


def test_parameter_counts():
    for head, types, count in (
        (GlobalPointer, 9, 885_888),
        (GlobalPointer, 1, 98_304 + 128),
        (EfficientGlobalPointer, 9, 100_754),
        (EfficientGlobalPointer, 10, 100_754 + 4 * 64 + 2),
    ):
        layer = head(types)
        layer.build((None, None, 768))
        assert layer.count_params() == count


@pytest.mark.parametrize("head", HEADS)
def test_layer_contract(head, tmp_path):
    make = functools.partial(head, 3, 8, rotary_base=100.0, kernel_regularizer="l2")
    inputs = {"x": features((2, 6, 16)), "padding_mask": np.array([[1] * 6, [1, 1, 1, 0, 0, 0]], "int32")}
    check_layer(make, inputs, tmp_path, output_dtype="float32")
    inputs["position_ids"] = np.array([range(6), [0, 1, 2, 0, 1, 2]], "int32")
    inputs["document_ids"] = np.array([[0] * 6, [1, 1, 1, 2, 2, 2]], "int32")
    check_layer(make, inputs, tmp_path, output_dtype="float32", policies=())


@pytest.mark.parametrize("head", HEADS)
def test_padding_changes_nothing(head):
    layer = head(2, 8)
    x = features((1, 6, 7))
    short = as_numpy(layer(x[:, :4]))
    long = as_numpy(layer(np.where(np.arange(6)[:, None] < 4, x, np.float32(1e4)), padding_mask=[[1, 1, 1, 1, 0, 0]]))
    np.testing.assert_allclose(long[:, :, :4, :4], short, atol=1e-5)
    assert (long[:, :, 4:] == np.float32(MASKED_SCORE)).all()
    assert (long[:, :, :, 4:] == np.float32(MASKED_SCORE)).all()


@pytest.mark.parametrize("head", HEADS)
def test_packed_rows_equal_single_documents(head):
    layer = head(2, 8)
    a, b = features((1, 3, 7), 1), features((1, 2, 7), 2)
    packed = as_numpy(
        layer(np.concatenate([a, b], 1), position_ids=[[0, 1, 2, 0, 1]], document_ids=np.array([[0, 0, 0, 1, 1]]))
    )
    np.testing.assert_allclose(packed[:, :, :3, :3], as_numpy(layer(a)), atol=1e-5)
    np.testing.assert_allclose(packed[:, :, 3:, 3:], as_numpy(layer(b)), atol=1e-5)
    assert (packed[:, :, :3, 3:] == np.float32(MASKED_SCORE)).all()


def test_two_efficient_projections_start_different_and_scaled():
    layer = EfficientGlobalPointer(64, 64)
    layer.build((None, None, 128))
    first, _, second, _ = layer.get_weights()
    assert not np.allclose(first, second)
    assert first.std() == pytest.approx(128**-0.5, rel=0.05)  # LeCun: variance 1 / fan in


@pytest.mark.parametrize("head", HEADS)
def test_learns_spans(head):
    """A few steps of Keras fit reach the right spans: entities run from a token of kind 1 to the next one of kind 2."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    ids = rng.integers(3, 9, (64, 10))
    targets = np.full((64, 1, 2, 2), -1, "int32")
    for row, y in zip(ids, targets, strict=True):
        starts = sorted(rng.choice(4, 2, replace=False) * 2)
        for n, start in enumerate(starts):
            end = start + rng.integers(1, 3) - (start + 2 in starts and 0)
            end = min(end, start + 1)
            row[start], row[end], y[0, n] = 1, 2, (start, end)
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, 16)(inputs)
    model = keras.Model(inputs, head(1, 16)(x, padding_mask=inputs > 0))
    model.compile(keras.optimizers.Adam(0.02), GlobalPointerLoss(sparse=True), metrics=[SpanF1(sparse=True)])
    history = model.fit(ids, targets, batch_size=16, epochs=25, verbose=0).history
    assert history["span_f1"][-1] > 0.95
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    found = decode_spans(model.predict(ids, verbose=0))
    gold = [{(int(s), int(e)) for s, e in y[0] if s >= 0} for y in targets]
    right = sum(len({(s.start, s.end) for s in f} & g) for f, g in zip(found, gold, strict=True))
    assert right > 0.9 * sum(map(len, gold))


def test_initializer_may_be_a_function():
    layer = EfficientGlobalPointer(2, 4, kernel_initializer=lambda shape, dtype=None: keras.ops.ones(shape, dtype))
    layer.build((None, None, 3))
    assert (layer.get_weights()[0] == 1).all()


def test_bad_sizes_are_refused():
    for arguments in ({"types": 0}, {"types": 2, "head_size": 5}, {"types": 2, "head_size": 0}):
        with pytest.raises(ConfigError, match="head_size"):
            GlobalPointer(**arguments)


def brute_spans(scores, limits, valid, flat):
    types, n, _ = scores.shape
    found = [
        (i, j, t, float(scores[t, i, j]))
        for i in range(n)
        for j in range(i, n)
        for t in range(types)
        if scores[t, i, j] > limits[t] and valid[i] and valid[j]
    ]
    if flat:
        kept = []
        for span in sorted(found, key=lambda s: (-s[3], s[0], s[1], s[2])):
            if all(span[1] < other[0] or other[1] < span[0] for other in kept):
                kept.append(span)
        found = sorted(kept)
    return found


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 1.0, [0.5, -1.0, 2.0]])
def test_decode_equals_brute_force(flat, threshold):
    rng = np.random.default_rng(0)
    logits = np.round(rng.normal(size=(6, 3, 7, 7)) * 2).astype("float32")  # rounded: many ties
    valid = rng.random((6, 7)) < 0.8
    limits = np.broadcast_to(threshold, 3)
    for mask in (None, valid):
        got = decode_spans(logits, threshold, mask, flat)
        everything = np.ones((6, 7), bool) if mask is None else mask
        assert got == [brute_spans(logits[b], limits, everything[b], flat) for b in range(6)]
        assert sum(map(len, got)) > 10
        assert all(isinstance(v, (int, float)) for s in got[0] for v in s)


def test_decode_of_the_layer_finds_no_padding():
    logits = GlobalPointer(2, 4)(features() * 5, padding_mask=PADDING)
    spans = decode_spans(logits)[1]
    assert spans
    assert max(s.end for s in spans) < 3


def test_decode_refuses_wrong_shapes():
    for arguments in (
        (np.zeros((2, 3, 3)),),
        (np.zeros((1, 2, 3, 3)), [0.0] * 3),
        (np.zeros((1, 2, 3, 3)), 0.0, np.ones((1, 4))),
    ):
        with pytest.raises(DataError, match="Received"):
            decode_spans(*arguments)
