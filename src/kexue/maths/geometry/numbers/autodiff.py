"""Curvature of a metric given as a program, by automatic differentiation, batched over points.

Christoffel symbols of the first kind from the first derivatives of g, the Riemann tensor from the second ones::

    R_abcd = (d_b d_c g_ad + d_a d_d g_bc - d_a d_c g_bd - d_b d_d g_ac) / 2
             + g^ef (Gamma_e,bc Gamma_f,ad - Gamma_e,bd Gamma_f,ac)

(article 3998; Misner, Thorne, Wheeler, Gravitation, 1973, exercise 14.4.) One inverse, no derivative of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry.conventions import Conventions
from kexue.maths.geometry.metric import Metric
from kexue.maths.geometry.numbers.compiled import lambdify

__all__ = ["NumericCurvature", "double_precision", "numeric_curvature"]


@dataclass(frozen=True)
class NumericCurvature:
    """Arrays over points of shape S, indices on the last axes, in coordinates.

    Attributes:
        metric: g_ab.
        inverse: g^ab.
        christoffel: Gamma^a_bc.
        riemann: R^a_bcd.
        riemann_lower: R_abcd.
        ricci: R_ab.
        scalar: R.
        einstein: G_ab.
        weyl: C^a_bcd; zero in three dimensions, None below.
        kretschmann: R_abcd R^abcd.
    """

    metric: Any
    inverse: Any
    christoffel: Any
    riemann: Any
    riemann_lower: Any
    ricci: Any
    scalar: Any
    einstein: Any
    weyl: Any
    kretschmann: Any


def numeric_curvature(
    g: Callable[..., Any] | Metric,
    points: Any,
    backend: str = "jax",
    *,
    functions: Mapping[str, Any] | None = None,
    conventions: Conventions | str | None = None,
    **parameters: Any,
) -> NumericCurvature:
    """Connection and curvature at points, by differentiating the program of the metric twice.

    Args:
        g: a function ``g(x, **parameters)`` of one point, shape (n,), that returns the (n, n) matrix, an array of the
            backend or rows of its numbers; or an exact metric.
        points: of shape S + (n,).
        backend: "jax" or "torch". Double precision on both; JAX's own setting is not changed.
        functions: where g is an exact metric: see :func:`lambdify`.
        conventions: signs, see :class:`Metric`; None takes MTW, or those of the exact metric.
        **parameters: passed to g.

    Returns:
        Arrays of the backend.

    Raises:
        ConfigError: another backend.
        DataError: a matrix of another shape, or not symmetric.

    Example:
        >>> def sphere(x, radius):
        ...     return jnp.diag(jnp.array([radius**2, radius**2 * jnp.sin(x[0]) ** 2]))
        >>> numeric_curvature(sphere, [[0.3, 1.0], [1.2, 0.0]], radius=2.0).scalar  # 2 / radius**2
    """
    if backend not in ("jax", "torch"):
        raise ConfigError(f"Automatic differentiation needs backend 'jax' or 'torch', received {backend!r}.")
    signs = Conventions.of(conventions)
    if isinstance(g, Metric):
        exact = lambdify(g, backend, functions)
        signs = g.conventions if conventions is None else signs
        program: Callable[..., Any] = exact.at
    else:
        program = g
    if backend == "torch":
        return _torch(program, points, parameters, signs)
    import jax
    import jax.numpy as jnp

    with double_precision():
        x = jnp.asarray(points, dtype=jnp.float64)
        point = jax.ShapeDtypeStruct(x.shape[-1:], x.dtype)
        _check(lambda: jax.eval_shape(lambda y: jnp.asarray(program(y, **parameters)), point).shape, x.shape)
        shape = x.shape[:-1]
        first = jnp.asarray(program(x.reshape(-1, x.shape[-1])[0], **parameters)) if x.size else None
        _symmetric(first)
        call = _compiled_jax(g if not isinstance(g, Metric) else program, signs)
        out = call(x.reshape(-1, x.shape[-1]), parameters)
        return NumericCurvature(*(None if v is None else v.reshape((*shape, *v.shape[1:])) for v in out))


@contextmanager
def double_precision() -> Iterator[None]:
    """JAX in 64 bits inside the block; its global setting stays."""
    import jax

    if hasattr(jax, "enable_x64"):
        context = jax.enable_x64(True)
    else:  # before 0.8
        from jax.experimental import enable_x64

        context = enable_x64(True)
    with context:
        yield


def _check(shape_of: Callable[[], Any], points: tuple[int, ...]) -> None:
    if not points:
        raise DataError("Points with coordinates on the last axis were expected, received one number.")
    shape = tuple(shape_of())
    if shape != (points[-1], points[-1]):
        raise DataError(
            f"g(x) must be {points[-1]} x {points[-1]} for points of {points[-1]} coordinates, got {shape}."
        )


def _symmetric(matrix: Any) -> None:
    """Looked at where the values are known, that is outside of a transformation."""
    import numpy as np

    if matrix is None or type(matrix).__name__.endswith("Tracer"):
        return
    value = np.asarray(matrix.detach().cpu() if hasattr(matrix, "detach") else matrix)
    if not np.allclose(value, value.T, rtol=1e-10, atol=1e-12, equal_nan=True):
        raise DataError(f"The metric must be symmetric; at the first point it is\n{value}")


@lru_cache(maxsize=32)
def _compiled_jax(program: Callable[..., Any], signs: Conventions) -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def at(x: Any, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        def g(y: Any) -> Any:
            return jnp.asarray(program(y, **parameters))

        first = jax.jacfwd(g)
        return _curvature(g(x), first(x), jax.jacfwd(first)(x), jnp, signs)

    return jax.jit(jax.vmap(at, in_axes=(0, None)))


def _torch(program: Callable[..., Any], points: Any, parameters: Mapping[str, Any], signs: Conventions) -> Any:
    import torch

    x = points if isinstance(points, torch.Tensor) else torch.as_tensor(points)
    x = x.to(torch.float64)

    def g(y: Any) -> Any:
        matrix = program(y, **parameters)
        if isinstance(matrix, torch.Tensor):
            return matrix
        return torch.stack([torch.stack([torch.as_tensor(v).to(y) for v in row]) for row in matrix])

    first = torch.func.jacfwd(g)
    flat = x.reshape(-1, x.shape[-1]) if x.ndim else x
    if x.ndim and not len(flat):  # as many results as points: of one point none is taken
        some = _torch(program, torch.ones((1, x.shape[-1])), parameters, signs)
        empty = {k: v if v is None else v[:0].reshape(*x.shape[:-1], *v.shape[1:]) for k, v in vars(some).items()}
        return NumericCurvature(**empty)
    if x.ndim and len(flat):
        sample = g(flat[0])
        _check(lambda: sample.shape, tuple(x.shape))
        _symmetric(sample)
    parts = [torch.func.vmap(f)(flat) for f in (g, first, torch.func.jacfwd(first))]
    value, slope, bend = (p.to(torch.float64) for p in parts)
    out = _curvature(value, slope, bend, torch, signs)
    return NumericCurvature(*(None if v is None else v.reshape((*x.shape[:-1], *v.shape[1:])) for v in out))


def _curvature(g: Any, dg: Any, ddg: Any, np: Any, signs: Conventions) -> tuple[Any, ...]:
    """From g_ab, d_c g_ab (c last), d_d d_c g_ab (d last)."""
    n = g.shape[-1]
    inverse = np.linalg.inv(g)
    sum_ = np.einsum
    first = (sum_("...cab->...cab", dg) + sum_("...cba->...cab", dg) - sum_("...abc->...cab", dg)) / 2
    gamma = sum_("...ce,...eab->...cab", inverse, first)
    second = sum_("...adcb->...abcd", ddg) + sum_("...bcda->...abcd", ddg)
    second = (second - sum_("...bdca->...abcd", ddg) - sum_("...acdb->...abcd", ddg)) / 2
    lower = second + sum_("...fbc,...fad->...abcd", gamma, first) - sum_("...fbd,...fac->...abcd", gamma, first)
    riemann = sum_("...ae,...ebcd->...abcd", inverse, lower)
    ricci = sum_("...abad->...bd", riemann)
    scalar = sum_("...ab,...ab->...", inverse, ricci)
    einstein = ricci - g * scalar[..., None, None] / 2
    mixed_pairs = sum_("...be,...aecd->...abcd", inverse, riemann)  # R^ab_cd
    kretschmann = sum_("...abcd,...cdab->...", mixed_pairs, mixed_pairs)
    weyl = None
    if n >= 3:
        schouten = (ricci - g * scalar[..., None, None] / (2 * (n - 1))) / (n - 2)
        mixed = sum_("...ae,...ec->...ac", inverse, schouten)
        unit = np.eye(n, dtype=g.dtype)
        weyl = (
            riemann
            - sum_("ac,...bd->...abcd", unit, schouten)
            + sum_("ad,...bc->...abcd", unit, schouten)
            - sum_("...ac,...bd->...abcd", mixed, g)
            + sum_("...ad,...bc->...abcd", mixed, g)
        )
        weyl = weyl * signs.riemann
    ricci_sign = signs.ricci_sign
    return (
        g,
        inverse,
        gamma,
        riemann * signs.riemann,
        lower * signs.riemann,
        ricci * ricci_sign,
        scalar * ricci_sign,
        einstein * ricci_sign,
        weyl,
        kretschmann,
    )
