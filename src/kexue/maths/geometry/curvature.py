"""The curvature of a metric in one frame: only independent components are computed, everything else is read off.

Components are kept as a symmetric matrix over pairs of indices, ``R[A, B] = R_abcd`` with A = (a, b), B = (c, d),
a < b, c < d (MTW signs inside; the conventions of the result are put on by :class:`Metric`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from kexue.errors import ConfigError
from kexue.maths.geometry.connection import LeviCivita
from kexue.maths.geometry.field import Element
from kexue.maths.geometry.frames import Frame
from kexue.maths.geometry.matrices import index_pairs, minors

__all__ = ["Curvature", "Pairs", "expand_pairs"]

Pairs = dict[tuple[int, int], Element]  # (A, B) with A <= B: the non-zero values


class Curvature:
    """Curvature of the Levi-Civita connection in one frame.

    Args:
        frame: the basis with its metric.
        route: "frame" differentiates the connection coefficients, "metric" takes second derivatives of the metric
            (coordinate basis only); None chooses.
    """

    def __init__(self, frame: Frame, route: str | None = None) -> None:
        if route == "metric" and not frame.is_coordinate:
            raise ConfigError("The route by second derivatives of the metric needs the coordinate basis.")
        self.frame = frame
        self.field = frame.field
        self.n = frame.dimension
        self.route = route or ("metric" if frame.is_coordinate else "frame")
        self.connection = LeviCivita(frame)
        self.pairs = index_pairs(self.n)
        self.number = {pair: k for k, pair in enumerate(self.pairs)}

    # --- Riemann ------------------------------------------------------------------------------------------------

    @cached_property
    def riemann(self) -> Pairs:
        """R_abcd by pairs; the components that follow from the first Bianchi identity are not computed."""
        compute = self._from_metric if self.route == "metric" else self._from_connection
        out: Pairs = {}
        for A in range(len(self.pairs)):
            for B in range(A, len(self.pairs)):
                (a, b), (c, d) = self.pairs[A], self.pairs[B]
                if a < c < d < b:  # R_adbc = R_acbd - R_abcd for a < b < c < d
                    continue
                value = compute(a, b, c, d)
                if value:
                    out[A, B] = value
        for a, b in self.pairs:
            for c, d in self.pairs:
                if not a < c < d < b:
                    continue
                first = out.get((self.number[a, d], self.number[c, b]))
                second = out.get((self.number[a, c], self.number[d, b]))
                terms = [first] if first is not None else []
                terms += [-second] if second is not None else []
                value = self.field.sum(terms)
                if value:
                    out[self.number[a, b], self.number[c, d]] = value
        return out

    @cached_property
    def _lowered(self) -> list[dict[tuple[int, int], list[tuple[int, Element]]]]:
        """For each pair of lower indices (c, b): (e, Gamma_ecb)."""
        table: dict[tuple[int, int], list[tuple[int, Element]]] = {}
        for (e, c, b), value in self.connection.lowered.items():
            table.setdefault((c, b), []).append((e, value))
        return [table]

    @cached_property
    def _slopes(self) -> dict[tuple[int, int, int, int], Element]:
        return {}

    def _slope(self, c: int, a: int, d: int, b: int) -> Element | None:
        """e_b Gamma_cad."""
        value = self.connection.lowered.get((c, a, d))
        if value is None:
            return None
        key = (c, a, d, b)
        known = self._slopes.get(key)
        if known is None:
            known = self._slopes[key] = self.frame.derive(value, b)
        return known

    def _quadratic(self, c: int, a: int, b: int, d: int, terms: list[Element]) -> None:
        """- Gamma_ecb Gamma^e_ad + Gamma_ecd Gamma^e_ab."""
        gamma = self.connection.gamma
        table = self._lowered[0]
        for e, value in table.get((c, b), ()):
            other = gamma.get((e, a, d))
            if other is not None:
                terms.append(-(value * other))
        for e, value in table.get((c, d), ()):
            other = gamma.get((e, a, b))
            if other is not None:
                terms.append(value * other)

    def _from_connection(self, c: int, a: int, b: int, d: int) -> Element:
        """R_cabd = e_b Gamma_cad - e_d Gamma_cab - Gamma_ecb Gamma^e_ad + Gamma_ecd Gamma^e_ab - c_bd^e Gamma_cae."""
        terms = []
        slope = self._slope(c, a, d, b)
        if slope is not None:
            terms.append(slope)
        slope = self._slope(c, a, b, d)
        if slope is not None:
            terms.append(-slope)
        self._quadratic(c, a, b, d, terms)
        structure = self.frame.structure
        if structure:
            for e in range(self.n):
                x = structure.get((b, d, e))
                value = self.connection.lowered.get((c, a, e)) if x is not None else None
                if x is not None and value is not None:
                    terms.append(-(x * value))
        return self.field.sum(terms)

    @cached_property
    def _second(self) -> dict[tuple[int, int, int, int], Element]:
        """d_i d_j g_ab for i <= j, a <= b, the non-zero ones."""
        out = {}
        for a, row in enumerate(self.frame.metric_rows):
            for b, value in row:
                if b < a:
                    continue
                for i in range(self.n):
                    slope = self.field.diff(value, i)
                    if not slope:
                        continue
                    for j in range(i, self.n):
                        second = self.field.diff(slope, j)
                        if second:
                            out[i, j, a, b] = second
        return out

    def _from_metric(self, a: int, b: int, c: int, d: int) -> Element:
        """R_abcd = (d_b d_c g_ad + d_a d_d g_bc - d_a d_c g_bd - d_b d_d g_ac)/2 + g^ef (G_ebc G_fad - G_ebd G_fac)."""
        second: list[Element] = []
        for sign, i, j, p, q in ((1, b, c, a, d), (1, a, d, b, c), (-1, a, c, b, d), (-1, b, d, a, c)):
            value = self._second.get((min(i, j), max(i, j), min(p, q), max(p, q)))
            if value is not None:
                second.append(value if sign > 0 else -value)
        terms = [self.field.sum(second) / 2] if second else []
        gamma = self.connection.gamma
        table = self._lowered[0]
        for e, value in table.get((b, c), ()):
            other = gamma.get((e, a, d))
            if other is not None:
                terms.append(value * other)
        for e, value in table.get((b, d), ()):
            other = gamma.get((e, a, c))
            if other is not None:
                terms.append(-(value * other))
        return self.field.sum(terms)

    def value(self, table: Pairs, a: int, b: int, c: int, d: int) -> Element | None:
        """A component from its pairs, None where it vanishes."""
        if a == b or c == d:
            return None
        A, B = self.number[min(a, b), max(a, b)], self.number[min(c, d), max(c, d)]
        found = table.get((min(A, B), max(A, B)))
        if found is None:
            return None
        return found if (a < b) == (c < d) else -found

    # --- contractions -------------------------------------------------------------------------------------------

    @cached_property
    def ricci(self) -> dict[tuple[int, int], Element]:
        """R_bd = g^ac R_abcd for b <= d, the non-zero ones."""
        out = {}
        for b in range(self.n):
            for d in range(b, self.n):
                terms = []
                for a in range(self.n):
                    for c, x in self.frame.inverse_rows[a]:
                        found = self.value(self.riemann, a, b, c, d)
                        if found is not None:
                            terms.append(x * found)
                total = self.field.sum(terms)
                if total:
                    out[b, d] = total
        return out

    def trace(self, table: dict[tuple[int, int], Element]) -> Element:
        """g^ab T_ab of a symmetric table."""
        terms = []
        for a in range(self.n):
            for b, x in self.frame.inverse_rows[a]:
                found = table.get((min(a, b), max(a, b)))
                if found is not None:
                    terms.append(x * found)
        return self.field.sum(terms)

    @cached_property
    def scalar(self) -> Element:
        """R = g^ab R_ab."""
        return self.trace(self.ricci)

    def with_metric(self, table: dict[tuple[int, int], Element], factor: Element) -> dict[tuple[int, int], Element]:
        """T_ab + factor g_ab, for a <= b."""
        out = dict(table)
        if factor:
            for a, row in enumerate(self.frame.metric_rows):
                for b, x in row:
                    if a <= b:
                        total = out.get((a, b), self.field.zero) + factor * x
                        out[a, b] = total
        return {i: v for i, v in out.items() if v}

    @cached_property
    def einstein(self) -> dict[tuple[int, int], Element]:
        """G_ab = R_ab - R g_ab / 2."""
        return self.with_metric(self.ricci, -self.scalar / 2)

    @cached_property
    def schouten(self) -> dict[tuple[int, int], Element]:
        """P_ab = (R_ab - R g_ab / (2 (n - 1))) / (n - 2).

        Raises:
            ConfigError: the dimension is below 3.
        """
        if self.n < 3:
            raise ConfigError(f"The Schouten tensor needs at least 3 dimensions, received {self.n}.")
        table = self.with_metric(self.ricci, -self.scalar / (2 * (self.n - 1)))
        return {i: v / (self.n - 2) for i, v in table.items()}

    @cached_property
    def weyl(self) -> Pairs:
        """C_abcd = R_abcd - (g_ac P_bd + g_bd P_ac - g_ad P_bc - g_bc P_ad).

        Raises:
            ConfigError: the dimension is below 3.
        """
        if self.n < 3:
            raise ConfigError(f"The Weyl tensor needs at least 3 dimensions, received {self.n}.")
        schouten = self.schouten
        if self.n == 3:
            return {}
        if not schouten:
            return self.riemann
        metric = self.frame.metric
        assert metric is not None

        def p(a: int, b: int) -> Element | None:
            return schouten.get((min(a, b), max(a, b)))

        out = {}
        for A, (a, b) in enumerate(self.pairs):
            for B in range(A, len(self.pairs)):
                c, d = self.pairs[B]
                terms = [self.riemann[A, B]] if (A, B) in self.riemann else []
                for sign, i, j, k, m in ((-1, a, c, b, d), (-1, b, d, a, c), (1, a, d, b, c), (1, b, c, a, d)):
                    other = p(k, m)
                    if metric[i][j] and other is not None:
                        value = metric[i][j] * other
                        terms.append(value if sign > 0 else -value)
                total = self.field.sum(terms)
                if total:
                    out[A, B] = total
        return out

    # --- invariants ---------------------------------------------------------------------------------------------

    @cached_property
    def _inverse_minors(self) -> dict[int, list[tuple[int, Element]]]:
        """G^AB: the inverse metric on pairs, sparse rows."""
        rows: dict[int, list[tuple[int, Element]]] = {}
        for (A, B), value in minors(self.field, self.frame.inverse_metric, self.pairs).items():
            rows.setdefault(A, []).append((B, value))
        return rows

    def mixed(self, table: Pairs) -> dict[int, list[tuple[int, Element]]]:
        """T^A_B = G^AC T_CB as sparse rows: T^ab_cd with a < b, c < d."""
        rows: dict[int, dict[int, list[Element]]] = {}
        full = [((A, B), v) for (A, B), v in table.items()] + [((B, A), v) for (A, B), v in table.items() if A != B]
        for (C, B), value in full:
            for A, x in self._inverse_minors.get(C, ()):  # G is symmetric
                rows.setdefault(A, {}).setdefault(B, []).append(x * value)
        out: dict[int, list[tuple[int, Element]]] = {}
        for A, row in rows.items():
            sums = [(B, self.field.sum(terms)) for B, terms in row.items()]
            out[A] = [(B, v) for B, v in sums if v]
        return out

    @cached_property
    def riemann_mixed(self) -> dict[int, list[tuple[int, Element]]]:
        """R^ab_cd on pairs."""
        return self.mixed(self.riemann)

    @cached_property
    def weyl_mixed(self) -> dict[int, list[tuple[int, Element]]]:
        """C^ab_cd on pairs."""
        return self.mixed(self.weyl)

    def trace_of_product(self, rows: Iterable[dict[int, list[tuple[int, Element]]]]) -> Element:
        """Trace of a product of matrices over pairs."""
        first, *others = rows
        product = first
        for other in others[:-1]:
            product = self._times(product, other)
        last = others[-1]
        terms = []
        for A, row in product.items():
            for B, value in row:
                for C, x in last.get(B, ()):
                    if C == A:
                        terms.append(value * x)
        return self.field.sum(terms)

    def _times(
        self, left: dict[int, list[tuple[int, Element]]], right: dict[int, list[tuple[int, Element]]]
    ) -> dict[int, list[tuple[int, Element]]]:
        out = {}
        for A, row in left.items():
            parts: dict[int, list[Element]] = {}
            for B, value in row:
                for C, x in right.get(B, ()):
                    parts.setdefault(C, []).append(value * x)
            sums = [(C, self.field.sum(t)) for C, t in parts.items()]
            out[A] = [(C, v) for C, v in sums if v]
        return out

    @cached_property
    def kretschmann(self) -> Element:
        """K = R_abcd R^abcd; R^2 in two dimensions."""
        if self.n == 2:
            return self.scalar**2
        return self.trace_of_product([self.riemann_mixed] * 2) * 4

    @cached_property
    def ricci_mixed(self) -> list[list[Element]]:
        """R^a_b."""
        out = [[self.field.zero] * self.n for _ in range(self.n)]
        for a in range(self.n):
            for b in range(self.n):
                terms = []
                for c, x in self.frame.inverse_rows[a]:
                    found = self.ricci.get((min(b, c), max(b, c)))
                    if found is not None:
                        terms.append(x * found)
                out[a][b] = self.field.sum(terms)
        return out

    def on_coordinates(self, table: Pairs, frame: Frame) -> Pairs:
        """A table over pairs carried to the coordinate basis by the 2 x 2 minors of the coframe."""
        if self.frame.is_coordinate:
            return table
        rows: dict[int, list[tuple[int, Element]]] = {}
        for (A, M), value in minors(self.field, self.frame.coframe, self.pairs).items():
            rows.setdefault(A, []).append((M, value))
        half: dict[tuple[int, int], list[Element]] = {}
        full = [((A, B), v) for (A, B), v in table.items()] + [((B, A), v) for (A, B), v in table.items() if A != B]
        for (A, B), value in full:
            for M, x in rows.get(A, ()):
                half.setdefault((M, B), []).append(x * value)
        parts: dict[tuple[int, int], list[Element]] = {}
        for (M, B), terms in half.items():
            value = self.field.sum(terms)
            if not value:
                continue
            for N, x in rows.get(B, ()):
                if M <= N:
                    parts.setdefault((M, N), []).append(x * value)
        out = {i: self.field.sum(terms) for i, terms in parts.items()}
        return {i: v for i, v in out.items() if v}


def expand_pairs(pairs: list[tuple[int, int]], table: Pairs, sign: int = 1) -> dict[tuple[int, ...], Element]:
    """All components R_abcd of a table over pairs."""
    out: dict[tuple[int, ...], Element] = {}
    for (A, B), value in table.items():
        plus, minus = (value, -value) if sign > 0 else (-value, value)
        for (a, b), (c, d) in {(pairs[A], pairs[B]), (pairs[B], pairs[A])}:
            out[a, b, c, d] = out[b, a, d, c] = plus
            out[b, a, c, d] = out[a, b, d, c] = minus
    return out
