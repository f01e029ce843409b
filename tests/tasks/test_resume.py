"""Training that is killed goes on to the same weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.tasks.conftest import new, sentences

from kexue.errors import CheckpointError, ConfigError

ROOT = Path(__file__).parents[2]

SCRIPT = """
import os, signal, sys
sys.path.insert(0, {root!r})
import keras
import numpy as np
from tests.tasks.conftest import new, sentences

class Die(keras.callbacks.Callback):
    steps = 0
    def on_train_batch_end(self, batch, logs=None):
        Die.steps += 1
        if Die.steps == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

data = [e for e in sentences(90, 1) if len(e["text"]) > 14][:48]  # one length: one compilation
ner = new(dropout=0.2, attention_dropout=0.1)
history = ner.fit(
    data, data[:10], epochs=3, batch_size=8, learning_rate=1e-2, seed=5, verbose=0,
    resume=sys.argv[1] or None, save_every=2, callbacks=[Die()],
)
logs = np.asarray([history.history[key] for key in sorted(history.history)])
np.savez(sys.argv[2], *ner.model.get_weights(), history=logs, best=ner.best_epoch, steps=Die.steps)
"""


def run(folder: object, result: Path, die_at: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(root=str(ROOT)), str(folder), str(result), str(die_at)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])},
    )


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    straight, resumed, state = tmp_path / "straight.npz", tmp_path / "resumed.npz", tmp_path / "state"
    done = run("", straight, -1)
    assert done.returncode == 0, done.stderr
    # 6 steps an epoch, saved every 2: dies in the first epoch, in the second (after its step 3), then not.
    for die_at in (5, 5):
        assert run(state, resumed, die_at).returncode == -signal.SIGKILL
        assert (state / "state.json").is_file()
    done = run(state, resumed, -1)
    assert done.returncode == 0, done.stderr
    with np.load(straight) as one, np.load(resumed) as other:
        assert one["steps"] == 18
        assert 0 < other["steps"] < 18  # it did not begin anew
        for name in one.files:
            if name != "steps":
                np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_finished_run_is_not_repeated(tmp_path):
    data = sentences(24, 1)
    ner = new()
    first = ner.fit(data, data, epochs=2, learning_rate=1e-2, verbose=0, resume=tmp_path)
    again = new(seed=9)
    started = time.monotonic()
    second = again.fit(data, data, epochs=2, learning_rate=1e-2, verbose=0, resume=tmp_path)
    assert time.monotonic() - started < 5
    assert first.history == second.history
    assert (ner.best_epoch, len(second.epoch)) == (again.best_epoch, 2)
    for one, other in zip(ner.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for changes, message in (
        ({"epochs": 3}, "epochs was 2, now 3"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"train": data[1:]}, "train was"),
        ({"valid": None}, "valid was"),
    ):
        options = {"train": data, "valid": data, "epochs": 2, "learning_rate": 1e-2} | changes
        with pytest.raises(ConfigError, match=f"another job: {message}"):
            again.fit(**options, verbose=0, resume=tmp_path)
    with pytest.raises(ConfigError, match="head was"):
        new("efficient_global_pointer").fit(data, data, epochs=2, learning_rate=1e-2, verbose=0, resume=tmp_path)
    state = next(tmp_path.glob("state-*.safetensors"))
    state.write_bytes(state.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=state.name):
        again.fit(data, data, epochs=2, learning_rate=1e-2, verbose=0, resume=tmp_path)
    (tmp_path / "state.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"state\.json"):
        again.fit(data, data, epochs=2, learning_rate=1e-2, verbose=0, resume=tmp_path)


def test_an_interrupted_run_leaves_model_and_state_usable(tmp_path):
    import keras

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    data = [e for e in sentences(90, 1) if len(e["text"]) > 14][:48]
    ner = new()
    options = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, "verbose": 0, "resume": tmp_path, "save_every": 1}
    with pytest.raises(KeyboardInterrupt):
        ner.fit(data, **options, callbacks=[Stop()])
    assert isinstance(ner.predict("我在青阳市"), list)
    history = ner.fit(data, **options)
    straight = new()
    expected = straight.fit(data, **options | {"resume": None, "save_every": None})
    assert history.history == expected.history
    for one, other in zip(ner.model.get_weights(), straight.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
