"""Tensors of any rank in a frame or in the coordinate basis, with sparse exact components."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations, product
from math import factorial
from typing import TYPE_CHECKING, Any

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry.field import Element
from kexue.maths.geometry.frames import Frame

if TYPE_CHECKING:
    import sympy

__all__ = ["RIEMANN", "SYMMETRIC", "Symmetry", "Tensor", "signature_of"]

Index = tuple[int, ...]
Symmetry = tuple[tuple[Index, int], ...]  # generators: (permutation of the slots, sign)
SYMMETRIC: Symmetry = (((1, 0), 1),)
RIEMANN: Symmetry = (((1, 0, 2, 3), -1), ((0, 1, 3, 2), -1), ((2, 3, 0, 1), 1))


class Tensor:
    """Components of a tensor; only non-zero ones are stored.

    Args:
        frame: the basis, with its metric.
        variance: one letter an index, "u" for upper, "d" for lower.
        components: ``{index: value}``; what is no element is converted by the field.
        symmetry: generators of index symmetries, used to list independent components.
        name: what it is called in tables.
        note: the conventions it was made with.

    Raises:
        DataError: indices that do not fit.
    """

    def __init__(
        self,
        frame: Frame,
        variance: str,
        components: Mapping[Any, Element],
        symmetry: Symmetry = (),
        name: str = "T",
        note: str = "",
    ) -> None:
        if set(variance) - set("ud"):
            raise DataError(f"The variance is a string of 'u' and 'd', received {variance!r}.")
        self.frame = frame
        self.field = frame.field
        self.dimension = frame.dimension
        self.variance = variance
        values = {i: v if isinstance(v, Element) else self.field(v) for i, v in components.items()}
        self.components = {index: value for index, value in values.items() if value}
        self.symmetry = symmetry
        self.name = name
        self.note = note
        for index in self.components:
            if (
                not isinstance(index, tuple)
                or len(index) != len(variance)
                or not all(0 <= i < self.dimension for i in index)
            ):
                raise DataError(f"An index of {len(variance)} numbers below {self.dimension} was expected: {index}.")

    @classmethod
    def from_function(cls, frame: Frame, variance: str, value: Callable[..., Any], **options: Any) -> Tensor:
        """Components from a function of the indices, converted by the field."""
        indices = product(range(frame.dimension), repeat=len(variance))
        return cls(frame, variance, {i: frame.field(value(*i)) for i in indices}, **options)

    @classmethod
    def from_array(cls, frame: Frame, variance: str, array: Any, **options: Any) -> Tensor:
        """Components from nested sequences of numbers, strings or expressions.

        Raises:
            DataError: the shape does not fit.
        """
        out: dict[Index, Any] = {}

        def walk(part: Any, index: Index) -> None:
            if len(index) == len(variance):
                out[index] = part
                return
            if (
                isinstance(part, (str, Element, Mapping))
                or not hasattr(part, "__len__")
                or len(part) != frame.dimension
            ):
                raise DataError(f"An array of shape {(frame.dimension,) * len(variance)} was expected.")
            for i in range(frame.dimension):
                walk(part[i], (*index, i))

        walk(array, ())
        values = frame.field.convert_all(out.values())
        return cls(frame, variance, dict(zip(out, values, strict=True)), **options)

    @property
    def rank(self) -> int:
        """Number of indices."""
        return len(self.variance)

    def _index(self, index: Any) -> Index:
        given = index if isinstance(index, tuple) else (index,)
        names = self.frame.names
        out = []
        for i in given:
            if isinstance(i, str):
                if i not in names:
                    raise DataError(f"No index {i!r}: expected one of {', '.join(names)}.")
                out.append(names.index(i))
            elif -self.dimension <= i < self.dimension:
                out.append(i % self.dimension)
            else:
                raise DataError(f"Indices run from 0 to {self.dimension - 1}, received {i}.")
        if len(out) != self.rank:
            raise DataError(f"{self.name} has {self.rank} indices, received {len(out)}.")
        return tuple(out)

    def __getitem__(self, index: Any) -> Element:
        """A component by numbers or coordinate names."""
        return self.components.get(self._index(index), self.field.zero)

    @property
    def is_zero(self) -> bool:
        """Whether all components vanish, exactly."""
        return not self.components

    def _like(self, components: Mapping[Any, Element], **changes: Any) -> Tensor:
        options: dict[str, Any] = {"symmetry": self.symmetry, "name": self.name, "note": self.note} | changes
        variance = options.pop("variance", self.variance)
        return Tensor(self.frame, variance, components, **options)

    # --- algebra ------------------------------------------------------------------------------------------------

    def _same_kind(self, other: Any) -> None:
        if not isinstance(other, Tensor):
            raise DataError(f"A tensor was expected, received {other!r}.")
        if other.frame is not self.frame or other.variance != self.variance:
            raise DataError(
                f"Tensors of one kind were expected, received {self.variance!r} in {self.frame} and "
                f"{other.variance!r} in {other.frame}; change the basis or raise and lower indices first."
            )

    def __add__(self, other: Tensor) -> Tensor:
        self._same_kind(other)
        out = dict(self.components)
        for index, value in other.components.items():
            out[index] = out[index] + value if index in out else value
        return self._like(out, symmetry=self.symmetry if self.symmetry == other.symmetry else ())

    def __neg__(self) -> Tensor:
        return self._like({i: -v for i, v in self.components.items()})

    def __sub__(self, other: Tensor) -> Tensor:
        return self + (-other)

    def __mul__(self, scalar: Any) -> Tensor:
        factor = self.field(scalar)
        return self._like({i: v * factor for i, v in self.components.items()})

    __rmul__ = __mul__

    def __truediv__(self, scalar: Any) -> Tensor:
        return self * self.field(scalar).inverse()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tensor):
            return NotImplemented
        if other.frame is not self.frame or other.variance != self.variance:
            return False
        if self.components.keys() != other.components.keys():
            return False
        return all(v == other.components[i] for i, v in self.components.items())

    __hash__ = None  # type: ignore[assignment]

    def outer(self, other: Tensor) -> Tensor:
        """The tensor product."""
        if other.frame is not self.frame:
            raise DataError("The factors of a product must be in one basis; use to_coordinates() on both.")
        out = {i + j: v * w for i, v in self.components.items() for j, w in other.components.items()}
        return Tensor(self.frame, self.variance + other.variance, out, note=self.note)

    def contract(self, first: int, second: int) -> Tensor:
        """Trace over two slots, with the metric where both are upper or both lower."""
        if first == second or not (0 <= first < self.rank and 0 <= second < self.rank):
            raise DataError(f"Two different slots of {self.rank} were expected, received {first} and {second}.")
        first, second = sorted((first, second))
        tensor = self
        if self.variance[first] == self.variance[second]:
            tensor = self.lower(first) if self.variance[first] == "u" else self.raise_index(first)
        parts: dict[Index, list[Element]] = {}
        for index, value in tensor.components.items():
            if index[first] == index[second]:
                rest = tuple(i for k, i in enumerate(index) if k not in (first, second))
                parts.setdefault(rest, []).append(value)
        variance = "".join(v for k, v in enumerate(tensor.variance) if k not in (first, second))
        return Tensor(self.frame, variance, self._sums(parts), name=f"tr {self.name}", note=self.note)

    def _sums(self, parts: Mapping[Index, Iterable[Element]]) -> dict[Index, Element]:
        return {index: self.field.sum(values) for index, values in parts.items()}

    def _apply(self, slot: int, rows: Sequence[Sequence[tuple[int, Element]]], letter: str, frame: Frame) -> Tensor:
        """Replace index i of a slot by the sum over (j, x) of rows[i]."""
        parts: dict[Index, list[Element]] = {}
        for index, value in self.components.items():
            for j, x in rows[index[slot]]:
                parts.setdefault((*index[:slot], j, *index[slot + 1 :]), []).append(value * x)
        variance = self.variance[:slot] + letter + self.variance[slot + 1 :]
        return Tensor(frame, variance, self._sums(parts), name=self.name, note=self.note)

    def raise_index(self, slot: int) -> Tensor:
        """A lower index made upper."""
        self._require_slots(slot)
        if self.variance[slot] != "d":
            raise DataError(f"Index {slot} of {self.name} is upper already.")
        return self._apply(slot, self.frame.inverse_rows, "u", self.frame)

    def lower(self, slot: int) -> Tensor:
        """An upper index made lower."""
        self._require_slots(slot)
        if self.variance[slot] != "u":
            raise DataError(f"Index {slot} of {self.name} is lower already.")
        return self._apply(slot, self.frame.metric_rows, "d", self.frame)

    def with_variance(self, variance: str) -> Tensor:
        """Indices raised and lowered to the given variance."""
        if len(variance) != self.rank or set(variance) - set("ud"):
            raise DataError(f"{self.rank} letters 'u' or 'd' were expected, received {variance!r}.")
        tensor = self
        for slot, letter in enumerate(variance):
            if tensor.variance[slot] != letter:
                tensor = tensor.raise_index(slot) if letter == "u" else tensor.lower(slot)
        same = len(set(variance)) == 1 or variance == self.variance
        return tensor._like(tensor.components, symmetry=self.symmetry if same else ())

    def transpose(self, *order: int) -> Tensor:
        """Slots in another order: new slot k is old slot order[k]."""
        if sorted(order) != list(range(self.rank)):
            raise DataError(f"A permutation of 0 ... {self.rank - 1} was expected, received {order}.")
        out = {tuple(index[k] for k in order): value for index, value in self.components.items()}
        return Tensor(self.frame, "".join(self.variance[k] for k in order), out, name=self.name, note=self.note)

    def _require_slots(self, *slots: int) -> None:
        if len(set(slots)) < len(slots) or not all(isinstance(k, int) and 0 <= k < self.rank for k in slots):
            raise DataError(f"Different slots from 0 to {self.rank - 1} were expected, received {slots}.")

    def _averaged(self, slots: Sequence[int], signed: bool) -> Tensor:
        self._require_slots(*slots)
        if len({self.variance[k] for k in slots}) > 1:
            raise DataError("Only indices that are all upper or all lower can be symmetrised.")
        parts: dict[Index, list[Element]] = {}
        for order in permutations(range(len(slots))):
            sign = signature_of(order) if signed else 1
            for index, value in self.components.items():
                new = list(index)
                for k, o in enumerate(order):
                    new[slots[k]] = index[slots[o]]
                parts.setdefault(tuple(new), []).append(value if sign > 0 else -value)
        count = self.field.integer(factorial(len(slots))).inverse()
        out = {i: v * count for i, v in self._sums(parts).items()}
        return Tensor(self.frame, self.variance, out, name=self.name, note=self.note)

    def symmetrize(self, *slots: int) -> Tensor:
        """Mean over the permutations of the slots (all of them by default)."""
        return self._averaged(slots or range(self.rank), False)

    def antisymmetrize(self, *slots: int) -> Tensor:
        """Signed mean over the permutations of the slots (all of them by default)."""
        return self._averaged(slots or range(self.rank), True)

    # --- bases --------------------------------------------------------------------------------------------------

    def to_frame(self, frame: Frame) -> Tensor:
        """The same tensor in another basis of the same field."""
        if frame is self.frame:
            return self
        if frame.field is not self.field:
            raise ConfigError("The other basis belongs to another field.")
        tensor = self
        n = self.dimension
        if not self.frame.is_coordinate:
            down = [[(mu, x) for mu, x in enumerate(self.frame.coframe[a]) if x] for a in range(n)]
            up = [self.frame.vector_columns[a] for a in range(n)]
            tensor = tensor._changed(down, up, frame)
        if not frame.is_coordinate:
            down = [[(a, x) for a, x in enumerate(frame.vectors[mu]) if x] for mu in range(n)]
            up = [[(a, frame.coframe[a][mu]) for a in range(n) if frame.coframe[a][mu]] for mu in range(n)]
            tensor = tensor._changed(down, up, frame)
        return Tensor(frame, self.variance, tensor.components, self.symmetry, self.name, self.note)

    def _changed(self, down: Any, up: Any, frame: Frame) -> Tensor:
        tensor = self
        for slot, letter in enumerate(self.variance):
            tensor = tensor._apply(slot, down if letter == "d" else up, letter, frame)
        return tensor

    # --- output -------------------------------------------------------------------------------------------------

    def independent(self) -> dict[Index, Element]:
        """The non-zero components that do not follow from another one by the index symmetries, in order."""
        seen: set[Index] = set()
        out: dict[Index, Element] = {}
        for index in sorted(self.components):
            if index in seen:
                continue
            out[index] = self.components[index]
            orbit = [index]
            seen.add(index)
            for member in orbit:
                for order, _ in self.symmetry:
                    other = tuple(member[k] for k in order)
                    if other not in seen:
                        seen.add(other)
                        orbit.append(other)
        return out

    def scalar(self) -> Element:
        """The value of a tensor without indices."""
        if self.rank:
            raise DataError(f"{self.name} has {self.rank} indices and is no scalar.")
        return self.components.get((), self.field.zero)

    def to_sympy(self) -> sympy.Array:
        """A dense SymPy array."""
        import sympy

        values = [
            self.components[i].to_sympy() if i in self.components else sympy.Integer(0)
            for i in product(range(self.dimension), repeat=self.rank)
        ]
        return sympy.ImmutableDenseNDimArray(values, (self.dimension,) * self.rank)

    def __str__(self) -> str:
        from kexue.maths.geometry.show import tensor_text

        return tensor_text(self)

    __repr__ = __str__

    def latex(self) -> str:
        """The non-zero independent components in LaTeX."""
        from kexue.maths.geometry.show import tensor_latex

        return tensor_latex(self)

    def _repr_latex_(self) -> str:
        from kexue.maths.geometry.show import tensor_latex

        return f"$\\displaystyle {tensor_latex(self, longest=1000, note=True)}$"


def signature_of(order: Sequence[int]) -> int:
    """1 for an even permutation, -1 for an odd one."""
    sign = 1
    left = list(order)
    for i in range(len(left)):
        while left[i] != i:
            j = left[i]
            left[i], left[j] = left[j], left[i]
            sign = -sign
    return sign
