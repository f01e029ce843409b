"""Markov chains over any discrete state: Metropolis, Metropolis-Hastings, Gibbs (kexue.fm 8084).

Several chains run side by side. A state is a row of an array or an element of a list, so that strings of different
lengths are states as well. A rejected proposal repeats the state as a sample of its own: the missing mass of the kernel
is on staying.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kexue.decoding.arguments import EXTREME, amount
from kexue.decoding.search.diagnostics import effective_sample_size, split_r_hat
from kexue.decoding.search.states import Batch, Density, Seed, accept_test, checked_scores, chosen, copied, generator
from kexue.decoding.search.states import stacked as stack
from kexue.errors import ConfigError

__all__ = ["Acceptance", "Chains", "Proposal", "gibbs", "log_acceptance", "metropolis", "metropolis_hastings"]

Proposal = Callable[[Batch, np.random.Generator], tuple[Batch, Any, Any]]
"""``(states x, rng) -> (states y, log q(y|x), log q(x|y))``, the logarithms of shape (chains,) or numbers; only their
difference counts, except with ``acceptance="normalised"``."""

Acceptance = Literal["hastings", "barker", "normalised"]
Scan = Literal["random", "systematic", "permutation"]


@dataclass(frozen=True, eq=False)
class Chains:
    """Samples of several chains.

    Attributes:
        states: ``(kept steps, chains, ...)``, or a list over kept steps of lists.
        log_density: (kept steps, chains); None for Gibbs, which needs no density.
        acceptance: (chains,) share of accepted proposals, burn-in included; 1 for Gibbs.
        last: the states at the end, from which another run can go on.
    """

    states: Batch
    log_density: np.ndarray | None
    acceptance: np.ndarray
    last: Batch

    def flat(self) -> Batch:
        """All kept states of all chains in one batch."""
        if isinstance(self.states, np.ndarray):
            return self.states.reshape(-1, *self.states.shape[2:])
        return [state for step in self.states for state in step]

    def values(self, function: Callable[[Batch], Any]) -> np.ndarray:
        """``function`` (states -> numbers) at every kept state, (kept steps, chains)."""
        return np.stack([np.asarray(function(step), "float64") for step in self.states])

    def ess(self, function: Callable[[Batch], Any]) -> float:
        """Effective sample size of a function of the state."""
        return effective_sample_size(self.values(function))

    def r_hat(self, function: Callable[[Batch], Any]) -> float:
        """Split R-hat of a function of the state."""
        return split_r_hat(self.values(function))


def log_acceptance(
    kind: Acceptance, old: np.ndarray, new: np.ndarray, forward: np.ndarray, backward: np.ndarray
) -> np.ndarray:
    """Logarithm of the probability of moving from x to y.

    - ``"hastings"``: min(1, r) with r = q(x|y) rho(y) / (q(y|x) rho(x));
    - ``"barker"``: r / (1 + r), never more than Hastings accepts;
    - ``"normalised"``: q(x|y) p(y), the first form of article 8084, which needs p and q normalised.

    A state of density zero is left for any of positive density, and never entered.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if kind == "normalised":
            result = backward + new
            if (result > 1e-9).any():
                raise ConfigError("acceptance='normalised' needs normalised densities: q(x|y) p(y) exceeded 1.")
        else:
            ratio = (new - old) + (backward - forward)
            result = np.minimum(ratio, 0.0) if kind == "hastings" else -np.logaddexp(0.0, -ratio)
    result = np.where(np.isneginf(old), 0.0, result)
    return np.where(np.isneginf(new) | (np.isneginf(backward) & ~np.isneginf(old)), -np.inf, result)


def metropolis_hastings(
    log_target: Density,
    propose: Proposal,
    start: Batch,
    steps: int,
    *,
    burn_in: int = 0,
    thin: int = 1,
    temperature: float = 1.0,
    acceptance: Acceptance = "hastings",
    seed: Seed = None,
) -> Chains:
    """Chains with the stationary law rho^(1 / temperature).

    Args:
        log_target: log rho, unnormalised; minus infinity forbids a state.
        propose: see `Proposal`. The chain reaches every state only if each move has its inverse.
        start: one state a chain.
        steps: proposals after the burn-in.
        burn_in: proposals before the first kept state.
        thin: keep every so many-th state.
        temperature: above 1 flattens the law.
        acceptance: see `log_acceptance`.
        seed: of all random numbers.

    Raises:
        ConfigError: numbers out of range, or densities of wrong shape.
    """
    states, rng = _begin(start, steps, burn_in, thin, seed)
    amount(temperature, "temperature", 1 / EXTREME, EXTREME, " (hill_climbing is the limit at 0)")
    if acceptance not in ("hastings", "barker", "normalised"):
        raise ConfigError(f"acceptance must be 'hastings', 'barker' or 'normalised'. Received: {acceptance!r}")
    count = len(states)
    scores = checked_scores(log_target(states), count, "log_target") / temperature
    kept, kept_scores, taken = [], [], np.zeros(count)
    for step in range(burn_in + steps):
        proposed, forward, backward = propose(copied(states), rng)  # which may write into them
        if len(proposed) != count:
            raise ConfigError(f"propose must give {count} states. Received: {len(proposed)}")
        new = checked_scores(log_target(proposed), count, "log_target") / temperature
        forward, backward = (np.broadcast_to(np.asarray(q, "float64"), (count,)) for q in (forward, backward))
        accepted = accept_test(log_acceptance(acceptance, scores, new, forward, backward), rng)
        states = chosen(accepted, proposed, states)
        scores = np.where(accepted, new, scores)
        taken += accepted
        if step >= burn_in and (step - burn_in) % thin == thin - 1:
            kept.append(states)
            kept_scores.append(scores * temperature)
    return Chains(stack(kept), np.stack(kept_scores), taken / (burn_in + steps), states)


