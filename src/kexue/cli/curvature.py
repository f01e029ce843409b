"""``kexue curvature``: the curvature of a metric, exactly."""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from kexue.cli._common import guarded, note
from kexue.errors import ConfigError, DataError

__all__ = ["EXAMPLE", "CurvatureCommand", "curvature"]

EXAMPLE = 'Example: kexue curvature "dtheta^2 + sin(theta)^2*dphi^2" --show christoffel,ricci,invariants'

_DEFAULT = "riemann,ricci,scalar,kretschmann"


class CurvatureCommand(typer.core.TyperCommand):
    """A line element may begin with a minus, ``-dt^2 + dx^2``, and is no option then."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Formulas that look like options get a space before them."""
        formula = re.compile(r"-(?!-)(\s|.*[\^²*(+])", re.DOTALL)
        return super().parse_args(ctx, [f" {arg}" if formula.match(arg) else arg for arg in args])


@guarded
def curvature(
    metric: Annotated[
        str,
        typer.Argument(
            metavar="METRIC_OR_NAME", help="A line element, a name of the catalogue, a file with one, or - for stdin."
        ),
    ] = "",
    show: Annotated[str, typer.Option("--show", metavar="A,B,...", help="What to show; 'help' lists it.")] = _DEFAULT,
    coordinates: Annotated[
        str | None, typer.Option("--coordinates", "-c", help="Names, when the differentials do not tell them.")
    ] = None,
    basis: Annotated[str, typer.Option("--basis", help="'coordinate' or 'frame'.")] = "coordinate",
    conventions: Annotated[str, typer.Option("--conventions", help="Signs: mtw, weinberg, opposite-ricci.")] = "mtw",
    latex: Annotated[bool, typer.Option("--latex", help="LaTeX instead of text.")] = False,
    names: Annotated[bool, typer.Option("--list", help="List the catalogue.")] = False,
) -> None:
    """Connection, curvature and invariants of a metric, exactly simplified, as tables of non-zero components."""
    _require_sympy()
    if names:
        _list()
        return
    wanted = [part.strip().lower().replace("-", "_") for part in show.split(",") if part.strip()]
    if "help" in wanted:
        for name, (meaning, _) in _SHOWN.items():
            typer.echo(f"{typer.style(f'{name:<16}', bold=True)} {meaning}")
        return
    unknown = [name for name in wanted if name not in _SHOWN]
    if unknown or not wanted:
        raise ConfigError(f"--show takes {', '.join(_SHOWN)}; received {show!r}.")
    if basis not in ("coordinate", "frame"):
        raise ConfigError(f"--basis takes coordinate or frame; received {basis!r}.")
    if not metric:
        raise ConfigError("Give a metric or a name of the catalogue (kexue curvature --list).")
    began = time.perf_counter()
    g = _metric(metric, coordinates, conventions)
    _heading("metric", g.name)
    typer.echo(g.latex() if latex else str(g))
    for name in wanted:
        meaning, compute = _SHOWN[name]
        _heading(name, meaning)
        _print(_killing(g, latex) if name == "killing" else compute(g, basis), latex)
    for assumption in g.field.assumptions:
        note(f"assumed: {assumption}")
    if not g.field.canonical:
        note("Special functions stand in the metric: identities between them are not known, zeros may be missed.")
    others = f", constants {', '.join(g.field.parameters)}" if g.field.parameters else ""
    signs = f"; conventions {g.conventions}"
    note(f"coordinates {', '.join(g.coordinates)}{others}{signs}; {time.perf_counter() - began:.3f} s")


def _require_sympy() -> None:
    try:
        import sympy  # noqa: F401
    except ImportError:
        raise ConfigError("Geometry needs SymPy: pip install kexue[geometry].") from None


def _list() -> None:
    from kexue.maths.geometry import catalogue

    width = max(map(len, catalogue.names()))
    for name in catalogue.names():
        typer.echo(f"{typer.style(f'{name:<{width}}', bold=True)}  {catalogue.entry(name).title}")


def _metric(text: str, coordinates: str | None, conventions: str) -> Any:
    from kexue.maths.geometry import Metric, catalogue

    if text == "-":
        text = sys.stdin.read()
    elif len(text) < 4096 and "\n" not in text and Path(text).is_file():
        try:
            text = Path(text).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{text} is not a text file with a line element (UTF-8).") from None
    elif re.fullmatch(r"[\w./\\~-]*\.[A-Za-z]\w*|[.~]*/[\w./~-]*", text.strip()):
        raise ConfigError(f"There is no file {text.strip()!r}.")
    text = text.removeprefix("\ufeff").strip()
    if re.fullmatch(r"\w[\w \-]*", text):
        if coordinates is not None:
            raise ConfigError("--coordinates names those of a line element; a metric of the catalogue has its own.")
        return catalogue.metric(text, conventions=conventions)
    return Metric.from_line_element(text, coordinates, conventions=conventions)


def _heading(name: str, meaning: str) -> None:
    text = typer.style(name, bold=True)
    typer.echo(f"\n{text}  {meaning}" if name != "metric" else f"{text}  {meaning}".rstrip())


