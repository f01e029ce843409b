"""Dropout: statistics, determinism, and what must not change."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy, check_layer, gradient, jit

from kexue.errors import ConfigError
from kexue.nn.dropout import Dropout, drop

ONES = np.ones((8, 64, 100), "float32")


def run(rate, seed=0, x=ONES):
    keras.utils.set_random_seed(seed)
    return as_numpy(drop(ops.convert_to_tensor(x), rate, keras.random.SeedGenerator(seed)))


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
def test_share_and_scale(rate):
    got = run(rate)
    kept = got != 0
    deviation = (rate * (1 - rate) / kept.size) ** 0.5
    np.testing.assert_allclose(kept.mean(), 1 - rate, atol=4.5 * deviation)
    np.testing.assert_allclose(got[kept], 1 / (1 - rate), rtol=1e-3)
    np.testing.assert_allclose(got.mean(), 1, atol=4.5 * deviation / (1 - rate) + 1e-4)


def test_elements_are_independent():
    kept = (run(0.5) != 0).astype("float64") - 0.5
    for axis in range(3):
        np.testing.assert_allclose((kept * np.roll(kept, 1, axis)).mean() * 4, 0, atol=4.5 / kept.size**0.5)
    shares = kept.mean(axis=(1, 2))
    assert len(np.unique(shares)) > 1


def test_seed_decides():
    np.testing.assert_array_equal(run(0.3, seed=7), run(0.3, seed=7))
    assert (run(0.3, seed=7) != run(0.3, seed=8)).any()


def test_every_call_draws_anew():
    keras.utils.set_random_seed(0)
    layer = Dropout(0.5, seed=1)
    first, second = (as_numpy(layer(ONES, training=True)) for _ in range(2))
    assert (first != second).any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtype_stays(dtype):
    out = drop(ops.cast(ops.convert_to_tensor(ONES), dtype), 0.5, keras.random.SeedGenerator(0))
    assert keras.backend.standardize_dtype(out.dtype) == dtype
    assert set(np.unique(as_numpy(ops.cast(out, "float32")))) == {0.0, 2.0}


def test_zeros_keep_no_gradient_and_others_the_scale():
    def loss(x):
        keras.utils.set_random_seed(3)
        return ops.sum(drop(x, 0.5, keras.random.SeedGenerator(3)))

    slope = gradient(loss, ONES[:1])
    assert set(np.unique(slope)) == {0.0, 2.0}


def test_layer(tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    layer = check_layer(functools.partial(Dropout, 0.3, seed=4), {"x": x}, tmp_path)
    for training in (False, None):
        np.testing.assert_array_equal(as_numpy(layer(x, training=training)), x)
    assert (as_numpy(layer(x, training=True)) == 0).any()
    np.testing.assert_array_equal(as_numpy(Dropout(0)(x, training=True)), x)


def test_compiled():
    if keras.backend.backend() == "jax":
        import jax

        seed = keras.random.SeedGenerator(0)

        @jax.jit
        def step(state, x):
            with keras.StatelessScope([(seed.state, state)]) as scope:
                out = drop(x, 0.5, seed)
            return out, scope.get_current_value(seed.state)

        state = seed.state.value
        a, state = step(state, ONES)
        b, _ = step(state, ONES)
        assert (np.asarray(a) != np.asarray(b)).any()
        assert set(np.unique(a)) == {0.0, 2.0}
    else:
        layer = Dropout(0.5)
        out = as_numpy(jit(lambda x: layer(x, training=True))(ops.convert_to_tensor(ONES)))
        assert set(np.unique(out)) == {0.0, 2.0}


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_errors(rate):
    with pytest.raises(ConfigError, match=f"rate={rate}"):
        Dropout(rate)
