"""Parallel transport and holonomy: a vector carried around a parallel of the sphere, and gyroscopes in orbit.

python examples/geometry/transport.py
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from kexue.maths.geometry import catalogue
from kexue.maths.geometry.numbers import holonomy, parallel_transport, plot_transport

HERE = Path(__file__).parent


def main() -> None:
    sphere = catalogue.metric("sphere")
    print("parallel at theta: angle of the holonomy, area inside")
    for degrees in (20, 45, 60, 90):
        theta = np.radians(degrees)
        H = holonomy(sphere, {"theta": str(theta), "phi": "2*pi*s"}, a=1.0)
        angle = np.arctan2(H[1, 0], H[0, 0]) % (2 * np.pi)
        print(f"{degrees:3d} deg: {angle:.12f}  {2 * np.pi * (1 - np.cos(theta)) % (2 * np.pi):.12f}")
    schwarzschild = catalogue.metric("schwarzschild")
    print("circular orbit at r: rotation of a gyroscope in one turn, 2 pi (1 - sqrt(1 - 3 M / r)), change of norms")
    for r in (6, 10, 100):
        # article 4026; W. de Sitter (1916)
        carried = parallel_transport(
            schwarzschild,
            {"t": f"s*sqrt({r}^3)", "r": str(r), "theta": "pi/2", "phi": "s"},
            span=(0.0, 2 * np.pi),
            M=1.0,
        )
        turn = np.max(np.angle(np.linalg.eigvals(carried.propagators[-1])))
        angle = min(turn, 2 * np.pi - turn)
        exact = 2 * np.pi * (1 - np.sqrt(1 - 3 / r))
        print(f"{r:4d}: {angle:.12f}  {exact:.12f}  {carried.norm_error():.1e}")
    figure = Figure(figsize=(5.5, 5.2), layout="constrained")
    axes = figure.add_subplot(projection="3d")
    around = parallel_transport(sphere, {"theta": "pi/4", "phi": "2*pi*s"}, a=1.0)
    plot_transport(around, [1.0, 0.0], axes)
    axes.view_init(38, -60)
    axes.set_title("carried around 45°: green at the start, black at the end,\nturned by the area 2π(1 − cos 45°)")
    figure.savefig(HERE / "transport.png", dpi=90)


if __name__ == "__main__":
    main()
