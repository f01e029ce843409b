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
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry.calculus import lie_derivative
from kexue.maths.geometry.field import Element, Field
from kexue.maths.geometry.field.modular import PointModulo, points_modulo, prepare_slopes, rank_modulo
from kexue.maths.geometry.matrices import index_pairs, null_space
from kexue.maths.geometry.tensors import SYMMETRIC, Tensor

if TYPE_CHECKING:
    from kexue.maths.geometry.field.field import Generator
    from kexue.maths.geometry.metric import Metric

__all__ = ["killing_dimension", "killing_vectors"]

_MOST_UNKNOWNS = 1500
_POINTS = 3
_MOST_OF_MORE = 400


def killing_dimension(metric: Metric, highest: int = 3) -> int:
    """The number of independent Killing vectors near a generic point.

    The rank of the linear equations is taken at random points modulo primes of 40 bits, where it is that of the
    equations themselves but for a chance below one in a million for each point; three points are looked at.

    Args:
        metric: the metric.
        highest: how many covariant derivatives of the curvature may be needed.

    Raises:
        ConfigError: the number was not settled by then, or no point was found.
    """
    n = metric.dimension
    width = n + n * (n - 1) // 2
    tables = [metric.riemann("dddd", "frame")]
    before, least = width, len(_cyclic(metric))
    for order in range(highest + 1):
        left = _unknowns_left(metric, tables, width, least)
        if left in (least, width) or (order and left == before):  # the cyclic ones are there, others need not be
            return left
        before = left
        if order < highest:
            tables.append(metric.connection.covariant_derivative(tables[-1]))
    raise ConfigError(f"The number of Killing vectors is not settled after {highest} derivatives of the curvature.")


def _cyclic(metric: Metric) -> list[int]:
    """Numbers of the coordinates on which no component of the metric depends: d/dx is a Killing vector."""
    rows = metric.coordinate_frame.metric_rows
    used = frozenset[int]().union(*(metric.field.coordinates_of(x) for row in rows for _, x in row))
    return [i for i in range(metric.dimension) if i not in used]


def _unknowns_left(metric: Metric, tables: Sequence[Tensor], width: int, least: int) -> int:
    """What the equations of the curvature and its covariant derivatives leave of the unknowns, at random points.

    The last slope is made of numbers: its formulas, by far the longest, are not needed.
    """
    field, frame = metric.field, metric.frame
    gamma = metric.connection.gamma
    components = [list(tensor.components.values()) for tensor in tables]
    prepare_slopes(field, components[-1])
    entries = [x for row in frame.inverse_rows for _, x in row] + list(gamma.values())
    entries += [x for column in frame.vector_columns for _, x in column] + [x for part in components for x in part]
    for x in entries:
        x.lift()
    left, found = width, 0
    for p, value in points_modulo(field, 2, 2 * _POINTS):
        point = PointModulo(field, p, value)
        try:
            rows = _equations_at(metric, tables, point)
        except ZeroDivisionError:
            continue
        found += 1
        left = min(left, width - rank_modulo(rows, p))
        if left == least or found == _POINTS:
            return left
    raise ConfigError("No point was found where the equations of Killing vectors have values.")


def _equations_at(metric: Metric, tables: Sequence[Tensor], point: PointModulo) -> list[dict[int, int]]:
    frame, p = metric.frame, point.p
    inverse = [[(b, point.value(x)) for b, x in row] for row in frame.inverse_rows]
    vectors = [[(mu, point.value(x)) for mu, x in column] for column in frame.vector_columns]
    gamma = [(index, point.value(x)) for index, x in metric.connection.gamma.items()]
    parts = [{index: point.value(x) for index, x in tensor.components.items()} for tensor in tables[:-1]]
    last, slope = {}, {}
    for index, x in tables[-1].components.items():
        last[index], moving = point.gradient(x)
        for a, column in enumerate(vectors):
            slope[(*index, a)] = sum(e * moving.get(mu, 0) for mu, e in column) % p
    by_upper: dict[int, list[tuple[int, int, int]]] = {}
    for (c, a, b), y in gamma:
        by_upper.setdefault(c, []).append((a, b, y))
    for index, number in last.items():
        for slot, c in enumerate(index):
            for a, b, y in by_upper.get(c, ()):
                key = (*index[:slot], a, *index[slot + 1 :], b)
                slope[key] = (slope.get(key, 0) - number * y) % p
    rows: list[dict[int, int]] = []
    for tensor, derivative in pairwise([*parts, last, slope]):
        rows += _equations(inverse, tensor, derivative, p)
    return rows


