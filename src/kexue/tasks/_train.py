"""Keras ``fit`` as the tasks use it: seeded, resumable, with the weights of the best epoch in the end."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kexue.tasks.pretraining.network import PretrainingModel
from kexue.training.best import BestWeights
from kexue.training.optimizers import AdamW
from kexue.training.resume import Resume
from kexue.training.running import run
from kexue.training.schedules import WarmupLinear
from kexue.training.seeding import seeded_training
from kexue.training.steady import SteadyRandom
from kexue.training.weight_average import WeightAverage

__all__ = ["target_network", "train"]


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
    learning_rate: float,
    weight_decay: float,
    warmup: int | float,
    clip: float | None,
    seed: int,
    resume: str | os.PathLike[str] | None,
    save_every: int | None,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: int | str,
    jit_compile: bool | str,
    rate_rules: Sequence[tuple[str, float]] = (),
    loss: Any = None,
) -> tuple[keras.callbacks.History, int | None]:
    """Fit with AdamW, a linear rise and fall of the rate, and the weights of least ``val_loss`` at the end.

    Args:
        network: what learns.
        batches: to train on, see `kexue.training.running.run`.
        held: to choose the best epoch by, or None.
        job: what tells this training from others beside these arguments, for ``resume``.
        rate_rules: see `kexue.training.per_variable`.
        loss: for ``compile``, where the network does not give its own.
        epochs, ...: as in `Seq2Seq.fit`.

    Returns:
        The History, and the epoch whose weights were kept, None without validation.
    """
    optimizer = AdamW(
        WarmupLinear(learning_rate, max(1, batches.steps * epochs), warmup),
        rate_rules=rate_rules,
        weight_decay=weight_decay,
        global_clipnorm=clip,
    )
    network.compile(optimizer=optimizer, loss=loss, jit_compile=jit_compile)
    best = None if held is None else BestWeights("val_loss", mode="min")
    # Averages stand in the model before the best epoch is chosen.
    early = [callback for callback in callbacks if isinstance(callback, WeightAverage)]
    own = [callback for callback in (SteadyRandom(), *early, best) if callback is not None]
    every = [*own, *(callback for callback in callbacks if callback not in early)]
    state = None
    if resume is not None:
        job = dict(job) | {
            "epochs": epochs,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "warmup": warmup,
            "clip": clip,
            "seed": seed,
            "steps_per_epoch": batches.steps,
        }
        state = Resume(resume, job=job, save_every=save_every, callbacks=every)
    with seeded_training(network, seed):
        history = run(network, batches, epochs=epochs, callbacks=every, state=state, verbose=verbose, validation=held)
    if keras.backend.backend() == "jax":
        network.jax_state_sync()
    if best is None:
        return history, None
    best.restore(network)
    return history, best.epoch
