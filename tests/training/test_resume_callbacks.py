"""A run that is cut off and resumed has the same weights and the same averages, bit for bit."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from tests.training.test_averaging import assert_equal, data, model, values

from kexue.errors import CheckpointError, ConfigError
from kexue.training import EMA, LAWA, SWA, AveragedOptimizer, BestWeights, Resume, SteadyRandom, SwapAverage

EPOCHS, STEPS = 3, 6
MAKE = {
    "ema": lambda: EMA(0.8),
    "zero": lambda: EMA(0.8, mode="zero", warmup=True, update_every=4),
    "swa": lambda: SWA(start=1),
    "lawa": lambda: LAWA(3, every=4, unit="step"),
    "wrapper": SwapAverage,
}


class Cut(keras.callbacks.Callback):
    """Stops the process, as far as training is concerned, after so many steps."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise InterruptedError


def optimizer(kind):
    adam = keras.optimizers.Adam(0.05, gradient_accumulation_steps=2 if kind == "ema" else None)
    return AveragedOptimizer(adam, 0.8, update_every=2) if kind == "wrapper" else adam


def train(kind, folder, cut=0):
    """As a script would: everything made anew, then as much of the training as is left."""
    x, y = data()
    made = model(optimizer=optimizer(kind))
    average, best, steady = MAKE[kind](), BestWeights("val_loss", "min"), SteadyRandom()
    callbacks = [steady, average, best]
    state = Resume(folder, job={"kind": kind}, save_every=2, callbacks=callbacks)
    state.restore(made)
    keras.utils.set_random_seed(7 + state.epoch * STEPS + state.step)
    if state.epoch == state.step == 0:
        steady.on_train_batch_end(-1)  # the first state
    for epoch in range(state.epoch, EPOCHS):
        first = 4 * state.step
        made.fit(
            x[first:], y[first:], batch_size=4, shuffle=False, verbose=0, epochs=epoch + 1, initial_epoch=epoch,
            callbacks=[*callbacks, state, Cut(cut)], validation_data=(x[:8], y[:8]),
        )  # fmt: skip
    return made, average, best, state


@pytest.mark.parametrize("kind", MAKE)
def test_cut_and_resumed(kind, tmp_path):
    whole, _, best, _ = train(kind, tmp_path / "whole")
    for at in (3, 5, 4):  # steps of the process itself, of which whole twos are saved
        with pytest.raises(InterruptedError):
            train(kind, tmp_path / "cut", at)
    made, average, other, state = train(kind, tmp_path / "cut")
    assert state.epoch == EPOCHS
    assert_equal(made.get_weights(), whole.get_weights())
    assert_equal(values(made), values(whole))
    assert (other.epoch, other.value) == (best.epoch, best.value)
    assert_equal(other.weights, best.weights)
    assert np.abs(values(made)[0] - made.get_weights()[0]).max() > 1e-4
    if kind == "ema":
        assert average.steps == EPOCHS * STEPS // 2


def test_the_weights_of_training_are_saved(tmp_path):
    """Although the averages stand in the model at the end of an epoch, before and after."""
    made, average, *_ = train("ema", tmp_path)
    other = model(seed=4, optimizer=optimizer("ema"))
    fresh = EMA(0.8)
    assert Resume(tmp_path, job={"kind": "ema"}, callbacks=[fresh]).restore(other)
    assert_equal(other.get_weights(), made.get_weights())
    fresh.set_model(other)
    assert_equal(values(other), values(made))
    assert (fresh.steps, fresh.samples) == (average.steps, average.samples)


def test_files(tmp_path):
    """One a callback, the best weights written only when they change; another set of callbacks reads what it can."""
    *_, state = train("swa", tmp_path)
    files = json.loads((tmp_path / "state.json").read_text())["files"]
    torch = ["random-0"] if keras.backend.backend() == "torch" else []
    assert sorted(files) == sorted(["state", "swa-0", "best-0", *torch])
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == sorted(files.values())
    best = next(tmp_path.glob("best-0-*"))
    before = best.stat().st_mtime_ns
    state.save(state.model, EPOCHS, 0)
    assert next(tmp_path.glob("best-0-*")).stat().st_mtime_ns == before
    made = model(optimizer=optimizer("swa"))
    assert Resume(tmp_path, job={"kind": "swa"}).restore(made)
    wrong = SWA(exclude="last/*")
    assert Resume(tmp_path, job={"kind": "swa"}, callbacks=[wrong]).restore(made)
    with pytest.raises(CheckpointError, match=r"does not fit this SWA of 6 weights: weights: expected the shapes"):
        wrong.set_model(made)


def test_averages_of_an_earlier_training(tmp_path):
    """A fit that goes on from averages that another one left saves its own weights, and restored ones stay."""
    (x, y), made, ema = data(), model(), EMA(0.5, final="averaged")
    made.fit(x, y, batch_size=4, verbose=0, callbacks=[ema])
    left = made.get_weights()[0]
    made.fit(x, y, batch_size=4, verbose=0, callbacks=[Resume(tmp_path, job={})])
    wanted = made.get_weights()
    assert np.abs(wanted[0] - left).max() > 1e-4
    other = model()
    assert Resume(tmp_path, job={}).restore(other)
    assert_equal(other.get_weights(), wanted)
    ema.apply()
    state = Resume(tmp_path, job={}, callbacks=[ema])
    state.restore(made)
    ema.on_train_begin()
    assert_equal(made.get_weights(), wanted)
    with pytest.raises(ConfigError, match="must be compiled"):
        state.restore(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]))


def test_a_kill_while_writing(tmp_path):
    """What it leaves is large and of no use: the next state takes it away."""
    for name in (".state-00000-0000003.safetensors.ab1.tmp", ".best-0-00000-0000003.safetensors.ab2.tmp"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".other.tmp").write_bytes(b"not ours")
    best = BestWeights("loss", "min")
    state = Resume(tmp_path, job={}, callbacks=[best])
    state.save(model(), 0, 3)
    assert [p.name for p in tmp_path.glob(".*.tmp")] == [".other.tmp"]


def test_callbacks_of_ones_own(tmp_path):
    """Two methods and a name are enough; two of a kind keep apart."""

    class Counter(keras.callbacks.Callback):
        state_name = "counter"
        count = 0

        def on_train_batch_end(self, batch, logs=None):
            self.count += 1

        def state_arrays(self):
            return {"count": np.asarray(self.count)}

        def load_state_arrays(self, arrays):
            self.count = int(arrays["count"])

    x, y = data()
    made, counters = model(), [Counter(), Counter()]
    counters[1].count = 100
    state = Resume(tmp_path, job={}, callbacks=[*counters, keras.callbacks.History()])
    made.fit(x, y, batch_size=4, verbose=0, callbacks=[*counters, state])
    again = [Counter(), Counter()]
    other = model()
    Resume(tmp_path, job={}, callbacks=again).restore(other)
    assert [c.count for c in again] == [6, 106]
    assert int(ops.convert_to_numpy(other.optimizer.iterations)) == 6
