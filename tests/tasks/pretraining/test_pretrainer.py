"""Pretraining: what is learnt, what a run depends on, and that a kill changes nothing."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from tests.tasks.pretraining.corpus import LETTERS, shards, tokenizer, write

from kexue.errors import ConfigError, DataError
from kexue.models import Transformer, TransformerConfig
from kexue.nn import masks
from kexue.tasks import Pretrainer
from kexue.tasks.pretraining.flops import training_flops
from kexue.text import Tokenizer
from kexue.text.corpus import build_shards
from kexue.training import AdamW, Lookahead

TOKENS = tokenizer()
MIXTURE = "mlm=2,clm=1,unilm=1"


def config(**changes):
    values = {
        "family": "roformer", "position": "rotary", "vocabulary_size": len(TOKENS), "hidden_size": 32,
        "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "max_length": 64, "dropout": 0.1,
        "attention_dropout": 0.1,
    }  # fmt: skip
    return TransformerConfig(**values | changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return shards(tmp_path_factory.mktemp("corpus"))


def weights(trainer):
    return [np.array(keras.ops.convert_to_numpy(w)) for w in trainer.model.weights]


def fit(trainer, made, steps=6, **options):
    options = {"batch_size": 4, "valid_every": 3, "valid_rows": 8, "verbose": 0} | options
    return trainer.fit(made, steps=steps, **options)


@pytest.mark.slow
def test_learns_every_objective(made):
    """Below the entropy of the characters under each mask."""
    quiet = config(dropout=0.0, attention_dropout=0.0, norm_order="pre")
    trainer = Pretrainer(quiet, TOKENS, objective=MIXTURE, length=32)
    before = trainer.evaluate(made, rows=64)
    history = trainer.fit(
        made, steps=160, batch_size=16, learning_rate=5e-3, valid_every=80, valid_rows=32, verbose=0
    ).history
    after = trainer.evaluate(made, rows=64)
    for name in ("plain", "pairs"):
        for objective in ("mlm", "clm", "unilm"):
            assert before[name][f"{objective}_loss"] > 2.5
            assert after[name][f"{objective}_loss"] < 0.75 * math.log(len(LETTERS))
            assert after[name][f"{objective}_perplexity"] == pytest.approx(math.exp(after[name][f"{objective}_loss"]))
    assert history["val_loss"][-1] < history["val_loss"][0]
    assert {"mlm_loss", "clm_accuracy", "val_unilm_loss", "tokens_per_second"} <= set(history)


def test_loss_is_that_of_the_model(made):
    """The loss of a batch against the Transformer's own logits, target by target."""
    trainer = Pretrainer(config(), TOKENS, objective=MIXTURE, length=32)
    data = trainer._batches(made, "train", 4, 0, 12)
    seen = set()
    for index in range(12):
        (batch,) = data[index]
        seen.add(int(batch["objective"][0, 0]))
        logits = keras.ops.convert_to_numpy(
            trainer.model({k: batch[k] for k in ("token_ids", "segment_ids", "padding_mask", "document_ids")})["logits"]
        ).astype("float64")
        total = count = 0.0
        for row in range(4):
            for place, token, weight in zip(
                batch["target_positions"][row], batch["target_ids"][row], batch["target_weights"][row], strict=True
            ):
                z = logits[row, place]
                total += weight * (np.log(np.exp(z - z.max()).sum()) + z.max() - z[token])
                count += weight
        outputs = trainer._network({k: np.asarray(v) for k, v in batch.items()})
        loss = trainer._network.compute_loss(x=batch, y_pred=outputs)
        assert float(keras.ops.convert_to_numpy(loss)) == pytest.approx(total / count, rel=2e-5)
    assert seen == {0, 1, 2}


def test_rows_are_one_stream(made, monkeypatch):
    """Pass after pass, and none before the wanted rows is worked out, so that a long run over little text goes on."""
    data = Pretrainer(config(), TOKENS, length=32)._batches(made, "valid", 4, 0, 10, ("plain",))
    size = data.available
    turns = [data._turn(i) for i in range(4)]
    assert [len(turn) for turn in turns] == [size] * 4
    every = np.concatenate([turn.take(np.arange(size))["token_ids"] for turn in turns])
    for first, count in ((0, 5), (size - 2, 4), (size + 1, 2 * size), (3 * size, size)):
        np.testing.assert_array_equal(data.rows(first, count)["token_ids"], every[first : first + count])
    made_now = []
    monkeypatch.setattr(data, "_turn", lambda index: made_now.append(index) or turns[index % 4])
    data.rows(10**6 * size, 3)
    assert made_now == [10**6]


