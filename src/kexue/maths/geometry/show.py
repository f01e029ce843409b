"""Tables of non-zero independent components in text and LaTeX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kexue.maths.geometry.tensors import Tensor

__all__ = ["line_element_latex", "line_element_text", "tensor_latex", "tensor_rows", "tensor_text"]


def _labels(tensor: Tensor) -> tuple[str, ...]:
    return tensor.frame.names


def tensor_rows(tensor: Tensor, latex: bool = False) -> list[tuple[str, str]]:
    """(component, value) for each non-zero independent component."""
    import sympy

    rows = []
    for index, value in tensor.independent().items():
        if latex:
            names = [sympy.latex(sympy.Symbol(_labels(tensor)[i])) for i in index]
            if not tensor.frame.is_coordinate:
                names = [rf"\hat{{{name}}}" for name in names]
            name = _LATEX_NAMES.get(tensor.name, rf"\mathrm{{{tensor.name}}}")
            for letter, label in zip(tensor.variance, names, strict=True):
                name += f"{{}}{'^' if letter == 'u' else '_'}{{{label}}}"
            rows.append((name, value.latex()))
        else:
            up = "".join("^" if v == "u" else "_" for v in tensor.variance)
            name = tensor.name
            for place, (letter, i) in enumerate(zip(tensor.variance, index, strict=True)):
                mark = ("^" if letter == "u" else "_") if not place or up[place] != up[place - 1] else " "
                name += mark + _labels(tensor)[i]
            rows.append((name, str(value)))
    return rows


_LATEX_NAMES = {
    "R": "R", "Ric": "R", "G": "G", "C": "C", "P": "P", "g": "g", "Gamma": r"\Gamma", "B": "B", "T": "T",
}  # fmt: skip


def tensor_text(tensor: Tensor) -> str:
    """A table, one line a component."""
    if not tensor.rank:
        return str(tensor.scalar())
    rows = tensor_rows(tensor)
    if not rows:
        return f"{tensor.name} = 0"
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}} = {value}" for name, value in rows]
    return "\n".join(([f"# {tensor.note}"] if tensor.note else []) + lines)


def tensor_latex(tensor: Tensor) -> str:
    """An aligned environment, one line a component."""
    if not tensor.rank:
        return f"$\\displaystyle {tensor.scalar().latex()}$"
    rows = tensor_rows(tensor, latex=True)
    if not rows:
        return f"$\\displaystyle {_LATEX_NAMES.get(tensor.name, tensor.name)} = 0$"
    lines = [f"{name} &= {value}" for name, value in rows]
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def line_element_text(metric: Any) -> str:
    """ds^2 = ..."""
    terms = []
    for (i, j), value in metric.tensor.independent().items():
        d = [f"d{metric.coordinates[k]}" for k in (i, j)]
        basis = f"{d[0]}^2" if i == j else f"{d[0]}*{d[1]}"
        text = str(value if i == j else value * 2)
        terms.append(basis if text == "1" else f"({text})*{basis}")
    return "ds^2 = " + " + ".join(terms)


def line_element_latex(metric: Any) -> str:
    """ds^2 = ... in LaTeX."""
    import sympy

    terms = []
    for (i, j), value in metric.tensor.independent().items():
        d = [rf"\mathrm{{d}}{sympy.latex(sympy.Symbol(metric.coordinates[k]))}" for k in (i, j)]
        basis = f"{d[0]}^2" if i == j else rf"{d[0]}\,{d[1]}"
        value = value if i == j else value * 2  # noqa: PLW2901
        terms.append(basis if value == 1 else rf"\left({value.latex()}\right) {basis}")
    return r"\mathrm{d}s^2 = " + " + ".join(terms)
