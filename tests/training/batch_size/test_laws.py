"""The laws against their golden values, simulation and finite differences."""

import math

import numpy as np
import pytest

from kexue.errors import ConfigError
from kexue.training.batch_size import (
    best_rate,
    fit_rates,
    fit_steps_samples,
    loss_gain,
    optimal_rate,
    scale_learning_rate,
    sign_mean,
    surge,
)
from kexue.training.batch_size.sign import interaction


def problem(n=12, seed=0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return rng.normal(size=n) * 0.3, (q * np.geomspace(0.05, 5, n)) @ q.T, rng.uniform(0.5, 3, n)


def simulated(g, h, sigma, batch, method, draws=40_000, seed=1):
    """Best rate of a grid and its gain, over simulated updates."""
    rng = np.random.default_rng(seed)
    update = g + rng.normal(size=(draws, len(g))) * sigma / np.sqrt(batch)
    update = update if method == "sgd" else np.sign(update)
    along, curvature = np.mean(update @ g), np.mean(np.sum((update @ h) * update, axis=1))
    grid = np.geomspace(1e-3, 1e1, 2000)
    loss = -grid * along + grid**2 / 2 * curvature
    return grid[loss.argmin()], -loss.min()


def test_golden_values():
    law = surge(0.5, 100)
    assert law.b_2 == pytest.approx(31.4159, abs=1e-4)
    assert law.b_noise == pytest.approx(52.3599, abs=1e-4)
    assert law.beta(law.b_noise) == pytest.approx(0.5, abs=1e-12)
    assert 1 / law.b_2 - 1 / law.b_noise == pytest.approx(4 / (math.pi * 100))
    assert sign_mean(0.3, 2, 16) == pytest.approx(0.4515, abs=5e-5)
    assert sign_mean(0.3, 2, 16, method="algebraic") == pytest.approx(0.4318, abs=5e-5)


def test_sign_mean_against_samples_and_the_standin_against_erf():
    batches = 0.3 + 2 * np.random.default_rng(0).normal(size=(200_000, 16))
    assert np.sign(batches.mean(axis=1)).mean() == pytest.approx(float(sign_mean(0.3, 2, 16)), abs=0.006)
    x = np.linspace(-6, 6, 240_001)
    difference = sign_mean(x * math.sqrt(2), 1, 1) - sign_mean(x * math.sqrt(2), 1, 1, method="algebraic")
    worst = np.abs(difference).argmax()
    assert abs(difference[worst]) == pytest.approx(0.1078, abs=5e-5)
    assert abs(x[worst]) == pytest.approx(1.330, abs=5e-4)


@pytest.mark.parametrize("method", ["sgd", "sign"])
@pytest.mark.parametrize("batch", [1, 16, 256])
def test_best_rate_and_gain_of_simulation(method, batch):
    g, h, sigma = problem()
    rate, gain = simulated(g, h, sigma, batch, method)
    assert rate == pytest.approx(optimal_rate(g, h, sigma**2, batch, method=method), rel=0.03)
    assert gain == pytest.approx(loss_gain(g, h, sigma**2, batch, method=method), rel=0.06)


def test_sgd_with_a_full_covariance_and_its_law():
    g, h, sigma = problem()
    rng = np.random.default_rng(3)
    factor = rng.normal(size=(12, 12))
    covariance = factor @ factor.T
    eta_max, noise = g @ g / (g @ h @ g), np.trace(covariance @ h) / (g @ h @ g)
    for batch in (1, 10, 1000):
        assert optimal_rate(g, h, covariance, batch) == pytest.approx(eta_max / (1 + noise / batch))
        most = (g @ g) ** 2 / (2 * g @ h @ g)
        assert loss_gain(g, h, covariance, batch) == pytest.approx(most / (1 + noise / batch))
    assert optimal_rate(g, h, np.diag(sigma**2), 8) == pytest.approx(optimal_rate(g, h, sigma**2, 8))


@pytest.mark.parametrize(("beta_noise", "falls"), [(0.5, True), (0.99, True), (1.0, False), (2.0, False)])
def test_surge_curve(beta_noise, falls):
    law = surge(beta_noise, 100)
    batches = np.geomspace(1, 1e7, 4000)
    rates = law.rate(batches)
    rises = np.diff(rates) > 0
    assert rises.all() != falls
    if falls:
        peak = batches[rates.argmax()]
        assert peak == pytest.approx(law.b_noise, rel=0.01)
        assert rates.max() == pytest.approx(1, rel=1e-5)
        assert rises[batches[1:] < law.b_noise].all()
        assert not rises[batches[:-1] > law.b_noise].any()
        assert law.regime(law.b_noise * 1.01) == "past the optimum"
        assert law.regime(law.b_noise * 0.99) != "past the optimum"
    else:
        assert law.b_noise is None


@pytest.mark.parametrize("beta_noise", [0.5, 2.0])
def test_surge_law_is_the_quadratic_one_where_coordinates_are_alike(beta_noise):
    n, kappa = 30, 10.0
    rest = 1 / beta_noise**2 / (n - 1)
    h = np.full((n, n), rest) + (1 - rest) * np.eye(n)
    g, variance = np.ones(n), np.full(n, kappa**2)
    assert interaction(g, h) == pytest.approx(beta_noise)
    law = surge(beta_noise, kappa**2, n / (2 * math.sqrt(n * (h.sum() - n))))
    most = law.beta_noise * law.eta_max * n / (1 + law.beta_noise**2)
    for batch in (1, 30, 3000):
        assert law.rate(batch) == pytest.approx(optimal_rate(g, h, variance, batch, method="sign_algebraic"))
        assert law.gain(batch) * most == pytest.approx(loss_gain(g, h, variance, batch, method="sign_algebraic"))


def test_interaction_follows_the_signs_and_refuses_a_negative_sum():
    g, h, _ = problem()
    s = np.sign(g)
    off = sum(s[i] * s[j] * h[i, j] for i in range(12) for j in range(12) if i != j)
    if off < 0:
        h = np.diag(np.diag(h)) * 2 - h  # the other sign off the diagonal
        off = -off
    assert interaction(g, h) == pytest.approx(math.sqrt(np.trace(h) / off))
    assert interaction(g, np.diag(np.diag(h))) == math.inf
    with pytest.raises(ConfigError, match="negative"):
        interaction(np.ones(2), [[1, -0.5], [-0.5, 1]])


def test_rules():
    assert scale_learning_rate(0.1, 10, 40, "sqrt") == pytest.approx(0.2)
    assert scale_learning_rate(0.1, 10, 40, "linear") == pytest.approx(0.4)
    # Linear is the limit of small batches, and the rate goes to lr0 (1 + N / B0).
    assert scale_learning_rate(0.1, 1, 4, "sgd_opt", noise_scale=1e6) == pytest.approx(0.4, rel=1e-5)
    assert scale_learning_rate(0.1, 10, 1e12, "sgd_opt", noise_scale=90) == pytest.approx(1.0)
    # The square root is that of Adam's law, which ends in the surge.
    assert scale_learning_rate(0.1, 1, 4, "adam_opt", kappa2=1e6) == pytest.approx(0.2, rel=1e-4)
    law = surge(0.5, 100)
    ratio = law.rate(1000) / law.rate(law.b_noise)
    assert ratio < 1
    assert scale_learning_rate(
        1.0, law.b_noise, 1000, "adam_opt", kappa2=100, beta_noise=0.5
    ) == pytest.approx(ratio)  # fmt: skip
    half = scale_learning_rate(1.0, 10, 40, "openai_adam", noise_scale=90, alpha=0.5)
    assert half**2 == pytest.approx(scale_learning_rate(1.0, 10, 40, "sgd_opt", noise_scale=90))
    for rule, facts in [("sqrt", {}), ("adam_opt", {"kappa2": 50, "beta_noise": 0.7}), ("sgd_opt", {"noise_scale": 9})]:
        assert scale_learning_rate(0.3, 64, 64, rule, **facts) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("arguments", "facts", "message"),
    [
        ((0.1, 0, 4, "sqrt"), {}, "B0 must be a positive number"),
        ((math.nan, 1, 4, "sqrt"), {}, "lr0"),
        ((0.1, 1, 4, "root"), {}, "one of sqrt, linear"),
        ((0.1, 1, 4, "sgd_opt"), {}, "needs noise_scale"),
        ((0.1, 1, 4, "adam_opt"), {}, "needs kappa2"),
        ((0.1, 1, 4, "openai_adam"), {"noise_scale": 4}, "alpha between"),
        ((0.1, 1, 4, "openai_adam"), {"noise_scale": 4, "alpha": 2}, "alpha between"),
        ((0.1, 1, 4, "sgd_opt"), {"noise_scale": -1}, "at least 0"),
    ],
)
def test_wrong_arguments(arguments, facts, message):
    with pytest.raises(ConfigError, match=message):
        scale_learning_rate(*arguments, **facts)


