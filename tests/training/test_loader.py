"""`Loader`: exactly once, resumable, the same for any number of workers, and clear when something dies."""

import itertools
import os
import signal

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training import loading_functions as functions

from kexue.errors import ConfigError, DataError
from kexue.training import Resume
from kexue.training.data import Loader, WorkerError


def ids(loader):
    return [batch["id"].tolist() for batch in loader]


def flat_list(lists):
    return list(itertools.chain.from_iterable(lists))


def plain(batches):
    return [{key: value.tolist() for key, value in batch.items()} for batch in batches]


@given(st.integers(1, 40), st.integers(1, 12), st.booleans(), st.booleans(), st.integers(0, 3))
def test_every_example_comes_once_an_epoch(count, batch_size, shuffle, drop, seed):
    if drop and count < batch_size:
        with pytest.raises(DataError, match=f"{count} examples"):
            Loader(functions.Texts(count), batch_size=batch_size, drop_remainder=drop)
        return
    loader = Loader(functions.Texts(count), batch_size=batch_size, shuffle=shuffle, drop_remainder=drop, seed=seed)
    for epoch in range(3):
        assert loader.state() == {"epoch": epoch, "step": 0}
        batches = ids(loader)
        assert len(batches) == len(loader)
        assert all(len(batch) == batch_size for batch in batches[: -1 if not drop else None])
        flat = flat_list(batches)
        kept = count // batch_size * batch_size if drop else count
        assert len(flat) == len(set(flat)) == kept
        assert set(flat) <= set(range(count))
        if not shuffle:
            assert flat == list(range(kept))


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_hosts_get_disjoint_parts_of_the_same_global_batches(count, batch_size, hosts, drop):
    def loaders():
        return [
            Loader(functions.Texts(count), batch_size=batch_size, shard=(host, hosts), drop_remainder=drop, seed=5)
            for host in range(hosts)
        ]

    rest = count % (batch_size * hosts)
    if (drop and count < batch_size * hosts) or (not drop and 0 < rest < hosts):
        with pytest.raises((ConfigError, DataError), match="drop_remainder"):
            loaders()
        return
    parts = [ids(loader) for loader in loaders()]
    assert len({len(part) for part in parts}) == 1
    together = [flat_list(batch) for batch in zip(*parts, strict=True)]
    assert together == ids(Loader(functions.Texts(count), batch_size=batch_size * hosts, drop_remainder=drop, seed=5))
    assert all(parts[host][step] for host in range(hosts) for step in range(len(together)))


def test_epochs_differ_and_a_seed_fixes_the_order():
    first, again, other = (Loader(functions.Texts(30), batch_size=7, seed=seed) for seed in (1, 1, 2))
    epochs = [ids(first) for _ in range(3)]
    assert epochs == [ids(again) for _ in range(3)]
    assert len({str(epoch) for epoch in epochs}) == 3
    assert ids(other) != epochs[0]


@pytest.mark.parametrize(
    "options", [{"workers": 1}, {"workers": 2}, {"workers": 4, "ahead": 9}, {"workers": 2, "threads": True}], ids=str
)
def test_workers_change_nothing(options):
    """Also across the epochs, into which workers run ahead, and after a pass that was given up."""

    def make(**more):
        return Loader(functions.Texts(34), batch_size=4, transform=functions.augment, seed=3, **more)

    alone = make()
    expected = [plain(alone) for _ in range(3)]
    assert expected[0][0]["noise"] != expected[1][0]["noise"]
    with make(**options) as loader:
        assert plain(itertools.islice(loader, 2)) == expected[0][:2]
        assert plain(loader) == expected[0][2:]
        assert [plain(loader), plain(loader)] == expected[1:]


def test_noise_belongs_to_the_example_and_the_epoch_not_to_the_batch():
    noise = []
    for batch_size in (4, 5):
        loader = Loader(functions.Texts(20), batch_size=batch_size, transform=functions.augment)
        noise.append({i: x for batch in loader for i, x in zip(batch["id"].tolist(), batch["noise"], strict=True)})
    assert noise[0] == noise[1]
    assert len(set(noise[0].values())) == 20


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_at_every_step_continues_the_uninterrupted_stream(workers):
    def make():
        return Loader(functions.Texts(11), batch_size=3, transform=functions.augment, seed=1, workers=workers)

    with make() as whole, make() as resumed:
        stream, states = [], [whole.state()]
        for _ in range(2):
            for batch in whole:
                stream.append({key: value.tolist() for key, value in batch.items()})
                states.append(whole.state())
        assert states[-1] == {"epoch": 2, "step": 0}
        for done, state in enumerate(states[:-1]):
            resumed.restore(state)
            rest = plain(resumed) + (plain(resumed) if done < 4 else [])
            assert rest == stream[done:], state


def test_a_killed_worker_costs_nothing_but_a_warning():
    with Loader(functions.Texts(60), batch_size=3, transform=functions.slow_example, workers=2) as loader:
        expected = ids(Loader(functions.Texts(60), batch_size=3))
        batches = iter(loader)
        seen = [next(batches)["id"].tolist() for _ in range(3)]
        for pid in loader._pool.pids():
            os.kill(pid, signal.SIGKILL)
        with pytest.warns(RuntimeWarning, match="SIGKILL"):
            seen += ids(batches)
        assert seen == expected


