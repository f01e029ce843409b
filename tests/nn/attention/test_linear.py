"""Linear attention against the quadratic evaluation of the same kernel, written from the formulas in NumPy."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from tests.nn.harness import as_numpy, check_layer, gradient, jit

from kexue.errors import ConfigError
from kexue.nn import masks
from kexue.nn.attention import linear_scan, registry
from kexue.nn.attention.linear import LinearAttention
from kexue.nn.attention.linear_scan import Keys
from kexue.nn.positions.base import PositionEncoding
from kexue.nn.positions.rotary import RotaryPosition

B, L, H, K, V, D = 2, 11, 2, 4, 3, 6


@keras.saving.register_keras_serializable(package="tests")
def squares(x):
    return ops.concatenate([x * x, ops.ones_like(x)], axis=-1)


FEATURES = ["exp", "elu+1", "relu", "double_softmax", "performer", "cosine+1", squares]
features = pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f if isinstance(f, str) else f.__name__)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def tensor(x):
    return ops.convert_to_tensor(x.astype("float32"))


def padding():
    mask = np.ones((B, L), bool)
    mask[0, 8:] = False
    mask[1, 0] = False  # the first causal row sees nothing
    return mask


SEGMENTS = np.array([[0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1]], "int32")
CONTIGUOUS = np.array([[1, 1, 1, 2, 2, 2, 2, 2, 0, 0, 0], [5, 3, 3, 3, 3, 3, 3, 3, 9, 9, 9]], "int32")
INTERLEAVED = np.array([[1, 2, 1, 2, 2, 1, 3, 3, 1, 0, 0], [-4, 7, 7, -4, -4, 7, 7, 0, 0, 7, -4]], "int32")
ORDER = np.array([[3, 1, 0, 2, 5, 4, 8, 7, 6, 10, 9], [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]], "int32")

CASES = {
    "all": (masks.Bidirectional(), {}),
    "causal": (masks.Causal(), {}),
    "reverse": (masks.Causal(reverse=True), {}),
    "prefix": (masks.Prefix(), {"segment_ids": SEGMENTS}),
    "permuted": (masks.Permuted(ORDER[0]), {}),
    "permuted by the batch": (masks.Permuted(), {"order": ORDER}),
    "tied order": (masks.Permuted(), {"order": ORDER // 3}),
    "all, packed": (masks.Bidirectional(), {"document_ids": CONTIGUOUS}),
    "causal, packed": (masks.Causal(), {"document_ids": CONTIGUOUS}),
    "reverse, packed": (masks.Causal(reverse=True) & masks.SameDocument(), {"document_ids": CONTIGUOUS}),
    "prefix, packed": (masks.Prefix(), {"segment_ids": SEGMENTS, "document_ids": CONTIGUOUS}),
    "permuted, packed": (masks.Permuted(ORDER[1]), {"document_ids": CONTIGUOUS}),
    "all, documents apart": (masks.SameDocument(), {"document_ids": INTERLEAVED}),
    "causal, documents apart": (masks.Causal() & masks.SameDocument(), {"document_ids": INTERLEAVED}),
}


def complex_turn(x, places):
    """RoPE by complex numbers, each group of K features alike."""
    pairs = x.reshape(*x.shape[:-1], -1, K // 2, 2)
    theta = 10000.0 ** (-np.arange(K // 2) * 2 / K)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * places[:, :, None, None, None] * theta)
    return np.stack([turned.real, turned.imag], -1).reshape(x.shape)


def reference(layer, x, mask, facts, padding_mask=None, *, positions=None):
    """All pairs, float64."""
    w = {v.name: as_numpy(v).astype("float64") for v in layer.weights}
    size = layer.sizes[0]
    fused = x.astype("float64") @ w["qkv_kernel"] + w.get("qkv_bias", 0)
    q, k, v = np.split(fused, [H * size, 2 * H * size], axis=-1)
    q, k, v = (t.reshape(*x.shape[:2], H, -1) for t in (q, k, v))
    seen = np.broadcast_to(
        as_numpy(mask.dense(x.shape[1], padding_mask=padding_mask, **facts)), (len(x), 1, *[x.shape[1]] * 2)
    )
    name, turn = layer.feature, positions is not None
    if turn and name in ("performer", "cosine+1"):
        q, k, turn = complex_turn(q, positions), complex_turn(k, positions), False
    per_feature = name == "double_softmax"
    if name == "exp":
        fq, fk = np.exp(q), np.exp(k)
    elif name == "elu+1":
        fq, fk = (np.where(t > 0, t + 1, np.exp(t)) for t in (q, k))
    elif name == "relu":
        fq, fk = np.maximum(q, 0), np.maximum(k, 0)
    elif per_feature:
        fq, fk = np.exp(q) / np.exp(q).sum(-1, keepdims=True), np.exp(k)
    elif name == "performer":
        q, k = q / size**0.25, k / size**0.25
        fq = np.exp(q @ w["projection"] - (q**2).sum(-1, keepdims=True) / 2)
        fk = np.exp(k @ w["projection"] - (k**2).sum(-1, keepdims=True) / 2)
    elif name == "cosine+1":
        one = np.ones((*q.shape[:-1], 1))
        fq, fk = (np.concatenate([t / np.linalg.norm(t, axis=-1, keepdims=True), one], -1) for t in (q, k))
    else:
        fq, fk = (np.concatenate([t * t, np.ones_like(t)], -1) for t in (q, k))
    m = seen.astype("float64")
    if per_feature:
        total = np.einsum("bgij,bjhm->bihm", m, fk)
        fq = np.divide(fq, total, out=np.zeros_like(fq), where=total > 0)
    down = np.einsum("bihm,bjhm->bhij", fq, fk) * m
    up = (
        down if not turn else np.einsum("bihm,bjhm->bhij", complex_turn(fq, positions), complex_turn(fk, positions)) * m
    )
    if not per_feature:
        bottom = down.sum(-1, keepdims=True)
        up = np.divide(up, bottom, out=np.zeros_like(up), where=bottom > 0)
    out = np.einsum("bhij,bjhv->bihv", up, v).reshape(*x.shape[:2], -1)
    return out @ w["output_kernel"] + w.get("output_bias", 0)


def build(feature, mask=None, spread=0.7, **kwargs):
    layer = LinearAttention(H, K, V, feature=feature, key_multiplier=2, mask=mask, **kwargs)
    layer.build((None, None, D))
    for i, variable in enumerate(layer.trainable_variables):
        variable.assign(random(*variable.shape, seed=i) * spread)
    return layer


def check(layer, x, mask, facts, padding_mask=None, tolerance=1e-5, **kwargs):
    given = {"padding_mask": padding_mask, **facts, **kwargs}
    given = {name: value for name, value in given.items() if value is not None}
    run = jit(lambda x, *values: layer(x, **dict(zip(given, values, strict=True))))
    got = as_numpy(run(x, *given.values()))
    np.testing.assert_allclose(got, reference(layer, x, mask, facts, padding_mask), atol=tolerance, rtol=1e-4)
    return got


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Several chunks although the sequences are short."""
    monkeypatch.setattr(linear_scan.scan, "__defaults__", (False, False, 4))
    monkeypatch.setattr(linear_scan.prefix_sums, "__defaults__", (False, False, 4))


