"""Values of elements modulo a prime at random points: proofs of independence, and quick comparisons."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kexue.maths.geometry.field.element import Element
    from kexue.maths.geometry.field.field import Field
    from kexue.maths.geometry.field.rings import Poly

__all__ = ["PointModulo", "points_modulo", "prepare_slopes", "rank_modulo"]


_PRIMES = 48  # roots of numbers have one value modulo a prime, so several primes take turns
_TWOS = (5, 2, 3, 1, 4)  # so often does 2 divide p - 1: nested roots need many, 2 is no square where it is 1 or 2


@lru_cache
def _prime(odd: int, count: int) -> int:
    """Number ``count`` of the primes that are used: for each prime factor q of ``odd``, 1 modulo q but not q**2."""
    from sympy import isprime

    step = odd << _TWOS[count % len(_TWOS)]
    t = ((1 << 40) // step + (count << 10)) | 1
    while not (isprime(step * t + 1) and all(t % q for q in range(3, odd + 1, 2) if odd % q == 0)):
        t += 2
    return step * t + 1


@lru_cache(maxsize=1024)
def _sylow(n: int, p: int) -> tuple[int, int, dict[int, int]]:
    """Of the elements of order n**k modulo p: 1/n modulo the rest of p - 1, a generator, and logarithms to it."""
    rest = p - 1
    while rest % n == 0:
        rest //= n
    other = next(c for c in range(2, p) if pow(c, (p - 1) // n, p) != 1)
    generator = pow(other, rest, p)
    return pow(n, -1, rest), generator, {pow(generator, k, p): k for k in range((p - 1) // rest)}


def _root(number: int, n: int, p: int, rng: random.Random) -> int | None:
    """One of the n-th roots modulo p, n prime, or None."""
    if pow(number, (p - 1) // n, p) != 1:
        return None
    inverse, generator, logarithms = _sylow(n, p)
    w = pow(number, inverse, p)
    k = logarithms[number * pow(w, -n, p) % p] // n + len(logarithms) // n * rng.randrange(n)
    return w * pow(generator, k, p) % p


def points_modulo(field: Field, n: int, count: int) -> Iterator[tuple[int, Callable[[Poly], int]]]:
    """Up to ``count`` points modulo primes p = 1 (mod n) where every generator of the field has a value.

    Yields the prime and a function that evaluates polynomials of the field's present ring. No radicand vanishes at a
    point, so the field's integral elements have a value there.
    """
    ring = field.ring
    degrees = {n} | {field.generators[name].degree for name in field.radicands}
    odd = prod(sorted(degrees - {2}))
    p = 0
    rng = random.Random(20161111)
    roots = [(ring.index[name], field.generators[name].degree, ring.terms(q)) for name, q in field.radicands.items()]
    values = [0] * len(ring.names)

    def evaluate_terms(terms: list[tuple[tuple[int, ...], int]]) -> int:
        total = 0
        for monomial, c in terms:
            term = c
            for value, e in zip(values, monomial, strict=True):
                if e:
                    term = term * (value if e == 1 else pow(value, e, p)) % p
            total += term
        return total % p

    found = 0
    for turn in range(min(200_000, 8 * count * prod(degree for _, degree, _ in roots))):
        if found == count:
            return
        p = _prime(odd, turn % _PRIMES)
        values[:] = [rng.randrange(1, p) for _ in values]
        for v, degree, terms in roots:
            number = evaluate_terms(terms)
            value = _root(number, degree, p, rng) if number else None
            if value is None:
                break
            values[v] = value
        else:
            found += 1
            yield p, lambda poly: evaluate_terms(ring.terms(poly))


class PointModulo:
    """A point modulo a prime: values of elements there, and of their partial derivatives without a formula for these.

    Args:
        field: the field; it must not grow while the point is in use, so :func:`prepare_slopes` comes first.
        p: the prime.
        value: evaluates polynomials.
    """

    def __init__(self, field: Field, p: int, value: Callable[[Poly], int]) -> None:
        self.p = p
        self._field = field
        self._x = [value(generator) for generator in field.ring.gens]
        self._powers: dict[tuple[int, int], int] = {}
        self._slopes: list[dict[int, int]] | None = None
        self._factors: dict[int, tuple[int, dict[int, int]]] = {}

    def value(self, element: Element) -> int:
        """The value; ZeroDivisionError where there is none."""
        return self._quotient(element, False)[0]

    def gradient(self, element: Element) -> tuple[int, dict[int, int]]:
        """The value, and the partial derivatives by numbers of coordinates."""
        if self._slopes is None:
            ring, generators = self._field.ring, self._field.generators
            self._slopes = [{} for _ in ring.names]
            for k, name in enumerate(ring.names):
                for i in generators[name].coordinates:
                    rule = self._field._derivatives.get((name, i))
                    if rule is not None:  # of x^e it is x^e times e x'/x
                        self._slopes[k][i] = self.value(rule) * pow(self._x[k], -1, self.p) % self.p
        return self._quotient(element, True)

    def _quotient(self, element: Element, slopes: bool) -> tuple[int, dict[int, int]]:
        p, ring = self.p, self._field.ring
        top, moving = self._polynomial(ring.terms(element.num), slopes)
        den = element.content
        logarithmic: dict[int, int] = {}
        for number, e in element.factors:
            if number not in self._factors or slopes:
                terms = ring.terms(self._field.factor_polynomial(number))
                self._factors[number] = self._polynomial(terms, slopes)
            value, turn = self._factors[number]
            if not value:
                raise ZeroDivisionError
            den = den * pow(value, e, p) % p
            for i, t in turn.items():
                logarithmic[i] = (logarithmic.get(i, 0) + e * t * pow(value, -1, p)) % p
        inverse = pow(den, -1, p)
        out = top * inverse % p
        directions = {*moving, *logarithmic} if slopes else ()
        return out, {i: (moving.get(i, 0) * inverse - out * logarithmic.get(i, 0)) % p for i in directions}

    def _polynomial(self, terms: list[tuple[tuple[int, ...], int]], slopes: bool) -> tuple[int, dict[int, int]]:
        p, x, powers = self.p, self._x, self._powers
        total = 0
        moving: dict[int, int] = {}
        for monomial, term in terms:
            used = [(k, e) for k, e in enumerate(monomial) if e]
            for key in used:
                power = powers.get(key)
                if power is None:
                    power = powers[key] = pow(x[key[0]], key[1], p)
                term = term * power % p  # noqa: PLW2901
            total += term
            if slopes:
                assert self._slopes is not None
                for k, e in used:
                    for i, slope in self._slopes[k].items():
                        moving[i] = (moving.get(i, 0) + term * e * slope) % p
        return total % p, moving


def prepare_slopes(field: Field, elements: Sequence[Element]) -> None:
    """Have the derivatives of all generators in the elements, which may bring new ones into the field."""
    from kexue.maths.geometry.field.functions import derivative_of

    for name in {name for element in elements for name in field.generators_of(element)}:
        for i in field.generators[name].coordinates:
            if (name, i) not in field._derivatives:
                field._derivatives[name, i] = derivative_of(field, field.generators[name], i)
    for rule in field._derivatives.values():
        rule.lift()


def rank_modulo(rows: Sequence[dict[int, int]], p: int) -> int:
    """Rank of a matrix modulo p, its rows as ``{column: value}``."""
    pivots: dict[int, dict[int, int]] = {}
    for given in rows:
        row = {k: v for k, v in given.items() if v}
        while row:
            column = min(row)
            pivot = pivots.get(column)
            if pivot is None:
                scale = pow(row[column], -1, p)
                pivots[column] = {k: v * scale % p for k, v in row.items()}
                break
            scale = row[column]
            for k, v in pivot.items():
                x = (row.get(k, 0) - scale * v) % p
                if x:
                    row[k] = x
                else:
                    row.pop(k, None)
    return len(pivots)
