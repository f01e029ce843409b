"""The Petrov type from the Weyl operator on bivectors, without a tetrad and without a root.

In four dimensions the Hodge star of bivectors is ``sqrt|g| E`` with ``E^A_B = g^AC [C B]`` rational in the metric, and
``j = g E`` (g the determinant of the metric) has ``j^2 = g``. The Weyl operator C commutes with it, so C is a traceless
3 x 3 matrix over the scalars ``a + b j`` - the complex numbers where g < 0 - and the type is read off its minimal
polynomial (Stephani et al., Exact Solutions of Einstein's Field Equations, 2nd ed., 2003, table 4.1): C^2 = 0 for N,
C^3 = 0 for III, (C - x)(C + 2 x) = 0 for D, eigenvalues x, x, -2 x for II. Nothing is taken as positive on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kexue.maths.geometry.field import Element
from kexue.maths.geometry.tensors import signature_of

if TYPE_CHECKING:
    from kexue.maths.geometry.curvature import Curvature

__all__ = ["petrov_of_operator"]

Rows = dict[int, list[tuple[int, Element]]]
Complex = tuple[Element, Element]  # a + b j
Matrix = list[list[int]]


def petrov_of_operator(curvature: Curvature) -> str:
    """ "I", "II", "D", "III", "N" or "O": the type at a generic point of a Lorentzian metric in four dimensions."""
    if not curvature.weyl:
        return "O"
    possible = {"I", "II", "D", "III", "N"}
    weyl, star = curvature.weyl_mixed, _star(curvature)
    det = curvature.frame.metric_determinant
    for types in _modular(curvature, weyl, star, det):
        possible &= types
    # what is left out of `possible` was disproved at a point; what is left in it is now proved or disproved exactly
    if possible == {"I"}:
        return "I"
    square = curvature._times(weyl, weyl)
    if "N" in possible and not any(square.values()):
        return "N"
    turned = curvature._times(weyl, star)
    found = _eigenvalue(curvature, weyl, star, det) if "D" in possible else None
    if found is not None and any(found):
        a, b = found
        if any(_is_d(curvature, square, turned, x, det) for x in (found, (-a / 2, -b / 2))):
            return "D"
    second = _trace(curvature, square, star)
    third = (
        curvature.trace_of_product([square, weyl]) / 2,
        curvature.trace_of_product([square, turned]) / 2,
    )
    if "III" in possible and not any((*second, *third)):
        return "III"
    if "D" in possible and any(second) and _is_d(curvature, square, turned, _quotient(third, second, det), det):
        return "D"
    if "II" in possible:
        cube, product = _times(second, _times(second, second, det), det), _times(third, third, det)
        if all(x == y * 6 for x, y in zip(cube, product, strict=True)):
            return "II"
    return "I"


def _star(curvature: Curvature) -> Rows:
    """E^A_B."""
    out: Rows = {}
    for A, row in curvature._inverse_minors.items():
        values = []
        for C, x in row:
            pair = curvature.pairs[C]
            rest = tuple(k for k in range(4) if k not in pair)
            values.append((curvature.number[rest[0], rest[1]], x if signature_of(pair + rest) > 0 else -x))
        out[A] = values
    return out


def _trace(curvature: Curvature, operator: Rows, star: Rows) -> Complex:
    """The trace over a + b j: a = tr X / 2, b = tr X E / 2."""
    field = curvature.field
    plain = field.sum(value for A, row in operator.items() for B, value in row if A == B)
    return plain / 2, curvature.trace_of_product([operator, star]) / 2


def _times(x: Complex, y: Complex, det: Element) -> Complex:
    return x[0] * y[0] + x[1] * y[1] * det, x[0] * y[1] + x[1] * y[0]


def _quotient(x: Complex, y: Complex, det: Element) -> Complex:
    """-x / y."""
    if not y[1]:
        return -(x[0] / y[0]), -(x[1] / y[0])
    norm = (y[0] * y[0] - y[1] * y[1] * det).inverse()
    a, b = _times(x, (y[0], -y[1]), det)
    return -(a * norm), -(b * norm)


def _eigenvalue(curvature: Curvature, weyl: Rows, star: Rows, det: Element) -> Complex | None:
    """An eigenvalue whose (left) eigenvector is a bivector of the frame, if there is one: short, without traces."""
    zero = curvature.field.zero
    for A in range(6):
        own, dual = dict(weyl.get(A, ())), dict(star.get(A, ()))
        turning = next((B for B in dual if B != A), None)
        if turning is None:
            continue
        b = own[turning] / (dual[turning] * det) if turning in own else zero
        a = own.get(A, zero) - b * det * dual.get(A, zero)
        rest = {B for B in (*own, *dual) if B not in (A, turning)}
        if all(own.get(B, zero) == b * det * dual.get(B, zero) for B in rest):
            return a, b
    return None


def _is_d(curvature: Curvature, square: Rows, turned: Rows, x: Complex, det: Element) -> bool:
    """Whether C^2 + x C - 2 x^2 = 0; x is -tr C^3 / tr C^2 where the type is D."""
    field = curvature.field
    a, b = x
    p, q = _times(x, x, det)
    weyl, star = curvature.weyl_mixed, _star(curvature)
    parts = [(square, field.one), (weyl, a), (turned, b * det), (star, q * det * -2)]
    for A in range(6):
        terms: dict[int, list[Element]] = {A: [p * -2]}
        for operator, factor in parts:
            for B, value in operator.get(A, ()):
                if factor:
                    terms.setdefault(B, []).append(factor * value)
        if any(field.sum(row) for row in terms.values()):
            return False
    return True


def _modular(curvature: Curvature, weyl: Rows, star: Rows, det: Element) -> Iterator[set[str]]:
    """At random points modulo a prime: the types that are not excluded there.

    An expression that is not zero at a point is not zero; one that is zero there proves nothing.
    """
    from kexue.maths.geometry.field.modular import points_modulo

    det.lift()
    for rows in (weyl, star):
        for row in rows.values():
            for _, entry in row:
                entry.lift()
    for p, value in points_modulo(curvature.field, 2, 2):

        def number(x: Element, p: int = p, value=value) -> int:  # type: ignore[no-untyped-def]
            below = value(x.den)
            if not below:
                raise ZeroDivisionError
            return value(x.num) * pow(below, -1, p) % p

        try:
            c, e = ([[0] * 6 for _ in range(6)] for _ in range(2))
            for matrix, rows in ((c, weyl), (e, star)):
                for A, row in rows.items():
                    for B, x in row:
                        matrix[A][B] = number(x)
            yield _types(c, e, number(det), p)
        except ZeroDivisionError:
            continue


def _types(c: Matrix, e: Matrix, g: int, p: int) -> set[str]:
    """Types that the matrices C and E modulo p allow."""

    def product(x: Matrix, y: Matrix) -> Matrix:
        return [[sum(x[i][k] * y[k][j] for k in range(6)) % p for j in range(6)] for i in range(6)]

    def trace(x: Matrix) -> tuple[int, int]:
        turned = product(x, e)
        half = (p + 1) // 2
        return sum(x[i][i] for i in range(6)) * half % p, sum(turned[i][i] for i in range(6)) * half % p

    def times(x: tuple[int, int], y: tuple[int, int]) -> tuple[int, int]:
        return (x[0] * y[0] + x[1] * y[1] * g) % p, (x[0] * y[1] + x[1] * y[0]) % p

    square = product(c, c)
    second, third = trace(square), trace(product(square, c))
    types = {"I"}
    if not any(map(any, square)):
        types.add("N")
    if not any((*second, *third)):
        types.add("III")
    cube, other = times(second, times(second, second)), times(third, third)
    if all((x - 6 * y) % p == 0 for x, y in zip(cube, other, strict=True)):
        types.add("II")
        # t2 C^2 - t3 C - t2^2 / 3, its factors a + b j acting by a + b g E
        whole = times(second, second)
        turned = [product(e, x) for x in (square, c)]
        third_part = pow(3, -1, p)
        zero = all(
            (
                second[0] * square[i][j]
                + second[1] * g * turned[0][i][j]
                - third[0] * c[i][j]
                - third[1] * g * turned[1][i][j]
                - third_part * (whole[0] * (i == j) + whole[1] * g * e[i][j])
            )
            % p
            == 0
            for i in range(6)
            for j in range(6)
        )
        if zero:
            types.add("D")
    return types
