"""An independent evaluation of curvature: the metric's own formula at 60 digits and central differences.

Nothing of the differential field is used: the matrix comes from SymPy expressions, derivatives from differences with a
step of 1e-15 (errors near 1e-28), the Riemann tensor from its definition.
"""

import random
from itertools import product

import mpmath
import numpy as np
import sympy
from sympy.core.function import AppliedUndef

from kexue.maths.geometry.field import Element
from kexue.maths.geometry.field.parser import parse
from kexue.maths.geometry.line_element import linear_coefficients, read_line_element

DIGITS = 60
STEP = mpmath.mpf("1e-15")
LIBRARY = [{"airyaiprime": lambda x: mpmath.airyai(x, derivative=1)}, "mpmath"]


def matrix_of(entry):
    """g_ij of a catalogue entry as a SymPy matrix, without the field."""
    names = entry.coordinates.split()
    lines = "\n".join([*(f"{k} = {v}" for k, v in entry.definitions.items()), f"ds^2 = {entry.line}"])
    if not entry.coframe:
        return sympy.Matrix(read_line_element(lines, names).matrix)
    h = sympy.Matrix([linear_coefficients(row, names, dict(entry.definitions)) for row in entry.coframe])
    known = {}
    for name, formula in entry.definitions.items():
        known[sympy.Symbol(name)] = parse(formula, names).xreplace(known)
    n = len(names)
    eta = sympy.eye(n)
    for i, row in enumerate(entry.eta):
        for j, x in enumerate(row if not isinstance(row, str) else [row if i == j else "0" for j in range(n)]):
            eta[i, j] = parse(x, names).xreplace(known)
    return h.T * eta * h


def concrete(expression):
    """Unknown functions replaced by smooth ones, 2 + sin(...)/3."""

    def stand_in(f):
        phase = sympy.Rational(sum(map(ord, f.func.__name__)) % 17, 11)
        inner = sum((sympy.Rational(k + 1, 3) * a for k, a in enumerate(f.args)), phase)
        return 2 + sympy.sin(inner) / 3

    return sympy.sympify(expression).replace(lambda e: isinstance(e, AppliedUndef), stand_in).doit()


class Evaluator:
    """Values of a metric and its curvature at a random point where everything assumed positive is so."""

    def __init__(self, matrix, coordinates, positives=(), seed=0):
        self.names = list(coordinates)
        self.matrix = concrete(matrix)
        positives = [concrete(p.to_sympy()) for p in positives]
        symbols = self.matrix.free_symbols | {sympy.Symbol(n) for n in self.names}
        self.symbols = sorted(symbols.union(*(p.free_symbols for p in positives)), key=str)
        tests = [sympy.lambdify(self.symbols, p, "mpmath") for p in positives]
        rng = random.Random(seed)
        for attempt in range(500):
            numbers = [rng.randint(150, 1400 if attempt < 250 else 8000) for _ in self.symbols]
            self.numbers = [mpmath.mpf(x) / 1000 for x in numbers]
            values = [mpmath.mpc(test(*self.numbers)) for test in tests]
            if all(v.imag == 0 and v.real > 1e-3 for v in values):
                break
        else:
            raise AssertionError("no point was found")
        self.point = {s: sympy.Rational(x, 1000) for s, x in zip(self.symbols, numbers, strict=True)}
        parameters = {s: v for s, v in self.point.items() if s.name not in self.names}
        arguments = [sympy.Symbol(n) for n in self.names]
        self.g = sympy.lambdify(arguments, self.matrix.subs(parameters).tolist(), "mpmath")
        self.x = [mpmath.mpf(self.point[a].p) / self.point[a].q for a in arguments]

    def values(self, elements):
        """Elements of one field at the point: SymPy evaluates the generators, the polynomials are summed here."""
        if not elements:
            return []
        field = elements[0].field
        ring = field.ring
        for element in elements:
            element.lift()
        generators = [concrete(Element(field, x, ring).to_sympy(False)) for x in ring.gens]
        powers, polynomials = {}, {}

        def power(k, e):
            if (k, e) not in powers:
                powers[k, e] = numbers[k] ** e
            return powers[k, e]

        def polynomial(terms):
            total = mpmath.mpf(0)
            for monomial, c in terms:
                term = mpmath.mpf(c)
                for k, e in enumerate(monomial):
                    if e:
                        term *= power(k, e)
                total += term
            return total

        with mpmath.workdps(40):
            numbers = sympy.lambdify(self.symbols, generators, LIBRARY)(*self.numbers)
            out, known = [], {}
            for element in elements:
                terms = tuple(ring.terms(element.num))
                sign = -1 if terms and terms[0][1] < 0 else 1
                terms = tuple((m, sign * c) for m, c in terms)
                key = (terms, element.content, element.factors)
                if key not in known:
                    below = mpmath.mpf(element.content)
                    for number, e in element.factors:
                        if number not in polynomials:
                            polynomials[number] = polynomial(ring.terms(field.factor_polynomial(number)))
                        below *= polynomials[number] ** e
                    known[key] = complex(polynomial(terms) / below)
                out.append(sign * known[key])
            return out

    def riemann(self):
        """R^a_bcd (MTW) by index; the metric at the point is kept."""
        with mpmath.workdps(DIGITS):
            n = len(self.x)

            def at(*shifts):
                x = list(self.x)
                for i, step in shifts:
                    x[i] += step
                return mpmath.matrix(self.g(*x))

            g = at()
            self.metric = [complex(v) for v in g]
            inverse = g**-1
            plus = [at((i, STEP)) for i in range(n)]
            minus = [at((i, -STEP)) for i in range(n)]
            first = [(plus[i] - minus[i]) / (2 * STEP) for i in range(n)]
            second = {}
            for i, j in product(range(n), repeat=2):
                if i == j:
                    second[i, j] = (plus[i] - 2 * g + minus[i]) / STEP**2
                elif i < j:
                    corners = [at((i, s * STEP), (j, t * STEP)) * (s * t) for s in (1, -1) for t in (1, -1)]
                    second[i, j] = second[j, i] = (corners[0] + corners[1] + corners[2] + corners[3]) / (4 * STEP**2)
            lowered = [
                [[(first[b][c, a] + first[a][c, b] - first[c][a, b]) / 2 for b in range(n)] for a in range(n)]
                for c in range(n)
            ]
            raised = [
                [[sum(inverse[c, e] * lowered[e][a][b] for e in range(n)) for b in range(n)] for a in range(n)]
                for c in range(n)
            ]

            def slope(d, c, a, b):  # d_d Gamma^c_ab
                total = mpmath.mpf(0)
                for e in range(n):
                    parts = second[d, b][e, a] + second[d, a][e, b] - second[d, e][a, b]
                    total += inverse[c, e] * parts / 2
                turned = -inverse * first[d] * inverse
                return total + sum(turned[c, e] * lowered[e][a][b] for e in range(n))

            slopes = {(d, c, a, b): slope(d, c, a, b) for d, c, a, b in product(range(n), repeat=4)}
            out = {}
            for a, b, c, d in product(range(n), repeat=4):
                value = slopes[c, a, b, d] - slopes[d, a, b, c]
                for e in range(n):
                    value += raised[a][e][c] * raised[e][b][d] - raised[a][e][d] * raised[e][b][c]
                out[a, b, c, d] = complex(value)
            return out