def _print(value: Any, latex: bool) -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            typer.echo(f"{_latex_name(name)} = {_latex(part)}" if latex else f"{name} = {part}")
        return
    if latex and hasattr(value, "latex"):
        typer.echo(value.latex())
        return
    lines = str(value).splitlines()
    typer.echo("\n".join(line for line in lines if not line.startswith("#")))


def _latex(value: Any) -> str:
    return value.latex() if hasattr(value, "latex") else str(value)


def _latex_name(name: str) -> str:
    """``R_ab R^ab`` and ``omega^0_1`` in LaTeX; words of several letters upright."""
    name = re.sub(r"\^(\w)_(\w+)", r"^{\1}{}_{\2}", name)
    name = re.sub(r"(?<!{})([_^])(\w+)", r"\1{\2}", name)
    name = re.sub(r"(?<![\\{\w])(" + "|".join(_GREEK) + r")(?![a-z])", r"\\\1", name)
    return re.sub(r"(?<![\\{\w])([A-Za-z]{2,}(?:-[A-Za-z]+)?)", r"\\text{\1}", name)


_SPIN = ["kappa", "rho", "sigma", "tau", "nu", "mu", "lambda", "pi", "epsilon", "beta", "gamma", "alpha"]
_GREEK = ["omega", "xi", *_SPIN]


def _forms(rows: Any, name: str) -> dict[str, Any]:
    out = {}
    for a, row in enumerate(rows):
        for b, form in enumerate(row):
            if not form.is_zero:
                out[f"{name}^{a}_{b}"] = form
    return out or {name: "0"}


def _scalars(g: Any, basis: str) -> Any:
    return g.newman_penrose()


def _killing(g: Any, latex: bool) -> Any:
    import sympy

    from kexue.maths.geometry.killing import killing_dimension, killing_vectors

    number, vectors = killing_dimension(g), killing_vectors(g)
    out: dict[str, Any] = {"number": number}
    if len(vectors) < number:
        note(f"{number - len(vectors)} more exist; killing_vectors(metric, functions) seeks them among your functions.")
    for k, vector in enumerate(vectors):
        terms = []
        for (i,), value in sorted(vector.components.items()):
            x = g.coordinates[i]
            direction = rf"\partial_{{{sympy.latex(sympy.Symbol(x))}}}"
            terms.append(rf"\left({value.latex()}\right) {direction}" if latex else f"({value}) d/d{x}")
        out[f"xi_{k}"] = " + ".join(terms)
    return out


def _bianchi(g: Any, basis: str) -> Any:
    first, second = g.bianchi_first().is_zero, g.bianchi_second().is_zero
    return {"first": "holds" if first else "fails", "second": "holds" if second else "fails"}


def _fluid(g: Any, basis: str) -> Any:
    from kexue.maths.geometry.sources import perfect_fluid

    found = perfect_fluid(g)
    return {"density": found.density, "pressure": found.pressure} if found else "no perfect fluid"


_SHOWN: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
    "inverse": ("inverse metric", lambda g, basis: g.inverse),
    "determinant": ("det g", lambda g, basis: g.determinant),
    "christoffel": ("Christoffel symbols of the second kind", lambda g, basis: g.christoffel()),
    "christoffel_first": ("Christoffel symbols of the first kind", lambda g, basis: g.christoffel(1)),
    "connection": ("connection forms of the frame", lambda g, basis: _forms(g.connection_forms(), "omega")),
    "curvature_forms": ("curvature forms of the frame", lambda g, basis: _forms(g.curvature_forms(), "R")),
    "riemann": ("Riemann tensor R^a_bcd", lambda g, basis: g.riemann(basis=basis)),
    "riemann_lower": ("Riemann tensor R_abcd", lambda g, basis: g.riemann("dddd", basis)),
    "ricci": ("Ricci tensor", lambda g, basis: g.ricci(basis=basis)),
    "scalar": ("Ricci scalar", lambda g, basis: g.ricci_scalar()),
    "einstein": ("Einstein tensor", lambda g, basis: g.einstein(basis=basis)),
    "schouten": ("Schouten tensor", lambda g, basis: g.schouten(basis=basis)),
    "weyl": ("Weyl tensor C^a_bcd", lambda g, basis: g.weyl(basis=basis)),
    "cotton": ("Cotton tensor", lambda g, basis: g.cotton(basis)),
    "kretschmann": ("R_abcd R^abcd", lambda g, basis: g.kretschmann()),
    "invariants": ("curvature invariants", lambda g, basis: g.invariants()),
    "np": ("Newman-Penrose scalars", _scalars),
    "spin": ("Newman-Penrose spin coefficients", lambda g, basis: g.newman_penrose().spin_coefficients),
    "petrov": ("Petrov type", lambda g, basis: g.petrov_type),
    "killing": ("Killing vectors", lambda g, basis: _killing(g, False)),
    "geodesics": ("geodesic equations", lambda g, basis: g.geodesic_equations()),
    "bianchi": ("Bianchi identities", _bianchi),
    "fluid": ("perfect fluid, times 8 pi", _fluid),
}