def test_steps_against_samples():
    sizes = np.geomspace(4, 4000, 12)
    truth = 50 * (1 + 100 / sizes)
    fit = fit_steps_samples(zip(truth, truth * sizes, strict=True))
    assert (fit.s_min, fit.e_min, fit.b_noise) == pytest.approx((50, 5000, 100))
    assert all((fit.steps(b) / fit.s_min - 1) * (fit.samples(b) / fit.e_min - 1) == pytest.approx(1) for b in sizes)
    held, trials = 0, 300
    rng = np.random.default_rng(0)
    for _ in range(trials):
        steps = truth * np.exp(0.05 * rng.normal(size=len(sizes)))
        low, high = fit_steps_samples(zip(steps, steps * sizes, strict=True)).b_noise_interval
        held += low <= 100 <= high
    assert 0.91 <= held / trials <= 0.98
    two = fit_steps_samples([(60, 60 * 500), (100, 100 * 100)])
    assert two.b_noise == pytest.approx(two.e_min / two.s_min)
    assert two.steps(100) == pytest.approx(100)
    assert two.b_noise_interval is None
    with pytest.raises(ConfigError, match="no hyperbola"):
        fit_steps_samples([(100, 100), (200, 20000), (300, 300000)])
    with pytest.raises(ConfigError, match="different batch sizes"):
        fit_steps_samples([(100, 1000), (101, 1010)])


