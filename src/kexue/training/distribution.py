"""Several devices and several processes for one training: data and model parallelism of ``keras.distribution`` on JAX.

With data parallelism each device has all weights and a part of each batch; the mean over the whole batch is the same
as on one device. With model parallelism the matrices of a block are cut as in Megatron (arXiv 1909.08053): the first of
a pair by columns, the second by rows, so that one sum over the devices joins them again.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kexue.errors import ConfigError

__all__ = ["MODEL_RULES", "Distribution", "distribute", "wait_for_all"]

MODEL_RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r".*attention/(qkv|query|key_value|input)_kernel$", (None, "model")),
    (r".*attention/output_kernel$", ("model", None)),
    (r".*feedforward/up_kernel$", (None, "model")),
    (r".*feedforward/down_kernel$", ("model", None)),
    (r".*token_embedding/table$", (None, "model")),
)
"""Which axis of which matrix is cut; a matrix whose size does not divide evenly stays whole."""


@dataclass(frozen=True)
class Distribution:
    """How a training is spread.

    Attributes:
        keras: the Keras distribution, None on a single device.
        process: number of this process; process 0 writes the files.
        processes: how many there are.
        share: ``(i, n)``: this process brings the i-th of n equal parts of each batch.
        copies: of the model, in all processes; each has an equal part of every batch.
    """

    keras: Any = None
    process: int = 0
    processes: int = 1
    share: tuple[int, int] = (0, 1)
    copies: int = 1


def distribute(
    devices: int | str | None = None, *, hosts: str | Sequence[str] | None = None, process: int | None = None
) -> Distribution:
    """Set up devices and processes; to be called before a model is built.

    Args:
        devices: None: one, or all there are where ``hosts`` are given; a number, or ``"all"``: so many copies of the
            model (data parallelism); ``"data=2,model=4"``: 2 copies, each spread over 4 devices. On a CPU so many
            virtual devices are made in each process, if JAX has not started yet.
        hosts: addresses ``host:port`` of all processes, the first of which is the meeting point. Each process calls
            this function with its own number.
        process: number of this process among ``hosts``, from 0.

    Raises:
        ConfigError: another backend than JAX, more devices than there are, or numbers that do not fit together.

    Source: ``keras.distribution``; ``jax.distributed``.
    """
    if process is not None and hosts is None:
        raise ConfigError(f"process={process} is the number of a process among hosts: give the hosts too.")
    if devices is None and hosts is None:
        return Distribution()
    if keras.backend.backend() != "jax":
        raise ConfigError(
            f"several devices or hosts need the JAX backend. Received: backend {keras.backend.backend()}. Set "
            "KERAS_BACKEND=jax."
        )
    data, model = _parallel(devices)
    addresses = [hosts] if isinstance(hosts, str) and "," not in hosts else hosts
    addresses = addresses.split(",") if isinstance(addresses, str) else list(addresses or ())
    count = max(len(addresses), 1)
    if data is not None:
        _virtual_devices(data * model, count)
    if addresses:
        _join(addresses, process)
    import jax

    found = keras.distribution.list_devices()
    data = len(found) // model if data is None else data
    if data * model > len(found) or (addresses and data * model != len(found)):
        raise ConfigError(
            f"devices={devices!r} asks for {data * model} devices, JAX sees {len(found)}: {', '.join(found[:8])}. On a "
            "CPU start the process with XLA_FLAGS=--xla_force_host_platform_device_count=N for N virtual ones."
        )
    if model > 1 and addresses:
        raise ConfigError("model parallelism works within one process; leave hosts or model= out.")
    chosen = found[: data * model]
    if model == 1:
        spread: Any = keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False)
    else:
        mesh = keras.distribution.DeviceMesh((data, model), ("batch", "model"), chosen)
        layouts = keras.distribution.LayoutMap(mesh)
        for pattern, axes in MODEL_RULES:
            layouts[pattern] = axes
        spread = _ModelParallel(layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False)
    keras.distribution.set_distribution(spread)
    process, processes = jax.process_index(), jax.process_count()
    return Distribution(spread, process, processes, (process, processes), data)


def wait_for_all(distribution: Distribution, name: str) -> None:
    """Return when every process has come to the point called ``name``."""
    if distribution.processes > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def _parallel(devices: int | str | None) -> tuple[int | None, int]:
    """Copies of the model (None: as many as there are devices), and devices for each."""
    if devices is None or devices == "all":
        return None, 1
    text = str(devices)
    if text.isdigit() and int(text) > 0:
        return int(text), 1
    parts = [part.partition("=")[::2] for part in text.split(",")]
    named = dict(parts)
    known = set(named) <= {"data", "model"} and len(named) == len(parts)
    if known and all(v.isdigit() and int(v) > 0 for v in named.values()):
        return int(named.get("data", 1)), int(named.get("model", 1))
    raise ConfigError(f"devices must be a number, 'all' or such as 'data=2,model=2'. Received: {devices!r}")


def _virtual_devices(total: int, processes: int) -> None:
    import jax

    if total % processes:
        raise ConfigError(f"{total} devices cannot be divided among {processes} processes evenly.")
    try:
        jax.config.update("jax_num_cpu_devices", total // processes)
    except RuntimeError:
        return  # JAX has started; what it has is checked below


def _join(addresses: list[str], process: int | None) -> None:
    if process is None or not 0 <= process < len(addresses):
        raise ConfigError(
            f"process must be the number of this process among the {len(addresses)} hosts, from 0. Received: {process}"
        )
    for address in addresses:
        if not re.fullmatch(r"[^:,\s]+:\d+", address):
            raise ConfigError(f"hosts must be addresses such as node0:1234. Received: {address!r}")
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(addresses[0], len(addresses), process)


class _ModelParallel(keras.distribution.ModelParallel):
    """`MODEL_RULES` where sizes divide evenly; the state of the optimizer lies as its weight does."""

    def get_variable_layout(self, variable: Any) -> Any:
        layout = super().get_variable_layout(variable)
        cut = [(axis, size) for axis, size in zip(layout.axes, variable.shape, strict=True) if axis is not None]
        if all(size % self.device_mesh.shape[self.device_mesh.axis_names.index(axis)] == 0 for axis, size in cut):
            return layout
        return keras.distribution.TensorLayout([None] * len(variable.shape), self.device_mesh)
