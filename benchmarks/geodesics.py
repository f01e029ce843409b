"""A tilted orbit around a Kerr black hole, 100,000 steps: drift of energy, momentum, Carter's constant and norm; time.

kexue's symplectic integrator (Gauss-Legendre, JAX) and its adaptive one, SciPy's DOP853 on the same equations written
by hand in plain Python, and EinsteinPy 0.5 (``--einsteinpy PYTHON``, an interpreter that has it; its integrator
gets fewer steps and its time is scaled up). Exit code 1 if the drift of kexue's exceeds 1e-11.

    python -m benchmarks.geodesics [--write] [--einsteinpy .../bin/python]
"""

import json
import math
import subprocess
import sys
import time

import numpy as np

from benchmarks import report

SPIN, R, THETA = 0.9, 8.0, 1.2
STEPS, STEP = 100_000, 0.5

PEER = """
import json, sys, time
import numpy as np
from einsteinpy.integrators import GeodesicIntegrator
from einsteinpy.geodesic.utils import _kerr
steps, order, delta = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
q, p = json.loads(sys.argv[4])
geod = GeodesicIntegrator(metric=_kerr, metric_params=(0.9,), q0=q, p0=p, time_like=True, steps=steps, delta=delta,
                          rtol=1e30, atol=1e30, order=order, omega=1.0, suppress_warnings=True)
start = time.perf_counter()
for _ in range(steps):
    geod.step()
seconds = time.perf_counter() - start
res = np.array([np.concatenate([np.ravel(g[0]), np.ravel(g[1])]) for g in geod.results], dtype=float)
print(json.dumps([seconds, res.tolist()[:: max(1, len(res) // 50)]]))
"""


def constants(y: np.ndarray) -> dict[str, np.ndarray]:
    """By hand, for states (t, r, theta, phi, p_t, p_r, p_theta, p_phi) of shape (..., 8)."""
    _, r, th, _, pt, pr, pth, L = np.moveaxis(y, -1, 0)
    s2, c2 = np.sin(th) ** 2, np.cos(th) ** 2
    sigma, delta = r**2 + SPIN**2 * c2, r**2 - 2 * r + SPIN**2
    radial = (r**2 + SPIN**2) * pt + SPIN * L
    norm = (delta * pr**2 + pth**2 - radial**2 / delta + (SPIN * pt * s2 + L) ** 2 / s2) / sigma
    return {"norm": norm, "E": -pt, "L": L, "Q": pth**2 + c2 * (SPIN**2 * (-norm - pt**2) + L**2 / s2)}


def drift(y: np.ndarray) -> list[str]:
    return [f"{np.max(np.abs(v - v[0])) / abs(v[0]):.1e}" for v in constants(y).values()]


def by_hand(_: float, y: np.ndarray) -> list[float]:
    """Hamilton's equations of Kerr in plain floats, as somebody would write them."""
    _, r, th, _, pt, pr, pth, L = y.tolist()
    a, s, c = SPIN, math.sin(th), math.cos(th)
    sigma, delta = r * r + a * a * c * c, r * r - 2 * r + a * a
    k, w = (r * r + a * a) * pt + a * L, a * pt * s + L / s
    h2 = delta * pr * pr + pth * pth - k * k / delta + w * w  # 2 H Sigma
    dr = (2 * r - 2) * pr * pr - 4 * r * pt * k / delta + (2 * r - 2) * k * k / delta**2
    dth = 2 * w * c * (a * pt - L / (s * s))
    norm = h2 / sigma
    return [
        (-(r * r + a * a) * k / delta + a * s * w) / sigma,
        delta * pr / sigma,
        pth / sigma,
        (-a * k / delta + w / s) / sigma,
        0.0,
        -(dr - 2 * r * norm) / (2 * sigma),
        -(dth + 2 * a * a * c * s * norm) / (2 * sigma),
        0.0,
    ]


def states(path) -> np.ndarray:
    return np.concatenate([path.x, path.p], -1)


