"""Scale policies: what they count, what they leave alone, and the golden values of the articles."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from tests.nn.harness import as_numpy, gradient

from kexue.errors import ConfigError
from kexue.models import Transformer, TransformerConfig
from kexue.nn import masks
from kexue.nn.attention import scales
from kexue.nn.attention.multihead import MultiHeadAttention
from kexue.nn.attention.scales import LogN, entropy_invariant_softmax

B, L, H, D = 2, 6, 2, 5


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def built(**kwargs):
    layer = MultiHeadAttention(H, 4, initializer=0.6, **kwargs)
    layer.build((None, None, D))
    for i, variable in enumerate(layer.trainable_variables):
        variable.assign(random(*variable.shape, seed=i))
    return layer


def brute_force(layer, x, seen, train_length=512, floor=1, clip=False):
    """A row at a time, the number of its keys counted one by one; float64."""
    w = {v.name: as_numpy(v).astype("float64") for v in layer.weights}
    q, k, v = np.split(x @ w["qkv_kernel"] + w["qkv_bias"], 3, axis=-1)
    q, k, v = (t.reshape(*x.shape[:2], H, 4) for t in (q, k, v))
    seen = np.broadcast_to(seen, (len(x), 1, x.shape[1], x.shape[1]))
    out = np.zeros(v.shape)
    for b, i, h in np.ndindex(*x.shape[:2], H):
        keys = [j for j in range(x.shape[1]) if seen[b, 0, i, j]]
        if keys:
            factor = math.log(max(len(keys), floor)) / math.log(train_length)
            factor = max(factor, 1.0) if clip else factor
            s = np.array([factor * (q[b, i, h] @ k[b, j, h]) / 2.0 for j in keys])
            p = np.exp(s - s.max())
            out[b, i, h] = p / p.sum() @ v[b, keys, h]
    return out.reshape(*x.shape[:2], -1) @ w["output_kernel"] + w["output_bias"]


PADDING = np.array([[1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1]], bool)
DOCUMENTS = np.array([[1, 1, 2, 2, 2, 3], [1, 1, 1, 1, 1, 2]])
SEEN = {
    "all": masks.Bidirectional().dense(L),
    "padding": masks.Bidirectional().dense(L, padding_mask=PADDING),
    "causal": masks.Causal().dense(L),
    "causal and padding": masks.Causal().dense(L, padding_mask=PADDING),
    "packed": masks.Bidirectional().dense(L, document_ids=DOCUMENTS),
    "packed and causal": masks.Causal().dense(L, document_ids=DOCUMENTS, padding_mask=PADDING),
    "nothing": np.zeros((1, 1, L, L), bool),
}
POLICIES = {
    "log_n": {},
    "softmax_plus": {"floor": 16},
    LogN(train_length=4): {"train_length": 4},
    LogN(train_length=4, floor=3, clip=True): {"train_length": 4, "floor": 3, "clip": True},
}


@pytest.mark.parametrize("seen", SEEN.values(), ids=SEEN)
@pytest.mark.parametrize(("scale", "rule"), POLICIES.items(), ids=map(str, POLICIES))
def test_equals_counting_each_row(seen, scale, rule):
    x, layer = random(B, L, D), built(scale=scale)
    got = as_numpy(layer(x, attention_mask=ops.convert_to_tensor(seen)))
    np.testing.assert_allclose(got, brute_force(layer, x, as_numpy(seen), **rule), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("padded", [False, True])
def test_the_causal_flag_counts_as_the_matrix_does(padded):
    """The layer is told "causal" and the padding, never the matrix."""
    x, layer = random(B, L, D), built(scale="log_n", causal=True)
    padding = PADDING[:, None, None] if padded else None
    got = as_numpy(layer(x, attention_mask=None if padding is None else ops.convert_to_tensor(padding)))
    seen = as_numpy(SEEN["causal and padding" if padded else "causal"])
    np.testing.assert_allclose(got, brute_force(layer, x, seen), atol=2e-5, rtol=1e-4)


def test_counts():
    def count(mask, causal):
        mask = None if mask is None else ops.convert_to_tensor(mask)
        got = as_numpy(scales.visible_counts(mask, causal, L, L))
        return np.broadcast_to(got, (B, 1, L))[:, 0].tolist()

    assert count(None, False) == [[6] * 6] * 2
    assert count(None, True) == [[1, 2, 3, 4, 5, 6]] * 2
    assert count(PADDING[:, None, None], False) == [[4] * 6, [5] * 6]
    assert count(PADDING[:, None, None], True) == [[1, 2, 3, 4, 4, 4], [0, 1, 2, 3, 4, 5]]
    documents = as_numpy(SEEN["packed"])
    assert count(documents, False) == [[2, 2, 3, 3, 3, 1], [5, 5, 5, 5, 5, 1]]
    assert count(documents, True) == [[1, 2, 1, 2, 3, 1], [1, 2, 3, 4, 5, 1]]


def test_512_keys_are_the_ordinary_softmax():
    s = random(3, 512) * 4
    np.testing.assert_allclose(as_numpy(entropy_invariant_softmax(s)), as_numpy(ops.softmax(s)), atol=1e-6)
    s = random(1, 8) * 4
    assert np.abs(as_numpy(entropy_invariant_softmax(s)) - as_numpy(ops.softmax(s))).max() > 0.01
    x = random(1, 512, D)
    layers = [built(scale=scale) for scale in ("sqrt", "log_n", "softmax_plus", LogN(clip=True))]
    plain, *others = (as_numpy(layer(x)) for layer in layers)
    for other in others:
        np.testing.assert_allclose(other, plain, atol=1e-5)


@pytest.mark.parametrize("scale", ["log_n", "softmax_plus", LogN(train_length=8)])
def test_padding_changes_nothing(scale):
    layer, x = built(scale=scale), random(1, L, D)
    more = np.concatenate([x, random(1, 4, D, seed=9) * 10], axis=1)
    keep = np.arange(L + 4)[None, None, None] < L
    got = as_numpy(layer(more, attention_mask=ops.convert_to_tensor(keep)))[:, :L]
    np.testing.assert_allclose(got, as_numpy(layer(x)), atol=1e-5)


def test_the_first_causal_rows():
    """log 1 = 0: a single key needs no scale. With two keys ``log_n`` is nearly uniform, whatever the scores, because
    log 2 / log 512 = 1/9; ``softmax_plus`` counts 16 and is not: the reason for its floor."""
    s = np.array([[40.0, 0, 0, 0]] * 2, "float32")
    seen = np.array([[1, 0, 0, 0], [1, 1, 0, 0]], bool)
    p = as_numpy(entropy_invariant_softmax(s / 10, ops.convert_to_tensor(seen)))
    assert p[0].tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(p[1], [1 / (1 + math.exp(-4 / 9)), 1 / (1 + math.exp(4 / 9)), 0, 0], rtol=1e-5)
    plus = as_numpy(entropy_invariant_softmax(s / 10, ops.convert_to_tensor(seen), floor=16))
    np.testing.assert_allclose(plus[1, 1], 1 / (1 + math.exp(4 * math.log(16) / math.log(512))), rtol=1e-5)
    assert plus[1, 1] < p[1, 1] / 2


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([0, 1, 2, -1]), st.sampled_from([1, 16]))
def test_entropy_invariant_softmax(seed, length, axis, floor):
    rng = np.random.default_rng(seed)
    shape = [3, 3, 3]
    shape[axis] = length
    s, seen = rng.normal(size=shape).astype("float32") * 5, rng.random(shape) < 0.6
    got = as_numpy(entropy_invariant_softmax(s, ops.convert_to_tensor(seen), train_length=100, floor=floor, axis=axis))
    rows, visible, result = (np.moveaxis(t, axis, -1).reshape(-1, length) for t in (s, seen, got))
    for row, see, p in zip(rows.astype("float64"), visible, result, strict=True):
        want = np.zeros(length)
        if see.any():
            e = np.exp(row[see] * math.log(max(see.sum(), floor)) / math.log(100))
            want[see] = e / e.sum()
        np.testing.assert_allclose(p, want, atol=1e-5)


def test_entropy_invariant_softmax_precision_and_gradient():
    s = ops.cast(random(2, 7) * 3, "float16")
    seen = np.array([[1] * 7, [0] * 7], bool)
    p = entropy_invariant_softmax(s, ops.convert_to_tensor(seen))
    assert keras.backend.standardize_dtype(p.dtype) == "float32"
    assert not as_numpy(p)[1].any()
    slope = gradient(lambda t: ops.sum(entropy_invariant_softmax(t, ops.convert_to_tensor(seen))[:, 0]), random(2, 7))
    assert np.isfinite(slope).all()
    assert slope[0].any()
    assert not slope[1].any()


# ---------------------------------------------------------------- the mathematics of article 9034


def entropies(p):
    return -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=-1)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0.01, 5))
def test_entropy_is_log_z_less_the_mean_score(seed, n, factor):
    """H = log Z - <s> = log n + log mean exp(s) - <s>, between 0 and log n."""
    s = np.random.default_rng(seed).normal(size=(1, n)).astype("float32") * 3
    p = as_numpy(entropy_invariant_softmax(s, train_length=n + 1)).astype("float64")
    scaled = s.astype("float64") * math.log(n) / math.log(n + 1)
    h = entropies(p)
    np.testing.assert_allclose(h, np.log(np.exp(scaled).sum(-1)) - (p * scaled).sum(-1), atol=1e-4)
    assert -1e-6 <= h[0] <= math.log(n) + 1e-5


def sphere_drop(d, factor):
    """H - log n for a query and infinitely many keys uniform on the sphere of radius sqrt(d), by quadrature over the
    angle: density sin(t)^(d-2), scores factor d cos(t)."""
    t = np.linspace(0, np.pi, 20001)[1:-1]
    logs = (d - 2) * np.log(np.sin(t))
    density = np.exp(logs - logs.max())
    density /= density.sum()
    s = factor * d * np.cos(t)
    shifted = np.exp(s - s.max()) * density
    return np.log(shifted.sum()) + s.max() - (shifted * s).sum() / shifted.sum()


@pytest.mark.parametrize(("factor", "drop"), [(0.125, -0.4890), (0.5, -6.0511), (1.0, -15.4734)])
def test_drop_of_entropy_on_the_sphere(factor, drop):
    """The golden values, and the saddle point; 0.24 factor d of the article holds at factor 1 only."""
    assert sphere_drop(64, factor) == pytest.approx(drop, abs=2e-4)
    c = (math.sqrt(1 + 4 * factor**2) - 1) / (2 * factor)
    assert 32 * math.log(1 - c * c) == pytest.approx(drop, rel=0.05)
    if factor == 1:
        assert drop / 64 == pytest.approx(-0.5 * math.log((1 + 5**0.5) / 2), rel=0.01)  # 0.2406


@pytest.mark.parametrize(
    ("factor", "means"),
    [
        (lambda n: 1 / 8, (3.686, 5.749, 7.135)),
        (lambda n: math.log(n) / math.log(512) / 8, (3.943, 5.749, 6.900)),
        (lambda n: math.log(n) / (0.24 * 64), (2.488, 2.821, 2.930)),
    ],
    ids=["1 / sqrt d", "log_512 n / sqrt d", "log n / (0.24 d)"],
)
def test_mean_entropies_of_random_vectors(factor, means):
    """d = 64, vectors of length sqrt d: only the strong scale keeps the entropy about flat. Through the library."""
    rng = np.random.default_rng(0)
    for n, want in zip((64, 512, 2048), means, strict=True):
        k = rng.normal(size=(20, n, 64))
        q = rng.normal(size=(20, 25, 64))
        k, q = (t / np.linalg.norm(t, axis=-1, keepdims=True) * 8 for t in (k, q))
        s = (q @ np.swapaxes(k, -1, -2)).astype("float32")
        p = as_numpy(entropy_invariant_softmax(s * factor(n) * math.log(512) / math.log(n)))
        assert entropies(p.astype("float64")).mean() == pytest.approx(want, abs=0.09)


# ---------------------------------------------------------------- policies as options


def test_policies_as_configuration():
    for scale in ("sqrt", "log_n", "softmax_plus", 0.3, LogN(64, 4, True)):
        policy = scales.get(scale)
        assert scales.get(scales.to_config(policy)) == policy
        layer = MultiHeadAttention(2, 4, scale=scale)
        again = MultiHeadAttention.from_config(layer.get_config())
        assert again.scale == layer.scale
    for wrong in ("log", True, {"train": 3}, None):
        with pytest.raises(ConfigError, match="scale must be"):
            scales.get(wrong)
    with pytest.raises(ConfigError, match="train_length=1"):
        LogN(train_length=1)


def test_in_a_transformer():
    """The policy reaches the layers: the same weights without it give something else."""
    config = TransformerConfig(
        vocabulary_size=30, hidden_size=8, num_layers=2, num_heads=2, intermediate_size=16, initializer=0.3,
        attention_options={"scale": {"train_length": 8}},
    )  # fmt: skip
    model, other = Transformer(config), Transformer(config.replace(attention_options={}))
    other.set_weights(model.get_weights())
    ids = np.random.default_rng(0).integers(1, 30, (2, 5)).astype("int32")
    first, second = (as_numpy(m({"token_ids": ids})["sequence_output"]) for m in (model, other))
    assert np.abs(first - second).max() > 1e-3