def check_riemann(metric, matrix, seed=0):
    """Our R^a_bcd against the reference, to 1e-9 of the largest component."""
    evaluator = Evaluator(matrix, metric.coordinates, metric.field.positives, seed)
    _compare(evaluator, {"R^a_bcd": (metric.riemann(), _array(evaluator))}, {})


def check_curvature(metric, matrix, seed=0):
    """Riemann, Ricci, Einstein, Weyl, the Ricci scalar and the invariants against the reference.

    To 1e-9 of the largest component; invariants relative to the size of the terms that are summed.
    """
    evaluator = Evaluator(matrix, metric.coordinates, metric.field.positives, seed)
    riemann = _array(evaluator)
    n = metric.dimension
    g = np.array(evaluator.metric, dtype=complex).reshape(n, n)
    up = np.linalg.inv(g)
    lower = np.einsum("ae,ebcd->abcd", g, riemann)
    ricci = np.einsum("abad->bd", riemann)
    scalar = np.einsum("ab,ab", up, ricci)
    tensors = {
        "R^a_bcd": (metric.riemann(), riemann),
        "R_abcd": (metric.riemann("dddd"), lower),
        "R_ab": (metric.ricci(), ricci),
        "G_ab": (metric.einstein(), ricci - scalar / 2 * g),
    }
    if n > 2:
        schouten = (ricci - scalar / (2 * (n - 1)) * g) / (n - 2)
        parts = np.einsum("ac,bd->abcd", g, schouten) + np.einsum("bd,ac->abcd", g, schouten)
        tensors["C_abcd"] = (metric.weyl("dddd"), lower - parts + parts.transpose(0, 1, 3, 2))
    mixed = np.einsum("be,aecd->abcd", up, riemann)  # R^ab_cd
    turned = np.einsum("ab,bc->ac", up, ricci)
    terms = abs(up) @ np.einsum("abad->bd", abs(riemann))  # before anything cancels
    squares = {
        "R_abcd R^abcd": (np.einsum("abcd,cdab", mixed, mixed), np.einsum("abcd,cdab", abs(mixed), abs(mixed))),
        "R_ab R^ab": (np.einsum("ab,ba", turned, turned), np.einsum("ab,ba", terms, terms)),
        "R": (scalar, np.trace(terms)),
    }
    found = metric.invariants()
    _compare(evaluator, tensors, {k: (found[k], *v) for k, v in squares.items()})


def _array(evaluator):
    n = len(evaluator.x)
    return np.array([complex(v) for v in evaluator.riemann().values()]).reshape((n,) * 4)


def _compare(evaluator, tensors, scalars):
    elements = [x for tensor, _ in tensors.values() for x in tensor.components.values()]
    found = iter(evaluator.values([*elements, *(x for x, *_ in scalars.values())]))
    largest = max(1e-3, *(np.max(abs(wanted)) for _, wanted in tensors.values()))
    for name, (tensor, wanted) in tensors.items():
        ours = np.zeros_like(wanted)
        for index in tensor.components:
            ours[index] = next(found)
        size = max(np.max(abs(wanted)), 1e-3 * largest)  # what cancels to nothing is known to the rounding of its terms
        where = np.unravel_index(np.argmax(abs(ours - wanted)), wanted.shape)
        assert abs(ours - wanted)[where] <= 1e-9 * size, (name, where, ours[where], wanted[where])
    for name, (_, wanted, size) in scalars.items():
        value = next(found)
        assert abs(value - wanted) <= 1e-9 * max(size, 1e-6), (name, value, wanted)
