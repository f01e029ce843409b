"""Does the metric solve Einstein's equations with a known source: electromagnetic field, perfect fluid."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from kexue.errors import ConfigError, DataError
from kexue.maths.geometry.field import Element
from kexue.maths.geometry.forms import Form
from kexue.maths.geometry.matrices import index_pairs
from kexue.maths.geometry.tensors import SYMMETRIC, Tensor

if TYPE_CHECKING:
    from kexue.maths.geometry.metric import Metric

__all__ = ["EinsteinMaxwell", "PerfectFluid", "einstein_maxwell", "maxwell_stress", "perfect_fluid"]


@dataclass(frozen=True)
class EinsteinMaxwell:
    """What remains of the equations; a solution has all three zero.

    Attributes:
        einstein: ``G_ab + Lambda g_ab - 8 pi T_ab``, in units with ``8 pi T_ab = 2 (F_ac F_b^c - g_ab F^2 / 4)``.
        divergence: ``nabla_b F^ab``.
        closed: dF, zero where a potential was given.
    """

    einstein: Tensor
    divergence: Tensor
    closed: Form

    @property
    def holds(self) -> bool:
        """Whether all equations hold, exactly."""
        return self.einstein.is_zero and self.divergence.is_zero and self.closed.is_zero

    def __str__(self) -> str:
        parts: dict[str, Tensor | Form] = {
            "G_ab + Lambda g_ab - 8 pi T_ab": self.einstein,
            "nabla_b F^ab": self.divergence,
            "dF": self.closed,
        }
        lines = ["# G_ab of Misner, Thorne, Wheeler; 8 pi T_ab = 2 (F_ac F_b^c - g_ab F^2 / 4)"]
        for name, part in parts.items():
            if part.is_zero:
                lines.append(f"{name} = 0")
            else:
                rows = [line for line in str(part).splitlines() if not line.startswith("#")]
                lines += [f"{name}:", *rows]
        return "\n".join(lines)

    __repr__ = __str__


def maxwell_stress(metric: Metric, field_strength: Form) -> Tensor:
    """``8 pi T_ab = 2 (F_ac F_b^c - g_ab F_cd F^cd / 4)`` (Gaussian units, G = c = 1), for signature (-, +, +, +).

    For signature (+, -, -, -) the sign is turned.
    """
    f = Tensor(metric.coordinate_frame, "dd", _antisymmetric(field_strength), (((1, 0), -1),), "F")
    mixed = f.raise_index(1)
    square = mixed.outer(f).contract(1, 3)  # F_a^c F_bc
    total = square.contract(0, 1).scalar()  # F_cd F^cd
    out = square * 2 - metric.tensor * (total / 2)
    turn = 1 if metric.signs.count(-1) in (0, 1) else -1
    return Tensor(out.frame, "dd", (out * turn).components, SYMMETRIC, "8 pi T")


def _antisymmetric(form: Form) -> dict[tuple[int, ...], Element]:
    if form.degree != 2:
        raise DataError(f"A field strength is a form of degree 2, received degree {form.degree}.")
    out: dict[tuple[int, ...], Element] = {}
    for (i, j), value in form.components.items():
        out[i, j], out[j, i] = value, -value
    return out


def einstein_maxwell(
    metric: Metric, potential: Form | str | None = None, strength: Form | None = None, cosmological: Any = 0
) -> EinsteinMaxwell:
    """Check the Einstein-Maxwell equations.

    Args:
        metric: the metric.
        potential: A, a form of degree 1 or a string such as ``"-Q/r*dt"``; F = dA.
        strength: F itself, instead of the potential.
        cosmological: Lambda.

    Raises:
        ConfigError: neither potential nor strength, or both.
    """
    if (potential is None) == (strength is None):
        raise ConfigError("Give either the potential A or the field strength F.")
    if strength is None:
        form = metric.form(potential) if isinstance(potential, str) else potential
        if not isinstance(form, Form):
            raise DataError(f"A potential is a form of degree 1 or a string, received {form!r}.")
        strength = form.d()
    f = Tensor(metric.coordinate_frame, "dd", _antisymmetric(strength), (((1, 0), -1),), "F")
    divergence = metric.covariant_derivative(f).contract(1, 2)
    sign = metric.conventions.ricci_sign
    einstein = metric.einstein() * sign + metric.tensor * metric.field(cosmological)
    rest = einstein - maxwell_stress(metric, strength)
    return EinsteinMaxwell(rest, divergence, strength.d())


@dataclass(frozen=True)
class PerfectFluid:
    """``G^a_b + Lambda delta^a_b = kappa ((rho + p) u^a u_b / |u.u| + p delta^a_b)``, signature (-, +, +, +).

    Attributes:
        density: kappa times rho.
        pressure: kappa times p.
        velocity: u, up to a factor (coordinate components); None for p = -rho, a cosmological constant.
    """

    density: Element
    pressure: Element
    velocity: Tensor | None

    def __str__(self) -> str:
        lines = ["# G^a_b + Lambda delta^a_b = kappa T^a_b, G of Misner, Thorne, Wheeler, signature (-, +, +, +)"]
        lines += [f"kappa rho = {self.density}", f"kappa p = {self.pressure}"]
        return "\n".join([*lines, *([str(self.velocity)] if self.velocity else [])])

    __repr__ = __str__


def perfect_fluid(metric: Metric, cosmological: Any = 0) -> PerfectFluid | None:
    """Density, pressure and velocity if the Einstein tensor is that of a perfect fluid, else None.

    With ``t = tr S``, ``s = tr S^2`` of ``S = G^a_b + Lambda``: t = (n - 1) p - rho and s = (n - 1) p^2 + rho^2, and
    S - p has rank one and a time-like image (null dust and matter with one odd direction in space are no fluids).

    Raises:
        ConfigError: the metric is not Lorentzian.
    """
    field, n = metric.field, metric.dimension
    negative = metric.signs.count(-1)
    if negative not in (1, n - 1):
        raise ConfigError(f"A fluid needs a Lorentzian metric, received the signature {metric.signs}.")
    turn = 1 if negative == 1 else -1
    mixed = metric.einstein("ud") * (metric.conventions.ricci_sign * turn)
    zero = field.zero
    constant = field(cosmological)
    s = [[mixed.components.get((i, j), zero) + (constant if i == j else zero) for j in range(n)] for i in range(n)]
    trace = field.sum(s[i][i] for i in range(n))
    square = field.sum(s[i][j] * s[j][i] for i in range(n) for j in range(n) if s[i][j] and s[j][i])
    # n (n - 1) p^2 - 2 (n - 1) t p + t^2 - s = 0
    discriminant = (square * n - trace * trace) * (n - 1)
    try:
        root = field.sqrt(discriminant)
    except ConfigError:
        return None
    for sign in (1, -1):
        p = (trace * (n - 1) + root * sign) * Fraction(1, n * (n - 1))
        rest = [[s[i][j] - p if i == j else s[i][j] for j in range(n)] for i in range(n)]
        density = p * (n - 1) - trace
        if not any(x for row in rest for x in row):
            return PerfectFluid(density, p, None)
        if all(
            rest[i][k] * rest[j][m] == rest[i][m] * rest[j][k] for i, j in index_pairs(n) for k, m in index_pairs(n)
        ):
            column = next(j for j in range(n) if any(rest[i][j] for i in range(n)))
            values = {(i,): rest[i][column] for i in range(n)}
            velocity = Tensor(metric.coordinate_frame, "u", values, name="u")
            if _timelike(metric, velocity, turn):
                return PerfectFluid(density, p, velocity)
    return None


def _timelike(metric: Metric, vector: Tensor, turn: int) -> bool:
    """Whether the vector is time-like at one of several random points where the metric is Lorentzian."""
    from kexue.maths.geometry.field.sampling import points

    norm = vector.outer(vector).contract(0, 1).scalar()
    diagonal = [row[a] for a, row in enumerate(metric.diagonal_frame._metric())]
    times, seen = 1 if turn > 0 else metric.dimension - 1, 0
    for point in points(metric.field) if norm else ():
        try:
            square, *scales = (point(x) for x in (norm, *diagonal))
        except (ArithmeticError, ValueError):
            continue
        if any(abs(x.imag) > 1e-9 * abs(x) or not x for x in scales) or sum(x.real < 0 for x in scales) != times:
            continue
        if square.real * turn < 0:
            return True
        seen += 1
        if seen == 12:
            break
    return False
