"""Recursive positions and FLOATER: positions made one after another."""

import functools

import keras
import numpy as np
import pytest
from tests.nn.harness import as_numpy, check_layer

from kexue.errors import ConfigError
from kexue.nn.positions.floater import FloaterPosition, integrate
from kexue.nn.positions.recursive import RecursivePosition
from kexue.nn.positions.sinusoidal import sinusoids
from kexue.nn.positions.unrolled import UnrolledPosition

PLACES = np.array([[0, 1, 2, 3, 4], [7, 2, 6, 6, 0]], "int32")


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def rows(layer, width=6, seed=3):
    """All positions of a built layer with random weights, and the weights by name."""
    layer(np.zeros((1, 1, width), "float32"), np.zeros((1, 1), "int32"))
    layer.set_weights([random(*w.shape, seed=seed + i) * 0.7 for i, w in enumerate(layer.weights)])
    return as_numpy(layer.rows()), {w.name: as_numpy(w.value).astype("float64") for w in layer.weights}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("cell", ["gru", "mlp"])
def test_recursion(cell):
    got, w = rows(RecursivePosition(8, cell))
    p = w["first"]
    for k in range(8):
        np.testing.assert_allclose(got[k], p[0], atol=1e-5)
        if cell == "mlp":
            p = np.tanh(p @ w["inner_kernel"] + w["inner_bias"]) @ w["outer_kernel"] + w["outer_bias"]
        else:
            z = sigmoid(p @ w["update_kernel"] + w["update_bias"])
            r = sigmoid(p @ w["reset_kernel"] + w["reset_bias"])
            p = z * p + (1 - z) * np.tanh((r * p) @ w["candidate_kernel"] + w["candidate_bias"])


MAKERS = {
    "gru": functools.partial(RecursivePosition, max_length=8),
    "mlp": functools.partial(RecursivePosition, max_length=8, cell="mlp"),
    "floater": functools.partial(FloaterPosition, max_length=8),
    "floater_euler": functools.partial(FloaterPosition, max_length=8, method="euler", steps=2, interval=0.5),
    "floater_skew": functools.partial(FloaterPosition, max_length=8, dynamics="skew", steps=2, amplitude=0.3),
}


@pytest.mark.parametrize("name", MAKERS)
def test_layer(name, tmp_path):
    x = random(2, 5, 6)
    layer = check_layer(MAKERS[name], {"x": x, "position_ids": PLACES}, tmp_path)
    assert layer.limit == 8
    np.testing.assert_allclose(as_numpy(layer(x, PLACES)), x + as_numpy(layer.rows())[PLACES], atol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_positions_start_distinct(name):
    """At the start of training 64 positions differ from each other, relative to their size."""
    layer = MAKERS[name](max_length=64)
    layer(np.zeros((1, 1, 32), "float32"), np.zeros((1, 1), "int32"))
    p = as_numpy(layer.rows())
    distance = np.linalg.norm(p[:, None] - p[None], axis=-1) + np.eye(64) * 1e9
    assert distance.min() > 1e-3 * np.linalg.norm(p[0])  # 1e-8 for a recurrent unit whose biases start at 0


@pytest.mark.parametrize("name", MAKERS)
def test_weights_do_not_depend_on_the_length(name):
    short, w = rows(MAKERS[name](max_length=6))
    long, same = rows(MAKERS[name](max_length=12))
    assert w.keys() == same.keys()
    np.testing.assert_allclose(long[:6], short, atol=1e-6)


@pytest.mark.parametrize("name", ["gru", "floater"])
def test_they_learn(name):
    """Gradients pass through all steps: a target at the last position is reached."""
    inputs = keras.Input((1, 4)), keras.Input((1,), dtype="int32")
    model = keras.Model(inputs, MAKERS[name]()(*inputs))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    x, last, want = np.zeros((1, 1, 4), "float32"), np.array([[7]], "int32"), np.array([[[0.5, -0.5, 0.3, 0.1]]])
    first = model.evaluate([x, last], want, verbose=0)
    model.fit([x, last], want, epochs=60, verbose=0)
    assert model.evaluate([x, last], want, verbose=0) < 0.05 * first


def test_skew_floater_is_sinusoidal():
    """h(p) = p A with blocks of angle theta_i is the sinusoidal encoding (spec 17.4)."""
    layer = FloaterPosition(40, "skew", steps=8, base=100.0)
    layer(np.zeros((1, 1, 8), "float32"), np.zeros((1, 1), "int32"))
    np.testing.assert_allclose(as_numpy(layer.rows()), as_numpy(sinusoids(np.arange(40), 8, 100.0)), atol=2e-4)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("rk4", 4)])
def test_order_of_the_integrator(method, order):
    """dp/dt = p cos t has the solution exp(sin t); halving the step divides the error by 2^order."""
    errors = [
        abs(integrate(lambda t, p: p * np.cos(t), 1.0, 0.0, 2.0, n, method) - np.exp(np.sin(2.0))) for n in (20, 40)
    ]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


def test_skew_keeps_the_norm():
    got, _ = rows(FloaterPosition(16, "skew", steps=32))
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), np.linalg.norm(got[0]), rtol=1e-3)


def test_errors():
    for match, make in {
        "cell='lstm'": lambda: RecursivePosition(4, "lstm"),
        "max_length=0": lambda: RecursivePosition(0),
        "dynamics='chaos'": lambda: FloaterPosition(4, "chaos"),
        "method='heun'": lambda: FloaterPosition(4, method="heun"),
        "steps=0": lambda: FloaterPosition(4, steps=0),
    }.items():
        with pytest.raises(ConfigError, match=match):
            make()
    with pytest.raises(ConfigError, match="method='heun'"):
        integrate(lambda t, p: p, 1.0, 0.0, 1.0, method="heun")
    with pytest.raises(NotImplementedError):
        UnrolledPosition(3)(np.zeros((1, 1, 2), "float32"), np.zeros((1, 1), "int32"))
