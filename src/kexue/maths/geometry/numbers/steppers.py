"""Integrators of ``y' = f(y)``: Gauss-Legendre collocation (symplectic) and Dormand-Prince 8(5,3) for many rays.

States are arrays of shape (2n, ...): n coordinates, then n momenta, any shape of rays behind.

Gauss-Legendre with k stages has order 2k, is symplectic, and conserves every invariant that is quadratic with constant
coefficients (Hairer, Lubich, Wanner, Geometric Numerical Integration, 2006, IV.2 and VI.4). Stages are iterated to
rounding, sums are compensated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from kexue.errors import ConfigError

__all__ = ["AdaptiveStepper", "gauss_jax", "gauss_numpy", "gauss_step", "gauss_tableau"]

Slope = Callable[..., Any]
_MOST_ITERATIONS = 60
_CONVERGED = 1e-10  # relative change of the stages; it may grow before it falls


@lru_cache(maxsize=16)
def gauss_tableau(stages: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A, b and the matrix that continues the stages of one step as a first guess for the next.

    Raises:
        ConfigError: not 1 to 8 stages.
    """
    if not 1 <= stages <= 8:
        raise ConfigError(f"1 to 8 stages were expected, received {stages}.")
    nodes, weights = np.polynomial.legendre.leggauss(stages)
    c, b = (nodes + 1) / 2, weights / 2
    powers = np.arange(stages)
    lagrange = np.linalg.inv(c[:, None] ** powers)  # coefficients of the Lagrange polynomials, by columns
    A = (c[:, None] ** (powers + 1) / (powers + 1)) @ lagrange
    ahead = ((c[:, None] + 1) ** powers) @ lagrange
    return A, b, ahead


def _stages(f: Slope, y: Any, h: Any, A: np.ndarray, k: Any) -> tuple[Any, Any]:
    """Stage slopes by fixed-point iteration, until the change is small and no longer falls; and which rays converged.

    ``y``: (2n, rays), ``k``: (2n, stages, rays), ``h``: number or (rays,).
    """
    last = np.full(y.shape[1], np.inf)
    for _ in range(_MOST_ITERATIONS):
        new = f(y[:, None] + h * np.einsum("ij,djr->dir", A, k))
        change = np.max(np.abs(h * (new - k)) / (1 + np.abs(y[:, None])), axis=(0, 1))
        k = new
        if not np.any((change > 1e-15) & ((change < last) | (change > _CONVERGED)) & np.isfinite(change)):
            break
        last = change
    return k, change < _CONVERGED


def gauss_step(f: Slope, y: np.ndarray, h: Any, stages: int = 5, parts: int = 1) -> np.ndarray:
    """A step of size h, a number or one a ray, in equal parts; NaN where the stages do not converge."""
    A, b, _ = gauss_tableau(stages)
    shape = y.shape
    flat = y.reshape(len(y), -1)
    step = np.broadcast_to(np.asarray(h, float), shape[1:]).reshape(-1) / parts
    with np.errstate(all="ignore"):
        for _ in range(parts):
            k, good = _stages(f, flat, step, A, np.repeat(f(flat)[:, None], stages, 1))
            flat = np.where(good, flat + step * np.einsum("i,dir->dr", b, k), np.nan)
    return flat.reshape(shape)


def gauss_numpy(f: Slope, y: np.ndarray, h: float, steps: int, every: int, stages: int) -> np.ndarray:
    """States after 0, every, 2 every ... steps."""
    A, b, ahead = gauss_tableau(stages)
    flat = y.reshape(len(y), -1)
    rest = np.zeros_like(flat)
    k = np.repeat(f(flat)[:, None], stages, 1)
    out = [flat]
    with np.errstate(all="ignore"):
        for i in range(1, steps + 1):
            k, good = _stages(f, flat, h, A, k)
            step = h * np.einsum("i,dir->dr", b, k) + rest
            new = flat + np.where(good, step, np.nan)
            rest = step - (new - flat)
            flat = new
            if i % every == 0:
                out.append(flat)
            k = np.einsum("ij,djr->dir", ahead, k)
    return np.stack(out).reshape(len(out), *y.shape)


