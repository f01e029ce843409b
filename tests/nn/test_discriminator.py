"""One logit a token, against NumPy."""

import functools

import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy, check_layer, gradient

from kexue.nn.heads.discriminator import DiscriminatorHead

X = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")


@pytest.mark.parametrize("use_bias", [True, False])
def test_equals_numpy(tmp_path, use_bias):
    make = functools.partial(DiscriminatorHead, activation="relu", use_bias=use_bias, initializer=0.5)
    layer = check_layer(make, {"x": X}, tmp_path, output_dtype="float32")
    rng = np.random.default_rng(1)
    for variable in layer.weights:
        variable.assign(rng.normal(size=variable.shape))
    w = {v.name: as_numpy(v).astype("float64") for v in layer.weights}
    assert set(w) == {"dense_kernel", "kernel"} | ({"dense_bias", "bias"} if use_bias else set())
    inner = np.maximum(X @ w["dense_kernel"] + w.get("dense_bias", 0), 0)
    np.testing.assert_allclose(as_numpy(layer(X)), (inner @ w["kernel"])[..., 0] + w.get("bias", 0), atol=1e-5)
    assert np.isfinite(gradient(lambda x: ops.sum(layer(x) ** 2), X)).all()
