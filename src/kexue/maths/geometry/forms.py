"""Differential forms with exact coefficients, in any dimension (articles 4051 - 4076).

``dx, dy = basis_forms(field)``; ``a ^ b`` is the wedge product, ``a.d()`` the exterior derivative, with d(d a) = 0 and
d(a ^ b) = da ^ b + (-1)**p a ^ db. Components stand on dx^i1 ^ ... ^ dx^ip with i1 < ... < ip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

from kexue.errors import DataError
from kexue.maths.geometry.field import Element, Field
from kexue.maths.geometry.matrices import determinant
from kexue.maths.geometry.tensors import signature_of

if TYPE_CHECKING:
    import sympy

    from kexue.maths.geometry.frames import Frame

__all__ = ["Form", "basis_forms", "form_from_string", "zero_form"]

Index = tuple[int, ...]


class Form:
    """A differential form of one degree.

    Args:
        field: the scalars; its coordinates are the chart.
        degree: p.
        components: ``{(i1, ..., ip): value}`` with increasing indices; what is no element is converted by the field.
        note: the conventions it was made with.

    Raises:
        DataError: indices that are not increasing coordinate numbers.
    """

    def __init__(self, field: Field, degree: int, components: Mapping[Index, Element], note: str = "") -> None:
        self.field = field
        self.note = note
        self.degree = degree
        values = {i: v if isinstance(v, Element) else field(v) for i, v in components.items()}
        self.components = {i: v for i, v in values.items() if v}
        for i in self.components:
            plain = isinstance(i, tuple) and len(i) == degree and all(isinstance(k, int) for k in i)
            if not plain or not all(a < b for a, b in pairwise(i)) or not all(0 <= k < field.dimension for k in i):
                raise DataError(f"{degree} increasing numbers below {field.dimension} were expected, received {i}.")

    def _of(self, other: Any) -> Form:
        if isinstance(other, Form):
            if other.field is not self.field:
                raise DataError("Both forms must belong to one field.")
            return other
        return zero_form(self.field, other)

    def __add__(self, other: Any) -> Form:
        b = self._of(other)
        if b.degree != self.degree:
            if not b.components:
                return self
            if not self.components:
                return b
            raise DataError(f"Forms of one degree can be added, received degrees {self.degree} and {b.degree}.")
        out = dict(self.components)
        for i, v in b.components.items():
            out[i] = out[i] + v if i in out else v
        return Form(self.field, self.degree, out)

    __radd__ = __add__

    def __neg__(self) -> Form:
        return Form(self.field, self.degree, {i: -v for i, v in self.components.items()})

    def __sub__(self, other: Any) -> Form:
        return self + (-self._of(other))

    def __mul__(self, scalar: Any) -> Form:
        if isinstance(scalar, Form):
            return self.wedge(scalar)
        factor = self.field(scalar)
        return Form(self.field, self.degree, {i: v * factor for i, v in self.components.items()})

    __rmul__ = __mul__

    def __truediv__(self, scalar: Any) -> Form:
        return self * self.field(scalar).inverse()

    def __xor__(self, other: Form) -> Form:
        return self.wedge(other)

    def wedge(self, other: Any) -> Form:
        """The exterior product."""
        b = self._of(other)
        parts: dict[Index, list[Element]] = {}
        for i, v in self.components.items():
            for j, w in b.components.items():
                if set(i) & set(j):
                    continue
                merged = i + j
                order = sorted(range(len(merged)), key=merged.__getitem__)
                value = v * w
                key = tuple(merged[k] for k in order)
                parts.setdefault(key, []).append(value if signature_of(order) > 0 else -value)
        total = {i: self.field.sum(values) for i, values in parts.items()}
        return Form(self.field, self.degree + b.degree, total)

    def d(self) -> Form:
        """The exterior derivative."""
        parts: dict[Index, list[Element]] = {}
        for i, v in self.components.items():
            for mu in self.field.coordinates_of(v):
                if mu in i:
                    continue
                slope = self.field.diff(v, mu)
                place = sum(1 for k in i if k < mu)
                key = (*i[:place], mu, *i[place:])
                parts.setdefault(key, []).append(-slope if place % 2 else slope)
        return Form(self.field, self.degree + 1, {i: self.field.sum(v) for i, v in parts.items()})

    def interior(self, vector: Sequence[Any]) -> Form:
        """Contraction of the first slot with a vector, its coordinate components given."""
        components = self._vector(vector)
        if not self.degree:
            return Form(self.field, 0, {})
        parts: dict[Index, list[Element]] = {}
        for i, v in self.components.items():
            for place, mu in enumerate(i):
                if components[mu]:
                    value = v * components[mu]
                    parts.setdefault(i[:place] + i[place + 1 :], []).append(-value if place % 2 else value)
        return Form(self.field, self.degree - 1, {i: self.field.sum(v) for i, v in parts.items()})

    def _vector(self, vector: Sequence[Any]) -> list[Element]:
        if len(vector) != self.field.dimension:
            raise DataError(f"A vector of {self.field.dimension} components was expected, received {len(vector)}.")
        return [self.field(x) for x in vector]

    def lie(self, vector: Sequence[Any]) -> Form:
        """Lie derivative by Cartan's formula ``i_v d + d i_v``."""
        along = self.d().interior(vector)
        return along + self.interior(vector).d() if self.degree else along

    def pullback(self, field: Field, images: Sequence[Any]) -> Form:
        """The form on another chart, under the map that sends its points to the given coordinates here.

        Args:
            field: scalars of the other chart.
            images: for each coordinate of this chart an expression in the other field.
        """
        if len(images) != self.field.dimension:
            raise DataError(f"{self.field.dimension} coordinate functions were expected, received {len(images)}.")
        from kexue.maths.geometry.field.convert import convert_with

        values = field.convert_all(images)
        bound = dict(zip(self.field.coordinates, values, strict=True))
        slopes = [zero_form(field, v).d() for v in values]
        total = Form(field, self.degree, {})
        for i, v in self.components.items():
            term = zero_form(field, convert_with(field, v.to_sympy(False), bound))
            for mu in i:
                term = term.wedge(slopes[mu])
            total = total + term
        return total

    def _raised(self, frame: Frame) -> dict[Index, Element]:
        """Components with upper indices, in the coordinate basis."""
        inverse = frame.inverse_metric
        n, field = self.field.dimension, self.field
        out = {}
        for j in combinations(range(n), self.degree):
            terms = []
            for i, v in self.components.items():
                minor = determinant(field, [[inverse[a][b] for b in i] for a in j]) if i else field.one
                if minor:
                    terms.append(v * minor)
            value = field.sum(terms)
            if value:
                out[j] = value
        return out

    def inner(self, other: Form, metric: Any) -> Element:
        """Inner product: ``<a, b> = sum over increasing i of a_i b^i``."""
        b = self._of(other)
        if b.degree != self.degree:
            raise DataError(f"Forms of one degree were expected, received {self.degree} and {b.degree}.")
        raised = b._raised(_coordinate_frame(metric))
        return self.field.sum(v * raised[i] for i, v in self.components.items() if i in raised)

    def hodge(self, metric: Any, volume: Any = None) -> Form:
        """Hodge star: ``a ^ *b = <a, b> vol`` with ``vol = sqrt(|det g|) dx^1 ^ ... ^ dx^n``.

        Args:
            metric: a Metric.
            volume: the factor sqrt(|det g|), where it is known; None takes ``metric.volume``.
        """
        frame = _coordinate_frame(metric)
        factor = self.field(volume) if volume is not None else metric.volume
        n = self.field.dimension
        out = {}
        for i, v in self._raised(frame).items():
            rest = tuple(k for k in range(n) if k not in i)
            sign = signature_of(i + rest)
            out[rest] = v * factor if sign > 0 else -(v * factor)
        return Form(self.field, n - self.degree, out)

    def codifferential(self, metric: Any) -> Form:
        """``delta a = (-1)**(n (p + 1) + 1) s * d * a``, s the sign of det g; in components minus the divergence."""
        n, p = self.field.dimension, self.degree
        star = self.hodge(metric).d().hodge(metric)
        return star * ((-1) ** (n * (p + 1) + 1) * metric.determinant_sign)

    def integrate(self, limits: Mapping[str, tuple[Any, Any]], positive: str | Sequence[str] = ()) -> sympy.Expr:
        """Integral of a form of top degree over a part of the chart, by SymPy.

        Forms of lower degree are integrated over a surface by :meth:`pullback` to its chart.

        Args:
            limits: ``{coordinate: (from, to)}`` for every coordinate, the innermost integral first, so that its limits
                may depend on the coordinates after it; numbers, strings ("oo" is infinity) or SymPy expressions.
            positive: names of constants (or coordinates) that are positive, besides those that the field assumes.

        Raises:
            DataError: the degree is not the dimension, a limit is missing, or depends on a coordinate that was
                integrated before.
        """
        import sympy

        from kexue.maths.geometry.field.field import split_names
        from kexue.maths.geometry.field.parser import parse

        def end(value: Any) -> Any:
            if isinstance(value, str) and value.strip().lstrip("+-") in ("oo", "inf"):
                return -sympy.oo if value.strip().startswith("-") else sympy.oo
            if isinstance(value, str):
                return parse(value)
            try:
                return sympy.sympify(value.to_sympy() if isinstance(value, Element) else value, strict=True)
            except sympy.SympifyError:
                raise DataError(f"A limit must be a number or an expression, received {value!r}.") from None

        if self.degree != self.field.dimension or set(limits) != set(self.field.coordinates):
            raise DataError(
                f"Integration needs a form of degree {self.field.dimension} and limits of "
                f"{', '.join(self.field.coordinates)}; received degree {self.degree}, limits {', '.join(limits)}."
            )
        value = self.components[tuple(range(self.degree))].to_sympy() if self.components else sympy.Integer(0)
        done: list[str] = []
        for name, bounds in limits.items():
            if isinstance(bounds, str) or not hasattr(bounds, "__len__") or len(bounds) != 2:
                raise DataError(f"Limits are pairs (from, to); {name} has {bounds!r}.")
        ends = {name: tuple(map(end, bounds)) for name, bounds in limits.items()}
        symbols = value.free_symbols.union(*(x.free_symbols for pair in ends.values() for x in pair))
        names = {str(x) for x in self.field.positives} | set(split_names(positive, "positive"))
        real = {x: sympy.Symbol(x.name, positive=x.name in names or None) for x in symbols}
        value = value.subs(real)
        for name, pair in ends.items():
            low, high = (x.subs(real) for x in pair)
            depends = [x.name for x in (low.free_symbols | high.free_symbols) if x.name in (*done, name)]
            if depends:
                raise DataError(f"The limits of {name} depend on {depends[0]}, which is integrated before or with it.")
            value = sympy.integrate(value, (real.get(sympy.Symbol(name), sympy.Symbol(name)), low, high))
            done.append(name)
        return sympy.simplify(value).subs({new: old for old, new in real.items()})

    @property
    def is_zero(self) -> bool:
        """Whether the form vanishes, exactly."""
        return not self.components

    def __eq__(self, other: object) -> bool:
        if other == 0 and not isinstance(other, Form):
            return self.is_zero
        if not isinstance(other, Form):
            return NotImplemented
        if not self.components and not other.components:
            return True
        same = self.degree == other.degree and self.components.keys() == other.components.keys()
        return same and all(v == other.components[i] for i, v in self.components.items())

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, index: Any) -> Element:
        """A component, antisymmetric in its indices (numbers or coordinate names)."""
        given = index if isinstance(index, tuple) else (index,)
        numbers = [self.field.coordinate_number(i) for i in given]
        if len(numbers) != self.degree:
            raise DataError(f"A form of degree {self.degree} has as many indices, received {len(numbers)}.")
        if len(set(numbers)) < len(numbers):
            return self.field.zero
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        value = self.components.get(tuple(numbers[k] for k in order), self.field.zero)
        return value if signature_of(order) > 0 else -value

    def _text(self, scalar: Any, join: str, d: str, name: Any) -> str:
        terms = []
        for i, v in sorted(self.components.items()):
            basis = join.join(d + name(self.field.coordinates[k]) for k in i)
            text = scalar(v)
            if not basis:
                terms.append(text)
            else:
                terms.append(basis if text == "1" else f"({text}) {basis}")
        return " + ".join(terms) or "0"

    def __str__(self) -> str:
        return self._text(str, " ^ ", "d", str)

    __repr__ = __str__

    def latex(self) -> str:
        """The form in LaTeX."""
        import sympy

        return self._text(lambda v: v.latex(), r" \wedge ", r"\mathrm{d}", lambda name: sympy.latex(sympy.Symbol(name)))

    def _repr_latex_(self) -> str:
        from kexue.maths.geometry.show import note_latex

        note = rf" \qquad ({note_latex(self.note)})" if self.note else ""
        return f"$\\displaystyle {self.latex()}{note}$"


def _coordinate_frame(metric: Any) -> Frame:
    return metric.coordinate_frame


def zero_form(field: Field, value: Any) -> Form:
    """A function as a form of degree 0."""
    return Form(field, 0, {(): field(value)})


def basis_forms(field: Field) -> tuple[Form, ...]:
    """dx^0, dx^1, ..."""
    return tuple(Form(field, 1, {(i,): field.one}) for i in range(field.dimension))


def form_from_string(field: Field, text: str) -> Form:
    """A form of degree 1 from a string such as ``"dt - a*sin(theta)^2*dphi"``."""
    from kexue.maths.geometry.line_element import linear_coefficients

    coefficients = linear_coefficients(text, field.coordinates)
    values = field.convert_all(coefficients)
    return Form(field, 1, {(i,): v for i, v in enumerate(values) if v})
