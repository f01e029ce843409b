"""LAMB, AdaFactor, Lion, Lookahead and schedules against NumPy; rules, accumulation and precision for all of them."""

import keras
import numpy as np
import pytest
from keras import ops

from kexue.errors import ConfigError
from kexue.training import (
    Adafactor,
    AdamW,
    Lamb,
    Lookahead,
    PiecewiseLinear,
    WarmupLinear,
    WarmupStableDecay,
    per_variable,
)

SHAPES = {
    "body/kernel": (3, 2),
    "body/bias": (2,),
    "zero/kernel": (2, 2),
    "head/kernel": (2, 2),
    "frozen/kernel": (2, 2),
}
RULES = [("^head/", 10.0), ("^frozen/", 0.0)]
STEPS = 6
Lion, SGD = per_variable(keras.optimizers.Lion), per_variable(keras.optimizers.SGD)


def start():
    rng = np.random.default_rng(0)
    return {path: rng.normal(size=shape) * (path != "zero/kernel") for path, shape in SHAPES.items()}


def variables(dtype="float32", values=None):
    made = []
    for path, value in (values or start()).items():
        scope, name = path.split("/")
        with keras.name_scope(scope):
            made.append(keras.Variable(value.astype("float32"), name=name, dtype=dtype))
    return made


def gradients(steps=STEPS, shapes=None):
    rng = np.random.default_rng(1)
    return [{path: rng.normal(size=shape) for path, shape in (shapes or SHAPES).items()} for _ in range(steps)]


def apply(optimizer, made, grads):
    optimizer.apply([ops.convert_to_tensor(g.astype("float32")) for g in grads.values()], made)


def run(optimizer, steps=STEPS, dtype="float32"):
    made = variables(dtype)
    for grads in gradients(steps):
        apply(optimizer, made, grads)
    return {path: ops.convert_to_numpy(ops.cast(v, "float32")) for path, v in zip(SHAPES, made, strict=True)}


def by_hand(rule, rate=0.01, steps=STEPS):
    """``rule(x, g, state, t, rate, matrix)`` for each variable, rates as RULES say."""
    values, states = start(), {path: {} for path in SHAPES}
    for t, grads in enumerate(gradients(steps), 1):
        for path, g in grads.items():
            factor = {"head": 10.0, "frozen": 0.0}.get(path.split("/")[0], 1.0)
            if factor:
                values[path] = rule(values[path], g, states[path], t, rate * factor, g.ndim >= 2)
    return values


def same(ours, theirs, **tolerance):
    for path, value in theirs.items():
        np.testing.assert_allclose(ours[path], value, **({"rtol": 2e-5, "atol": 1e-6} | tolerance), err_msg=path)


def lamb(correct, decay=0.1, adapt=lambda matrix: matrix):
    def rule(x, g, state, t, rate, matrix):
        m = state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * g
        v = state["v"] = 0.999 * state.get("v", 0.0) + 0.001 * g**2
        if correct:
            m, v = m / (1 - 0.9**t), v / (1 - 0.999**t)
        u = m / (np.sqrt(v) + 1e-6) + decay * matrix * x
        size, step = np.linalg.norm(x), np.linalg.norm(u)
        return x - rate * (size / step if adapt(matrix) and size > 0 and step > 0 else 1.0) * u

    return rule


@pytest.mark.parametrize("correct", [True, False])
def test_lamb(correct):
    same(run(Lamb(0.01, rate_rules=RULES, weight_decay=0.1, bias_correction=correct)), by_hand(lamb(correct)))


def test_lamb_without_adaptation_is_adamw():
    """And with it everywhere it is not."""
    none = run(Lamb(0.01, rate_rules=RULES, weight_decay=0.1, adaptation_rules=[("", False)]))
    same(none, run(AdamW(0.01, rate_rules=RULES, weight_decay=0.1, epsilon=1e-9)), rtol=1e-3)
    everywhere = run(Lamb(0.01, rate_rules=RULES, weight_decay=0.1, adaptation_rules=[("", True)]))
    same(everywhere, by_hand(lamb(True, adapt=lambda matrix: True)))
    assert np.abs(everywhere["body/bias"] - none["body/bias"]).max() > 1e-3


