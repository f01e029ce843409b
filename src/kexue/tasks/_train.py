"""Keras ``fit`` as the tasks use it: seeded, resumable, with the weights of the best epoch in the end."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kexue.errors import ConfigError
from kexue.tasks.pretraining.network import PretrainingModel
from kexue.training.best import BestWeights
from kexue.training.resume import Resume
from kexue.training.running import run
from kexue.training.seeding import seeded_training
from kexue.training.steady import SteadyRandom

__all__ = ["check_numbers", "target_network", "train"]


def check_numbers(**numbers: Any) -> None:
    """Positive integers.

    Raises:
        ConfigError: names the first that is not.
    """
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise ConfigError(f"{name} must be a positive integer. Received: {name}={number!r}")


def target_network(model: Any) -> PretrainingModel:
    """The network that learns the targets of `kexue.tasks._pairs.PairBatches`, one pair a row."""
    network = PretrainingModel(model, ("lm",))
    network.facts = tuple(name for name in network.facts if name != "document_ids")
    return network


def train(
    network: keras.Model,
    batches: Any,
    held: Any,
    *,
    job: Mapping[str, Any],
    epochs: int,
    seed: int,
    resume: str | os.PathLike[str] | None,
    save_every: int | None,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: int | str,
) -> tuple[keras.callbacks.History, int | None]:
    """Train a compiled network on batches; with ``held`` the weights of the epoch of least ``val_loss`` stay.

    Args:
        network: compiled.
        batches: see `kexue.training.running.run`.
        held: batches to validate on, or None.
        job: JSON data that tell this training from others; see `Resume`.
        epochs, seed, resume, save_every, callbacks, verbose: as in ``fit`` of the tasks.

    Returns:
        The History, and the epoch whose weights stayed, None without ``held``.
    """
    best = None if held is None else BestWeights("val_loss", mode="min")
    own = [callback for callback in (SteadyRandom(), best) if callback is not None]
    every = [*own, *callbacks]
    state = None if resume is None else Resume(resume, job=job, save_every=save_every, callbacks=every)
    with seeded_training(network, seed):
        history = run(network, batches, epochs=epochs, callbacks=every, state=state, verbose=verbose, validation=held)
    if keras.backend.backend() == "jax":
        network.jax_state_sync()
    if best is None:
        return history, None
    best.restore(network)
    return history, best.epoch