def test_hyperbola_of_simulated_sgd():
    """Noise in proportion to the gradient keeps tr(Sigma H) / g.H g at 50 all along."""
    rng = np.random.default_rng(0)
    points = []
    for batch in (8, 32, 128, 512):
        theta, steps = np.ones(200), 0
        rate = 0.03 / (1 + 50 / batch)
        while theta @ theta > 0.05 * 200:
            theta = theta - rate * theta * (1 + rng.normal(size=200) * math.sqrt(50 / batch))
            steps += 1
        points.append((steps, steps * batch))
    assert fit_steps_samples(points).b_noise == pytest.approx(50, rel=0.08)


def test_grid_and_law_of_rates():
    rates = np.geomspace(1e-4, 1e-1, 10)
    found, inside = best_rate([(r, (math.log(r) - math.log(3e-3)) ** 2 + 1) for r in rates])
    assert inside
    assert found == pytest.approx(3e-3)
    assert best_rate([(r, -r) for r in rates]) == (0.1, False)
    assert best_rate([(1e-3, 2.0), (1e-2, 1.0), (1e-1, math.nan)]) == (1e-2, True)  # the next one diverged
    with pytest.raises(ConfigError, match="once"):
        best_rate([(1e-3, 2.0), (1e-3, 1.0)])
    sgd = fit_rates([(b, 0.5 / (1 + 300 / b)) for b in (8, 64, 512)])
    assert (sgd.eta_max, sgd.noise_scale) == pytest.approx((0.5, 300))
    law = surge(0.6, 80, 0.01)
    adam = fit_rates([(b, law.rate(b)) for b in (2, 16, 128, 1024)], kappa2=80)
    assert (adam.surge.beta_noise, adam.eta_max) == pytest.approx((0.6, 0.01))
    free = fit_rates([(b, surge(math.inf, 80, 0.01).rate(b)) for b in (2, 16, 128)], kappa2=80)
    assert free.surge.rate(1e9) == pytest.approx(0.01)
    assert fit_rates([(1, 0.1), (4, 0.8)]).eta_max == math.inf  # faster than linear
