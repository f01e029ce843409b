"""Transition matrices of small spaces: what a sampler does, exactly.

``P[x, y]`` is the probability of going from x to y, so rows sum to 1 and a stationary law satisfies ``pi P = pi``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kexue.decoding.search.chains import Acceptance, log_acceptance
from kexue.errors import ConfigError

__all__ = ["balance_gap", "gibbs_kernel", "metropolis_kernel", "stationary_law"]


def metropolis_kernel(proposal: Any, log_target: Any, acceptance: Acceptance = "hastings") -> np.ndarray:
    """Kernel of Metropolis-Hastings: ``A(x, y) q(y|x)``, and what is missing to 1 on staying.

    Args:
        proposal: ``(S, S)``, row x the law q(.|x).
        log_target: ``(S,)`` log rho.
        acceptance: see `kexue.decoding.search.chains.log_acceptance`.
    """
    q, target = np.asarray(proposal, "float64"), np.asarray(log_target, "float64")
    if q.ndim != 2 or q.shape != (len(target), len(target)) or (q < 0).any() or not np.allclose(q.sum(1), 1):
        raise ConfigError(f"proposal must be a square matrix whose rows are laws. Received: shape {q.shape}")
    with np.errstate(divide="ignore"):
        logs = np.log(q)
    size = len(target)
    old, new = np.repeat(target, size), np.tile(target, size)
    accept = np.exp(log_acceptance(acceptance, old, new, logs.ravel(), logs.T.ravel())).reshape(size, size)
    kernel = q * accept
    np.fill_diagonal(kernel, 0.0)
    np.fill_diagonal(kernel, 1 - kernel.sum(1))
    return kernel


def gibbs_kernel(conditionals: Sequence[Any], scan: str = "random") -> np.ndarray:
    """Kernel of Gibbs sampling over all V^n states, the last site fastest.

    Args:
        conditionals: for each of the n sites an array of shape ``(V, ..., V)``, n axes, that sums to 1 along the
            site's own axis: p(x_i | all others).
        scan: ``"random"``: one update at a random site; ``"systematic"``: a sweep in order.
    """
    tables = [np.asarray(table, "float64") for table in conditionals]
    sites, shape = len(tables), tables[0].shape
    size = int(np.prod(shape))
    states = np.stack(np.unravel_index(np.arange(size), shape), 1)
    kernels = []
    for site, table in enumerate(tables):
        kernel = np.zeros((size, size))
        for value in range(shape[site]):
            after = states.copy()
            after[:, site] = value
            kernel[np.arange(size), np.ravel_multi_index(tuple(after.T), shape)] += table[tuple(after.T)]
        kernels.append(kernel)
    if scan == "random":
        return sum(kernels) / sites  # type: ignore[return-value]
    if scan != "systematic":
        raise ConfigError(f"scan must be 'random' or 'systematic'. Received: {scan!r}")
    return np.linalg.multi_dot([np.eye(size), *kernels])


def balance_gap(kernel: Any, law: Any) -> float:
    """Greatest violation of detailed balance, ``max |pi(x) P(x, y) - pi(y) P(y, x)|``."""
    flow = np.asarray(law, "float64")[:, None] * np.asarray(kernel, "float64")
    return float(np.abs(flow - flow.T).max())


def stationary_law(kernel: Any) -> np.ndarray:
    """The law with ``pi P = pi`` of an irreducible chain, by least squares."""
    p = np.asarray(kernel, "float64")
    size = len(p)
    system = np.vstack([p.T - np.eye(size), np.ones((1, size))])
    law = np.linalg.lstsq(system, np.append(np.zeros(size), 1.0), rcond=None)[0]
    return np.clip(law, 0.0, None) / np.clip(law, 0.0, None).sum()
