"""Scalar invariants of the curvature, Newman-Penrose scalars and the Petrov type."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry.curvature import Pairs
from kexue.maths.geometry.field import Element
from kexue.maths.geometry.field.element import Scalar
from kexue.maths.geometry.newman_penrose import NewmanPenrose
from kexue.maths.geometry.petrov import petrov_of_operator
from kexue.maths.geometry.tensors import signature_of

if TYPE_CHECKING:
    from kexue.maths.geometry.conventions import Conventions
    from kexue.maths.geometry.curvature import Curvature
    from kexue.maths.geometry.field import Field
    from kexue.maths.geometry.forms import Form
    from kexue.maths.geometry.frames import Frame

__all__ = ["Invariants", "NewmanPenrose", "petrov"]

Vector = list[Element]


class Invariants:
    """Mixed into :class:`~kexue.maths.geometry.metric.Metric`."""

    if TYPE_CHECKING:
        field: Field
        frame: Frame
        dimension: int
        conventions: Conventions

        @property
        def curvature(self) -> Curvature: ...
        @property
        def signs(self) -> tuple[int, ...]: ...
        @property
        def volume(self) -> Element: ...
        @property
        def determinant(self) -> Element: ...
        @property
        def determinant_sign(self) -> int: ...
        @property
        def orthonormal_frame(self) -> Frame: ...
        def curvature_in(self, frame: Frame | None = None, route: str | None = None) -> Curvature: ...
        def ricci_scalar(self) -> Scalar: ...

    def kretschmann(self) -> Element:
        """``K = R_abcd R^abcd``."""
        return self.curvature.kretschmann

    def ricci_squared(self) -> Element:
        """``R_ab R^ab``."""
        return self._ricci_squared

    @cached_property
    def _ricci_squared(self) -> Element:
        if self.dimension == 2:  # R_ab = R g_ab / 2
            return self.kretschmann() / 2
        m = self.curvature.ricci_mixed
        n = self.dimension
        return self.field.sum(m[a][b] * m[b][a] for a in range(n) for b in range(n) if m[a][b] and m[b][a])

    def weyl_squared(self) -> Element:
        """``C_abcd C^abcd = K - 4 R_ab R^ab / (n - 2) + 2 R^2 / ((n - 1)(n - 2))``."""
        if self.dimension == 3:
            return self.field.zero
        n = self.dimension
        if n < 3:
            _ = self.curvature.weyl  # refuses
        if not self.curvature.ricci:
            return self.kretschmann()
        traces = self.ricci_squared() * Fraction(4, n - 2) - self.curvature.scalar**2 * Fraction(2, (n - 1) * (n - 2))
        return self.kretschmann() - traces

    def gauss_bonnet(self) -> Element:
        """``K - 4 R_ab R^ab + R**2``; in four dimensions 32 pi**2 times the density of the Euler number."""
        return self.kretschmann() - self.ricci_squared() * 4 + self.curvature.scalar**2

    def euler_form(self) -> Form:
        """The integrand of Gauss, Bonnet and Chern, ``Pf(R_ab) / ((2 pi)^(n/2) sqrt|det eta|)``.

        Its integral is the Euler number. ``K dA / (2 pi)`` in two dimensions, :meth:`gauss_bonnet` / (32 pi^2) times
        the volume in four; orientation of the chart.

        Raises:
            ConfigError: the dimension is odd.
        """
        from kexue.maths.geometry.forms import zero_form

        n = self.dimension
        if n % 2:
            raise ConfigError(f"The Euler form needs an even dimension, received {n}.")
        upper = self.curvature.connection.curvature_forms()
        none = zero_form(self.field, 0)
        lower = [[none] * n for _ in range(n)]
        for a, row in enumerate(self.frame.metric_rows):
            for b in range(n):
                for c, x in row:
                    if not upper[c][b].is_zero:
                        lower[a][b] = upper[c][b] * x + lower[a][b]
        root = self.volume / self.frame.coframe_determinant * self.field("2*pi") ** (n // 2)
        return _pfaffian(lower, list(range(n)), zero_form(self.field, 1)) * self.determinant_sign / root

    def riemann_cubed(self) -> Element:
        """``R_ab^cd R_cd^ef R_ef^ab``."""
        value = self.curvature.trace_of_product([self.curvature.riemann_mixed] * 3) * 8
        return Scalar.of(value if self.conventions.riemann > 0 else -value, str(self.conventions))

    def chern_pontryagin(self) -> Element:
        """``*R_abcd R^abcd`` with ``*R_abcd = epsilon_abef R^ef_cd / 2``, four dimensions, orientation of the chart."""
        if self.dimension != 4:
            raise ConfigError(f"The Chern-Pontryagin density needs four dimensions, received {self.dimension}.")
        pairs, number = self.curvature.pairs, self.curvature.number
        # R^{ab}_{cd} R_{...}: epsilon_abef R^ef_cd R^abcd / 2, with epsilon_0123 = sqrt|g| in the frame
        mixed = self.curvature.riemann_mixed
        raised = self._raised_pairs(mixed)
        terms = []
        for A, pair in enumerate(pairs):
            rest = tuple(k for k in range(4) if k not in pair)
            sign = signature_of(pair + rest)
            dual = dict(mixed.get(number[rest[0], rest[1]], ()))
            for B, value in raised.get(A, {}).items():
                if B in dual:
                    product = value * dual[B]
                    terms.append(product if sign > 0 else -product)
        frame_volume = self.volume / self.frame.coframe_determinant
        return self.field.sum(terms) * frame_volume * 4

    def _raised_pairs(self, mixed: dict[int, list[tuple[int, Element]]]) -> dict[int, dict[int, Element]]:
        out: dict[int, dict[int, list[Element]]] = {}
        for A, row in mixed.items():
            for B, value in row:
                for C, x in self.curvature._inverse_minors.get(B, ()):
                    out.setdefault(A, {}).setdefault(C, []).append(value * x)
        return {A: {C: self.field.sum(t) for C, t in row.items()} for A, row in out.items()}

    def invariants(self) -> dict[str, Element]:
        """The scalars by name."""
        out = {
            "R": self.ricci_scalar(),
            "R_ab R^ab": self.ricci_squared(),
            "R_abcd R^abcd": self.kretschmann(),
        }
        if self.dimension >= 4:
            out["C_abcd C^abcd"] = self.weyl_squared()
            out["Gauss-Bonnet"] = self.gauss_bonnet()
        return out

    # --- null tetrads -------------------------------------------------------------------------------------------

    def newman_penrose(self, tetrad: Sequence[Sequence[object]] | None = None) -> NewmanPenrose:
        """Weyl and Ricci scalars and spin coefficients in a null tetrad.

        Args:
            tetrad: l, n, m, mbar, each by its components in the metric's frame; None makes one of an orthonormal frame:
                ``l = (e_0 + e_1)/sqrt(2), n = (e_0 - e_1)/sqrt(2), m = (e_2 + i e_3)/sqrt(2)``, e_0 the time-like one
                and the others in their order.

        Raises:
            ConfigError: not four dimensions or not Lorentzian.
            DataError: the tetrad is not null and normalised.
        """
        self._require_lorentzian()
        if tetrad is None:
            k, n, m, mbar, turn = self._own_tetrad()
        else:
            vectors = [[self.field(x) for x in vector] for vector in tetrad]
            if [len(vector) for vector in vectors] != [4] * 4:
                raise DataError(
                    f"Four vectors l, n, m, mbar of four components were expected, received {len(vectors)} of "
                    f"{', '.join(str(len(vector)) for vector in vectors)} components."
                )
            k, n, m, mbar = vectors
            turn = self._check_tetrad(k, n, m, mbar)
        psi = self._psi(self.curvature.weyl, k, n, m, mbar)
        return NewmanPenrose(self, tuple(p * turn for p in psi), (k, n, m, mbar), turn)  # type: ignore[arg-type]

    def _require_lorentzian(self) -> None:
        negative = self.signs.count(-1) if self.dimension == 4 else 0
        if negative not in (1, 3):
            signs = "" if self.dimension != 4 else f" and the signature {self.signs}"
            raise ConfigError(
                f"A Lorentzian metric in four dimensions is needed; received {self.dimension} dimensions{signs}."
            )

    def _somewhere_lorentzian(self) -> bool:
        """Whether det g is negative at a random point; in four dimensions that is a Lorentzian signature."""
        from kexue.maths.geometry.field.sampling import points

        for count, point in enumerate(points(self.field)):
            try:
                value = point(self.determinant)
            except (ArithmeticError, ValueError):
                continue
            if value.real < 0 and abs(value.imag) < 1e-9 * abs(value):
                return True
            if count > 60:
                break
        return False

    def _dot(self, u: Vector, v: Vector) -> Element:
        terms = [u[a] * x * v[b] for a, row in enumerate(self.frame.metric_rows) for b, x in row if u[a] and v[b]]
        return self.field.sum(terms)

    def _check_tetrad(self, k: Vector, n: Vector, m: Vector, mbar: Vector) -> int:
        names = {"l.l": (k, k), "n.n": (n, n), "m.m": (m, m), "mbar.mbar": (mbar, mbar)}
        names |= {"l.m": (k, m), "l.mbar": (k, mbar), "n.m": (n, m), "n.mbar": (n, mbar)}
        for name, (u, v) in names.items():
            if self._dot(u, v):
                raise DataError(f"A null tetrad was expected, received {name} = {self._dot(u, v)}.")
        product = self._dot(k, n), self._dot(m, mbar)
        if not (product[0] * product[0] == 1 and product[0] == -product[1]):
            raise DataError(f"l.n = -m.mbar = -1 or 1 was expected, received {product[0]} and {product[1]}.")
        return 1 if product[0] == -1 else -1

    def _own_tetrad(self) -> tuple[Vector, Vector, Vector, Vector, int]:
        frame = self.orthonormal_frame
        turn = 1 if self.signs.count(-1) == 1 else -1
        times = [a for a in range(4) if self.signs[a] == -turn]
        order = times + [a for a in range(4) if a not in times]
        columns = [self._in_own_frame([row[a] for row in frame.vectors]) for a in order]
        half = self.field.sqrt(2).inverse()
        e0, e1, e2, e3 = ([x * half for x in column] for column in columns)
        i = self.field.i
        k = [x + y for x, y in zip(e0, e1, strict=True)]
        n = [x - y for x, y in zip(e0, e1, strict=True)]
        m = [x + i * y for x, y in zip(e2, e3, strict=True)]
        mbar = [x - i * y for x, y in zip(e2, e3, strict=True)]
        return k, n, m, mbar, turn

    def _in_own_frame(self, vector: Vector) -> Vector:
        h = self.frame.coframe
        if self.frame.is_coordinate:
            return vector
        return [self.field.sum(h[a][mu] * vector[mu] for mu in range(4) if h[a][mu]) for a in range(4)]

    def _bivector(self, u: Vector, v: Vector) -> dict[int, Element]:
        out = {}
        for A, (a, b) in enumerate(self.curvature.pairs):
            value = u[a] * v[b] - u[b] * v[a]
            if value:
                out[A] = value
        return out

    def _psi(self, weyl: Pairs, k: Vector, n: Vector, m: Vector, mbar: Vector) -> list[Element]:
        lm, ln, nm = self._bivector(k, m), self._bivector(k, n), self._bivector(n, mbar)
        mn = self._bivector(mbar, n)

        def on(U: dict[int, Element], V: dict[int, Element]) -> Element:
            terms = []
            for (A, B), value in weyl.items():
                x = U.get(A), V.get(B), U.get(B), V.get(A)
                if x[0] is not None and x[1] is not None:
                    terms.append(value * (x[0] * x[1]))
                if A != B and x[2] is not None and x[3] is not None:
                    terms.append(value * (x[2] * x[3]))
            return self.field.sum(terms)

        return [on(lm, lm), on(ln, lm), on(lm, mn), on(ln, mn), on(nm, nm)]

    # --- Petrov type --------------------------------------------------------------------------------------------

    @cached_property
    def petrov_type(self) -> str:
        """Petrov type of the Weyl tensor at a generic point: "I", "II", "D", "III", "N" or "O"."""
        if self.dimension != 4 or not self._somewhere_lorentzian():
            self._require_lorentzian()
        return petrov_of_operator(self.curvature)


def _pfaffian(forms: list[list[Form]], left: list[int], one: Form) -> Form:
    """The Pfaffian of an antisymmetric matrix of 2-forms, by its first row."""
    if not left:
        return one
    total = one * 0
    for k in range(1, len(left)):
        entry = forms[left[0]][left[k]]
        if not entry.is_zero:
            rest = _pfaffian(forms, [i for j, i in enumerate(left) if j not in (0, k)], one)
            total = entry.wedge(rest) * (-1) ** (k - 1) + total
    return total


def petrov(psi: Sequence[Element]) -> str:
    """Petrov type from the five Weyl scalars: how the roots of their quartic coincide.

    ``Q(z) = psi_0 + 4 psi_1 z + 6 psi_2 z^2 + 4 psi_3 z^3 + psi_4 z^4``; I, J and the covariants H (Hessian) and T
    (Jacobian of Q and H) of the quartic decide: I^3 = 27 J^2 for a double root, H = 0 for type N, T = 0 for two
    double roots (D), I = J = 0 for a triple root (III).
    """
    a, b, c, d, e = psi
    if not any(psi):
        return "O"
    if _distinct_roots(psi):
        return "I"
    hessian = (
        a * c - b * b,
        (a * d - b * c) * 2,
        a * e + b * d * 2 - c * c * 3,
        (b * e - c * d) * 2,
        c * e - d * d,
    )
    if not any(hessian):
        return "N"
    i = a * e - b * d * 4 + c * c * 3
    j = a * (c * e - d * d) - b * (b * e - c * d) + c * (b * d - c * c)
    if not i and not j:
        return "III"
    if i**3 != j * j * 27:
        return "I"
    quartic = (a, b * 4, c * 6, d * 4, e)
    return "II" if any(_jacobian(quartic, hessian)) else "D"


def _distinct_roots(psi: Sequence[Element]) -> bool:
    """Whether ``I^3 - 27 J^2`` is not zero at a random point modulo a prime, which proves that it is not zero.

    False proves nothing. The polynomial itself is long for the metrics that have it.
    """
    from kexue.maths.geometry.field.modular import points_modulo

    for element in psi:
        element.lift()
    for p, value in points_modulo(psi[0].field, 2, 2):
        below = [value(element.den) for element in psi]
        if not all(below):
            continue
        a, b, c, d, e = (value(x.num) * pow(y, -1, p) % p for x, y in zip(psi, below, strict=True))
        i = a * e - b * d * 4 + c * c * 3
        j = a * (c * e - d * d) - b * (b * e - c * d) + c * (b * d - c * c)
        if (i**3 - j * j * 27) % p:
            return True
    return False


def _jacobian(p: Sequence[Element], q: Sequence[Element]) -> list[Element]:
    """Coefficients of ``4 p q' - 4 p' q`` for quartics: zero exactly where q is a multiple of p."""
    out: list[list[Element]] = [[] for _ in range(8)]
    for k, x in enumerate(p):
        for m, y in enumerate(q):
            if k != m and x and y:
                out[k + m - 1].append(x * y * (m - k))
    field = p[0].field
    return [field.sum(terms) for terms in out]