def einsteinpy(python: str, start, steps: int, order: int) -> list[object]:
    q = [0.0, *map(float, start.x[1:])]
    data = json.dumps([q, [float(v) for v in start.p]])
    command = [python, "-W", "ignore", "-c", PEER, str(steps), str(order), str(STEP), data]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        return [f"EinsteinPy 0.5, order {order}", "failed: " + done.stderr.strip().splitlines()[-1][:80], *"----"]
    seconds, rows = json.loads(done.stdout.strip().splitlines()[-1])
    y = np.array(rows)[:, :8]
    scaled = seconds * STEPS / steps
    return [
        f"EinsteinPy 0.5, order {order}",
        f"{scaled:.0f} s (scaled from {steps:,} steps, over which the drift is)",
        *drift(y),
    ]


def main() -> int:
    parser = report.arguments(__doc__)
    parser.add_argument("--einsteinpy", metavar="PYTHON", help="interpreter of an environment with EinsteinPy")
    options = parser.parse_args()
    from scipy.integrate import solve_ivp

    from kexue.maths.geometry import catalogue
    from kexue.maths.geometry.numbers import Geodesics

    catalogue.metric("kerr").ricci()  # imports are not what is measured
    begin = time.perf_counter()
    rays = Geodesics(catalogue.metric("kerr"), M=1.0, a=SPIN)
    at = {"t": 0, "r": R, "theta": THETA, "phi": 0}
    start = rays.start(at, {"r": 0, "theta": 0.01, "phi": 0.05}, "timelike")
    made = time.perf_counter() - begin
    y0, length = np.concatenate([start.x, start.p]), STEPS * STEP
    np.testing.assert_allclose(by_hand(0, y0), rays.float_slope()(0, y0), rtol=1e-12, atol=1e-15)
    times = np.linspace(0, length, 1001)
    rows = []
    worst = 0.0
    runs = {
        "kexue gauss, order 8": {"method": "gauss", "steps": STEPS, "every": 100},
        "kexue gauss, order 6": {"method": "gauss", "steps": STEPS, "every": 100, "stages": 3},
    }
    for name, settings in runs.items():
        first = time.perf_counter()
        rays.integrate(start, length, **settings)
        again = time.perf_counter()
        path = rays.integrate(start, length, **settings)
        seconds = time.perf_counter() - again
        rows.append([name, f"{seconds:.2f} s (first call {again - first:.2f} s)", *drift(states(path))])
        worst = max([worst, *map(float, rows[0][2:])])
    begin = time.perf_counter()
    path = rays.integrate(start, length)
    rows.append(
        [
            f"kexue dop853, rtol 1e-11 ({len(path):,} steps)",
            f"{time.perf_counter() - begin:.2f} s",
            *drift(states(path)),
        ]
    )
    begin = time.perf_counter()
    out = solve_ivp(by_hand, (0, length), y0, "DOP853", rtol=1e-11, atol=1e-12, t_eval=times)
    rows.append(
        ["SciPy DOP853, equations by hand, rtol 1e-11", f"{time.perf_counter() - begin:.2f} s", *drift(out.y.T)]
    )
    begin = time.perf_counter()
    out = solve_ivp(
        by_hand, (0, length), y0, "DOP853", rtol=1.0, atol=1e30, first_step=STEP, max_step=STEP, t_eval=times
    )
    rows.append([f"SciPy DOP853, {STEPS:,} equal steps", f"{time.perf_counter() - begin:.2f} s", *drift(out.y.T)])
    if options.einsteinpy:
        rows += [einsteinpy(options.einsteinpy, start, 300, order) for order in (2, 4)]
    else:
        rows.append(["EinsteinPy", "not measured here (--einsteinpy)", *"----"])
    body = report.table(["integrator", "time", "norm", "E", "L", "Q"], rows)
    body += (
        f"\n\nKerr, a = {SPIN} M, r0 = {R:g} M, tilted; {STEPS:,} steps of {STEP} M of proper time "
        f"({abs(path['phi'][-1]) / 2 / math.pi:.0f} turns). Largest relative changes. The equations were derived and "
        f"compiled in {made * 1e3:.0f} ms; compilation by JAX is the difference between the first call and the next."
    )
    report.publish(
        "geodesics", "Geodesics around a Kerr black hole", "python -m benchmarks.geodesics", body, options.write
    )
    return int(worst > 1e-11)


if __name__ == "__main__":
    sys.exit(main())
