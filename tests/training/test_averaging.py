"""Averages of weights: closed forms, an unchanged training, the callback and the wrapper, swaps."""

import keras
import numpy as np
import pytest
from keras import ops

from kexue.errors import ConfigError
from kexue.training import (
    EMA,
    LAWA,
    SWA,
    AdamW,
    AveragedOptimizer,
    CyclicLinear,
    Lookahead,
    SwapAverage,
    averaged,
    refresh_statistics,
    training_weights,
)
from kexue.training.blending import blend, compiled_blend, sample_weight

KINDS = {
    "ema": lambda: EMA(0.7),
    "zero": lambda: EMA(0.7, mode="zero"),
    "warm": lambda: EMA(0.999, warmup=True),
    "every": lambda: EMA(0.7, update_every=3),
    "swa": lambda: SWA(start=1),
    "lawa": lambda: LAWA(2),
}


def model(seed=0, **compiled):
    keras.utils.set_random_seed(seed)
    x = keras.Input((3,))
    h = keras.layers.BatchNormalization(name="norm")(keras.layers.Dense(4, activation="tanh", name="first")(x))
    made = keras.Model(x, keras.layers.Dense(1, name="last")(keras.layers.Dropout(0.2)(h)), name="small")
    made.compile(compiled.pop("optimizer", None) or keras.optimizers.Adam(0.05), "mse", **compiled)
    return made


def data(rows=24, seed=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 3)).astype("float32"), rng.normal(size=(rows, 1)).astype("float32")


def scalar():
    """A model with one weight, at 0."""
    made = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    made.layers[-1].kernel.assign([[0.0]])
    return made


class Watch(keras.callbacks.Callback):
    """Weights after every update, as one vector each; first in the list, so that it sees those of training."""

    def __init__(self, every=1):
        super().__init__()
        self.every, self.seen = every, []

    def on_train_begin(self, logs=None):
        if not self.seen:
            self.seen.append(self.model.get_weights())

    def on_train_batch_end(self, batch, logs=None):
        if (batch + 1) % self.every == 0:
            self.seen.append(self.model.get_weights())


def fit(made, callbacks=(), epochs=2, **options):
    x, y = data()
    keras.utils.set_random_seed(7)
    return made.fit(x, y, batch_size=4, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks), **options)


def values(source):
    with averaged(source):
        return source.get_weights()


def assert_equal(one, other, atol=0.0):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        (np.testing.assert_array_equal if atol == 0 else lambda p, q: np.testing.assert_allclose(p, q, atol=atol))(a, b)


# ---------------------------------------------------------------- the average


@pytest.mark.parametrize(("mode", "expected"), [("copy", 0.561), ("zero", 2.0701107)])
def test_golden(mode, expected):
    """theta = 0, 1, 2, 3 with a = 0.9; also as a step of an optimizer: SGD with rate 1 on gradient -1."""
    made, ema = scalar(), EMA(0.9, mode=mode)
    ema.set_model(made)
    for theta in (1.0, 2.0, 3.0):
        made.layers[-1].kernel.assign([[theta]])
        ema.update()
    assert values(made)[0].item() == pytest.approx(expected, abs=2e-7)
    made = scalar()
    optimizer = AveragedOptimizer(keras.optimizers.SGD(1.0), 0.9, mode=mode)
    optimizer.build(made.trainable_variables)
    for _ in range(3):
        optimizer.apply([ops.convert_to_tensor([[-1.0]])])
    with averaged(optimizer):
        assert made.get_weights()[0].item() == pytest.approx(expected, abs=3e-7)
    assert made.get_weights()[0].item() == 3


@pytest.mark.parametrize("kind", KINDS)
def test_closed_forms(kind):
    """Against the weighted sum of all weights that training went through, written out."""
    made, average, watch = model(), KINDS[kind](), Watch()
    fit(made, [watch, average], epochs=3)
    steps = len(watch.seen) - 1
    assert (steps, average.steps) == (18, 18)
    shares = np.zeros(steps + 1)
    if kind in ("ema", "zero", "warm", "every"):
        shares[0] = kind != "zero"
        step = 3 if kind == "every" else 1
        for n in range(step, steps + 1, step):
            decay = min(0.999, n / (9 + n)) if kind == "warm" else 0.7**step
            shares *= decay
            shares[n] += 1 - decay
        shares /= shares.sum()
    else:
        shares[[12, 18]] = 0.5
    for i, got in enumerate(values(made)):
        np.testing.assert_allclose(got, sum(s * w[i] for s, w in zip(shares, watch.seen, strict=True)), atol=2e-6)


