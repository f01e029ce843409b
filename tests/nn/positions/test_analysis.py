"""Measurements of position encodings against closed forms, golden numbers and models whose answer is known."""

import builtins

import numpy as np
import pytest
from tests.models.tiny import build

from kexue.errors import ConfigError
from kexue.nn.positions import analysis, analysis_plots
from kexue.nn.positions.frequencies import frequencies
from kexue.nn.positions.sinusoidal import SinusoidalPosition

DISTANCES = [1, 8, 32, 64, 128, 256, 512]


def test_golden_decay():
    """Spec 18: normalised inner products at width 128, and the integral in closed form."""
    inner = [0.9702, 0.7144, 0.5575, 0.4769, 0.3328, 0.3207, 0.2194]
    integral = [0.9740, 0.7249, 0.5628, 0.4873, 0.4111, 0.3349, 0.2601]
    np.testing.assert_allclose(analysis.decay_curve(frequencies(128), DISTANCES), inner, atol=5e-5)
    np.testing.assert_allclose(analysis.oscillatory_decay(DISTANCES), integral, atol=5e-5)
    sums = [32.5, 31.5382, 19.8174, 13.3843, 10.0899, 9.2729, 6.5431, 5.3114]
    np.testing.assert_allclose(analysis.partial_sum_decay(frequencies(128), [0, *DISTANCES]), sums, atol=5e-5)


def test_cosine_integral():
    special = pytest.importorskip("scipy.special")
    x = np.r_[np.geomspace(1e-6, 1e6, 4000), 11.999999, 12.0, 12.000001]
    np.testing.assert_allclose(analysis.cosine_integral(x), special.sici(x)[1], atol=2e-11)
    with pytest.raises(ConfigError, match="positive"):
        analysis.cosine_integral([1.0, 0.0])


@pytest.mark.parametrize("base", [2.0, 1000.0, 10000.0, 5e5])
def test_integral_by_quadrature_and_by_many_features(base):
    x = np.array([0.0, 0.5, 3, 40, 512, 5000])
    closed = analysis.oscillatory_decay(x, base=base)
    np.testing.assert_allclose(analysis.oscillatory_decay(x, lambda t: base**-t), closed, atol=1e-9)
    np.testing.assert_allclose(analysis.oscillatory_decay(-x, base=base), closed)
    middle = base ** -((np.arange(200_000) + 0.5) / 200_000)
    np.testing.assert_allclose(analysis.decay_curve(middle, x), closed, atol=1e-4)
    assert closed[0] == 1


def test_integral_of_other_frequencies():
    """theta = t gives sin(x) / x, which crosses zero (spec 18); a constant never decays."""
    x = np.array([0.0, 1, np.pi, 4.5, 300])
    np.testing.assert_allclose(analysis.oscillatory_decay(x, lambda t: t), np.sinc(x / np.pi), atol=1e-12)
    np.testing.assert_allclose(analysis.oscillatory_decay(x, lambda t: 0.5 + 0 * t), np.cos(x / 2), atol=1e-12)
    # theta = t^2 gives the Fresnel integral, which decays like sqrt(pi / 8 x).
    assert analysis.oscillatory_decay(1e4, lambda t: t**2) == pytest.approx(np.sqrt(np.pi / 8e4), rel=0.01)
    with pytest.raises(ConfigError, match="as many finite"):
        analysis.oscillatory_decay(1.0, lambda t: 1.0)
    with pytest.raises(ConfigError, match="base=1"):
        analysis.oscillatory_decay(1.0, base=1.0)


def test_gram():
    rows = analysis.position_rows(SinusoidalPosition(), 50, 16)
    gram = analysis.position_gram(rows)
    mean, deviation = analysis.by_distance(gram)
    np.testing.assert_allclose(mean / 8, analysis.decay_curve(frequencies(16), np.arange(50)), atol=1e-5)
    assert deviation.max() < 1e-4
    random = np.random.default_rng(0).normal(size=(50, 16))
    cosines = analysis.position_gram(random, normalize=True)
    np.testing.assert_allclose(np.diag(cosines), 1)
    assert analysis.by_distance(cosines)[1][5] > 0.1
    lopsided = np.triu(np.ones((3, 3)), 1)
    np.testing.assert_allclose(analysis.by_distance(lopsided)[0], [0, 0.5, 0.5])
    for bad in (lambda: analysis.position_gram(np.ones(3)), lambda: analysis.by_distance(np.ones((2, 3)))):
        with pytest.raises(ConfigError, match="shape"):
            bad()


