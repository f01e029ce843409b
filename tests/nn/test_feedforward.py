"""Feed-forward part and activations."""

import functools
import math

import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy, check_layer

from kexue.errors import ConfigError
from kexue.nn import activations
from kexue.nn.feedforward import FeedForward

X = np.linspace(-6, 6, 121).astype("float32")
SIGMOID = 1 / (1 + np.exp(-X.astype("float64")))
ERF = np.array([math.erf(v / math.sqrt(2)) for v in X.tolist()])
REFERENCES = {
    "gelu": X * (1 + ERF) / 2,
    "gelu_new": X * (1 + np.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X.astype("float64") ** 3))) / 2,
    "quick_gelu": X / (1 + np.exp(-1.702 * X.astype("float64"))),
    "linear": X,
    "relu": np.maximum(X, 0),
    "relu2": np.maximum(X, 0) ** 2,
    "sigmoid": SIGMOID,
    "silu": X * SIGMOID,
    "tanh": np.tanh(X),
}
SAME = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new", "swish": "silu", "squared_relu": "relu2"}


@pytest.mark.parametrize("name", [*REFERENCES, *SAME])
def test_activations(name):
    got = as_numpy(activations.get(name)(ops.convert_to_tensor(X)))
    np.testing.assert_allclose(got, REFERENCES[SAME.get(name, name)], atol=2e-6, rtol=1e-5)


def test_all_known_activations_are_tested():
    assert set(activations._ACTIVATIONS) == {*REFERENCES, *SAME}


@pytest.mark.peer
@pytest.mark.parametrize("name", [*REFERENCES, *SAME])
def test_names_mean_what_transformers_means(name):
    torch = pytest.importorskip("torch")
    table = pytest.importorskip("transformers.activations").ACT2FN
    theirs = {"squared_relu": "relu2"}.get(name, name)
    want = table[theirs](torch.tensor(X)).numpy()
    np.testing.assert_allclose(as_numpy(activations.get(name)(ops.convert_to_tensor(X))), want, atol=2e-6, rtol=1e-5)


def test_erf_and_tanh_forms_differ():
    assert 1e-4 < np.abs(REFERENCES["gelu"] - REFERENCES["gelu_new"]).max() < 1e-3


def test_unknown_activation():
    with pytest.raises(ConfigError, match="'gelo'"):
        activations.get("gelo")
    with pytest.raises(ConfigError, match="'gelo'"):
        FeedForward(3, "gelo")


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
def test_equals_numpy(tmp_path, gated, use_bias):
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    make = functools.partial(FeedForward, 10, "relu", gated=gated, use_bias=use_bias, initializer=0.5)
    layer = check_layer(make, {"x": x}, tmp_path)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    w = {v.name: as_numpy(v) for v in layer.weights}
    assert set(w) == {"up_kernel", "down_kernel"} | ({"up_bias", "down_bias"} if use_bias else set())
    up = x @ w["up_kernel"] + w.get("up_bias", 0)
    inner = np.maximum(up[..., :10], 0) * up[..., 10:] if gated else np.maximum(up, 0)
    want = inner @ w["down_kernel"] + w.get("down_bias", 0)
    np.testing.assert_allclose(as_numpy(layer(x)), want, atol=1e-4)
