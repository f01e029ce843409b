"""Measurements of position encodings: inner products, decay with the distance, sensitivity to order, extrapolation.

NumPy in float64 except where a model is called. Pictures of the results: `kexue.nn.positions.analysis_plots`.

Source: kexue.fm articles 8130, 8231 and 8265.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from keras import ops

from kexue.errors import ConfigError

__all__ = [
    "ExtrapolationCurve",
    "OrderSensitivity",
    "by_distance",
    "cosine_integral",
    "decay_curve",
    "extrapolation_curve",
    "order_sensitivity",
    "oscillatory_decay",
    "partial_sum_decay",
    "position_gram",
    "position_rows",
]


# ---------------------------------------------------------------- inner products of absolute encodings


def position_rows(encoding: Any, length: int, width: int) -> np.ndarray:
    """What an additive encoding adds to the embeddings at positions 0 ... length - 1: ``(length, width)``, float64."""
    nothing = np.zeros((1, length, width), "float32")
    rows = encoding(nothing, np.arange(length, dtype="int32")[None])
    return np.asarray(ops.convert_to_numpy(ops.cast(rows, "float32")), "float64")[0]


def position_gram(rows: Any, normalize: bool = False) -> np.ndarray:
    """Inner products ``(length, length)`` of the rows of an absolute encoding.

    Args:
        rows: ``(length, width)``, such as `position_rows` gives or a trained table.
        normalize: cosines instead.
    """
    rows = np.asarray(rows, "float64")
    if rows.ndim != 2:
        raise ConfigError(f"rows must be of shape (length, width). Received: shape {rows.shape}")
    if normalize:
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows @ rows.T


def by_distance(gram: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of a square matrix along its diagonals, for distances 0 ... length - 1.

    The deviation is 0 where inner products depend on the distance alone, as they do for sinusoids; it shows how far a
    trained table is from that.
    """
    gram = np.asarray(gram, "float64")
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ConfigError(f"a square matrix is needed. Received: shape {gram.shape}")
    # Both sides of the main diagonal: a matrix of scores need not be symmetric.
    lines = [np.concatenate([np.diagonal(gram, d), np.diagonal(gram, -d)]) for d in range(len(gram))]
    return np.array([line.mean() for line in lines]), np.array([line.std() for line in lines])


# ---------------------------------------------------------------- decay with the distance


def decay_curve(theta: Any, distances: Any) -> np.ndarray:
    """``mean_i cos(distance theta_i)``, of the shape of ``distances``.

    The normalised inner product of two sinusoidal rows, and the score of equal rotary queries and keys with entries of
    equal size.

    Args:
        theta: frequencies, such as `kexue.nn.positions.frequencies.frequencies` gives.
        distances: any shape.
    """
    return np.cos(np.asarray(distances, "float64")[..., None] * np.asarray(theta, "float64")).mean(-1)


def partial_sum_decay(theta: Any, distances: Any) -> np.ndarray:
    """``mean_j |sum_(i < j) exp(1j distance theta_i)|`` over j = 1 ... n, of the shape of ``distances``.

    By summation by parts a rotary score is at most ``max_i |h_(i+1) - h_i|`` times the sum of these, whatever query
    and key (article 8265).
    """
    turns = np.exp(1j * np.asarray(distances, "float64")[..., None] * np.asarray(theta, "float64"))
    return np.abs(np.cumsum(turns, axis=-1)).mean(-1)