def _equations(
    inverse: list[list[tuple[int, int]]], tensor: dict[tuple[int, ...], int], slope: dict[tuple[int, ...], int], p: int
) -> list[dict[int, int]]:
    """Rows of ``xi^e nabla_e T_a... + F_a^e T_e... + ... = 0`` modulo p in the unknowns xi_e, F_ab."""
    n = len(inverse)
    number = {pair: n + k for k, pair in enumerate(index_pairs(n))}
    parts: dict[tuple[int, ...], dict[int, int]] = {}
    for index, value in slope.items():
        row = parts.setdefault(index[:-1], {})
        for e, x in inverse[index[-1]]:
            row[e] = (row.get(e, 0) + value * x) % p
    for index, value in tensor.items():
        for slot, e in enumerate(index):
            for f, x in inverse[e]:  # F_a^e T_..e.. = F_af g^fe T_..e..
                term = value * x
                for a in range(n):
                    if a != f:
                        row = parts.setdefault((*index[:slot], a, *index[slot + 1 :]), {})
                        unknown = number[min(a, f), max(a, f)]
                        row[unknown] = (row.get(unknown, 0) + (term if a < f else -term)) % p
    return list(parts.values())


def killing_vectors(metric: Metric, functions: Sequence[Any] | None = None) -> list[Tensor]:
    """Killing vectors whose components are combinations of the functions with constant coefficients.

    Args:
        metric: the metric.
        functions: what the components may be made of. None takes products of 1, the coordinates, and sin, cos, cot of
            the angles that stand in the metric or on which it does not depend; where :func:`killing_dimension` tells
            that there are more and the dimension is low, other simple functions of each coordinate as well.

    Returns:
        A basis; each vector is checked exactly. Compare its length with :func:`killing_dimension`.

    Raises:
        ConfigError: too many functions.
    """
    if isinstance(functions, str):
        raise DataError(
            f"A sequence of functions was expected, such as ['1', 'r', 'cos(phi)']; received {functions!r}."
        )
    if functions is not None:
        return _among(metric, metric.field.convert_all(functions))
    cyclic = _cyclic(metric)
    try:
        wanted = killing_dimension(metric)
    except ConfigError:
        wanted = metric.dimension * (metric.dimension + 1) // 2
    if wanted == len(cyclic):
        one, frame = metric.field.one, metric.coordinate_frame
        return [Tensor(frame, "u", {(i,): one}, name="xi") for i in cyclic]
    found = _among(metric, _candidates(metric))
    if len(found) < wanted:
        for more, most in ((_more_candidates, _MOST_OF_MORE), (_candidates_of_angles, 2 * _MOST_OF_MORE)):
            candidates = more(metric)
            if len(found) < wanted and len(candidates) * metric.dimension <= most:
                found = max(found, _among(metric, candidates), key=len)
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


def _standing(metric: Metric) -> list[Generator]:
    """Generators of one coordinate in the components of the metric."""
    field = metric.field
    entries = [x for row in metric.coordinate_frame.metric_rows for _, x in row]
    found = [field.generators[name] for name in dict.fromkeys(n for x in entries for n in field.generators_of(x))]
    return [generator for generator in found if len(generator.coordinates) == 1]


def _more_candidates(metric: Metric) -> list[Element]:
    """Products of 1, x, x^2, 1/x for each coordinate that stands in the metric, of 1, x, x^2, sin x, cos x (on surfaces
    sinh x, cosh x) for the others, of cotangents of angles in the metric and of its exponentials to powers up to two.
    """
    field = metric.field
    inside: dict[int, list[Element]] = {}
    for generator in _standing(metric):
        name = {"cos": "cot", "sin": "cot", "cosh": "coth", "sinh": "coth", "exp": "exp"}.get(generator.kind)
        if name is not None:
            value = field.apply(name, generator.data)
            values = [value]
            if name == "exp":
                values += [value.inverse(), value * value, (value * value).inverse()]
            known = inside.setdefault(next(iter(generator.coordinates)), [])
            known += [v for v in values if not any(v == x for x in known)]
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


def _candidates_of_angles(metric: Metric) -> list[Element]:
    """Products of 1, cot, tan, sin, cos, 1/sin of an angle in the metric, 1, x, 1/x of what else stands there, 1, x,
    sin x, cos x of the rest: what straight motions are in polar coordinates."""
    field = metric.field
    angles = {next(iter(g.coordinates)): g.data for g in _standing(metric) if g.kind in ("sin", "cos")}
    cyclic = _cyclic(metric)
    choices = []
    for i, name in enumerate(field.coordinates):
        x = field.symbol(name)
        if i in angles:
            names = ("cot", "tan", "sin", "cos", "csc")
            options = [field.one, *(field.apply(f, angles[i]) for f in names)]
        elif i in cyclic:
            options = [field.one, x, field.apply("sin", x), field.apply("cos", x)]
        else:
            options = [field.one, x, x.inverse()]
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
