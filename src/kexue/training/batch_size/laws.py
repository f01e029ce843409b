"""How the best learning rate depends on the batch size: rules of thumb, and the optimum on a quadratic loss.

Source: kexue.fm 10542; arXiv 1404.5997 (square root), 1706.02677 (linear), 1812.06162 (SGD's optimum, and the guess
for Adam), 2405.14578 (sign-SGD and Adam).
"""

import math
from typing import Any

import numpy as np

from kexue.errors import ConfigError
from kexue.training.batch_size.checks import positive
from kexue.training.batch_size.sign import Surge, sign_mean

__all__ = ["RULES", "loss_gain", "moments", "optimal_rate", "scale_learning_rate"]

RULES = ("sqrt", "linear", "sgd_opt", "adam_opt", "openai_adam")


def scale_learning_rate(
    lr0: float,
    B0: float,
    B: float,
    rule: str = "sqrt",
    *,
    noise_scale: float | None = None,
    kappa2: float | None = None,
    beta_noise: float = math.inf,
    alpha: float | None = None,
) -> float:
    """The learning rate at batch size B, when ``lr0`` is the best at ``B0``.

        "sqrt"          lr0 sqrt(B / B0)
        "linear"        lr0 B / B0
        "sgd_opt"       lr0 (1 + N / B0) / (1 + N / B)              N = noise_scale ~ tr Sigma / |g|^2
        "openai_adam"   lr0 ((1 + N / B0) / (1 + N / B))^alpha      a guess, 1/2 < alpha < 1
        "adam_opt"      lr0 eta*(B) / eta*(B0)                      the law of `Surge`

    Args:
        lr0: rate that is known to be good.
        B0: its batch size.
        B: the batch size wanted.
        rule: one of the names above.
        noise_scale: of "sgd_opt" and "openai_adam".
        kappa2: of "adam_opt".
        beta_noise: of "adam_opt"; infinite (the rate never falls) unless known.
        alpha: of "openai_adam".

    Raises:
        ConfigError: a number is not positive, the rule is unknown, or one that it needs is missing.
    """
    lr0, B0, B = positive("lr0", lr0), positive("B0", B0), positive("B", B)
    if rule == "sqrt":
        return lr0 * math.sqrt(B / B0)
    if rule == "linear":
        return lr0 * B / B0
    if rule in ("sgd_opt", "openai_adam"):
        if noise_scale is None:
            raise ConfigError(f"rule {rule!r} needs noise_scale. Measure it with NoiseScale or measure_noise_scale.")
        noise = positive("noise_scale", noise_scale, zero=True)
        factor = (1 + noise / B0) / (1 + noise / B)
        if rule == "sgd_opt":
            return lr0 * factor
        if alpha is None or not 0.5 <= alpha <= 1:
            raise ConfigError(f"rule 'openai_adam' needs alpha between 0.5 and 1. Received: {alpha!r}")
        return lr0 * factor**alpha
    if rule == "adam_opt":
        if kappa2 is None:
            raise ConfigError("rule 'adam_opt' needs kappa2. Measure it with NoiseScale or measure_noise_scale.")
        law = Surge(beta_noise, kappa2)
        return lr0 * float(law.rate(B) / law.rate(B0))
    raise ConfigError(f"rule must be one of {', '.join(RULES)}. Received: {rule!r}")


def moments(gradient: Any, hessian: Any, covariance: Any, batch: float, method: str) -> tuple[float, float]:
    """``E[update] . g`` and ``E[update . H update]`` on a quadratic loss; arguments as of `optimal_rate`.

    Raises:
        ConfigError: a shape does not fit, or the method is unknown.
    """
    g, h, cov = (np.asarray(x, np.float64) for x in (gradient, hessian, covariance))
    batch = positive("batch", batch)
    n = g.size
    if g.ndim != 1 or h.shape != (n, n) or cov.shape not in {(n,), (n, n)}:
        raise ConfigError(
            "expected gradient (n,), hessian (n, n), covariance (n, n) or its diagonal (n,). "
            f"Received: {g.shape}, {h.shape}, {cov.shape}"
        )
    if method == "sgd":
        noise = float(np.diag(h) @ cov) if cov.ndim == 1 else float(np.sum(cov * h))
        return float(g @ g), float(g @ h @ g) + noise / batch
    if method not in ("sign", "sign_algebraic"):
        raise ConfigError(f"method must be 'sgd', 'sign' or 'sign_algebraic'. Received: {method!r}")
    sigma = np.sqrt(cov if cov.ndim == 1 else np.diag(cov))
    mu = sign_mean(g, sigma, batch, method="erf" if method == "sign" else "algebraic")
    return float(mu @ g), float(np.trace(h)) + float(mu @ h @ mu) - float(np.diag(h) @ mu**2)


def optimal_rate(gradient: Any, hessian: Any, covariance: Any, batch: float, *, method: str = "sgd") -> float:
    """The learning rate with the least expected loss after one step, on a quadratic loss.

        SGD:        eta* = g.g / (g.H g + tr(Sigma H) / B)
        sign-SGD:   eta* = sum_i mu_i g_i / (sum_i H_ii + sum_{i != j} mu_i mu_j H_ij),   mu = `sign_mean`

    The second supposes that the noise of different coordinates is independent.

    Args:
        gradient: g (n,).
        hessian: H (n, n).
        covariance: of one sample's gradient, Sigma (n, n), or its diagonal (n,).
        batch: samples in the batch, B.
        method: "sgd", "sign", or "sign_algebraic" with the algebraic stand-in for erf.

    Returns:
        eta*; infinite where the curvature along the update is not positive.
    """
    along, curvature = moments(gradient, hessian, covariance, batch, method)
    return along / curvature if curvature > 0 else math.inf


def loss_gain(gradient: Any, hessian: Any, covariance: Any, batch: float, *, method: str = "sgd") -> float:
    """Expected fall of a quadratic loss in one step at the best rate; arguments as of `optimal_rate`.

    SGD: ``(g.g)^2 / (2 g.H g) / (1 + N / B)``, ``N = tr(Sigma H) / g.H g``; sign-SGD likewise from its moments.
    """
    along, curvature = moments(gradient, hessian, covariance, batch, method)
    return along**2 / (2 * curvature) if curvature > 0 else math.inf