def oscillatory_decay(
    distances: Any, theta: Callable[[np.ndarray], np.ndarray] | None = None, base: float = 10000.0
) -> np.ndarray:
    """The integral of ``cos(distance theta(t))`` over t from 0 to 1: `decay_curve` for infinitely many features.

    For ``theta(t) = base ** -t`` it is ``(Ci(x) - Ci(x / base)) / ln(base)``, Ci the cosine integral. For another
    function it is computed by Gauss-Legendre quadrature on panels short enough for its oscillation.

    Args:
        distances: any shape.
        theta: of an array; smooth on [0, 1]. ``base ** -t`` when None.
        base: above 1.

    Raises:
        ConfigError: ``base`` is not above 1.
    """
    x = np.abs(np.asarray(distances, "float64"))
    if theta is not None:
        return np.array([_quadrature(theta, float(value)) for value in x.ravel()]).reshape(x.shape)
    if not base > 1:
        raise ConfigError(f"base must be above 1. Received: base={base}")
    safe = np.where(x > 0, x, 1.0)
    return np.where(x > 0, (cosine_integral(safe) - cosine_integral(safe / base)) / math.log(base), 1.0)


def _quadrature(theta: Callable[[np.ndarray], np.ndarray], x: float) -> float:
    samples = np.asarray(theta(np.linspace(0.0, 1.0, 4097)), "float64")
    if samples.shape != (4097,) or not np.isfinite(samples).all():
        raise ConfigError("theta must turn an array of t in [0, 1] into as many finite numbers.")
    steepest = float(np.abs(np.diff(samples)).max()) * 4096
    panels = max(16, math.ceil(x * steepest / math.pi))
    nodes, weights = np.polynomial.legendre.leggauss(12)
    edges = np.linspace(0.0, 1.0, panels + 1)
    t = (edges[:-1, None] + (nodes + 1) / (2 * panels)).ravel()
    return float(np.cos(x * np.asarray(theta(t))).reshape(panels, -1) @ weights @ np.full(panels, 0.5 / panels))


def cosine_integral(x: Any) -> np.ndarray:
    """``Ci(x) = gamma + ln x + integral of (cos t - 1) / t from 0 to x``, for positive x, to about 1e-11.

    Below 12 the power series; above, ``Ci(x) = f(x) sin x - g(x) cos x`` with the auxiliary functions
    ``f(x) = integral of e^-u x / (x^2 + u^2)`` and ``g(x) = integral of e^-u u / (x^2 + u^2)`` over positive u, by
    Gauss-Laguerre quadrature.
    """
    x = np.asarray(x, "float64")
    if not (x > 0).all():
        raise ConfigError("the cosine integral is defined for positive numbers here.")
    small = np.minimum(x, 12.0)
    term, series = np.ones_like(small), np.euler_gamma + np.log(small)
    for k in range(1, 40):
        term = -term * small**2 / ((2 * k - 1) * (2 * k))
        series = series + term / (2 * k)
    u, w = np.polynomial.laguerre.laggauss(64)
    large = np.maximum(x, 12.0)
    below = large[..., None] ** 2 + u**2
    f, g = (w * large[..., None] / below).sum(-1), (w * u / below).sum(-1)
    return np.where(x < 12.0, series, f * np.sin(large) - g * np.cos(large))


# ---------------------------------------------------------------- behaviour of models


@dataclass(frozen=True)
class OrderSensitivity:
    """Result of `order_sensitivity`.

    Attributes:
        value: mean relative change of the outputs under random permutations; 0 for a model that is blind to order.
        distances: how far apart two swapped tokens were.
        by_distance: mean relative change for each of them.
    """

    value: float
    distances: np.ndarray
    by_distance: np.ndarray


