"""AdamW with rates by variable against the formula, and the schedule."""

import keras
import numpy as np
import pytest

from kexue.errors import ConfigError
from kexue.training import AdamW, WarmupLinear, layer_decay_rules

SHAPES = {"body/kernel": (3, 2), "body/bias": (2,), "head/kernel": (2, 2), "frozen/kernel": (2, 2)}
RULES = [("^head/", 10.0), ("^frozen/", 0.0)]


def variables():
    rng = np.random.default_rng(0)
    made = []
    for path, shape in SHAPES.items():
        scope, name = path.split("/")
        with keras.name_scope(scope):
            made.append(keras.Variable(rng.normal(size=shape).astype("float32"), name=name))
    assert [v.path for v in made] == list(SHAPES)
    return made


def gradients(steps):
    rng = np.random.default_rng(1)
    return [[rng.normal(size=shape).astype("float32") for shape in SHAPES.values()] for _ in range(steps)]


def by_hand(rates, decay, steps=4):
    b1, b2, epsilon = 0.9, 0.999, 1e-7
    values = [keras.ops.convert_to_numpy(v.value).astype("float64") for v in variables()]
    m = [np.zeros_like(v) for v in values]
    s = [np.zeros_like(v) for v in values]
    for t, grads in enumerate(gradients(steps), 1):
        for i, (path, g) in enumerate(zip(SHAPES, grads, strict=True)):
            factor = {"head": 10.0, "frozen": 0.0}.get(path.split("/")[0], 1.0)
            rate = rates(t - 1) * factor
            m[i] = b1 * m[i] + (1 - b1) * g
            s[i] = b2 * s[i] + (1 - b2) * g**2
            if values[i].ndim > 1:
                values[i] = values[i] * (1 - rate * decay)
            values[i] = values[i] - rate * np.sqrt(1 - b2**t) / (1 - b1**t) * m[i] / (np.sqrt(s[i]) + epsilon)
    return values


def run(optimizer, steps=4):
    made = variables()
    for grads in gradients(steps):
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in grads], made)
    return [keras.ops.convert_to_numpy(v.value) for v in made]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_formula(decay):
    ours = run(AdamW(0.01, rate_rules=RULES, weight_decay=decay))
    for one, other in zip(ours, by_hand(lambda t: 0.01, decay), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def test_with_a_schedule():
    ours = run(AdamW(WarmupLinear(0.01, 8, warmup=2), rate_rules=RULES, weight_decay=0.1))
    rates = [0.01 / 3, 0.02 / 3, 0.01, 0.01 * 5 / 6]
    for one, other in zip(ours, by_hand(lambda t: rates[t], 0.1), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def test_without_rules_it_is_the_adamw_of_keras():
    theirs = keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.5)
    for one, other in zip(
        run(AdamW(0.01, weight_decay=0.1, global_clipnorm=0.5, decay_rules=[("", True)])), run(theirs), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def test_accumulation_equals_the_mean_gradient():
    ours = run(AdamW(0.01, rate_rules=RULES, gradient_accumulation_steps=2))
    optimizer, made, grads = AdamW(0.01, rate_rules=RULES), variables(), gradients(4)
    for one, other in (grads[:2], grads[2:]):
        mean = [keras.ops.convert_to_tensor((a + b) / 2) for a, b in zip(one, other, strict=True)]
        optimizer.apply(mean, made)
    for one, other in zip(ours, made, strict=True):
        np.testing.assert_allclose(one, keras.ops.convert_to_numpy(other.value), rtol=2e-5, atol=1e-6)


def test_serialisation():
    optimizer = AdamW(WarmupLinear(0.01, 8), rate_rules=RULES, weight_decay=0.1, decay_rules=[("bias", True)])
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    for one, other in zip(run(optimizer), run(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_layer_decay():
    rules = layer_decay_rules(3, 0.5)
    optimizer = AdamW(rate_rules=rules)
    paths = {
        "block_0_attention/qkv_kernel": 0.25,
        "ner/block_1_feedforward_norm/gain": 0.5,
        "block_2_attention/qkv_kernel": 1.0,
        "token_embedding/table": 0.125,
        "embedding_norm/gain": 0.125,
        "head/kernel": 1.0,
    }
    for path, factor in paths.items():
        assert optimizer.rate_factor(type("V", (), {"path": path})) == factor
    assert layer_decay_rules(12, 0.9)[10][0] != layer_decay_rules(12, 0.9)[1][0]
    assert AdamW(rate_rules=layer_decay_rules(12, 0.5)).rate_factor(
        type("V", (), {"path": "block_10_attention/k"})
    ) == pytest.approx(0.5)
    assert layer_decay_rules(3, 1.0) == []
    with pytest.raises(ConfigError):
        layer_decay_rules(3, 0.0)


def test_schedule():
    rate = WarmupLinear(2.0, 10, warmup=0.3, end=0.5)
    values = [float(rate(t)) for t in range(12)]
    np.testing.assert_allclose(values[:4], [0.5, 1.0, 1.5, 2.0])
    np.testing.assert_allclose(values[3:11], np.linspace(2.0, 0.5, 8), rtol=1e-6)
    assert values[11] == 0.5
    assert [float(WarmupLinear(1.0, 4, warmup=0)(t)) for t in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    with pytest.raises(ConfigError):
        WarmupLinear(1.0, 0)
