"""Curves: expressions in a parameter, functions, geodesics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kexue.errors import DataError
from kexue.maths.geometry.numbers.initial import components
from kexue.maths.geometry.numbers.path import GeodesicPath

__all__ = ["Curve", "as_curve", "differences"]

_STENCIL = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}  # central differences of order 6


class Curve:
    """x(s) and dx/ds, both vectorised: s of shape S gives S + (n,).

    Attributes:
        span: first and last parameter.
    """

    def __init__(self, x: Callable[[Any], Any], velocity: Callable[[Any], Any], span: tuple[float, float]) -> None:
        self.x = x
        self.velocity = velocity
        self.span = span


def differences(f: Callable[[Any], Any], s: Any, step: float) -> Any:
    """df/ds by central differences of order 6."""
    return sum(c * (f(s + k * step) - f(s - k * step)) for k, c in _STENCIL.items()) / step


def as_curve(
    curve: Any, coordinates: Sequence[str], span: tuple[float, float] | None, parameters: Mapping[str, Any]
) -> Curve:
    """A curve from what the user has.

    Args:
        curve: a :class:`Curve`; a single geodesic; a mapping of coordinates to expressions in ``s`` (derivatives are
            exact), ``{"theta": "pi/3", "phi": "2*pi*s"}``, the others being zero; or a vectorised function of s (its
            derivative by differences of order 6).
        coordinates: of the metric.
        span: of the parameter, (0, 1) by default; of a geodesic all of it.
        parameters: values of constants in the expressions.

    Raises:
        DataError: something else, or shapes that do not fit.
    """
    if isinstance(curve, Curve):
        return curve
    if isinstance(curve, GeodesicPath):
        whole = (float(curve.s[0]), float(curve.s[-1]))
        return Curve(
            lambda s: curve(np.ravel(s))[0].reshape(*np.shape(s), -1),
            lambda s: curve.geodesics.velocity(*curve(np.ravel(s))).reshape(*np.shape(s), -1),
            span or whole,
        )
    span = span or (0.0, 1.0)
    if isinstance(curve, Mapping):
        return _from_expressions(curve, coordinates, span, parameters)
    if not callable(curve):
        raise DataError(f"A curve was expected: expressions in s, a function of s, or a geodesic; received {curve!r}.")
    shape = np.shape(curve(np.array([span[0], span[1]])))
    if shape != (2, len(coordinates)):
        raise DataError(f"The curve must give shape (2, {len(coordinates)}) for two parameters, received {shape}.")
    step = 1e-3 * abs(span[1] - span[0])
    return Curve(curve, lambda s: differences(curve, s, step), span)


def _from_expressions(
    curve: Mapping[str, Any], coordinates: Sequence[str], span: tuple[float, float], parameters: Mapping[str, Any]
) -> Curve:
    from kexue.maths.geometry.field import Field
    from kexue.maths.geometry.numbers.compiled import lambdify

    field = Field("s")
    x = field.convert_all(components(curve, coordinates, "curve", 0))
    call = lambdify({"x": x, "v": [u.diff("s") for u in x]})
    values = {name: parameters[name] for name in call.parameters if name in parameters}
    return Curve(lambda s: np.stack(call(s, **values)["x"], -1), lambda s: np.stack(call(s, **values)["v"], -1), span)
