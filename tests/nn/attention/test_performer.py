"""Random features: without bias, with the variance of theory; the layer as an approximation of softmax attention."""

import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy

from kexue.errors import ConfigError
from kexue.nn import masks
from kexue.nn.attention.linear import LinearAttention
from kexue.nn.attention.multihead import MultiHeadAttention
from kexue.nn.attention.performer import (
    chi_quantiles,
    kernel_variance,
    performer_error,
    random_features,
    random_projection,
)
from kexue.nn.positions.rotary import RotaryPosition

SIZE, FEATURES = 16, 64


def golden_pair():
    """|q| = |k| = 0.5 in 16 dimensions with q.k = -0.0916."""
    rng = np.random.default_rng(0)
    q, r = np.linalg.qr(rng.normal(size=(SIZE, 2)))[0].T
    cosine = -0.0916 / 0.25
    return 0.5 * q, 0.5 * (cosine * q + np.sqrt(1 - cosine**2) * r)


def estimates(q, k, draws, **kwargs):
    result = []
    for draw in range(draws):
        w = random_projection(SIZE, FEATURES, seed=[1, draw], **kwargs)
        result.append(random_features(q, w) @ random_features(k, w))
    return np.array(result)


def test_golden_values():
    """The specification's example: e^(q.k) = 0.91249; the standard deviation of theory 0.0696."""
    q, k = golden_pair()
    assert np.exp(q @ k) == pytest.approx(0.91249, abs=3e-5)
    assert kernel_variance(q, k, FEATURES) ** 0.5 == pytest.approx(0.0696, abs=1e-4)
    draws = 4000
    iid = estimates(q, k, draws, orthogonal=False)
    assert abs(iid.mean() - np.exp(q @ k)) < 4 * iid.std() / draws**0.5
    assert iid.std() == pytest.approx(0.0696, rel=0.06)


@pytest.mark.parametrize("scale", [0.5, 1.2])
def test_orthogonal_features_have_no_bias_and_less_variance(scale):
    q, k = (t * scale / 0.5 for t in golden_pair())
    draws = 4000
    orthogonal = estimates(q, k, draws, orthogonal=True)
    assert abs(orthogonal.mean() - np.exp(q @ k)) < 4 * orthogonal.std() / draws**0.5
    assert orthogonal.var() < 0.9 * kernel_variance(q, k, FEATURES)


def test_directions_are_uniform():
    """A Haar matrix's first column has mean zero in each coordinate; NumPy's QR without the signs has not: its R has
    a diagonal of one sign, so that Q's leans."""
    columns = np.array([random_projection(4, 4, seed=s) for s in range(3000)])
    mean = columns.mean(0)
    assert np.abs(mean).max() < 4.5 / 3000**0.5
    second = np.einsum("nij,nkl->ijkl", columns, columns) / 3000
    for j in range(4):  # each column: identity as covariance, as a normal vector's
        np.testing.assert_allclose(second[:, j, :, j], np.eye(4), atol=0.12)
    raw = np.array([np.linalg.qr(np.random.default_rng(s).normal(size=(4, 4)))[0] for s in range(3000)])
    assert np.abs(raw.mean(0)).max() > 0.1


def test_blocks_are_orthogonal_and_lengths_are_chi():
    w = random_projection(8, 20, seed=3)
    for start in (0, 8, 16):
        block = w[:, start : start + 8]
        gram = block.T @ block
        np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)
    lengths = np.concatenate([np.linalg.norm(random_projection(8, 64, seed=s), axis=0) for s in range(100)])
    from_normal = np.linalg.norm(np.random.default_rng(0).normal(size=(6400, 8)), axis=1)
    np.testing.assert_allclose(
        np.quantile(lengths, [0.05, 0.5, 0.95]), np.quantile(from_normal, [0.05, 0.5, 0.95]), rtol=0.03
    )
    np.testing.assert_array_equal(random_projection(8, 20, seed=3), w)
    assert np.abs(random_projection(8, 20, seed=4) - w).max() > 0.1


@pytest.mark.parametrize("size", [1, 2, 16, 128])
def test_stratified_lengths(size):
    """P(length <= R_i) = i / (m + 1), against SciPy's chi distribution."""
    stats = pytest.importorskip("scipy.stats")
    shares = np.arange(1, 31) / 31
    np.testing.assert_allclose(chi_quantiles(size, shares), stats.chi(size).ppf(shares), rtol=1e-5)
    w = random_projection(size, 30, norms="stratified")
    np.testing.assert_allclose(np.sort(np.linalg.norm(w, axis=0)), stats.chi(size).ppf(shares), rtol=1e-5)