def test_limits():
    """a = 0: the weights; a rate of 0: the first weights; exactly."""
    for average in (EMA(0.0), EMA(0.0, mode="zero"), SWA(start=1), LAWA(1)):
        made = model()
        fit(made, [average])
        assert_equal(values(made), made.get_weights())
    for rate_zero in (EMA(0.9), EMA(0.3), EMA(0.99, warmup=True)):
        made = model(optimizer=keras.optimizers.SGD(0.0))
        made.get_layer("norm").trainable = False
        before = made.get_weights()
        fit(made, [rate_zero])
        assert_equal(values(made), before)
    for decay, expected in ((0.0, "same"), (0.5, "first")):
        rate = 0.05 if expected == "same" else 0.0
        made = model(optimizer=AveragedOptimizer(keras.optimizers.SGD(rate), decay))
        before = made.get_weights()
        fit(made)
        count = 4  # kernel and bias of the first layer, gain and offset of the norm: what an optimizer sees comes first
        assert_equal(values(made)[:count], (made.get_weights() if expected == "same" else before)[:count])


def test_digits_near_one():
    """1 - d^k in float64 by another road; a mean of equal numbers stays that number in float32."""
    for decay, k in ((0.9999, 1), (0.999999, 7), (0.5, 3), (0.0, 2)):
        assert sample_weight(decay, False, k, 0) == pytest.approx(1 - decay**k, rel=1e-9)
    assert sample_weight(0.9999, True, 1, 0) == 0.9
    assert float(sample_weight(0.9999, True, 1, ops.convert_to_tensor(90))) == pytest.approx(0.09, rel=1e-6)
    made, ema = scalar(), EMA(0.9999, mode="zero")
    ema.set_model(made)
    made.layers[-1].kernel.assign([[1.7]])
    for _ in range(5):
        ema.update()
        assert values(made)[0].item() == pytest.approx(1.7, rel=1e-6)


def test_kernels_agree():
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype("float32") for shape in ((3, 4), (5,))]
    new = [rng.normal(size=shape).astype("float32") for shape in ((3, 4), (5,))]
    for weight in (0.0, 1e-4, 0.3, 0.9, 1.0):
        tensors = [[ops.convert_to_tensor(np.array(a)) for a in group] for group in (start, new)]
        for got in (blend(*tensors, weight), compiled_blend()(*tensors, weight)):
            for g, a, b in zip(got, start, new, strict=True):
                expected = a.astype("float64") * (1 - weight) + b.astype("float64") * weight
                np.testing.assert_allclose(ops.convert_to_numpy(g), expected, atol=1e-6)


# ---------------------------------------------------------------- training is the same


def test_training_is_the_same():
    """Bit for bit, with validation on swapped weights in between."""
    x, y = data(8, 4)
    plain = model()
    fit(plain, validation_data=(x, y))
    for make in KINDS.values():
        made = model()
        fit(made, [make()], validation_data=(x, y))
        assert_equal(made.get_weights(), plain.get_weights())
    for options in ({}, {"update_every": 2}, {"mode": "zero", "warmup": True}):
        made = model(optimizer=AveragedOptimizer(keras.optimizers.Adam(0.05), 0.9, **options))
        fit(made, [SwapAverage()], validation_data=(x, y))
        assert_equal(made.get_weights(), plain.get_weights(), 1e-6)  # XLA compiles another program