def adafactor(x, g, state, t, rate, matrix, factor_from=2, scaled=True, decay=0.1):
    keep, s = 1 - t**-0.8, g**2 + 1e-30
    if matrix and min(sorted(g.shape)[-2:]) >= factor_from:
        one, two = sorted(np.argsort(g.shape, kind="stable")[-2:])
        a = state["a"] = keep * state.get("a", 0.0) + (1 - keep) * s.mean(two, keepdims=True)
        c = state["c"] = keep * state.get("c", 0.0) + (1 - keep) * s.mean(one, keepdims=True)
        v = a * c / a.mean(one, keepdims=True)
    else:
        v = state["v"] = keep * state.get("v", 0.0) + (1 - keep) * s
    u = g / np.sqrt(v)
    u = u / max(1.0, np.sqrt(np.mean(u**2)))
    scale = max(np.sqrt(np.mean(x**2)), 1e-3) if scaled else 1.0
    return x * (1 - rate * decay * matrix) - rate * scale * u


def test_adafactor():
    ours = run(Adafactor(0.05, factor_from=2, rate_rules=RULES, weight_decay=0.1))
    same(ours, by_hand(adafactor, rate=0.05))


def test_adafactor_factors_the_two_largest_dimensions_and_saves_memory():
    shapes = {"a/kernel": (130, 3, 140), "b/kernel": (127, 300)}
    values = {path: np.random.default_rng(2).normal(size=shape) for path, shape in shapes.items()}
    made, optimizer = variables(values=values), Adafactor(0.02, parameter_scale=False)
    states = {path: {} for path in shapes}
    for t, grads in enumerate(gradients(3, shapes), 1):
        apply(optimizer, made, grads)
        for path, g in grads.items():
            values[path] = adafactor(values[path], g, states[path], t, 0.02, True, 128, scaled=False, decay=0.0)
    same({path: v.numpy() for path, v in zip(shapes, made, strict=True)}, values)
    numbers = [[int(np.prod(m.shape)) for m in moments] for moments in optimizer._moments]
    assert numbers == [[130 * 3, 3 * 140], [127 * 300]]


def test_adafactor_without_a_rate():
    rate = Adafactor().learning_rate
    assert float(rate) == pytest.approx(0.01)
    schedule = Adafactor()._learning_rate
    assert float(schedule(9_999)) == pytest.approx(0.01)
    assert float(schedule(89_999)) == pytest.approx(1 / 300)


def lion(x, g, state, t, rate, matrix, decay=0.1):
    m = state.get("m", 0.0)
    state["m"] = 0.99 * m + 0.01 * g
    return x - rate * (np.sign(0.9 * m + 0.1 * g) + decay * matrix * x)


def test_lion_of_keras_with_rules():
    same(run(Lion(0.01, weight_decay=0.1, rate_rules=RULES)), by_hand(lion))


@pytest.mark.parametrize("name", ["Adam", "SGD", "RMSprop", "Adagrad", "Nadam", "Adamax", "Adadelta", "Ftrl", "Lion"])
def test_any_optimizer_of_keras_takes_rules(name):
    """Without rules it is Keras' own; a factor of 2 is Keras' own at twice the rate; of 0, nothing moves."""
    base = getattr(keras.optimizers, name)
    ours = run(per_variable(base)(0.01, rate_rules=[("^head/", 2.0), ("^frozen/", 0.0)]))
    one, two = run(base(0.01)), run(base(0.02))
    same(
        {p: v for p, v in ours.items() if p != "frozen/kernel"},
        {p: (two if p == "head/kernel" else one)[p] for p in SHAPES if p != "frozen/kernel"},
    )
    np.testing.assert_array_equal(ours["frozen/kernel"], start()["frozen/kernel"].astype("float32"))


