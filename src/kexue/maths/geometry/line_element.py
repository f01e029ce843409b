"""Metrics written as line elements: ``ds^2 = -(1 - 2*M/r)*dt^2 + ...``, with definitions before it if wanted."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from kexue.errors import DataError
from kexue.maths.geometry.field.parser import parse, spell

__all__ = ["LineElement", "linear_coefficients", "read_definitions", "read_line_element"]

_NO_DIFFERENTIALS = {"delta", "d"}


@dataclass(frozen=True)
class LineElement:
    """What was read: names of the coordinates, and the matrix g_ij as SymPy expressions."""

    coordinates: tuple[str, ...]
    matrix: list[list[Any]]


def read_line_element(text: str, coordinates: Sequence[str] | None = None) -> LineElement:
    """Read a line element.

    Lines may define abbreviations first (``Delta = r^2 - 2*M*r + a^2``); the line element is the last line, with or
    without ``ds^2 =`` before it. ``#`` starts a comment, ``coordinates: t r theta phi`` names the coordinates; without
    it they are taken from the differentials, in their order of appearance.

    Raises:
        DataError: it cannot be read, or is not quadratic in the differentials.
    """
    named, definitions, body = _split(spell(text))
    names = tuple(coordinates or named or _differentials(body, definitions))
    if not names:
        raise DataError(f"No differentials such as dt or dr were found in {_short(body)!r}.")
    expression = _parsed(body, definitions, names)
    differentials = _symbols(names)
    _check_degree(expression, differentials, 2, body)
    n = len(names)
    matrix: list[list[Any]] = [[None] * n for _ in range(n)]
    for i in range(n):
        slope = expression.diff(differentials[i])
        for j in range(i, n):
            value = slope.diff(differentials[j]) / 2
            if value.has(*differentials):
                value = value.expand()
            if value.has(*differentials):
                raise DataError(f"The line element is not quadratic in the differentials: {_short(body)!r}.")
            matrix[i][j] = matrix[j][i] = value
    return LineElement(names, matrix)


def linear_coefficients(text: str, coordinates: Sequence[str], definitions: dict[str, str] | None = None) -> list[Any]:
    """Coefficients of dx^i in a covector written as a string.

    Raises:
        DataError: it is not linear in the differentials.
    """
    names = tuple(coordinates)
    expression = _parsed(spell(text), list((definitions or {}).items()), names)
    differentials = _symbols(names)
    _check_degree(expression, differentials, 1, text)
    out = [expression.diff(d) for d in differentials]
    out = [c.expand() if c.has(*differentials) else c for c in out]
    if any(c.has(*differentials) for c in out):
        raise DataError(f"A covector linear in {', '.join('d' + n for n in names)} was expected: {_short(text)!r}.")
    return out


def _symbols(names: Sequence[str]) -> list[Any]:
    import sympy

    return [sympy.Symbol("d" + name) for name in names]


def _check_degree(expression: Any, differentials: list[Any], degree: int, text: str) -> None:
    """At zero differentials the expression vanishes, and for degree 2 its slopes too."""
    import sympy

    zero = dict.fromkeys(differentials, sympy.Integer(0))
    lower = [expression] if degree == 1 else [expression, *(expression.diff(d) for d in differentials)]
    for part in lower:
        value = part.subs(zero)
        if value != 0 and sympy.expand(value) != 0:
            kind = "quadratic" if degree == 2 else "linear"
            raise DataError(
                f"Every term must be {kind} in the differentials {', '.join(map(str, differentials))}; something else "
                f"stands in {_short(text)!r}. Name the coordinates if one is missing there."
            )


def _split(text: str) -> tuple[tuple[str, ...], list[tuple[str, str]], str]:
    """Coordinates, definitions and the line element itself."""
    names: tuple[str, ...] = ()
    definitions: list[tuple[str, str]] = []
    body: list[str] = []
    for line in re.split(r"[\n;]", text):
        line = line.split("#")[0].strip()  # noqa: PLW2901
        if not line:
            continue
        if match := re.fullmatch(r"(?:coordinates|coords)\s*[:=]\s*(.*)", line):
            names = tuple(match.group(1).replace(",", " ").split())
        elif match := re.fullmatch(r"ds\s*(?:\*\*|\^)?\s*\(?2\)?\s*=\s*(.*)", line):
            body = [match.group(1)]
        elif (match := re.fullmatch(r"([A-Za-z_]\w*)\s*=\s*(.*)", line)) and not body:
            definitions.append((match.group(1), match.group(2)))
        elif "=" in line:
            raise DataError(f"A definition 'name = formula' or 'ds^2 = ...' was expected: {_short(line)!r}.")
        else:
            body.append(line)
    if not body and definitions:
        raise DataError(
            f"The line element itself is missing after the definition of {definitions[-1][0]}: write 'ds^2 = ...'."
        )
    if not body:
        raise DataError("A line element was expected, nothing was received (write for example dr^2 + r^2*dphi^2).")
    return names, definitions, " ".join(body)


def _differentials(body: str, definitions: list[tuple[str, str]]) -> list[str]:
    defined = {name for name, _ in definitions}
    words = re.findall(r"\d+\.?\d*(?:[eE][+-]?\d+)?|([A-Za-z_]\w*)(?!\w)(?!\s*\()", body)  # 2dx is a product
    found = [word[1:] for word in words if word[:1] == "d" and len(word) > 1]
    return [name for name in dict.fromkeys(found) if "d" + name not in _NO_DIFFERENTIALS and "d" + name not in defined]


def _parsed(body: str, definitions: Sequence[tuple[str, str]], names: tuple[str, ...]) -> Any:
    symbols = set(names) | {"d" + name for name in names} | {name for name, _ in definitions}
    known = read_definitions(definitions, names, symbols)
    expression = parse(body, symbols)
    return expression.xreplace(known) if known else expression


def read_definitions(
    definitions: Sequence[tuple[str, str]], coordinates: Sequence[str], symbols: Collection[str]
) -> dict[Any, Any]:
    """Values of abbreviations by symbol, earlier ones replaced in later ones.

    Raises:
        DataError: one has the name of a coordinate, or uses one that is defined after it.
    """
    import sympy

    known: dict[Any, Any] = {}
    defined = {name for name, _ in definitions}
    for name, formula in definitions:
        if name in coordinates:
            raise DataError(
                f"{name} is defined as {_short(formula)!r} and is a coordinate too (d{name} stands in the line "
                f"element): give the coordinates and write d{name} in their differentials, or use another name."
            )
        value = parse(formula, symbols).xreplace(known)
        for missing in sorted(x.name for x in value.free_symbols if x.name in defined and x not in known):
            raise DataError(
                f"{name} uses {missing}, which is not defined before it: put the definition of {missing} above that of "
                f"{name}, or rename it if a constant of that name is meant."
            )
        known[sympy.Symbol(name)] = value
    return known


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