def gauss_jax(f: Slope, stages: int) -> Callable[..., Any]:
    """The same compiled: ``(y, parameters, h, blocks, every)`` with f(y, parameters); to be called in 64 bits."""
    import jax
    import jax.numpy as jnp

    A, b, ahead = gauss_tableau(stages)

    def run(y: Any, parameters: Sequence[Any], h: Any, blocks: int, every: int) -> Any:
        tableau, weights, forward = jnp.asarray(A), jnp.asarray(b), jnp.asarray(ahead)

        def one(carry: Any, _: Any) -> tuple[Any, None]:
            y, rest, guess = carry

            def running(state: Any) -> Any:
                _, change, last, count = state
                better = (change > 1e-15) & ((change < last) | (change > _CONVERGED)) & jnp.isfinite(change)
                return (count < 2) | (jnp.any(better) & (count < _MOST_ITERATIONS))

            def iterate(state: Any) -> Any:
                k, change, _, count = state
                new = f(y[:, None] + h * jnp.einsum("ij,djr->dir", tableau, k), parameters)
                turn = jnp.max(jnp.abs(h * (new - k)) / (1 + jnp.abs(y[:, None])), axis=(0, 1))
                return new, turn, change, count + 1

            none = jnp.full(y.shape[1], jnp.inf)  # the first two iterations are always made
            k, change, _, _ = jax.lax.while_loop(running, iterate, (guess, none, none, 0))
            step = h * jnp.einsum("i,dir->dr", weights, k) + rest
            new = y + jnp.where(change < _CONVERGED, step, jnp.nan)
            return (new, step - (new - y), jnp.einsum("ij,djr->dir", forward, k)), None

        def block(carry: Any, _: Any) -> tuple[Any, Any]:
            carry, _ = jax.lax.scan(one, carry, None, length=every)
            return carry, carry[0]

        guess = jnp.repeat(f(y, parameters)[:, None], stages, 1)
        _, out = jax.lax.scan(block, (y, jnp.zeros_like(y), guess), None, length=blocks)
        return jnp.concatenate([y[None], out])

    return jax.jit(run, static_argnums=(3, 4))


class AdaptiveStepper:
    """Dormand-Prince 8(5,3) (Hairer, Norsett, Wanner, Solving ODEs I, II.5), a step size of its own for each ray.

    Coefficients and error estimate are those of ``scipy.integrate.DOP853``.
    """

    def __init__(self, f: Slope, s: np.ndarray, y: np.ndarray, end: np.ndarray, rtol: float, atol: float) -> None:
        from scipy.integrate import DOP853

        self._A, self._B = DOP853.A, DOP853.B
        self._E3, self._E5 = DOP853.E3, DOP853.E5
        self._f, self._rtol, self._atol = f, rtol, atol
        self.s, self.y, self.end = s.copy(), y.copy(), end
        self.slope = f(y)
        self.direction = np.sign(end - s)
        self.h = self._first_step()
        self.failed = ~np.all(np.isfinite(self.slope), axis=0)

    def _first_step(self) -> np.ndarray:
        scale = self._atol + self._rtol * np.abs(self.y)
        d0 = np.sqrt(np.mean((self.y / scale) ** 2, axis=0))
        d1 = np.sqrt(np.mean((self.slope / scale) ** 2, axis=0))
        with np.errstate(all="ignore"):
            h = np.where((d0 > 1e-5) & (d1 > 1e-5), 0.01 * d0 / d1, 1e-6)
        return np.minimum(h, np.abs(self.end - self.s))

    def step(self, rays: np.ndarray) -> np.ndarray:
        """Try one step on the rays with these numbers; returns which of them moved on."""
        y, slope = self.y[:, rays], self.slope[:, rays]
        left = np.abs(self.end[rays] - self.s[rays])
        size = np.minimum(self.h[rays], left)
        h = size * self.direction[rays]
        k = np.empty((13, *y.shape))
        k[0] = slope
        with np.errstate(all="ignore"):
            for i in range(1, 12):
                k[i] = self._f(y + h * np.tensordot(self._A[i, :i], k[:i], 1))
            new = y + h * np.tensordot(self._B, k[:12], 1)
            k[12] = self._f(new)
            scale = self._atol + self._rtol * np.maximum(np.abs(y), np.abs(new))
            e5 = np.sum((np.tensordot(self._E5, k, 1) / scale) ** 2, axis=0)
            e3 = np.sum((np.tensordot(self._E3, k, 1) / scale) ** 2, axis=0)
            error = size * e5 / np.sqrt((e5 + 0.01 * e3) * len(y))
            error = np.where((e5 == 0) & (e3 == 0), 0.0, error)
            factor = np.where(error > 0, 0.9 * error ** (-1 / 8), 10.0)
        factor = np.where(np.isfinite(factor), np.clip(factor, 0.2, 10.0), 0.2)
        good = np.isfinite(error) & (error < 1)
        moved = rays[good]
        self.y[:, moved], self.slope[:, moved] = new[:, good], k[12][:, good]
        self.s[moved] = np.where(size[good] == left[good], self.end[moved], self.s[moved] + h[good])
        self.h[rays] = size * np.where(good, factor, np.minimum(factor, 1.0))
        floor = 10 * np.abs(np.nextafter(self.s[rays], np.inf) - self.s[rays])
        self.failed[rays] |= ~good & (self.h[rays] < floor)
        return good
