"""From a program to a Python function of one library: NumPy, JAX, PyTorch, or plain floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from kexue.errors import ConfigError
from kexue.maths.geometry.numbers.program import Program

__all__ = ["BACKENDS", "compile_program", "library", "split_functions"]

BACKENDS = ("numpy", "jax", "torch")
_DEEPEST = 12  # nested expressions beyond get a line of their own
_SIGNS = {"add": "+", "mul": "*", "div": "/"}

Functions = Mapping[str, Any]


def library(backend: str) -> Any:
    """The array module of a backend, imported when it is needed.

    Raises:
        ConfigError: unknown, or not installed.
    """
    if backend not in (*BACKENDS, "float"):
        raise ConfigError(f"The backend must be one of {', '.join(BACKENDS)}, received {backend!r}.")
    try:
        return import_module({"jax": "jax.numpy", "float": "math"}.get(backend, backend))
    except ImportError as error:
        raise ConfigError(f"The backend {backend!r} is not installed: pip install {backend}") from error


def split_functions(functions: Functions | None) -> tuple[dict[str, str], dict[str, Any]]:
    """Functions given as expressions, and those given as callables."""
    given = dict(functions or {})
    texts = {name: f for name, f in given.items() if isinstance(f, str)}
    return texts, {name: f for name, f in given.items() if name not in texts}


def compile_program(
    program: Program, outputs: Sequence[int], arguments: Sequence[str], backend: str, functions: Functions | None = None
) -> Callable[..., tuple[Any, ...]]:
    """A function of the arguments, in that order, that returns the values of the output nodes in a tuple.

    The source is made of generated names and numbers alone.

    Raises:
        ConfigError: a function that is not given, or that the library lacks.
    """
    writer = _Writer(program, arguments, backend, functions or {})
    source = writer.source(outputs)
    scope = dict(writer.scope)
    exec(compile(source, "<kexue program>", "exec"), scope)  # nothing of the user's text is in the source
    made = scope["program"]
    made.source = source
    return made


class _Writer:
    def __init__(self, program: Program, arguments: Sequence[str], backend: str, functions: Functions) -> None:
        self.program = program
        self.backend = backend
        self.functions = functions
        self.module = library(backend)
        self.scope: dict[str, Any] = {}
        self.inputs = {name: f"a{k}" for k, name in enumerate(arguments)}
        self.lines: list[str] = []
        self.texts: dict[int, tuple[str, int]] = {}  # text and depth

    def source(self, outputs: Sequence[int]) -> str:
        needed: set[int] = set()
        todo = list(outputs)
        uses: dict[int, int] = {}
        for i in outputs:
            uses[i] = uses.get(i, 0) + 1
        while todo:
            i = todo.pop()
            if i in needed:
                continue
            needed.add(i)
            for j in self.program.arguments(i):
                uses[j] = uses.get(j, 0) + 1
                todo.append(j)
        for i in sorted(needed):
            text, depth = self._text(i)
            plain = self.program.nodes[i][0] in ("number", "input")
            if not plain and (uses[i] > 1 or depth > _DEEPEST):
                self.lines.append(f"    v{i} = {text}")
                text, depth = f"v{i}", 0
            self.texts[i] = (text, depth)
        result = "".join(f"{self.texts[i][0]}, " for i in outputs)
        return "\n".join([f"def program({', '.join(self.inputs.values())}):", *self.lines, f"    return ({result})"])

    def _text(self, i: int) -> tuple[str, int]:
        node = self.program.nodes[i]
        kind = node[0]
        parts = [self.texts[j] for j in self.program.arguments(i)]
        depth = 1 + max((d for _, d in parts), default=0)
        texts = [t for t, _ in parts]
        if kind == "number":
            return (repr(node[1]) if isinstance(node[1], complex) or node[1] >= 0 else f"({node[1]!r})"), 0
        if kind == "input":
            if node[1] not in self.inputs:
                raise ConfigError(f"The value of {node[1]!r} is needed; expected one of {', '.join(self.inputs)}.")
            return self.inputs[node[1]], 0
        if kind in ("add", "mul", "div"):
            if kind == "mul" and texts[0] == "(-1.0)":
                return f"(-{texts[1]})", depth
            if kind == "mul" and texts[1] == "(-1.0)":
                return f"(-{texts[0]})", depth
            return f"({texts[0]} {_SIGNS[kind]} {texts[1]})", depth
        if kind == "root":
            return (
                f"{self._library('sqrt')}({texts[0]})" if node[2] == 2 else f"({texts[0]}) ** {1 / node[2]!r}"
            ), depth
        if kind == "apply":
            return f"{self._library(node[1])}({texts[0]})", depth
        if kind == "special":
            name = self._bind(f"s_{node[1].__name__}", lambda: special(node[1].__name__, self.backend, self.functions))
        else:
            label = f"f_{node[1]}_{'_'.join(map(str, node[2]))}"
            name = self._bind(label, lambda: user_function(self.functions, node[1], node[2], self.backend))
        return f"{name}({', '.join(texts)})", depth

    def _library(self, function: str) -> str:
        return self._bind(function, lambda: getattr(self.module, function))

    def _bind(self, name: str, make: Callable[[], Any]) -> str:
        if name not in self.scope:
            self.scope[name] = make()
        return name


def user_function(functions: Functions, name: str, orders: tuple[int, ...], backend: str) -> Callable[..., Any]:
    """A function of the user or its partial derivative.

    Given are one callable (derivatives by automatic differentiation on JAX and PyTorch), a sequence (the function of
    one variable, its derivative, its second derivative ...), or a mapping of orders ``{(0, 0): f, (1, 0): ...}``.

    Raises:
        ConfigError: it is not given.
    """
    given = functions.get(name)
    total = sum(orders)
    if given is None:
        raise ConfigError(
            f"The function {name!r} has no values yet: give functions={{{name!r}: ...}}, a string such as 't^(2/3)', "
            f"a callable, or a sequence of callables (the function and its derivatives)."
        )
    if isinstance(given, Mapping):
        table = {(k if isinstance(k, tuple) else (k,)): f for k, f in given.items()}
    elif callable(given):
        table = {(0,) * len(orders): given}
    elif len(orders) == 1:
        table = {(k,): f for k, f in enumerate(given)}
    else:
        raise ConfigError(
            f"{name!r} has {len(orders)} arguments: give a callable or a mapping such as {{(0, 0): f, (1, 0): df}}."
        )
    if orders in table:
        return table[orders]
    lower = [k for k in table if len(k) == len(orders) and all(a <= b for a, b in zip(k, orders, strict=True))]
    if not lower or backend not in ("jax", "torch"):
        raise ConfigError(
            f"The derivative of order {orders[0] if len(orders) == 1 else orders} of {name!r} is needed (there are "
            f"{total} derivatives to take) and {backend!r} cannot differentiate it: give "
            f"functions={{{name!r}: [f, f', ...]}}, an expression as a string, or use backend 'jax' or 'torch'."
        )
    start = max(lower, key=sum)
    f = table[start]
    for place, (have, want) in enumerate(zip(start, orders, strict=True)):
        for _ in range(want - have):
            f = _slope(f, place, backend)
    return f


def _slope(f: Callable[..., Any], place: int, backend: str) -> Callable[..., Any]:
    """The partial derivative of a function that works elementwise."""

    def derivative(*arguments: Any) -> Any:
        if backend == "jax":
            import jax
            import jax.numpy as np

            jvp, zeros, ones = jax.jvp, np.zeros_like, np.ones_like
            arguments = tuple(map(np.asarray, arguments))
        else:
            import torch

            jvp, zeros, ones = torch.func.jvp, torch.zeros_like, torch.ones_like
        tangents = tuple(ones(x) if k == place else zeros(x) for k, x in enumerate(arguments))
        return jvp(f, arguments, tangents)[1]

    return derivative


_SPECIAL = {  # SymPy's name: (NumPy or SciPy, JAX, PyTorch); "special." is the library's module of special functions
    "atan": ("arctan", "arctan", "atan"),
    "asin": ("arcsin", "arcsin", "asin"),
    "acos": ("arccos", "arccos", "acos"),
    "asinh": ("arcsinh", "arcsinh", "asinh"),
    "acosh": ("arccosh", "arccosh", "acosh"),
    "atanh": ("arctanh", "arctanh", "atanh"),
    "Abs": ("abs", "abs", "abs"),
    "sign": ("sign", "sign", "sign"),
    "erf": ("special.erf", "special.erf", "special.erf"),
    "erfc": ("special.erfc", "special.erfc", "special.erfc"),
    "erfi": ("special.erfi", "", ""),
    "polygamma": ("special.polygamma", "special.polygamma", "special.polygamma"),
    "elliptic_k": ("special.ellipk", "", ""),
    "elliptic_e": ("special.ellipe", "", ""),
    "expint": ("special.expn", "special.expn", ""),
    "gamma": ("special.gamma", "special.gamma", ""),
    "loggamma": ("special.gammaln", "special.gammaln", "special.gammaln"),
    "besselj": ("special.jv", "", ""),
    "bessely": ("special.yv", "", ""),
    "besseli": ("special.iv", "", ""),
    "besselk": ("special.kv", "", ""),
}


_OF_SCIPY: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "LambertW": lambda sp: lambda x: sp.lambertw(x).real,
    "airyai": lambda sp: lambda x: sp.airy(x)[0],
    "airyaiprime": lambda sp: lambda x: sp.airy(x)[1],
    "airybi": lambda sp: lambda x: sp.airy(x)[2],
    "airybiprime": lambda sp: lambda x: sp.airy(x)[3],
    "lowergamma": lambda sp: lambda s, x: sp.gamma(s) * sp.gammainc(s, x),
    "uppergamma": lambda sp: lambda s, x: sp.gamma(s) * sp.gammaincc(s, x),
}


def special(name: str, backend: str, functions: Functions) -> Callable[..., Any]:
    """A function of SymPy in the library.

    Raises:
        ConfigError: the library lacks it and the user gave none.
    """
    if name in functions and callable(functions[name]):
        return functions[name]
    place = {"numpy": 0, "float": 0, "jax": 1, "torch": 2}[backend]
    if place == 0 and name in _OF_SCIPY:
        import scipy.special

        return _OF_SCIPY[name](scipy.special)
    path = _SPECIAL.get(name, ("", "", ""))[place]
    if not path:
        raise ConfigError(f"{backend} has no {name}: give functions={{{name!r}: callable}}.")
    if not path.startswith("special."):
        return getattr(library("numpy" if backend == "float" else backend), path)
    where = {0: "scipy.special", 1: "jax.scipy.special", 2: "torch.special"}[place]
    return getattr(import_module(where), path.split(".")[1])