def test_no_token_sees_its_target(made):
    """A masked or later token that changes leaves the losses of all targets that must not see it."""
    trainer = Pretrainer(config(), TOKENS, objective="clm", length=32)
    (batch,) = trainer._batches(made, "train", 4, 0, 1)[0]
    other = dict(batch, token_ids=batch["token_ids"].copy())
    other["token_ids"][:, 20:] = 5 + (other["token_ids"][:, 20:] + 3) % 16
    a, b = (keras.ops.convert_to_numpy(trainer._network(x)["losses"]) for x in (batch, other))
    np.testing.assert_allclose(a[:, :20], b[:, :20], atol=1e-5)
    assert np.abs(a[:, 20:] - b[:, 20:]).max() > 1e-3


def test_same_seed_same_weights(made):
    runs = []
    for seed in (0, 0, 1):
        trainer = Pretrainer(config(), TOKENS, length=32)
        fit(trainer, made, seed=seed)
        runs.append(weights(trainer))
    assert all((a == b).all() for a, b in zip(runs[0], runs[1], strict=True))
    assert any((a != b).any() for a, b in zip(runs[0], runs[2], strict=True))


def test_resumes_where_it_stopped(made, tmp_path):
    whole = Pretrainer(config(), TOKENS, objective=MIXTURE, length=32)
    expected = fit(whole, made, folder=tmp_path / "whole", save_every=2, log_every=1)

    class Stop(keras.callbacks.Callback):
        count = 0

        def on_train_batch_end(self, batch, logs=None):
            Stop.count += 1
            if Stop.count == 5:  # the state of step 4 is there, step 5 is lost
                raise KeyboardInterrupt

    first = Pretrainer(config(), TOKENS, objective=MIXTURE, length=32)
    with pytest.raises(KeyboardInterrupt):
        fit(first, made, folder=tmp_path / "part", save_every=2, log_every=1, callbacks=[Stop()])
    second = Pretrainer(config(), TOKENS, objective=MIXTURE, length=32, seed=7)  # its own weights are replaced
    history = fit(second, made, folder=tmp_path / "part", save_every=2, log_every=1)
    assert all((a == b).all() for a, b in zip(weights(whole), weights(second), strict=True))
    assert history.history["loss"] == expected.history["loss"]
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("whole", "part")]
    drop = {"seconds", "tokens_per_second", "flops_per_second"}
    tables = [
        [[v for v, n in zip(line.split(","), log[0].split(","), strict=True) if n not in drop] for line in log]
        for log in logs
    ]
    assert tables[0] == tables[1]
    assert [row[0] for row in tables[0]] == ["step", "1", "2", "3", "4", "5", "6"]


