"""Elements as products of irreducible factors, and which sign of a factor was taken as positive."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from dataclasses import field as member
from fractions import Fraction
from typing import TYPE_CHECKING

from kexue.errors import ConfigError
from kexue.maths.geometry.field.element import Element

if TYPE_CHECKING:
    from kexue.maths.geometry.field.field import Field

__all__ = ["Factored", "factored", "is_integer", "positive_sign", "prime_factors", "refuse_negative"]


@dataclass
class Factored:
    """``sign * product of values[key] ** powers[key]``; keys are hashable names of the irreducible factors.

    ``whole`` is the part of the powers that does not come from roots, which are positive whatever their radicand's
    leading coefficient: it decides the sign.
    """

    sign: int = 1
    powers: dict[Hashable, Fraction] = member(default_factory=dict)
    values: dict[Hashable, Element] = member(default_factory=dict)
    whole: dict[Hashable, int] = member(default_factory=dict)

    def times(self, key: Hashable, value: Element, power: Fraction) -> None:
        """Multiply by value ** power."""
        total = self.powers.get(key, Fraction(0)) + power
        self.values[key] = value
        if power.denominator == 1:
            self.whole[key] = self.whole.get(key, 0) + power.numerator
        if total:
            self.powers[key] = total
        else:
            self.powers.pop(key, None)


def is_integer(key: Hashable) -> bool:
    """Whether a factor is a prime number."""
    return isinstance(key, tuple) and key[:1] == ("integer",)


def prime_factors(n: int) -> dict[int, int]:
    """Prime factors of a positive integer.

    Raises:
        ConfigError: the number is too long to factor here.
    """
    from sympy import factorint

    if n.bit_length() > 200:
        raise ConfigError(f"A root or logarithm of an integer of {n.bit_length()} bits would have to be factored.")
    return {int(p): int(e) for p, e in factorint(n).items()}


def factored(element: Element, strip_roots: bool = True) -> Factored:
    """The irreducible factors of a non-zero element.

    Powers of single algebraic generators are taken out as fractional powers of their radicands (sin counts as the
    root of 1 - cos**2). What then still holds algebraic generators stays one factor of its own.
    """
    field = element.field
    element.lift()
    out = Factored()
    num = Element(field, element.num, field.ring)
    if strip_roots:
        num = _strip(num, out)
    ring = field.ring
    algebraic = {name for name in field.radicands if ring.degrees(num.num)[ring.index[name]]}
    if algebraic:
        _whole(num, out)
    else:
        _times_polynomial(field, num, out, 1)
    _times_polynomial(field, Element(field, element.den, ring), out, -1)
    return out


def _strip(num: Element, out: Factored) -> Element:
    """Divide by single algebraic generators as long as they divide."""
    field, ring = num.field, num.ring
    for name, radicand in list(field.radicands.items()):
        generator, v = field.generators[name], ring.index[name]
        w = ring.gens[v]
        if generator.kind == "i" or not ring.degrees(num.num)[v]:
            continue
        inner = factored(Element(field, radicand, ring))
        if any(isinstance(key, tuple) and key[:1] == ("algebraic",) for key in inner.powers):
            continue  # the root of a sum with roots stays in the product
        power = 0
        while ring.degrees(num.num)[v] and ring.gcd(num.num, w) == w:
            num = Element(field, ring.quotient(num.num, w), ring)
            power += 1
        if power:
            for key, e in inner.powers.items():
                out.times(key, inner.values[key], e * Fraction(power, generator.degree))
    return num


def _whole(num: Element, out: Factored) -> None:
    """A factor with algebraic generators, without its integer content."""
    field, ring = num.field, num.ring
    from math import gcd

    content = 0
    for _, c in ring.terms(num.num):
        content = gcd(content, c)
    if ring.leading(num.num) < 0:
        out.sign, content = -out.sign, -content
    part = Element(field, ring.quotient(num.num, ring.constant(content)), ring)
    for prime, e in prime_factors(abs(content)).items():
        out.times(("integer", prime), field.integer(prime), Fraction(e))
    out.times(("algebraic", part.key()), part, Fraction(1))


def _times_polynomial(field: Field, element: Element, out: Factored, direction: int) -> None:
    ring = field.ring
    element.lift()
    constant, factors = ring.factor(element.num)
    if constant < 0:
        out.sign = -out.sign
    for prime, e in prime_factors(abs(constant)).items():
        out.times(("integer", prime), field.integer(prime), Fraction(e * direction))
    for p, e in factors:
        part = Element(field, p, ring)
        out.times(part.key(), part, Fraction(e * direction))


def positive_sign(field: Field, product: Factored, what: str, turned: str = "all") -> int:
    """Sign of the product where every factor has the sign it was first assumed to have.

    A factor met for the first time is given the sign that makes the product positive (``turned`` is "all"; "sums":
    single names are positive; "none": sums too); what was assumed is written to ``field.assumptions``.
    """
    sign = product.sign
    free = []
    for key, power in product.powers.items():
        if is_integer(key):
            continue
        known = field.positive.get(key)
        if known is None:
            free.append((key, power))
        elif known < 0 and (power if power.denominator == 1 else product.whole.get(key, 0)) % 2:
            sign = -sign
    for key, power in free:
        turn = sign < 0 and power.denominator == 1 and power.numerator % 2 == 1
        turn = turn and (turned == "all" or (turned == "sums" and field.ring.length(product.values[key].num) > 1))
        field.positive[key] = -1 if turn else 1
        if turn:
            sign = -sign
        value = -product.values[key] if turn else product.values[key]
        field.assume(value, what)
    return sign


def refuse_negative(what: str) -> ConfigError:
    """The error for a quantity that was assumed positive before and would now have to be negative."""
    return ConfigError(
        f"{what} is negative where earlier roots and logarithms take their arguments as positive, so it lies on "
        f"another branch; write it with the opposite sign (log(1 - x), not log(x - 1), where sqrt(1 - x) stands)."
    )