def test_order_sensitivity_of_known_functions():
    x = np.random.default_rng(0).normal(size=(3, 20, 4))
    blind = analysis.order_sensitivity(lambda t: t + t.mean(1, keepdims=True), x)
    assert blind.value < 1e-6
    assert blind.by_distance.max() < 1e-6
    np.testing.assert_array_equal(blind.distances, [1, 2, 4, 8, 16])
    # A moving sum of 3 tokens notices every swap; of tokens in one half of the row it notices swaps across alone.
    local = analysis.order_sensitivity(lambda t: t + np.roll(t, 1, 1) + np.roll(t, -1, 1), x)
    assert local.value > 0.5
    assert local.by_distance.min() > 0.1
    halves = np.repeat([[0.0], [1.0]], 10, axis=0)[None]
    across = analysis.order_sensitivity(
        lambda t: t + (t * halves).sum(1, keepdims=True), x, distances=[1, 5, 10, 19], trials=60
    ).by_distance
    assert across[0] < across[1] < across[2]
    np.testing.assert_allclose(across[2:], across[2:].mean(), rtol=0.25)  # from 10 on every swap is across
    # Tokens kept in place may know where they are.
    first = np.arange(20)[:, None] == 0
    assert analysis.order_sensitivity(lambda t: t + 5 * first, x).value > 0.1
    kept = analysis.order_sensitivity(lambda t: t + 5 * first, x, keep_first=1)
    assert max(kept.value, *kept.by_distance) < 1e-6


def test_order_sensitivity_of_models():
    tokens = np.random.default_rng(0).integers(3, 31, (4, 9)).astype("int32")
    kinds = ("no_positions", "alibi")
    values = {kind: analysis.order_sensitivity(build(kind), tokens, trials=2).value for kind in kinds}
    assert values["no_positions"] < 1e-4
    assert values["alibi"] > 0.01
    for options in ({"trials": 0}, {"keep_first": 8}, {"distances": [9]}, {"distances": [0]}):
        with pytest.raises(ConfigError):
            analysis.order_sensitivity(lambda t: t, tokens, **options)


def test_extrapolation_curve():
    def evaluate(length):
        if length > 16:
            raise ConfigError(f"positions end at 16, not {length}")
        return 1 / length

    curve = analysis.extrapolation_curve(evaluate, [32, 4, 16, 4], train_length=8)
    np.testing.assert_array_equal(curve.lengths, [4, 16, 32])
    np.testing.assert_array_equal(curve.values, [0.25, 1 / 16, np.nan])
    assert curve.refused == {32: "positions end at 16, not 32"}
    with pytest.raises(ZeroDivisionError):
        analysis.extrapolation_curve(lambda _: 1 / 0, [1])
    with pytest.raises(ConfigError, match="positive lengths"):
        analysis.extrapolation_curve(evaluate, [])


def curves():
    distances = np.arange(200)
    sensitivity = analysis.OrderSensitivity(0.4, np.array([1, 2, 4]), np.array([0.1, 0.2, 0.3]))
    length = analysis.ExtrapolationCurve(np.array([4, 8, 16]), np.array([1.0, 0.9, np.nan]), 8, {16: "too long"})
    whole = analysis.ExtrapolationCurve(np.array([4, 8, 16]), np.array([1.0, 0.95, 0.7]), 8)
    return {
        "gram": lambda **o: analysis_plots.plot_gram(
            analysis.position_gram(analysis.position_rows(SinusoidalPosition(), 64, 32)), "sinusoids", **o
        ),
        "decay": lambda **o: analysis_plots.plot_decay(
            distances,
            {
                "128 features": analysis.decay_curve(frequencies(128), distances),
                "closed form": analysis.oscillatory_decay(distances),
            },
            **o,
        ),
        "order": lambda **o: analysis_plots.plot_order_sensitivity({"alibi": sensitivity}, "order", **o),
        "extrapolation": lambda **o: analysis_plots.plot_extrapolation({"learned": length, "alibi": whole}, **o),
    }


@pytest.mark.parametrize("name", ["gram", "decay", "order", "extrapolation"])
def test_plots(name, tmp_path):
    pytest.importorskip("matplotlib")
    figure = curves()[name](path=tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"
    assert all(axis.get_xlabel() for axis in figure.axes if axis.get_label() != "<colorbar>")
    lines = [line for axis in figure.axes for line in axis.lines]
    assert lines
    if name == "decay":
        np.testing.assert_allclose(lines[1].get_ydata(), analysis.oscillatory_decay(np.arange(200)))
    curves()[name](path=tmp_path / "picture.svg")
    assert b"<svg" in (tmp_path / "picture.svg").read_bytes()


def test_plots_say_what_is_missing(monkeypatch):
    with pytest.raises(ConfigError, match="mapping of names"):
        analysis_plots.plot_extrapolation({})
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"kexue\[plot\]"):
        analysis_plots.plot_gram(np.eye(3))
