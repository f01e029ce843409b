"""Sums of several roots, such as ``1 + m1/r1 + m2/r2`` of two black holes, as generators of their own.

The inverse of a sum A + m B of k independent square roots has a denominator free of roots only after 2**k conjugates,
and its powers, which curvature is full of, fill pages. Where m is a constant on which A and B do not depend, the field
Q(..., m) is also Q(..., U) for U = A + m B: U takes the place of m as a transcendental generator, m is (U - A)/B, and
``dU = dA + m dB``. Nothing is lost: both are the same field, so the form of an element in U is as canonical as that
in m, and 1/U is the inverse of one generator. Results are shown and computed with numbers in m where that is shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sympy

    from kexue.maths.geometry.field.element import Element
    from kexue.maths.geometry.field.field import Field

__all__ = ["RootSum", "adjoin_sums", "with_constants"]

_ROOTS = 2  # of one root there are only two conjugates
_LONGEST = 2000  # terms of what is rewritten to be shown
_POWERS = 8  # of a sum that are multiplied out


class RootSum(NamedTuple):
    """``rest + constant * slope``: what a generator of the kind "sum" stands for."""

    constant: Element  # a generator that stands in no element but those of with_constants
    rest: Element
    slope: Element
    shown: sympy.Expr

    def written_out(self) -> Element:
        """The sum with the constant, whose place it has taken."""
        return self.rest + self.constant * self.slope


def adjoin_sums(
    field: Field, expressions: Sequence[sympy.Expr], convert: Callable[[Sequence[sympy.Expr]], list[Element]]
) -> None:
    """Make generators of the sums of several roots of which powers stand in the expressions.

    Args:
        field: the field.
        expressions: what is about to be converted.
        convert: how the parts of a sum are converted.
    """
    import sympy

    sums = _powered_sums(expressions)
    outside = _names_outside(expressions, sums) if sums else set()
    for base in sums:
        name = _parameter(field, base, outside)
        if name is None:
            continue
        symbol = sympy.Symbol(name)
        slope = base.diff(symbol)
        rest, by = convert([base.xreplace({symbol: sympy.Integer(0)}), slope])
        if not by:
            continue
        coordinates = field.coordinates_of(rest) | field.coordinates_of(by)
        constant = field.adjoin("parameter", name, frozenset(), ("replaced", name))
        element = field.adjoin("sum", RootSum(constant, rest, by, base), coordinates, ("sum", base))
        field.values["symbol", name] = (element - rest) / by


def with_constants(element: Element) -> Element:
    """The element with the constants whose place sums have taken, where its numerator gets shorter by that.

    The value is the same, the form is not the canonical one.
    """
    from kexue.maths.geometry.field.element import Element

    field = element.field
    for generator in [g for g in field.generators.values() if g.kind == "sum"]:
        element.lift()
        ring = field.ring
        v = ring.index[generator.name]
        powers: dict[int, dict[tuple[int, ...], int]] = {}
        if ring.length(element.num) > _LONGEST:
            return element
        for monomial, c in ring.terms(element.num):
            powers.setdefault(monomial[v], {})[(*monomial[:v], 0, *monomial[v + 1 :])] = c
        if not powers or not 0 < max(powers) - min(powers) <= _POWERS:
            continue
        whole = generator.data.written_out()
        out = field.zero
        for e in range(max(powers), min(powers) - 1, -1):
            out = out * whole + Element(field, ring.from_terms(powers.get(e, {})), ring)
        rest = Element(field, ring.gens[v] ** min(powers), ring, element.content, element.factors)
        other = out * rest
        if ring.length(other.num) < ring.length(element.num):
            element = other
    return element


def _roots(expression: sympy.Expr) -> set[sympy.Expr]:
    """What stands under the roots in an expression."""
    import sympy

    return {
        power.base
        for power in expression.atoms(sympy.Pow)
        if power.exp.is_Rational and not power.exp.is_Integer and power.base.free_symbols
    }


def _powered_sums(expressions: Sequence[sympy.Expr]) -> list[sympy.Expr]:
    """Sums of several roots that are raised to a power, shortest first."""
    import sympy

    found = {
        power.base
        for expression in expressions
        for power in expression.atoms(sympy.Pow)
        if power.base.is_Add and power.exp.is_Rational and len(_roots(power.base)) >= _ROOTS
    }
    return sorted(found, key=lambda base: (base.count_ops(), str(base)))


def _names_outside(expressions: Sequence[sympy.Expr], sums: Sequence[sympy.Expr]) -> set[str]:
    """Names that stand outside of the sums: a constant that is in use there is better kept as it is."""
    import sympy

    dummies = {base: sympy.Dummy() for base in sums}
    left = [expression.xreplace(dummies) for expression in expressions]
    return {symbol.name for expression in left for symbol in expression.free_symbols if symbol not in dummies.values()}


def _parameter(field: Field, base: sympy.Expr, used: set[str]) -> str | None:
    """The constant to be replaced: one in which the sum is linear, with the simplest coefficient."""
    choices = []
    for symbol in base.free_symbols:
        name = symbol.name
        if name in used or name in field.coordinates or ("symbol", name) in field.values or not field.allows(name):
            continue
        slope = base.diff(symbol)
        if slope and symbol not in slope.free_symbols:
            choices.append((len(_roots(slope)), slope.count_ops(), name))
    return min(choices)[2] if choices else None
