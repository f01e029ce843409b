"""Denominators as products of known irreducible factors: cancelling is exact division, never a general gcd."""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd
from typing import TYPE_CHECKING, Any

from kexue.maths.geometry.field.element import Element, Factors, lcm

if TYPE_CHECKING:
    from kexue.maths.geometry.field.rings import Poly, Ring

__all__ = ["Denominators"]


class Denominators:
    """Mixed into :class:`~kexue.maths.geometry.field.field.Field`: the register of irreducible factors."""

    if TYPE_CHECKING:
        ring: Ring

        @property
        def zero(self) -> Element: ...

        def reduce(self, p: Poly) -> Poly: ...

    def _start_denominators(self) -> None:
        self._factor_polynomials: list[Poly] = []
        self._factor_numbers: dict[Any, int] = {}
        self._factor_powers: dict[tuple[int, int], Poly] = {}

    def _lift_denominators(self) -> None:
        self._factor_polynomials = [self.ring.lift(p) for p in self._factor_polynomials]
        self._factor_powers.clear()

    def factor_polynomial(self, number: int) -> Poly:
        """The irreducible polynomial of that number."""
        return self._factor_polynomials[number]

    @property
    def factor_count(self) -> int:
        """How many factors have stood in denominators so far."""
        return len(self._factor_polynomials)

    def _factor_power(self, number: int, e: int) -> Poly:
        if e == 1:
            return self._factor_polynomials[number]
        known = self._factor_powers.get((number, e))
        if known is None:
            known = self._factor_powers[number, e] = self._factor_polynomials[number] ** e
        return known

    def expand_factors(self, content: int, factors: Factors) -> Poly:
        """The product as one polynomial."""
        out = self.ring.constant(content)
        for number, e in factors:
            out = self.ring.times(out, self._factor_power(number, e))
        return out

    def _register(self, p: Poly) -> int:
        """Number of an irreducible polynomial with positive leading coefficient."""
        for number, known in enumerate(self._factor_polynomials):
            if known == p:
                return number
        self._factor_polynomials.append(p)
        return len(self._factor_polynomials) - 1

    def split(self, p: Poly) -> tuple[int, dict[int, int]]:
        """Factors of a polynomial without algebraic generators: integer with sign, numbers and exponents."""
        ring = self.ring
        found: dict[int, int] = {}
        for number, known in enumerate(self._factor_polynomials):
            if ring.is_constant(p):
                break
            quotient = ring.divide(p, known)
            while quotient is not None:
                p = quotient
                found[number] = found.get(number, 0) + 1
                quotient = ring.divide(p, known)
        if ring.is_constant(p):
            return ring.leading(p), found
        constant, factors = ring.factor(p)
        for factor, e in factors:
            found[self._register(factor)] = e
        return constant, found

    def divide_out(self, num: Poly, number: int, e: int) -> tuple[Poly, int]:
        """Divide by up to e copies of a factor; what is left of the exponent."""
        ring = self.ring
        factor = self._factor_polynomials[number]
        while e:
            quotient = ring.divide(num, factor)
            if quotient is None:
                break
            num, e = quotient, e - 1
        return num, e

    def cancel_content(self, num: Poly, content: int) -> tuple[Poly, int]:
        """Cancel the common integer factor."""
        if content == 1:
            return num, content
        ring = self.ring
        common = gcd(content, ring.content(num))
        if common == 1:
            return num, content
        return ring.quotient(num, ring.constant(common)), content // common

    def normal(self, num: Poly, content: int, factors: Factors, candidates: Iterable[int] | None = None) -> Element:
        """A reduced numerator over the factors, cancelled; only the candidates are tried where they are given."""
        if not num:
            return Element(self, num, self.ring)  # type: ignore[arg-type]
        if factors:
            tried = None if candidates is None else set(candidates)
            left = []
            for number, e in factors:
                rest = e
                if tried is None or number in tried:
                    num, rest = self.divide_out(num, number, e)
                if rest:
                    left.append((number, rest))
            factors = tuple(left)
        if content != 1:
            num, content = self.cancel_content(num, content)
        return Element(self, num, self.ring, content, factors)  # type: ignore[arg-type]

    def fraction(self, num: Poly, den: Poly) -> Element:
        """A reduced numerator over a polynomial without algebraic generators."""
        if self.ring.is_one(den):
            return Element(self, num, self.ring)  # type: ignore[arg-type]
        content, factors = self.split(den)
        if content < 0:
            num, content = -num, -content
        return self.normal(num, content, tuple(sorted(factors.items())))

    def common_sum(self, elements: list[Element]) -> Element:
        """A sum over the common denominator.

        A factor can cancel only where at least two terms have it to its highest power.
        """
        highest: dict[int, int] = {}
        times: dict[int, int] = {}
        content = 1
        for element in elements:
            content = lcm(content, element.content)
            for number, e in element.factors:
                known = highest.get(number, 0)
                if e > known:
                    highest[number], times[number] = e, 1
                elif e == known:
                    times[number] += 1
        total: Any = None
        for element in elements:
            num = element.num
            own = dict(element.factors)
            for number, e in highest.items():
                missing = e - own.get(number, 0)
                if missing:
                    num = self.ring.times(num, self._factor_power(number, missing))
            if element.content != content:
                num = num * (content // element.content)
            total = num if total is None else total + num
        candidates = [number for number, count in times.items() if count > 1]
        return self.normal(total, content, tuple(sorted(highest.items())), candidates)

    def sum(self, elements: Iterable[Element]) -> Element:
        """A sum; terms with one denominator are added first, then all over the common denominator."""
        groups: dict[tuple[int, Factors], Element] = {}
        merged: set[tuple[int, Factors]] = set()
        ring = self.ring
        for element in elements:
            if element.ring is not ring:
                element.lift()
            if not element.num:
                continue
            key = (element.content, element.factors)
            known = groups.get(key)
            if known is None:
                groups[key] = element
            else:
                merged.add(key)
                groups[key] = Element(element.field, known.num + element.num, ring, *key)
        for key in merged:  # what cancels inside a group lowers the common denominator
            groups[key] = self.normal(groups[key].num, *key)
        parts = [element for element in groups.values() if element.num]
        if len(parts) > 1:
            return self.common_sum(parts)
        return parts[0] if parts else self.zero
