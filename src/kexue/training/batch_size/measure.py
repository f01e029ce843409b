"""The noise scale at fixed weights, for training without accumulation."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import tree

from kexue.errors import ConfigError
from kexue.training.batch_size.gradients import gradient_function
from kexue.training.batch_size.noise import NoiseEstimate, agreement, jackknife, kappa2_of_agreement

__all__ = ["measure_noise_scale"]


def measure_noise_scale(model: keras.Model, batches: Iterable[Any], *, blocks: int = 8) -> NoiseEstimate:
    """Estimate the noise of a compiled model's gradient at its present weights.

    With gradients g_1 .. g_n of n batches of b samples, ``|g|^2 = (|sum g|^2 - sum |g_k|^2) / (n (n - 1))`` (all pairs
    of different batches) and ``tr Sigma = b (mean |g_k|^2 - |g|^2)``, without bias. Dropout counts as noise.

    Args:
        model: compiled with the loss; neither weights nor optimizer nor running statistics change.
        batches: ``(x, y)`` or ``(x, y, sample_weight)``, all of one size and drawn at random; at least 4, better 32 or
            more. Small batches tell more: the noise must be seen above the gradient.
        blocks: of the jackknife behind the confidence interval. As many gradients are held in memory.

    Returns:
        The estimate. ``kappa2`` comes from the signs of pairs of batches.

    Raises:
        ConfigError: fewer than 4 batches, batches of different sizes, blocks fewer than 3, or no compiled model.
    """
    if blocks < 3:
        raise ConfigError(f"blocks must be at least 3. Received: {blocks}")
    gradient = gradient_function(model)
    sums: list[np.ndarray] = []
    squares, counts, signs = np.zeros(blocks), np.zeros(blocks, np.int64), []
    size, previous, kept = 0, None, None
    for k, batch in enumerate(batches):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        rows = int(next(part for part in tree.flatten(x) if part is not None).shape[0])
        if size and rows != size:
            raise ConfigError(f"all batches must have one size. Expected: {size}. Received: {rows} in batch {k}")
        size = rows
        if kept is None and model.built:
            kept = [(v, np.array(keras.ops.convert_to_numpy(v.value))) for v in model.non_trainable_variables]
        g = gradient(x, y, weight)
        if kept is None:
            kept = []
        for variable, value in kept:  # running statistics, states of dropout
            if not _is_seed(variable):
                variable.assign(value)
        if not np.isfinite(g).all():
            raise ConfigError(f"the gradient of batch {k} is not finite. Lower the loss's scale or look at the data.")
        j = k % blocks
        if k < blocks:
            sums.append(g.astype(np.float64))
        else:
            sums[j] += g
        squares[j] += float(np.dot(g.astype(np.float64), g))
        counts[j] += 1
        if k % 2:
            signs.append(agreement(previous, g))  # type: ignore[arg-type]
        previous = g
    if counts.sum() < 4:
        raise ConfigError(f"at least 4 batches are needed. Received: {counts.sum()}")
    used = len(sums)
    stacked = np.stack(sums)
    kappa2 = kappa2_of_agreement(float(np.nanmean(signs)), size) if np.isfinite(signs).any() else None
    return jackknife(stacked @ stacked.T, squares[:used], counts[:used], float(size), kappa2)


def _is_seed(variable: Any) -> bool:
    return "seed_generator" in variable.path
