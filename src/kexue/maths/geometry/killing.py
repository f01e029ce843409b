"""Killing vectors: how many there are, and which, by linear algebra over the field.

A Killing vector is fixed by xi_a and F_ab = nabla_a xi_b (antisymmetric) at one point, and
``nabla_c F_ab = R_abcd xi^d`` up to sign. Integrability asks that the Lie derivative of the curvature and of its
covariant derivatives vanish: linear equations for (xi, F) at a generic point. Where one more derivative brings no new
equation, their solutions are as many as there are Killing vectors (prolongation; Eisenhart, Continuous Groups of
Transformations, 1933).

The vectors themselves are sought as combinations, with constant coefficients, of given functions: L_xi g = 0 is then a
linear system for the constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from kexue.errors import ConfigError
from kexue.maths.geometry.calculus import lie_derivative
from kexue.maths.geometry.field import Element, Field
from kexue.maths.geometry.matrices import index_pairs, null_space
from kexue.maths.geometry.tensors import SYMMETRIC, Tensor

if TYPE_CHECKING:
    from kexue.maths.geometry.metric import Metric

__all__ = ["killing_dimension", "killing_vectors"]

_MOST_UNKNOWNS = 1500
_MOST_OF_MORE = 400


def killing_dimension(metric: Metric, highest: int = 3) -> int:
    """The number of independent Killing vectors near a generic point.

    Args:
        metric: the metric.
        highest: how many covariant derivatives of the curvature may be needed.

    Raises:
        ConfigError: the number was not settled by then.
    """
    field, n = metric.field, metric.dimension
    pairs = index_pairs(n)
    number = {pair: n + k for k, pair in enumerate(pairs)}
    width = n + len(pairs)
    tensor = metric.riemann("dddd", "frame")
    rows: list[list[Element]] = []
    before, least = width, len(_cyclic(metric))
    for order in range(highest + 1):
        slope = metric.connection.covariant_derivative(tensor)
        rows += _equations(metric, tensor, slope, number, width)
        basis = null_space(field, rows, width)
        if len(basis) == least:  # no more than this, and so many are known
            return least
        if order and len(basis) == before:
            return before
        if not rows:  # constant curvature: nothing to satisfy, nothing will come
            return width
        rows = _independent(field, rows, width)
        before, tensor = len(basis), slope
    raise ConfigError(f"The number of Killing vectors is not settled after {highest} derivatives of the curvature.")


def _cyclic(metric: Metric) -> list[int]:
    """Numbers of the coordinates on which no component of the metric depends: d/dx is a Killing vector."""
    rows = metric.coordinate_frame.metric_rows
    used = frozenset[int]().union(*(metric.field.coordinates_of(x) for row in rows for _, x in row))
    return [i for i in range(metric.dimension) if i not in used]


def _independent(field: Field, rows: list[list[Element]], width: int) -> list[list[Element]]:
    """Rows of the same span, one for each pivot."""
    orthogonal = null_space(field, rows, width)
    return null_space(field, orthogonal, width) if orthogonal else rows


def _equations(
    metric: Metric, tensor: Tensor, slope: Tensor, number: dict[tuple[int, int], int], width: int
) -> list[list[Element]]:
    """Rows of ``xi^e nabla_e T_a... + F_a^e T_e... + ... = 0`` in the unknowns xi_e, F_ab."""
    field, n = metric.field, metric.dimension
    inverse = metric.frame.inverse_rows
    parts: dict[tuple[int, ...], dict[int, list[Element]]] = {}
    for index, value in slope.components.items():
        for e, x in inverse[index[-1]]:
            parts.setdefault(index[:-1], {}).setdefault(e, []).append(value * x)
    for index, value in tensor.components.items():
        for slot, e in enumerate(index):
            for f, x in inverse[e]:  # F_a^e T_..e.. = F_af g^fe T_..e..
                term = value * x
                for a in range(n):
                    if a == f:
                        continue
                    row = parts.setdefault((*index[:slot], a, *index[slot + 1 :]), {})
                    unknown = number[min(a, f), max(a, f)]
                    row.setdefault(unknown, []).append(term if a < f else -term)
    out: list[list[Element]] = []
    seen = set()
    for columns in parts.values():
        equation = [field.sum(columns[k]) if k in columns else field.zero for k in range(width)]
        lead = next((x for x in equation if x), None)
        if lead is None:
            continue
        inverted = lead.inverse()
        equation = [x * inverted if x else x for x in equation]
        key = tuple(x.key() for x in equation)
        if key not in seen:
            seen.add(key)
            out.append(equation)
    return out


def killing_vectors(metric: Metric, functions: Sequence[Any] | None = None) -> list[Tensor]:
    """Killing vectors whose components are combinations of the functions with constant coefficients.

    Args:
        metric: the metric.
        functions: what the components may be made of. None takes products of 1, the coordinates, and sin, cos, cot of
            the angles that stand in the metric or on which it does not depend; where :func:`killing_dimension` tells
            that there are more and the dimension is low, also squares, inverses, sines and cosines of coordinates and
            the exponentials of the metric.

    Returns:
        A basis; each vector is checked exactly. Compare its length with :func:`killing_dimension`.

    Raises:
        ConfigError: too many functions.
    """
    if functions is not None:
        return _among(metric, metric.field.convert_all(functions))
    found = _among(metric, _candidates(metric))
    more = _more_candidates(metric)
    if len(found) < metric.dimension * (metric.dimension + 1) // 2 and len(more) * metric.dimension <= _MOST_OF_MORE:
        try:
            wanted = killing_dimension(metric)
        except ConfigError:
            return found
        if wanted > len(found):
            others = _among(metric, more)
            return others if len(others) > len(found) else found
    return found


def _among(metric: Metric, candidates: list[Element]) -> list[Tensor]:
    field, n = metric.field, metric.dimension
    if len(candidates) * n > _MOST_UNKNOWNS:
        raise ConfigError(f"{len(candidates)} functions in {n} components are too many; give fewer functions.")
    frame = metric.coordinate_frame
    values = {(i, j): x for i, row in enumerate(frame.metric_rows) for j, x in row}
    g = Tensor(frame, "dd", values, SYMMETRIC, "g")
    unknowns = [(i, f) for i in range(n) for f in candidates]
    equations: dict[tuple[int, int], list[tuple[int, Element]]] = {}
    for k, (i, f) in enumerate(unknowns):
        image = lie_derivative(Tensor(frame, "u", {(i,): f}), g)
        for index, value in image.components.items():
            if index[0] <= index[1]:
                equations.setdefault((index[0], index[1]), []).append((k, value))
    rows: list[list[Element]] = []
    for terms in equations.values():
        rows += _constant_rows(field, terms, len(unknowns))
    vectors = []
    for solution in null_space(field, rows, len(unknowns)):
        parts: dict[tuple[int, ...], list[Element]] = {}
        for (i, f), c in zip(unknowns, solution, strict=True):
            if c:
                parts.setdefault((i,), []).append(c * f)
        vector = Tensor(frame, "u", {i: field.sum(t) for i, t in parts.items()}, name="xi")
        if not vector.is_zero and lie_derivative(vector, g).is_zero:
            vectors.append(vector)
    return vectors


def _constant_rows(field: Field, terms: list[tuple[int, Element]], width: int) -> list[list[Element]]:
    """``sum c_k E_k = 0`` with constant c: one equation for each monomial in what depends on coordinates."""
    from kexue.maths.geometry.field.linear import numerators

    ring = field.ring
    moving = [k for k, name in enumerate(ring.names) if field.generators[name].coordinates]
    found: dict[tuple[int, ...], dict[int, dict[tuple[int, ...], int]]] = {}
    for (k, _), num in zip(terms, numerators(field, [e for _, e in terms]), strict=True):
        for monomial, c in ring.terms(num):
            key = tuple(monomial[v] for v in moving)
            rest = tuple(0 if v in moving else e for v, e in enumerate(monomial))
            column = found.setdefault(key, {}).setdefault(k, {})
            column[rest] = column.get(rest, 0) + c
    out = []
    for columns in found.values():
        row = [field.zero] * width
        for k, polynomial in columns.items():
            row[k] = Element(field, ring.from_terms(polynomial), ring)
        out.append(row)
    return out


def _candidates(metric: Metric) -> list[Element]:
    field = metric.field
    used: set[int] = set()
    angles: set[int] = set()
    for row in metric.coordinate_frame.metric_rows:
        for _, x in row:
            used |= field.coordinates_of(x)
            for name in field.generators_of(x):
                generator = field.generators[name]
                if generator.kind in ("sin", "cos"):
                    angles |= generator.coordinates
    choices = []
    for i, name in enumerate(field.coordinates):
        x = field.symbol(name)
        options = [field.one]
        if i in angles:
            options += [field.apply("cot", x)]
        elif i in used:
            options += [x]
        elif angles:
            options += [field.apply("sin", x), field.apply("cos", x)]
        else:
            options += [x]
        choices.append(options)
    return _products(field, choices)


def _more_candidates(metric: Metric) -> list[Element]:
    """Products of 1, x, x^2, 1/x for each coordinate that stands in the metric, of 1, x, x^2, sin x, cos x (on surfaces
    sinh x, cosh x) for the others, of cotangents of angles in the metric and of its exponentials to powers up to two.
    """
    field = metric.field
    inside: dict[int, list[Element]] = {}
    for generator in list(field.generators.values()):
        if generator.kind in ("cos", "cosh", "exp") and len(generator.coordinates) == 1:
            argument = generator.data
            names = {"cos": ("cot",), "cosh": ("coth",), "exp": ("exp",)}[generator.kind]
            values = [field.apply(name, argument) for name in names]
            if generator.kind == "exp":
                values += [x for v in values for x in (v.inverse(), v * v, (v * v).inverse())]
            inside.setdefault(next(iter(generator.coordinates)), []).extend(values)
    cyclic = _cyclic(metric)
    choices = []
    for i, name in enumerate(field.coordinates):
        x = field.symbol(name)
        if i in inside:
            options = [field.one, *inside[i]]
        elif i in cyclic:
            options = [field.one, x, x * x, field.apply("sin", x), field.apply("cos", x)]
            if metric.dimension == 2:
                options += [field.apply("sinh", x), field.apply("cosh", x)]
        else:
            options = [field.one, x, x * x, x.inverse()]
        choices.append(options)
    return _products(field, choices)


def _products(field: Field, choices: list[list[Element]]) -> list[Element]:
    out = []
    for combination in product(*choices):
        value = field.one
        for factor in combination:
            value = value * factor
        out.append(value)
    return out
