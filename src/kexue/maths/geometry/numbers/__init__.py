"""Numbers from exact geometry: functions of points, curvature of programs, geodesics, transport, pictures.

::

    from kexue.maths.geometry import catalogue
    from kexue.maths.geometry.numbers import Geodesics, lambdify, numeric_curvature, parallel_transport

    kerr = catalogue.metric("kerr")
    lambdify(kerr.kretschmann())(0.0, [3.0, 4.0], 1.2, 0.0, M=1.0, a=0.9)
    rays = Geodesics(kerr, M=1.0, a=0.9)

NumPy and SciPy suffice; JAX and PyTorch are imported where they are asked for, matplotlib by the plots.
"""

from kexue._lazy import names_from

_HOME = {
    "Event": "events",
    "GeodesicPath": "path",
    "Geodesics": "geodesics",
    "Hits": "events",
    "NumericCurvature": "autodiff",
    "NumericFunction": "compiled",
    "State": "initial",
    "Transport": "transport",
    "cartesian": "plots",
    "geodesic_deviation": "transport",
    "holonomy": "transport",
    "is_killing_tensor": "separation",
    "killing_tensor": "separation",
    "lambdify": "compiled",
    "numeric_curvature": "autodiff",
    "parallel_transport": "transport",
    "plot_embedding": "plots",
    "plot_orbit": "plots",
    "plot_orbit_3d": "plots",
    "plot_shadow": "plots",
    "plot_transport": "plots",
}

__all__ = [
    "Event",
    "GeodesicPath",
    "Geodesics",
    "Hits",
    "NumericCurvature",
    "NumericFunction",
    "State",
    "Transport",
    "cartesian",
    "geodesic_deviation",
    "holonomy",
    "is_killing_tensor",
    "killing_tensor",
    "lambdify",
    "numeric_curvature",
    "parallel_transport",
    "plot_embedding",
    "plot_orbit",
    "plot_orbit_3d",
    "plot_shadow",
    "plot_transport",
]


__getattr__ = names_from(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted(__all__)
