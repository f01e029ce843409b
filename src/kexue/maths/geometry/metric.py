"""The metric: made from a matrix, a line element, a coframe or the catalogue; everything else hangs on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry.calculus import Calculus
from kexue.maths.geometry.connection import Connection, LeviCivita
from kexue.maths.geometry.conventions import Conventions
from kexue.maths.geometry.curvature import Curvature
from kexue.maths.geometry.field import Element, Field, OpaqueFunction
from kexue.maths.geometry.field.field import split_names
from kexue.maths.geometry.forms import Form
from kexue.maths.geometry.frames import Frame, coordinate_frame, require_shape
from kexue.maths.geometry.invariants import Invariants
from kexue.maths.geometry.line_element import linear_coefficients, read_definitions, read_line_element
from kexue.maths.geometry.matrices import identity, ldl
from kexue.maths.geometry.results import Results
from kexue.maths.geometry.tensors import SYMMETRIC, Tensor

__all__ = ["Metric"]


class Metric(Results, Invariants, Calculus):
    """A metric on a chart, with its curvature and covariant calculus, all exact, computed when asked for and kept.

    Args:
        matrix: g_ij, rows of numbers, strings, SymPy expressions or elements.
        coordinates: names ("t r theta phi" or a sequence).
        parameters: names of constants; None takes every other name as one.
        functions: names of unknown functions; None takes every other called name as one.
        opaque: functions with known derivatives, besides the registered ones.
        conventions: signs of the curvature ("mtw", "weinberg", ... or :class:`Conventions`).
        frame: in which frame to compute: "coordinate", "ldl" (made of the metric by completing squares, rational),
            "orthonormal" (the same, normalised by roots), or "auto".
        name: for titles.
        backend: of the polynomials, "flint" or "sympy".

    Raises:
        DataError: a matrix of the wrong shape, not symmetric, or with unknown names.
        ConfigError: the metric is degenerate.

    Example:
        >>> g = Metric([[1, 0], [0, "sin(theta)^2"]], "theta phi")
        >>> g.ricci_scalar()
        2
    """

    def __init__(
        self,
        matrix: Sequence[Sequence[Any]] | Any,
        coordinates: str | Sequence[str] | None = None,
        *,
        parameters: str | Sequence[str] | None = None,
        functions: str | Sequence[str] | None = None,
        opaque: Iterable[OpaqueFunction] = (),
        conventions: Conventions | str | None = None,
        frame: str = "auto",
        name: str = "",
        backend: str | None = None,
        field: Field | None = None,
    ) -> None:
        if isinstance(matrix, str):
            raise DataError("A matrix was expected, received a string; use Metric.from_line_element.")
        if field is None:
            if coordinates is None:
                raise DataError("The coordinates of a matrix must be named, for example coordinates='t r theta phi'.")
            field = Field(_texts(coordinates), parameters, functions, opaque, backend)
        try:
            rows = matrix.tolist() if hasattr(matrix, "tolist") else [list(row) for row in matrix]
        except TypeError:
            raise DataError(f"A matrix, rows of g_ij, was expected; received {matrix!r}.") from None
        require_shape(rows, field.dimension, "metric")
        flat = field.convert_all([x for row in rows for x in row], _alone(rows))
        n = field.dimension
        values = [flat[i * n : (i + 1) * n] for i in range(n)]
        self._start(field, coordinate_frame(field, values), conventions, name)
        self._choose(frame)

    def _start(self, field: Field, frame: Frame, conventions: Conventions | str | None, name: str) -> None:
        self.field = field
        self.frame = frame
        self.conventions = Conventions.of(conventions)
        self.name = name
        self.dimension = field.dimension
        self.coordinates = field.coordinates
        self._curvatures: dict[tuple[bool, str], Curvature] = {}
        frame.inverse_metric  # noqa: B018  a degenerate metric is refused here

    def _choose(self, wanted: str) -> None:
        if wanted not in ("auto", "coordinate", "ldl", "orthonormal"):
            raise ConfigError(f"frame must be auto, coordinate, ldl or orthonormal, received {wanted!r}.")
        if wanted in ("auto", "coordinate"):
            return
        self.frame = self.orthonormal_frame if wanted == "orthonormal" else self.ldl_frame()

    # --- constructors -------------------------------------------------------------------------------------------

    @classmethod
    def from_line_element(cls, text: str, coordinates: str | Sequence[str] | None = None, **options: Any) -> Metric:
        """A metric from a string: ``"-(1-2*M/r)*dt^2 + dr^2/(1-2*M/r) + r^2*(dtheta^2 + sin(theta)^2*dphi^2)"``.

        Lines before it may define abbreviations. Coordinates are taken from the differentials when not named.

        Raises:
            DataError: it cannot be read or is not quadratic in the differentials.
        """
        if not isinstance(text, str):
            raise DataError(
                f"A line element was expected, received {type(text).__name__}; a matrix goes to Metric(...)."
            )
        names = None if coordinates is None else split_names(_texts(coordinates), "coordinates")
        line = read_line_element(text, names)
        return cls(line.matrix, line.coordinates, **options)

    @classmethod
    def from_coframe(
        cls,
        coframe: Sequence[Any],
        frame_metric: Sequence[Any] | Any = None,
        coordinates: str | Sequence[str] | None = None,
        *,
        parameters: str | Sequence[str] | None = None,
        functions: str | Sequence[str] | None = None,
        opaque: Iterable[OpaqueFunction] = (),
        conventions: Conventions | str | None = None,
        name: str = "",
        backend: str | None = None,
        definitions: dict[str, str] | None = None,
    ) -> Metric:
        """A metric from a moving frame ``ds^2 = eta_ab theta^a theta^b``.

        Args:
            coframe: n covectors, each a string such as ``"dt - a*sin(theta)^2*dphi"`` or a row of components.
            frame_metric: eta, a matrix or its diagonal, constant or not; None is the unit matrix.
            coordinates: names.
            parameters: see :class:`Metric`; so are functions, opaque, conventions, name and backend.
            functions: see :class:`Metric`.
            opaque: see :class:`Metric`.
            conventions: see :class:`Metric`.
            name: see :class:`Metric`.
            backend: see :class:`Metric`.
            definitions: abbreviations used in strings, ``{"Delta": "r^2 - 2*M*r + a^2"}``.

        Raises:
            DataError: shapes that do not fit, a frame metric that is not symmetric.
            ConfigError: dependent covectors, a degenerate frame metric.
        """
        if coordinates is None:
            raise DataError("The coordinates of a coframe must be named, for example coordinates='t r theta phi'.")
        field = Field(_texts(coordinates), parameters, functions, opaque, backend)
        n = field.dimension
        if isinstance(coframe, str):
            raise DataError(
                f"A sequence of {n} covectors was expected, such as ['dt', 'r*dphi']; received {coframe!r}."
            )
        coframe = coframe.tolist() if hasattr(coframe, "tolist") else coframe
        if len(coframe) != n:
            raise DataError(f"{n} covectors were expected, one a coordinate; received {len(coframe)}.")
        expand = _Definitions(definitions or {}, field.coordinates)
        for row in coframe:
            if not hasattr(row, "__iter__"):
                raise DataError(
                    f"Covectors such as 'dt - a*dphi' or rows of components were expected, received {row!r}."
                )
        rows = [
            linear_coefficients(row, field.coordinates, definitions) if isinstance(row, str) else list(map(expand, row))
            for row in coframe
        ]
        require_shape(rows, n, "coframe")
        eta = _square(frame_metric, n, expand)
        flat = field.convert_all([x for row in [*rows, *eta] for x in row], _alone([*rows, *eta]))
        values = [flat[i * n : (i + 1) * n] for i in range(2 * n)]
        frame = Frame(field, values[:n], values[n:])
        frame.vectors  # noqa: B018  dependent covectors are refused here
        metric = cls.__new__(cls)
        metric._start(field, frame, conventions, name)
        return metric

    def with_conventions(self, conventions: Conventions | str) -> Metric:
        """The same metric, results in other sign conventions."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)  # what is kept does not depend on conventions
        other.conventions = Conventions.of(conventions)
        return other

    # --- the metric itself --------------------------------------------------------------------------------------

    @cached_property
    def coordinate_frame(self) -> Frame:
        """The coordinate basis with g_ij."""
        return self.frame if self.frame.is_coordinate else coordinate_frame(self.field, self.frame.coordinate_metric)

    @property
    def tensor(self) -> Tensor:
        """g_ij as a tensor in the coordinate basis."""
        return self._metric_tensor(self.coordinate_frame.metric_rows, "dd", "g")

    @property
    def inverse(self) -> Tensor:
        """g^ij."""
        return self._metric_tensor(self.coordinate_frame.inverse_rows, "uu", "g")

    def _metric_tensor(self, rows: Any, variance: str, name: str) -> Tensor:
        values = {(i, j): x for i, row in enumerate(rows) for j, x in row}
        return Tensor(self.coordinate_frame, variance, values, SYMMETRIC, name)

    @cached_property
    def determinant(self) -> Element:
        """det g."""
        return self.frame.metric_determinant * self.frame.coframe_determinant**2

    @cached_property
    def diagonal_frame(self) -> Frame:
        """The metric's own frame where its frame metric is diagonal, else the LDL^T frame."""
        return self.frame if self._diagonal(self.frame) else self.ldl_frame()

    @cached_property
    def signs(self) -> tuple[int, ...]:
        """Signs of the diagonal frame's metric at a random point where everything assumed positive is positive.

        A point with a definite or Lorentzian signature is preferred (a chart may reach behind a singularity), and where
        a coordinate is called t or tau a point where that one is the time (outside of a horizon).

        Raises:
            ConfigError: no real point was found.
        """
        from kexue.maths.geometry.field.sampling import points

        diagonal = [row[a] for a, row in enumerate(self.diagonal_frame._metric())]
        clocks = {a for a, name in enumerate(map(str, self.coordinates)) if name in ("t", "tau")}
        lorentzian = definite = other = None
        for count, point in enumerate(points(self.field)):
            try:
                values = [point(d) for d in diagonal]
            except (ArithmeticError, ValueError):
                continue
            if any(abs(v.imag) > 1e-9 * abs(v) or not v for v in values):
                continue
            signs = tuple(1 if v.real > 0 else -1 for v in values)
            for sign in (-1, 1):
                alone = [a for a, own in enumerate(signs) if own == sign]
                if (not alone and not clocks) or (len(alone) == 1 and (not clocks or alone[0] in clocks)):
                    return signs
                if len(alone) == 1:
                    lorentzian = lorentzian or signs
                if not alone:
                    definite = definite or signs
            other = other or signs
            if count > 60:
                break
        if lorentzian is not None or definite is not None:
            return lorentzian or definite  # type: ignore[return-value]
        if other is None:
            raise ConfigError("No real point was found where the metric has a signature.")
        return other

    @property
    def determinant_sign(self) -> int:
        """Sign of det g where the metric has its :attr:`signs`."""
        return -1 if self.signs.count(-1) % 2 else 1

    @cached_property
    def volume(self) -> Element:
        """sqrt(|det g|)."""
        return self.field.sqrt(self.determinant if self.determinant_sign > 0 else -self.determinant)

    def ldl_frame(self) -> Frame:
        """A frame with diagonal metric by completing squares: g = L D L^T, no roots."""
        coframe, diagonal = ldl(self.field, self.coordinate_frame._metric())
        eta = identity(self.field, self.dimension)
        for a, d in enumerate(diagonal):
            eta[a][a] = d
        return Frame(self.field, coframe, eta)

    @cached_property
    def orthonormal_frame(self) -> Frame:
        """The diagonal frame normalised by roots, its metric diag(+-1) with the metric's :attr:`signs`."""
        frame = self.diagonal_frame
        eta = identity(self.field, self.dimension)
        rows = []
        for a, sign in enumerate(self.signs):
            d = frame._metric()[a][a]
            root = self.field.sqrt(d if sign > 0 else -d)
            rows.append([x * root for x in frame.coframe[a]])
            eta[a][a] = self.field.integer(sign)
        return Frame(self.field, rows, eta)

    @staticmethod
    def _diagonal(frame: Frame) -> bool:
        return all(b == a for a, row in enumerate(frame.metric_rows) for b, _ in row)

    def curvature_in(self, frame: Frame | None = None, route: str | None = None) -> Curvature:
        """The engine in a frame (the metric's own by default); kept."""
        frame = frame or self.frame
        key = (frame.is_coordinate, f"{id(frame)} {route}")
        if key not in self._curvatures:
            self._curvatures[key] = Curvature(frame, route)
        return self._curvatures[key]

    @cached_property
    def curvature(self) -> Curvature:
        """The engine in the metric's own frame."""
        return self.curvature_in()

    @cached_property
    def connection(self) -> LeviCivita:
        """The Levi-Civita connection in the metric's own frame."""
        return self.curvature.connection

    @cached_property
    def coordinate_connection(self) -> LeviCivita:
        """The Levi-Civita connection in coordinates."""
        return self.connection if self.frame.is_coordinate else LeviCivita(self.coordinate_frame)

    def connection_from(self, coefficients: Any) -> Connection:
        """A connection of the user, ``{(c, a, b): Gamma^c_ab}`` in coordinates, torsion and non-metricity allowed."""
        return Connection(self.coordinate_frame, coefficients)

    def form(self, text: str) -> Form:
        """A form of degree 1 from a string such as "dt - a*sin(theta)^2*dphi"."""
        from kexue.maths.geometry.forms import form_from_string

        return form_from_string(self.field, text)

    def __str__(self) -> str:
        from kexue.maths.geometry.show import line_element_text

        return line_element_text(self)

    __repr__ = __str__

    def latex(self) -> str:
        """The line element in LaTeX."""
        from kexue.maths.geometry.show import line_element_latex

        return line_element_latex(self)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"


