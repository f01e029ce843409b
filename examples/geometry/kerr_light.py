"""Light around a Kerr black hole: rays in the equatorial plane, and the shadow on the sky of a distant observer.

The outline is the closed form of the spherical photon orbits (Bardeen, 1973); the picture is traced: every pixel is a
null geodesic followed into the past with E = 1, L = -alpha sin(i), Q = beta^2 + cos(i)^2 (alpha^2 - a^2).

    python examples/geometry/kerr_light.py
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from kexue.maths.geometry import catalogue
from kexue.maths.geometry.numbers import Geodesics, State, plot_orbit, plot_shadow

HERE = Path(__file__).parent


def equatorial(spin: float, impact: np.ndarray, far: float = 60.0):
    """Rays that come in along x with impact parameters y = b."""
    rays = Geodesics(catalogue.metric("kerr"), M=1.0, a=spin)
    start = rays.start_from_constants(
        {"t": 0.0, "r": np.hypot(far, impact), "theta": np.pi / 2, "phi": np.arctan2(impact, -far)},
        {"E": 1.0, "L": -impact, "theta": 0.0},
        "null",
        signs={"r": -1},
    )
    ends = [rays.horizon(), rays.crossing("r", 70.0, terminal=True, direction=1)]
    return rays.integrate(start, 400.0, events=ends)


def outline(spin: float, inclination: float, points: int = 400) -> np.ndarray:
    """(alpha, beta) of the photons that circle for ever: L(r), Q(r) of the spherical orbits."""
    edge = [2 * (1 + np.cos(2 / 3 * np.arccos(sign * spin))) for sign in (-1, 1)]
    r = np.linspace(edge[0], edge[1], points * 50)
    L = -(r**3 - 3 * r**2 + spin**2 * r + spin**2) / (spin * (r - 1))
    Q = -(r**3) * (r**3 - 6 * r**2 + 9 * r - 4 * spin**2) / (spin**2 * (r - 1) ** 2)
    alpha = -L / np.sin(inclination)
    square = Q + spin**2 * np.cos(inclination) ** 2 - L**2 / np.tan(inclination) ** 2
    alpha, beta = alpha[square >= 0], np.sqrt(square[square >= 0])
    return np.concatenate([np.stack([alpha, beta], -1), np.stack([alpha, -beta], -1)[::-1]])


def shadow(spin: float, inclination: float, pixels: int, far: float = 500.0):
    """Which rays of a square camera come from the hole."""
    rays = Geodesics(catalogue.metric("kerr"), M=1.0, a=spin)
    alpha, beta = np.linspace(-5, 8, pixels), np.linspace(-6.5, 6.5, pixels)
    A, B = np.meshgrid(alpha, beta)
    # E, L, Q are those of the photon that arrives; it is followed backwards in time
    L, Q = -A * np.sin(inclination), B**2 + np.cos(inclination) ** 2 * (A**2 - spin**2)
    theta = np.sqrt(np.maximum(Q + (spin * np.cos(inclination)) ** 2 - (L / np.tan(inclination)) ** 2, 0))
    start = rays.start_from_constants(
        {"t": 0.0, "r": far, "theta": inclination, "phi": 0.0},
        {"E": 1.0, "L": L, "theta": np.sign(B) * theta},
        "null",
        signs={"r": 1},
    )
    ends = [rays.horizon(margin=1e-2), rays.crossing("r", far + 1, terminal=True, direction=1)]
    path = rays.integrate(State(*start), -1200.0, events=ends, rtol=1e-8, atol=1e-9, keep=False, most_steps=2000)
    captured = np.zeros(A.size, bool)
    captured[path.events["horizon"].ray] = True
    return alpha, beta, captured.reshape(A.shape), path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spin", type=float, default=0.95)
    parser.add_argument("--pixels", type=int, default=96)
    options = parser.parse_args()
    spin, inclination = options.spin, np.radians(80)
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    path = equatorial(spin, np.linspace(-9, 9, 31))
    plot_orbit(path, left, horizon=1 + np.sqrt(1 - spin**2), spin=spin, limit=14, width=0.8)
    left.set_title(f"light from the left, a = {spin} M")
    bound = outline(spin, inclination)
    alpha, beta, captured, traced = shadow(spin, inclination, options.pixels)
    plot_shadow(alpha, beta, captured, right, bound)
    right.set_title("shadow at 80°: traced, and closed form")
    # area of the traced shadow against the closed form (shoelace)
    area = captured.sum() * (alpha[1] - alpha[0]) * (beta[1] - beta[0])
    x, y = bound.T
    exact = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    print(f"rays {traced.s[0].size}, steps {traced.evaluations // 12}, lost {int((traced.status < 0).sum())}")
    print(f"area of the shadow: traced {area:.3f}, closed form {exact:.3f} M^2")
    print(f"equatorial rays: {len(path.events['horizon'])} of {path.s[0].size} captured, "
          f"drift {({k: float(f'{v:.1e}') for k, v in path.drift().items()})}")  # fmt: skip
    figure.savefig(HERE / "kerr_light.png", dpi=90)


if __name__ == "__main__":
    main()
