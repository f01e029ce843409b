"""Hamilton's equations of geodesics, ``H = g^ab p_a p_b / 2``, compiled from the metric's own frame.

``x'^a = dH/dp_a``, ``p'_a = -dH/dx^a``. H is ``eta^ab P_a P_b / 2`` with ``P_a = e_a^mu p_mu`` in the frame in which
the metric was given, so a good frame makes a short program; its gradient comes from the program, not from symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from kexue.maths.geometry.field import Element
from kexue.maths.geometry.metric import Metric
from kexue.maths.geometry.numbers.emit import compile_program, split_functions
from kexue.maths.geometry.numbers.program import Program

__all__ = ["Hamiltonian"]


class Hamiltonian:
    """The program of H and of its gradient.

    Args:
        metric: the metric.
        functions: values of unknown functions, see :func:`lambdify`.

    Attributes:
        parameters: names of the constants on which H depends.
    """

    def __init__(self, metric: Metric, functions: Mapping[str, Any] | None = None) -> None:
        self.metric = metric
        self.dimension = n = metric.dimension
        texts, self._functions = split_functions(functions)
        self.program = program = Program(texts)
        self.x = [program.input(name) for name in metric.coordinates]
        self.p = [program.input(f"p[{k}]") for k in range(n)]
        self.value = self._hamiltonian()
        self.slopes = program.gradient(self.value, [*self.x, *self.p])
        found = [node[1] for node in program.nodes if node[0] == "input"]
        self.parameters = tuple(sorted(f for f in found if f not in metric.coordinates and not f.startswith("p[")))

    def _hamiltonian(self) -> int:
        program, frame = self.program, self.metric.frame
        momenta = [
            program.sum(program.mul(program.element(x), self.p[mu]) for mu, x in column)
            for column in frame.vector_columns
        ]
        terms = []
        for a, row in enumerate(frame.inverse_rows):
            for b, x in row:
                if b >= a:
                    product = program.mul(program.mul(momenta[a], momenta[b]), program.element(x))
                    terms.append(product if a == b else program.mul(program.number(2), product))
        return program.mul(program.number(0.5), program.sum(terms))

    def compile(self, backend: str) -> Callable[..., tuple[Any, ...]]:
        """``(x..., p..., parameters...) -> (dx..., dp...)``."""
        n, program = self.dimension, self.program
        outputs = [*self.slopes[n:], *(program.negative(i) for i in self.slopes[:n])]
        return compile_program(program, outputs, self._arguments, backend, self._functions)

    @property
    def _arguments(self) -> list[str]:
        return [*self.metric.coordinates, *(f"p[{k}]" for k in range(self.dimension)), *self.parameters]

    def _call(self, outputs: list[int]) -> Callable[..., tuple[Any, ...]]:
        return compile_program(self.program, outputs, self._arguments, "numpy", self._functions)

    @cached_property
    def energy(self) -> Callable[..., Any]:
        """``(x..., p..., parameters...) -> H`` on NumPy."""
        call = self._call([self.value])
        return lambda *arguments: call(*arguments)[0]

    def quadratic(self, components: Mapping[tuple[int, ...], Element]) -> Callable[..., Any]:
        """``T^ab p_a p_b``, or ``T^a p_a``, on NumPy, with the arguments of :attr:`energy`."""
        program = self.program
        terms = []
        for index, x in components.items():
            terms.append(program.mul(program.element(x), program.product(self.p[k] for k in index)))
        call = self._call([program.sum(terms)])
        return lambda *arguments: call(*arguments)[0]
