"""Exact results as numerical functions, vectorised over points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from itertools import product
from typing import Any

from kexue.errors import DataError
from kexue.maths.geometry.calculus import GeodesicEquations
from kexue.maths.geometry.connection import Connection
from kexue.maths.geometry.field import Element, Field
from kexue.maths.geometry.forms import Form
from kexue.maths.geometry.metric import Metric
from kexue.maths.geometry.newman_penrose import NewmanPenrose
from kexue.maths.geometry.numbers.emit import compile_program, library, split_functions
from kexue.maths.geometry.numbers.program import Program
from kexue.maths.geometry.sources import EinsteinMaxwell, PerfectFluid
from kexue.maths.geometry.tensors import Tensor, signature_of

__all__ = ["NumericFunction", "lambdify"]

Rebuild = Callable[[Sequence[Any]], Any]


def lambdify(result: Any, backend: str = "numpy", functions: Mapping[str, Any] | None = None) -> NumericFunction:
    """A numerical function of an exact result.

    The operations are written down straight from the canonical form, common ones once; nothing is simplified or
    printed on the way.

    Args:
        result: an element, tensor, form, connection, metric, Newman-Penrose scalars, perfect fluid, geodesic
            equations, or a list, tuple or dictionary of such. Results of several parts give dictionaries.
        backend: "numpy", "jax" or "torch". The function is differentiable on the latter two, and can be compiled by
            ``jax.jit``. JAX computes in single precision unless its 64 bit mode is on (``jax.enable_x64``).
        functions: values of unknown and opaque functions by name: an expression in the coordinates of the function
            (``{"a": "t^(2/3)"}``, differentiated exactly), a callable that works elementwise (differentiated
            automatically on JAX and PyTorch), a sequence ``[f, f', ...]`` or a mapping ``{(0, 0): f, (1, 0): ...}``.

    Raises:
        ConfigError: an unknown backend, a function without values or derivatives.
        DataError: something that is not a result of this module, or results of several fields.

    Example:
        >>> kretschmann = lambdify(catalogue.metric("kerr").kretschmann())
        >>> kretschmann(0.0, [3.0, 4.0, 5.0], 1.2, 0.0, M=1.0, a=0.9)  # t, r, theta, phi
    """
    texts, callables = split_functions(functions)
    leaves: list[Element] = []
    rebuild = _structure(result, leaves, library(backend))
    field = _one_field(leaves, result)
    program = Program(texts)
    outputs = [program.element(x) for x in leaves]
    names = _inputs(program, outputs)
    parameters = tuple(sorted(name for name in names if name not in field.coordinates))
    call = compile_program(program, outputs, [*field.coordinates, *parameters], backend, callables)
    return NumericFunction(call, rebuild, field.coordinates, parameters, backend)


class NumericFunction:
    """What :func:`lambdify` returns: called with the coordinates in order and the parameters by name.

    Coordinates and parameters broadcast against each other. Components stand on the last axes:
    a tensor of rank k at points of shape S is an array of shape ``S + (n,) * k``.

    Attributes:
        coordinates: names of the positional arguments.
        parameters: names of the keyword arguments.
        source: the generated code.
    """

    def __init__(
        self, call: Any, rebuild: Rebuild, coordinates: tuple[str, ...], parameters: tuple[str, ...], backend: str
    ) -> None:
        self._call = call
        self._rebuild = rebuild
        self.coordinates = coordinates
        self.parameters = parameters
        self.backend = backend
        self.source: str = call.source

    def __call__(self, *coordinates: Any, **parameters: Any) -> Any:
        if len(coordinates) != len(self.coordinates):
            raise DataError(
                f"{len(self.coordinates)} coordinates were expected ({', '.join(self.coordinates)}), "
                f"received {len(coordinates)}."
            )
        missing = [name for name in self.parameters if name not in parameters]
        if missing:
            raise DataError(f"Values of the parameters {', '.join(missing)} are needed, by keyword.")
        given = _arrays([*coordinates, *(parameters[name] for name in self.parameters)], self.backend)
        try:
            library(self.backend).broadcast_shapes(*(tuple(a.shape) for a in given))
        except (ValueError, RuntimeError):
            names = [*self.coordinates, *self.parameters]
            shapes = ", ".join(f"{name} {tuple(a.shape)}" for name, a in zip(names, given, strict=True))
            raise DataError(
                f"Coordinates and parameters must have shapes that fit together, received {shapes}."
            ) from None
        return self._rebuild(_broadcast(self._call(*given), given, self.backend))

    def at(self, points: Any, **parameters: Any) -> Any:
        """The same at points of shape ``S + (n,)``; parameters of shape S or numbers."""
        array = _arrays([points], self.backend)[0]
        n = len(self.coordinates)
        if not array.ndim or array.shape[-1] != n:
            raise DataError(f"Points with {n} coordinates on the last axis were expected, received {array.shape}.")
        return self(*(array[..., k] for k in range(n)), **parameters)

    def __repr__(self) -> str:
        arguments = ", ".join([*self.coordinates, *(f"{name}=" for name in self.parameters)])
        return f"NumericFunction({arguments}; backend={self.backend!r}, lines={self.source.count(chr(10))})"


def _arrays(values: Sequence[Any], backend: str) -> list[Any]:
    """Floating-point arrays of the library; whole numbers become floats."""
    if backend == "numpy":
        import numpy as np

        out = [np.asarray(v) for v in values]
        return [v if v.dtype.kind in "fc" else v.astype(float) for v in out]
    if backend == "jax":
        import jax.numpy as jnp

        out = [jnp.asarray(v) for v in values]
        return [v if jnp.issubdtype(v.dtype, jnp.inexact) else v.astype(float) for v in out]
    import torch

    known = next((v for v in values if isinstance(v, torch.Tensor)), None)
    device = None if known is None else known.device
    kind = torch.float64 if known is None or not known.is_floating_point() else known.dtype
    return [v if isinstance(v, torch.Tensor) else torch.as_tensor(v, dtype=kind, device=device) for v in values]


def _broadcast(values: Sequence[Any], given: Sequence[Any], backend: str) -> list[Any]:
    """Values that do not depend on all coordinates in the common shape too."""
    module = library(backend)
    arrays = _arrays(given, backend)
    shape = module.broadcast_shapes(*(a.shape for a in arrays))
    kind = arrays[0]
    for a in arrays[1:]:
        kind = kind + a * 0 if backend == "torch" and a.dtype != kind.dtype else kind
    out = []
    for v in values:
        if backend != "torch" or isinstance(v, module.Tensor):
            array = v if backend == "torch" else module.asarray(v)
        else:
            array = module.as_tensor(v, dtype=module.complex128 if isinstance(v, complex) else kind.dtype)
            array = array.to(kind.device)
        out.append(module.broadcast_to(array, shape))
    return out


def _one_field(leaves: Sequence[Element], result: Any) -> Field:
    fields = {id(x.field): x.field for x in leaves}
    if len(fields) > 1:
        raise DataError("The results belong to several fields; lambdify them one by one.")
    if not fields:
        raise DataError(f"There is nothing to evaluate in {result!r}.")
    return next(iter(fields.values()))


def _inputs(program: Program, outputs: Sequence[int]) -> list[str]:
    reached: set[int] = set()
    for i in outputs:
        reached |= program._above(i)
    return [program.nodes[i][1] for i in sorted(reached) if program.nodes[i][0] == "input"]


# --- structures -------------------------------------------------------------------------------------------------


def _structure(result: Any, leaves: list[Element], module: Any) -> Rebuild:
    """Collect the elements of a result; what puts their values together again."""
    if isinstance(result, Element):
        place = len(leaves)
        leaves.append(result)
        return lambda values: values[place]
    if isinstance(result, Metric):
        return _structure(result.tensor, leaves, module)
    if isinstance(result, Connection):
        return _table(result.field, 3, result.gamma, leaves, module)
    if isinstance(result, Tensor):
        return _table(result.field, result.rank, result.components, leaves, module)
    if isinstance(result, Form):
        components = {}
        for index, value in result.components.items():
            for order, sign in _orders(result.degree):
                components[tuple(index[k] for k in order)] = value if sign > 0 else -value
        return _table(result.field, result.degree, components, leaves, module)
    if isinstance(result, NewmanPenrose):
        return _structure(result.scalars, leaves, module)
    if isinstance(result, GeodesicEquations):
        return _structure(result.coefficients, leaves, module)
    if isinstance(result, (PerfectFluid, EinsteinMaxwell)):
        members = {f.name: getattr(result, f.name) for f in fields(result)}
        return _structure({k: v for k, v in members.items() if v is not None}, leaves, module)
    if isinstance(result, Mapping):
        parts = {key: _structure(value, leaves, module) for key, value in result.items()}
        return lambda values: {key: part(values) for key, part in parts.items()}
    if isinstance(result, (list, tuple)):
        kind = type(result)
        several = [_structure(value, leaves, module) for value in result]
        return lambda values: kind(part(values) for part in several)
    raise DataError(
        f"An element, tensor, form, connection or metric was expected (or a list of them), received {result!r}."
    )


def _orders(degree: int) -> list[tuple[tuple[int, ...], int]]:
    from itertools import permutations

    return [(order, signature_of(order)) for order in permutations(range(degree))]


def _table(
    field: Field, rank: int, components: Mapping[tuple[int, ...], Element], leaves: list[Element], module: Any
) -> Rebuild:
    """Different values once, spread over the components by an index and a sign."""
    import numpy as np

    n = field.dimension
    start = len(leaves)
    places: dict[Any, tuple[int, int]] = {}
    index, sign = np.zeros((n,) * rank, dtype=np.int64), np.zeros((n,) * rank)
    leaves.append(field.zero)
    for position in product(range(n), repeat=rank):
        value = components.get(position)
        if value is None or not value:
            continue
        found = places.get(value.key())
        if found is None:
            found = places[value.key()] = (len(leaves) - start, 1)
            places[(-value).key()] = (len(leaves) - start, -1)
            leaves.append(value)
        index[position], sign[position] = found
    stop = len(leaves)

    def rebuild(values: Sequence[Any]) -> Any:
        if module.__name__ == "torch":
            stacked = module.stack(list(module.broadcast_tensors(*_common(values[start:stop]))), -1)
            places_there = module.as_tensor(index, device=stacked.device)
            signs = module.as_tensor(sign, device=stacked.device).to(stacked.dtype)
            return stacked[..., places_there] * signs
        stacked = module.stack(values[start:stop], -1)
        return stacked[..., index] * sign.astype(stacked.dtype)

    return rebuild


def _common(values: Sequence[Any]) -> list[Any]:
    import torch

    kind = values[0].dtype
    for v in values[1:]:
        kind = torch.promote_types(kind, v.dtype)
    return [v.to(kind) for v in values]
