"""Curvature of known metrics: kexue with and without python-flint against EinsteinEngine, EinsteinPy, SymPy, GraviPy.

Every library runs in a process of its own with a limit of CPU seconds, on the same matrix g_ij, and gives the Riemann
tensor with all components, the Ricci tensor and R_abcd R^abcd. Seconds are CPU seconds, which a busy machine disturbs
least; before the clock starts each library has done the same for a flat plane, so that loading is not counted. The
peers need an environment of their own::

    uv venv peers && uv pip install --python peers/bin/python einsteinengine==1.0.0 einsteinpy==0.5.0 gravipy==0.2.0
    python -m benchmarks.geometry --peers peers/bin/python

``--keep FILE`` keeps what was measured, so that a long comparison can be made in pieces (``--libraries``); the last one
prints it whole. Of kexue's times each is the median of ``--repeats`` processes: the first computation of a metric in a
process that has computed another one, nothing kept.

A second table is of the whole catalogue: one process for each backend of the polynomials, every entry from its strings
to Christoffel symbols, Riemann, Ricci, Einstein, Weyl, all invariants and the Petrov type.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.report import arguments, publish, table

ENTRIES = (
    "schwarzschild",
    "reissner_nordstrom",
    "kerr",
    "kerr_newman",
    "kerr_de_sitter",
    "flrw",
    "bianchi_ix",
    "myers_perry_5d",
    "general_diagonal",
)
PEERS = {
    "einsteinengine": "EinsteinEngine, simplified",
    "einsteinengine-raw": "EinsteinEngine, as it comes",
    "einsteinpy": "EinsteinPy",
    "diffgeom": "SymPy diffgeom",
    "gravipy": "GraviPy",
}
NOT_SIMPLIFIED = ("EinsteinEngine, as it comes", "SymPy diffgeom")
KINDS = ("catalogue frame", "matrix")
OURS = {"flint": "kexue, python-flint", "sympy": "kexue, SymPy polynomials"}
PLANE = {"symbols": ["x", "y"], "coordinates": ["x", "y"], "functions": [], "matrix": [["1 + x", "0"], ["0", "1"]]}
COLUMNS = ("riemann_operations", "ricci_operations", "kretschmann_operations")


def matrix_of(name: str) -> dict[str, Any]:
    """g_ij of a catalogue entry as strings for every library."""
    from sympy.core.function import AppliedUndef

    from kexue.maths.geometry import catalogue

    g = catalogue.metric(name)
    rows = g.tensor.to_sympy().tolist()
    symbols = sorted({s.name for row in rows for x in row for s in x.free_symbols} | set(g.coordinates))
    functions = sorted({f.func.__name__ for row in rows for x in row for f in x.atoms(AppliedUndef)})
    matrix = [[str(x) for x in row] for row in rows]
    return {"symbols": symbols, "coordinates": list(g.coordinates), "functions": functions, "matrix": matrix}


def ours(file: str, backend: str, name: str) -> None:
    """One line of JSON: kexue on the matrix, and on the frame of the catalogue where a name is given."""
    import sympy

    from kexue.maths.geometry import Metric, catalogue

    data = json.loads(Path(file).read_text())
    for case in (PLANE, data):
        wall, cpu = time.perf_counter(), time.process_time()
        if name and case is data:
            g = catalogue.metric(name, backend=backend)
        else:
            g = Metric(case["matrix"], case["coordinates"], functions=case["functions"], backend=backend)
        riemann, ricci, kretschmann = g.riemann(), g.ricci(), g.kretschmann()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    found = {"wall": wall, "cpu": cpu, "ricci_zero": ricci.is_zero}
    for column, values in zip(COLUMNS, (riemann.components, ricci.components, {(): kretschmann}), strict=True):
        found[column] = int(sum(sympy.count_ops(value.to_sympy()) for value in values.values()))
    print(json.dumps(found))


def run(command: list[str], limit: float) -> dict[str, Any]:
    """The last line of a process as JSON; a limit of CPU seconds set by the shell; how far it came otherwise."""
    shell = ["bash", "-c", f'ulimit -t {int(limit)}; exec "$@"', "limited", *command]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    last: dict[str, Any] = lines[-1] if lines else {}
    if "ricci_zero" in last:
        return last
    if done.returncode > 0:
        return {"failed": done.stderr.strip().splitlines()[-1][:100]}
    steps = [f"{line['step']} {line['cpu']:.1f} s" for line in lines if "step" in line]
    return {"stopped": ", ".join(steps) or "nothing", "limit": limit}


class Kept:
    """Results by metric and library, in a file if there is one, so that a comparison can go on where it stopped."""

    def __init__(self, path: str | None) -> None:
        self.path = Path(path) if path else None
        known = self.path is not None and self.path.exists()
        self.results: dict[str, dict[str, Any]] = json.loads(self.path.read_text()) if known and self.path else {}

    def of(self, name: str, title: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Measure unless it is known."""
        known = self.results.setdefault(name, {})
        if title not in known:
            known[title] = measure()
            if self.path:
                self.path.write_text(json.dumps(self.results, indent=1))


