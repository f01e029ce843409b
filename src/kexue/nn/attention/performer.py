"""Random features of the exponential kernel (Performer), and how well they approximate.

With ``w`` standard normal in d dimensions,

    exp(q.k) = E_w[exp(w.q - |q|^2 / 2) exp(w.k - |k|^2 / 2)],

so that the mean of m such products is an estimate without bias, with variance
``exp(2 q.k) (exp(|q + k|^2) - 1) / m`` for independent w. Orthogonal w (in blocks of d) keep it unbiased and lower the
variance, if their directions are uniform: the Q of a QR decomposition is so only after its columns are multiplied by
the signs of the diagonal of R.

Everything here is NumPy, in float64; `kexue.nn.attention.linear.LinearAttention` uses `random_projection`.

Source: Choromanski et al., arXiv 2009.14794; kexue.fm articles 7921 and 8338.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kexue.errors import ConfigError

__all__ = [
    "PerformerError",
    "chi_quantiles",
    "kernel_variance",
    "performer_error",
    "random_features",
    "random_projection",
]


def random_projection(
    size: int,
    features: int,
    *,
    orthogonal: bool = True,
    norms: Literal["chi", "stratified"] = "chi",
    seed: int | Sequence[int] = 0,
) -> np.ndarray:
    """Columns w for random features: ``(size, features)``, each of standard normal distribution.

    Args:
        size: of the vectors, d.
        features: how many, m.
        orthogonal: directions are orthogonal in blocks of d, uniform on the sphere each.
        norms: ``"chi"``, drawn from the distribution of a normal vector's length; ``"stratified"``, its quantiles
            ``i / (m + 1)`` in random order (kexue.fm article 8338), which lowers the variance further at the price of
            a small bias.
        seed: of NumPy's generator.

    Raises:
        ConfigError: a size that is not positive, or an unknown ``norms``.
    """
    if size < 1 or features < 1:
        raise ConfigError(f"size and features must be positive. Received: size={size}, features={features}")
    if norms not in ("chi", "stratified"):
        raise ConfigError(f"norms must be 'chi' or 'stratified'. Received: norms={norms!r}")
    rng = np.random.default_rng(seed)
    if orthogonal:
        blocks = []
        for _ in range(-(-features // size)):
            q, r = np.linalg.qr(rng.normal(size=(size, size)))
            blocks.append(q * np.sign(np.diag(r)))  # uniform (Haar) only with the signs
        directions = np.concatenate(blocks, axis=1)[:, :features]
    else:
        gaussian = rng.normal(size=(size, features))
        if norms == "chi":
            return gaussian
        directions = gaussian / np.linalg.norm(gaussian, axis=0)
    if norms == "stratified":
        return directions * rng.permutation(chi_quantiles(size, np.arange(1, features + 1) / (features + 1)))
    return directions * np.linalg.norm(rng.normal(size=(size, features)), axis=0)


def chi_quantiles(size: int, shares: Any) -> np.ndarray:
    """Lengths r of a standard normal vector in ``size`` dimensions with ``P(length <= r) = share``.

    By the trapezium rule on the density ``r^(d-1) exp(-r^2 / 2)``; error about 1e-6.
    """
    middle = max(size - 1, 0) ** 0.5
    r = np.linspace(max(middle - 12.0, 0.0), middle + 12.0, 40001)
    with np.errstate(divide="ignore"):
        logs = (size - 1) * np.log(r) - r * r / 2 if size > 1 else -r * r / 2
    density = np.exp(logs - logs.max())
    total = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    rising = np.concatenate([[True], np.diff(total) > 0])  # interpolation needs the flat ends gone
    return np.interp(np.asarray(shares, "float64"), (total / total[-1])[rising], r[rising])


def random_features(x: Any, projection: Any) -> np.ndarray:
    """``exp(w.x - |x|^2 / 2) / sqrt(m)`` for ``x`` (..., size): their inner products estimate ``exp(q.k)``."""
    x = np.asarray(x, "float64")
    return np.exp(x @ projection - 0.5 * np.sum(x * x, axis=-1, keepdims=True)) / projection.shape[1] ** 0.5


def kernel_variance(q: Any, k: Any, features: int) -> np.ndarray:
    """``exp(2 q.k) (exp(|q + k|^2) - 1) / m``: variance of the estimate from m independent features."""
    q, k = np.asarray(q, "float64"), np.asarray(k, "float64")
    return np.exp(2 * np.sum(q * k, -1)) * np.expm1(np.sum((q + k) ** 2, -1)) / features


@dataclass(frozen=True)
class PerformerError:
    """How far random features are from the softmax they approximate.

    Attributes:
        features: their number m.
        orthogonal: of what kind.
        kernel: root mean square over all (q, k) and draws of the relative error of ``exp(q.k / sqrt(d))``.
        probabilities: mean total variation between a row of attention and of its approximation.
        output: ``|approximation - attention| / |attention|`` of the outputs, root mean square over draws.
    """

    features: int
    orthogonal: bool
    kernel: float
    probabilities: float
    output: float


def performer_error(
    q: Any,
    k: Any,
    v: Any,
    features: Sequence[int] = (16, 64, 256, 1024),
    *,
    orthogonal: Sequence[bool] = (False, True),
    draws: int = 8,
    seed: int = 0,
) -> list[PerformerError]:
    """The errors of Performer on given queries, keys and values, against the number of features.

    Args:
        q: ``(..., length_q, size)``, not scaled: what a model's heads have.
        k: ``(..., length_k, size)``.
        v: ``(..., length_k, value_size)``.
        features: numbers m to try.
        orthogonal: kinds to try.
        draws: projections to average over.
        seed: of the first one.

    Returns:
        An entry for each kind and m. `kernel` falls like ``m ** -0.5``.
    """
    q, k, v = (np.asarray(t, "float64") for t in (q, k, v))
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ConfigError(
            f"q (..., length_q, size), k (..., length_k, size) and v (..., length_k, value_size) do not fit. "
            f"Received: {q.shape}, {k.shape}, {v.shape}"
        )
    q, k = (t * q.shape[-1] ** -0.25 for t in (q, k))
    kernel = np.exp(q @ np.swapaxes(k, -1, -2))
    probabilities = kernel / kernel.sum(-1, keepdims=True)
    output = probabilities @ v
    result = []
    for kind in orthogonal:
        for m in features:
            errors = []
            for draw in range(draws):
                w = random_projection(q.shape[-1], m, orthogonal=kind, seed=[seed, draw])
                near = random_features(q, w) @ np.swapaxes(random_features(k, w), -1, -2)
                p = near / near.sum(-1, keepdims=True)
                errors.append(
                    (
                        np.mean((near / kernel - 1) ** 2),
                        np.mean(np.abs(p - probabilities).sum(-1) / 2),
                        np.sum((p @ v - output) ** 2) / np.sum(output**2),
                    )
                )
            kernels, shares, outputs = np.mean(errors, axis=0)
            result.append(PerformerError(m, kind, float(kernels**0.5), float(shares), float(outputs**0.5)))
    return result
