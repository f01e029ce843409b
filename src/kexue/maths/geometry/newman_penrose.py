"""What a null tetrad shows of a metric: Weyl and Ricci scalars, spin coefficients."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from kexue.maths.geometry.field import Element
from kexue.maths.geometry.tensors import Tensor

if TYPE_CHECKING:
    from kexue.maths.geometry.metric import Metric

__all__ = ["NewmanPenrose"]

Vector = list[Element]


class NewmanPenrose:
    """The scalars of Newman and Penrose in a null tetrad l, n, m, mbar with ``l.n = -1``, ``m.mbar = 1``.

    Signature (-, +, +, +), signs of H. Stephani et al., Exact Solutions (2003), equations 3.76, 3.72 and 7.2; for
    signature (+, -, -, -) the same with the metric's sign turned. Curvature of Misner, Thorne, Wheeler whatever the
    metric's conventions.

    Attributes:
        psi: Weyl scalars ``Psi_0 = C(l, m, l, m), Psi_1 = C(l, n, l, m), Psi_2 = C(l, m, mbar, n),
            Psi_3 = C(l, n, mbar, n), Psi_4 = C(n, mbar, n, mbar)``.
        tetrad: l, n, m, mbar, components in the metric's frame.
    """

    note = "Psi_2 = C(l, m, mbar, n), Phi_00 = Ric(l, l)/2, l.n = -1, m.mbar = 1; signs of Misner, Thorne, Wheeler"

    def __init__(self, metric: Metric, psi: tuple[Element, ...], tetrad: tuple[Vector, ...], turn: int) -> None:
        self._metric = metric
        self._turn = turn
        self.psi = psi
        self.tetrad = tetrad

    @cached_property
    def phi(self) -> dict[str, Element]:
        """Ricci scalars: ``Phi_00 = Ric(l, l)/2, Phi_01 = Ric(l, m)/2, Phi_02 = Ric(m, m)/2,
        Phi_11 = (Ric(l, n) + Ric(m, mbar))/4, Phi_12 = Ric(n, m)/2, Phi_22 = Ric(n, n)/2``; the others are conjugates.
        """
        k, n, m, mbar = self.tetrad
        ricci = self._metric.curvature.ricci
        field = self._metric.field

        def on(u: Vector, v: Vector) -> Element:
            terms = []
            for (a, b), value in ricci.items():
                both = u[a] * v[b] + (u[b] * v[a] if a != b else field.zero)
                terms.append(value * both)
            return field.sum(terms)

        pairs = {"00": (k, k), "01": (k, m), "02": (m, m), "12": (n, m), "22": (n, n)}
        out = {name: on(u, v) / 2 for name, (u, v) in pairs.items()}
        out["11"] = (on(k, n) + on(m, mbar)) / 4
        return {name: out[name] for name in sorted(out)}

    @cached_property
    def lambda_(self) -> Element:
        """``Lambda = R/24``."""
        return self._metric.curvature.scalar * self._turn / 24

    @cached_property
    def spin_coefficients(self) -> dict[str, Element]:
        """The twelve, by their Greek names: ``kappa = -m^a l^b nabla_b l_a``, ``rho = -m^a mbar^b nabla_b l_a`` ...

        kappa = 0 where l is geodesic, sigma = 0 where it is free of shear (Goldberg and Sachs: both for a repeated
        null direction in vacuum); epsilon + its conjugate = 0 where l is affinely parametrised.
        """
        k, n, m, mbar = self.tetrad
        slopes = {}
        for name, vector in (("l", k), ("n", n), ("m", m), ("mbar", mbar)):
            lowered = Tensor(self._metric.frame, "u", {(a,): x for a, x in enumerate(vector)}).lower(0)
            slopes[name] = self._metric.connection.covariant_derivative(lowered * self._turn)

        def of(name: str, u: Vector, v: Vector) -> Element:
            """u^a v^b nabla_b of the vector of that name, lowered."""
            return self._metric.field.sum(x * u[a] * v[b] for (a, b), x in slopes[name].components.items())

        return {
            "kappa": -of("l", m, k),
            "rho": -of("l", m, mbar),
            "sigma": -of("l", m, m),
            "tau": -of("l", m, n),
            "nu": of("n", mbar, n),
            "mu": of("n", mbar, m),
            "lambda": of("n", mbar, mbar),
            "pi": of("n", mbar, k),
            "epsilon": (of("m", mbar, k) - of("l", n, k)) / 2,
            "beta": (of("m", mbar, m) - of("l", n, m)) / 2,
            "gamma": (of("n", k, n) - of("mbar", m, n)) / 2,
            "alpha": (of("n", k, mbar) - of("mbar", m, mbar)) / 2,
        }

    @property
    def scalars(self) -> dict[str, Element]:
        """All by name: Psi_0 ... Psi_4, Phi_00 ... Phi_22, Lambda."""
        out = {f"Psi_{k}": value for k, value in enumerate(self.psi)}
        return out | {f"Phi_{name}": value for name, value in self.phi.items()} | {"Lambda": self.lambda_}

    def __str__(self) -> str:
        return "\n".join([f"# {self.note}", *(f"{name} = {value}" for name, value in self.scalars.items())])

    __repr__ = __str__

    def latex(self) -> str:
        """The scalars in LaTeX, one line each."""
        lines = []
        for name, value in self.scalars.items():
            letter, _, index = name.partition("_")
            lines.append(rf"\{letter}{f'_{{{index}}}' if index else ''} &= {value.latex()}")
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"