# Every feature map on masks that take each of the roads, the others on the maps with shifts and with sums of their own.
PAIRS = [
    (f, name)
    for name in CASES
    for f in (FEATURES if name in ("all", "causal", "prefix, packed") else ["exp", "double_softmax"])
]


@pytest.mark.parametrize(("feature", "name"), PAIRS, ids=lambda x: getattr(x, "__name__", x))
def test_equals_the_quadratic_evaluation(feature, name):
    mask, facts = CASES[name]
    layer = build(feature, mask, use_bias=feature != "relu")
    x = random(B, L, D, seed=5)
    if feature == "exp":
        check(layer, x, mask, facts)
    got = check(layer, x, mask, facts, padding())
    without_bias = got - (0 if layer.output_bias is None else as_numpy(layer.output_bias))
    seen = as_numpy(mask.dense(L, padding_mask=padding(), **facts)).any(-1)[:, 0]
    assert not np.broadcast_to(without_bias, got.shape)[~np.broadcast_to(seen, got.shape[:2])].any()


@features
@pytest.mark.parametrize("name", ["all", "causal", "prefix, packed"])
def test_rotary_positions(feature, name):
    mask, facts = CASES[name]
    positions = RotaryPosition(K)
    ids = np.stack([np.arange(L), np.arange(L)[::-1] * 3])
    layer = build(feature, mask, positions=positions)
    x = random(B, L, D, seed=5)
    run = jit(lambda x: layer(x, padding_mask=padding(), tables=positions.tables(ids, ids), **facts))
    got, want = run(x), reference(layer, x, mask, facts, padding(), positions=ids)
    np.testing.assert_allclose(as_numpy(got), want, atol=3e-5, rtol=1e-4)


