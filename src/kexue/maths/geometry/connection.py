"""Connections in a frame: Levi-Civita from the metric, or any given by the user; covariant derivative, curvature.

``omega^c_a = Gamma^c_ab theta^b``, that is ``nabla_b e_a = Gamma^c_ab e_c``. Levi-Civita by Koszul's formula, for a
frame metric eta_ab that need not be constant::

    2 Gamma_cab = e_b eta_ac + e_a eta_bc - e_c eta_ab + c_bac - c_bca - c_acb,   c_abc = eta_dc c_ab^d
    R^c_abd = e_b Gamma^c_ad - e_d Gamma^c_ab - c_bd^e Gamma^c_ae + Gamma^c_eb Gamma^e_ad - Gamma^c_ed Gamma^e_ab
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from kexue.errors import DataError
from kexue.maths.geometry.conventions import Conventions
from kexue.maths.geometry.field import Element
from kexue.maths.geometry.forms import Form
from kexue.maths.geometry.frames import Frame
from kexue.maths.geometry.tensors import Tensor

__all__ = ["Connection", "LeviCivita"]

Index = tuple[int, ...]


class Connection:
    """A connection with its coefficients Gamma^c_ab in a frame, torsion and non-metricity allowed.

    Args:
        frame: the basis.
        coefficients: ``{(c, a, b): Gamma^c_ab}``, values converted by the field; b is the direction of the derivative.
            Indices are numbers or the frame's names.

    Raises:
        DataError: indices that do not fit.
    """

    def __init__(self, frame: Frame, coefficients: Mapping[Index, Any]) -> None:
        if not isinstance(coefficients, Mapping):
            raise DataError(f"Coefficients {{(c, a, b): Gamma^c_ab}} were expected, received {coefficients!r}.")
        n, names = frame.dimension, frame.names
        indices: list[Index] = []
        for given in coefficients:
            index: Index = ()
            if isinstance(given, tuple):
                index = tuple(names.index(i) if i in names else i for i in given)
            if len(index) != 3 or not all(isinstance(i, int) and 0 <= i < n for i in index):
                raise DataError(
                    f"Indices (c, a, b) below {n} or of {', '.join(names)} were expected, received {given}."
                )
            indices.append(index)
        if twice := [index for index in indices if indices.count(index) > 1]:
            raise DataError(f"The coefficient {twice[0]} is given twice.")
        self.frame = frame
        self.field = frame.field
        values = self.field.convert_all(coefficients.values())
        self._given = {i: v for i, v in zip(indices, values, strict=True) if v}

    @property
    def gamma(self) -> dict[Index, Element]:
        """The non-zero Gamma^c_ab."""
        return self._given

    @cached_property
    def _by_upper(self) -> list[list[tuple[int, int, Element]]]:
        """For each upper index c: (a, b, Gamma^c_ab)."""
        out: list[list[tuple[int, int, Element]]] = [[] for _ in range(self.frame.dimension)]
        for (c, a, b), v in self.gamma.items():
            out[c].append((a, b, v))
        return out

    @cached_property
    def _by_lower(self) -> list[list[tuple[int, int, Element]]]:
        """For each lower index a: (c, b, Gamma^c_ab)."""
        out: list[list[tuple[int, int, Element]]] = [[] for _ in range(self.frame.dimension)]
        for (c, a, b), v in self.gamma.items():
            out[a].append((c, b, v))
        return out

    def covariant_derivative(self, tensor: Tensor) -> Tensor:
        """nabla T, the direction of the derivative as a last lower index: ``T^a_{b;e}``.

        One term +Gamma for each upper, -Gamma for each lower index (article 3998).
        """
        tensor = tensor.to_frame(self.frame)
        parts: dict[Index, list[Element]] = {}
        for index, value in tensor.components.items():
            for e in range(self.frame.dimension):
                slope = self.frame.derive(value, e)
                if slope:
                    parts.setdefault((*index, e), []).append(slope)
            for slot, letter in enumerate(tensor.variance):
                i = index[slot]
                table = self._by_lower if letter == "u" else self._by_upper
                for j, b, v in table[i]:
                    term = v * value if letter == "u" else -(v * value)
                    parts.setdefault((*index[:slot], j, *index[slot + 1 :], b), []).append(term)
        out = {i: self.field.sum(terms) for i, terms in parts.items()}
        return Tensor(self.frame, tensor.variance + "d", out, name=f"nabla {tensor.name}", note=tensor.note)

    @cached_property
    def torsion(self) -> Tensor:
        """``T(e_a, e_b) = nabla_a e_b - nabla_b e_a - [e_a, e_b]``: ``T^c_ab = Gamma^c_ba - Gamma^c_ab - c_ab^c``."""
        parts: dict[Index, list[Element]] = {}
        for (c, a, b), v in self.gamma.items():
            parts.setdefault((c, b, a), []).append(v)
            parts.setdefault((c, a, b), []).append(-v)
        for (a, b, c), v in self.frame.structure.items():
            parts.setdefault((c, a, b), []).append(-v)
        out = {i: self.field.sum(v) for i, v in parts.items()}
        return Tensor(self.frame, "udd", out, (((0, 2, 1), -1),), "T", "T^c_ab = Gamma^c_ba - Gamma^c_ab - c_ab^c")

    @cached_property
    def non_metricity(self) -> Tensor:
        """``nabla_e g_ab``, indices in the order a, b, e."""
        metric = {(a, b): x for a, row in enumerate(self.frame.metric_rows) for b, x in row}
        return self.covariant_derivative(Tensor(self.frame, "dd", metric, name="g"))

    @cached_property
    def curvature(self) -> Tensor:
        """``R^c_abd`` from the coefficients alone (MTW signs); antisymmetric in its last two indices."""
        parts: dict[Index, list[Element]] = {}
        n = self.frame.dimension

        def put(c: int, a: int, b: int, d: int, value: Element) -> None:
            if b < d:
                parts.setdefault((c, a, b, d), []).append(value)
            elif d < b:
                parts.setdefault((c, a, d, b), []).append(-value)

        for (c, a, d), v in self.gamma.items():
            for b in range(n):
                if b != d:
                    slope = self.frame.derive(v, b)
                    if slope:
                        put(c, a, b, d, slope)
        for (b, d, e), x in self.frame.structure.items():
            if b < d:
                for (c, a, f), v in self.gamma.items():
                    if f == e:
                        put(c, a, b, d, -(x * v))
        for (c, e, b), v in self.gamma.items():
            for a, d, w in self._by_upper[e]:
                if b != d:
                    put(c, a, b, d, v * w)
        out: dict[Index, Element] = {}
        for (c, a, b, d), terms in parts.items():
            value = self.field.sum(terms)
            if value:
                out[c, a, b, d] = value
                out[c, a, d, b] = -value
        return Tensor(self.frame, "uddd", out, (((0, 1, 3, 2), -1),), "R", str(Conventions()))

    def forms(self) -> list[list[Form]]:
        """The connection forms omega^c_a on the coordinate differentials, a row each c."""
        n, field = self.frame.dimension, self.field
        h = self.frame.coframe
        out = []
        for c in range(n):
            row = []
            for a in range(n):
                terms: dict[Index, list[Element]] = {}
                for b in range(n):
                    v = self.gamma.get((c, a, b))
                    if v is None:
                        continue
                    for mu in range(n):
                        if h[b][mu]:
                            terms.setdefault((mu,), []).append(v * h[b][mu])
                row.append(Form(field, 1, {i: field.sum(t) for i, t in terms.items()}))
            out.append(row)
        return out

    def curvature_forms(self) -> list[list[Form]]:
        """``R^a_b = d omega^a_b + omega^a_c ^ omega^c_b``, straight from the connection forms (Cartan's equation)."""
        omega = self.forms()
        n = self.frame.dimension
        out = []
        for a in range(n):
            row = []
            for b in range(n):
                total = omega[a][b].d()
                for c in range(n):
                    if omega[a][c].components and omega[c][b].components:
                        total = total + omega[a][c].wedge(omega[c][b])
                row.append(total)
            out.append(row)
        return out


class LeviCivita(Connection):
    """The torsion-free connection of a metric."""

    def __init__(self, frame: Frame) -> None:
        super().__init__(frame, {})

    @cached_property
    def lowered(self) -> dict[Index, Element]:
        """The non-zero Gamma_cab (first kind), by Koszul's formula."""
        frame, field = self.frame, self.field
        parts: dict[Index, list[Element]] = {}

        def put(c: int, a: int, b: int, value: Element) -> None:
            parts.setdefault((c, a, b), []).append(value)

        for y, row in enumerate(frame.metric_rows):
            for c, value in row:
                if c < y:
                    continue
                for x in range(frame.dimension):
                    slope = frame.derive(value, x)
                    if not slope:
                        continue
                    for p, q in {(y, c), (c, y)}:
                        put(q, p, x, slope)
                        put(q, x, p, slope)
                        put(x, p, q, -slope)
        for (x, y, d), value in frame.structure.items():
            for z, eta in frame.metric_rows[d]:
                c_xyz = value * eta
                put(z, y, x, c_xyz)
                put(y, z, x, -c_xyz)
                put(y, x, z, -c_xyz)
        out = {}
        for index, terms in parts.items():
            total = field.sum(terms)
            if total:
                out[index] = total / 2
        return out

    @cached_property
    def _gamma(self) -> dict[Index, Element]:
        parts: dict[Index, list[Element]] = {}
        for (f, a, b), value in self.lowered.items():
            for c, x in self.frame.inverse_rows[f]:
                parts.setdefault((c, a, b), []).append(value * x)
        sums = {i: v[0] if len(v) == 1 else self.field.sum(v) for i, v in parts.items()}
        return {i: v for i, v in sums.items() if v}

    @property
    def gamma(self) -> dict[Index, Element]:
        """The non-zero Gamma^c_ab (second kind)."""
        return self._gamma
