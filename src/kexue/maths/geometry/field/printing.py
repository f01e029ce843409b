"""Long elements as text and LaTeX, straight from their polynomials: SymPy's printers take seconds for 10,000 terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kexue.maths.geometry.field.element import Element
from kexue.maths.geometry.field.export import generator_sympy, product_form

if TYPE_CHECKING:
    from kexue.maths.geometry.field.rings import Poly

__all__ = ["LONG", "long_latex", "long_text"]

LONG = 120  # terms; shorter elements are shown by SymPy


def long_text(element: Element) -> str:
    """The element as a line of text that :class:`Field` reads again."""
    above, below = _factors(element, _Text())
    top = "*".join(above) or "1"
    if not below:
        return top
    return f"{top}/{below[0]}" if len(below) == 1 and "*" not in _outside(below[0]) else f"{top}/({'*'.join(below)})"


def long_latex(element: Element) -> str:
    """The element in LaTeX."""
    above, below = _factors(element, _Latex())
    sign, top = ("- ", above[1:]) if above and above[0] == "-1" else ("", above)
    if not below:
        return sign + (" ".join(top) or "1")
    return rf"{sign}\frac{{{' '.join(top) or '1'}}}{{{' '.join(below)}}}"


def _outside(text: str) -> str:
    """Without what stands in brackets."""
    out, depth = [], 0
    for c in text:
        depth += (c == "(") - (c == ")")
        if not depth:
            out.append(c)
    return "".join(out).replace("**", "^")


class _Text:
    product = "*"

    def name(self, value: object) -> str:
        text = str(value)
        atom = not text.startswith("(") and all(c.isalnum() or c in "_)" for c in _outside(text))
        return text if atom else f"({text})"

    def power(self, base: str, e: int) -> str:
        return base if e == 1 else f"{base}**{e}"

    def bracketed(self, text: str) -> str:
        return f"({text})"


class _Latex(_Text):
    product = " "

    def name(self, value: object) -> str:
        import sympy

        text = sympy.latex(value)
        return text if getattr(value, "is_Symbol", False) else rf"\left({text}\right)"

    def power(self, base: str, e: int) -> str:
        return base if e == 1 else f"{{{base}}}^{{{e}}}"

    def bracketed(self, text: str) -> str:
        return rf"\left({text}\right)"


def _factors(element: Element, style: _Text) -> tuple[list[str], list[str]]:
    """Factors of the numerator and of the denominator."""
    field, ring = element.field, element.field.ring
    constant, powers, roots = product_form(element)
    names = [""] * len(ring.names)

    def name(v: int) -> str:
        names[v] = names[v] or style.name(generator_sympy(field, field.generators[ring.names[v]]))
        return names[v]

    def monomial(exponents: Sequence[int]) -> list[str]:
        return [style.power(name(v), e) for v, e in enumerate(exponents) if e]

    def polynomial(p: Poly) -> tuple[str, bool]:
        terms = ring.terms(p)
        parts = []
        for exponents, c in terms:
            factors = monomial(exponents)
            if abs(c) != 1 or not factors:
                factors.insert(0, str(abs(c)))
            parts.append((" - " if c < 0 else " + ") + style.product.join(factors))
        text = "".join(parts)
        text = text[3:] if text.startswith(" + ") else "-" + text[3:]
        return text, len(terms) > 1

    above: list[str] = []
    below: list[str] = []
    for p, e in powers:
        text, several = polynomial(p)
        (above if e > 0 else below).append(style.power(style.bracketed(text) if several else text, abs(e)))
    for root, e in roots:
        (above if e > 0 else below).append(style.power(name(ring.index[root]), abs(e)))
    if abs(constant.numerator) != 1:
        above.insert(0, str(constant.numerator))
    elif constant < 0:
        above.insert(0, "-1")
    if constant.denominator != 1:
        below.insert(0, str(constant.denominator))
    return above, below