def test_decay_rules_of_any_optimizer():
    """SGD with gradients of zero only decays."""
    optimizer, made = SGD(0.5, weight_decay=0.2, decay_rules=[("^head/", False), ("bias", True)]), variables()
    for _ in range(3):
        apply(optimizer, made, {path: np.zeros(shape) for path, shape in SHAPES.items()})
    for (path, value), variable in zip(start().items(), made, strict=True):
        np.testing.assert_allclose(variable.numpy(), value * (1.0 if path.startswith("head") else 0.9**3), rtol=1e-5)


@pytest.mark.parametrize("batches", [1, 2])
def test_lookahead(batches):
    """k = 3, alpha = 0.4 around plain SGD, by hand; under accumulation k counts updates."""
    made = variables()
    inner = keras.optimizers.SGD(0.1, gradient_accumulation_steps=batches if batches > 1 else None)
    optimizer = Lookahead(inner, k=3, alpha=0.4)
    optimizer.build(made)
    for variable, value in zip(made, start().values(), strict=True):
        variable.assign(value.astype("float32") + 1.0)  # weights loaded after build
    x = {path: value.astype("float32") + 1.0 for path, value in start().items()}
    slow = dict(x)
    for t, grads in enumerate(gradients(7), 1):
        for _ in range(batches):
            apply(optimizer, made, grads)
        for path, g in grads.items():
            x[path] = x[path] - 0.1 * g
            if t % 3 == 0:
                x[path] = slow[path] = slow[path] + 0.4 * (x[path] - slow[path])
        same({path: v.numpy() for path, v in zip(SHAPES, made, strict=True)}, x, rtol=1e-4)


def network(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((5,))
    x = keras.layers.Dense(8, activation="tanh", name="body")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(x))


RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(24, 5)).astype("float32"), RNG.normal(size=(24, 2)).astype("float32")
OURS = {
    "adamw": lambda rate, **k: AdamW(rate, rate_rules=[("head", 2.0)], weight_decay=0.1, **k),
    "lamb": lambda rate, **k: Lamb(rate, rate_rules=[("head", 2.0)], global_clipnorm=0.5, **k),
    "adafactor": lambda rate, **k: Adafactor(rate, factor_from=2, **k),
    "lion": lambda rate, **k: Lion(rate, weight_decay=0.1, **k),
    "lookahead": lambda rate, **k: Lookahead(AdamW(rate, epsilon=1e-3, **k), k=2),
}


