"""Estimates of the noise on gradients whose noise is known, in memory and from logs."""

import json
import math

import numpy as np
import pytest

from kexue.errors import ConfigError, DataError
from kexue.training.batch_size import NoiseLog, RunningNoise, noise_from_samples, noise_from_two_batches
from kexue.training.batch_size.log import COLUMNS
from kexue.training.batch_size.noise import agreement, kappa2_of_agreement, two_batches

N, SMALL, PARTS = 60, 8, 4
RNG = np.random.default_rng(0)
G = RNG.normal(size=N) * 0.08
SIGMA = RNG.uniform(0.5, 1.5, N)
NORM2, TRACE = float(G @ G), float(SIGMA @ SIGMA)


def norms(steps, seed, g=G):
    micro = g + np.random.default_rng(seed).normal(size=(steps, PARTS, N)) * SIGMA / math.sqrt(SMALL)
    signs = [agreement(step[0], step[1]) for step in micro]
    return (micro**2).sum(-1).mean(1), (micro.mean(1) ** 2).sum(-1), np.array(signs)


def test_two_batches_are_without_bias():
    small, large, _ = norms(20_000, 1)
    norm2, trace = two_batches(small, large, SMALL, SMALL * PARTS)
    for values, truth in ((norm2, NORM2), (trace, TRACE)):
        assert abs(values.mean() - truth) < 4 * values.std() / math.sqrt(len(values))
        assert values.std() / math.sqrt(len(values)) < 0.02 * truth  # or the line above would show nothing
    estimate = noise_from_two_batches(small, large, SMALL, SMALL * PARTS)
    assert estimate.noise_scale == pytest.approx(TRACE / NORM2, rel=0.04)
    assert estimate.gradient_norm2 == pytest.approx(norm2.mean())


def test_interval_holds_the_truth_as_often_as_it_says():
    held = 0
    for seed in range(400):
        small, large, _ = norms(64, seed)
        low, high = noise_from_two_batches(small, large, SMALL, SMALL * PARTS).interval
        held += low <= TRACE / NORM2 <= high
    assert 0.92 <= held / 400 <= 0.98


def test_interval_is_open_where_the_gradient_drowns():
    small, large, _ = norms(64, 0, np.zeros(N))
    estimate = noise_from_two_batches(small, large, SMALL, SMALL * PARTS)
    assert estimate.interval[1] == math.inf
    assert estimate.interval[0] > 0


@pytest.mark.parametrize(
    ("small", "large", "scale"),
    [(4.0, 0.5, math.inf), (1.0, 2.0, 0.0), (2.0, 2.0, 0.0), (-1.0, -1.0, math.nan)],
)
def test_guards(small, large, scale):
    found = noise_from_two_batches(small, large, 1, 4).noise_scale
    assert found == scale or (math.isnan(found) and math.isnan(scale))
    with pytest.raises(ConfigError, match="smaller than"):
        noise_from_two_batches(small, large, 4, 4)


def test_single_samples_against_sums_of_variances():
    g = G + np.random.default_rng(2).normal(size=(500, N)) * SIGMA
    estimate = noise_from_samples(g)
    trace = g.var(axis=0, ddof=1).sum()
    assert estimate.trace == pytest.approx(trace)
    assert estimate.gradient_norm2 == pytest.approx((g.mean(axis=0) ** 2).sum() - trace / 500)
    assert estimate.samples == 500
    held = 0
    for seed in range(200):
        g = G + np.random.default_rng(seed).normal(size=(200, N)) * SIGMA
        low, high = noise_from_samples(g).interval
        held += low <= TRACE / NORM2 <= high
    assert held / 200 >= 0.9


def test_kappa2_from_signs():
    rng = np.random.default_rng(0)
    sign = rng.choice([-1, 1], 500_000)  # alike but for the sign
    first, second = (0.1 * sign + rng.normal(size=len(sign)) / math.sqrt(16) for _ in range(2))
    assert kappa2_of_agreement(agreement(first, second), 16) == pytest.approx(100, rel=0.1)
    assert agreement(np.array([0.0, 2, -1]), np.array([1.0, 3, -5])) == 1  # what is 0 has no sign
    assert kappa2_of_agreement(-0.1, 16) == math.inf
    assert math.isnan(kappa2_of_agreement(math.nan, 16))


