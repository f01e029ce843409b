"""From strings, numbers and SymPy expressions into the field."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry.field import kernels
from kexue.maths.geometry.field.element import Element
from kexue.maths.geometry.field.functions import special_function
from kexue.maths.geometry.field.linear import linear_relation
from kexue.maths.geometry.field.parser import parse
from kexue.maths.geometry.field.sums import adjoin_sums

if TYPE_CHECKING:
    import sympy

    from kexue.maths.geometry.field.field import Field

__all__ = ["convert_all", "convert_with", "from_any"]

_REFUSED = {
    "sign": "write it with the sign it has in your region",
    "Piecewise": "take one piece",
    "atan2": "use atan of the quotient in your region",
    "re": "coordinates are real here: write the real part out",
    "im": "coordinates are real here: write the imaginary part out",
    "conjugate": "coordinates are real here: write the conjugate out",
}


def from_any(field: Field, value: Any) -> Element:
    """One element from a string, a float, a SymPy expression or whatever ``sympify(strict=True)`` takes."""
    return convert_all(field, [value])[0]


def convert_all(field: Field, values: Sequence[Any], inverted: Collection[int] = ()) -> list[Element]:
    """Several, after looking at all their kernels."""
    expressions = [None if isinstance(v, Element) and v.field is field else _expression(field, v) for v in values]
    below = [1 / e for i, e in enumerate(expressions) if i in inverted and e]
    adjoin_sums(field, [*filter(None, expressions), *below], lambda parts: convert_all(field, parts))
    _prepare(field, [e for e in expressions if e is not None])
    converter = _Converter(field, {})
    return [v if e is None else converter.convert(e) for v, e in zip(values, expressions, strict=True)]


def convert_with(field: Field, value: Any, bound: Mapping[str, Element]) -> Element:
    """One element, where some names stand for elements."""
    expression = parse(value, tuple(bound)) if isinstance(value, str) else _expression(field, value)
    return _Converter(field, bound).convert(expression)


def _expression(field: Field, value: Any) -> sympy.Expr:
    import sympy

    if isinstance(value, Element):
        return value.to_sympy(False)
    if isinstance(value, str):
        return parse(value, (*field.coordinates, *field.parameters), None)
    if isinstance(value, Fraction):
        return sympy.Rational(value.numerator, value.denominator)
    if isinstance(value, bool):
        raise DataError(f"A number or an expression was expected, received {value!r}.")
    if isinstance(value, float):
        value = sympy.Float(value)
    try:
        expression = sympy.sympify(value, strict=True)
    except sympy.SympifyError:
        raise DataError(
            f"A number, string or SymPy expression was expected, received {type(value).__name__}."
        ) from None
    if not isinstance(expression, sympy.Expr):
        raise DataError(f"A scalar expression was expected, received {expression!r}.")
    return expression


def _prepare(field: Field, expressions: Sequence[sympy.Expr]) -> None:
    """Choose base arguments for all exponentials and angles before the first of them is made."""
    import sympy

    found: list[tuple[int, str, Any]] = []
    seen = set()
    for expression in expressions:
        for node in sympy.preorder_traversal(expression):
            kind = _kernel_kind(node)
            if kind is None or node in seen:
                continue
            seen.add(node)
            argument = node.args[0] if not isinstance(node, sympy.Pow) else node.exp * sympy.log(node.base)
            found.append((_depth(argument), kind, argument))
    if not found:
        return
    converter = _Converter(field, {})
    for depth in sorted({depth for depth, _, _ in found}):
        level = [(kind, converter.convert(argument)) for d, kind, argument in found if d == depth]
        _choose(field, "trigonometric", [u for kind, u in level if kind == "trig"], "cos")
        exponential = [u for kind, u in level if kind == "exp"]
        hyperbolic = [u for kind, u in level if kind == "hyp"]
        _choose(field, "exponential", exponential + hyperbolic, "exp" if exponential else "cosh")


def _kernel_kind(node: Any) -> str | None:
    import sympy

    if isinstance(node, sympy.exp):
        return "exp"
    if isinstance(node, sympy.Pow) and not node.exp.is_number and not isinstance(node.base, sympy.exp):
        return "exp"
    name = type(node).__name__
    if name in ("sin", "cos", "tan", "cot", "sec", "csc"):
        return "trig"
    return "hyp" if name in ("sinh", "cosh", "tanh", "coth", "sech", "csch") else None


def _depth(expression: Any) -> int:
    """How deep kernels are nested inside."""
    return max((1 + _depth(a) if _kernel_kind(a) else _depth(a) for a in expression.args), default=0)


def _choose(field: Field, family: str, arguments: Sequence[Element], kind: str) -> None:
    """Base arguments so that every given one is an integer combination, where known bases allow it."""
    pure = []
    for u in arguments:
        real, imaginary = kernels.complex_parts(u)
        for part in (real, imaginary):
            rest = kernels._pi_out(part)[1] if family == "trigonometric" and not imaginary else part
            rest = kernels._logarithms_out(rest)[1] if family == "exponential" else rest
            if rest and not imaginary:
                pure.append(rest)
    known = [base for base, _ in field.kernels[family]]
    new: list[Element] = []
    for u in sorted(pure, key=lambda e: e.size()):
        powers = linear_relation(field, u, [*known, *new])
        if powers is None:
            new.append(u)
            continue
        for k, q in enumerate(powers[len(known) :]):
            if q.denominator > 1:
                new[k] = new[k] / q.denominator
    for u in new:
        kernels.add_base(field, kind, u)


class _Converter:
    """Recursive conversion with a memory."""

    def __init__(self, field: Field, bound: Mapping[str, Element]) -> None:
        self.field = field
        self.bound = bound
        self.memory: dict[Any, Element] = {}

    def convert(self, e: Any) -> Element:
        known = self.memory.get(e)
        if known is None:
            known = self.memory[e] = self._convert(e)
        return known

    def _convert(self, e: Any) -> Element:
        import sympy

        field = self.field
        if e.is_Symbol:
            return self.bound[e.name] if e.name in self.bound else field.symbol(e.name)
        if e.is_Rational:
            return field.rational(Fraction(int(e.p), int(e.q)))
        if e.is_Float:
            return field.rational(_decimal(e))
        if e.is_Add:
            whole = self.field.values.get(("sum", e))
            if whole is not None and not self.bound:
                return whole
            return field.sum([self.convert(a) for a in e.args])
        if e.is_Mul:
            result = field.one
            for a in e.args:
                result = result * self.convert(a)
            return result
        if e.is_Pow:
            return self._power(e.base, e.exp)
        if e is sympy.I:
            return field.i
        if e is sympy.pi:
            return field.values.get("pi") or field.adjoin("constant", sympy.pi, frozenset(), "pi")
        if e is sympy.E:
            return kernels.exp(field.one)
        if isinstance(e, sympy.Derivative):
            return self._derivative(e)
        if isinstance(e, sympy.Subs):
            return self._substituted(e)
        if e in (sympy.zoo, sympy.oo, -sympy.oo, sympy.nan) or e.has(sympy.zoo, sympy.nan):
            raise DataError("The expression has no finite value (a division by zero).")
        return self._function(e)

    def _power(self, base: Any, exponent: Any) -> Element:
        import sympy

        if exponent.is_Float:
            exponent = sympy.Rational(_decimal(exponent))
        if exponent.is_Rational:
            value = self.convert(base)
            if not value and exponent <= 0:
                raise DataError(f"The expression divides by zero: {base} is zero.")
            return self.field.power(value, Fraction(int(exponent.p), int(exponent.q)))
        if base is sympy.E:
            return kernels.exp(self.convert(exponent))
        return kernels.exp(self.convert(exponent) * kernels.log(self.convert(base)))

    def _function(self, e: Any) -> Element:
        import sympy

        name = type(e).__name__
        if name == "Abs":  # the sign at the points that are looked at is told by field.assumptions
            value = self.convert(e.args[0])
            return self.field.sqrt(value * value)
        if name in kernels._ELEMENTARY:
            return kernels.elementary(name)(self.convert(e.args[0]))
        if name in _REFUSED:
            raise ConfigError(f"{name}(...) has no place in a differential field: {_REFUSED[name]}.")
        if isinstance(e, sympy.core.function.AppliedUndef):
            return self.field.function(e.func.__name__, *map(self.convert, e.args))
        if isinstance(e, sympy.Function):
            return special_function(self.field, type(e), [self.convert(a) for a in e.args])
        raise DataError(f"{type(e).__name__} is no scalar expression that can be converted: {e}.")

    def _derivative(self, e: Any) -> Element:
        variables = [(v, int(n)) for v, n in e.variable_count]
        inner = e.expr
        dummies = [v for v, _ in variables if v.name not in self.field.coordinates or v.name in self.bound]
        if dummies:  # the rule of an opaque function, in terms of its arguments
            from sympy.core.function import AppliedUndef

            if isinstance(inner, AppliedUndef):
                orders = [sum(n for v, n in variables if v == a) for a in inner.args]
                if sum(orders) == sum(n for _, n in variables):
                    arguments = map(self.convert, inner.args)
                    return self.field.function(inner.func.__name__, *arguments, orders=orders)
            if all(v.name in self.field.parameters for v in dummies):
                raise DataError(f"Derivatives are by coordinates ({', '.join(self.field.coordinates)}), received {e}.")
            raise DataError(f"The derivative {e} is by a name that is no coordinate.")
        value = self.convert(inner)
        for v, n in variables:
            for _ in range(n):
                value = self.field.diff(value, v.name)
        return value

    def _substituted(self, e: Any) -> Element:
        """Subs(Derivative(f(xi), xi), xi, u): a derivative of an unknown function at a composite argument."""
        bound = dict(self.bound) | {v.name: self.convert(u) for v, u in zip(e.variables, e.point, strict=True)}
        return _Converter(self.field, bound).convert(e.expr)


def _decimal(number: Any) -> Fraction:
    """The decimal fraction that the float prints as: 0.1 is 1/10."""
    return Fraction(repr(float(number))) if number._prec <= 53 else Fraction(str(number))
