"""The token classifier."""

import functools

import numpy as np
import pytest
from tests.nn.harness import as_numpy, check_layer

from kexue.errors import ConfigError
from kexue.nn.heads import TokenClassifier


def test_layer_contract(tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    make = functools.partial(TokenClassifier, 4, dropout=0.5, kernel_regularizer="l2")
    layer = check_layer(make, {"x": x}, tmp_path, output_dtype="float32")
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(as_numpy(layer(x)), x @ kernel + bias, atol=1e-5)


def test_dropout_only_while_training():
    layer = TokenClassifier(3, dropout=0.5, use_bias=False)
    x = np.ones((1, 200, 8), "float32")
    calm = as_numpy(layer(x))
    noisy = as_numpy(layer(x, training=True))
    assert np.ptp(calm, axis=1).max() < 1e-6
    assert np.ptp(noisy, axis=1).min() > 0.01


def test_bad_arguments_are_refused():
    for arguments in ({"labels": 0}, {"labels": 2, "dropout": 1.0}):
        with pytest.raises(ConfigError, match="labels"):
            TokenClassifier(**arguments)