def test_moving_averages():
    small, large, signs = norms(3000, 3)
    running = RunningNoise(0.999)
    assert math.isnan(running.estimate().noise_scale)
    for values in zip(small, large, signs, strict=True):
        running.update(values[0], values[1], SMALL, SMALL * PARTS, values[2])
    assert running.estimate().noise_scale == pytest.approx(TRACE / NORM2, rel=0.15)
    assert running.estimate().kappa2_source == "signs"
    before = running.estimate()
    running.update(math.inf, math.nan, SMALL, SMALL * PARTS)
    assert running.estimate() == before
    one = RunningNoise(0.9)  # the bias of the start is corrected
    one.update(small[0], large[0], SMALL, SMALL * PARTS)
    assert one.estimate().trace == pytest.approx(two_batches(small[0], large[0], SMALL, SMALL * PARTS)[1])
    with pytest.raises(ConfigError, match="decay"):
        RunningNoise(1.0)


def rows(steps=200, seed=0):
    small, large, signs = norms(steps, seed)
    values = zip(small, large, signs, strict=True)
    return [
        dict(zip(COLUMNS, (k, 1 / k, 1e-3, SMALL * PARTS, SMALL, *v), strict=True)) for k, v in enumerate(values, 1)
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_log_file(suffix, tmp_path):
    path = tmp_path / f"run.{suffix}"
    log = NoiseLog(path, rows()[:120])
    log.close()
    again = NoiseLog(path)  # a run goes on, from a few steps before
    for row in rows()[100:]:
        again.append(row)
    again.close()
    read = NoiseLog.read(path)
    assert read.rows == NoiseLog(rows=rows()).rows
    assert read.estimate() == NoiseLog(rows=rows()).estimate()
    assert read.estimate(skip=0).noise_scale == pytest.approx(TRACE / NORM2, rel=0.6)
    assert read.estimate(skip=0.5).samples == 100


def test_log_of_another_program(tmp_path):
    """Columns of its own, in its own order, without signs; lines without accumulation have no norms."""
    path = tmp_path / "run.jsonl"
    lines = [{"note": "x", **{k: v for k, v in row.items() if k != "sign_agreement"}} for row in rows(50)]
    lines[3] |= {"grad_norm2_micro": None, "micro_batch": SMALL * PARTS}
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    estimate = NoiseLog.read(path).estimate(skip=0)
    assert estimate.samples == 49
    assert estimate.kappa2 == estimate.noise_scale
    assert estimate.kappa2_source == "noise_scale"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("step,loss\n", "no rows"),
        ("step,loss\n1,2\n", "missing columns learning_rate, batch_size"),
        ("step,loss,learning_rate,batch_size\n1,2,3\n", ":2: as many fields"),
        ("step,loss,learning_rate,batch_size\n1,x,0.1,8\n", ":2: column loss must be a number"),
        ("step,loss,learning_rate,batch_size\n1,2,0.1,8\n2,2,0.1,-8\n", ":3: column batch_size must be a positive"),
        ('{"step": 1}\n{', ":2: not a line of JSON"),
        ('{"step": 1, "loss": true, "learning_rate": 1, "batch_size": 1}', "column loss must be a number"),
        ('{"step": 1}\n[]', ":2: expected a JSON object"),
    ],
)
def test_broken_logs(text, message, tmp_path):
    path = tmp_path / "run.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        NoiseLog.read(path)


def test_logs_that_cannot_be(tmp_path):
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00step")
    with pytest.raises(DataError, match="not a text file"):
        NoiseLog.read(tmp_path / "bytes.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="other columns"):
        NoiseLog(tmp_path / "other.csv")
    with pytest.raises(ConfigError, match=r"\.csv or \.jsonl"):
        NoiseLog(tmp_path / "run.txt")
    plain = NoiseLog(rows=[{"step": 1, "loss": 1, "learning_rate": 1, "batch_size": 8}])
    with pytest.raises(DataError, match="no row tells the noise"):
        plain.estimate()
