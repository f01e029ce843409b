"""Covariant calculus of a metric: derivatives, divergence, Laplace-Beltrami, geodesics (articles 3998 - 4046)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry.field import Element
from kexue.maths.geometry.tensors import Tensor

if TYPE_CHECKING:
    import sympy

    from kexue.maths.geometry.connection import LeviCivita
    from kexue.maths.geometry.field import Field
    from kexue.maths.geometry.frames import Frame

__all__ = ["Calculus", "GeodesicEquations", "lie_bracket", "lie_derivative"]


@dataclass(frozen=True)
class GeodesicEquations:
    """``x^i'' + Gamma^i_jk x^j' x^k' = 0``.

    Attributes:
        coordinates: names.
        coefficients: for each i the ``{(j, k): value}`` with j <= k of the products x^j' x^k', cross terms doubled.
    """

    coordinates: tuple[str, ...]
    coefficients: tuple[dict[tuple[int, int], Element], ...]

    def to_sympy(self, parameter: str = "s") -> list[sympy.Eq]:
        """Equations for functions of the parameter."""
        import sympy

        s = sympy.Symbol(parameter)
        x = [sympy.Function(name)(s) for name in self.coordinates]
        replaced = {sympy.Symbol(name): f for name, f in zip(self.coordinates, x, strict=True)}
        out = []
        for i, row in enumerate(self.coefficients):
            terms = [v.to_sympy().subs(replaced) * x[j].diff(s) * x[k].diff(s) for (j, k), v in row.items()]
            out.append(sympy.Eq(x[i].diff(s, 2) + sympy.Add(*terms), 0))
        return out

    def __str__(self) -> str:
        lines = []
        for name, row in zip(self.coordinates, self.coefficients, strict=True):
            terms = [
                f"({v})*{self.coordinates[j]}'*{self.coordinates[k]}'" if j != k else f"({v})*{self.coordinates[j]}'^2"
                for (j, k), v in row.items()
            ]
            lines.append(" + ".join([f"{name}''", *terms]) + " = 0")
        return "\n".join(lines)

    __repr__ = __str__

    def latex(self) -> str:
        """The equations in LaTeX, one line each; a dot is the derivative by the affine parameter."""
        import sympy

        names = [sympy.latex(sympy.Symbol(name)) for name in self.coordinates]
        lines = []
        for name, row in zip(names, self.coefficients, strict=True):
            terms = [rf"\ddot{{{name}}}"]
            for (j, k), value in row.items():
                speeds = rf"\dot{{{names[j]}}}^2" if j == k else rf"\dot{{{names[j]}}}\,\dot{{{names[k]}}}"
                terms.append(rf"\left({value.latex()}\right) {speeds}")
            lines.append(" + ".join(terms) + " &= 0")
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"


class Calculus:
    """Mixed into :class:`~kexue.maths.geometry.metric.Metric`. Vectors are given by coordinate components."""

    if TYPE_CHECKING:
        field: Field
        frame: Frame
        dimension: int
        coordinates: tuple[str, ...]

        @property
        def coordinate_frame(self) -> Frame: ...
        @property
        def coordinate_connection(self) -> LeviCivita: ...
        @property
        def determinant(self) -> Element: ...

    def vector(self, components: Sequence[Any]) -> Tensor:
        """A vector from its coordinate components."""
        return Tensor.from_array(self.coordinate_frame, "u", components, name="v")

    def covector(self, components: Sequence[Any]) -> Tensor:
        """A covector from its coordinate components."""
        return Tensor.from_array(self.coordinate_frame, "d", components, name="w")

    def tensor_of(self, variance: str, array: Any, name: str = "T") -> Tensor:
        """A tensor of any rank from nested sequences of coordinate components."""
        return Tensor.from_array(self.coordinate_frame, variance, array, name=name)

    def covariant_derivative(self, tensor: Tensor) -> Tensor:
        """nabla T in coordinates, the direction of the derivative as a last lower index."""
        return self.coordinate_connection.covariant_derivative(tensor.to_frame(self.coordinate_frame))

    def _vector(self, vector: Any) -> Tensor:
        if isinstance(vector, Tensor):
            tensor = vector.to_frame(self.coordinate_frame)
            if tensor.rank != 1:
                raise DataError(f"A vector was expected, received a tensor with {tensor.rank} indices.")
            return tensor if tensor.variance == "u" else tensor.raise_index(0)
        return self.vector(vector)

    def gradient(self, value: Any) -> Tensor:
        """``nabla^i f``."""
        f = self.field(value)
        slopes = {(i,): self.field.diff(f, i) for i in range(self.dimension)}
        return Tensor(self.coordinate_frame, "d", slopes, name="grad").raise_index(0)

    def divergence(self, tensor: Any) -> Any:
        """``nabla_i T^i...`` over the first index; of a vector an element, of a tensor of higher rank a tensor."""
        given = tensor if isinstance(tensor, Tensor) else self.vector(tensor)
        slope = self.covariant_derivative(given)
        total = slope.contract(0, given.rank)
        return total.scalar() if not total.rank else total

    def laplacian(self, value: Any) -> Element:
        """Laplace-Beltrami operator ``nabla_i nabla^i f = (1/|g|) d_i(|g| d^i f) - ...``; the d'Alembertian in
        Lorentzian signature. With rational arithmetic only: ``g^ij d_i d_j f + (d_i g^ij + g^ij d_i ln|g| / 2) d_j f``.
        """
        f = self.field(value)
        n, field = self.dimension, self.field
        slopes = [field.diff(f, i) for i in range(n)]
        log_slopes = [field.diff(self.determinant, i) / (self.determinant * 2) for i in range(n)]
        terms = []
        for i, row in enumerate(self.coordinate_frame.inverse_rows):
            for j, x in row:
                if slopes[j]:
                    factor = field.diff(x, i) + x * log_slopes[i]
                    terms += [x * field.diff(slopes[j], i), factor * slopes[j]]
        return field.sum(terms)

    dalembertian = laplacian

    def hessian(self, value: Any) -> Tensor:
        """``nabla_i nabla_j f``."""
        f = self.field(value)
        slopes = {(i,): self.field.diff(f, i) for i in range(self.dimension)}
        return self.covariant_derivative(Tensor(self.coordinate_frame, "d", slopes, name="df"))

    def commutator(self, tensor: Tensor) -> Tensor:
        """``T_;e;f - T_;f;e``, last two indices e, f. For a vector: ``A^m_;a;b - A^m_;b;a = -R^m_nab A^n``."""
        second = self.covariant_derivative(self.covariant_derivative(tensor))
        order = list(range(second.rank))
        order[-1], order[-2] = order[-2], order[-1]
        return second - second.transpose(*order)

    def lie_derivative_of_metric(self, vector: Any) -> Tensor:
        """``(L_v g)_ij``; zero for a Killing vector."""
        from kexue.maths.geometry.tensors import SYMMETRIC

        metric = {(i, j): x for i, row in enumerate(self.coordinate_frame.metric_rows) for j, x in row}
        tensor = Tensor(self.coordinate_frame, "dd", metric, SYMMETRIC, "g")
        return lie_derivative(self._vector(vector), tensor)

    def is_killing(self, vector: Any) -> bool:
        """Whether the vector generates an isometry: L_v g = 0, exactly."""
        return self.lie_derivative_of_metric(vector).is_zero

    def geodesic_equations(self) -> GeodesicEquations:
        """``x^i'' + Gamma^i_jk x^j' x^k' = 0``."""
        rows: list[dict[tuple[int, int], Element]] = [{} for _ in range(self.dimension)]
        for (i, j, k), value in sorted(self.coordinate_connection.gamma.items()):
            if j <= k:
                rows[i][j, k] = value if j == k else value * 2
        return GeodesicEquations(self.coordinates, tuple(rows))

    def jacobi(self, energy: Any, potential: Any) -> Any:
        """The Maupertuis-Jacobi metric ``2 (E - V) g``, whose geodesics are the trajectories (article 4046)."""
        from kexue.maths.geometry.metric import Metric

        factor = (self.field(energy) - self.field(potential)) * 2
        if not factor:
            raise ConfigError("E - V is zero everywhere: the Jacobi metric would vanish.")
        metric = self.coordinate_frame._metric()
        return Metric([[x * factor for x in row] for row in metric], field=self.field)

    def conformal(self, factor: Any) -> Any:
        """The metric multiplied by a function."""
        from kexue.maths.geometry.metric import Metric

        value = self.field(factor)
        return Metric([[x * value for x in row] for row in self.coordinate_frame._metric()], field=self.field)


def lie_bracket(u: Tensor, v: Tensor) -> Tensor:
    """``[u, v]^i = u^j d_j v^i - v^j d_j u^i`` of vectors in coordinates."""
    if u.variance != "u" or v.variance != "u" or not u.frame.is_coordinate:
        raise DataError("Two vectors with coordinate components were expected.")
    bracket = lie_derivative(u, v)
    return Tensor(u.frame, "u", bracket.components, name="[u, v]")


def lie_derivative(vector: Tensor, tensor: Tensor) -> Tensor:
    """``L_v T`` in coordinates: ``v^k d_k T``, less ``d_k v^i`` for each upper, plus ``d_j v^k`` for each lower."""
    if vector.variance != "u" or not vector.frame.is_coordinate or tensor.frame is not vector.frame:
        raise DataError("A vector and a tensor with coordinate components were expected.")
    field, n = tensor.field, tensor.dimension
    slopes = {(i, k): field.diff(value, k) for (i,), value in vector.components.items() for k in range(n)}
    parts: dict[tuple[int, ...], list[Element]] = {}
    for index, value in tensor.components.items():
        for (k,), x in vector.components.items():
            slope = field.diff(value, k)
            if slope:
                parts.setdefault(index, []).append(x * slope)
        for slot, letter in enumerate(tensor.variance):
            for (i, k), slope in slopes.items():
                if not slope:
                    continue
                if letter == "u" and index[slot] == k:
                    parts.setdefault((*index[:slot], i, *index[slot + 1 :]), []).append(-(slope * value))
                elif letter == "d" and index[slot] == i:
                    parts.setdefault((*index[:slot], k, *index[slot + 1 :]), []).append(slope * value)
    out = {i: field.sum(terms) for i, terms in parts.items()}
    return Tensor(tensor.frame, tensor.variance, out, tensor.symmetry, f"L {tensor.name}", tensor.note)
