"""Norms against NumPy and PyTorch, and their condition."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy, check_layer, gradient

from kexue.errors import ConfigError
from kexue.nn.norms import LayerNorm, RMSNorm, make_norm


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def reference(x, kind, epsilon, gain=None, bias=None):
    x = np.asarray(x, "float64")
    x = x - x.mean(-1, keepdims=True) if kind == "layer" else x
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)
    x = x if gain is None else x * gain
    return x if bias is None else x + bias


def randomised(layer, *shapes):
    layer.build(*shapes)
    layer.set_weights([random(*w.shape, seed=i) + 1 for i, w in enumerate(layer.get_weights())])
    return layer


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("offset", [True, False])
def test_equals_numpy(tmp_path, kind, scale, offset):
    x = random(2, 5, 8) * 3 + 1
    make = functools.partial(make_norm, kind, epsilon=1e-3, scale=scale, offset=offset)
    check_layer(make, {"x": x}, tmp_path)
    layer = randomised(make(), x.shape)
    assert [w.name for w in layer.weights] == ["gain"] * scale + ["bias"] * offset
    gain = as_numpy(layer.gain) if scale else None
    bias = as_numpy(layer.bias) if offset else None
    np.testing.assert_allclose(as_numpy(layer(x)), reference(x, kind, 1e-3, gain, bias), atol=1e-5)


@pytest.mark.peer
@pytest.mark.parametrize("epsilon", [1e-12, 1e-5])
def test_equals_torch(epsilon):
    torch = pytest.importorskip("torch")
    x = random(3, 4, 6)
    layer = randomised(LayerNorm(epsilon), x.shape)
    gain, bias = (torch.tensor(w) for w in layer.get_weights())
    want = torch.nn.functional.layer_norm(torch.tensor(x), (6,), gain, bias, epsilon)
    np.testing.assert_allclose(as_numpy(layer(x)), want.numpy(), atol=1e-5)
    rms = randomised(RMSNorm(epsilon), x.shape)
    want = torch.nn.functional.rms_norm(torch.tensor(x), (6,), torch.tensor(rms.get_weights()[0]), epsilon)
    np.testing.assert_allclose(as_numpy(rms(x)), want.numpy(), atol=1e-5)


def test_defaults():
    assert LayerNorm().epsilon == 1e-12
    assert RMSNorm().epsilon == 1e-7
    x = random(1, 2, 4)
    norm = RMSNorm(scale=False)
    np.testing.assert_allclose(np.sqrt((as_numpy(norm(x)) ** 2).mean(-1)), 1, atol=1e-5)
    assert not norm.weights


def test_large_offsets_lose_nothing():
    """The variance is of centred values; mean of squares minus square of mean would be noise here."""
    x = random(1, 3, 16) + 1000
    np.testing.assert_allclose(as_numpy(LayerNorm()(x)), reference(x, "layer", 1e-12), atol=2e-3)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_constant_vectors_stay_finite(value):
    x = np.full((1, 2, 8), value, "float32")
    for norm in (LayerNorm(1e-12), RMSNorm(1e-7)):
        assert np.isfinite(as_numpy(norm(x))).all()
        assert np.isfinite(gradient(lambda t, norm=norm: ops.sum(norm(t) ** 2), x)).all()


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("per_token", [False, True])
def test_condition(tmp_path, kind, per_token):
    x, c = random(2, 5, 8), random(*((2, 5, 3) if per_token else (2, 3)), seed=1)
    make = functools.partial(make_norm, kind, epsilon=1e-6, condition_size=3)
    check_layer(make, {"x": x, "condition": c}, tmp_path, length_axis=1 if per_token else None)
    fresh, plain = make(), make_norm(kind, epsilon=1e-6)
    # Zero-initialised: exactly the unconditional norm.
    np.testing.assert_array_equal(as_numpy(fresh(x, c)), as_numpy(plain(x)))
    layer = randomised(make(), x.shape, c.shape)
    weights = {w.name: as_numpy(w) for w in layer.weights}
    where = c if per_token else c[:, None]
    gain = weights["gain"] + where @ weights["gain_kernel"]
    bias = weights.get("bias", 0.0) + where @ weights["bias_kernel"]
    np.testing.assert_allclose(as_numpy(layer(x, c)), reference(x, kind, 1e-6, gain, bias), atol=2e-5)
    # Without a condition the trained plain part is left.
    want = reference(x, kind, 1e-6, weights["gain"], weights.get("bias"))
    np.testing.assert_allclose(as_numpy(layer(x)), want, atol=2e-5)


def test_condition_on_a_norm_without_gain():
    x, c = random(2, 3, 4), random(2, 3, seed=1)
    layer = RMSNorm(scale=False, condition_size=3)
    np.testing.assert_array_equal(as_numpy(layer(x, c)), as_numpy(RMSNorm(scale=False)(x)))


def test_one_condition_for_all_tokens_is_the_same_for_each():
    x, c = random(2, 5, 8), random(2, 3, seed=1)
    layer = randomised(LayerNorm(condition_size=3), x.shape, c.shape)
    each = np.broadcast_to(c[:, None], (2, 5, 3)).copy()
    np.testing.assert_allclose(as_numpy(layer(x, c)), as_numpy(layer(x, each)), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_sums_are_float32(policy, kind):
    """A sum of 4096 squares of 100 overflows float16 (and 8 bits of bfloat16 would lose the small terms)."""
    x = ops.cast(ops.convert_to_tensor(random(1, 2, 4096) * 100), keras.DTypePolicy(policy).compute_dtype)
    layer = make_norm(kind, epsilon=1e-6, dtype=policy)
    got = layer(x)
    assert keras.backend.standardize_dtype(got.dtype) == keras.DTypePolicy(policy).compute_dtype
    want = reference(as_numpy(ops.cast(x, "float32")), kind, 1e-6)
    np.testing.assert_allclose(as_numpy(ops.cast(got, "float32")), want, atol=1e-3, rtol=2**-7)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_gain_is_applied_in_float32(policy):
    """Under a mixed policy the variables are float32; a gain of 1 + 2^-10 must not be rounded before its use."""
    x = np.ones((1, 1, 4), "float32") * np.array([1, -1, 1, -1], "float32")
    layer = LayerNorm(dtype=policy, scale=True, offset=True)
    layer.build(x.shape)
    layer.set_weights([np.full(4, 256 * (1 + 2**-10), "float32"), np.full(4, -256, "float32")])
    got = as_numpy(ops.cast(layer(x), "float32"))
    np.testing.assert_allclose(got[0, 0, 0], 0.25, atol=1e-3)


def test_errors():
    with pytest.raises(ConfigError, match="epsilon=0"):
        LayerNorm(epsilon=0)
    with pytest.raises(ConfigError, match="'batch'"):
        make_norm("batch")
    with pytest.raises(ValueError, match="without condition_size"):
        LayerNorm()(random(1, 2, 3), random(1, 2))
