"""Sinusoidal positions: values, Toeplitz Gram matrix, rotation between rows, orders, theta."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy, check_layer

from kexue.errors import ConfigError
from kexue.nn.positions.frequencies import frequencies
from kexue.nn.positions.learned import LearnedPosition
from kexue.nn.positions.sinusoidal import SinusoidalPosition, TrainableSinusoidalPosition, sinusoids


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


PLACES = np.array([[0, 1, 2, 3, 4], [9, 2, 7, 7, 0]], "int32")


@pytest.mark.parametrize("base", [10000.0, 1000.0])
def test_values(base):
    rows = as_numpy(sinusoids(PLACES, 6, base))
    for (b, i), k in np.ndenumerate(PLACES):
        for j in range(3):
            angle = k / base ** (2 * j / 6)
            np.testing.assert_allclose(rows[b, i, 2 * j : 2 * j + 2], [np.sin(angle), np.cos(angle)], atol=1e-6)


def test_order_is_a_permutation():
    mixed, split = (as_numpy(sinusoids(np.arange(9), 8, order=o)) for o in ("interleaved", "split"))
    np.testing.assert_array_equal(mixed[:, np.r_[0:8:2, 1:8:2]], split)


def test_gram_is_toeplitz_and_rows_are_rotations():
    """p[m] . p[n] depends on m - n (to 1e-12 in float64), and p[m + s] = R_s p[m] for all m."""
    theta = frequencies(16)
    angles = np.arange(40)[:, None] * theta
    exact = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(40, 16)
    np.testing.assert_allclose(as_numpy(sinusoids(np.arange(40), 16)), exact, atol=5e-6)
    gram = exact @ exact.T
    for d in range(40):
        diagonal = np.diagonal(gram, d)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-12)
    s = 7
    rotation = np.zeros((16, 16))
    for i, t in enumerate(theta):
        c, d = np.cos(s * t), np.sin(s * t)
        rotation[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[c, d], [-d, c]]
    np.testing.assert_allclose(exact[:-s] @ rotation.T, exact[s:], atol=1e-12)


def test_theta_by_numbers_and_by_function():
    by_function = as_numpy(sinusoids(PLACES, 8, theta=lambda t: 1000.0**-t))
    np.testing.assert_allclose(by_function, as_numpy(sinusoids(PLACES, 8, base=1000.0)), atol=1e-6)
    numbers = as_numpy(sinusoids(PLACES, 4, theta=[0.5, 0.25]))
    np.testing.assert_allclose(numbers[..., 0], np.sin(PLACES * 0.5), atol=1e-6)
    layer = SinusoidalPosition(theta=lambda t: 1 - t, dim=8)
    assert layer.get_config()["theta"] == [1.0, 0.75, 0.5, 0.25]
    with pytest.raises(ConfigError, match="give dim"):
        SinusoidalPosition(theta=lambda t: t)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_large_positions_under_low_precision(dtype):
    """4097 is no bfloat16 number, and 100000 no float16 one: angles are float32 whatever the policy."""
    x, far = np.zeros((1, 3, 8), "float32"), np.array([[4097, 40001, 100000]], "int32")
    got = as_numpy(ops.cast(SinusoidalPosition(dtype=dtype)(x, far), "float32"))[0]
    angles = far[0][:, None] * frequencies(8)
    want = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(3, 8)
    np.testing.assert_allclose(got, want, atol=0.02)  # 1e5 / 2^24 of angle, then a half-precision number


@pytest.mark.parametrize("options", [{}, {"train_theta": True, "order": "split", "amplitude": 0.5}])
def test_layer(tmp_path, options):
    x = random(2, 5, 6)
    layer = check_layer(functools.partial(SinusoidalPosition, **options), {"x": x, "position_ids": PLACES}, tmp_path)
    assert layer.limit is None
    rows = as_numpy(sinusoids(PLACES, 6, order=options.get("order", "interleaved")))
    np.testing.assert_allclose(as_numpy(layer(x, PLACES)), x + options.get("amplitude", 1.0) * rows, atol=1e-6)
    assert [w.name for w in layer.trainable_weights] == (["theta"] if options else [])


def test_trained_theta_learns():
    """Gradient descent on theta reproduces positions that turn at other speeds."""
    x, places = np.zeros((1, 4, 4), "float32"), np.arange(4, dtype="int32")[None]
    want = as_numpy(sinusoids(places, 4, theta=[0.8, 0.1]))
    inputs = keras.Input((4, 4)), keras.Input((4,), dtype="int32")
    model = keras.Model(inputs, SinusoidalPosition(train_theta=True, name="position")(*inputs))
    model.compile(keras.optimizers.Adam(0.02), "mse")
    model.fit([x, places], want, epochs=150, verbose=0)
    np.testing.assert_allclose(as_numpy(model.get_layer("position").weights[0].value), [0.8, 0.1], atol=0.01)


@pytest.mark.parametrize("offset", [0, 2])
def test_trainable_table(tmp_path, offset):
    x = random(2, 5, 6)
    make = functools.partial(TrainableSinusoidalPosition, 10 + offset, offset, base=100.0)
    layer = check_layer(make, {"x": x, "position_ids": PLACES}, tmp_path)
    assert isinstance(layer, LearnedPosition)
    assert layer.limit == 10
    np.testing.assert_allclose(as_numpy(layer(x, PLACES)), x + as_numpy(sinusoids(PLACES, 6, 100.0)), atol=1e-6)
    assert layer.trainable_weights[0].shape == (10 + offset, 6)


def test_errors():
    with pytest.raises(ConfigError, match="dim=5"):
        SinusoidalPosition()(random(1, 2, 5), PLACES[:1, :2])
    with pytest.raises(ConfigError, match="3 finite numbers"):
        sinusoids(PLACES, 6, theta=[1.0, 2.0])
    for make in (SinusoidalPosition, functools.partial(TrainableSinusoidalPosition, 4)):
        with pytest.raises(ConfigError, match="'mixed'"):
            make(order="mixed")
    with pytest.raises(ConfigError, match="dim=8"):
        SinusoidalPosition(dim=8)(random(1, 2, 6), PLACES[:1, :2])
