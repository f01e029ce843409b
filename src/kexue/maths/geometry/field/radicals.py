"""Roots: independent ones become generators, dependent ones are rewritten, undecided ones refused.

Square roots of rational functions generate a field extension of degree 2**k exactly when their radicands are
independent modulo squares (Kummer), that is when the vectors of their exponents of irreducible factors, -1 and the
primes among them, are independent over the field of two elements; likewise modulo n for n-th roots, n prime. So
sqrt(8) is 2 sqrt(2), and sqrt(x y) is sqrt(x) sqrt(y) once these two stand. sin and sinh count as the roots of
1 - cos**2 and cosh**2 - 1.

For a root of an expression that itself holds roots, independence is proved by points: where all generators have
values modulo a prime p = 1 (mod n) and no radicand vanishes, an n-th power has the value of an n-th power, so one
point with another value is a proof. When no point gives one, the root is rewritten or refused.

A root is the positive root of a positive quantity; what was taken as positive is written to ``field.assumptions``.
"""

from __future__ import annotations

from collections.abc import Hashable
from fractions import Fraction
from typing import TYPE_CHECKING

from kexue.errors import ConfigError
from kexue.maths.geometry.field.element import Element
from kexue.maths.geometry.field.factors import (
    Factored,
    factored,
    is_integer,
    positive_sign,
    prime_factors,
    refuse_negative,
)
from kexue.maths.geometry.field.linear import combination_mod, numerators
from kexue.maths.geometry.field.sampling import branch

if TYPE_CHECKING:
    from kexue.maths.geometry.field.field import Field
    from kexue.maths.geometry.field.rings import Poly

__all__ = ["conjugate", "power", "root"]


def power(base: Element, exponent: Fraction) -> Element:
    """base ** exponent for a rational exponent.

    Raises:
        ConfigError: the root is refused (see :func:`root`).
    """
    n = exponent.denominator
    if n == 1:
        return base**exponent.numerator
    field = base.field
    exact = base.as_fraction()
    if exact is None and base.is_zero:
        return field.zero
    if exponent.numerator not in (1, -1):
        whole = exponent.numerator // n
        rest = exponent - whole
        return base**whole * power(base, rest) if whole else power(base, Fraction(1, n)) ** exponent.numerator
    primes = prime_factors(n)
    if len(primes) == 1:
        (prime, times), result = next(iter(primes.items())), base
        for _ in range(times):
            result = root(result, prime)
        return result**exponent.numerator
    # 1/6 = 1/2 - 1/3: roots of prime order only
    prime, times = next(iter(primes.items()))
    part = prime**times
    other = n // part
    a = exponent.numerator * pow(other, -1, part) % part
    b = (exponent - Fraction(a, part)) * other
    return power(base, Fraction(a, part)) * power(base, Fraction(int(b), other))


def root(value: Element, n: int) -> Element:
    """The n-th root, n prime.

    Raises:
        ConfigError: it cannot be decided how the root depends on those in use, or an odd root is of a quantity that
            was assumed negative.
    """
    field = value.field
    if not value:
        return field.zero
    value.lift()
    ring = field.ring
    num, den = Element(field, value.num, ring), Element(field, value.den, ring)
    if value.factors:  # the root of num/den is that of num den**(n-1) over den where den is positive
        _orient(field, num, den)
        if positive_sign(field, factored(den), "denominator under a root", turned="none") < 0:
            num, den = -num, -den
    w = _polynomial_root(field, num * den ** (n - 1), n)
    return w / den


def _orient(field: Field, num: Element, den: Element) -> None:
    """Where the sign of a quotient is open, let it be positive: 1 - x > 0 for the root of 1/(1 - x), that is of
    -1/(x - 1). A sum gets its sign from this before a single name does."""
    above, below = factored(num), factored(den)
    if any(isinstance(key, tuple) and key[:1] == ("algebraic",) for key in above.powers):
        return
    whole = Factored(above.sign * below.sign)
    for part in (above, below):
        for key, e in part.powers.items():
            if not is_integer(key) and e.denominator == 1:  # roots are positive
                whole.times(key, part.values[key], e)
    odd = [key for key, e in whole.powers.items() if e.numerator % 2]
    sign = whole.sign
    for key in odd:
        sign *= field.positive.get(key, 1)
    free = [key for key in odd if key not in field.positive]
    if sign < 0 and free:
        chosen = next((key for key in free if field.ring.length(whole.values[key].num) > 1), free[0])
        field.positive[chosen] = -1
        field.assume(-whole.values[chosen], "under a root")