OPTIMIZERS = {
    "adamw": lambda **k: AdamW(0.05, **k),
    "sgd": lambda **k: keras.optimizers.SGD(0.1, momentum=0.9, **k),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    "options",
    [{}, {"mode": "zero"}, {"warmup": True, "update_every": 2}, {"update_every": 2}],
    ids=["copy", "zero", "warm", "every"],
)
@pytest.mark.parametrize("accumulate", [None, 2])
def test_callback_and_wrapper(name, options, accumulate):
    """The same averages, and only real updates count: those of every second batch."""
    more = {} if accumulate is None else {"gradient_accumulation_steps": accumulate}
    ema = EMA(0.8, exclude="norm/moving*", **options)
    one = model(optimizer=OPTIMIZERS[name](**more))
    fit(one, [ema])
    other = model(optimizer=AveragedOptimizer(OPTIMIZERS[name](**more), 0.8, **options))
    fit(other)
    assert ema.steps == 12 // (accumulate or 1)
    assert int(ops.convert_to_numpy(other.optimizer._updates)) == ema.steps
    assert_equal(values(one), values(other), 2e-6)
    moved = max(np.abs(a - b).max() for a, b in zip(values(one), one.get_weights(), strict=True))
    assert moved > 1e-2


def test_around_lookahead():
    """Updates are those of the optimizer inside, which accumulates, and so is ``use_ema``."""

    def lookahead(**more):
        return Lookahead(keras.optimizers.SGD(0.1, **more), k=2)

    ema = EMA(0.8, exclude="norm/moving*")
    one = model(optimizer=lookahead(gradient_accumulation_steps=3))
    fit(one, [ema])
    other = model(optimizer=AveragedOptimizer(lookahead(gradient_accumulation_steps=3), 0.8))
    fit(other)
    assert ema.steps == int(ops.convert_to_numpy(other.optimizer._updates)) == 4
    assert_equal(values(one), values(other), 2e-6)
    with pytest.raises(ConfigError, match="use_ema=True"):
        fit(model(optimizer=lookahead(use_ema=True)), [EMA()])
    with pytest.raises(ConfigError, match="goes inside of other wrappers"):
        Lookahead(AveragedOptimizer("sgd"))


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has no steps_per_execution on PyTorch")
def test_several_steps_a_call():
    """steps_per_execution: the averages of every third update, as update_every=3 takes them."""
    averages = []
    for options, ema in (({"steps_per_execution": 3}, EMA(0.8)), ({}, EMA(0.8, update_every=3))):
        made = model(**options)
        fit(made, [ema])
        assert (ema.steps, ema.samples) == (12, 4)
        averages.append(values(made))
    assert_equal(*averages, 1e-6)


def test_mixed_precision():
    """float32 averages of bfloat16 weights: a change below their resolution adds up."""
    layer = keras.layers.Dense(1, use_bias=False, dtype="bfloat16")
    made = keras.Sequential([keras.layers.Input((1,)), layer])
    kernel = made.layers[-1].kernel
    assert keras.backend.standardize_dtype(kernel.dtype) == "bfloat16"
    kernel.assign([[1.0]])
    ema = EMA(0.999)
    ema.set_model(made)
    kernel.assign([[2.0]])
    for _ in range(100):
        ema.update()
    expected = 2 - 0.999**100
    assert float(ops.convert_to_numpy(ema._averages()[0]).item()) == pytest.approx(expected, rel=1e-5)
    with averaged(made):
        assert float(ops.convert_to_numpy(ops.cast(kernel, "float32")).item()) == pytest.approx(expected, rel=4e-3)
    assert float(ops.convert_to_numpy(ops.cast(kernel, "float32")).item()) == 2.0


def test_loss_scaling_skips():
    """Under mixed_float16 Keras puts its loss scaling around; steps that it skips are no updates."""
    results = []
    for wrap in (False, True):
        inner = keras.optimizers.SGD(0.01)
        ema = EMA(0.9, exclude="norm/moving*")
        optimizer = AveragedOptimizer(inner, 0.9) if wrap else inner
        scaled = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**20)
        made = model(optimizer=scaled)
        x, y = data()
        y[:4] = np.float32(1e38)  # the first step overflows
        made.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0, callbacks=[] if wrap else [ema])
        results.append(values(made))
        taken = int(ops.convert_to_numpy(scaled.iterations))
        assert taken == 5
        assert (int(ops.convert_to_numpy(optimizer._updates)) if wrap else ema.steps) == taken
    assert_equal(*([w for w in group if np.isfinite(w).all()] for group in results), 1e-5)


