"""Derivatives of generators; unknown functions (jets) and opaque functions with registered derivative rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kexue.errors import ConfigError, DataError

if TYPE_CHECKING:
    from kexue.maths.geometry.field.element import Element
    from kexue.maths.geometry.field.field import Field, Generator

__all__ = ["OpaqueFunction", "derivative_of", "jet", "known_opaque", "register"]


@dataclass(frozen=True)
class OpaqueFunction:
    """A function known by its derivatives only.

    Bessel's, as a pair that is closed under differentiation, so that the zero test stays exact::

        OpaqueFunction("J0", "u", ["-J1(u)"])
        OpaqueFunction("J1", "u", ["J0(u) - J1(u)/u"])

    Attributes:
        name: what it is called in expressions.
        arguments: names of its arguments (one string, or a sequence).
        derivatives: for each argument the partial derivative, an expression in the arguments and in unknown or opaque
            functions of them.
    """

    name: str
    arguments: str | Sequence[str]
    derivatives: Sequence[Any]

    def __post_init__(self) -> None:
        names = self.names
        if isinstance(self.derivatives, str) or len(self.derivatives) != len(names):
            raise ConfigError(
                f"The function {self.name!r} has {len(names)} arguments and needs a sequence of as many derivatives, "
                f"received {self.derivatives!r}."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arguments."""
        given = self.arguments
        return tuple(given.replace(",", " ").split()) if isinstance(given, str) else tuple(given)


_REGISTERED: dict[str, OpaqueFunction] = {}


def register(name: str, arguments: str | Sequence[str], derivatives: Sequence[Any]) -> OpaqueFunction:
    """Make an opaque function known to all fields made from now on."""
    function = OpaqueFunction(name, arguments, derivatives)
    _REGISTERED[name] = function
    return function


def known_opaque() -> dict[str, OpaqueFunction]:
    """The registered functions by name."""
    return dict(_REGISTERED)


def jet(field: Field, name: str, arguments: Sequence[Element], orders: tuple[int, ...]) -> Element:
    """A generator for the derivative of the given orders of an unknown or opaque function.

    Raises:
        DataError: the numbers of arguments and orders differ, or an opaque function is called with another number.
    """
    if len(orders) != len(arguments) or not arguments:
        raise DataError(f"{name} needs one order of differentiation an argument, received {orders}.")
    arity = ("arity", name)
    if field.values.setdefault(arity, len(arguments)) != len(arguments):  # type: ignore[arg-type]
        raise DataError(f"{name} is called with {field.values[arity]} arguments and with {len(arguments)}.")
    opaque = field.opaque.get(name)
    if opaque is not None:
        if len(opaque.names) != len(arguments):
            raise DataError(f"{name} takes {len(opaque.names)} arguments ({opaque.names}), received {len(arguments)}.")
        if any(orders):
            return _differentiated_opaque(field, opaque, arguments, orders)
    key = ("jet", name, tuple(u.key() for u in arguments), orders)
    known = field.values.get(key)
    if known is not None:
        return known
    used = frozenset().union(*(field.coordinates_of(u) for u in arguments))
    kind = "jet" if opaque is None else "opaque"
    return field.adjoin(kind, (name, tuple(arguments), orders), used, key)


def _differentiated_opaque(
    field: Field, opaque: OpaqueFunction, arguments: Sequence[Element], orders: tuple[int, ...]
) -> Element:
    if sum(orders) > 1:
        raise DataError(
            f"{opaque.name} has registered first derivatives; write its second derivative with diff(..., coordinate)."
        )
    return opaque_rule(field, opaque, arguments, orders.index(1))


def opaque_rule(field: Field, opaque: OpaqueFunction, arguments: Sequence[Element], number: int) -> Element:
    """The registered derivative by one argument, at the given arguments."""
    from kexue.maths.geometry.field.convert import convert_with

    bound = dict(zip(opaque.names, arguments, strict=True))
    return convert_with(field, opaque.derivatives[number], bound)


_ALONE = ("atan", "asin", "acos", "asinh", "acosh", "atanh", "LambertW")  # independent of what else can stand here
_BESSEL = {"besselj": (-1, 1), "bessely": (-1, 1), "besseli": (1, -1), "besselk": (1, 1)}


def special_function(field: Field, function: Any, arguments: Sequence[Element]) -> Element:
    """A function of SymPy that has no algebraic theory here: derivatives from SymPy, zero test sufficient only.

    Bessel functions of integer order are expressed by those of order 0 and 1.
    """
    name = function.__name__
    key = ("special", name, tuple(u.key() for u in arguments))
    known = field.values.get(key)
    if known is not None:
        return known
    if name in _BESSEL:
        reduced = _lower_order(field, function, arguments)
        if reduced is not None:
            return reduced
    used = frozenset().union(*(field.coordinates_of(u) for u in arguments))
    others = [g.data for g in field.generators.values() if g.kind == "special"]
    pair = name in _BESSEL and all(f is function and a[1] == arguments[1] for f, a in others)
    logarithms = any(g.kind == "log" for g in field.generators.values())
    if not pair and (others or name not in _ALONE or logarithms):
        field.canonical = False
    return field.adjoin("special", (function, tuple(arguments)), used, key)


