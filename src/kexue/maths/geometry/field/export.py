"""From the field to SymPy and LaTeX."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from kexue.maths.geometry.field.element import Element
from kexue.maths.geometry.field.sums import with_constants

if TYPE_CHECKING:
    import sympy

    from kexue.maths.geometry.field.field import Field, Generator
    from kexue.maths.geometry.field.rings import Poly

__all__ = ["generator_sympy", "product_form", "to_latex", "to_sympy"]

_FACTORED_UP_TO = {"flint": 3000, "sympy": 40}  # terms; of longer polynomials only easy factors are taken out


def generator_sympy(field: Field, generator: Generator) -> sympy.Expr:
    """A generator as SymPy shows it."""
    import sympy

    shown = field.values.setdefault("shown", {})  # type: ignore[arg-type]
    known = shown.get(generator.name)  # type: ignore[attr-defined]
    if known is not None:
        return known
    data = generator.data
    if generator.kind in ("coordinate", "parameter"):
        value = sympy.Symbol(data)
    elif generator.kind == "constant":
        value = data
    elif generator.kind == "i":
        value = sympy.I
    elif generator.kind in ("sin", "cos", "sinh", "cosh", "exp", "log"):
        value = getattr(sympy, generator.kind)(to_sympy(data))
    elif generator.kind == "root":
        value = to_sympy(data) ** sympy.Rational(1, generator.degree)
    elif generator.kind == "sum":
        value = data.shown
    elif generator.kind == "special":
        function, arguments = data
        value = function(*map(to_sympy, arguments))
    else:
        value = _jet(*data)
    shown[generator.name] = value  # type: ignore[index]
    return value


def _jet(name: str, arguments: tuple[Element, ...], orders: tuple[int, ...]) -> sympy.Expr:
    import sympy

    shown = [to_sympy(u) for u in arguments]
    function = sympy.Function(name)
    if not any(orders):
        return function(*shown)
    plain = all(u.is_Symbol for u in shown) and len(set(shown)) == len(shown)
    places = shown if plain else [sympy.Dummy(f"xi_{j + 1}") for j in range(len(shown))]
    value = sympy.Derivative(function(*places), *[(v, n) for v, n in zip(places, orders, strict=True) if n])
    return value if plain else sympy.Subs(value, tuple(places), tuple(shown))


def to_sympy(element: Element, factor: bool = True) -> sympy.Expr:
    """The element as a SymPy expression."""
    import sympy

    element = with_constants(element) if factor else element
    element.lift()
    field, ring = element.field, element.ring
    used = set(field.generators_of(element))
    if factor:
        used |= {name for _, name in _pairs(field, used)}
    symbols: list[Any] = [generator_sympy(field, field.generators[n]) if n in used else None for n in ring.names]
    if not element.num:
        return sympy.Integer(0)
    if not factor:
        den = [_expanded(field, field.factor_polynomial(number), symbols) ** -e for number, e in element.factors]
        return _expanded(field, element.num, symbols) * sympy.Mul(sympy.Rational(1, element.content), *den)
    constant, powers, roots = _factorised(element)
    parts = [sympy.Rational(constant.numerator, constant.denominator)]
    parts += [symbols[ring.index[root]] ** e for root, e in roots]
    parts += [_expanded(field, p, symbols) ** e for p, e in powers]
    return sympy.Mul(*parts)


def product_form(
    element: Element, longest: int | None = None
) -> tuple[Fraction, list[tuple[Poly, int]], list[tuple[str, int]]]:
    """A non-zero element as a rational number times powers of polynomials times even powers of sines.

    (cos - 1) (cos + 1) becomes a square of the sine, likewise cosh and sinh; the sines are given by their variables.

    Args:
        element: the element.
        longest: numerators of more terms are not factorised; None takes what is fit for showing.
    """
    return _factorised(with_constants(element), longest)


def _factorised(
    element: Element, longest: int | None = None
) -> tuple[Fraction, list[tuple[Poly, int]], list[tuple[str, int]]]:
    element.lift()
    field = element.field
    below = [(field.factor_polynomial(number), -e) for number, e in element.factors]
    top, above = _shown_factors(field, element.num, longest)
    constant = Fraction(top, element.content)
    used = set(field.generators_of(element))
    used |= {name for _, name in _pairs(field, used)}
    powers, roots = [(p, e) for p, e in above] + below, []
    for square, root in _pairs(field, used):
        powers, exponent = _gather(field, powers, square)
        if exponent:
            roots.append((root, 2 * exponent[0]))
            constant *= exponent[1]
    return constant, powers, roots


def _shown_factors(field: Field, p: Poly, longest: int | None = None) -> tuple[int, list[tuple[Poly, int]]]:
    """Factors that stand in denominators, and those of the rest as far as they are cheap."""
    ring = field.ring
    longest = _FACTORED_UP_TO[field.backend] if longest is None else min(longest, _FACTORED_UP_TO[field.backend])
    if ring.length(p) <= longest:
        return ring.factor(p, longest)
    content = ring.content(p)
    p = ring.quotient(p, ring.constant(content))
    out = []
    for factor in [*ring.gens, *(field.factor_polynomial(k) for k in range(field.factor_count))]:
        e, quotient = 0, ring.divide(p, factor)
        while quotient is not None:
            p, e = quotient, e + 1
            quotient = ring.divide(p, factor)
        if e:
            out.append((factor, e))
    return content, [*out, (p, 1)]


def _pairs(field: Field, used: set[str]) -> list[tuple[Poly, str]]:
    """(cos, sin) and (cosh, sinh): the variable of the first, which is in use, and the name of the second."""
    out = []
    for generator in list(field.generators.values()):
        if generator.kind in ("sin", "sinh"):
            partner = {"sin": "cos", "sinh": "cosh"}[generator.kind]
            c = field.values[partner, generator.data.key()]
            c.lift()
            if used.isdisjoint(field.generators_of(c)):
                continue
            out.append((c.num, generator.name))
    return out


def _gather(
    field: Field, powers: list[tuple[Poly, int]], c: Poly
) -> tuple[list[tuple[Poly, int]], tuple[int, int] | None]:
    """(c - 1)**k (c + 1)**k as sin**(2 k), with the sign this brings."""
    minus = next((k for k, (p, _) in enumerate(powers) if p == c - 1), None)
    plus = next((k for k, (p, _) in enumerate(powers) if p == c + 1), None)
    if minus is None or plus is None:
        return powers, None
    a, b = powers[minus][1], powers[plus][1]
    if a * b < 0:
        return powers, None
    k = min(a, b) if a > 0 else max(a, b)
    rest = [pair for j, pair in enumerate(powers) if j not in (minus, plus)]
    rest += [(p, e) for p, e in ((powers[minus][0], a - k), (powers[plus][0], b - k)) if e]
    trigonometric = any(
        g.kind == "cos" and field.ring.gens[field.ring.index[g.name]] == c for g in field.generators.values()
    )
    return rest, (k, (-1) ** (k % 2) if trigonometric else 1)


def _expanded(field: Field, p: Poly, symbols: list[Any]) -> sympy.Expr:
    import sympy

    return sympy.Add(
        *[
            sympy.Mul(sympy.Integer(c), *[s**e for s, e in zip(symbols, monomial, strict=True) if e])
            for monomial, c in field.ring.terms(p)
        ]
    )


def to_latex(element: Element) -> str:
    """The element in LaTeX."""
    import sympy

    return sympy.latex(to_sympy(element))