# ---------------------------------------------------------------- swaps


@pytest.mark.parametrize("kind", ["ema", "zero", "swa", "lawa", "wrapper"])
def test_apply_and_reset(kind):
    """Bit-identical, also within each other and when the block fails; training goes on as if nothing was."""
    optimizer = AveragedOptimizer(keras.optimizers.Adam(0.05), 0.7) if kind == "wrapper" else None
    made = model(optimizer=optimizer)
    average = None if kind == "wrapper" else SWA() if kind == "swa" else KINDS[kind]()
    fit(made, [average] if average else [])
    before = made.get_weights()
    with averaged(made):
        swapped = made.get_weights()
        assert np.abs(swapped[0] - before[0]).max() > 1e-4
        with averaged(made):
            assert_equal(made.get_weights(), swapped)
        assert_equal(made.get_weights(), swapped)
        with training_weights(made):
            assert_equal(made.get_weights(), before)
        assert_equal(made.get_weights(), swapped)
    assert_equal(made.get_weights(), before)
    with pytest.raises(KeyError), averaged(average or made.optimizer):
        raise KeyError
    assert_equal(made.get_weights(), before)
    if average:
        average.apply()
        assert_equal(made.get_weights(), swapped)
    fit(made, [average] if average else [])  # goes on from the weights of training
    other = model(optimizer=AveragedOptimizer(keras.optimizers.Adam(0.05), 0.7) if kind == "wrapper" else None)
    fit(other), fit(other)
    assert_equal(made.get_weights(), other.get_weights())


@pytest.mark.parametrize("kind", ["ema", "swa", "wrapper"])
def test_validation_and_checkpoints(kind, tmp_path):
    """val_loss, ModelCheckpoint and evaluate see the averages; the weights of training stay."""
    x, y = data(8, 4)
    optimizer = AveragedOptimizer(keras.optimizers.Adam(0.05), 0.7) if kind == "wrapper" else None
    made = model(optimizer=optimizer)
    own = {"ema": lambda: EMA(0.7, exclude="norm/moving*"), "swa": lambda: SWA(start=0)}.get(kind, SwapAverage)()
    path = tmp_path / "at-{epoch}.weights.h5"
    saver = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    history = fit(made, [own, saver], validation_data=(x, y)).history
    plain = made.evaluate(x, y, verbose=0)
    with averaged(made):
        mean, weights = made.evaluate(x, y, verbose=0), made.get_weights()
    assert history["val_loss"][-1] == pytest.approx(mean, rel=1e-5)
    assert abs(plain - mean) > 1e-4 * mean
    assert made.evaluate(x, y, verbose=0, callbacks=[own]) == pytest.approx(mean, rel=1e-5)
    assert made.evaluate(x, y, verbose=0) == pytest.approx(plain, rel=1e-6)
    np.testing.assert_allclose(made.predict(x, verbose=0, callbacks=[own]), _predicted(made, weights, x), atol=1e-5)
    loaded = model(seed=9, optimizer=AveragedOptimizer(keras.optimizers.Adam(0.05), 0.7) if kind == "wrapper" else None)
    loaded.optimizer.build(loaded.trainable_variables)
    loaded.load_weights(str(path).format(epoch=2))
    assert_equal(loaded.get_weights(), weights, 1e-7)


def _predicted(made, weights, x):
    other = model(seed=1)
    other.set_weights(weights)
    return other.predict(x, verbose=0)


def test_what_fit_leaves():
    made, ema = model(), EMA(0.7, final="averaged")
    fit(made, [ema])
    swapped = made.get_weights()
    ema.reset()
    assert np.abs(made.get_weights()[0] - swapped[0]).max() > 1e-4
    assert_equal(values(made), swapped)
    made, late = model(), SWA(start=9)
    fit(made, [late], validation_data=data(8, 4))  # no sample yet: nothing is swapped
    with pytest.raises(ConfigError, match="no average yet"):
        late.apply()