def _lower_order(field: Field, function: Any, arguments: Sequence[Element]) -> Element | None:
    """``C_(n+1) = s C_(n-1) + t (2 n / z) C_n``, ``C_(-n) = (+-1)**n C_n``; None for orders 0, 1 and not integer."""
    order = arguments[0].as_fraction()
    if order is None or order.denominator != 1 or order in (0, 1) or abs(order) > 50:
        return None
    n, z = int(order), arguments[1]
    sign, turn = _BESSEL[function.__name__]
    if n < 0:
        value = special_function(field, function, [field.integer(-n), z])
        return -value if sign < 0 and n % 2 else value
    lower = [special_function(field, function, [field.integer(k), z]) for k in (n - 2, n - 1)]
    return lower[0] * sign + lower[1] * (2 * (n - 1) * turn) / z


def derivative_of(field: Field, generator: Generator, i: int) -> Element:
    """The derivative of a generator by coordinate number i."""
    return _RULES[generator.kind](field, generator, i)


def _coordinate(field: Field, generator: Generator, i: int) -> Element:
    return field.one


def _of_pair(partner: str, sign: int) -> Callable[[Field, Generator, int], Element]:
    """d sin u = cos u du and its like; ``data`` is the argument, ``values`` know the partner."""

    def rule(field: Field, generator: Generator, i: int) -> Element:
        u = generator.data
        value = field.values[partner, u.key()]
        return (value if sign > 0 else -value) * field.diff(u, i)

    return rule


def _exp(field: Field, generator: Generator, i: int) -> Element:
    u = generator.data
    return field.values["exp", u.key()] * field.diff(u, i)


def _log(field: Field, generator: Generator, i: int) -> Element:
    return field.diff(generator.data, i) / generator.data


def _root(field: Field, generator: Generator, i: int) -> Element:
    """w**n = P gives dw = w dP / (n P)."""
    from kexue.maths.geometry.field.element import Element as Make

    ring = field.ring
    w = Make(field, ring.gens[ring.index[generator.name]], ring)
    radicand = generator.data
    return w * field.diff(radicand, i) / (radicand * generator.degree)


def _jet(field: Field, generator: Generator, i: int) -> Element:
    """Chain rule."""
    name, arguments, orders = generator.data
    terms = []
    for j, u in enumerate(arguments):
        slope = field.diff(u, i)
        if slope:
            raised = (*orders[:j], orders[j] + 1, *orders[j + 1 :])
            terms.append(jet(field, name, arguments, raised) * slope)
    return field.sum(terms)


def _opaque(field: Field, generator: Generator, i: int) -> Element:
    name, arguments, _ = generator.data
    terms = []
    for j, u in enumerate(arguments):
        slope = field.diff(u, i)
        if slope:
            terms.append(opaque_rule(field, field.opaque[name], arguments, j) * slope)
    return field.sum(terms)


def _special(field: Field, generator: Generator, i: int) -> Element:
    import sympy

    from kexue.maths.geometry.field.convert import convert_with

    function, arguments = generator.data
    dummies = [sympy.Symbol(f"_u{j}") for j in range(len(arguments))]
    bound = {dummy.name: u for dummy, u in zip(dummies, arguments, strict=True)}
    terms = []
    for j, u in enumerate(arguments):
        slope = field.diff(u, i)
        if not slope:
            continue
        try:
            rule = function(*dummies).fdiff(j + 1)
        except Exception as error:
            raise ConfigError(
                f"The derivative of {function.__name__} by its argument {j + 1} is not known to SymPy; register the "
                f"function with its derivatives (OpaqueFunction)."
            ) from error
        terms.append(convert_with(field, rule, bound) * slope)
    return field.sum(terms)


def _sum(field: Field, generator: Generator, i: int) -> Element:
    """A + m B with a constant m."""
    whole = generator.data
    (name,) = field.generators_of(whole.constant)
    constant = field.symbol(field.generators[name].data)
    return field.diff(whole.rest, i) + constant * field.diff(whole.slope, i)


_RULES: dict[str, Callable[[Field, Generator, int], Element]] = {
    "coordinate": _coordinate,
    "sin": _of_pair("cos", 1),
    "cos": _of_pair("sin", -1),
    "sinh": _of_pair("cosh", 1),
    "cosh": _of_pair("sinh", 1),
    "exp": _exp,
    "log": _log,
    "root": _root,
    "jet": _jet,
    "opaque": _opaque,
    "special": _special,
    "sum": _sum,
}