def repeated(command: list[str], limit: float, repeats: int) -> dict[str, Any]:
    """The run of median time."""
    runs = [run(command, limit) for _ in range(repeats)]
    done = sorted((r for r in runs if "cpu" in r), key=lambda r: r["cpu"])
    return done[(len(done) - 1) // 2] if len(done) == repeats else runs[-1]


def compare(
    name: str, peers: str | None, limit: float, libraries: list[str], kept: Kept, repeats: int
) -> tuple[list[list[str]], dict[str, Any]]:
    """Rows of the table for one metric."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "metric.json"
        file.write_text(json.dumps(matrix_of(name)))
        plane = Path(folder) / "plane.json"
        plane.write_text(json.dumps(PLANE))
        for backend, title in OURS.items():
            for frame, kind in zip((name, ""), KINDS, strict=True):
                own = [sys.executable, "-m", "benchmarks.geometry", "--one", str(file), backend, frame]
                if "kexue" in libraries:
                    kept.of(name, f"{title}, {kind}", partial(repeated, own, limit, repeats))
        script = Path(__file__).with_name("geometry_peers.py")
        for library in libraries if peers else ():
            if library != "kexue":
                command = [str(peers), str(script), library, str(plane), str(file)]
                kept.of(name, PEERS[library], partial(run, command, limit))
    results = kept.results.get(name, {})
    order = [f"{title}, {kind}" for title in OURS.values() for kind in KINDS] + list(PEERS.values())
    for title in sorted(results, key=order.index):
        found = results[title]
        if "ricci_zero" not in found:
            note = found.get("failed") or f"stopped at {found['limit']:.0f} s; done: {found['stopped']}"
            rows.append([name, title, note, "", "", "", ""])
            continue
        sizes = ["" if found[c] is None else f"{found[c]:,}" for c in COLUMNS]
        rows.append([name, title, f"{found['cpu']:.3f}", *sizes, "yes" if found["ricci_zero"] else "no"])
    return rows, results


def ratios(name: str, results: dict[str, Any]) -> str:
    """How many times quicker than the fastest peer, and than the fastest of those that give simplified answers."""
    lines = []
    for simplified in (False, True):
        those = {t: results[t] for t in PEERS.values() if t in results and not (simplified and t in NOT_SIMPLIFIED)}
        if not those:
            continue
        done = {t: found["cpu"] for t, found in those.items() if "cpu" in found}
        most = min((found["limit"] for found in those.values() if "limit" in found), default=0.0)
        if not done and not most:
            continue
        title, least = min(done.items(), key=lambda item: item[1]) if done else ("every peer that simplifies", most)
        more = "" if done else "more than "
        parts = [
            f"{own} {more}{least / results[own]['cpu']:.0f} times"
            for own in results
            if own.startswith("kexue") and "cpu" in results[own]
        ]
        line = f"- {name}, against {title} ({more}{least:.2f} s): {'; '.join(parts)}."
        if line not in lines:
            lines.append(line)
    return "\n".join(lines)


def full(backend: str) -> None:
    """Every entry of the catalogue, everything there is, a line of JSON each."""
    from kexue.errors import ConfigError
    from kexue.maths.geometry import Metric, catalogue

    Metric([["1 + x", "0"], ["0", "1"]], "x y", backend=backend).riemann()
    for name in catalogue.names():
        steps = {}
        begun = last = time.process_time()

        def lap(step: str, steps: dict[str, float] = steps) -> None:
            nonlocal last
            now = time.process_time()
            steps[step] = steps.get(step, 0) + now - last
            last = now

        g = catalogue.metric(name, backend=backend)
        lap("metric")
        g.christoffel()
        lap("Christoffel")
        g.riemann(), g.riemann("dddd")
        lap("Riemann")
        g.ricci(), g.ricci_scalar(), g.einstein()
        lap("Ricci, Einstein")
        if g.dimension > 2:
            g.weyl()
            lap("Weyl")
        g.kretschmann(), g.invariants()
        lap("invariants")
        with contextlib.suppress(ConfigError):  # not Lorentzian, or not of four dimensions
            _ = g.petrov_type
        lap("Petrov")
        print(json.dumps({"name": name, "total": last - begun, "steps": steps}), flush=True)


def catalogue_table(limit: float) -> str:
    """Seconds of every entry with both backends."""
    found: dict[str, dict[str, Any]] = {}
    for backend in OURS:
        command = [sys.executable, "-m", "benchmarks.geometry", "--full", backend]
        shell = ["bash", "-c", f'ulimit -t {int(limit * 10)}; exec "$@"', "limited", *command]
        done = subprocess.run(shell, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            entry = json.loads(line)
            found.setdefault(entry["name"], {})[backend] = entry
    rows = []
    for name, both in sorted(found.items(), key=lambda item: -item[1]["flint"]["total"]):
        cells = [f"{both[b]['total']:.3f}" if b in both else "not reached" for b in OURS]
        step, seconds = max(both["flint"]["steps"].items(), key=lambda item: item[1])
        rows.append([name, *cells, f"{step} {seconds:.3f}"])
    return table(["entry", *(f"{title}, s" for title in OURS.values()), "longest step, s"], rows)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--entries", default=",".join(ENTRIES), help="names of the catalogue, with commas")
    parser.add_argument("--limit", type=float, default=120, help="CPU seconds of each process")
    parser.add_argument("--peers", help="a Python with the peers; without it they are left out")
    parser.add_argument("--libraries", default=",".join(["kexue", *PEERS]), help=f"of {', '.join(['kexue', *PEERS])}")
    parser.add_argument("--keep", metavar="FILE", help="JSON of what was measured; what stands there is not repeated")
    parser.add_argument("--repeats", type=int, default=5, help="processes of kexue, of which the median counts")
    parser.add_argument("--no-catalogue", action="store_true", help="leave out the second table")
    parser.add_argument("--one", nargs=3, metavar=("FILE", "BACKEND", "NAME"), help="(a process of kexue)")
    parser.add_argument("--full", metavar="BACKEND", help="(a process of the catalogue)")
    options = parser.parse_args()
    if options.one:
        ours(*options.one)
        return
    if options.full:
        full(options.full)
        return
    rows, notes = [], []
    kept, libraries = Kept(options.keep), options.libraries.split(",")
    for name in filter(None, options.entries.split(",")):
        more, results = compare(name, options.peers, options.limit, libraries, kept, options.repeats)
        rows += more
        notes.append(ratios(name, results))
        print(table(COLUMNS_OF_TABLE, more), notes[-1], sep="\n", file=sys.stderr, flush=True)
    head = "CPU seconds of the Riemann tensor with all components, the Ricci tensor and R_abcd R^abcd of one metric; "
    head += f"operations are SymPy's count over all components. kexue: median of {options.repeats} processes. A "
    head += 'process that is stopped has used its CPU seconds; "as it comes" and diffgeom do not simplify.\n\n'
    body = head + table(COLUMNS_OF_TABLE, rows) + "\n\n" + "\n".join(filter(None, notes))
    if options.peers:
        body += f"\n\nPeers: {versions(options.peers)}."
    publish("geometry", "Curvature", "python -m benchmarks.geometry --peers PYTHON", body, options.write and bool(rows))
    if not options.no_catalogue:
        body = (
            "CPU seconds from strings to everything: Christoffel, Riemann, Ricci, Einstein, Weyl, invariants, Petrov "
            "type.\n\n" + catalogue_table(options.limit)
        )
        publish("geometry-catalogue", "The catalogue of metrics", "python -m benchmarks.geometry", body, options.write)


COLUMNS_OF_TABLE = ["metric", "library", "s", "Riemann ops", "Ricci ops", "Kretschmann ops", "Ricci is 0"]


def versions(python: str) -> str:
    """Versions of the peers."""
    code = (
        "import importlib.metadata as m;"
        "print(', '.join(f'{n} {m.version(n)}' for n in ('einsteinengine', 'einsteinpy', 'sympy', 'gravipy')))"
    )
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