def _polynomial_root(field: Field, radicand: Element, n: int) -> Element:
    key = ("root", n, radicand.key())
    known = field.values.get(key)
    if known is not None:
        return known
    product = factored(radicand)
    outside = _powers_of_other_order(field, product, n)
    if outside is not None:
        result = field.values[key] = outside * root(radicand / outside**n, n)
        return result
    nested = any(isinstance(k, tuple) and k[:1] == ("algebraic",) for k in product.powers)
    nested = nested or any(power.denominator > 1 for power in product.powers.values())
    result = _nested_root(field, radicand, n) if nested else _plain_root(field, product, n)
    field.values[key] = result
    return result


def _powers_of_other_order(field: Field, product: Factored, n: int) -> Element | None:
    """What can be taken out of a root of order n of known roots of other orders: x^(p/q) = x^a (x^(b/q))^n for q and n
    without common factor. None where there is nothing."""
    outside = None
    for key, e in product.powers.items():
        q = e.denominator
        if q == 1 or q % n == 0:
            continue
        value = -product.values[key] if field.positive.get(key, 1) < 0 else product.values[key]
        part = power(value, Fraction(e.numerator * pow(n, -1, q) % q, q))
        outside = part if outside is None else outside * part
    return outside


def _plain_root(field: Field, product: Factored, n: int) -> Element:
    """Root of a polynomial without roots inside."""
    result = _root_of_product(field, product, n, new=True)
    assert result is not None
    return result


