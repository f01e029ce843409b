"""Samplers over discrete states: exact kernels, empirical laws, importance and rejection."""

import subprocess
import sys

import numpy as np
import pytest
from tests.decoding.search.toy import as_function, conditionals, joint

from kexue.decoding import search
from kexue.errors import ConfigError

RNG = np.random.default_rng(0)
LOG_TARGET = RNG.normal(size=6)
LAW = np.exp(LOG_TARGET) / np.exp(LOG_TARGET).sum()
Q = RNG.dirichlet(np.ones(6), size=6)


def propose(states, rng):
    edges = Q.cumsum(1)[states]
    new = (edges < rng.random(len(states))[:, None]).sum(1)
    return new, np.log(Q[states, new]), np.log(Q[new, states])


def test_no_keras():
    code = (
        "import sys, kexue.decoding.search as s; s.gibbs, s.anneal, s.rejection, s.CGMH; "
        "print({'keras', 'jax', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("acceptance", ["hastings", "barker", "normalised"])
def test_kernel_is_balanced(acceptance):
    """Detailed balance and pi P = pi for random proposals, impossible moves among them."""
    target = np.log(LAW)
    q = Q.copy()
    q[0, 1] = q[2, 3] = q[3, 2] = 0
    q /= q.sum(1, keepdims=True)
    kernel = search.metropolis_kernel(q, target, acceptance)
    assert kernel.min() >= 0
    np.testing.assert_allclose(kernel.sum(1), 1, atol=1e-15)
    assert search.balance_gap(kernel, LAW) < 1e-12
    np.testing.assert_allclose(LAW @ kernel, LAW, atol=1e-12)
    np.testing.assert_allclose(search.stationary_law(kernel), LAW, atol=1e-10)


def test_acceptance_by_hand():
    kernel = search.metropolis_kernel([[0.5, 0.5], [0.25, 0.75]], np.log([3.0, 1.0]))
    assert kernel[0, 1] == pytest.approx(0.5 * (0.25 * 1) / (0.5 * 3))
    assert kernel[1, 0] == pytest.approx(0.25)  # always accepted


@pytest.mark.parametrize("acceptance", ["hastings", "barker", "normalised"])
def test_chains_follow_their_kernel(acceptance):
    target = np.log(LAW)
    run = search.metropolis_hastings(
        lambda s: target[s], propose, np.zeros(2000, int), 100, burn_in=100, acceptance=acceptance, seed=0
    )
    counts = np.bincount(run.flat(), minlength=6) / run.flat().size
    kernel = search.metropolis_kernel(Q, target, acceptance)
    laws = [np.linalg.matrix_power(kernel, step)[0] for step in range(101, 201)]  # all chains began at state 0
    assert search.total_variation(counts, np.mean(laws, axis=0)) < 0.02
    if acceptance != "normalised":  # which accepts little and has not arrived yet
        assert search.total_variation(counts, LAW) < 0.02
    # The rate counts accepted proposals of the state itself too.
    stays = np.sum(LAW * np.diag(Q)) if acceptance == "hastings" else None
    if stays is not None:
        moved = np.sum(LAW * (1 - np.diag(kernel)))
        assert run.acceptance.mean() == pytest.approx(moved + stays, abs=0.01)
    np.testing.assert_allclose(run.log_density, target[run.states])


def test_temperature_flattens():
    hot = search.metropolis_hastings(
        lambda s: LOG_TARGET[s], propose, np.zeros(4000, int), 20, burn_in=60, temperature=3.0, seed=1
    )
    law = np.exp(LOG_TARGET / 3)
    assert search.total_variation(np.bincount(hot.flat(), minlength=6) / hot.flat().size, law / law.sum()) < 0.02


def test_lists_of_objects_and_continuation():
    """States may be anything; two runs in a row with one generator equal one long run."""

    def spin(states, rng):
        return [s + ("a" if rng.random() < 0.5 else "b") if len(s) < 3 else "" for s in states]

    def score(states):
        return np.array([0.1 * s.count("a") for s in states])

    whole = search.metropolis(score, spin, ["", "b"], 30, seed=4)
    rng = np.random.default_rng(4)
    first = search.metropolis(score, spin, ["", "b"], 12, seed=rng)
    second = search.metropolis(score, spin, first.last, 18, seed=rng)
    assert whole.states == first.states + second.states
    assert whole.last == second.last


def test_rejected_states_are_repeated():
    run = search.metropolis(lambda s: np.where(s == 0, 0.0, -np.inf), lambda s, rng: s + 1, np.zeros(3, int), 5, seed=0)
    assert (run.states == 0).all()
    assert run.states.shape == (5, 3)
    assert (run.acceptance == 0).all()


def test_a_start_of_density_zero_is_left():
    run = search.metropolis(lambda s: np.where(s > 0, 0.0, -np.inf), lambda s, rng: s + 1, np.zeros(3, int), 5, seed=0)
    assert (run.last == 5).all()


# Gibbs.


@pytest.mark.parametrize("scan", ["random", "systematic", "permutation"])
def test_gibbs_finds_the_joint_law(scan):
    table = joint()
    run = search.gibbs(as_function(conditionals(table)), np.zeros((2000, 3), int), 99, burn_in=51, scan=scan, seed=0)
    exact = {tuple(map(int, i)): float(p) for i, p in np.ndenumerate(table)}
    assert search.total_variation(search.empirical_law(run.flat()), exact) < 0.02


def test_gibbs_kernel_is_balanced_and_blocks_agree():
    table = joint()
    kernel = search.gibbs_kernel(conditionals(table))
    assert search.balance_gap(kernel, table.ravel()) < 1e-12
    sweep = search.gibbs_kernel(conditionals(table), "systematic")
    np.testing.assert_allclose(table.ravel() @ sweep, table.ravel(), atol=1e-12)

    def pair(states, where):
        """Joint law of two sites given the third."""
        a, b = where.T
        rest = 3 - a - b
        return np.stack([np.log(np.moveaxis(table, (i, j, k), (0, 1, 2))[:, :, s[k]])
                         for s, i, j, k in zip(states, a, b, rest, strict=True)])  # fmt: skip

    run = search.gibbs(pair, np.zeros((800, 3), int), 40, blocks=[(0, 1), (1, 2), (2, 0)], burn_in=20, seed=0)
    exact = {tuple(map(int, i)): float(p) for i, p in np.ndenumerate(table)}
    assert search.total_variation(search.empirical_law(run.flat()), exact) < 0.02


def test_inconsistent_conditionals_depend_on_the_scan():
    """Pseudo-Gibbs: conditionals of two different joints have one law for each order."""
    tables = [conditionals(joint(2, 2, seed))[i] for i, seed in enumerate((1, 2))]
    laws = [search.stationary_law(search.gibbs_kernel(tables, scan)) for scan in ("random", "systematic")]
    assert search.total_variation(*laws) > 0.02
    run = search.gibbs(as_function(tables), np.zeros((5000, 2), int), 20, scan="systematic", burn_in=20, thin=2, seed=0)
    exact = {tuple(map(int, np.unravel_index(i, (2, 2)))): p for i, p in enumerate(laws[1])}
    assert search.total_variation(search.empirical_law(run.flat()), exact) < 0.02


# Importance and rejection.


def test_importance():
    rng = np.random.default_rng(0)
    states = rng.integers(6, size=40000)
    found = search.importance(states, lambda s: LOG_TARGET[s], lambda s: np.full(len(s), -np.log(6)))
    assert found.expect(lambda s: s == 2) == pytest.approx(LAW[2], abs=0.01)
    assert found.log_mean_weight == pytest.approx(np.log(np.exp(LOG_TARGET).sum()), abs=0.02)
    assert np.exp(found.log_weights).sum() == pytest.approx(1)
    assert found.ess == pytest.approx(len(states) / (6 * (LAW**2).sum()), rel=0.02)
    counts = np.bincount(found.resample(60000, seed=0), minlength=6) / 60000
    assert search.total_variation(counts, LAW) < 0.02
    shifted = search.importance(states, lambda s: LOG_TARGET[s] - 5000, lambda s: np.zeros(len(s)))
    np.testing.assert_allclose(shifted.log_weights, found.log_weights, atol=1e-9)


def test_weights_ess():
    assert search.weights_ess(np.full(7, -900.0)) == pytest.approx(7)
    assert search.weights_ess([0.0, -np.inf, -np.inf]) == pytest.approx(1)
    assert search.weights_ess(np.log([3.0, 1.0])) == pytest.approx(16 / 10)


def test_rejection():
    """Acceptance is 1/M for normalised densities; the law is exact (chi-squared)."""
    from scipy import stats

    bound = 6 * LAW.max()
    found = search.rejection(
        lambda n, rng: rng.integers(6, size=n),
        lambda s: np.log(LAW)[s],
        lambda s: np.full(len(s), -np.log(6)),
        np.log(bound),
        20000,
        seed=0,
    )
    assert found.states.shape == (20000,)
    assert found.acceptance == pytest.approx(1 / bound, abs=0.01)
    assert stats.chisquare(np.bincount(found.states, minlength=6), 20000 * LAW).pvalue > 1e-3
    with pytest.raises(ConfigError, match="Raise the bound"):
        search.rejection(lambda n, rng: rng.integers(6, size=n), lambda s: LOG_TARGET[s], lambda s: np.zeros(len(s)),
                         LOG_TARGET.max() - 0.5, 10, seed=0)  # fmt: skip
    with pytest.raises(ConfigError, match="max_proposals"):
        search.rejection(lambda n, rng: rng.integers(6, size=n), lambda s: LOG_TARGET[s], lambda s: np.zeros(len(s)),
                         60.0, 10, max_proposals=5000, seed=0)  # fmt: skip


# Diagnostics.


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, -0.5])
def test_effective_sample_size_of_an_autoregression(phi):
    """AR(1): N (1 - phi) / (1 + phi)."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(20000, 4))
    x = np.zeros_like(noise)
    x[0] = noise[0] / np.sqrt(1 - phi**2)
    for t in range(1, len(x)):
        x[t] = phi * x[t - 1] + noise[t]
    assert search.effective_sample_size(x) == pytest.approx(x.size * (1 - phi) / (1 + phi), rel=0.08)
    assert search.split_r_hat(x) == pytest.approx(1, abs=0.005)
    assert search.split_r_hat(x, rank=True) == pytest.approx(1, abs=0.005)


def test_chains_diagnose_functions_of_their_states():
    run = search.metropolis_hastings(lambda s: LOG_TARGET[s], propose, np.zeros(4, int), 200, seed=0)
    values = (run.states == 2).astype(float)
    assert run.ess(lambda s: s == 2) == search.effective_sample_size(values)
    assert run.r_hat(lambda s: s == 2) == search.split_r_hat(values)


def test_r_hat_sees_chains_apart_and_drift():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4))
    assert search.split_r_hat(x + np.array([0, 0, 0, 3])) > 1.5
    assert search.split_r_hat(x + np.linspace(0, 4, 400)[:, None]) > 1.3  # a drift shared by all chains
    halves = np.concatenate([x[:200], x[200:]], axis=1).T  # the formula, written out
    w, b = halves.var(1, ddof=1).mean(), 200 * halves.mean(1).var(ddof=1)
    assert search.split_r_hat(x) == pytest.approx(np.sqrt((199 / 200 * w + b / 200) / w))
    assert search.split_r_hat(np.ones((8, 2))) == 1
    assert search.split_r_hat(np.array([[0.0, 1.0]] * 8)) == np.inf


# Annealing.


def deceptive(states):
    """12 bits: the fewer ones the better, but for a second hill, twice as high and narrow, at all ones."""
    ones = states.sum(1)
    return np.where(ones > 8, 5.0 * (ones - 8), 12.0 - ones)


def flip(states, rng):
    new = states.copy()
    rows = np.arange(len(new))
    new[rows, rng.integers(12, size=len(new))] ^= 1
    return new


def test_annealing_finds_the_maximum_that_climbing_misses():
    start = np.random.default_rng(0).integers(2, size=(100, 12))
    start[start.sum(1) > 6] = 0
    slow = search.anneal(deceptive, flip, start, 4000, search.linear(3.0, 4000, 0.1), seed=0)
    assert (slow.best_score == 20).sum() >= 99
    np.testing.assert_allclose(deceptive(slow.best), slow.best_score)
    climbed = search.hill_climbing(deceptive, flip, start, 500, seed=0)
    assert (climbed.best_score == 12).all()
    assert (np.diff(climbed.scores, axis=0) >= 0).all()


def test_schedules():
    assert [search.geometric(4.0, 0.5, 0.9)(t) for t in range(4)] == [4, 2, 1, 0.9]
    assert [search.linear(4.0, 5)(t) for t in (0, 2, 4, 9)] == [4, 2, 0, 0]
    assert search.logarithmic(1.0)(0) == pytest.approx(1 / np.log(2))


@pytest.mark.parametrize(
    "call",
    [
        lambda: search.metropolis(lambda s: s * np.nan, lambda s, rng: s, np.zeros(2), 3),
        lambda: search.metropolis(lambda s: np.zeros(3), lambda s, rng: s, np.zeros(2), 3),
        lambda: search.metropolis(lambda s: s, lambda s, rng: s[:1], np.zeros(2), 3),
        lambda: search.metropolis(lambda s: s, lambda s, rng: s, np.zeros(0), 3),
        lambda: search.metropolis(lambda s: s, lambda s, rng: s, np.zeros(2), 0),
        lambda: search.metropolis(lambda s: s, lambda s, rng: s, "abc", 3),
        lambda: search.metropolis(lambda s: s, lambda s, rng: s, np.zeros(2), 3, temperature=0),
        lambda: search.metropolis(lambda s: s, lambda s, rng: s, np.zeros(2), 3, acceptance="always"),
        lambda: search.metropolis_hastings(lambda s: s + 3, propose, np.zeros(2, int), 3, acceptance="normalised"),
        lambda: search.gibbs(lambda s, w: np.full((2, 4), -np.inf), np.zeros((2, 3), int), 3),
        lambda: search.gibbs(lambda s, w: np.zeros((2, 4)), np.zeros((2, 3)), 3),
        lambda: search.gibbs(lambda s, w: np.zeros((2, 4)), np.zeros((2, 3), int), 3, scan="zigzag"),
        lambda: search.gibbs(lambda s, w: np.zeros((2, 5)), np.zeros((2, 3), int), 3, blocks=[(0, 1)]),
        lambda: search.gibbs(lambda s, w: np.zeros((2, 4)), np.zeros((2, 3), int), 3, blocks=[(0, 0)]),
        lambda: search.importance(np.zeros(3), lambda s: s - np.inf, lambda s: s),
        lambda: search.importance(np.zeros(3), lambda s: s, lambda s: s - np.inf),
        lambda: search.anneal(lambda s: s, lambda s, rng: s, np.zeros(2), 3, lambda t: -1.0),
        lambda: search.geometric(0, 1),
        lambda: search.split_r_hat(np.zeros((3, 2))),
        lambda: search.effective_sample_size(np.full((8, 2), np.nan)),
        lambda: search.metropolis_kernel(np.ones((2, 2)), np.zeros(2)),
    ],
)
def test_mistakes(call):
    with pytest.raises(ConfigError):
        call()


def test_functions_may_write_into_the_states_they_are_given():
    def in_place(states, rng):
        states[:] = rng.integers(6, size=len(states))
        return states

    def fresh(states, rng):
        return rng.integers(6, size=len(states))

    def log_target(states):
        return LOG_TARGET[states]

    start = np.zeros(50, int)
    one, two = (search.metropolis(log_target, step, start, 30, seed=3) for step in (in_place, fresh))
    np.testing.assert_array_equal(one.states, two.states)
    np.testing.assert_allclose(one.log_density, log_target(one.states))
    best = search.hill_climbing(log_target, in_place, start, 30, seed=3)
    np.testing.assert_array_equal(best.best_score, log_target(best.best))
    table = conditionals(joint())

    def hiding(states, sites):
        logs = as_function(table)(states, sites)
        np.put_along_axis(states, sites, -1, axis=1)
        return logs

    plain, hidden = (search.gibbs(f, np.zeros((9, 3), int), 20, seed=1) for f in (as_function(table), hiding))
    np.testing.assert_array_equal(plain.states, hidden.states)


def test_annealing_climbs_at_any_temperature():
    """Scores over a tiny temperature have no difference; their difference over it has."""

    def step(states, rng):
        return np.clip(states + rng.choice([-1, 1], size=len(states)), 0, 20)

    found = search.anneal(lambda s: 100.0 * s, step, np.zeros(4, int), 200, lambda t: 1e-307, seed=0)
    np.testing.assert_array_equal(found.best, 20)


def test_numbers_that_samplers_refuse():
    def log_target(states):
        return np.zeros(len(states))

    def stay(states, rng):
        return states

    start = np.zeros(2, int)
    with pytest.raises(ConfigError, match="seed"):
        search.metropolis(log_target, stay, start, 3, seed=-1)
    with pytest.raises(ConfigError, match="temperature"):
        search.metropolis(log_target, stay, start, 3, temperature=float("inf"))
    with pytest.raises(ConfigError, match="temperature"):
        search.anneal(log_target, stay, start, 3, lambda t: float("inf"))
    with pytest.raises(ConfigError, match="uint8 cannot hold"):
        search.gibbs(lambda states, sites: np.zeros((2, 300)), np.zeros((2, 2), "uint8"), 3)
    with pytest.raises(ConfigError, match="cannot have drawn"):
        search.rejection(lambda n, rng: np.zeros(n, int), log_target, lambda s: np.full(len(s), -np.inf), 0.0, 3)
