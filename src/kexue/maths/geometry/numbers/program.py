"""Straight-line programs: elements of the field as shared elementary operations, and their derivatives.

A program is a list of nodes, each an operation on earlier nodes; equal operations are one node, so common
subexpressions are computed once. Polynomials become Horner schemes, numerators are factorised where that is cheap
(a factor that vanishes at a horizon then loses no digits), ``(1 - cos)(1 + cos)`` is the square of the sine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kexue.errors import ConfigError
from kexue.maths.geometry.field.export import product_form

if TYPE_CHECKING:
    from kexue.maths.geometry.field import Element, Field
    from kexue.maths.geometry.field.rings import Poly

__all__ = ["Program"]

_FACTORED_UP_TO = 300  # terms of a numerator: beyond, factorising costs more than it saves

Node = tuple[Any, ...]


class Program:
    """Nodes, each a tuple: an operation and what it works on.

    ``("number", x)``, ``("input", name)``, ``("add" | "mul" | "div", i, j)``, ``("apply", function, i)``,
    ``("root", i, degree)``, ``("call", name, orders, i, ...)`` a function of the user or its partial derivative,
    ``("special", function of SymPy, i, ...)``.

    Args:
        expressions: unknown functions given as expressions in the coordinates they stand with, ``{"a": "t^(2/3)"}``.
    """

    def __init__(self, expressions: Mapping[str, str] | None = None) -> None:
        self.nodes: list[Node] = []
        self._numbers: dict[Node, int] = {}
        self._elements: dict[tuple[int, Any], int] = {}
        self._expressions = dict(expressions or {})
        self._fields: list[Field] = []  # kept alive, their id is part of a key
        self._given: dict[tuple[str, tuple[str, ...]], Element] = {}

    # --- nodes --------------------------------------------------------------------------------------------------

    def node(self, *parts: Any) -> int:
        """The number of a node, made if there is none like it."""
        known = self._numbers.get(parts)
        if known is None:
            known = self._numbers[parts] = len(self.nodes)
            self.nodes.append(parts)
        return known

    def number(self, value: Any) -> int:
        """A constant; rational numbers are rounded once."""
        return self.node("number", value if isinstance(value, complex) else float(value))

    def input(self, name: str) -> int:
        """A coordinate, a parameter or another variable."""
        return self.node("input", name)

    def value(self, i: int) -> Any:
        """The number at a constant node, else None."""
        node = self.nodes[i]
        return node[1] if node[0] == "number" else None

    def add(self, i: int, j: int) -> int:
        """Sum of two nodes."""
        x, y = self.value(i), self.value(j)
        if x == 0:
            return j
        if y == 0:
            return i
        if x is not None and y is not None:
            return self.number(x + y)
        return self.node("add", *sorted((i, j)))

    def mul(self, i: int, j: int) -> int:
        """Product of two nodes."""
        x, y = self.value(i), self.value(j)
        if x == 0 or y == 1:
            return i
        if y == 0 or x == 1:
            return j
        if x is not None and y is not None:
            return self.number(x * y)
        return self.node("mul", *sorted((i, j)))

    def div(self, i: int, j: int) -> int:
        """Quotient of two nodes."""
        x, y = self.value(i), self.value(j)
        if x == 0 or y == 1:
            return i
        if x is not None and y is not None and y != 0:
            return self.number(x / y)
        return self.node("div", i, j)

    def negative(self, i: int) -> int:
        """-1 times a node."""
        return self.mul(self.number(-1), i)

    def power(self, i: int, n: int) -> int:
        """A positive integer power by repeated squaring; partial powers are shared."""
        if n == 1:
            return i
        half = self.power(i, n // 2)
        square = self.mul(half, half)
        return self.mul(square, i) if n % 2 else square

    def product(self, factors: Iterable[int]) -> int:
        """Product of nodes."""
        out = self.number(1)
        for i in factors:
            out = self.mul(out, i)
        return out

    def sum(self, terms: Iterable[int]) -> int:
        """Sum of nodes."""
        out = self.number(0)
        for i in terms:
            out = self.add(out, i)
        return out

    # --- elements -----------------------------------------------------------------------------------------------

    def element(self, element: Element) -> int:
        """The node of an element."""
        if not element:
            return self.number(0)
        field = element.field
        if not any(known is field for known in self._fields):
            self._fields.append(field)
        key = (id(field), element.key())
        known = self._elements.get(key)
        if known is None:
            known = self._elements[key] = self._element(field, element)
        return known

    def _element(self, field: Field, element: Element) -> int:
        constant, powers, roots = product_form(element, _FACTORED_UP_TO)
        above: list[int] = []
        below: list[int] = []
        for p, e in powers:
            (above if e > 0 else below).append(self.power(self._polynomial(field, p), abs(e)))
        for name, e in roots:
            (above if e > 0 else below).append(self.power(self._generator(field, name), abs(e)))
        top = self.mul(self.number(constant), self.product(sorted(above)))
        return self.div(top, self.product(sorted(below))) if below else top

    def _polynomial(self, field: Field, p: Poly) -> int:
        terms = dict(field.ring.terms(p))
        return self._horner(field, terms)

    def _horner(self, field: Field, terms: dict[tuple[int, ...], int]) -> int:
        """``q x^k + r``, x the generator in most terms."""
        counts = [sum(1 for m in terms if m[v]) for v in range(len(field.ring.names))]
        most = max(counts, default=0)
        if len(terms) == 1 or not most:
            return self.sum(self._monomial(field, m, c) for m, c in terms.items())
        v = counts.index(most)
        low = min(m[v] for m in terms if m[v])
        inside, rest = {}, {}
        for m, c in terms.items():
            if m[v]:
                inside[(*m[:v], m[v] - low, *m[v + 1 :])] = c
            else:
                rest[m] = c
        x = self.power(self._generator(field, field.ring.names[v]), low)
        out = self.mul(self._horner(field, inside), x)
        return self.add(out, self._horner(field, rest)) if rest else out

    def _monomial(self, field: Field, m: tuple[int, ...], c: int) -> int:
        names = field.ring.names
        parts = [self.power(self._generator(field, names[v]), e) for v, e in enumerate(m) if e]
        return self.mul(self.number(c), self.product(parts))

    def _generator(self, field: Field, name: str) -> int:
        g = field.generators[name]
        data = g.data
        if g.kind in ("coordinate", "parameter"):
            return self.input(data)
        if g.kind == "constant":
            return self.number(complex(data) if data.is_real is False else float(data))
        if g.kind == "i":
            return self.number(1j)
        if g.kind == "root":
            return self.root(self.element(data), g.degree)
        if g.kind in ("jet", "opaque"):
            return self._call(*data)
        if g.kind == "sum":
            return self.element(data.written_out())
        if g.kind == "special":
            function, arguments = data
            return self.node("special", function, *map(self.element, arguments))
        return self.apply(g.kind, self.element(data))

    def apply(self, function: str, i: int) -> int:
        """sin, cos, sinh, cosh, exp or log of a node."""
        known = self.value(i)
        if known is not None and not isinstance(known, complex):
            return self.number(getattr(math, function)(known))
        return self.node("apply", function, i)

    def root(self, i: int, degree: int) -> int:
        """The root of a node, which is taken as positive."""
        known = self.value(i)
        if known is not None and not isinstance(known, complex) and known >= 0:
            return self.number(math.sqrt(known) if degree == 2 else known ** (1 / degree))
        return self.node("root", i, degree)

    def _call(self, name: str, arguments: Sequence[Element], orders: tuple[int, ...]) -> int:
        if name not in self._expressions:
            return self.node("call", name, orders, *map(self.element, arguments))
        return self._expression(name, [self.nodes[self.element(u)] for u in arguments], orders)

    def _expression(self, name: str, arguments: Sequence[Node], orders: tuple[int, ...]) -> int:
        from kexue.maths.geometry.field import Field

        names = tuple(node[1] if node[0] == "input" else "" for node in arguments)
        if "" in names or len(set(names)) < len(names):
            raise ConfigError(
                f"The function {name!r} stands with arguments that are not plain variables, so it cannot be given as "
                f"the string {self._expressions[name]!r}; give a callable."
            )
        known = self._given.get((name, names))
        if known is None:
            known = self._given[name, names] = Field(names)(self._expressions[name])
        for place, order in enumerate(orders):
            for _ in range(order):
                known = known.diff(place)
        return self.element(known)

    # --- derivatives --------------------------------------------------------------------------------------------

    def gradient(self, output: int, variables: Sequence[int]) -> list[int]:
        """Nodes of the partial derivatives of one node, by reverse accumulation."""
        reached = self._above(output)
        adjoint: dict[int, int] = {output: self.number(1)}
        for i in sorted(reached, reverse=True):
            if i not in adjoint:
                continue
            for argument, slope in self._slopes(i):
                if self.value(argument) is not None:
                    continue
                term = self.mul(adjoint[i], slope)
                adjoint[argument] = self.add(adjoint[argument], term) if argument in adjoint else term
        return [adjoint.get(v, self.number(0)) for v in variables]

    def _above(self, output: int) -> set[int]:
        seen, todo = {output}, [output]
        while todo:
            for j in self.arguments(todo.pop()):
                if j not in seen:
                    seen.add(j)
                    todo.append(j)
        return seen

    def arguments(self, i: int) -> tuple[int, ...]:
        """Nodes that a node works on."""
        node = self.nodes[i]
        first = {"number": len(node), "input": len(node), "apply": 2, "special": 2, "call": 3}.get(node[0], 1)
        return node[1:2] if node[0] == "root" else node[first:]

    def _slopes(self, i: int) -> list[tuple[int, int]]:
        """(argument, derivative of the node by it)."""
        node = self.nodes[i]
        kind = node[0]
        if kind == "add":
            one = self.number(1)
            return [(node[1], one), (node[2], one)]
        if kind == "mul":
            return [(node[1], node[2]), (node[2], node[1])]
        if kind == "div":
            return [(node[1], self.div(self.number(1), node[2])), (node[2], self.negative(self.div(i, node[2])))]
        if kind == "apply":
            return [(node[2], _DERIVATIVES[node[1]](self, node[2], i))]
        if kind == "root":
            return [(node[1], self.div(i, self.mul(self.number(node[2]), node[1])))]
        if kind == "call":
            _, name, orders, *arguments = node
            raised = [(*orders[:k], o + 1, *orders[k + 1 :]) for k, o in enumerate(orders)]
            return [(u, self.node("call", name, r, *arguments)) for u, r in zip(arguments, raised, strict=True)]
        if kind == "special":
            return self._special_slopes(node)
        return []

    def _special_slopes(self, node: Node) -> list[tuple[int, int]]:
        import sympy

        from kexue.maths.geometry.field import Field

        function, arguments = node[1], node[2:]
        names = [f"u{j}" for j in range(len(arguments))]
        field = Field(names)
        inner = Program()
        out = []
        for j, argument in enumerate(arguments):
            if self.value(argument) is not None:
                continue
            rule = function(*map(sympy.Symbol, names)).fdiff(j + 1)
            out.append(
                (argument, self._copy(inner, inner.element(field(rule)), dict(zip(names, arguments, strict=True))))
            )
        return out

    def _copy(self, other: Program, i: int, bound: Mapping[str, int]) -> int:
        """A node of another program here, its inputs bound to nodes of this one."""
        node = other.nodes[i]
        if node[0] == "input":
            return bound[node[1]]
        inner = other.arguments(i)
        copied = [self._copy(other, j, bound) for j in inner]
        if node[0] == "root":
            return self.root(copied[0], node[2])
        return self.node(*node[: len(node) - len(inner)], *copied)


def _minus_sin(program: Program, u: int, i: int) -> int:
    return program.negative(program.apply("sin", u))


_DERIVATIVES: dict[str, Callable[[Program, int, int], int]] = {
    "sin": lambda p, u, i: p.apply("cos", u),
    "cos": _minus_sin,
    "sinh": lambda p, u, i: p.apply("cosh", u),
    "cosh": lambda p, u, i: p.apply("sinh", u),
    "exp": lambda p, u, i: i,
    "log": lambda p, u, i: p.div(p.number(1), u),
}
