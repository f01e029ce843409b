"""Embedding diagrams: Flamm's paraboloid and a wormhole, drawn from the metrics.

python examples/geometry/embedding.py
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from kexue.maths.geometry import catalogue
from kexue.maths.geometry.numbers import plot_embedding

HERE = Path(__file__).parent


def main() -> None:
    figure = Figure(figsize=(9.5, 4.3), layout="constrained")
    left = figure.add_subplot(1, 2, 1, projection="3d")
    plot_embedding(catalogue.metric("schwarzschild"), 2.0, 14.0, left, M=1.0)
    left.set_title("Schwarzschild, t = 0: $z^2 = 8M(r - 2M)$")
    r, z = left.profile.T
    print(f"Flamm's paraboloid: largest error of z^2 = 8 M (r - 2 M): {np.max(np.abs(z**2 - 8 * (r - 2))):.1e}")
    right = figure.add_subplot(1, 2, 2, projection="3d")
    wormhole = catalogue.metric("ellis_wormhole")
    radial = wormhole.coordinates[1]
    throat = dict.fromkeys(wormhole.field.parameters, 1.0)
    plot_embedding(wormhole, 0.0, 5.0, right, radial=radial, mirrored=True, **throat)
    right.set_title("Ellis wormhole: $R = \\cosh z$")
    R, z = right.profile.T
    print(f"Ellis wormhole: largest error of R = cosh z: {np.max(np.abs(R - np.cosh(z))):.1e}")
    figure.savefig(HERE / "embedding.png", dpi=80)


if __name__ == "__main__":
    main()