def test_averages_that_are_kept():
    """For good: nothing that looks for averages afterwards finds these."""
    made, ema = model(), EMA(0.5)
    fit(made, [ema])
    wanted, trained = values(made), made.get_weights()
    ema.keep(made)
    assert_equal(made.get_weights(), wanted)
    assert np.abs(made.get_weights()[0] - trained[0]).max() > 1e-4
    with training_weights(made):
        assert_equal(made.get_weights(), wanted)
    with pytest.raises(ConfigError, match="has no averages"):
        averaged(made).__enter__()


def test_subsets():
    made, ema = model(), EMA(0.5, include=["first/*", "norm/moving*"], exclude="*/bias")
    fit(made, [ema])
    paths = [w.path for w in made.weights]
    changed = {
        path for path, a, b in zip(paths, made.get_weights(), values(made), strict=True) if np.abs(a - b).max() > 0
    }
    assert changed == {"first/kernel", "norm/moving_mean", "norm/moving_variance"}
    with pytest.raises(ConfigError, match=r"no weight to average is called 'forst/\*'.*'first/kernel'"):
        EMA(include="forst/*").set_model(made)
    optimizer = AveragedOptimizer("sgd", include="last/*")
    optimizer.build(made.trainable_variables)
    assert [v.shape for v in optimizer._averages] == [(4, 1), (1,)]


# ---------------------------------------------------------------- Keras


def test_use_ema():
    """Keras' own averages: `averaged` shows them, ours on top are refused."""
    made = model(optimizer=keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.7))
    x, y = data()
    made.train_on_batch(x[:4], y[:4])
    made.train_on_batch(x[4:8], y[4:8])
    before = made.get_weights()
    with averaged(made):
        assert np.abs(made.get_weights()[0] - before[0]).max() > 1e-4
    assert_equal(made.get_weights(), before)
    for average in (EMA(), SWA(), LAWA()):
        with pytest.raises(ConfigError, match=r"use_ema=True.*Use one of the two"):
            fit(made, [average])
    with pytest.raises(ConfigError, match="use_ema=True"):
        AveragedOptimizer(keras.optimizers.SGD(0.1, use_ema=True))
    with pytest.raises(ConfigError, match="averages the weights already"):
        AveragedOptimizer(AveragedOptimizer("sgd"))
    with pytest.raises(ConfigError, match="LossScaleOptimizer around"):
        AveragedOptimizer(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)))


def test_saving_the_optimizer(tmp_path):
    """A .keras file brings the averages back, and training goes on as it would have."""
    made = model(optimizer=AveragedOptimizer(AdamW(0.05), 0.7, mode="zero", warmup=True, exclude="last/*"))
    fit(made)
    made.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == made.optimizer.get_config()
    assert_equal(values(loaded), values(made))
    assert int(ops.convert_to_numpy(loaded.optimizer.iterations)) == 12
    x, y = data(8, 6)
    for each in (made, loaded):
        each.optimizer.learning_rate = 0.01
        assert float(ops.convert_to_numpy(each.optimizer.inner_optimizer.learning_rate)) == pytest.approx(0.01)
        each.layers[-2].rate = 0  # the state of dropout is not in the file
        each.make_train_function(force=True)
        each.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    assert_equal(loaded.get_weights(), made.get_weights(), 1e-7)
    assert_equal(values(loaded), values(made), 1e-7)


def test_mistakes():
    for wrong, message in (
        (lambda: EMA(1.5), "decay must be in"),
        (lambda: EMA(mode="half"), "mode must be"),
        (lambda: EMA(update_every=0), "update_every must be"),
        (lambda: EMA(every=2), "takes update_every"),
        (lambda: EMA(final="last"), "final must be"),
        (lambda: SWA(every=0), "every 1 or more"),
        (lambda: SWA(unit="batch"), "unit must be"),
        (lambda: LAWA(0), "k must be"),
        (lambda: AveragedOptimizer("sgd", 2.0), "decay must be"),
        (lambda: CyclicLinear(0.1, 0.2, 5), "0 <= low <= high"),
        (lambda: averaged(3).__enter__(), "averages belong to"),
        (lambda: averaged(scalar()).__enter__(), "has no averages"),
        (lambda: SwapAverage().set_model(model()), "compiled with AveragedOptimizer"),
    ):
        with pytest.raises(ConfigError, match=message):
            wrong()
    made, ema = scalar(), EMA()
    for each in (ema, EMA()):
        each.set_model(made)
    with pytest.raises(ConfigError, match=r"has 2 averages.*Name the callback"):
        averaged(made).__enter__()
    with pytest.raises(ConfigError, match="Make another for each model"):
        ema.set_model(scalar())


