"""One vector a sequence."""

import functools

import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy, check_layer, gradient

from kexue.errors import ConfigError
from kexue.nn.heads.pooling import FirstTokenPooler, pool

X = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
PADDING = np.array([[1, 1, 1, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)


@pytest.mark.parametrize("use_bias", [True, False])
def test_first_token(tmp_path, use_bias):
    make = functools.partial(FirstTokenPooler, use_bias=use_bias, initializer=0.5)
    layer = check_layer(make, {"x": X}, tmp_path)
    w = {v.name: as_numpy(v) for v in layer.weights}
    want = np.tanh(X[:, 0] @ w["kernel"] + w.get("bias", 0))
    np.testing.assert_allclose(as_numpy(layer(X)), want, atol=1e-6)


@pytest.mark.parametrize("how", ["first", "mean", "max"])
def test_pool(how):
    x = ops.convert_to_tensor(X)
    plain = {"first": X[:, 0], "mean": X.mean(1), "max": X.max(1)}[how]
    np.testing.assert_allclose(as_numpy(pool(x, how=how)), plain, atol=1e-6)
    got = as_numpy(pool(x, ops.convert_to_tensor(PADDING), how))
    for row, keep in enumerate(PADDING):
        if how == "first":
            want = X[row, 0]
        elif keep.any():
            want = getattr(X[row][keep], how)(0)
        else:
            want = np.zeros(4)
        np.testing.assert_allclose(got[row], want, atol=1e-6)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_padding_has_no_gradient(how):
    slope = gradient(lambda x: ops.sum(pool(x, ops.convert_to_tensor(PADDING), how) ** 2), X)
    assert np.isfinite(slope).all()
    assert not slope[~PADDING].any()
    assert slope[1].any()


def test_low_precision_is_summed_in_float32():
    x = ops.cast(ops.ones((1, 3000, 2)), "float16") * 100
    out = pool(x)
    assert "float32" in str(out.dtype)
    np.testing.assert_allclose(as_numpy(out), 100)


def test_errors():
    with pytest.raises(ConfigError, match="'sum'"):
        pool(ops.convert_to_tensor(X), how="sum")
