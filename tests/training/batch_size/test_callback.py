"""NoiseScale inside real training, and gradients measured at fixed weights."""

import keras
import numpy as np
import pytest

from kexue.errors import ConfigError
from kexue.training.batch_size import NoiseLog, NoiseScale, measure_noise_scale, noise_from_samples

STEPS, BATCH = 4, 8
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 30, (2 * STEPS * BATCH * 3, 5)).astype("int32")
X = RNG.normal(size=(len(IDS), 6)).astype("float32")
Y = (X @ RNG.normal(size=(6, 2)) + RNG.normal(size=(len(IDS), 2))).astype("float32")


def network():
    """An embedding (sparse gradients), attention, running statistics, dropout."""
    keras.utils.set_random_seed(1)
    ids, x = keras.Input((5,), dtype="int32"), keras.Input((6,))
    h = keras.layers.Embedding(30, 8)(ids)
    h = keras.layers.LayerNormalization()(h + keras.layers.Attention()([h, h]))
    h = keras.layers.Concatenate()([keras.layers.Flatten()(h), x])
    h = keras.layers.BatchNormalization()(keras.layers.Dense(16, activation="gelu")(h))
    model = keras.Model([ids, x], keras.layers.Dense(2)(keras.layers.Dropout(0.1)(h)))
    optimizer = keras.optimizers.AdamW(1e-3, gradient_accumulation_steps=STEPS, global_clipnorm=1.0)
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def linear(optimizer):
    """Gradients that can be worked out: mse of x w."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2, use_bias=False)])
    model.compile(optimizer, "mse")
    return model


def by_hand(w, x, y):
    return 2 * x.T @ (x @ w - y) / y.size


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(v.value) for v in variables]


def test_training_goes_the_same_way():
    """Bit for bit: weights, statistics, dropout, optimizer, history; and nothing stays behind."""
    size = 2 * STEPS * BATCH - BATCH + 3  # an epoch's last batch is smaller
    data = {"batch_size": BATCH, "epochs": 2, "verbose": 0, "shuffle": False}
    callback = NoiseScale()
    models, histories = (network(), network()), []
    for model, callbacks in zip(models, ([], [callback]), strict=True):
        keras.utils.set_random_seed(2)  # PyTorch has one generator for all
        history = model.fit([IDS[:size], X[:size]], Y[:size], callbacks=callbacks, **data)
        histories.append(history.history)
    for a, b in zip(*map(state, models), strict=True):
        np.testing.assert_array_equal(a, b)
    assert {k: histories[1][k] for k in histories[0]} == histories[0]
    assert set(histories[1]) - set(histories[0]) == {"noise_scale", "gradient_norm2", "gradient_trace", "kappa2"}
    assert callback.estimate.gradient_norm2 + callback.estimate.trace > 0
    # Each epoch ends with a small batch, which cannot be compared: those updates are logged without norms.
    assert np.isnan(callback.log.column("grad_norm2_full")).tolist() == [False, True, False, True]
    assert "train_step" not in vars(models[1])
    assert "_backend_apply_gradients" not in vars(models[1].optimizer)
    for model in models:
        keras.utils.set_random_seed(3)
        model.fit([IDS[:size], X[:size]], Y[:size], **data)
    for a, b in zip(*map(state, models), strict=True):
        np.testing.assert_array_equal(a, b)


def test_norms_are_those_of_the_gradients(tmp_path):
    model = linear(keras.optimizers.SGD(0.05, gradient_accumulation_steps=STEPS, clipnorm=0.01))
    w = model.get_weights()[0].astype("float64")
    path = tmp_path / "noise.csv"
    count = 2 * STEPS * BATCH
    model.fit(X[:count], Y[:count], batch_size=BATCH, shuffle=False, verbose=0, callbacks=[NoiseScale(path)])
    log = NoiseLog.read(path)
    assert log.column("step").tolist() == [1, 2]
    for update, row in enumerate(log.rows):
        pieces = [slice((update * STEPS + k) * BATCH, (update * STEPS + k + 1) * BATCH) for k in range(STEPS)]
        gradients = [by_hand(w, X[p], Y[p]) for p in pieces]
        mean = np.mean(gradients, axis=0)
        assert row["grad_norm2_micro"] == pytest.approx(np.mean([np.sum(g**2) for g in gradients]), rel=1e-4)
        assert row["grad_norm2_full"] == pytest.approx(np.sum(mean**2), rel=1e-4)
        assert row["sign_agreement"] == pytest.approx(np.mean(np.sign(gradients[0]) * np.sign(gradients[1])), abs=1e-6)
        assert row["loss"] == pytest.approx(np.mean([np.mean((X[p] @ w - Y[p]) ** 2) for p in pieces]), rel=1e-4)
        assert (row["batch_size"], row["micro_batch"]) == (STEPS * BATCH, BATCH)
        assert row["learning_rate"] == pytest.approx(0.05)
        w = w - 0.05 * mean * min(1, 0.01 / np.linalg.norm(mean))


def test_begins_in_the_middle_of_an_update():
    model = linear(keras.optimizers.SGD(0.01, gradient_accumulation_steps=STEPS))
    model.fit(X[: 2 * BATCH], Y[: 2 * BATCH], batch_size=BATCH, verbose=0)
    callback = NoiseScale()
    model.fit(X[: 7 * BATCH], Y[: 7 * BATCH], batch_size=BATCH, verbose=0, callbacks=[callback])
    assert callback.log.column("step").tolist() == [2]


def test_measured_at_fixed_weights():
    model = linear("sgd")
    w = model.get_weights()[0]
    batches = [(X[k : k + 1], Y[k : k + 1]) for k in range(len(X))]
    found = measure_noise_scale(model, batches)
    samples = np.stack([by_hand(w, x, y).ravel() for x, y in batches])
    expected = noise_from_samples(samples)
    assert found.gradient_norm2 == pytest.approx(expected.gradient_norm2, rel=1e-3)
    assert found.trace == pytest.approx(expected.trace, rel=1e-3)
    assert found.kappa2 == pytest.approx(expected.kappa2, rel=1e-3)
    assert found.interval[0] < found.noise_scale < found.interval[1]
    pairs = measure_noise_scale(model, [(X[k : k + 2], Y[k : k + 2]) for k in range(0, len(X), 2)])
    assert pairs.trace == pytest.approx(found.trace, rel=0.5)


def test_measuring_changes_nothing():
    model = network()
    model.fit([IDS[:BATCH], X[:BATCH]], Y[:BATCH], batch_size=BATCH, verbose=0)
    seeds = [i for i, v in enumerate(model.variables) if "seed" in v.path]
    before = state(model)
    measure_noise_scale(model, [([IDS[k : k + 4], X[k : k + 4]], Y[k : k + 4]) for k in range(0, 24, 4)])
    for i, (a, b) in enumerate(zip(before, state(model), strict=True)):
        assert i in seeds or np.array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "compile_options", "message"),
    [
        ({}, {}, "must accumulate"),
        ({"gradient_accumulation_steps": 2}, {"steps_per_execution": 2}, "steps_per_execution=1"),
    ],
)
def test_what_cannot_be_watched(options, compile_options, message):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1, **options), "mse", **compile_options)
    with pytest.raises(ConfigError, match=message):
        model.fit(X[:8], Y[:8], verbose=0, callbacks=[NoiseScale()])


def test_what_cannot_be_measured():
    model = linear("sgd")
    with pytest.raises(ConfigError, match="at least 4"):
        measure_noise_scale(model, [(X[:2], Y[:2])])
    with pytest.raises(ConfigError, match="one size"):
        measure_noise_scale(model, [(X[:2], Y[:2]), (X[:3], Y[:3])])
    with pytest.raises(ConfigError, match="compiled"):
        measure_noise_scale(keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)]), [])
