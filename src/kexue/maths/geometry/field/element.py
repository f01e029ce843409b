"""Elements of the differential field: canonical fractions of integer polynomials modulo the relations.

An element is N / (k f_1^e_1 f_2^e_2 ...): N reduced by the relations, k a positive integer, f_i irreducible
polynomials in the transcendental generators, known to the field by number and never expanded. No f_i and no factor of
k divides N. Over K = Q(transcendental generators) the monomials of the algebraic ones (sin, sinh, roots, i) are a
basis of the field, so this form is unique: equality is equality of its parts, and zero is N = 0.
"""

from __future__ import annotations

from fractions import Fraction
from math import gcd
from numbers import Number
from typing import TYPE_CHECKING, Any

from kexue.errors import ConfigError, DataError

if TYPE_CHECKING:
    import sympy

    from kexue.maths.geometry.field.field import Field
    from kexue.maths.geometry.field.rings import Poly, Ring

__all__ = ["Element", "Factors", "Scalar"]

_WORTH_DIVIDING = 8  # terms of a divisor

Factors = tuple[tuple[int, int], ...]  # (number of the factor, exponent), increasing numbers, positive exponents


class Element:
    """One exact scalar. Made by a :class:`Field`; supports ``+ - * / **`` with elements, numbers and SymPy expressions,
    ``==``, ``diff``, ``str``.

    ``num`` lives in ``ring``; when the field has grown since, it is lifted at the next use.
    """

    __slots__ = ("content", "factors", "field", "num", "ring")

    def __init__(self, field: Field, num: Poly, ring: Ring, content: int = 1, factors: Factors = ()) -> None:
        self.field = field
        self.num = num
        self.ring = ring
        self.content = content
        self.factors = factors

    def lift(self) -> None:
        """Bring the numerator into the ring the field has now; the value stays."""
        ring = self.field.ring
        if self.ring is not ring:
            self.num = ring.lift(self.num)
            self.ring = ring

    @property
    def den(self) -> Poly:
        """The denominator, expanded."""
        return self.field.expand_factors(self.content, self.factors)

    @property
    def is_polynomial(self) -> bool:
        """Whether the denominator is 1."""
        return not self.factors and self.content == 1

    # --- arithmetic ---------------------------------------------------------------------------------------------

    def _other(self, other: Any) -> Element | None:
        if isinstance(other, Element):
            if other.field is not self.field:
                raise ConfigError(
                    "Two elements of one field were expected, received elements of two different fields: convert "
                    "one of them with field(element)."
                )
            return other
        if isinstance(other, int):
            return self.field.integer(other)
        if isinstance(other, Fraction):
            return self.field.rational(other)
        if isinstance(other, Number) or hasattr(other, "free_symbols"):  # floats, numbers of NumPy, SymPy expressions
            return self.field(other)
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
        if self.factors == b.factors and self.content == b.content:
            return field.normal(self.num + b.num, self.content, self.factors)
        return field.common_sum([self, b])

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
        n1, n2 = self.num, b.num
        if not n1:
            return self
        if not n2:
            return b
        own, others = self.factors, b.factors
        content = self.content * b.content
        if own or others:
            left = dict(own)
            merged = dict(own)
            for number, e in others:
                if number in left:
                    merged[number] = left[number] + e
                else:
                    n1, rest = field.divide_out(n1, number, e)
                    if rest:
                        merged[number] = rest
            right = dict(others)
            for number, e in own:
                if number not in right:
                    n2, rest = field.divide_out(n2, number, e)
                    if rest:
                        merged[number] = rest
                    else:
                        del merged[number]
        else:
            merged = {}
        product = ring.times(n1, n2)
        num = field.reduce(product)
        if num is not product and num != product:  # the relations may have made common factors
            return field.normal(num, content, tuple(sorted(merged.items())))
        factors = tuple(sorted(merged.items())) if merged else ()
        if content != 1:
            num, content = field.cancel_content(num, content)
        return Element(field, num, ring, content, factors)

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
        if isinstance(other, int) and other:
            self.lift()
            num, content = self.field.cancel_content(self.num, self.content * abs(other))
            return Element(self.field, num if other > 0 else -num, self.ring, content, self.factors)
        b = self._other(other)
        if b is None:
            return NotImplemented
        self.lift()
        b.lift()
        if self.num and self.ring.length(b.num) > _WORTH_DIVIDING:  # where it divides, nothing need be factorised
            quotient = self.ring.divide(self.num, b.num)
            if quotient is not None:
                whole = Element(self.field, self.field.reduce(quotient), self.ring)
                top = Element(self.field, self.field.reduce(b.den), self.ring)
                return self.field.normal(whole.num, self.content, self.factors) * top
        return self * b.inverse()

    def __rtruediv__(self, other: Any) -> Element:
        b = self._other(other)
        return NotImplemented if b is None else b * self.inverse()

    def __neg__(self) -> Element:
        return Element(self.field, -self.num, self.ring, self.content, self.factors)

    def __pos__(self) -> Element:
        return self

    def __pow__(self, power: Any) -> Element:
        if not isinstance(power, (int, Fraction)):
            exponent = self._other(power)
            if exponent is None:
                return NotImplemented
            exact = exponent.as_fraction()
            if exact is None:
                from kexue.maths.geometry.field.kernels import exp, log

                return exp(exponent * log(self))
            power = exact
        if power.denominator != 1:
            return self.field.power(self, Fraction(power))
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

    def __rpow__(self, other: Any) -> Element:
        b = self._other(other)
        return NotImplemented if b is None else b**self

    # --- comparison ---------------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(self.num)

    @property
    def is_zero(self) -> bool:
        """Whether the element is zero, exactly."""
        return not self.num

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Element, Number)):
            return NotImplemented
        try:
            b = self._other(other)
        except DataError:  # infinity, not a number
            return False
        assert b is not None
        self.lift()
        b.lift()
        return self.content == b.content and self.factors == b.factors and self.num == b.num

    __hash__ = None  # type: ignore[assignment]  # the representation changes with the ring; use key()

    def key(self) -> tuple[Any, ...]:
        """A hashable name of the value, equal for equal elements however the field has grown since."""
        self.lift()
        names = self.ring.names
        terms = sorted((tuple((names[i], e) for i, e in enumerate(m) if e), c) for m, c in self.ring.terms(self.num))
        return tuple(terms), self.content, self.factors

    def as_fraction(self) -> Fraction | None:
        """The rational number, or None where the element is not one."""
        if self.factors or not self.ring.is_constant(self.num):
            return None
        return Fraction(self.ring.leading(self.num), self.content) if self.num else Fraction(0)

    # --- calculus and conversion --------------------------------------------------------------------------------

    def diff(self, coordinate: int | str) -> Element:
        """Partial derivative by a coordinate (its number or name)."""
        return self.field.diff(self, coordinate)

    def size(self) -> int:
        """Number of terms in the numerator and in the factors of the denominator."""
        lengths = (self.field.ring.length(self.field.factor_polynomial(number)) for number, _ in self.factors)
        return self.ring.length(self.num) + sum(lengths)

    def to_sympy(self, factor: bool = True) -> sympy.Expr:
        """The element as a SymPy expression, numerator and denominator factorised unless ``factor`` is False."""
        from kexue.maths.geometry.field.export import to_sympy

        return to_sympy(self, factor)

    def latex(self) -> str:
        """The element in LaTeX."""
        from kexue.maths.geometry.field.export import to_latex
        from kexue.maths.geometry.field.printing import LONG, long_latex

        return to_latex(self) if self.size() <= LONG else long_latex(self)

    def _repr_latex_(self) -> str:
        from kexue.maths.geometry.show import short_latex

        return f"$\\displaystyle {short_latex(self, 1000)}$"

    def __str__(self) -> str:
        from kexue.maths.geometry.field.printing import LONG, long_text

        return str(self.to_sympy()) if self.size() <= LONG else long_text(self)

    def __repr__(self) -> str:
        return str(self)


class Scalar(Element):
    """An element whose sign depends on conventions, which it states in ``note``."""

    __slots__ = ("note",)
    note: str

    @classmethod
    def of(cls, element: Element, note: str) -> Scalar:
        """The same value with a note."""
        element.lift()
        out = cls(element.field, element.num, element.ring, element.content, element.factors)
        out.note = note
        return out

    def _repr_latex_(self) -> str:
        from kexue.maths.geometry.show import note_latex, short_latex

        return rf"$\displaystyle {short_latex(self, 1000)} \qquad ({note_latex(self.note)})$"


def lcm(a: int, b: int) -> int:
    """Least common multiple of positive integers."""
    return a // gcd(a, b) * b
