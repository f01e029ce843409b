"""Seeds: of initial weights, and of dropout in a training. Generators of the user are put back afterwards."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np

__all__ = ["seeded_training", "seeded_weights"]


@contextmanager
def seeded_weights(seed: int | None) -> Iterator[None]:
    """Layers built inside have initial weights that depend on ``seed`` only; None: on Keras' own state.

    Keras draws the seeds of initializers and dropout from Python's generator.
    """
    if seed is None:
        yield
        return
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def seeded_training(model: keras.Model, seed: int) -> Iterator[None]:
    """Dropout starts from ``seed``."""
    states = [v for v in model.non_trainable_variables if v.path.endswith("seed_generator_state")]
    for variable, number in zip(states, np.random.SeedSequence(seed).generate_state(len(states)), strict=True):
        variable.assign(np.asarray([number, 0], "uint32"))
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
