"""Polynomials over the integers, from python-flint or from SymPy, behind one small interface.

The differential field needs few operations: ring arithmetic (the operators of the polynomials themselves), greatest
common divisor, exact quotient, remainder by one monic relation, partial derivative, factorisation. Both backends use
the lexicographic order, so that a relation ``w**n - P`` has the leading term ``w**n`` where ``w`` stands before
everything in ``P``, and so that both give the same canonical forms.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import sub
from typing import Any, Protocol

from kexue.errors import ConfigError
from kexue.maths.geometry.field.packed import Packing

__all__ = ["BACKENDS", "Poly", "Ring", "available_backends", "default_backend", "make_ring", "using_backend"]

Poly = Any  # flint.fmpz_mpoly or sympy.polys.rings.PolyElement
BACKENDS = ("flint", "sympy")
_chosen: list[str | None] = [None]
_LONG_PRODUCT = 400  # products of terms from which packing pays


class Ring(Protocol):
    """Z[names], lexicographic order, the first name largest."""

    names: tuple[str, ...]
    index: dict[str, int]
    zero: Poly
    one: Poly
    gens: tuple[Poly, ...]

    def constant(self, n: int) -> Poly: ...
    def from_terms(self, terms: Mapping[tuple[int, ...], int]) -> Poly: ...
    def terms(self, p: Poly) -> list[tuple[tuple[int, ...], int]]: ...
    def is_one(self, p: Poly) -> bool: ...
    def is_zero(self, p: Poly) -> bool: ...
    def is_constant(self, p: Poly) -> bool: ...
    def length(self, p: Poly) -> int: ...
    def leading(self, p: Poly) -> int: ...
    def times(self, p: Poly, q: Poly) -> Poly: ...
    def gcd(self, p: Poly, q: Poly) -> Poly: ...
    def quotient(self, p: Poly, q: Poly) -> Poly: ...
    def divide(self, p: Poly, q: Poly) -> Poly | None: ...
    def content(self, p: Poly) -> int: ...
    def remainder(self, p: Poly, relation: Poly, variable: int, degree: int) -> Poly: ...
    def degrees(self, p: Poly) -> tuple[int, ...]: ...
    def diff(self, p: Poly, variable: int) -> Poly: ...
    def factor(self, p: Poly, longest: int | None = None) -> tuple[int, list[tuple[Poly, int]]]: ...
    def lift(self, p: Poly) -> Poly: ...


class FlintRing:
    """Z[names] on ``flint.fmpz_mpoly``."""

    def __init__(self, names: Sequence[str]) -> None:
        from flint import Ordering, fmpz_mpoly_ctx
        from flint.utils.flint_exceptions import DomainError

        self._inexact = DomainError
        self.names = tuple(names)
        self.index = {name: i for i, name in enumerate(self.names)}
        self._context = fmpz_mpoly_ctx.get(list(self.names), Ordering.lex)
        self.zero = self._context.constant(0)
        self.one = self._context.constant(1)
        self.gens = tuple(self._context.gens())

    def constant(self, n: int) -> Poly:
        return self._context.constant(n)

    def from_terms(self, terms: Mapping[tuple[int, ...], int]) -> Poly:
        return self._context.from_dict(dict(terms))

    def terms(self, p: Poly) -> list[tuple[tuple[int, ...], int]]:
        return [(tuple(map(int, m)), int(c)) for m, c in p.terms()]

    def is_one(self, p: Poly) -> bool:
        return p.is_one()

    def is_zero(self, p: Poly) -> bool:
        return not p

    def is_constant(self, p: Poly) -> bool:
        return p.is_constant()

    def length(self, p: Poly) -> int:
        return len(p)

    def leading(self, p: Poly) -> int:
        return int(p.leading_coefficient())

    def times(self, p: Poly, q: Poly) -> Poly:
        return p * q

    def gcd(self, p: Poly, q: Poly) -> Poly:
        return p.gcd(q)

    def quotient(self, p: Poly, q: Poly) -> Poly:
        return p // q

    def divide(self, p: Poly, q: Poly) -> Poly | None:
        try:
            return p / q
        except self._inexact:
            return None

    def content(self, p: Poly) -> int:
        return int(p.content())

    def remainder(self, p: Poly, relation: Poly, variable: int, degree: int) -> Poly:
        return p % relation

    def degrees(self, p: Poly) -> tuple[int, ...]:
        return p.degrees() if p else (0,) * len(self.names)

    def diff(self, p: Poly, variable: int) -> Poly:
        return p.derivative(variable)

    def factor(self, p: Poly, longest: int | None = None) -> tuple[int, list[tuple[Poly, int]]]:
        if longest is not None and len(p) > longest:
            return 1, [(p, 1)]
        constant, factors = p.factor()
        constant, out = int(constant), []
        for factor, power in factors:
            if factor.leading_coefficient() < 0:
                factor, constant = -factor, constant * (-1) ** int(power)  # noqa: PLW2901
            out.append((factor, int(power)))
        return constant, out

    def lift(self, p: Poly) -> Poly:
        return p.project_to_context(self._context)


class SympyRing:
    """Z[names] on ``sympy.polys.rings``, for installations without python-flint."""

    def __init__(self, names: Sequence[str]) -> None:
        from sympy import ZZ
        from sympy.polys.orderings import lex
        from sympy.polys.rings import PolyRing

        self.names = tuple(names)
        self.index = {name: i for i, name in enumerate(self.names)}
        self._ring = PolyRing(self.names or ("_",), ZZ, lex)
        self._domain = ZZ
        self.zero = self._ring.zero
        self.one = self._ring.one
        self.gens = self._ring.gens[: len(self.names)]
        self._packing = Packing(len(self._ring.gens))

    def constant(self, n: int) -> Poly:
        return self._ring.ground_new(self._domain(n))

    def from_terms(self, terms: Mapping[tuple[int, ...], int]) -> Poly:
        return self._ring.from_dict({m: self._domain(c) for m, c in terms.items() if c})

    def terms(self, p: Poly) -> list[tuple[tuple[int, ...], int]]:
        return [(m[: len(self.names)], int(c)) for m, c in p.terms()]

    def is_one(self, p: Poly) -> bool:
        return p == self.one

    def is_zero(self, p: Poly) -> bool:
        return not p

    def is_constant(self, p: Poly) -> bool:
        return p.is_ground

    def length(self, p: Poly) -> int:
        return len(p)

    def leading(self, p: Poly) -> int:
        return int(p.LC)

    def gcd(self, p: Poly, q: Poly) -> Poly:
        if len(p) == 1 or len(q) == 1:
            return self._monomial_gcd(p, q)
        return p.gcd(q)

    def _monomial_gcd(self, p: Poly, q: Poly) -> Poly:
        """The gcd where one of them is a single term: no algorithm needed."""
        exponents, coefficient = None, self._domain.zero
        gcd = self._domain.gcd
        for r in (p, q):
            for monomial, c in r.items():
                exponents = monomial if exponents is None else tuple(map(min, exponents, monomial))
                coefficient = gcd(coefficient, c)
        return self._ring.from_dict({exponents: coefficient})

    def times(self, p: Poly, q: Poly) -> Poly:
        """The product; long ones on packed monomials."""
        if len(p) * len(q) >= _LONG_PRODUCT:
            left, right = self._packed(p), self._packed(q)
            if left is not None and right is not None:
                return self._unpacked(self._packing.times(left, right))
        return p * q

    def _packed(self, p: Poly) -> dict[int, int] | None:
        keys = self._packing.pack(p)
        return None if keys is None else dict(zip(keys, p.values(), strict=True))

    def _unpacked(self, terms: dict[int, int]) -> Poly:
        kept = {key: c for key, c in terms.items() if c}
        out = self._ring.zero.copy()
        dict.update(out, zip(self._packing.unpack(kept), kept.values(), strict=True))
        return out

    def quotient(self, p: Poly, q: Poly) -> Poly:
        found = self.divide(p, q)
        if found is None:
            raise ArithmeticError(f"{q} does not divide the polynomial")
        return found

    def divide(self, p: Poly, q: Poly) -> Poly | None:
        """The exact quotient, or None as soon as one term shows that there is none."""
        if len(q) == 1:
            ((monomial, c),) = q.items()
            if any(a < b for m in p for a, b in zip(m, monomial, strict=True) if b) or any(x % c for x in p.values()):
                return None
            return self._ring.from_dict({tuple(map(sub, m, monomial)): x // c for m, x in p.items()})
        left, right = self._packed(p), self._packed(q)
        if left is None or right is None:
            out, rest = p.div(q)
            return None if rest else out
        found = self._packing.divide(left, right)
        return None if found is None else self._unpacked(found)

    def content(self, p: Poly) -> int:
        return int(p.content())

    def remainder(self, p: Poly, relation: Poly, variable: int, degree: int) -> Poly:
        parts: dict[int, dict[tuple[int, ...], int]] = {}
        for m, c in p.items():
            times, rest = divmod(m[variable], degree)
            parts.setdefault(times, {})[(*m[:variable], rest, *m[variable + 1 :])] = c
        highest = max(parts, default=0)
        if not highest:
            return p
        radicand = self._ring.from_dict({m: -c for m, c in relation.items() if not m[variable]})
        out = self._ring.from_dict(parts[highest])
        for times in range(highest - 1, -1, -1):
            out = self.times(out, radicand) + self._ring.from_dict(parts.get(times, {}))
        return out

    def degrees(self, p: Poly) -> tuple[int, ...]:
        return tuple(max(0, d) for d in p.degrees()) if p else (0,) * len(self.names)

    def diff(self, p: Poly, variable: int) -> Poly:
        return p.diff(variable)

    def factor(self, p: Poly, longest: int | None = None) -> tuple[int, list[tuple[Poly, int]]]:
        constant, p = p.primitive()
        constant = int(constant)
        found: list[tuple[Poly, int]] = []
        for i, e in enumerate(map(min, zip(*p.keys(), strict=True))):
            if e:
                found.append((self.gens[i], e))
        p = self.quotient(p, self._ring.from_dict({tuple(map(min, zip(*p.keys(), strict=True))): self._domain.one}))
        for factor, e in self._primitive_factors(p, longest):
            for k, (known, power) in enumerate(found):
                if known == factor:
                    found[k] = (known, power + e)
                    break
            else:
                found.append((factor, e))
        out = []
        for factor, e in found:
            if factor.is_ground:
                constant *= int(factor.LC) ** e
            elif factor.LC < 0:
                out.append((-factor, e))
                constant *= (-1) ** e
            else:
                out.append((factor, e))
        out.sort(key=lambda pair: (len(pair[0]), sorted(pair[0].terms(), reverse=True)))
        return constant, out

    def _primitive_factors(self, p: Poly, longest: int | None) -> list[tuple[Poly, int]]:
        """Irreducible factors; ``a x + b`` with coprime a and b is one, which settles most polynomials in jets.

        Where nothing is linear, SymPy factorises, unless there are more than ``longest`` terms.
        """
        if p.is_ground:
            return [(p, 1)]
        for i, degree in enumerate(p.degrees()):
            if degree == 1:
                slope = p.diff(i)
                rest = p - slope * self._ring.gens[i]
                common = slope.gcd(rest) if rest else slope
                if common.is_ground:
                    return [(p, 1)]
                return [(self.quotient(p, common), 1), *self._primitive_factors(common, longest)]
        if longest is not None and len(p) > longest:
            return [(p, 1)]
        constant, factors = p.factor_list()
        return [(self.constant(int(constant)), 1), *factors]

    def lift(self, p: Poly) -> Poly:
        return p.set_ring(self._ring)


def available_backends() -> tuple[str, ...]:
    """The polynomial backends that are installed, the preferred one first."""
    try:
        import flint  # noqa: F401
    except ImportError:
        return ("sympy",)
    return BACKENDS


def default_backend(asked: str | None = None) -> str:
    """What new fields use: what is asked for, else ``using_backend``, ``KEXUE_POLYNOMIALS``, python-flint.

    Raises:
        ConfigError: the backend that was asked for does not exist or is not installed.
    """
    wanted = asked or _chosen[0] or os.environ.get("KEXUE_POLYNOMIALS")
    available = available_backends()
    if not wanted:
        return available[0]
    if wanted not in available:
        why = "is not installed: pip install kexue[geometry]" if wanted in BACKENDS else "does not exist"
        raise ConfigError(
            f"The polynomial backend must be one of {', '.join(BACKENDS)}, and {wanted!r} {why} "
            f"(available here: {', '.join(available)})."
        )
    return wanted


@contextmanager
def using_backend(name: str) -> Iterator[None]:
    """Fields made inside the block use this backend ("flint" or "sympy")."""
    before = _chosen[0]
    _chosen[0] = name
    try:
        default_backend()
        yield
    finally:
        _chosen[0] = before


def make_ring(backend: str, names: Sequence[str]) -> Ring:
    """Z[names] of one backend."""
    return FlintRing(names) if backend == "flint" else SympyRing(names)
