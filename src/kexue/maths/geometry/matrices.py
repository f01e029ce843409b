"""Matrices of field elements: determinant, inverse, LDL^T, null space, minors. Sparse rows are kept sparse."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from kexue.maths.geometry.field import Element, Field

__all__ = [
    "Matrix",
    "blocks",
    "determinant",
    "factored_determinant",
    "identity",
    "inverse",
    "ldl",
    "minors",
    "multiply",
    "null_space",
    "transpose",
]

Matrix = list[list[Element]]


def identity(field: Field, n: int) -> Matrix:
    """The unit matrix."""
    return [[field.one if i == j else field.zero for j in range(n)] for i in range(n)]


def transpose(a: Matrix) -> Matrix:
    """Rows and columns exchanged."""
    return [list(column) for column in zip(*a, strict=True)]


def multiply(field: Field, a: Matrix, b: Matrix) -> Matrix:
    """a b."""
    columns = transpose(b)
    return [[field.sum(x * y for x, y in zip(row, column, strict=True) if x and y) for column in columns] for row in a]


def blocks(a: Matrix) -> list[list[int]]:
    """Index sets that no non-zero entry connects."""
    n = len(a)
    group = list(range(n))
    for i in range(n):
        for j in range(n):
            if a[i][j] and group[i] != group[j]:
                old, new = group[j], group[i]
                group = [new if g == old else g for g in group]
    return [[i for i in range(n) if group[i] == g] for g in dict.fromkeys(group)]


def _pivot(rows: Sequence[Sequence[Element]], column: int, start: int) -> int | None:
    """The simplest non-zero entry of a column."""
    candidates = [r for r in range(start, len(rows)) if rows[r][column]]
    return min(candidates, key=lambda r: rows[r][column].size()) if candidates else None


def determinant(field: Field, a: Matrix) -> Element:
    """The determinant; small blocks by the formula, larger ones by elimination."""
    total = field.one
    for block in blocks(a):
        total = total * _determinant(field, [[a[i][j] for j in block] for i in block])
    return total


def _determinant(field: Field, a: Matrix) -> Element:
    n = len(a)
    if n == 1:
        return a[0][0]
    if n == 2:
        return a[0][0] * a[1][1] - a[0][1] * a[1][0]
    if n == 3:
        terms = []
        for i in range(3):
            j, k = (i + 1) % 3, (i + 2) % 3
            if a[0][i]:
                terms.append(a[0][i] * (a[1][j] * a[2][k] - a[1][k] * a[2][j]))
        return field.sum(terms)
    rows = [list(row) for row in a]
    result = field.one
    for column in range(n):
        pivot = _pivot(rows, column, column)
        if pivot is None:
            return field.zero
        if pivot != column:
            rows[column], rows[pivot] = rows[pivot], rows[column]
            result = -result
        result = result * rows[column][column]
        inverted = rows[column][column].inverse()
        for r in range(column + 1, n):
            if rows[r][column]:
                scale = rows[r][column] * inverted
                rows[r] = [x - scale * y if y else x for x, y in zip(rows[r], rows[column], strict=True)]
    return result


def factored_determinant(field: Field, a: Matrix) -> str:
    """The determinant of a singular matrix as the product of its pivots, "r**2 * sin(theta)**2 * 0"."""
    factors: list[str] = []
    for block in blocks(a):
        rows = [[a[i][j] for j in block] for i in block]
        det = _determinant(field, rows)
        if det:
            factors.append(str(det))
            continue
        for column in range(len(rows)):
            pivot = _pivot(rows, column, column)
            if pivot is None:
                factors.append("0")
                continue
            rows[column], rows[pivot] = rows[pivot], rows[column]
            factors.append(str(rows[column][column] if pivot == column else -rows[column][column]))
            inverted = rows[column][column].inverse()
            for r in range(column + 1, len(rows)):
                scale = rows[r][column] * inverted
                rows[r] = [x - scale * y for x, y in zip(rows[r], rows[column], strict=True)]
    shown = [x if x.isalnum() else f"({x})" for x in factors if x not in ("0", "1")]
    return " * ".join([*shown, "0"]) + (" = 0" if shown else "")


def inverse(field: Field, a: Matrix, det: Element | None = None) -> Matrix | None:
    """The inverse, or None of a singular matrix; block by block, small blocks by cofactors."""
    n = len(a)
    out = [[field.zero] * n for _ in range(n)]
    for block in blocks(a):
        part = _inverse(field, [[a[i][j] for j in block] for i in block])
        if part is None:
            return None
        for i, row in zip(block, part, strict=True):
            for j, x in zip(block, row, strict=True):
                out[i][j] = x
    return out


def _inverse(field: Field, a: Matrix) -> Matrix | None:
    n = len(a)
    if n <= 3:
        det = _determinant(field, a)
        if not det:
            return None
        inverted = det.inverse()
        if n == 1:
            return [[inverted]]
        if n == 2:
            return [[a[1][1] * inverted, -a[0][1] * inverted], [-a[1][0] * inverted, a[0][0] * inverted]]
        out = [[field.zero] * 3 for _ in range(3)]
        for i in range(3):
            for j in range(3):
                p, q, r, s = (j + 1) % 3, (j + 2) % 3, (i + 1) % 3, (i + 2) % 3
                out[i][j] = (a[p][r] * a[q][s] - a[p][s] * a[q][r]) * inverted
        return out
    rows = [[*row, *unit] for row, unit in zip(a, identity(field, n), strict=True)]
    for column in range(n):
        pivot = _pivot(rows, column, column)
        if pivot is None:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        inverted = rows[column][column].inverse()
        rows[column] = [x * inverted if x else x for x in rows[column]]
        for r in range(n):
            if r != column and rows[r][column]:
                scale = rows[r][column]
                rows[r] = [x - scale * y if y else x for x, y in zip(rows[r], rows[column], strict=True)]
    return [row[n:] for row in rows]


def null_space(field: Field, a: Sequence[Sequence[Element]], width: int) -> list[list[Element]]:
    """A basis of the vectors v with a v = 0."""
    rows = [list(row) for row in a if any(row)]
    pivots: list[int] = []
    row = 0
    for column in range(width):
        pivot = _pivot(rows, column, row)
        if pivot is None:
            continue
        rows[row], rows[pivot] = rows[pivot], rows[row]
        inverted = rows[row][column].inverse()
        rows[row] = [x * inverted if x else x for x in rows[row]]
        for r in range(len(rows)):
            if r != row and rows[r][column]:
                scale = rows[r][column]
                rows[r] = [x - scale * y if y else x for x, y in zip(rows[r], rows[row], strict=True)]
        pivots.append(column)
        row += 1
    basis = []
    for free in (c for c in range(width) if c not in pivots):
        vector = [field.zero] * width
        vector[free] = field.one
        for r, column in enumerate(pivots):
            vector[column] = -rows[r][free]
        basis.append(vector)
    return basis


def ldl(field: Field, a: Matrix) -> tuple[Matrix, list[Element]]:
    """A coframe h and a diagonal d with ``a = h^T diag(d) h``, by completing squares; a is not singular.

    Where all diagonal entries left vanish, ``2 c x y`` becomes ``c ((x + y)**2 - (x - y)**2) / 2``.
    """
    n = len(a)
    rest = [list(row) for row in a]
    left = list(range(n))
    rows: list[tuple[int, list[Element], Element]] = []

    def subtract(u: list[Element], v: list[Element], factor: Element) -> None:
        for i in left:
            for j in left:
                if u[i] and v[j]:
                    rest[i][j] = rest[i][j] - factor * u[i] * v[j]

    def covector(i: int, scale: Element) -> list[Element]:
        return [rest[i][j] * scale if j in left and rest[i][j] else field.zero for j in range(n)]

    while left:
        usable = [i for i in left if rest[i][i]]
        if usable:
            i = min(usable, key=lambda i: (sum(1 for j in left if rest[i][j]), rest[i][i].size()))
            d = rest[i][i]
            row = covector(i, d.inverse())
            subtract(row, row, d)
            rows.append((i, row, d))
            left.remove(i)
            continue
        i, j = next((i, j) for i in left for j in left if rest[i][j])
        c = rest[i][j]
        x, y = covector(j, c.inverse()), covector(i, c.inverse())
        subtract(x, y, c)
        subtract(y, x, c)
        rows.append((i, [p + q for p, q in zip(x, y, strict=True)], c / 2))
        rows.append((j, [p - q for p, q in zip(x, y, strict=True)], -c / 2))
        left = [k for k in left if k not in (i, j)]
    rows.sort(key=lambda entry: entry[0])
    return [row for _, row, _ in rows], [d for _, _, d in rows]


def minors(field: Field, a: Matrix, pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Element]:
    """The non-zero 2 x 2 minors ``a[i][k] a[j][l] - a[i][l] a[j][k]`` by numbers of the pairs (i, j), (k, l)."""
    out = {}
    for row, (i, j) in enumerate(pairs):
        for column, (k, m) in enumerate(pairs):
            terms = []
            if a[i][k] and a[j][m]:
                terms.append(a[i][k] * a[j][m])
            if a[i][m] and a[j][k]:
                terms.append(-(a[i][m] * a[j][k]))
            value = field.sum(terms) if terms else None
            if value is not None and value:
                out[row, column] = value
    return out


def index_pairs(n: int) -> list[tuple[int, int]]:
    """(0, 1), (0, 2), ... in order."""
    return list(combinations(range(n), 2))
