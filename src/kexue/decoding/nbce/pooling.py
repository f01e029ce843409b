"""Naive Bayes over contexts, as functions of log-probabilities (kexue.fm 9617).

With S_1 ... S_n independent given the text T that follows,

    log p(T | S_1 ... S_n) = sum_k log p(T | S_k) - (n - 1) log p(T) + const
                           = (1 + beta) mean_k log p(T | S_k) - beta log p(T) + const,   beta = n - 1,

and NBCE replaces the mean by another pooling P, beta by a number of choice:

    log p = (1 + beta) P_k[log p(T | S_k)] - beta log p(T) + const.

Functions take NumPy arrays, or tensors of the Keras backend, whose gradients and compilation then work.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from kexue.decoding.arguments import EXTREME, amount
from kexue.decoding.filters_numpy import sorted_nucleus
from kexue.errors import ConfigError

__all__ = [
    "NEVER", "Combined", "Pooling", "check", "combine", "entropy", "exact_naive_bayes", "keep_top_p", "merge",
    "normalised", "number_ops",
]  # fmt: skip

NEVER = -1e30
"""The logarithm of an impossible token: finite, so that no difference of two is NaN."""

Pooling = Literal["min_entropy", "mean", "max"] | Callable[[Any], Any]


class Combined(NamedTuple):
    """What `combine` gives.

    Attributes:
        log_scores: (..., V), unnormalised; `NEVER` for impossible tokens.
        context: (...,) int, the context of least entropy, from 0; the one that is used with min-entropy pooling.
        entropy: (..., n) entropies of the contexts, before the bonus of the previous one.
    """

    log_scores: Any
    context: Any
    entropy: Any


def number_ops(array: Any) -> Any:
    """NumPy for its arrays, `keras.ops` for tensors."""
    if isinstance(array, np.ndarray | np.generic | list | tuple | float | int):
        return np
    from keras import ops

    return ops


def normalised(logits: Any) -> Any:
    """Log-softmax over the last axis; minus infinity becomes `NEVER`."""
    ops = number_ops(logits)
    logits = ops.maximum(logits, NEVER)
    logits = logits - ops.max(logits, axis=-1, keepdims=True)
    return ops.maximum(logits - ops.log(ops.sum(ops.exp(logits), axis=-1, keepdims=True)), NEVER)


def keep_top_p(log_probs: Any, p: float) -> Any:
    """`NEVER` for the tokens outside the smallest set of mass ``p``; the others are not normalised again.

    A token stays where the likelier ones have less than ``p`` together, so that one at least does.
    """
    _check_top_p(p)
    return log_probs if p == 1 else _inside(log_probs, p)


def _check_top_p(p: float) -> None:
    if not 0 < p <= 1:
        raise ConfigError(f"top_p must be above 0 and at most 1. Received: {p}")


def _inside(log_probs: Any, p: Any) -> Any:
    if number_ops(log_probs) is np:
        return np.where(sorted_nucleus(np.asarray(log_probs), p), log_probs, NEVER)
    from kexue.decoding.filters import nucleus

    return number_ops(log_probs).where(nucleus(log_probs, p), log_probs, NEVER)


def entropy(log_probs: Any) -> Any:
    """``-sum p log p`` over the last axis, 0 log 0 being 0."""
    ops = number_ops(log_probs)
    possible = log_probs > NEVER / 2
    finite = ops.where(possible, log_probs, 0.0)
    return -ops.sum(ops.where(possible, ops.exp(finite) * finite, 0.0), axis=-1)


def exact_naive_bayes(log_probs: Any) -> Any:
    """The posterior of the naive Bayes model, (..., V) normalised, without truncation.

    Args:
        log_probs: (..., n + 1, V), row 0 without context. Normalised already where the result shall be exact to
            rounding.
    """
    contexts = log_probs.shape[-2] - 1
    return normalised(combine(log_probs, beta=contexts - 1.0, pooling="mean", top_p=1.0, floor=NEVER).log_scores)


def combine(
    log_probs: Any,
    *,
    beta: float = 0.25,
    pooling: Pooling = "min_entropy",
    previous: Any = None,
    eta: float = 0.1,
    top_p: float = 0.95,
    floor: float = -100.0,
) -> Combined:
    """One step of NBCE.

    Args:
        log_probs: (..., n + 1, V) normalised log-probabilities of the next token, row 0 without context.
        beta: trust in the contexts against what the model would say without; at least -1. 0 leaves row 0 out.
        pooling: ``"min_entropy"``: the context that is surest; ``"mean"``; ``"max"``: the greatest value of each token
            (not a distribution: for greedy decoding only); or a function ``(..., n, V) -> (..., V)``.
        previous: (...,) the context of the step before, from 0, whose entropy is lowered by ``eta``; None: none.
        eta: the bonus for staying with a context.
        top_p: tokens outside the nucleus of their row count as impossible there.
        floor: where row 0 is not above this (its nucleus does not hold the token), the pooled value stands alone.

    Raises:
        ConfigError: numbers out of range, an unknown pooling, or fewer than two rows.
    """
    shape = log_probs.shape
    if len(shape) < 2 or shape[-2] < 2:
        raise ConfigError(
            f"log_probs must be of shape (..., contexts + 1, V), row 0 without context. Received: {tuple(shape)}"
        )
    check(beta, pooling, top_p)
    return merge(
        log_probs, beta=beta, pooling=pooling, previous=previous, eta=eta, top_p=None if top_p == 1 else top_p,
        floor=floor,
    )  # fmt: skip


def check(beta: float, pooling: Pooling, top_p: float) -> None:
    """Raise what `combine` raises for these."""
    amount(beta, "beta", -1, EXTREME)
    if not callable(pooling) and pooling not in ("min_entropy", "mean", "max"):
        raise ConfigError(f"pooling must be 'min_entropy', 'mean', 'max' or a function. Received: {pooling!r}")
    _check_top_p(top_p)


def merge(
    log_probs: Any, *, beta: Any, pooling: Pooling, previous: Any, eta: Any, top_p: Any, floor: float, count: Any = None
) -> Combined:
    """`combine` without its checks: numbers may be tensors, ``top_p`` None, and only the first ``count`` contexts are
    looked at, the entropy of the others being endless."""
    ops = number_ops(log_probs)
    log_probs = ops.maximum(log_probs, NEVER)
    if top_p is not None:
        log_probs = _inside(log_probs, top_p)
    without, contexts = log_probs[..., 0, :], log_probs[..., 1:, :]
    number = contexts.shape[-2]
    place = ops.arange(number)
    real = None if count is None else ops.arange(float(number)) < count

    def among(values: Any, fill: float) -> Any:
        return values if real is None else ops.where(real[:, None], values, fill)

    entropies = among(entropy(contexts)[..., None], -NEVER)[..., 0]
    lowered = entropies
    if previous is not None:
        same = place == (ops.expand_dims(previous, -1) if np.ndim(previous) else previous)
        lowered = entropies - eta * ops.where(same, 1.0, 0.0)
    surest = ops.argmin(lowered, axis=-1)
    if callable(pooling):
        pooled = pooling(contexts)
    elif pooling == "min_entropy":
        pooled = ops.take_along_axis(contexts, surest[..., None, None], axis=-2)[..., 0, :]
    elif pooling == "mean":
        possible = ops.min(among(contexts, 0.0), axis=-2) > NEVER / 2
        mean = ops.sum(among(contexts, 0.0), axis=-2) / (number if count is None else count)
        pooled = ops.where(possible, mean, NEVER)
    else:
        pooled = ops.max(among(contexts, NEVER), axis=-2)
    merged = (1.0 + beta) * pooled - beta * without
    merged = ops.where(without > max(floor, NEVER / 2), merged, pooled)
    return Combined(ops.where(pooled > NEVER / 2, merged, NEVER), surest, entropies)