@pytest.mark.parametrize("name", OURS)
def test_accumulation_is_the_large_batch(name):
    """Through fit, with a schedule: 8 updates of batches of 12, and of 4 times 3."""
    weights = []
    for accumulated in (None, 4):
        model = network()
        rate = WarmupLinear(0.01, 8, warmup=3)
        model.compile(OURS[name](rate, gradient_accumulation_steps=accumulated), "mse")
        model.fit(X, Y, batch_size=12 // (accumulated or 1), epochs=4, shuffle=False, verbose=0)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
        assert int(model.optimizer.iterations) == 8
    # Adam's quotient m / sqrt(v) turns the rounding of a sum into more where a gradient is near 0.
    np.testing.assert_allclose(*weights, atol=1e-6 if name != "adamw" else 5e-6)
    assert np.abs(weights[0] - np.concatenate([w.ravel() for w in network().get_weights()])).max() > 1e-2


@pytest.mark.parametrize("name", OURS)
def test_a_trained_optimizer_survives_saving(name, tmp_path):
    model = network()
    model.compile(OURS[name](PiecewiseLinear({2: 0.02, 10: 0.0})), "mse")
    model.fit(X, Y, batch_size=12, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert keras.optimizers.serialize(again.optimizer) == keras.optimizers.serialize(model.optimizer)
    for one in (model, again):
        one.fit(X, Y, batch_size=12, epochs=2, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_state_is_float32_under_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = network()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(Lookahead(Lamb(0.01)), "mse")
    first = model.evaluate(X, Y, verbose=0)
    model.fit(X, Y, batch_size=12, epochs=30, verbose=0)
    assert model.evaluate(X, Y, verbose=0) < 0.9 * first
    kinds = {keras.backend.standardize_dtype(v.dtype) for v in model.optimizer.variables if len(v.shape)}
    assert kinds == {"float32"}


@pytest.mark.parametrize("make", [Lamb, Adafactor])
def test_state_is_float32_where_the_weights_are_not(make):
    optimizer = make(0.01)
    near = run(optimizer, dtype="bfloat16")
    same(near, run(make(0.01)), rtol=0.03, atol=0.03)
    assert {keras.backend.standardize_dtype(v.dtype) for v in optimizer.variables if len(v.shape)} == {"float32"}


def test_piecewise_linear():
    rate = PiecewiseLinear({10: 1.0, 20: 0.5, 40: 0.1}, peak=2.0)
    steps = np.arange(60)
    expected = 2.0 * np.interp(steps, [0, 10, 20, 40], [0.0, 1.0, 0.5, 0.1])
    np.testing.assert_allclose([float(rate(int(t))) for t in steps], expected, rtol=1e-6, atol=1e-7)
    assert [float(PiecewiseLinear({0: 0.3})(t)) for t in (0, 5)] == pytest.approx([0.3, 0.3])
    assert float(PiecewiseLinear({0: 1.0, 4: 0.0})(1)) == pytest.approx(0.75)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rate))
    assert copy.get_config() == rate.get_config()
    for bad in ({}, {-1: 1.0}, {3: -1.0}, {"x": 1.0}, [1, 2]):
        with pytest.raises(ConfigError):
            PiecewiseLinear(bad)


@pytest.mark.parametrize("shape", ["linear", "cosine", "sqrt"])
def test_warmup_stable_decay(shape):
    rate = WarmupStableDecay(2.0, 100, warmup=9, decay=0.2, shape=shape, end=0.5)
    values = np.array([float(rate(t)) for t in range(110)])
    np.testing.assert_allclose(values[:10], 2.0 * np.arange(1, 11) / 10, rtol=1e-6)
    np.testing.assert_allclose(values[9:81], 2.0)
    assert np.all(np.diff(values[80:101]) < 0)
    np.testing.assert_allclose(values[100:], 0.5, rtol=1e-6)
    middle = {"linear": 0.5, "cosine": 0.5, "sqrt": 1 - np.sqrt(0.5)}[shape]
    assert values[90] == pytest.approx(0.5 + 1.5 * middle, rel=1e-5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rate))
    assert copy.get_config() == rate.get_config()


def test_special_cases_of_warmup_stable_decay():
    constant = WarmupStableDecay(1.0, 10, warmup=2, decay=0)
    assert [float(constant(t)) for t in (0, 1, 2, 9, 50)] == pytest.approx([1 / 3, 2 / 3, 1, 1, 1])
    whole = WarmupStableDecay(1.0, 10, warmup=2, decay=1.0)
    for t in range(13):
        assert float(whole(t)) == float(WarmupLinear(1.0, 10, warmup=2)(t))
    for arguments in ({"warmup": 6, "decay": 6}, {"shape": "square"}, {"decay": -1}, {"end": 2.0}):
        with pytest.raises(ConfigError):
            WarmupStableDecay(1.0, 10, **arguments)


def test_what_cannot_work_is_told():
    with pytest.raises(ConfigError, match="class of an optimizer"):
        per_variable("adam")
    with pytest.raises(ConfigError):
        per_variable(keras.optimizers.LossScaleOptimizer)
    assert per_variable(AdamW) is AdamW
    assert per_variable(keras.optimizers.Lion) is Lion
    with pytest.raises(ConfigError, match="rate_rules takes pairs"):
        Lamb(rate_rules=["head"])
    with pytest.raises(ConfigError, match="adaptation_rules takes pairs"):
        Lamb(adaptation_rules=[("(", True)])
    with pytest.raises(ConfigError, match="negative"):
        Lamb(rate_rules=[("head", -1.0)])
    with pytest.raises(ConfigError):
        Lookahead("adam", k=0)
    with pytest.raises(ConfigError):
        Lookahead(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()))