@settings(max_examples=8)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([1, 9, 12]), st.sampled_from([1, 4, 14]), st.booleans(), st.booleans()
)
def test_the_scan_for_any_groups(seed, length, chunk, strict, backward):
    """With keys of wildly different sizes: the shifts keep every row exact."""
    rng = np.random.default_rng(seed)
    q, k = rng.random((2, 1, 2, length, 3))
    v = rng.normal(size=(1, 2, length, 2))
    shift = rng.normal(size=(1, 2, length)) * 60
    groups = np.sort(rng.integers(-1, 3, (1, length)))
    x = Keys(*map(tensor, (q, k, v)), ops.convert_to_tensor(groups, dtype="int32"), tensor(shift))

    def run(*x):
        out = linear_scan.divide(*linear_scan.scan(Keys(*x), strict, backward, chunk)[:2])
        return out, linear_scan.prefix_sums(x[1], x[3], strict, backward, chunk)

    got, total = map(as_numpy, jit(run)(*x[:5]))
    index = np.arange(length)
    seen = (groups[0][:, None] == groups[0]) & ((index[:, None] <= index) if backward else (index[:, None] >= index))
    seen &= ~np.eye(length, dtype=bool) | (not strict)
    np.testing.assert_allclose(total, seen.astype(float) @ k, atol=1e-5)
    shift = as_numpy(x.shift).astype("float64")
    for h, i in np.ndindex(2, length):
        keys = np.flatnonzero(seen[i])
        want = np.zeros(2)
        if len(keys):
            weights = np.exp(shift[0, h, keys] - shift[0, h, keys].max()) * (k[0, h, keys] @ q[0, h, i])
            want = weights @ v[0, h, keys] / weights.sum()
        np.testing.assert_allclose(got[0, h, i], want, atol=2e-5)


@features
@pytest.mark.parametrize("rotary", [False, True])
def test_steps_equal_the_causal_form(feature, rotary):
    positions = RotaryPosition(K) if rotary else None
    layer = build(feature, masks.Causal(), positions=positions)
    x = random(B, L, D, seed=5)
    ids = np.arange(L)[None]
    want = as_numpy(layer(x, tables=positions.tables(ids, ids) if rotary else ()))
    state, rows = layer.initial_state(B), []
    step = jit(layer.step)
    size = [t.shape for t in state]
    for t in range(L):
        if t % 2:
            y, state = step(x[:, t], state, t)
        else:
            y, state = step(x[:, t : t + 1], state, np.full(B, t))
            y = y[:, 0]
        rows.append(as_numpy(y))
        assert [t.shape for t in state] == size
    np.testing.assert_allclose(np.stack(rows, 1), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("feature", ["exp", "performer", "double_softmax"])
@pytest.mark.parametrize("name", ["all", "causal", "causal, packed"])
def test_large_keys(feature, name):
    """Keys whose features leave the range of float32: rows are still weighted means, equal to the reference in
    float64; a large key later on changes nothing before it."""
    mask, facts = CASES[name]
    layer = build(feature, mask)
    x = random(B, L, D, seed=5) * 2
    w, size = layer.qkv_kernel, H * layer.sizes[0]
    limit = {"exp": 20.0, "performer": 15.0, "double_softmax": 20.0}[feature]
    w.assign(as_numpy(w) * limit / np.abs(x @ as_numpy(w)).max())
    if feature == "exp":  # exp(300) is no float32 number
        layer.qkv_bias.assign(np.where(np.arange(layer.qkv_bias.shape[0]) // size == 1, 300.0, 0.0))
    layer.output_kernel.assign(as_numpy(layer.output_kernel) / 20)
    run = jit(lambda x: layer(x, **facts))
    got = as_numpy(run(x))
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, reference(layer, x, mask, facts), atol=2e-3, rtol=2e-3)
    if name == "causal":
        later = x.copy()
        later[:, -1] *= 20
        np.testing.assert_allclose(as_numpy(run(later))[:, :-1], got[:, :-1], atol=1e-6)


@features
@pytest.mark.parametrize("name", ["all", "causal", "prefix, packed"])
def test_gradients(feature, name):
    """Finite, zero from rows that see nothing, and those of finite differences of the reference."""
    mask, facts = CASES[name]
    layer = build(feature, mask, spread=0.4)
    x, probe = random(B, L, D, seed=5), random(B, L, D, seed=6)
    keep = padding()
    slope = gradient(lambda t: ops.sum(layer(t, padding_mask=keep, **facts) * ops.convert_to_tensor(probe)), x)
    assert np.isfinite(slope).all()
    direction, h = random(*x.shape, seed=7).astype("float64"), 1e-6
    high, low = ((reference(layer, x + s * direction, mask, facts, keep) * probe).sum() for s in (h, -h))
    np.testing.assert_allclose((slope * direction).sum(), (high - low) / (2 * h), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("feature", ["exp", "double_softmax", "performer"])
def test_padding_may_hold_anything(feature):
    for name in ("all", "causal", "causal, packed"):
        mask, facts = CASES[name]
        layer, keep = build(feature, mask), padding()
        x = random(B, L, D, seed=5)
        odd = np.where(keep[..., None], x, np.float32(1e6))
        run = jit(lambda t, layer=layer, facts=facts, keep=keep: layer(t, padding_mask=keep, **facts))
        got, want = as_numpy(run(odd)), as_numpy(run(x))
        np.testing.assert_allclose(got[keep], want[keep], atol=1e-6)


@pytest.mark.parametrize("name", ["all, packed", "causal, packed", "prefix, packed"])
def test_packed_equals_apart(name):
    mask, facts = CASES[name]
    layer = build("exp", mask)
    x = random(B, L, D, seed=5)
    whole = as_numpy(layer(x, **facts))
    documents = facts["document_ids"]
    for row in range(B):
        for document in np.unique(documents[row]):
            here = documents[row] == document
            own = {n: t[row][here][None] for n, t in facts.items() if n == "segment_ids"}
            np.testing.assert_allclose(as_numpy(layer(x[row][here][None], **own))[0], whole[row][here], atol=1e-5)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"mask": "causal", "feature": "exp"},
        {"feature": "performer", "dropout": 0.2},
        {"mask": masks.Causal(reverse=True), "feature": squares, "use_bias": False},
        {"mask": "causal", "feature": "double_softmax"},
    ],
    ids=["exp", "performer", "squares", "double_softmax"],
)
def test_layer_contract(tmp_path, kwargs):
    keep = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    make = functools.partial(LinearAttention, H, K, initializer=0.4, **kwargs)
    check_layer(make, {"x": random(2, 5, D), "padding_mask": keep}, tmp_path)


