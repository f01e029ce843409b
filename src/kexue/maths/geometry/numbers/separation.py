"""Killing tensors of separable metrics: Carter's constant for everything that has one in its coordinates.

Where ``S g^ab = A^ab(u) + B^ab(v)`` with ``S = S_u(u) + S_v(v)``, u and v the only coordinates in the metric,
``K^ab = B^ab - S_v g^ab`` is a Killing tensor: ``K^ab p_a p_b`` is constant along geodesics (B. Carter, 1968). With
B and S_v normalised to vanish at the equator (at 0 for other coordinates) it is, for Kerr, Carter's
``Q = p_theta^2 + cos(theta)^2 (L^2/sin(theta)^2 - a^2 (E^2 - mu^2))``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kexue.maths.geometry.field import Element
from kexue.maths.geometry.tensors import SYMMETRIC, Tensor

if TYPE_CHECKING:
    from kexue.maths.geometry.metric import Metric

__all__ = ["is_killing_tensor", "killing_tensor"]


def killing_tensor(metric: Metric) -> Tensor | None:
    """K^ab with upper indices in coordinates, checked exactly, or None where the coordinates do not separate so."""
    frame, field = metric.coordinate_frame, metric.field
    inverse = [(a, b, x) for a, row in enumerate(frame.inverse_rows) for b, x in row if b >= a]
    used = frozenset().union(*(field.coordinates_of(x) for _, _, x in inverse))
    if len(used) != 2:
        return None
    u, v = _order(metric, *sorted(used))
    for scale in _scales(metric, u, v):
        products = [(a, b, scale * x) for a, b, x in inverse]
        if any(field.diff(field.diff(x, u), v) for _, _, x in [*products, (0, 0, scale)]):
            continue
        for equator in _equators(metric, v):
            s_v = _rest(scale, v, equator)
            # p_v stands in B alone
            split = [x if v in (a, b) else _rest(x, v, equator) for a, b, x in products]
            if s_v is None or any(x is None for x in split):
                continue
            values: dict[tuple[int, ...], Element] = {}
            for (a, b, x), part in zip(inverse, split, strict=True):
                assert part is not None
                values[a, b] = values[b, a] = part - s_v * x
            tensor = Tensor(frame, "uu", values, SYMMETRIC, "K")
            if not tensor.is_zero and is_killing_tensor(metric, tensor):
                return tensor
    return None


def is_killing_tensor(metric: Metric, tensor: Tensor) -> bool:
    """Whether ``nabla_(c K_ab)`` vanishes, exactly."""
    lower = tensor.with_variance("d" * tensor.rank)
    return metric.coordinate_connection.covariant_derivative(lower).symmetrize().is_zero


def _order(metric: Metric, first: int, second: int) -> tuple[int, int]:
    """The angle, of which sines and cosines stand in the metric, comes second."""
    return (second, first) if first in _angles(metric) and second not in _angles(metric) else (first, second)


def _angles(metric: Metric) -> set[int]:
    return set().union(
        *(
            g.coordinates
            for g in metric.field.generators.values()
            if g.kind in ("sin", "cos") and len(g.coordinates) == 1
        )
    )


def _equators(metric: Metric, v: int) -> list[object]:
    """Where B and S_v are made to vanish; the second choice where something is singular at the first."""
    import sympy

    return [sympy.pi / 2, sympy.pi / 4] if v in _angles(metric) else [sympy.Integer(0), sympy.Integer(1)]


def _scales(metric: Metric, u: int, v: int) -> list[Element]:
    """What S may be: 1, the metric's entries of u and v, factors of denominators of the inverse metric."""
    field, frame = metric.field, metric.coordinate_frame
    numbers = {n for row in frame.inverse_rows for _, x in row for n, _ in x.factors}
    rows = frame._metric()
    own = [rows[k][k] for k in (v, u) if rows[k][k]]
    return [field.one, *own, *(Element(field, field.factor_polynomial(n), field.ring) for n in sorted(numbers))]


def _rest(value: Element, v: int, equator: object) -> Element | None:
    """The part that depends on v, zero at the equator: the value less its value there; None where that is singular."""
    import sympy

    field = value.field
    if v not in field.coordinates_of(value):
        return field.zero
    there = value.to_sympy(False).subs(sympy.Symbol(field.coordinates[v]), equator)
    if there.has(sympy.nan, sympy.zoo, sympy.oo):
        return None
    return value - field(there)
