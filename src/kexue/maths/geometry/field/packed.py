"""Products and exact quotients of long polynomials without python-flint: monomials packed into integers.

A monomial of n variables becomes one integer with 16 bits an exponent, the first variable highest, so that the order of
the integers is the lexicographic one, a product of monomials is a sum, and one subtraction with guard bits tells
whether one divides another.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from struct import Struct, error

__all__ = ["Packing"]

_BITS = 16


class Packing:
    """Of the monomials of one ring.

    Args:
        width: number of variables.
    """

    def __init__(self, width: int) -> None:
        self._struct = Struct(f">{width}H")
        self._bytes = _BITS // 8 * width
        self._guard = sum(1 << (_BITS * i + _BITS - 1) for i in range(width))
        self._high = self._guard | self._guard >> 1  # exponents below 2**14 leave room for a sum and the guard

    def pack(self, monomials: Iterable[tuple[int, ...]]) -> list[int] | None:
        """One integer a monomial; None where an exponent is too large for it."""
        pack = self._struct.pack
        try:
            keys = [int.from_bytes(pack(*m), "big") for m in monomials]
        except error:
            return None
        return None if any(key & self._high for key in keys) else keys

    def unpack(self, keys: Iterable[int]) -> list[tuple[int, ...]]:
        """The monomials again."""
        take = self._struct.unpack
        return [take(key.to_bytes(self._bytes, "big")) for key in keys]

    def times(self, p: dict[int, int], q: dict[int, int]) -> dict[int, int]:
        """The product."""
        if len(p) > len(q):
            p, q = q, p
        out: dict[int, int] = {}
        get = out.get
        terms = list(q.items())
        for a, x in p.items():
            for b, y in terms:
                key = a + b
                out[key] = get(key, 0) + x * y
        return out

    def divide(self, p: dict[int, int], q: dict[int, int]) -> dict[int, int] | None:
        """The exact quotient, or None as soon as one term shows that there is none."""
        guard = self._guard
        top, least = max(q), min(q)
        lead = q[top]
        last = min(p)
        if ((last | guard) - least) & guard != guard or p[last] % q[least]:
            return None
        tail = [(m, c) for m, c in q.items() if m != top]
        rest, out = dict(p), {}
        heap = [-m for m in rest]
        heapify(heap)
        while heap:
            monomial = -heappop(heap)
            x = rest.pop(monomial, 0)
            if not x:
                continue
            if ((monomial | guard) - top) & guard != guard or x % lead:
                return None
            shift, x = monomial - top, x // lead
            out[shift] = x
            for m, c in tail:
                place = m + shift
                known = rest.get(place)
                if known is None:
                    rest[place] = -x * c
                    heappush(heap, -place)
                else:
                    rest[place] = known - x * c
        return out
