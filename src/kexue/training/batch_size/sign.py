"""Sign-SGD, the model of Adam: the mean of a sign under noise, and the surge of the best learning rate.

Source: kexue.fm 10542; "Surge Phenomenon in Optimal Learning Rate and Batch Size Scaling", arXiv 2405.14578.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from kexue.errors import ConfigError
from kexue.training.batch_size.checks import positive, positives

__all__ = ["Surge", "interaction", "mean_field_beta", "regime", "sign_mean", "surge"]


def sign_mean(gradient: Any, sigma: Any, batch: Any, *, method: str = "erf") -> np.ndarray:
    """Mean of the sign of a batch's gradient, whose noise is Gaussian.

        E sign(g_B) = erf(g sqrt(B / 2) / sigma)                            method="erf", exact
                    ~ x / sqrt(x^2 + pi / 4),  x = g sqrt(B / 2) / sigma     method="algebraic"

    The second has the slope of the first at 0 and its limits; they differ by at most 0.1078, at x = 1.330.

    Args:
        gradient: true gradient g, any shape.
        sigma: standard deviation of one sample's gradient, positive, broadcast against it.
        batch: samples in the batch, likewise.
        method: "erf" or "algebraic".
    """
    x = np.asarray(gradient, np.float64) * np.sqrt(positives("batch", batch) / 2) / positives("sigma", sigma)
    if method == "erf":
        from scipy.special import erf  # comes with JAX; imported here because it takes a while

        return erf(x)
    if method == "algebraic":
        return x / np.sqrt(x**2 + math.pi / 4)
    raise ConfigError(f"method must be 'erf' or 'algebraic'. Received: {method!r}")


def mean_field_beta(batch: Any, kappa2: float) -> Any:
    """``beta(B) = (1 + pi kappa^2 / (2 B))^(-1/2)``: the mean sign when all ``sigma_i / |g_i|`` are ``kappa``."""
    return 1 / np.sqrt(1 + math.pi * positive("kappa2", kappa2, zero=True) / 2 / positives("batch", batch))


def interaction(gradient: Any, hessian: Any) -> float:
    """``beta_noise = sqrt(sum_i H_ii / sum_{i != j} sign(g_i g_j) H_ij)``.

    Infinite for a diagonal Hessian.

    Raises:
        ConfigError: a sum is negative. With a negative sum off the diagonal the best rate grows with the batch for
            ever, and the law of `Surge` does not apply; `optimal_rate` does.
    """
    s, h = np.sign(np.asarray(gradient, np.float64)), np.asarray(hessian, np.float64)
    diagonal = float(np.trace(h))
    rest = float(s @ (h - np.diag(np.diag(h))) @ s)
    if diagonal <= 0 or rest < 0:
        raise ConfigError(
            "beta_noise needs a Hessian with positive trace and a sum off the diagonal, sign(g_i g_j) H_ij, that is "
            f"not negative. Received: trace {diagonal:g}, sum {rest:g}. Use optimal_rate, which takes any."
        )
    return math.sqrt(diagonal / rest) if rest else math.inf


@dataclass(frozen=True)
class Surge:
    """The best learning rate of sign-SGD (and of Adam) against the batch size B.

        beta(B) = (1 + pi kappa^2 / (2 B))^(-1/2)
        eta*(B) = eta_max / (beta_noise / beta + beta / beta_noise) * 2       peak eta_max at beta = beta_noise
        dL(B)   = dL_max / (1 + B_2 / B)

    Where ``beta_noise < 1`` the rate falls again beyond ``b_noise``; otherwise it grows with the batch for ever.

    Args:
        beta_noise: how strongly coordinates act together, `interaction`; infinite when they do not: then
            ``eta* = eta_max beta``, and ``eta_max`` is the limit of large batches.
        kappa2: kappa^2, the mean of ``(sigma_i / g_i)^2``.
        eta_max: scale of the rate.
    """

    beta_noise: float
    kappa2: float
    eta_max: float = 1.0

    def __post_init__(self) -> None:
        positive("beta_noise", self.beta_noise, infinite=True)
        positive("kappa2", self.kappa2)
        positive("eta_max", self.eta_max)

    @property
    def b_2(self) -> float:
        """``B_2 = pi kappa^2 beta_n^2 / (2 (1 + beta_n^2))``: here a step gains half of what it can."""
        return math.pi * self.kappa2 / 2 / (1 / self.beta_noise**2 + 1)

    @property
    def b_noise(self) -> float | None:
        """``B_noise = pi kappa^2 beta_n^2 / (2 (1 - beta_n^2))``: the peak. None where there is none."""
        if self.beta_noise >= 1:
            return None
        return math.pi * self.kappa2 / 2 / (1 / self.beta_noise**2 - 1)

    def beta(self, batch: Any) -> Any:
        """Mean sign at this batch size."""
        return mean_field_beta(batch, self.kappa2)

    def rate(self, batch: Any) -> Any:
        """Best learning rate at this batch size."""
        beta = self.beta(batch)
        if math.isinf(self.beta_noise):
            return self.eta_max * beta
        return 2 * self.eta_max / (self.beta_noise / beta + beta / self.beta_noise)

    def gain(self, batch: Any) -> Any:
        """Loss that one step gains at the best rate, as a share of the most it can gain: ``1 / (1 + B_2 / B)``."""
        return 1 / (1 + self.b_2 / positives("batch", batch))

    def regime(self, batch: float) -> str:
        """ "past the optimum": beyond the peak of the rate; "square root": ``B <= B_2 / 4``, where the rate is within
        20 % of its limit ``~ sqrt(B)``; "saturated": ``B >= 4 B_2``, where a step gains at least 80 % of what it can;
        "transition": between.
        """
        if self.b_noise is not None and positive("batch", batch) > self.b_noise:
            return "past the optimum"
        return regime(batch, self.b_2, "square root")


def regime(batch: float, critical: float, small: str) -> str:
    """Where a batch stands against the critical one, at which a step gains half of what it can: ``small`` up to a
    quarter of it, "saturated" from four times it on (at least 80 % of the gain), "transition" between.
    """
    ratio = positive("batch", batch) / positive("critical", critical, infinite=True)
    return small if ratio <= 0.25 else "saturated" if ratio >= 4 else "transition"


def surge(beta_noise: float, kappa2: float, eta_max: float = 1.0) -> Surge:
    """The law of `Surge`.

    Example:
        >>> law = surge(0.5, 100)
        >>> round(law.b_2, 4), round(law.b_noise, 4), round(float(law.beta(law.b_noise)), 4)
        (31.4159, 52.3599, 0.5)
    """
    return Surge(float(beta_noise), float(kappa2), float(eta_max))
