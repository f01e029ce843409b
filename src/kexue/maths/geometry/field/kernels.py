"""exp, log, sin, cos, sinh, cosh of elements, on bases of arguments that are independent over the rational numbers.

exp(u_1), ..., exp(u_n) are algebraically independent when no rational combination of the u_i is a combination of
logarithms and constants (Ax's theorem; Risch's structure theorem). So the arguments met so far are kept as a basis over
Q. A new argument inside their span becomes a product of powers, addition formulas for angles; one outside gets a
generator. Multiples of known logarithms inside an exponential become powers, multiples of pi inside an angle numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

from kexue.errors import ConfigError
from kexue.maths.geometry.field.element import Element
from kexue.maths.geometry.field.factors import factored, positive_sign, refuse_negative
from kexue.maths.geometry.field.linear import combination, linear_relation

if TYPE_CHECKING:
    from kexue.maths.geometry.field.field import Field

__all__ = ["add_base", "cos_sin", "cosh_sinh", "elementary", "exp", "log"]

Pair = tuple[Element, Element]


def exp(u: Element) -> Element:
    """exp(u)."""
    field = u.field
    real, imaginary = complex_parts(u)
    if imaginary:
        c, s = cos_sin(imaginary)
        return exp(real) * (c + field.i * s)
    result, u = _logarithms_out(u)
    if not u:
        return result
    bases = field.kernels["exponential"]
    powers = linear_relation(field, u, [base for base, _ in bases])
    if powers is None:
        add_base(field, "exp", u)
        powers = linear_relation(field, u, [base for base, _ in bases])
        assert powers is not None
    for (base, kind), q in zip(list(bases), powers, strict=True):
        if not q:
            continue
        if kind == "exp":
            result = result * field.power(field.values["exp", base.key()], q)
        else:
            c, s = _multiple(_known_pair(field, "cosh", "sinh", base), q, 1, base)
            result = result * (c + s)
    return result


def log(u: Element) -> Element:
    """log(u) as a sum over multiplicatively independent arguments, each taken as positive.

    Raises:
        ConfigError: u is zero, or negative under the assumptions made before.
    """
    field = u.field
    if not u:
        raise ConfigError("The logarithm of zero was asked for.")
    product = factored(u)
    kernels = field.kernels["log"]
    if not product.powers and product.sign > 0:
        return field.zero
    if positive_sign(field, product, "inside log") < 0:
        raise refuse_negative(f"log({u})")
    found = combination(product.powers, [powers for powers, _ in kernels])
    if found is None:
        if len(kernels) and any(isinstance(k, tuple) and k[:1] == ("algebraic",) for k in product.powers):
            field.canonical = False  # products of conjugates may relate it to other logarithms
        if any(g.kind == "special" for g in field.generators.values()):
            field.canonical = False  # W(x) + log W(x) = log x
        element = field.adjoin("log", u, field.coordinates_of(u), ("log", u.key()))
        kernels.append((product.powers, element))
        return element
    return field.sum(element * field.rational(q) for q, (_, element) in zip(found, kernels, strict=True))


def cos_sin(u: Element) -> Pair:
    """cos(u), sin(u)."""
    field = u.field
    real, imaginary = complex_parts(u)
    if imaginary:
        (c, s), (ch, sh) = cos_sin(real), cosh_sinh(imaginary)
        return c * ch - field.i * s * sh, s * ch + field.i * c * sh
    result, u = _pi_out(u)
    return _angle(field, u, "trigonometric", result) if u else result


def cosh_sinh(u: Element) -> Pair:
    """cosh(u), sinh(u)."""
    field = u.field
    real, imaginary = complex_parts(u)
    if imaginary:
        (ch, sh), (c, s) = cosh_sinh(real), cos_sin(imaginary)
        return ch * c + field.i * sh * s, sh * c + field.i * ch * s
    if not u:
        return field.one, field.zero
    bases = field.kernels["exponential"]
    powers = linear_relation(field, u, [base for base, _ in bases])
    logarithmic = _logarithms_out(u)[1] != u
    mixed = powers is not None and any(q and kind == "exp" for q, (_, kind) in zip(powers, bases, strict=True))
    if logarithmic or mixed:
        e = exp(u)
        return (e + e.inverse()) / 2, (e - e.inverse()) / 2
    return _angle(field, u, "exponential", (field.one, field.zero))


def _angle(field: Field, u: Element, family: str, start: Pair) -> Pair:
    """Addition formulas over the basis of arguments."""
    names, sign = (("cos", "sin"), -1) if family == "trigonometric" else (("cosh", "sinh"), 1)
    bases = field.kernels[family]
    powers = linear_relation(field, u, [base for base, _ in bases])
    if powers is None:
        add_base(field, names[0], u)
        powers = linear_relation(field, u, [base for base, _ in bases])
        assert powers is not None
    result = start
    for (base, _), q in zip(list(bases), powers, strict=True):
        if q:
            result = _add_angles(result, _multiple(_known_pair(field, *names, base), q, sign, base), sign)
    return result


def add_base(field: Field, kind: str, u: Element) -> None:
    """A new base argument with its generator or pair of generators; the caller has checked independence."""
    u.lift()
    if field.ring.leading(u.num) < 0:
        u = -u
    used, key = field.coordinates_of(u), u.key()
    if any(field.generators[name].kind == "special" for name in field.generators_of(u)):
        field.canonical = False  # exp(asinh(x)), sin(2 atan(x)) are algebraic
    if kind == "exp":
        field.adjoin("exp", u, used, ("exp", key))
        field.kernels["exponential"].append((u, "exp"))
        field.positive[field.values["exp", key].key()] = 1
        return
    even, odd, family, sign = (
        ("cos", "sin", "trigonometric", -1) if kind == "cos" else ("cosh", "sinh", "exponential", 1)
    )
    c = field.adjoin(even, u, used, (even, key))
    field.positive[(c - 1).key()] = sign  # 1 - cos and cosh - 1 are positive, 1 + cos and 1 + cosh as well
    field.positive[(c + 1).key()] = 1
    radicand = (c * c - 1) * sign  # sin**2 = 1 - cos**2, sinh**2 = cosh**2 - 1
    s = field.adjoin_root(odd, u, radicand, 2, (odd, key))
    field.kernels[family].append((u, "pair"))
    field.kernels["root"].append((2, factored(radicand), s))


def _known_pair(field: Field, even: str, odd: str, base: Element) -> Pair:
    key = base.key()
    return field.values[even, key], field.values[odd, key]


def _add_angles(a: Pair, b: Pair, sign: int) -> Pair:
    return a[0] * b[0] + a[1] * b[1] * sign, a[1] * b[0] + a[0] * b[1]


def _multiple(pair: Pair, q: Fraction, sign: int, base: Element) -> Pair:
    """cos and sin, or cosh and sinh, of q times the argument.

    Raises:
        ConfigError: q needs more than halving, which is no square root.
    """
    denominator = q.denominator
    while denominator > 1:
        if denominator % 2:
            raise ConfigError(
                f"An angle of {q} times {base} cannot be expressed once {base} is in use; convert the expressions "
                f"together (Field.convert_all, or one metric), so that the smallest angle is seen first."
            )
        c = pair[0].field.sqrt((pair[0] + 1) / 2)
        pair = c, pair[1] / (c * 2)
        denominator //= 2
    n = q.numerator
    field = pair[0].field
    square = pair if n > 0 else (pair[0], -pair[1])
    n, result = abs(n), (field.one, field.zero)
    while n:
        if n & 1:
            result = _add_angles(result, square, sign)
        n >>= 1
        if n:
            square = _add_angles(square, square, sign)
    return result


def complex_parts(u: Element) -> tuple[Element, Element]:
    """Real and imaginary part, every other generator taken as real."""
    field = u.field
    known = field.values.get("i")
    if known is None:
        return u, field.zero
    u.lift()
    ring = field.ring
    v = ring.index[field.generators_of(known)[0]]
    slope = ring.diff(u.num, v)
    if not slope:
        return u, field.zero
    return field.fraction(u.num - slope * ring.gens[v], u.den), field.fraction(slope, u.den)


def _linear_coefficient(u: Element, generator: Element) -> Fraction | None:
    """The rational q with u - q * generator free of the generator, or None."""
    field = u.field
    u.lift()
    generator.lift()
    ring = field.ring
    v = ring.degrees(generator.num).index(1)
    slope = ring.diff(u.num, v)
    if not slope or ring.degrees(u.den)[v]:
        return None
    return field.fraction(slope, u.den).as_fraction()


def _logarithms_out(u: Element) -> tuple[Element, Element]:
    """exp(q log p + rest) = p**q exp(rest), and exp(W(p)) = p / W(p) for Lambert's function."""
    field = u.field
    result = field.one
    for _, element in list(field.kernels["log"]):
        q = _linear_coefficient(u, element)
        if q:
            argument = field.generators[field.generators_of(element)[0]].data
            result = result * field.power(argument, q)
            u = u - element * q
    for generator in list(field.generators.values()):
        if generator.kind == "special" and generator.data[0].__name__ == "LambertW" and len(generator.data[1]) == 1:
            argument = generator.data[1][0]
            element = field.values["special", "LambertW", (argument.key(),)]
            q = _linear_coefficient(u, element)
            if q:
                result = result * field.power(argument / element, q)
                u = u - element * q
    return result, u


