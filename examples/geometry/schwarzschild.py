"""From ds^2 to orbits: the session of docs/geometry_schwarzschild.md as a script, with its picture.

python examples/geometry/schwarzschild.py
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.special import ellipk

from kexue.maths.geometry import Metric
from kexue.maths.geometry.numbers import Geodesics, plot_orbit

HERE = Path(__file__).parent


def main() -> None:
    g = Metric.from_line_element("-(1-2*M/r)*dt^2 + dr^2/(1-2*M/r) + r^2*(dtheta^2 + sin(theta)^2*dphi^2)")
    print(g, g.riemann("dddd"), sep="\n")
    print("Ricci tensor zero:", g.ricci().is_zero, "  Kretschmann:", g.kretschmann())
    rays = Geodesics(g, M=1.0)
    p, e = 12.0, 0.5
    E, L = np.sqrt(((p - 2) ** 2 - 4 * e**2) / (p * (p - 3 - e**2))), p / np.sqrt(p - 3 - e**2)
    at = {"t": 0, "r": p / (1 - e), "theta": np.pi / 2, "phi": 0}
    start = rays.start_from_constants(at, {"E": E, "L": L, "theta": 0}, "timelike", signs={"r": -1})
    pericentre = rays.turning_point("r", direction=1)
    orbit = rays.integrate(start, 6000.0, events=[pericentre], rtol=1e-13, atol=1e-13)
    advance = np.diff(orbit.events["turning r"].x[:, 3]) - 2 * np.pi
    exact = 4 * np.sqrt(p / (p - 6 + 2 * e)) * ellipk(4 * e / (p - 6 + 2 * e)) - 2 * np.pi
    print(f"advance of the pericentre: {advance[0]:.12f}, elliptic integral {exact:.12f}, 6 pi/p {6 * np.pi / p:.6f}")
    print("largest relative change:", {name: f"{value:.1e}" for name, value in orbit.drift().items()})
    b = np.array([3.0, 4.0, 5.0, 5.19, 5.21, 5.3, 5.7, 6.5, 8.0, 10.0])
    far = np.hypot(40.0, b)
    at = {"t": 0.0, "r": far, "theta": np.pi / 2, "phi": np.pi - np.arctan2(b, 40.0)}
    light = rays.start_from_constants(at, {"E": 1.0, "L": -b, "theta": 0.0}, "null", signs={"r": -1})
    ends = [rays.horizon(), rays.crossing("r", 60.0, terminal=True, direction=1)]
    bundle = rays.integrate(light, 300.0, events=ends)
    print(f"light: impact parameters captured {b[np.sort(bundle.events['horizon'].ray)]}, critical {27**0.5:.4f}")
    figure = Figure(figsize=(9.6, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_orbit(orbit, left, horizon=2.0, limit=26)
    left.set_title("p = 12M, e = 1/2: 2.65 rad further each turn")
    plot_orbit(bundle, right, horizon=2.0, limit=13)
    right.set_title("light, b = 3M ... 10M")
    figure.savefig(HERE / "schwarzschild.png", dpi=90)


if __name__ == "__main__":
    main()
