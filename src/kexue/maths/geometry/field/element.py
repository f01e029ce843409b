"""Elements of the differential field: canonical fractions of integer polynomials modulo the relations.

An element is N / D. D is free of algebraic generators (sin, sinh, roots, i), N is reduced by their monic relations,
gcd(N, D) = 1 and the leading coefficient of D is positive. Over K = Q(transcendental generators) the monomials of the
algebraic ones are a basis of the field, so N / D is unique: equality is equality of N and D, and zero is N = 0.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from kexue.errors import ConfigError

if TYPE_CHECKING:
    import sympy

    from kexue.maths.geometry.field.field import Field
    from kexue.maths.geometry.field.rings import Poly, Ring

__all__ = ["Element"]


class Element:
    """One exact scalar. Made by a :class:`Field`; supports ``+ - * / **``, ``==``, ``diff``, ``str``.

    ``num`` and ``den`` live in ``ring``; when the field has grown since, they are lifted at the next use.
    """

    __slots__ = ("den", "field", "num", "ring")

    def __init__(self, field: Field, num: Poly, den: Poly, ring: Ring) -> None:
        self.field = field
        self.num = num
        self.den = den
        self.ring = ring

    def lift(self) -> None:
        """Bring the polynomials into the ring the field has now; the value stays."""
        ring = self.field.ring
        if self.ring is not ring:
            self.num = ring.lift(self.num)
            self.den = ring.lift(self.den)
            self.ring = ring

    # --- arithmetic ---------------------------------------------------------------------------------------------

    def _other(self, other: Any) -> Element | None:
        if isinstance(other, Element):
            if other.field is not self.field:
                raise ConfigError(
                    "Two elements of one field were expected, received elements of two different fields: convert "
                    "one of them with field(str(element))."
                )
            return other
        if isinstance(other, int):
            return self.field.integer(other)
        if isinstance(other, Fraction):
            return self.field.rational(other)
        return None

    def __add__(self, other: Any) -> Element:
        b = self._other(other)
        if b is None:
            return NotImplemented
        field = self.field
        ring = field.ring
        if self.ring is not ring:
            self.lift()
        if b.ring is not ring:
            b.lift()
        if not self.num:
            return b
        if not b.num:
            return self
        p, q = self.den, b.den
        if p == q:
            return field.fraction(self.num + b.num, p)
        if ring.is_one(p):
            return Element(field, self.num * q + b.num, q, ring)
        if ring.is_one(q):
            return Element(field, self.num + b.num * p, p, ring)
        g = ring.gcd(p, q)
        if ring.is_one(g):  # nothing can cancel (Henrici)
            return Element(field, self.num * q + b.num * p, p * q, ring)
        p_g = ring.quotient(p, g)
        num = self.num * ring.quotient(q, g) + b.num * p_g
        if not num:
            return field.zero
        h = ring.gcd(num, g)
        if ring.is_one(h):
            return Element(field, num, p_g * q, ring)
        return field.fraction_signed(ring.quotient(num, h), p_g * ring.quotient(q, h))

    def __mul__(self, other: Any) -> Element:
        b = self._other(other)
        if b is None:
            return NotImplemented
        field = self.field
        ring = field.ring
        if self.ring is not ring:
            self.lift()
        if b.ring is not ring:
            b.lift()
        n1, n2, p, q = self.num, b.num, self.den, b.den
        if not n1 or not n2:
            return field.zero
        if not ring.is_one(q):
            g = ring.gcd(n1, q)
            if not ring.is_one(g):
                n1, q = ring.quotient(n1, g), ring.quotient(q, g)
        if not ring.is_one(p):
            g = ring.gcd(n2, p)
            if not ring.is_one(g):
                n2, p = ring.quotient(n2, g), ring.quotient(p, g)
        product = n1 * n2
        den = p * q
        num = field.reduce(product)
        if num is not product and num != product:  # the relations may have made a common factor
            return field.fraction(num, den)
        return field.fraction_signed(num, den)

    def inverse(self) -> Element:
        """1 / self.

        Raises:
            ZeroDivisionError: the element is zero.
        """
        self.lift()
        field = self.field
        if not self.num:
            raise ZeroDivisionError("division by zero in the differential field")
        num, den = field.rationalise(self.den, self.num)
        return field.fraction(num, den)

    def __sub__(self, other: Any) -> Element:
        b = self._other(other)
        return NotImplemented if b is None else self + (-b)

    def __rsub__(self, other: Any) -> Element:
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Element:
        b = self._other(other)
        return NotImplemented if b is None else self * b.inverse()

    def __rtruediv__(self, other: Any) -> Element:
        b = self._other(other)
        return NotImplemented if b is None else b * self.inverse()

    def __neg__(self) -> Element:
        return Element(self.field, -self.num, self.den, self.ring)

    def __pos__(self) -> Element:
        return self

    def __pow__(self, power: int | Fraction) -> Element:
        if isinstance(power, Fraction) and power.denominator != 1:
            return self.field.power(self, power)
        n = int(power)
        base = self if n >= 0 else self.inverse()
        n = abs(n)
        result = self.field.one
        while n:
            if n & 1:
                result = result * base
            n >>= 1
            if n:
                base = base * base
        return result

    # --- comparison ---------------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(self.num)

    @property
    def is_zero(self) -> bool:
        """Whether the element is zero, exactly."""
        return not self.num

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Element, int, Fraction)):
            return NotImplemented
        b = self._other(other)
        assert b is not None
        self.lift()
        b.lift()
        return self.num == b.num and self.den == b.den

    __hash__ = None  # type: ignore[assignment]  # the representation changes with the ring; use key()

    def key(self) -> tuple[Any, ...]:
        """A hashable name of the value, equal for equal elements however the field has grown since."""
        self.lift()
        names = self.ring.names

        def part(p: Poly) -> tuple[Any, ...]:
            return tuple(sorted((tuple((names[i], e) for i, e in enumerate(m) if e), c) for m, c in self.ring.terms(p)))

        return part(self.num), part(self.den)

    def as_fraction(self) -> Fraction | None:
        """The rational number, or None where the element is not one."""
        ring = self.ring
        if not ring.is_constant(self.num) or not ring.is_constant(self.den):
            return None
        return Fraction(ring.leading(self.num), ring.leading(self.den)) if self.num else Fraction(0)

    # --- calculus and conversion --------------------------------------------------------------------------------

    def diff(self, coordinate: int | str) -> Element:
        """Partial derivative by a coordinate (its number or name)."""
        return self.field.diff(self, coordinate)

    def size(self) -> int:
        """Number of terms in numerator and denominator."""
        return self.ring.length(self.num) + self.ring.length(self.den)

    def to_sympy(self, factor: bool = True) -> sympy.Expr:
        """The element as a SymPy expression, numerator and denominator factorised unless ``factor`` is False."""
        from kexue.maths.geometry.field.export import to_sympy

        return to_sympy(self, factor)

    def latex(self) -> str:
        """The element in LaTeX."""
        from kexue.maths.geometry.field.export import to_latex

        return to_latex(self)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def __str__(self) -> str:
        return str(self.to_sympy())

    def __repr__(self) -> str:
        return str(self)
