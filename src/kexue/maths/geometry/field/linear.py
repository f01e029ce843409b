"""Small exact linear algebra: over Q, modulo a prime, and Q-linear relations between elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kexue.maths.geometry.field.element import Element
    from kexue.maths.geometry.field.field import Field
    from kexue.maths.geometry.field.rings import Poly

__all__ = ["combination", "combination_mod", "linear_relation", "numerators"]


def combination(target: Mapping[Any, Fraction], vectors: Sequence[Mapping[Any, Fraction]]) -> list[Fraction] | None:
    """Rational q with ``target = sum q_i vectors_i`` for sparse independent vectors, or None."""
    return _solve(target, vectors, Fraction, lambda x: 1 / x)


def combination_mod(target: Mapping[Any, int], vectors: Sequence[Mapping[Any, int]], prime: int) -> list[int] | None:
    """The same over the field with ``prime`` elements."""

    class Residue(int):
        def __new__(cls, value: int) -> Residue:
            return super().__new__(cls, int(value) % prime)

        def __add__(self, other: int) -> Residue:
            return Residue(int(self) + int(other))

        def __sub__(self, other: int) -> Residue:
            return Residue(int(self) - int(other))

        def __mul__(self, other: int) -> Residue:
            return Residue(int(self) * int(other))

    return _solve(target, vectors, Residue, lambda x: Residue(pow(int(x), -1, prime)))


def _solve(target: Mapping[Any, Any], vectors: Sequence[Mapping[Any, Any]], make: Any, invert: Any) -> Any:
    keys = list(dict.fromkeys([*target, *(key for vector in vectors for key in vector)]))
    width = len(vectors)
    rows = [[make(v.get(key, 0)) for v in vectors] + [make(target.get(key, 0))] for key in keys]
    pivot_of: list[int] = []
    row = 0
    for column in range(width):
        pivot = next((r for r in range(row, len(rows)) if rows[r][column]), None)
        if pivot is None:
            return None if any(target.values()) else [make(0)] * width
        rows[row], rows[pivot] = rows[pivot], rows[row]
        factor = invert(rows[row][column])
        rows[row] = [x * factor for x in rows[row]]
        for r in range(len(rows)):
            if r != row and rows[r][column]:
                scale = rows[r][column]
                rows[r] = [x - scale * y for x, y in zip(rows[r], rows[row], strict=True)]
        pivot_of.append(row)
        row += 1
    if any(r[width] for r in rows[row:]):
        return None
    return [rows[r][width] for r in pivot_of]


def numerators(field: Field, elements: Sequence[Element]) -> list[Poly]:
    """Numerators over the common denominator."""
    ring = field.ring
    dens = [element.den for element in elements]
    common = ring.one
    for den in dens:
        common = common * ring.quotient(den, ring.gcd(common, den))
    return [e.num * ring.quotient(common, den) for e, den in zip(elements, dens, strict=True)]


def linear_relation(field: Field, target: Element, basis: Sequence[Element]) -> list[Fraction] | None:
    """Rational q with ``target = sum q_i basis_i`` for Q-independent elements, or None."""
    ring = field.ring
    every = [target, *basis]
    for element in every:
        element.lift()
    nums = numerators(field, every)
    vectors = [{m: Fraction(c) for m, c in ring.terms(num)} for num in nums]
    return combination(vectors[0], vectors[1:])