def test_averages_are_kept(made, tmp_path):
    """What is evaluated and saved is the average, worked out here step by step; also of a run that was finished."""
    decay, seen = 0.6, []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            seen.append(weights(trainer))

    trainer = Pretrainer(config(), TOKENS, length=32)
    expected = weights(trainer)
    options = {"ema": decay, "steps": 3, "folder": tmp_path}
    fit(trainer, made, callbacks=[Watch()], **options)
    for step in seen:
        expected = [decay * a + (1 - decay) * w for a, w in zip(expected, step, strict=True)]
    again = Pretrainer(config(), TOKENS, length=32)
    fit(again, made, **options)
    for a, b, c in zip(weights(trainer), weights(again), expected, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, atol=1e-6)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(weights(trainer), seen[-1], strict=True))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_steps_between_two_validations(made, tmp_path, accumulation):
    """The last epoch is shorter: as many updates as were asked for, also when it is resumed."""
    trainer = Pretrainer(config(), TOKENS, length=32)
    options = {"steps": 7, "save_every": 1, "log_every": 1, "accumulation": accumulation}
    # One objective: JAX compiles each anew for every trainer.
    history = fit(trainer, made, folder=tmp_path / "whole", **options)
    batches = int(trainer._network.optimizer._iterations.value)
    assert batches == 7 * accumulation
    assert len(history.history["val_loss"]) == 3
    lines = (tmp_path / "whole" / "log.csv").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in lines[1:]] == [1, 2, 3, 4, 5, 6, 7]
    want = weights(trainer)

    class Stop(keras.callbacks.Callback):
        count = 0

        def on_train_batch_begin(self, batch, logs=None):
            if self.count == 6 * accumulation + 1:
                raise KeyboardInterrupt
            self.count += 1

    options |= {"steps": 8, "folder": tmp_path / "stopped"}
    with pytest.raises(KeyboardInterrupt):
        fit(Pretrainer(config(), TOKENS, length=32), made, callbacks=[Stop()], **options)
    resumed = Pretrainer(config(), TOKENS, length=32)
    fit(resumed, made, **options)
    whole = Pretrainer(config(), TOKENS, length=32)
    fit(whole, made, **options | {"folder": None})
    for a, b in zip(weights(resumed), weights(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(weights(whole), want, strict=True))


def test_another_run_is_refused(made, tmp_path):
    fit(Pretrainer(config(), TOKENS, length=32), made, folder=tmp_path)
    with pytest.raises(ConfigError, match="another job: steps was 6, now 9"):
        fit(Pretrainer(config(), TOKENS, length=32), made, steps=9, folder=tmp_path)


def test_two_processes_in_a_folder(made, tmp_path):
    code = (
        "import sys\nfrom kexue.files import folder_lock\n"
        "with folder_lock(sys.argv[1]):\n  print(1, flush=True)\n  input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        trainer = Pretrainer(config(), TOKENS, length=32)
        with pytest.raises(ConfigError, match="another process works in"):
            fit(trainer, made, steps=1, folder=tmp_path)
        assert not (tmp_path / "state").exists()
        other.kill()
    fit(trainer, made, steps=1, folder=tmp_path)


def test_checkpoint(made, tmp_path):
    trainer = Pretrainer(config(), TOKENS, objective=MIXTURE, length=32)
    fit(trainer, made, steps=1)
    trainer.save(tmp_path)
    batch = {"token_ids": np.asarray([[2, 6, 7, 8, 3]], "int32")}
    read = Transformer.from_pretrained(tmp_path, mask="prefix", head="lm")
    a, b = (keras.ops.convert_to_numpy(model(batch)["logits"]) for model in (trainer.model, read))
    np.testing.assert_array_equal(a, b)
    assert Tokenizer.from_pretrained(tmp_path).vocabulary == TOKENS.vocabulary
    again = Pretrainer(tmp_path, objective="mlm", length=32)  # goes on from the checkpoint
    fit(again, made, steps=1)


def test_one_kind_of_segments(made):
    """RoBERTa has one: its batches name no other, and a Transformer of one's own may have a stricter mask."""
    window = masks.Causal() & masks.Window(4, 0)
    model = Transformer(config(num_segments=1), mask=window, head="lm")
    history = fit(Pretrainer(model, TOKENS, objective="clm", length=32), made, steps=1, valid_every=1).history
    assert np.isfinite(history["val_loss"]).all()


def test_accumulation_is_a_larger_batch(made):
    """Without dropout, two batches of four rows are one of eight where all rows have as many targets."""
    runs = []
    for size, accumulation in ((8, 1), (4, 2)):
        trainer = Pretrainer(config(dropout=0.0, attention_dropout=0.0), TOKENS, objective="clm", length=32)
        optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=accumulation if accumulation > 1 else None)
        full = _full_rows(trainer, made)
        for part in np.split(np.arange(8), accumulation):
            trainer._network.compile(optimizer=optimizer) if not trainer._network.compiled else None
            trainer._network.train_on_batch({k: v[part] for k, v in full.items()})
        assert size * accumulation == 8
        runs.append(weights(trainer))
    for a, b in zip(*runs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def _full_rows(trainer, made):
    """Eight rows; weights are set so that each has 20 targets."""
    (batch,) = trainer._batches(made, "train", 8, 0, 1)[0]
    batch["target_weights"] = np.zeros_like(batch["target_weights"])
    batch["target_weights"][:, :20] = 1
    return batch


def test_flops_by_hand():
    model = Transformer(config(lm_transform=False), head="lm")
    rows, length, targets = 3, 16, 5
    per_block = 4 * 32 * 32 + 2 * 32 * 64
    forward = 2 * rows * length * 2 * per_block  # two blocks
    forward += 2 * 2 * rows * length * length * 32 * 2  # scores and their mean of the values, two blocks
    forward += 2 * rows * targets * 32 * len(TOKENS)
    assert training_flops(model, rows, length, targets) == 3 * forward


def test_clear_errors(made, tmp_path):
    with pytest.raises(ConfigError, match="tokenizer has 23 tokens, the model 20"):
        Pretrainer(config(vocabulary_size=20), TOKENS)
    with pytest.raises(ConfigError, match="lm head"):
        Pretrainer(Transformer(config()), TOKENS)
    with pytest.raises(ConfigError, match="length"):
        Pretrainer(config(position="learned", family="bert"), TOKENS, length=128)
    other = Tokenizer.from_vocab([*TOKENS.vocabulary, "再"])
    with pytest.raises(DataError, match="another vocabulary"):
        Pretrainer(config(vocabulary_size=24), other, length=32).fit(made, steps=1)
    with pytest.raises(ConfigError, match=r"tokens see their targets: Transformer\(config, mask='causal'"):
        Pretrainer(Transformer(config(), head="lm"), TOKENS, objective="clm", length=32)
    with pytest.raises(ConfigError, match="has its dtype already"):
        Pretrainer(Transformer(config(), head="lm"), TOKENS, length=32, dtype="bfloat16")
    with pytest.raises(ConfigError, match="num_segments=1"):
        Pretrainer(config(num_segments=1), TOKENS, objective=MIXTURE, length=32)
    trainer = Pretrainer(config(), TOKENS, length=32)
    for name, value in (("steps", 0), ("valid_every", -1), ("save_every", 0), ("log_every", 0), ("seed", -1)):
        with pytest.raises(ConfigError, match=f"{name} must be"):
            fit(trainer, made, **{name: value})
    for name in ("batch_size", "rows"):
        with pytest.raises(ConfigError, match=f"{name} must be a positive integer"):
            trainer.evaluate(made, **{name: 0})
    with pytest.raises(ConfigError, match="accumulation=2 needs an optimizer"):
        fit(trainer, made, accumulation=2, optimizer=Lookahead(AdamW(1e-3)))
    nothing = build_shards(write(tmp_path, 1), TOKENS, tmp_path / "shards", holdout=0.9999, progress=False)
    with pytest.raises(DataError, match="no documents to train on"):
        fit(trainer, nothing)
    with pytest.raises(ConfigError, match="tokenizer is needed"):
        Pretrainer(config())


SCRIPT = """
import sys, json
from tests.tasks.pretraining.test_pretrainer import Pretrainer, TOKENS, MIXTURE, config, fit, weights
import numpy as np
trainer = Pretrainer(config(), TOKENS, objective="mlm=0.5,clm=0.5", length=32)
print("ready", flush=True)
fit(trainer, sys.argv[1], steps=30, valid_every=10, folder=sys.argv[2], save_every=3)
np.savez(sys.argv[3], *weights(trainer))
"""


@pytest.mark.slow
def test_killed_anywhere(made, tmp_path):
    """SIGKILL at random moments, and the same weights bit for bit."""
    rng = np.random.default_rng(0)

    def start(name):
        command = [sys.executable, "-c", SCRIPT, str(made.folder), str(tmp_path / name), str(tmp_path / f"{name}.npz")]
        # Each run compiles, so that it takes as long as the first.
        quick = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_ENABLE_COMPILATION_CACHE": "false"}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=quick)

    def done(process):
        out, error = process.communicate(timeout=300)
        assert process.returncode == 0, error[-2000:]
        return out

    began = time.monotonic()
    process = start("whole")
    process.stdout.readline()
    ready = time.monotonic()
    done(process)
    seconds, before = time.monotonic() - ready, ready - began
    kills, share = 0, 0.95
    for _ in range(3):
        process = start("killed")
        time.sleep(before + rng.uniform(0.3, share) * seconds)
        if process.poll() is not None:  # the machine has become quicker
            done(process)
            if kills:
                break
            shutil.rmtree(tmp_path / "killed")
            share = 0.4
            continue
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    done(start("killed"))
    assert kills
    with np.load(tmp_path / "whole.npz") as a, np.load(tmp_path / "killed.npz") as b:
        assert all((a[name] == b[name]).all() for name in a.files)
    assert json.loads((tmp_path / "killed/state/state.json").read_text())["finished"]
