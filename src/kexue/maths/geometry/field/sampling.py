"""Values of elements at random real points: which branch a rewritten root has."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kexue.maths.geometry.field.element import Element
    from kexue.maths.geometry.field.field import Field

_DIGITS = 50  # expanded polynomials near their zeros lose many

__all__ = ["Point", "branch", "points"]


class Point:
    """A real point: every name and every unknown function has a value, all other generators follow from these.

    Args:
        field: the field.
        values: of coordinates and parameters by name; unknown functions and their derivatives get random values.
    """

    def __init__(self, field: Field, values: Mapping[str, Any], rng: random.Random) -> None:
        self.field = field
        self._names = values
        self._rng = rng
        self._known: dict[str, Any] = {}

    def generator(self, name: str) -> Any:
        """Value of one generator, roots and logarithms on their principal branch."""
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._value(name)
        return known

    def _value(self, name: str) -> Any:
        import mpmath

        g = self.field.generators[name]
        if g.kind in ("coordinate", "parameter"):
            return mpmath.mpf(self._names[g.data])
        if g.kind in ("sin", "cos", "sinh", "cosh", "exp", "log"):
            return getattr(mpmath, g.kind)(self(g.data))
        if g.kind == "root":
            return mpmath.root(self(g.data), g.degree)
        if g.kind == "i":
            return mpmath.mpc(0, 1)
        if g.kind == "constant":
            return mpmath.mpmathify(g.data.evalf(_DIGITS))
        if g.kind == "sum":
            return self(g.data.written_out())
        if g.kind == "special":
            function, arguments = g.data
            return mpmath.mpmathify(function(*map(self, arguments)).evalf(_DIGITS))
        return mpmath.mpf(self._rng.uniform(0.2, 2))

    def __call__(self, element: Element) -> Any:
        """Value of an element, a complex number of mpmath."""
        import mpmath

        with mpmath.workdps(_DIGITS):
            return mpmath.mpc(self._evaluate(element))

    def _evaluate(self, element: Element) -> Any:
        import mpmath

        element.lift()
        ring = element.ring

        def value(p: Any) -> Any:
            total = mpmath.mpf(0)
            for monomial, c in ring.terms(p):
                term = mpmath.mpf(c)
                for name, e in zip(ring.names, monomial, strict=True):
                    if e:
                        term *= self.generator(name) ** e
                total += term
            return total

        return value(element.num) / value(element.den)


def points(field: Field, tries: int = 400) -> Iterator[Point]:
    """Random real points where everything that was taken as positive is positive."""
    rng = random.Random(20161016)
    names = (*field.coordinates, *field.parameters)
    for attempt in range(tries):
        low = -2.0 if attempt % 2 else 0.05
        point = Point(field, {name: rng.uniform(low, 2.5) for name in names}, rng)
        try:
            if all(abs(v.imag) < 1e-9 * abs(v) and v.real > 1e-6 for v in map(point, field.positives)):
                yield point
        except (ArithmeticError, ValueError):
            continue


def branch(candidate: Element, radicand: Element) -> int | None:
    """1 or -1, so that the candidate times it is the principal square root; None where no sign fits everywhere."""
    found: set[int] = set()
    for count, point in enumerate(points(candidate.field), 1):
        value, wanted = point(candidate), point(radicand) ** 0.5
        size = 1e-6 * abs(wanted)
        fits = {sign for sign in (1, -1) if abs(value * sign - wanted) <= size}
        if len(fits) != 1:
            return None
        found |= fits
        if count == 12:
            break
    if not found:
        return None
    return found.pop() if len(found) == 1 else 0
