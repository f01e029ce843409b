"""Values of elements modulo a prime at random points: proofs of independence, and quick comparisons."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kexue.maths.geometry.field.field import Field
    from kexue.maths.geometry.field.rings import Poly

__all__ = ["points_modulo"]


@lru_cache
def _prime(odd: int) -> int:
    """A prime that is 5 modulo 8 and, for each prime factor q of ``odd``, 1 modulo q but not modulo q**2."""
    from sympy import isprime

    p = (1 << 40) // (8 * odd) * (8 * odd) + 1
    while True:
        p += odd
        if p % 8 == 5 and isprime(p) and all((p - 1) % (q * q) for q in range(3, odd + 1, 2) if odd % q == 0):
            return p


def _root(number: int, n: int, p: int) -> int | None:
    """An n-th root modulo p, n prime, or None."""
    if pow(number, (p - 1) // n, p) != 1:
        return None
    if n == 2:  # p = 5 (mod 8)
        x = pow(number, (p + 3) // 8, p)
        return x if x * x % p == number else x * pow(2, (p - 1) // 4, p) % p
    return pow(number, pow(n, -1, (p - 1) // n), p)


def points_modulo(field: Field, n: int, count: int) -> Iterator[tuple[int, Callable[[Poly], int]]]:
    """Up to ``count`` points modulo a prime p = 1 (mod n) where every generator of the field has a value.

    Yields the prime and a function that evaluates polynomials of the field's present ring. No radicand vanishes at a
    point, so the field's integral elements have a value there.
    """
    ring = field.ring
    degrees = {n} | {field.generators[name].degree for name in field.radicands}
    p = _prime(prod(sorted(degrees - {2})))
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
    for _ in range(min(200_000, count << (len(roots) + 3))):
        if found == count:
            return
        values[:] = [rng.randrange(1, p) for _ in values]
        for v, degree, terms in roots:
            number = evaluate_terms(terms)
            value = _root(number, degree, p) if number else None
            if value is None:
                break
            values[v] = value
        else:
            found += 1
            yield p, lambda poly: evaluate_terms(ring.terms(poly))
