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