# ---------------------------------------------------------------- SWA


def test_cycles():
    """The rate is low where the samples are; the quadratic of one weight, by hand."""
    rate = CyclicLinear(0.5, 0.1, 4)
    got = [float(ops.convert_to_numpy(rate(i))) for i in range(8)]
    np.testing.assert_allclose(got, [0.4, 0.3, 0.2, 0.1] * 2, atol=1e-7)
    assert CyclicLinear.from_config(rate.get_config()).get_config() == rate.get_config()
    made, average, watch = model(optimizer=keras.optimizers.SGD(rate)), SWA(start=2, every=4, unit="step"), Watch()
    fit(made, [watch, average])
    assert average.samples == 2
    for i, got in enumerate(values(made)):
        np.testing.assert_allclose(got, (watch.seen[6][i] + watch.seen[10][i]) / 2, atol=1e-6)


def test_refreshed_statistics():
    """Of batch norm: equal means over the batches of what the layer before gives, nothing else."""
    made = model()
    fit(made, [SWA()])
    x = data(32, 5)[0]
    before = made.get_weights()
    assert refresh_statistics(made, [x[i : i + 8] for i in range(0, 32, 8)]) == 4
    inner = keras.Model(made.input, made.get_layer("first").output).predict(x, verbose=0).reshape(4, 8, 4)
    after = made.get_weights()
    paths = [w.path for w in made.weights]
    mean, variance = paths.index("norm/moving_mean"), paths.index("norm/moving_variance")
    np.testing.assert_allclose(after[mean], inner.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(after[variance], inner.var(1).mean(0), atol=1e-5)
    for i, (one, other) in enumerate(zip(before, after, strict=True)):
        if i not in (mean, variance):
            np.testing.assert_array_equal(one, other)
    assert made.get_layer("norm").momentum == 0.99
    assert refresh_statistics(scalar(), []) == 0


def test_what_keras_does_differently():
    """Its average after accumulating twice an update is another one; in bfloat16 it stands still."""
    x, y = data()
    results = []
    for steps in (None, 2):
        native = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.8, gradient_accumulation_steps=steps)
        ours = AveragedOptimizer(keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps), 0.8)
        watch, pair = None, []
        for optimizer in (native, ours):
            keras.utils.set_random_seed(0)
            made = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1, use_bias=False)])
            made.compile(optimizer, "mse")
            seen = [made.get_weights()[0]]
            for i in range(0, 24, 4):
                made.train_on_batch(x[i : i + 4], y[i : i + 4])
                seen.append(made.get_weights()[0])
            pair.append(values(made)[0])
            watch = seen
        results.append((pair, watch))
    (plain, seen), (accumulated, twice) = results

    def mean(first, later):
        for weight in later:
            first = 0.8 * first + 0.2 * weight
        return first

    np.testing.assert_allclose(plain[0], mean(seen[1], seen[2:]), atol=1e-6)
    np.testing.assert_allclose(plain[1], mean(seen[0], seen[1:]), atol=1e-6)
    np.testing.assert_allclose(accumulated[1], mean(twice[0], twice[2::2]), atol=1e-6)
    assert np.abs(accumulated[0] - mean(twice[2], twice[4::2])).max() > 1e-3

    layer = keras.layers.Dense(1, use_bias=False, dtype="bfloat16")
    layer.build((None, 1))
    optimizer = keras.optimizers.SGD(0.0, use_ema=True, ema_momentum=0.999)
    optimizer.build([layer.kernel])
    layer.kernel.assign([[1.0]])
    for value in (1.0, *[2.0] * 100):
        layer.kernel.assign([[value]])
        optimizer.apply([ops.zeros((1, 1), "bfloat16")])
    kept = float(ops.convert_to_numpy(ops.cast(optimizer._model_variables_moving_average[0], "float32")).item())
    assert kept == 1.0  # of 2 - 0.999 ** 100 = 1.095