def _alone(rows: Sequence[Sequence[Any]]) -> list[int]:
    """Numbers, over all rows, of the entries that stand alone in theirs: the inverse matrix has their inverses."""
    n = len(rows[0])
    filled = [[j for j, x in enumerate(row) if isinstance(x, str) or bool(x)] for row in rows]
    return [i * n + js[0] for i, js in enumerate(filled) if len(js) == 1]


class _Definitions:
    """Strings with abbreviations replaced; other values as they are."""

    def __init__(self, definitions: dict[str, str], coordinates: tuple[str, ...]) -> None:
        self.names = tuple(definitions) + coordinates
        self.known = read_definitions(list(definitions.items()), coordinates, self.names)

    def __call__(self, value: Any) -> Any:
        from kexue.maths.geometry.field.parser import parse

        return parse(value, self.names).xreplace(self.known) if isinstance(value, str) and self.known else value


def _texts(names: str | Sequence[Any]) -> str | list[str]:
    if not isinstance(names, str) and not hasattr(names, "__iter__"):
        raise DataError(f"Names of coordinates were expected, for example 't r theta phi'; received {names!r}.")
    return names if isinstance(names, str) else [str(name) for name in names]


def _square(value: Any, n: int, expand: _Definitions) -> list[list[Any]]:
    """A frame metric from None, a diagonal or a matrix."""
    if value is None:
        return [[1 if i == j else 0 for j in range(n)] for i in range(n)]
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise DataError(f"A frame metric was expected, a matrix of size {n} or its diagonal; received {value!r}.")
    rows = value.tolist() if hasattr(value, "tolist") else list(value)
    if all(isinstance(row, str) or not hasattr(row, "__len__") for row in rows):
        if len(rows) != n:
            raise DataError(f"A frame metric of {n} diagonal entries was expected, received {len(rows)}.")
        return [[expand(rows[i]) if i == j else 0 for j in range(n)] for i in range(n)]
    require_shape(rows, n, "frame metric")
    return [[expand(x) for x in row] for row in rows]