def metropolis(
    log_target: Density,
    propose: Callable[[Batch, np.random.Generator], Batch],
    start: Batch,
    steps: int,
    **options: Any,
) -> Chains:
    """`metropolis_hastings` with a symmetric proposal, q(y|x) = q(x|y): ``propose(states, rng) -> states``."""
    return metropolis_hastings(
        log_target, lambda states, rng: (propose(states, rng), 0.0, 0.0), start, steps, **options
    )


def gibbs(
    conditional: Callable[[np.ndarray, np.ndarray], Any],
    start: Any,
    steps: int,
    *,
    blocks: Sequence[Sequence[int]] | None = None,
    scan: Scan = "random",
    burn_in: int = 0,
    thin: int = 1,
    seed: Seed = None,
) -> Chains:
    """Gibbs sampling: redraw some sites given all others, which is always accepted.

    Args:
        conditional: ``(states (chains, sites) int, sites (chains, k)) -> (chains, V, ..., V)`` or ``(chains, V**k)``
            unnormalised log-probabilities of the values at these k sites given the rest; each chain has its own sites.
        start: ``(chains, sites)`` integers.
        steps: updates (of one block) after the burn-in.
        blocks: sites that are redrawn together, all of one size k; each site alone by default.
        scan: ``"random"``: a block drawn anew for each update and chain; ``"systematic"``: in order;
            ``"permutation"``: a new order each sweep. Where the conditionals do not belong to one joint law, what the
            chain converges to depends on this.
        burn_in: updates before the first kept state.
        thin: keep every so many-th state.
        seed: of all random numbers.

    Raises:
        ConfigError: numbers out of range, or conditionals of wrong shape or with no possible value.
    """
    states, rng = _begin(np.asarray(start), steps, burn_in, thin, seed)
    if states.ndim != 2 or states.dtype.kind not in "iu":
        raise ConfigError(f"start must be integers of shape (chains, sites). Received: {states.dtype} {states.shape}")
    chains, sites = states.shape
    table = _blocks(blocks, sites)
    order = scan_order(scan, len(table), chains, rng)
    rows = np.arange(chains)[:, None]
    kept = []
    for step in range(burn_in + steps):
        where = table[next(order)]  # (chains, k)
        logs = np.asarray(conditional(states.copy(), where), "float64").reshape(chains, -1)
        values = round(logs.shape[1] ** (1 / table.shape[1]))
        if values ** table.shape[1] != logs.shape[1]:
            raise ConfigError(
                f"conditional must give V**{table.shape[1]} numbers for each chain. Received: {logs.shape[1]}"
            )
        if values - 1 > np.iinfo(states.dtype).max:
            raise ConfigError(f"{states.dtype} cannot hold the value {values - 1}. Give start as int64.")
        drawn = np.unravel_index(draw(logs, rng.random(chains)), (values,) * table.shape[1])
        states = states.copy()
        states[rows, where] = np.stack(drawn, axis=1)
        if step >= burn_in and (step - burn_in) % thin == thin - 1:
            kept.append(states)
    return Chains(stack(kept), None, np.ones(chains), states)


def draw(logs: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """One index a row of unnormalised log-probabilities (n, V), by inversion of ``uniform`` (n,) in [0, 1).

    Raises:
        ConfigError: a row has no possible value, or NaN.
    """
    top = logs.max(axis=1, keepdims=True)
    if not np.isfinite(top).all():
        raise ConfigError("a distribution has no possible value (or NaN). Forbid fewer tokens.")
    edges = np.cumsum(np.exp(logs - top), axis=1)
    picks = (edges <= (uniform * edges[:, -1])[:, None]).sum(axis=1)
    return np.minimum(picks, logs.shape[1] - 1)


def scan_order(scan: str, blocks: int, chains: int, rng: np.random.Generator) -> Any:
    """Endless stream of (chains,) block numbers."""
    if scan not in ("random", "systematic", "permutation"):
        raise ConfigError(f"scan must be 'random', 'systematic' or 'permutation'. Received: {scan!r}")

    def stream() -> Any:
        while True:
            if scan == "random":
                yield rng.integers(blocks, size=chains)
            else:
                order = np.tile(np.arange(blocks), (chains, 1))
                yield from (rng.permuted(order, axis=1) if scan == "permutation" else order).T

    return stream()


def _blocks(blocks: Sequence[Sequence[int]] | None, sites: int) -> np.ndarray:
    table = [[site] for site in range(sites)] if blocks is None else [list(block) for block in blocks]
    sizes = {len(block) for block in table}
    flat = [site for block in table for site in block]
    good = all(0 <= site < sites for site in flat) and all(len(set(block)) == len(block) for block in table)
    if len(sizes) != 1 or 0 in sizes or not good:
        raise ConfigError(f"blocks must be of one size, of distinct sites from 0 to {sites - 1}. Received: {table}")
    return np.asarray(table)


def _begin(start: Batch, steps: int, burn_in: int, thin: int, seed: Seed) -> tuple[Batch, np.random.Generator]:
    states = copied(start)
    if len(states) == 0:
        raise ConfigError("start must hold one state for each chain. Received: none")
    if steps < 1 or burn_in < 0 or thin < 1 or steps < thin:
        raise ConfigError(
            f"needs steps >= thin >= 1 and burn_in >= 0. Received: steps={steps}, thin={thin}, burn_in={burn_in}"
        )
    return states, generator(seed)
