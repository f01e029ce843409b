"""Tables of non-zero independent components in text and LaTeX."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kexue.maths.geometry.field import Element
    from kexue.maths.geometry.tensors import Tensor

__all__ = [
    "line_element_latex",
    "line_element_text",
    "note_latex",
    "short_latex",
    "tensor_latex",
    "tensor_rows",
    "tensor_text",
]


def _labels(tensor: Tensor) -> tuple[str, ...]:
    return tensor.frame.names


def tensor_rows(tensor: Tensor, latex: bool = False, longest: int | None = None) -> list[tuple[str, str]]:
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
            rows.append((name, short_latex(value, longest)))
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
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f"{tensor.name} = 0"] if not rows else [f"{name:<{width}} = {value}" for name, value in rows]
    return "\n".join(([f"# {tensor.note}"] if tensor.note else []) + lines)


def tensor_latex(tensor: Tensor, longest: int | None = None, note: bool = False) -> str:
    """An aligned environment, one line a component; without the dollars.

    Args:
        tensor: the tensor.
        longest: values of more terms are only counted.
        note: whether the conventions stand in the last line.
    """
    rows = (
        tensor_rows(tensor, latex=True, longest=longest)
        if tensor.rank
        else [("", short_latex(tensor.scalar(), longest))]
    )
    lines = [f"{name} &= {value}" if name else value for name, value in rows]
    if not lines:
        lines = [f"{_LATEX_NAMES.get(tensor.name, tensor.name)} &= 0"]
    if note and tensor.note:
        lines.append(rf"&({note_latex(tensor.note)})")
    if len(lines) == 1:
        return lines[0].replace("&", "")
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def note_latex(note: str) -> str:
    """The conventions as a formula."""
    if not note.startswith("R^a_bcd"):
        return rf"\text{{{note}}}"
    note = re.sub(r"Gamma\^(\w)_(\w+)", r"\\Gamma^{\1}{}_{\2}", note)
    note = re.sub(r"R\^(\w)_(\w+)", r"R^{\1}{}_{\2}", note)
    note = re.sub(r"R_(\w+)", r"R_{\1}", note)
    return re.sub(r"\bd_(\w)", r"\\partial_{\1}", note).replace("...", r"\dots").replace(", ", r",\; ")


def short_latex(value: Element, longest: int | None = None) -> str:
    """An element in LaTeX, or its number of terms where a browser would not show it in reasonable time."""
    if longest is not None and value.size() > longest:
        return rf"\text{{[{value.size()} terms]}}"
    return value.latex()


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
