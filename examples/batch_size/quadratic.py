"""Batch size and learning rate on quadratic losses (kexue.fm 10542): what the formulas say, against simulation.

    python examples/batch_size/quadratic.py            # all, half a minute, tables on stdout, pictures beside this file
    python examples/batch_size/quadratic.py surge      # one experiment

Every simulated gradient is an average of B gradients of single samples, or has the law of one.
"""

import argparse
from pathlib import Path

import numpy as np

from kexue.training.batch_size import (
    fit_steps_samples,
    noise_from_samples,
    noise_from_two_batches,
    optimal_rate,
    sign_mean,
    surge,
)
from kexue.training.batch_size.noise import agreement, kappa2_of_agreement, two_batches
from kexue.training.batch_size.sign import interaction

HERE = Path(__file__).parent
SIZES = (1, 4, 16, 64, 256, 1024)


def problem(seed: int, n: int = 24):
    """A gradient, a Hessian with spectrum 0.05 ... 5 and standard deviations of a sample's gradient."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return rng.normal(size=n) * 0.3, (q * np.geomspace(0.05, 5, n)) @ q.T, rng.uniform(0.5, 3, n)


def simulated_rate(g, h, sigma, batch, method, draws, rng):
    """The rate with the least mean loss after one step over so many updates, of a grid of 0.5 % that knows no formula.

    The loss is quadratic in the rate, so its mean over the updates needs only the means of its two coefficients.
    """
    noise = rng.normal(size=(draws, len(g)), scale=sigma / np.sqrt(batch))
    update = g + noise if method == "sgd" else np.sign(g + noise)
    along, curvature = np.mean(update @ g), np.mean(np.sum((update @ h) * update, axis=1))
    grid = np.geomspace(1e-4, 1e2, int(np.log(1e6) / 0.005))
    return grid[int(np.argmin(-grid * along + grid**2 / 2 * curvature))]


def optimum(save):
    """The best rate of SGD and sign-SGD, against the formulas."""
    rng = np.random.default_rng(0)
    print("\nbest rate, simulated / formula (100,000 updates a point)")
    print("| problem | rule | " + " | ".join(f"B={b}" for b in SIZES) + " |")
    worst = 0.0
    curves = {}
    for seed in range(3):
        g, h, sigma = problem(seed)
        for method in ("sgd", "sign"):
            found = [simulated_rate(g, h, sigma, b, method, 100_000, rng) for b in SIZES]
            formula = [optimal_rate(g, h, sigma**2, b, method=method) for b in SIZES]
            ratio = np.array(found) / formula
            worst = max(worst, float(np.abs(ratio - 1).max()))
            curves[method] = found
            print(f"| {seed} | {method} | " + " | ".join(f"{r:.3f}" for r in ratio) + " |")
    print(f"largest deviation {worst:.1%}")
    off = [optimal_rate(g, h, sigma**2, b, method="sign_algebraic") / optimal_rate(g, h, sigma**2, b, method="sign")
           for b in SIZES]  # fmt: skip
    print("algebraic stand-in / erf, last problem: " + ", ".join(f"{x:.3f}" for x in off))
    if save:
        figure, axes = canvas(2)
        batches = np.geomspace(1, 1024, 100)
        for ax, method in zip(axes, ("sgd", "sign"), strict=True):
            ax.loglog(batches, [optimal_rate(g, h, sigma**2, b, method=method) for b in batches], label="formula")
            ax.plot(SIZES, curves[method], "o", label="simulated")
            ax.set(xlabel="batch size", ylabel="best learning rate", title={"sgd": "SGD", "sign": "sign-SGD"}[method])
            ax.legend()
        write(figure, "optimum.png")


def surge_curve(save):
    """Sign-SGD where all coordinates are alike: the law of the surge, for beta_noise of 0.5 and of 2."""
    rng = np.random.default_rng(1)
    n, kappa = 50, 10.0
    sizes = np.unique(np.round(np.geomspace(1, 2000, 12)))
    print(f"\nsurge, kappa^2 = {kappa**2:g}: simulated / erf formula, and law / erf formula")
    rows = {}
    for beta_noise in (0.5, 2.0):
        rest = 1 / beta_noise**2 / (n - 1)
        h = np.full((n, n), rest) + (1 - rest) * np.eye(n)
        g, sigma = np.ones(n), np.full(n, kappa)
        assert np.isclose(interaction(g, h), beta_noise)
        law = surge(beta_noise, kappa**2, g.sum() / (2 * np.sqrt(n * (h.sum() - n))))
        exact = np.array([optimal_rate(g, h, sigma**2, b, method="sign") for b in sizes])
        found = np.array([simulated_rate(g, h, sigma, b, "sign", 40_000, rng) for b in sizes])
        fine = np.geomspace(1, 1e4, 4000)
        curve = np.array([optimal_rate(g, h, sigma**2, b, method="sign") for b in fine])
        rows[beta_noise] = (law, found, fine, curve)
        top = f"{fine[curve.argmax()]:.1f}" if curve.max() > curve[-1] * 1.0001 else None
        print(f"beta_noise {beta_noise}: simulated / erf {np.abs(found / exact - 1).max():.1%} at most off; "
              f"law / erf {np.abs(law.rate(sizes) / exact - 1).max():.1%}; falls at the end: "
              f"{bool(found[-1] < found.max() * 0.97)}; B_2 {law.b_2:.4f}, peak of the law {law.b_noise}, "
              f"of erf {top}")  # fmt: skip
    if save:
        figure, axes = canvas(2)
        for ax, (beta_noise, (law, found, fine, curve)) in zip(axes, rows.items(), strict=True):
            ax.semilogx(fine, law.rate(fine) / law.eta_max, label="law (algebraic)")
            ax.semilogx(fine, curve / law.eta_max, "--", label="erf")
            ax.plot(sizes, found / law.eta_max, "o", label="simulated")
            if law.b_noise:
                ax.axvline(law.b_noise, color="0.6", linestyle=":", label=f"B_noise {law.b_noise:.1f}")
            ax.set(xlabel="batch size", ylabel="best rate / η_max", title=f"β_noise = {beta_noise:g}")
            ax.legend()
        write(figure, "surge.png")


def hyperbola(save):
    """SGD on quadratics until the loss has fallen by a factor: steps against samples."""
    rng = np.random.default_rng(2)
    sizes = np.array([4, 8, 16, 32, 64, 128, 256, 512])
    n, true = 200, 50.0

    def run(batch, eigenvalues, additive, share, factor):
        theta = np.ones(n) / np.sqrt(eigenvalues) if additive else np.ones(n)
        start = target = 0.5 * float(eigenvalues @ theta**2)
        target *= factor
        steps, scales, loss = 0, [], start
        while loss > target:
            g = eigenvalues * theta
            variance = np.full(n, 2.0) if additive else true * g**2
            noise_scale = float(variance @ eigenvalues) / float(eigenvalues @ g**2)
            rate = share * float(g @ g) / (float(eigenvalues @ g**2) * (1 + noise_scale / batch))
            theta = theta - rate * (g + rng.normal(size=n) * np.sqrt(variance / batch))
            scales.append(noise_scale)
            steps, loss = steps + 1, 0.5 * float(eigenvalues @ theta**2)
        return steps, float(np.mean(scales))

    fits = {}
    cases = {
        "constant noise scale": (np.ones(n), False, 0.03, 0.05),
        "constant noise, spectrum 0.01 to 1": (np.geomspace(0.01, 1, n), True, 1.0, 0.05),
    }
    for name, (eigenvalues, additive, share, factor) in cases.items():
        results = [[run(b, eigenvalues, additive, share, factor) for _ in range(5)] for b in sizes]
        steps = np.array([np.mean([s for s, _ in row]) for row in results])
        fit = fit_steps_samples([(s, s * b) for s, b in zip(steps, sizes, strict=True)])
        scales = [scale for row in results for _, scale in row]
        fits[name] = (steps, fit)
        low, high = fit.b_noise_interval
        print(f"\n{name}: S_min {fit.s_min:.1f}, E_min {fit.e_min:.0f}, B_noise {fit.b_noise:.1f} "
              f"(95 %: {low:.1f} to {high:.1f}); tr(Sigma H) / g.H g along the runs {min(scales):.1f} to "
              f"{max(scales):.1f}")  # fmt: skip
        print("B      " + " ".join(f"{b:>7}" for b in sizes))
        print("steps  " + " ".join(f"{s:7.1f}" for s in steps))
        print("fit    " + " ".join(f"{fit.steps(b):7.1f}" for b in sizes))
    if save:
        figure, axes = canvas(2)
        for ax, (name, (steps, fit)) in zip(axes, fits.items(), strict=True):
            fine = np.geomspace(sizes[0], sizes[-1], 100)
            ax.loglog([fit.steps(b) for b in fine], [fit.samples(b) for b in fine], label="hyperbola")
            ax.plot(steps, steps * sizes, "o", label="SGD")
            ax.axvline(fit.s_min, color="0.7", linestyle=":", label="S_min, E_min")
            ax.axhline(fit.e_min, color="0.7", linestyle=":")
            ax.set_xticks([20, 50, 100, 200, 500, 1000], [20, 50, 100, 200, 500, 1000], minor=False)
            ax.set_xticks([], minor=True)
            ax.set_xlim(0.9 * fit.s_min, 1.2 * steps.max())
            ax.set(xlabel="steps", ylabel="samples", title=f"{name}: B_noise {fit.b_noise:.0f}")
            ax.legend()
        write(figure, "steps_samples.png")


def estimator(save):
    """Is the estimate without bias, does the interval hold the truth, and what is kappa^2?"""
    rng = np.random.default_rng(3)
    n, b, parts, trials = 100, 8, 4, 400
    g = rng.normal(size=n) * 0.05
    sigma = rng.uniform(0.5, 1.5, n)
    norm2, trace = float(g @ g), float(sigma @ sigma)
    truth = trace / norm2
    single, covered, ratios, averages = [], 0, [], []
    for _ in range(trials):
        micro = g + rng.normal(size=(100, parts, n)) * sigma / np.sqrt(b)
        small, large = (micro**2).sum(-1).mean(1), (micro.mean(1) ** 2).sum(-1)
        estimates = two_batches(small, large, b, b * parts)
        single.append([estimates[0].mean(), estimates[1].mean()])
        ratios.append(float(np.mean(estimates[1] / estimates[0])))
        found = noise_from_two_batches(small, large, b, b * parts)
        averages.append(found.noise_scale)
        covered += found.interval[0] <= truth <= found.interval[1]
    mean, error = np.mean(single, axis=0), np.std(single, axis=0) / np.sqrt(trials)
    print(f"\nestimator, {trials} runs of 100 steps, 4 x 8 samples each:")
    print(f"|g|^2    {mean[0]:.5f} +- {error[0]:.5f}, true {norm2:.5f}")
    print(f"tr Sigma {mean[1]:.3f} +- {error[1]:.3f}, true {trace:.3f}")
    print(f"B_simple {truth:.1f}: ratio of averages, median {np.median(averages):.1f}; average of ratios, "
          f"median {np.median(ratios):.1f}; 95 % intervals hold the truth in {covered / trials:.1%}")  # fmt: skip
    print("\nkappa^2 from signs of pairs of batches of 8, and beta(B) of the law against erf")
    for name, spread in (("all coordinates alike", 0.0), ("|g_i| log-normal, width 1", 1.0), ("width 2", 2.0)):
        size = np.exp(rng.normal(size=1_000_000) * spread)
        g = 0.1 * size / np.sqrt(np.mean(size**2))
        first, second = (g + rng.normal(size=len(g)) / np.sqrt(8) for _ in range(2))
        signs = kappa2_of_agreement(agreement(first, second), 8)
        line = f"{name}: B_simple {1 / np.mean(g**2):.0f}, signs {signs:.0f}; "
        for batch in (8, 64, 512):
            true = float(np.sqrt(np.mean(sign_mean(g, 1.0, batch) ** 2)))
            line += f"B={batch}: erf {true:.3f}, from signs {surge(1, signs).beta(batch):.3f}, "
            line += f"from B_simple {surge(1, 1 / np.mean(g**2)).beta(batch):.3f}; "
        print(line)
    if save:
        figure, axes = canvas(2)
        axes[0].hist(averages, bins=30, range=(0, 3 * truth))
        axes[0].axvline(truth, color="C1", label="true")
        axes[0].set(xlabel="estimate of B_simple", ylabel="runs", title="ratio of averages over 100 steps")
        axes[0].legend()
        x = np.linspace(0, 4, 400)
        axes[1].plot(x, sign_mean(x * np.sqrt(2), 1, 1), label="erf(x)")
        axes[1].plot(x, sign_mean(x * np.sqrt(2), 1, 1, method="algebraic"), label="x / √(x² + π/4)")
        axes[1].set(xlabel="x", title="mean sign")
        axes[1].legend()
        write(figure, "estimator.png")
    g = 0.1 + rng.normal(size=(2000, 50))
    print(f"from 2,000 single samples, B_simple 100: {noise_from_samples(g)}")


def canvas(columns):
    """A figure with so many axes in a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * columns, 3.6), layout="constrained")
    return figure, figure.subplots(1, columns)


def write(figure, name):
    """Save a picture beside this file."""
    figure.savefig(HERE / name, dpi=80)
    print(f"wrote {name}")


EXPERIMENTS = {"optimum": optimum, "surge": surge_curve, "steps": hyperbola, "estimator": estimator}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", help=f"of {', '.join(EXPERIMENTS)}; all when left out")
    parser.add_argument("--no-pictures", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.which or EXPERIMENTS:
        EXPERIMENTS[name](not arguments.no_pictures)
