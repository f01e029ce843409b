"""The differential field: generators, relations, derivation.

A field starts with coordinates and parameters and grows when a new kernel is met: sin and cos of an argument, sinh and
cosh, exp, log, roots, unknown functions and their derivatives (jets), opaque functions. Transcendental generators are
algebraically independent, algebraic ones (sin, sinh, roots, i) satisfy one monic relation each, irreducible over what
came before, so that the relations generate a prime ideal and every element has one canonical form. What would break
this (a root that depends on others, an exponential of a sum of known arguments) is rewritten or refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry.field.denominators import Denominators
from kexue.maths.geometry.field.element import Element, Factors
from kexue.maths.geometry.field.functions import OpaqueFunction, known_opaque
from kexue.maths.geometry.field.rings import Poly, Ring, default_backend, make_ring

if TYPE_CHECKING:
    import sympy

__all__ = ["Field", "Generator", "split_names"]


@dataclass(frozen=True, eq=False)
class Generator:
    """One generator: ``kind`` says how it is derived and shown, ``data`` holds its argument or name."""

    kind: str  # coordinate parameter constant i sin cos sinh cosh exp log root jet opaque special sum
    name: str  # its variable in the polynomial ring
    data: Any
    coordinates: frozenset[int]  # what it may depend on
    degree: int = 0  # of its relation; 0 for a transcendental one


class Field(Denominators):
    """Exact scalars over coordinates and parameters with a derivation for each coordinate.

    Args:
        coordinates: names, in a sequence or one string ("t r theta phi").
        parameters: names of constants. None: every other name that appears is a constant.
        functions: names of unknown functions. None: every other name that is called is one.
        opaque: functions with known derivatives, besides those registered with
            :func:`~kexue.maths.geometry.field.functions.register`.
        backend: "flint" or "sympy"; None takes :func:`~kexue.maths.geometry.field.rings.default_backend`.

    Attributes:
        positives: elements that were taken as positive where a root or a logarithm stands.
        canonical: False once a function without a known algebraic theory (a special function of SymPy, several
            inverse functions) has entered: zero is then still zero, but an identity between such functions is unknown.

    Raises:
        ConfigError: a name twice, or one that cannot be a name.
    """

    def __init__(
        self,
        coordinates: str | Sequence[str],
        parameters: str | Sequence[str] | None = None,
        functions: str | Sequence[str] | None = None,
        opaque: Iterable[OpaqueFunction] = (),
        backend: str | None = None,
    ) -> None:
        self.coordinates = split_names(coordinates, "coordinates")
        self._declared = None if parameters is None else split_names(parameters, "parameters")
        self.functions = None if functions is None else split_names(functions, "functions")
        both = [*self.coordinates, *(self._declared or ()), *(self.functions or ())]
        twice = sorted({name for name in both if both.count(name) > 1})
        if twice:
            raise ConfigError(f"Each name must stand once among coordinates, parameters, functions; twice: {twice}.")
        given = [opaque] if isinstance(opaque, OpaqueFunction) else list(opaque)
        self.opaque = known_opaque() | {function.name: function for function in given}
        self.backend = default_backend(backend)
        self.positives: list[Element] = []
        self._assumptions: list[tuple[str, Element]] = []
        self.canonical = True
        self.generators: dict[str, Generator] = {}  # by variable name, in order of creation
        self.values: dict[Any, Element] = {}  # of (kind, ...) already made
        self.radicands: dict[str, Poly] = {}
        self.kernels: dict[str, list[Any]] = {"exponential": [], "trigonometric": [], "log": [], "root": []}
        self.positive: dict[Any, int] = {}  # irreducible factors with the sign that makes them positive
        self._derivatives: dict[tuple[str, int], Element] = {}
        self._transcendental: list[str] = []
        self._algebraic: list[str] = []  # newest first
        self._relations: list[tuple[Poly, int, int]] = []
        self.ring: Ring = make_ring(self.backend, ())
        self._start_denominators()
        for i, name in enumerate(self.coordinates):
            self.adjoin("coordinate", name, frozenset([i]), ("symbol", name))

    # --- growth -------------------------------------------------------------------------------------------------

    @property
    def dimension(self) -> int:
        """Number of coordinates."""
        return len(self.coordinates)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Constants declared or met so far."""
        met = [g.data for g in self.generators.values() if g.kind == "parameter"]
        return tuple(dict.fromkeys([*(self._declared or ()), *met]))

    def allows(self, name: str) -> bool:
        """Whether a name may be that of a constant."""
        return self._declared is None or name in self._declared

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What was taken as positive where a root or a logarithm stands, in words."""
        told = [(why, element) for why, element in self._assumptions if not self._constant(element)]
        return tuple(dict.fromkeys(f"{element} > 0 ({why})" for why, element in told))

    def _constant(self, element: Element) -> bool:
        return all(self.generators[name].kind == "constant" for name in self.generators_of(element))

    def assume(self, element: Element, why: str) -> None:
        """Take an element as positive from now on."""
        self.positives.append(element)
        self._assumptions.append((why, element))

    def assumed(self, before: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
        """The assumptions at this moment; given back, they are those again."""
        if before is not None:
            self.positives, self._assumptions, self.positive = (type(x)(x) for x in before)
        return list(self.positives), list(self._assumptions), dict(self.positive)

    def adjoin(self, kind: str, data: Any, coordinates: frozenset[int], key: Any, names: str | None = None) -> Element:
        """A new transcendental generator, remembered under ``key``."""
        name = names or f"x{len(self.generators)}"
        self.generators[name] = Generator(kind, name, data, coordinates)
        self._transcendental.append(name)
        self._new_ring()
        self.values[key] = element = Element(self, self.ring.gens[self.ring.index[name]], self.ring)
        return element

    def adjoin_root(self, kind: str, data: Any, radicand: Element, degree: int, key: Any) -> Element:
        """A new generator w with ``w**degree = radicand``; the caller has made sure that this is irreducible."""
        radicand.lift()
        if not radicand.is_polynomial:
            raise AssertionError("the radicand of a generator must be a polynomial")
        name = f"w{len(self.generators)}"
        self.generators[name] = Generator(kind, name, data, self.coordinates_of(radicand), degree)
        self._algebraic.insert(0, name)
        self.radicands[name] = radicand.num
        self._new_ring()
        self.values[key] = element = Element(self, self.ring.gens[self.ring.index[name]], self.ring)
        return element

    def _new_ring(self) -> None:
        """Algebraic generators stand first, newest first: each relation's leading term is then its own power."""
        self.ring = ring = make_ring(self.backend, [*self._algebraic, *self._transcendental])
        self.radicands = {name: ring.lift(p) for name, p in self.radicands.items()}
        self._lift_denominators()
        self._relations = []
        for i, name in enumerate(self._algebraic):
            degree = self.generators[name].degree
            self._relations.append((ring.gens[i] ** degree - self.radicands[name], i, degree))

    # --- making elements ----------------------------------------------------------------------------------------

    def integer(self, n: int) -> Element:
        """The integer n."""
        ring = self.ring
        return Element(self, ring.constant(int(n)), ring)

    def rational(self, value: Fraction) -> Element:
        """A rational number."""
        ring = self.ring
        return Element(self, ring.constant(value.numerator), ring, value.denominator)

    @property
    def zero(self) -> Element:
        """0."""
        return Element(self, self.ring.zero, self.ring)

    @property
    def one(self) -> Element:
        """1."""
        return Element(self, self.ring.one, self.ring)

    @property
    def i(self) -> Element:
        """The imaginary unit."""
        from kexue.maths.geometry.field.radicals import root

        return root(self.integer(-1), 2)

    def symbol(self, name: str) -> Element:
        """A coordinate or parameter by name.

        Raises:
            DataError: the name is not declared, where parameters were declared.
        """
        known = self.values.get(("symbol", name))
        if known is not None:
            return known
        if not self.allows(name):
            raise DataError(self._unknown(name, "symbol", [*self.coordinates, *self.parameters]))
        if ("arity", name) in self.values:
            raise name_of_two(name)
        return self.adjoin("parameter", name, frozenset(), ("symbol", name))

    def function(self, name: str, *arguments: Any, orders: Sequence[int] | None = None) -> Element:
        """An unknown function of elements, or its partial derivative of the given orders (one for each argument).

        Raises:
            DataError: the name is not declared, where functions were declared.
        """
        from kexue.maths.geometry.field.functions import jet

        if name not in self.coordinates and ("symbol", name) in self.values:
            raise name_of_two(name)
        if self.functions is not None and name not in self.functions and name not in self.opaque:
            raise DataError(self._unknown(name, "function", [*self.functions, *self.opaque]))
        return jet(self, name, [self(u) for u in arguments], tuple(orders or (0,) * len(arguments)))

    def _unknown(self, name: str, what: str, known: Sequence[str]) -> str:
        near = difflib.get_close_matches(name, known, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"Unknown {what} {name!r}: expected one of {', '.join(known) or 'none'}.{hint}"

    def __call__(self, value: Any) -> Element:
        """Convert a number, a string, a SymPy expression or an element.

        Strings are read by a parser of our own, never evaluated. Floats become the decimal fraction they print as.

        Raises:
            DataError: it cannot be read, or names something unknown.
            ConfigError: it needs an algebraic relation that is refused.
        """
        if isinstance(value, Element):
            if value.field is self:
                return value
            return self(value.to_sympy(False))
        if isinstance(value, bool):
            raise DataError(f"A number or an expression was expected, received {value!r}.")
        if isinstance(value, int):
            return self.integer(value)
        if isinstance(value, Fraction):
            return self.rational(value)
        from kexue.maths.geometry.field.convert import from_any

        return from_any(self, value)

    def convert_all(self, values: Iterable[Any], inverted: Iterable[int] = ()) -> list[Element]:
        """Convert several expressions, looking at all of them first, so that exp(x/2) and exp(x) share a generator.

        Args:
            values: the expressions.
            inverted: numbers of those by which will be divided, so that sums of roots among them get generators.
        """
        from kexue.maths.geometry.field.convert import convert_all

        return convert_all(self, list(values), frozenset(inverted))

    def sqrt(self, value: Any) -> Element:
        """Square root; positive where the radicand is."""
        return self.power(self(value), Fraction(1, 2))

    def power(self, base: Element, exponent: Fraction) -> Element:
        """A rational power."""
        from kexue.maths.geometry.field.radicals import power

        return power(base, exponent)

    def apply(self, name: str, value: Any) -> Element:
        """An elementary function by name: exp, log, sin, cos, tan, cot, sinh, cosh, tanh ..."""
        from kexue.maths.geometry.field.kernels import elementary

        return elementary(name)(self(value))

    # --- fractions ----------------------------------------------------------------------------------------------

    def reduce(self, p: Poly) -> Poly:
        """Remainder by all relations."""
        remainder = self.ring.remainder
        for relation, variable, degree in self._relations:
            p = remainder(p, relation, variable, degree)
        return p

    def rationalise(self, num: Poly, den: Poly) -> tuple[Poly, Poly]:
        """Multiply num / den so that den is free of algebraic generators (by conjugates, one generator at a time)."""
        ring = self.ring
        for (_, v, degree), name in zip(self._relations, self._algebraic, strict=True):
            slope = ring.diff(den, v)
            if not slope:
                continue
            w = ring.gens[v]
            if degree != 2:
                from kexue.maths.geometry.field.radicals import conjugate

                cofactor = conjugate(self, den, v, degree)
                num, den = self.reduce(num * cofactor), self.reduce(den * cofactor)
            else:  # den = a + b w, times a - b w
                a, b = den - slope * w, slope
                if not a:
                    num, den = self.reduce(num * w), self.reduce(b * self.radicands[name])
                else:
                    g = ring.gcd(a, b)
                    if not ring.is_one(g):
                        a, b = ring.quotient(a, g), ring.quotient(b, g)
                    num = self.reduce(num * (a - b * w))
                    den = self.reduce(g * self.reduce(a * a - b * b * self.radicands[name]))
            g = ring.gcd(num, den)
            if not ring.is_one(g):
                num, den = ring.quotient(num, g), ring.quotient(den, g)
        return num, den

    # --- derivation ---------------------------------------------------------------------------------------------

    def coordinates_of(self, element: Element) -> frozenset[int]:
        """Numbers of the coordinates on which the element may depend."""
        used: frozenset[int] = frozenset()
        for name in self.generators_of(element):
            used |= self.generators[name].coordinates
        return used

    def generators_of(self, element: Element) -> list[str]:
        """Variables that stand in the element."""
        element.lift()
        ring = self.ring
        used = {name for name, e in zip(ring.names, ring.degrees(element.num), strict=True) if e}
        for number, _ in element.factors:
            degrees = ring.degrees(self.factor_polynomial(number))
            used |= {name for name, e in zip(ring.names, degrees, strict=True) if e}
        return [name for name in ring.names if name in used]

    def coordinate_number(self, coordinate: int | str) -> int:
        """Number of a coordinate given by number or name.

        Raises:
            DataError: there is no such coordinate.
        """
        if isinstance(coordinate, int):
            if 0 <= coordinate < self.dimension:
                return coordinate
        elif coordinate in self.coordinates:
            return self.coordinates.index(coordinate)
        raise DataError(f"No coordinate {coordinate!r}: the coordinates are {', '.join(self.coordinates)}.")

    def diff(self, element: Element, coordinate: int | str) -> Element:
        """Partial derivative, exactly."""
        i = coordinate if isinstance(coordinate, int) else self.coordinate_number(coordinate)
        moving = [name for name in self.generators_of(element) if i in self.generators[name].coordinates]
        if not moving:
            return self.zero
        for name in moving:
            if (name, i) not in self._derivatives:
                from kexue.maths.geometry.field.functions import derivative_of

                self._derivatives[name, i] = derivative_of(self, self.generators[name], i)
        element.lift()  # a derivative may have brought new generators
        rules = [(self.ring.index[name], self._derivatives[name, i]) for name in moving]
        for _, rule in rules:
            rule.lift()
        slope = self._derive(element.num, rules)
        if element.is_polynomial:
            return slope
        whole = Element(self, self.ring.one, self.ring, element.content, element.factors)
        moving_factors = []
        for number, e in element.factors:
            turn = self._derive(self.factor_polynomial(number), rules)
            if turn.num:
                moving_factors.append((number, e, turn))
        if not moving_factors:
            return self.normal(slope.num, element.content, element.factors) if slope.is_polynomial else slope * whole
        if not (slope.is_polynomial and all(turn.is_polynomial for _, _, turn in moving_factors)):
            terms = [slope * whole]
            for number, e, turn in moving_factors:
                terms.append(element * turn * Element(self, self.ring.constant(-e), self.ring, 1, ((number, 1),)))
            return self.sum(terms)
        # d(N / prod f^e) = (dN prod f - N sum e df prod of the others) / prod f^(e + 1)
        num = slope.num
        for number, _, _ in moving_factors:
            num = self.ring.times(num, self.factor_polynomial(number))
        for number, e, turn in moving_factors:
            term = self.ring.times(element.num, turn.num) * e
            for other, _, _ in moving_factors:
                if other != number:
                    term = self.ring.times(term, self.factor_polynomial(other))
            num = num - term
        raised = dict(element.factors)
        for number, e, _ in moving_factors:
            raised[number] = e + 1
        return self.normal(self.reduce(num), element.content, tuple(sorted(raised.items())))

    def _derive(self, p: Poly, rules: list[tuple[int, Element]]) -> Element:
        """Sum of dp/dg times the derivative of g."""
        ring = self.ring
        groups: dict[tuple[int, Factors], Poly] = {}
        for variable, rule in rules:
            slope = ring.diff(p, variable)
            if slope:
                key = (rule.content, rule.factors)
                term = self.ring.times(slope, rule.num)
                groups[key] = groups[key] + term if key in groups else term
        return self.sum([self.normal(self.reduce(num), *key) for key, num in groups.items()])

    def generator_sympy(self, name: str) -> sympy.Expr:
        """A generator as SymPy shows it."""
        from kexue.maths.geometry.field.export import generator_sympy

        return generator_sympy(self, self.generators[name])

    def __repr__(self) -> str:
        return (
            f"Field(coordinates={self.coordinates}, parameters={self.parameters}, "
            f"generators={len(self.generators)}, backend={self.backend!r})"
        )


def name_of_two(name: str) -> DataError:
    """The error for a name that is called as a function in one place and stands alone in another."""
    return DataError(
        f"{name} is called as a function and stands alone as a constant too: write {name}(...) everywhere, or give one "
        f"of them another name."
    )


def split_names(names: str | Sequence[str], what: str) -> tuple[str, ...]:
    """Names from a sequence or from one string, split at commas and spaces."""
    from kexue.maths.geometry.field.parser import plain_name

    given = names.replace(",", " ").split() if isinstance(names, str) else [str(name) for name in names]
    out = []
    for name in given:
        plain = plain_name(name)
        if plain is None:
            raise ConfigError(f"The {what} must be names of letters, digits and _, received {name!r}.")
        out.append(plain)
    return tuple(out)