def test_a_batch_that_kills_its_workers_is_an_error_and_the_place_is_kept():
    with Loader(
        functions.Texts(20), batch_size=2, shuffle=False, workers=2, transform=functions.deadly_example
    ) as loader:
        batches = iter(loader)
        assert [next(batches)["id"].tolist() for _ in range(2)] == [[0, 1], [2, 3]]
        with pytest.raises(WorkerError, match=r"(?s)SIGKILL.*2 times.*batch 2 of epoch 0"):
            next(batches)
        assert loader.state() == {"epoch": 0, "step": 2}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_names_the_example(workers):
    with Loader(functions.Texts(20), batch_size=2, workers=workers, transform=functions.bad_example) as loader:
        with pytest.raises(ValueError, match="bad text") as caught:
            list(loader)
        assert "Raised for example 5 of the source, in epoch 0." in caught.value.__notes__


def test_bad_arguments_say_what_to_do():
    texts = functions.Texts(4)
    for options, match in [
        ({"source": iter([1])}, "buffered_shuffle"),
        ({"batch_size": 0}, "batch_size"),
        ({"workers": -2}, "workers"),
        ({"ahead": -1}, "ahead"),
        ({"shard": (2, 2)}, "shard"),
        ({"engine": "ray"}, "grain"),
        ({"engine": "grain"}, "workers=1"),
    ]:
        with pytest.raises(ConfigError, match=match):
            Loader(**{"source": texts, "batch_size": 2, **options})
    for state in ({"epoch": 0, "step": 9}, [0, 1]):
        with pytest.raises(ConfigError, match="batches in an epoch"):
            Loader(texts, batch_size=2).restore(state)
    with pytest.raises(ConfigError, match="top level"):
        next(iter(Loader(texts, batch_size=2, workers=1, transform=lambda example: example)))
    with pytest.raises(DataError, match="collate"):
        next(iter(Loader([np.zeros(2), np.zeros(3)], batch_size=2)))
    with pytest.raises(ConfigError, match="collate"):
        next(iter(Loader(["text"], batch_size=1)))


def test_numbers_are_not_cut_off():
    """Integers beside floats, whichever comes first; alone they stay integers."""
    for numbers in ([1, 2.5], [2.5, 1]):
        (batch,) = Loader(numbers, batch_size=2, shuffle=False)
        assert batch.dtype == "float32"
        assert batch.tolist() == numbers
    (batch,) = Loader([1, 2], batch_size=2, shuffle=False)
    assert batch.dtype == "int32"


class Record(keras.Model):
    """A linear model that keeps the inputs it was trained on."""

    def __init__(self):
        super().__init__()
        self.dense, self.seen = keras.layers.Dense(1, kernel_initializer="ones"), []

    def call(self, x):
        return self.dense(x)

    def train_step(self, *args):
        inputs = keras.ops.convert_to_numpy(args[-1][0])
        self.seen.append(inputs[:, 0].astype(int).tolist())
        return super().train_step(*args)


def compiled():
    model = Record()
    model(np.zeros((1, 2), "float32"))
    model.compile(keras.optimizers.SGD(1e-4), "mse", run_eagerly=True)
    return model


@pytest.mark.parametrize("workers", [0, 4])
def test_fit_takes_each_example_once_an_epoch_in_the_loaders_order(workers):
    """34 batches: with so many Keras' own PyDataset with 4 workers repeats some and loses others."""
    expected = Loader(functions.Texts(67), batch_size=2, transform=functions.row, seed=3)
    expected = [inputs[:, 0].astype(int).tolist() for _ in range(2) for inputs, _ in expected]
    model = compiled()
    with Loader(functions.Texts(67), batch_size=2, transform=functions.row, seed=3, workers=workers) as loader:
        model.fit(loader, epochs=2, verbose=0)
        assert model.seen == expected
        assert loader.state() == {"epoch": 2, "step": 0}
        held_out = Loader(functions.Texts(9), batch_size=2, transform=functions.row, shuffle=False)
        assert model.predict(held_out, verbose=0).shape == (9, 1)
        assert np.isfinite(model.evaluate(held_out, verbose=0))


def test_fit_goes_on_in_the_middle_of_an_epoch(tmp_path):
    """Stopped after step 3 of epoch 1 and resumed by a new loader and model: the steps and weights of one run."""

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if len(self.model.seen) == 5 + 3:
                raise KeyboardInterrupt

    def make():
        return Loader(functions.Texts(10), batch_size=2, transform=functions.row, seed=2)

    whole = compiled()
    whole.fit(make(), epochs=3, verbose=0)
    stopped = compiled()
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(make(), epochs=3, verbose=0, callbacks=[Resume(tmp_path, job={}, save_every=1), Stop()])
    model, loader, resume = compiled(), make(), Resume(tmp_path, job={}, save_every=1)
    assert resume.restore(model)
    assert (resume.epoch, resume.step) == (1, 3)
    loader.restore({"epoch": resume.epoch, "step": resume.step})
    model.fit(loader, initial_epoch=1, epochs=2, verbose=0, callbacks=[resume])
    model.fit(loader, initial_epoch=2, epochs=3, verbose=0, callbacks=[resume])
    assert stopped.seen + model.seen == whole.seen
    for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.peer
@pytest.mark.slow
def test_grain_gives_the_same_batches_and_a_dead_worker_is_an_error(monkeypatch):
    pytest.importorskip("grain")
    options = {"batch_size": 4, "seed": 3, "shuffle": False}
    expected = plain(Loader(functions.Texts(22), transform=functions.augment, **options))
    loader = Loader(functions.Texts(22), transform=functions.augment, workers=2, engine="grain", **options)
    assert plain(itertools.islice(loader, 2)) == expected[:2]
    assert plain(loader) == expected[2:]
    monkeypatch.setattr("kexue.training.data.grain_engine._ENDED_S", 3.0)
    for transform in (functions.deadly_example, functions.leaves_example):
        with pytest.raises(WorkerError):
            list(Loader(functions.Texts(22), transform=transform, workers=2, engine="grain", **options))