def test_stratified_lengths_lower_the_variance():
    q, k = (t * 2 for t in golden_pair())
    plain, stratified = (estimates(q, k, 1500, norms=norms) for norms in ("chi", "stratified"))
    assert stratified.var() < plain.var()


def test_errors_fall_with_the_square_root_of_the_features():
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 2, 32, 16)) * 0.5
    report = performer_error(q, k, v, (16, 64, 256, 1024), draws=12)
    assert [(r.orthogonal, r.features) for r in report] == [(o, m) for o in (False, True) for m in (16, 64, 256, 1024)]
    iid, orthogonal = report[:4], report[4:]
    for rows in (iid, orthogonal):
        slope = np.polyfit(np.log([r.features for r in rows]), np.log([r.kernel for r in rows]), 1)[0]
        assert slope == pytest.approx(-0.5, abs=0.12)
        assert [r.probabilities for r in rows] == sorted((r.probabilities for r in rows), reverse=True)
        assert [r.output for r in rows] == sorted((r.output for r in rows), reverse=True)
    assert sum(r.kernel for r in orthogonal) < sum(r.kernel for r in iid)
    # Theory for independent features: the mean of the relative variances.
    s = 16**-0.25
    pairs = np.expm1(np.sum((q[:, :, None] * s + k[:, None] * s) ** 2, -1)) / 1024
    assert iid[3].kernel == pytest.approx(pairs.mean() ** 0.5, rel=0.2)


def drop_in(features, **kwargs):
    """A softmax layer, and Performer with its weights."""
    softmax = MultiHeadAttention(2, 8, initializer=0.15, **{n: v for n, v in kwargs.items() if n == "positions"})
    performer = LinearAttention(2, 8, feature="performer", key_multiplier=features // 8, **kwargs)
    for layer in (softmax, performer):
        layer.build((None, None, 12))
    for name in ("qkv_kernel", "qkv_bias", "output_kernel", "output_bias"):
        getattr(performer, name).assign(getattr(softmax, name))
    return softmax, performer


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_the_layer_approximates_softmax_with_its_weights(rotary, causal):
    x = np.random.default_rng(0).normal(size=(2, 10, 12)).astype("float32")
    positions = RotaryPosition(8) if rotary else None
    ids = np.arange(10)[None]
    tables = positions.tables(ids, ids) if rotary else ()
    seen = masks.Causal().dense(10) if causal else None
    errors = {32: [], 2048: []}
    for features in [*errors] * 4:
        softmax, performer = drop_in(features, positions=positions, **({"mask": "causal"} if causal else {}))
        want = as_numpy(softmax(x, attention_mask=seen, tables=tables))
        got = as_numpy(performer(x, tables=tables))
        errors[features].append(np.linalg.norm(got - want) / np.linalg.norm(want))
    assert np.mean(errors[2048]) < 0.1
    assert np.mean(errors[2048]) < np.mean(errors[32]) / 3  # 8 in the mean, single draws from 2 to 20


def test_redraw():
    _, layer = drop_in(32)
    first = as_numpy(layer.projection)
    x = np.ones((1, 3, 12), "float32") * np.arange(3)[None, :, None]
    before = as_numpy(layer(x))
    layer.redraw()
    second = as_numpy(layer.projection)
    assert np.abs(second - first).max() > 0.1
    assert np.abs(as_numpy(layer(x)) - before).max() > 1e-6
    layer.redraw()
    assert np.abs(as_numpy(layer.projection) - second).max() > 0.1
    layer.redraw(seed=7)
    np.testing.assert_allclose(as_numpy(layer.projection), random_projection(8, 32, seed=7), rtol=1e-6)
    assert not any(w is layer.projection for w in layer.trainable_weights)
    _, other = drop_in(32)
    np.testing.assert_array_equal(as_numpy(other.projection), first)  # the seed decides
    _, different = drop_in(32, seed=1)
    assert np.abs(as_numpy(different.projection) - first).max() > 0.1
    gram = ops.matmul(ops.transpose(layer.projection[:, :8]), layer.projection[:, :8])
    np.testing.assert_allclose(as_numpy(gram) * (1 - np.eye(8)), 0, atol=1e-4)


def test_errors():
    for kwargs, words in (({"norms": "flat"}, "'flat'"), ({"features": 0}, "features=0")):
        with pytest.raises(ConfigError, match=words):
            random_projection(**{"size": 4, "features": 4} | kwargs)
    with pytest.raises(ConfigError, match="do not fit"):
        performer_error(np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 3)))