def _root_of_product(field: Field, product: Factored, n: int, new: bool) -> Element | None:
    """The same; None where it would need a new generator and ``new`` is False."""
    if n > 2 and positive_sign(field, product, f"under a root of order {n}") < 0:
        raise refuse_negative("The quantity under an odd root")
    outer, inner = Factored(), Factored(sign=product.sign if n == 2 else 1)
    orientation = 1
    for key, e in product.powers.items():
        value = product.values[key]
        if n > 2 and field.positive.get(key, 1) < 0:  # the oriented factor is the positive one
            value = -value
        if e.numerator // n:
            outer.times(key, value, Fraction(e.numerator // n))
        if e.numerator % n:
            inner.times(key, value, Fraction(e.numerator % n))
    result = field.one
    if any(not is_integer(key) for key in outer.powers) and n == 2:
        orientation = positive_sign(field, outer, "out of a square root", turned="sums")
    for key, e in outer.powers.items():
        result = result * outer.values[key] ** int(e)
    result = result * orientation
    if not inner.powers and inner.sign > 0:
        return result
    vector = _vector(inner, n)
    entries = [entry for entry in field.kernels["root"] if entry[0] == n and entry[1] is not None]
    found = combination_mod(vector, [_vector(f, n) for _, f, _ in entries], n)
    if found is None:
        return result * _new_root(field, inner, n) if new else None
    # radicand = product of known radicands to some powers, times an n-th power
    known, quotient = field.one, Factored(sign=inner.sign, powers=dict(inner.powers), values=dict(inner.values))
    for q, (_, f, w) in zip(found, entries, strict=True):
        if int(q):
            known = known * w ** int(q)
            if field.generators[field.generators_of(w)[0]].kind in ("sin", "sinh"):
                field.assume(w, "out of a square root")
            quotient.sign *= f.sign ** int(q)
            for key, e in f.powers.items():
                quotient.times(key, f.values[key], -e * int(q))  # oriented when it was made
    if quotient.sign < 0 and n == 2:
        raise AssertionError("the sign is part of the vector")
    rest = Factored(powers={k: e / n for k, e in quotient.powers.items()}, values=quotient.values)
    outside = field.one
    for key, e in rest.powers.items():
        outside = outside * rest.values[key] ** int(e)
    if n == 2:
        outside = outside * positive_sign(field, rest, "out of a square root", turned="sums")
    return result * outside * known


def _vector(product: Factored, n: int) -> dict[Hashable, int]:
    """Exponents modulo n; the sign is a coordinate of its own where it is no n-th power."""
    vector: dict[Hashable, int] = {key: int(e) % n for key, e in product.powers.items() if int(e) % n}
    if n == 2 and product.sign < 0:
        vector["sign"] = 1
    return vector


def _new_root(field: Field, inner: Factored, n: int) -> Element:
    value = field.integer(inner.sign)
    for key, e in inner.powers.items():
        value = value * inner.values[key] ** int(e)
    free = [key for key in inner.powers if not is_integer(key) and key not in field.positive]
    if n == 2 and len(free) <= 1 and field.generators_of(value) and positive_sign(field, inner, "under a root") < 0:
        return field.i * _polynomial_root(field, -value, 2)  # the principal root of what is negative
    if any(entry[1] is None for entry in field.kernels["root"]) and not _independent(field, value, n):
        return _dependent_root(field, value, n)
    return _adjoin(field, value, n, inner)


def _adjoin(field: Field, value: Element, n: int, product: Factored | None) -> Element:
    imaginary = value == -1 and n == 2
    if field.generators_of(value):
        field.assume(value, "under a root")
    key = "i" if imaginary else ("root", n, value.key())
    w = field.adjoin_root("i" if imaginary else "root", value, value, n, key)
    field.kernels["root"].append((n, product, w))
    return w


def _refuse(value: Element, n: int) -> ConfigError:
    return ConfigError(
        f"The root of order {n} of {value} seems to depend on roots already in use in a way that is not known here; "
        f"a wrong answer could follow. Rewrite the input with one of the two roots expressed by the other."
    )


def _nested_root(field: Field, radicand: Element, n: int) -> Element:
    """Root of an expression that holds roots, sin or sinh."""
    if _independent(field, radicand, n):
        return _adjoin(field, radicand, n, None)
    return _dependent_root(field, radicand, n)


def _dependent_root(field: Field, radicand: Element, n: int) -> Element:
    """Root of what no point showed to be independent: of a perfect square, or of one times a known radicand."""
    for entry in [None, *field.kernels["root"]] if n == 2 else []:
        if entry is not None and entry[0] != 2:
            continue
        before = field.assumed()
        factor = None if entry is None else entry[2]
        square = radicand if factor is None else radicand * (factor * factor)
        found = _square_root(field, square)
        if found is not None and found * found == square:
            found = found if factor is None else found / factor
            sign = branch(found, radicand)
            if sign is not None:
                found = found * (sign or 1)
                if field.generators_of(found):  # elsewhere, or on the other side of a zero, the sign may be another
                    field.assume(found, "out of a square root")
                return found
        field.assumed(before)
    raise _refuse(radicand, n)


def _square_root(field: Field, square: Element, depth: int = 5) -> Element | None:
    """The root of a perfect square with one or more roots inside, or None.

    A + B w, w**2 = P: with rho**2 = A**2 - B**2 P the root is u + B w / (2 u), u**2 = (A + rho)/2.
    """
    square.lift()
    ring = field.ring
    degrees = ring.degrees(square.num)
    names = [name for name in field.radicands if degrees[ring.index[name]]]
    if not names:
        return _root_of_product(field, factored(square), 2, new=False)
    name = names[-1]
    if field.generators[name].degree != 2 or not depth:
        return None
    v = ring.index[name]
    slope = ring.diff(square.num, v)
    w = Element(field, ring.gens[v], ring)
    a = field.fraction(square.num - slope * ring.gens[v], square.den)
    b = field.fraction(slope, square.den)
    rho = _square_root(field, a * a - b * b * Element(field, field.radicands[name], ring), depth - 1)
    if rho is None:
        return None
    for sign in (1, -1):
        half = (a + rho * sign) / 2
        if half:
            u = _square_root(field, half, depth - 1)
            if u is not None:
                return u + b * w / (u * 2)
    return None


def _independent(field: Field, value: Element, n: int, points: int = 24) -> bool:
    """Whether some point modulo a prime proves that the value is no n-th power in the field."""
    from kexue.maths.geometry.field.modular import points_modulo

    value.lift()
    for p, evaluate in points_modulo(field, n, points):
        number = evaluate(value.num)
        if number and pow(number, (p - 1) // n, p) != 1:
            return True
    return False


def conjugate(field: Field, den: Poly, variable: int, degree: int) -> Poly:
    """A polynomial c with c * den free of the generator, for a root of order above 2.

    The columns of multiplication by ``den`` in the basis 1, w, ... are solved for the first unit vector.
    """
    ring = field.ring
    parts: list[dict[tuple[int, ...], int]] = [{} for _ in range(degree)]
    for monomial, c in ring.terms(den):
        parts[monomial[variable]][(*monomial[:variable], 0, *monomial[variable + 1 :])] = c
    coefficients = [Element(field, ring.from_terms(part), ring) for part in parts]
    filled = [k for k, c in enumerate(coefficients) if c]
    if len(filled) == 1:
        return ring.gens[variable] ** (degree - filled[0])
    radicand = Element(field, field.radicands[ring.names[variable]], ring)
    rows = [
        [coefficients[i - j] if i >= j else coefficients[i - j + degree] * radicand for j in range(degree)]
        + [field.one if i == 0 else field.zero]
        for i in range(degree)
    ]
    for column in range(degree):
        pivot = next(r for r in range(column, degree) if rows[r][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        inverse = rows[column][column].inverse()
        rows[column] = [x * inverse for x in rows[column]]
        for r in range(degree):
            if r != column and rows[r][column]:
                scale = rows[r][column]
                rows[r] = [x - scale * y for x, y in zip(rows[r], rows[column], strict=True)]
    solution = [row[degree] for row in rows]
    for x in solution:
        x.lift()
    result = ring.zero
    for k, num in enumerate(numerators(field, solution)):
        result = result + num * ring.gens[variable] ** k
    return result
