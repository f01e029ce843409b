"""Curvature tensors of a metric as tensors with names, symmetries and conventions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kexue.errors import ConfigError
from kexue.maths.geometry.curvature import Pairs, expand_pairs
from kexue.maths.geometry.field import Element
from kexue.maths.geometry.field.element import Scalar
from kexue.maths.geometry.forms import Form
from kexue.maths.geometry.tensors import RIEMANN, SYMMETRIC, Tensor

if TYPE_CHECKING:
    from kexue.maths.geometry.connection import LeviCivita
    from kexue.maths.geometry.conventions import Conventions
    from kexue.maths.geometry.curvature import Curvature
    from kexue.maths.geometry.field import Field
    from kexue.maths.geometry.frames import Frame

__all__ = ["Results"]

Table = dict[tuple[int, int], Element]


class Results:
    """Mixed into :class:`~kexue.maths.geometry.metric.Metric`.

    ``basis`` is "coordinate" or "frame": the components on dx^mu, or those in the frame in which the metric was given
    or which was chosen.
    """

    if TYPE_CHECKING:
        field: Field
        frame: Frame
        dimension: int
        conventions: Conventions

        @property
        def coordinate_frame(self) -> Frame: ...
        @property
        def curvature(self) -> Curvature: ...
        @property
        def connection(self) -> LeviCivita: ...
        @property
        def coordinate_connection(self) -> LeviCivita: ...

    def _basis(self, basis: str) -> Frame:
        if basis not in ("coordinate", "frame"):
            raise ConfigError(f"basis must be 'coordinate' or 'frame', received {basis!r}.")
        return self.coordinate_frame if basis == "coordinate" else self.frame

    # --- connection ---------------------------------------------------------------------------------------------

    def christoffel(self, kind: int = 2) -> Tensor:
        """Christoffel symbols: ``Gamma^i_jk`` (second kind) or ``Gamma_ijk`` (first kind), indices in that order."""
        if kind not in (1, 2):
            raise ConfigError(f"Christoffel symbols are of kind 1 or 2, received {kind!r}.")
        connection = self.coordinate_connection
        values = connection.gamma if kind == 2 else connection.lowered
        variance = "udd" if kind == 2 else "ddd"
        return Tensor(self.coordinate_frame, variance, values, (((0, 2, 1), 1),), name="Gamma")

    def connection_forms(self) -> list[list[Form]]:
        """omega^a_b in the metric's frame (articles 4062-4076, equation 66)."""
        return self.connection.forms()

    def curvature_forms(self) -> list[list[Form]]:
        """``R^a_b = d omega^a_b + omega^a_c ^ omega^c_b`` in the metric's frame (equation 67), with the sign of the
        conventions for Riemann: ``R^a_b = R^a_bcd theta^c ^ theta^d`` over c < d."""
        sign, note = self.conventions.riemann, str(self.conventions)
        rows = self.connection.curvature_forms()
        return [[Form(f.field, f.degree, (f * sign).components, note) for f in row] for row in rows]

    # --- curvature ----------------------------------------------------------------------------------------------

    def _pairs(self, table: Pairs, basis: str, variance: str, name: str) -> Tensor:
        frame = self._basis(basis)
        if frame is self.coordinate_frame:
            table = self.curvature.on_coordinates(table, frame)
        values = expand_pairs(self.curvature.pairs, table, self.conventions.riemann)
        tensor = Tensor(frame, "dddd", values, RIEMANN, name, str(self.conventions))
        if variance == "dddd":
            return tensor
        raised = tensor.with_variance(variance)
        holds = (variance[0] == variance[1], variance[2] == variance[3], variance[:2] == variance[2:])
        symmetry = tuple(part for part, kept in zip(RIEMANN, holds, strict=True) if kept)
        return Tensor(frame, variance, raised.components, symmetry, name, tensor.note)

    def _symmetric(self, table: Table, basis: str, variance: str, name: str, sign: int) -> Tensor:
        values: dict[tuple[int, ...], Element] = {}
        for (a, b), value in table.items():
            values[a, b] = values[b, a] = value if sign > 0 else -value
        tensor = Tensor(self.frame, "dd", values, SYMMETRIC, name, str(self.conventions))
        tensor = tensor.to_frame(self._basis(basis))
        if variance == "dd":
            return tensor
        raised = tensor.with_variance(variance)
        return Tensor(
            raised.frame, variance, raised.components, SYMMETRIC if variance == "uu" else (), name, tensor.note
        )

    def riemann(self, variance: str = "uddd", basis: str = "coordinate") -> Tensor:
        """The Riemann tensor, ``R^a_bcd`` by default; "dddd" is R_abcd."""
        return self._pairs(self.curvature.riemann, basis, variance, "R")

    def ricci(self, variance: str = "dd", basis: str = "coordinate") -> Tensor:
        """The Ricci tensor."""
        return self._symmetric(self.curvature.ricci, basis, variance, "Ric", self.conventions.ricci_sign)

    def ricci_scalar(self) -> Scalar:
        """``R = g^ab R_ab``."""
        scalar = self.curvature.scalar
        return Scalar.of(scalar if self.conventions.ricci_sign > 0 else -scalar, str(self.conventions))

    def einstein(self, variance: str = "dd", basis: str = "coordinate") -> Tensor:
        """``G_ab = R_ab - R g_ab / 2``."""
        return self._symmetric(self.curvature.einstein, basis, variance, "G", self.conventions.ricci_sign)

    def schouten(self, variance: str = "dd", basis: str = "coordinate") -> Tensor:
        """``P_ab = (R_ab - R g_ab / (2 (n - 1))) / (n - 2)``, n at least 3."""
        return self._symmetric(self.curvature.schouten, basis, variance, "P", self.conventions.ricci_sign)

    def weyl(self, variance: str = "uddd", basis: str = "coordinate") -> Tensor:
        """The Weyl tensor: Riemann less its traces. Zero in three dimensions, undefined below."""
        return self._pairs(self.curvature.weyl, basis, variance, "C")

    def cotton(self, basis: str = "coordinate") -> Tensor:
        """``C_abc = nabla_c P_ab - nabla_b P_ac``; zero exactly for conformally flat metrics in three dimensions."""
        slope = self.connection.covariant_derivative(self.schouten(basis="frame"))
        tensor = slope - slope.transpose(0, 2, 1)
        options = {"symmetry": (((0, 2, 1), -1),), "name": "Cotton", "note": str(self.conventions)}
        tensor = Tensor(tensor.frame, "ddd", tensor.components, **options)  # type: ignore[arg-type]
        return tensor.to_frame(self._basis(basis))

    def bach(self, basis: str = "coordinate") -> Tensor:
        """``B_ab = nabla^c (nabla_c P_ab - nabla_b P_ac) + P^cd C_acbd``, n at least 4."""
        if self.dimension < 4:
            raise ConfigError(f"The Bach tensor needs at least 4 dimensions, received {self.dimension}.")
        cotton = self.cotton("frame")  # C_abc = nabla_c P_ab - nabla_b P_ac, so nabla_c P_ab - nabla_b P_ac = C_abc
        divergence = self.connection.covariant_derivative(cotton).contract(2, 3)
        schouten = self.schouten("uu", "frame")
        weyl = self._pairs(self.curvature.weyl, "frame", "dddd", "C")
        product = schouten.outer(weyl).contract(0, 3).contract(0, 3)
        sign = self.conventions.riemann * self.conventions.ricci_sign
        total = divergence + product * (sign * self.conventions.ricci_sign * self.conventions.ricci_sign)
        note = str(self.conventions)
        return Tensor(total.frame, "dd", total.components, SYMMETRIC, "B", note).to_frame(self._basis(basis))

    # --- checks -------------------------------------------------------------------------------------------------

    @property
    def is_flat(self) -> bool:
        """Whether the Riemann tensor vanishes."""
        return not self.curvature.riemann

    @property
    def is_vacuum(self) -> bool:
        """Whether the Ricci tensor vanishes."""
        return not self.curvature.ricci

    def einstein_constant(self) -> Element | None:
        """k with ``R_ab = k g_ab``, or None where the metric is no Einstein metric."""
        k = self.curvature.scalar / self.dimension
        if self.curvature.with_metric(self.curvature.ricci, -k):
            return None
        constant = not any(self.field.diff(k, i) for i in range(self.dimension))
        return (k if self.conventions.ricci_sign > 0 else -k) if constant else None

    def bianchi_first(self) -> Tensor:
        """``R_abcd + R_acdb + R_adbc``, zero for every torsion-free connection, from the connection coefficients.

        The curvature is computed anew from the second-kind coefficients, without use of any symmetry.
        """
        r = self.connection.curvature
        total = r + r.transpose(0, 2, 3, 1) + r.transpose(0, 3, 1, 2)
        return Tensor(total.frame, "uddd", total.components, name="first Bianchi")

    def bianchi_second(self) -> Tensor:
        """``nabla_e R_abcd + nabla_c R_abde + nabla_d R_abec``, zero by the second Bianchi identity."""
        slope = self.connection.covariant_derivative(self._pairs(self.curvature.riemann, "frame", "dddd", "R"))
        total = slope + slope.transpose(0, 1, 3, 4, 2) + slope.transpose(0, 1, 4, 2, 3)
        return Tensor(total.frame, "ddddd", total.components, name="second Bianchi")
