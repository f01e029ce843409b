"""Peers of the geometry benchmark: ``PYTHON geometry_peers.py LIBRARY FILE ...`` prints lines of JSON.

Runs under a Python of its own in which the peers are installed, so nothing of kexue is imported here. FILE holds
{"coordinates": [...], "functions": {...}, "matrix": [[...]]}, strings that SymPy reads. The seconds cover the
Riemann tensor with all components, the Ricci tensor and the Kretschmann scalar, each in the simplified form that the
library itself offers; loading (all files but the last are computed for that) and reading of strings are not counted.
"""

import json
import sys
import time
from itertools import product
from pathlib import Path

import sympy

MODES = ("einsteinengine", "einsteinengine-raw", "einsteinpy", "diffgeom", "gravipy")


def operations(values):
    """Operations of all values together, zeros left out."""
    return int(sum(sympy.count_ops(value) for value in values if value != 0))


def main():
    library, *files = sys.argv[1:]
    for file in files:  # all but the last are only for loading
        data = json.loads(Path(file).read_text())
        symbols = {name: sympy.Symbol(name) for name in data["symbols"]}
        names = {**symbols, **{name: sympy.Function(name) for name in data["functions"]}}
        coordinates = [symbols[name] for name in data["coordinates"]]
        matrix = sympy.Matrix([[sympy.sympify(x, locals=names) for x in row] for row in data["matrix"]])
        clock = Clock(quiet=file != files[-1])
        riemann, ricci, kretschmann = LIBRARIES[library](matrix, coordinates, clock)
        clock("end")
    found = {
        "wall": clock.wall,
        "cpu": clock.cpu,
        "riemann_operations": operations(riemann),
        "ricci_operations": operations(ricci),
        "kretschmann_operations": operations([kretschmann]),
        "ricci_zero": all(value == 0 for value in ricci),
    }
    print(json.dumps(found), flush=True)


class Clock:
    """Reports every step at once, so that a run which is stopped still tells how far it came."""

    def __init__(self, quiet):
        self.quiet = quiet
        self.start = time.perf_counter(), time.process_time()
        self.wall = self.cpu = 0.0

    def __call__(self, step):
        self.wall = time.perf_counter() - self.start[0]
        self.cpu = time.process_time() - self.start[1]
        if not self.quiet:
            print(json.dumps({"step": step, "wall": self.wall, "cpu": self.cpu}), flush=True)


def contracted(riemann, matrix, n):
    """R_abcd R^abcd of R^a_bcd, for libraries that have no such scalar: the plain sum, simplified at the end."""
    inverse = matrix.inv()
    lower = {}
    for a, b, c, d in product(range(n), repeat=4):
        lower[a, b, c, d] = sum(matrix[a, e] * riemann[e, b, c, d] for e in range(n) if matrix[a, e] != 0)
    upper = lower
    for slot in range(4):
        raised = {}
        for index in product(range(n), repeat=4):
            a = index[slot]
            terms = (
                inverse[a, e] * upper[(*index[:slot], e, *index[slot + 1 :])] for e in range(n) if inverse[a, e] != 0
            )
            raised[index] = sum(terms)
        upper = raised
    return sympy.simplify(sum(lower[i] * upper[i] for i in lower if lower[i] != 0 and upper[i] != 0))


def einsteinengine(matrix, coordinates, clock, simplify=True):
    from einsteinengine.symbolic.metric import MetricTensor
    from einsteinengine.symbolic.ricci_tensor import RicciTensor
    from einsteinengine.symbolic.riemann import RiemannCurvatureTensor

    n = len(coordinates)
    metric = MetricTensor(matrix.tolist(), coordinates)
    riemann = RiemannCurvatureTensor.from_metric(metric)
    components = [riemann.get_component(*i, simplify=simplify) for i in product(range(n), repeat=4)]
    clock("Riemann")
    ricci = RicciTensor.from_riemann(riemann)
    traces = [ricci.get_component(*i, simplify=simplify) for i in product(range(n), repeat=2)]
    clock("Ricci")
    scalar = riemann.kretschmann_scalar(metric, simplify=simplify)
    clock("Kretschmann")
    return [[sympy.sympify(x) for x in part] for part in (components, traces)] + [sympy.sympify(scalar)]


def einsteinengine_raw(matrix, coordinates, clock):
    return einsteinengine(matrix, coordinates, clock, simplify=False)


def einsteinpy(matrix, coordinates, clock):
    from einsteinpy.symbolic import MetricTensor, RicciTensor, RiemannCurvatureTensor

    n = len(coordinates)
    metric = MetricTensor(matrix.tolist(), coordinates)
    tensor = RiemannCurvatureTensor.from_metric(metric)
    riemann = tensor.tensor()
    clock("Riemann")
    ricci = RicciTensor.from_riemann(tensor).tensor()
    clock("Ricci")
    table = {i: riemann[i] for i in product(range(n), repeat=4)}
    scalar = contracted(table, matrix, n)
    clock("Kretschmann")
    return list(table.values()), [ricci[i] for i in product(range(n), repeat=2)], scalar


def diffgeom(matrix, coordinates, clock):
    from sympy.diffgeom import (
        CoordSystem,
        Manifold,
        Patch,
        TensorProduct,
        metric_to_Ricci_components,
        metric_to_Riemann_components,
    )

    n = len(coordinates)
    own = [sympy.Symbol(f"chart_{x}") for x in coordinates]  # not those of the matrix, which are replaced
    chart = CoordSystem("chart", Patch("P", Manifold("M", n)), own)
    functions, forms = chart.coord_functions(), chart.base_oneforms()
    known = dict(zip(coordinates, functions, strict=True))
    metric = sum(
        matrix[i, j].subs(known) * TensorProduct(forms[i], forms[j])
        for i, j in product(range(n), repeat=2)
        if matrix[i, j] != 0
    )
    riemann = metric_to_Riemann_components(metric)
    table = {i: riemann[i] for i in product(range(n), repeat=4)}
    clock("Riemann")
    ricci = metric_to_Ricci_components(metric)
    clock("Ricci")
    scalar = contracted(table, matrix.subs(known), n)
    clock("Kretschmann")
    return list(table.values()), [ricci[i] for i in product(range(n), repeat=2)], scalar


def gravipy(matrix, coordinates, clock):
    from gravipy.tensorial import Christoffel, Coordinates, MetricTensor, Ricci, Riemann

    n = len(coordinates)
    chart = Coordinates("x", coordinates)
    metric = MetricTensor("g", chart, matrix)
    Christoffel("Gamma", metric)
    tensor = Riemann("R", metric)
    index = range(1, n + 1)
    table = {(-i[0], *i[1:]): tensor(-i[0], *i[1:]) for i in product(index, repeat=4)}
    clock("Riemann")
    trace = Ricci("Ric", metric)
    ricci = [trace(*i) for i in product(index, repeat=2)]
    clock("Ricci")
    scalar = contracted({tuple(abs(k) - 1 for k in i): v for i, v in table.items()}, matrix, n)
    clock("Kretschmann")
    return list(table.values()), ricci, scalar


LIBRARIES = {
    "einsteinengine": einsteinengine,
    "einsteinengine-raw": einsteinengine_raw,
    "einsteinpy": einsteinpy,
    "diffgeom": diffgeom,
    "gravipy": gravipy,
}


if __name__ == "__main__":
    main()
