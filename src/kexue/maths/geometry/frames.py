"""Moving frames: a coframe ``theta^a = h^a_mu dx^mu``, its dual vectors, and the metric in it.

The coordinate basis is the frame with h = 1, so that one engine serves both. Articles 4054-4076: ds^2 = eta_ab theta^a
theta^b; eta need not be constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry.field import Element, Field
from kexue.maths.geometry.matrices import (
    Matrix,
    determinant,
    factored_determinant,
    identity,
    inverse,
    multiply,
    null_space,
    transpose,
)

__all__ = ["Frame", "coordinate_frame", "require_symmetric"]


class Frame:
    """A basis of covectors and the metric in it.

    Args:
        field: the scalars.
        coframe: h[a][mu]; None for the coordinate basis.
        metric: eta[a][b], or None where there is no metric.

    Raises:
        ConfigError: the covectors are dependent, or the metric is degenerate.
        DataError: wrong shapes, or a metric that is not symmetric.
    """

    def __init__(self, field: Field, coframe: Matrix | None, metric: Matrix | None) -> None:
        n = field.dimension
        self.field = field
        self.dimension = n
        self.is_coordinate = coframe is None
        self.coframe = identity(field, n) if coframe is None else coframe
        require_shape(self.coframe, n, "coframe")
        if metric is not None:
            require_shape(metric, n, "metric")
            require_symmetric(metric, field)
        self.metric = metric
        self.names = field.coordinates if coframe is None else tuple(str(a) for a in range(n))

    @cached_property
    def vectors(self) -> Matrix:
        """E[mu][a]: the components of the dual vectors e_a, the inverse of the coframe.

        Raises:
            ConfigError: the covectors are dependent.
        """
        if self.is_coordinate:
            return self.coframe
        found = inverse(self.field, self.coframe)
        if found is None:
            relation = null_space(self.field, transpose(self.coframe), self.dimension)[0]
            text = " + ".join(f"({c})*theta{a}" for a, c in enumerate(relation) if c)
            raise ConfigError(f"The covectors of the coframe are dependent: {text} = 0. Give {self.dimension} others.")
        return found

    @cached_property
    def vector_columns(self) -> list[list[tuple[int, Element]]]:
        """For each e_a its non-zero components."""
        return [[(mu, row[a]) for mu, row in enumerate(self.vectors) if row[a]] for a in range(self.dimension)]

    @cached_property
    def inverse_metric(self) -> Matrix:
        """eta^ab.

        Raises:
            ConfigError: the metric is degenerate.
        """
        metric = self._metric()
        found = inverse(self.field, metric)
        if found is None:
            vector = null_space(self.field, metric, self.dimension)[0]
            names = [f"d/d{name}" if self.is_coordinate else f"e_{name}" for name in self.names]
            text = " + ".join(f"({c})*{name}" for c, name in zip(vector, names, strict=True) if c)
            raise ConfigError(
                f"The metric is degenerate: its determinant is {factored_determinant(self.field, metric)}, and the "
                f"vector {text} is orthogonal to everything."
            )
        return found

    def _metric(self) -> Matrix:
        if self.metric is None:
            raise ConfigError("This frame has no metric; give one to raise or lower indices.")
        return self.metric

    @cached_property
    def metric_rows(self) -> list[list[tuple[int, Element]]]:
        """For each a the non-zero eta_ab."""
        return [[(b, x) for b, x in enumerate(row) if x] for row in self._metric()]

    @cached_property
    def inverse_rows(self) -> list[list[tuple[int, Element]]]:
        """For each a the non-zero eta^ab."""
        return [[(b, x) for b, x in enumerate(row) if x] for row in self.inverse_metric]

    @cached_property
    def metric_determinant(self) -> Element:
        """det eta."""
        return determinant(self.field, self._metric())

    @cached_property
    def coframe_determinant(self) -> Element:
        """det h."""
        return self.field.one if self.is_coordinate else determinant(self.field, self.coframe)

    @cached_property
    def coordinate_metric(self) -> Matrix:
        """g = h^T eta h."""
        metric = self._metric()
        if self.is_coordinate:
            return metric
        return multiply(self.field, transpose(self.coframe), multiply(self.field, metric, self.coframe))

    def derive(self, value: Element, a: int) -> Element:
        """e_a(value)."""
        if self.is_coordinate:
            return self.field.diff(value, a)
        terms = []
        used = self.field.coordinates_of(value)
        for mu, x in self.vector_columns[a]:
            if mu in used:
                slope = self.field.diff(value, mu)
                if slope:
                    terms.append(x * slope)
        return self.field.sum(terms)

    @cached_property
    def structure(self) -> dict[tuple[int, int, int], Element]:
        """c_ab^d of ``[e_a, e_b] = c_ab^d e_d``, the non-zero ones; c_ab^d = -d theta^d(e_a, e_b)."""
        out: dict[tuple[int, int, int], Element] = {}
        if self.is_coordinate:
            return out
        field, n = self.field, self.dimension
        for d in range(n):
            curl = {}
            for mu in range(n):
                for nu in range(mu + 1, n):
                    terms = []
                    if self.coframe[d][nu]:
                        terms.append(field.diff(self.coframe[d][nu], mu))
                    if self.coframe[d][mu]:
                        terms.append(-field.diff(self.coframe[d][mu], nu))
                    value = field.sum(terms)
                    if value:
                        curl[mu, nu] = value
            if not curl:
                continue
            E = self.vectors
            for a in range(n):
                for b in range(a + 1, n):
                    terms = []
                    for (mu, nu), value in curl.items():
                        if E[mu][a] and E[nu][b]:
                            terms.append(value * (E[mu][a] * E[nu][b]))
                        if E[mu][b] and E[nu][a]:
                            terms.append(-(value * (E[mu][b] * E[nu][a])))
                    total = field.sum(terms)
                    if total:
                        out[a, b, d] = -total
                        out[b, a, d] = total
        return out

    def __repr__(self) -> str:
        return "coordinate basis" if self.is_coordinate else f"frame of {self.dimension} covectors"


def coordinate_frame(field: Field, metric: Matrix | None) -> Frame:
    """The coordinate basis with its metric."""
    return Frame(field, None, metric)


def require_shape(a: Sequence[Sequence[object]], n: int, what: str) -> None:
    """Raise DataError unless the matrix is n x n."""
    widths = {len(row) for row in a}
    if len(a) != n or widths != {n}:
        got = f"{len(a)} x {widths.pop() if len(widths) == 1 else sorted(widths)}"
        raise DataError(f"The {what} must be {n} x {n}, one row a coordinate; received {got}.")


def require_symmetric(a: Matrix, field: Field) -> None:
    """Raise DataError unless the matrix is symmetric."""
    for i in range(len(a)):
        for j in range(i):
            if a[i][j] != a[j][i]:
                raise DataError(
                    f"The metric must be symmetric: entry ({j}, {i}) is {a[j][i]} and entry ({i}, {j}) is {a[i][j]}."
                )