def test_compiled_with_documents():
    mask, facts = CASES["causal, packed"]
    layer = build("exp", mask)
    x = random(B, L, D, seed=5)
    want = as_numpy(layer(x, **facts))
    got = jit(lambda t, d: layer(t, document_ids=d))(x, facts["document_ids"])
    np.testing.assert_allclose(as_numpy(got), want, atol=1e-5)


@pytest.mark.parametrize(
    "mask",
    [
        masks.Window(2, 2),
        masks.Window(3, 0),
        masks.Permuted(strict=True),
        ~masks.Causal(),
        masks.Causal() | masks.SameDocument(),
        masks.Causal() & masks.Prefix(),
        masks.Causal() & masks.Window(2, 2),
    ],
    ids=repr,
)
def test_masks_it_cannot_do(mask):
    with pytest.raises(ConfigError, match=r"Bidirectional\(\), Causal\(\)"):
        LinearAttention(H, K, mask=mask)


@pytest.mark.parametrize(
    "mask", [masks.Window(None, 0), masks.Window(0, None), masks.Causal() & masks.Bidirectional()], ids=repr
)
def test_masks_that_are_others_in_disguise(mask):
    x = random(B, L, D, seed=5)
    check(build("exp", mask), x, mask, {})


def test_errors():
    class Biased(PositionEncoding):
        def scores(self, q, k, tables, *, scale, layer):
            return None

    for kwargs, words in (
        ({"feature": "sigmoid"}, "'sigmoid'"),
        ({"key_multiplier": 0}, "key_multiplier=0"),
        ({"positions": Biased()}, "Biased"),
    ):
        with pytest.raises(ConfigError, match=words):
            LinearAttention(H, K, **kwargs)
    with pytest.raises(ConfigError, match="needs mask=Causal"):
        LinearAttention(H, K).step(random(1, D), None)
    with pytest.raises(ConfigError, match="document_ids"):
        LinearAttention(H, K, mask=masks.SameDocument())(random(1, 4, D))
    with pytest.raises(ConfigError, match="order"):
        LinearAttention(H, K, mask=masks.Permuted())(random(1, 4, D))
    with pytest.raises(ConfigError, match="redraw"):
        build("exp").redraw()
    with pytest.raises(ConfigError, match="cannot do key_heads=1"):
        registry.make("linear", {}, heads=2, key_size=4, key_heads=1)


def test_dropout_hides_keys():
    """Zero values but the identity: the output shows the weights of the keys; a hidden one is hidden from all."""
    length = 32
    layer = LinearAttention(1, 4, length, dropout=0.5, use_bias=False, feature="elu+1")
    x = np.eye(length, dtype="float32")[None]
    layer(x)
    size = layer.sizes[0]
    layer.qkv_kernel.assign(np.concatenate([random(length, 2 * size), np.eye(length)], axis=1))
    layer.output_kernel.assign(np.eye(length))
    p = as_numpy(layer(x, training=True))[0]
    hidden = (p == 0).all(axis=0)
    assert 4 < hidden.sum() < 28
    assert (p[:, ~hidden] > 0).all()
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