def order_sensitivity(
    function: Callable[[np.ndarray], Any],
    tokens: Any,
    *,
    trials: int = 8,
    distances: Sequence[int] | None = None,
    keep_first: int = 0,
    seed: int = 0,
) -> OrderSensitivity:
    """How much the outputs of a model or layer depend on the order of its tokens.

    With F the function and s a permutation of the tokens, ``|F(s x) - s F(x)|`` is 0 if F knows no positions. It is
    divided by the norm of F(x) around its mean over the tokens of a row, and averaged over rows and trials. A causal
    mask is itself a source of order: a decoder without positions is not at 0.

    Args:
        function: ``tokens`` to outputs ``(batch, length, size)``; a `Transformer` will do (its ``sequence_output``).
        tokens: ids ``(batch, length)`` or vectors ``(batch, length, size)``, without padding.
        trials: permutations, and swaps of each distance.
        distances: of the swaps; powers of 2 below the length by default.
        keep_first: so many first tokens stay in place ([CLS]).
        seed: of the random choices.

    Raises:
        ConfigError: too few tokens, or distances that do not fit.
    """
    tokens = np.asarray(tokens)
    rows, length = tokens.shape[:2]
    free = length - keep_first
    if free < 2 or trials < 1:
        raise ConfigError(f"two tokens that may move and one trial are needed. Received: {length=}, {trials=}")
    if distances is None:
        distances = [2**i for i in range(int(math.log2(free - 1)) + 1)]
    if not all(0 < d < free for d in distances):
        raise ConfigError(f"distances must be between 1 and {free - 1}. Received: {list(distances)}")
    rng = np.random.default_rng(seed)
    plain = _outputs(function, tokens)
    size = np.linalg.norm((plain - plain.mean(1, keepdims=True)).reshape(rows, -1), axis=1)

    def change(order: np.ndarray) -> float:
        """Mean over rows, for permutations (rows, length)."""
        moved = np.stack([row[o] for row, o in zip(tokens, order, strict=True)])
        want = np.stack([row[o] for row, o in zip(plain, order, strict=True)])
        difference = np.linalg.norm((_outputs(function, moved) - want).reshape(rows, -1), axis=1)
        return float((difference / np.maximum(size, 1e-12)).mean())

    def permuted() -> np.ndarray:
        return np.stack([np.r_[0:keep_first, keep_first + rng.permutation(free)] for _ in range(rows)])

    def swapped(distance: int) -> np.ndarray:
        order = np.tile(np.arange(length), (rows, 1))
        first = keep_first + rng.integers(0, free - distance, rows)
        every = np.arange(rows)
        order[every, first], order[every, first + distance] = first + distance, first
        return order

    value = float(np.mean([change(permuted()) for _ in range(trials)]))
    curve = np.array([np.mean([change(swapped(d)) for _ in range(trials)]) for d in distances])
    return OrderSensitivity(value, np.array(distances), curve)


def _outputs(function: Callable[[np.ndarray], Any], tokens: np.ndarray) -> np.ndarray:
    out = function(tokens)
    out = out["sequence_output"] if isinstance(out, Mapping) else out
    return np.asarray(ops.convert_to_numpy(ops.cast(out, "float32")), "float64")


@dataclass(frozen=True)
class ExtrapolationCurve:
    """Result of `extrapolation_curve`.

    Attributes:
        lengths: in increasing order.
        values: what was measured; NaN where the model refused the length.
        train_length: where the model was trained, or None.
        refused: length to the reason.
    """

    lengths: np.ndarray
    values: np.ndarray
    train_length: int | None = None
    refused: dict[int, str] = field(default_factory=dict)


def extrapolation_curve(
    evaluate: Callable[[int], float], lengths: Sequence[int], train_length: int | None = None
) -> ExtrapolationCurve:
    """Loss or accuracy of a model at growing lengths.

    Args:
        evaluate: length to a number. A `ConfigError`, as a model raises beyond the end of its table of positions, is
            recorded and leaves a gap; other errors are passed on.
        lengths: where to measure.
        train_length: kept for the picture.
    """
    if not len(lengths) or min(lengths) < 1:
        raise ConfigError(f"positive lengths are needed. Received: lengths={list(lengths)}")
    values, refused = [], {}
    order = sorted({int(length) for length in lengths})
    for length in order:
        try:
            values.append(float(evaluate(length)))
        except ConfigError as error:
            values.append(math.nan)
            refused[length] = str(error)
    return ExtrapolationCurve(np.array(order), np.array(values), train_length, refused)
