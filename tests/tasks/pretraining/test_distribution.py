"""Two virtual devices and two processes give the losses of one; JAX only."""

import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from tests.tasks.pretraining.corpus import shards
from tests.tasks.pretraining.test_pretrainer import TOKENS, Pretrainer, config, fit

from kexue.errors import ConfigError
from kexue.training import distribute
from kexue.training.distribution import Distribution

jax_only = pytest.mark.skipif(keras.backend.backend() != "jax", reason="keras.distribution works on JAX")

SCRIPT = """
import json, sys
arguments = json.loads(sys.argv[1])
from kexue.training import distribute
spread = distribute(arguments.get("devices"), hosts=arguments.get("hosts"), process=arguments.get("process"))
import keras, jax
from tests.tasks.pretraining.test_pretrainer import TOKENS, Pretrainer, config, fit

losses = []
class Steps(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        losses.append(float(logs["loss"]))

trainer = Pretrainer(config(), TOKENS, objective="mlm=0.5,clm=0.5", length=32, distribution=spread)
history = fit(trainer, arguments["shards"], steps=6, callbacks=[Steps()], folder=arguments["folder"])
cut = [w.path for w in trainer.model.weights if not w.value.sharding.is_fully_replicated]
print(json.dumps({"losses": losses, "valid": history.history["val_loss"], "devices": jax.device_count(), "cut": cut}))
"""


def start(**arguments):
    # Without the folder of compiled programs: two processes would read and write it at once.
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    environment = {**os.environ, **quick, "KERAS_BACKEND": "jax", "XLA_FLAGS": ""}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def result(process):
    out, error = process.communicate(timeout=400)
    assert process.returncode == 0, error[-3000:]
    return json.loads(out.strip().splitlines()[-1])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return str(shards(tmp_path_factory.mktemp("corpus")).folder)


@pytest.fixture(scope="module")
def single(corpus, tmp_path_factory):
    return result(start(shards=corpus, folder=str(tmp_path_factory.mktemp("single"))))


def same(a, b):
    np.testing.assert_allclose(a["losses"], b["losses"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(a["valid"], b["valid"], rtol=1e-5, atol=1e-5)


@jax_only
@pytest.mark.slow
def test_two_devices(single, corpus, tmp_path):
    assert single["devices"] == 1
    two = result(start(shards=corpus, folder=str(tmp_path), devices="2"))
    assert two["devices"] == 2
    assert not two["cut"]
    same(single, two)


@jax_only
@pytest.mark.slow
def test_model_parallel(single, corpus, tmp_path):
    two = result(start(shards=corpus, folder=str(tmp_path), devices="data=1,model=2"))
    assert len(two["cut"]) == 9  # four matrices of each block, and the token table
    same(single, two)


@jax_only
@pytest.mark.slow
def test_two_processes(single, corpus, tmp_path):
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    both = [start(shards=corpus, folder=str(tmp_path), hosts=hosts, process=i) for i in range(2)]
    first, second = (result(process) for process in both)
    assert first["devices"] == 2
    assert first["losses"] == second["losses"]
    same(single, first)


def test_errors():
    if keras.backend.backend() != "jax":
        with pytest.raises(ConfigError, match="JAX backend"):
            distribute(2)
        return
    for devices in ("two", "data=2,2", "data=2,data=2", "modle=2"):
        with pytest.raises(ConfigError, match="must be a number"):
            distribute(devices)
    with pytest.raises(ConfigError, match="give the hosts too"):
        distribute(process=1)
    with pytest.raises(ConfigError, match="number of this process"):
        distribute(hosts="127.0.0.1:1,127.0.0.1:2", process=2)
    with pytest.raises(ConfigError, match="addresses such as"):
        distribute(hosts="a,b", process=0)
    with pytest.raises(ConfigError, match="evenly"):
        distribute(3, hosts="a:1,b:2", process=0)
    assert distribute().share == (0, 1)


def test_a_batch_has_a_part_for_each_copy(corpus):
    trainer = Pretrainer(config(), TOKENS, length=32, distribution=Distribution(copies=2))
    for run in (lambda: fit(trainer, corpus, batch_size=3), lambda: trainer.evaluate(corpus, batch_size=3)):
        with pytest.raises(ConfigError, match="batch_size must be a multiple of 2"):
            run()