def _pi_out(u: Element) -> tuple[Pair, Element]:
    """A rational multiple of pi out of an angle, as numbers."""
    field = u.field
    pi = field.values.get("pi")
    q = _linear_coefficient(u, pi) if pi is not None else None
    if not q or pi is None:
        return (field.one, field.zero), u
    import sympy

    values = []
    for function in (sympy.cos, sympy.sin):
        value = function(sympy.Rational(q.numerator, q.denominator) * sympy.pi)
        if value.atoms(sympy.Function):
            raise ConfigError(f"cos and sin of {q}*pi are not known in radicals here.")
        values.append(field(value))
    return (values[0], values[1]), u - pi * q


def _quotient(numerator: int, denominator: int, pair: Callable[[Element], Pair]) -> Callable[[Element], Element]:
    def function(u: Element) -> Element:
        values = (*pair(u), u.field.one)
        if not values[denominator]:
            raise ConfigError(f"A quotient of {pair.__name__} at {u} divides by zero.")
        return values[numerator] / values[denominator]

    return function


_ELEMENTARY: dict[str, Callable[[Element], Element]] = {
    "exp": exp,
    "log": log,
    "cos": lambda u: cos_sin(u)[0],
    "sin": lambda u: cos_sin(u)[1],
    "tan": _quotient(1, 0, cos_sin),
    "cot": _quotient(0, 1, cos_sin),
    "sec": _quotient(2, 0, cos_sin),
    "csc": _quotient(2, 1, cos_sin),
    "cosh": lambda u: cosh_sinh(u)[0],
    "sinh": lambda u: cosh_sinh(u)[1],
    "tanh": _quotient(1, 0, cosh_sinh),
    "coth": _quotient(0, 1, cosh_sinh),
    "sech": _quotient(2, 0, cosh_sinh),
    "csch": _quotient(2, 1, cosh_sinh),
}


def elementary(name: str) -> Callable[[Element], Element]:
    """An elementary function by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in _ELEMENTARY:
        raise ConfigError(f"No elementary function {name!r}: expected one of {', '.join(_ELEMENTARY)}.")
    return _ELEMENTARY[name]
