"""A small network: does the rate that the noise foretells agree with the best of a grid at every batch size?

python examples/batch_size/network.py --optimizer sgd      # logs and grid in runs/batch_size, table on stdout
kexue advise-lr runs/batch_size/noise-sgd.csv --grid runs/batch_size/base-sgd.csv -b 512 --optimizer sgd
"""

import argparse
import csv
from pathlib import Path

import kexue  # noqa: F401  before keras, to choose its backend
import keras
import numpy as np

from kexue.training.batch_size import NoiseLog, NoiseScale, best_rate, fit_rates
from kexue.training.batch_size.advice import advise

SIZES = (8, 32, 128, 512)
RATES = {"sgd": np.geomspace(0.01, 2.56, 17), "adam": np.geomspace(2e-4, 5.12e-2, 17)}


def teacher(rng, rows):
    """Noisy values of a random network."""
    x = rng.normal(size=(rows, 16)).astype("float32")
    fixed = np.random.default_rng(7)
    hidden = np.tanh(x @ fixed.normal(size=(16, 24)) / 4)
    return x, (hidden @ fixed.normal(size=(24, 1)) / 2 + rng.normal(size=(rows, 1))).astype("float32")


def student(optimizer):
    """The network that learns, from the same weights every time."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(32, "tanh"), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def main():
    """The noise along a run, the best rate of a grid at each batch size, and what noise and smallest batch foretell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path("runs/batch_size"))
    arguments = parser.parse_args()
    make = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[arguments.optimizer]
    rng = np.random.default_rng(0)
    test_x, test_y = teacher(rng, 20_000)

    weights = student("sgd").get_weights()
    path = arguments.output / f"noise-{arguments.optimizer}.csv"
    path.unlink(missing_ok=True)
    watched = student(make(RATES[arguments.optimizer][4], gradient_accumulation_steps=4))
    watched.fit(*teacher(rng, arguments.steps * 64), batch_size=16, verbose=0, callbacks=[NoiseScale(path)])

    grid = {}
    for size in SIZES:
        model = student(make(0.1))
        model.fit(test_x[:size], test_y[:size], batch_size=size, verbose=0)  # compile
        data = [teacher(np.random.default_rng([size, k]), arguments.steps * size) for k in range(arguments.repeats)]
        losses = []
        for rate in RATES[arguments.optimizer]:
            found = []
            for x, y in data:
                model.set_weights(weights)
                for variable in model.optimizer.variables:
                    variable.assign(np.zeros(variable.shape, variable.dtype))
                model.optimizer.learning_rate = float(rate)
                model.fit(x, y, batch_size=size, verbose=0, shuffle=False)
                prediction = model.predict(test_x, batch_size=5000, verbose=0)
                with np.errstate(over="ignore", invalid="ignore"):  # runs that diverge
                    found.append(float(np.mean((prediction - test_y) ** 2)))
            losses.append(float(np.mean(found)))
        grid[size] = [(float(r), loss) for r, loss in zip(RATES[arguments.optimizer], losses, strict=True)]
        print(size, " ".join(f"{loss:.4f}" for loss in losses), flush=True)

    for name, sizes in (("grid", SIZES), ("base", SIZES[:1])):
        with open(arguments.output / f"{name}-{arguments.optimizer}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["batch_size", "learning_rate", "loss"])
            writer.writerows([size, *pair] for size in sizes for pair in grid[size])

    log = NoiseLog.read(path)
    print(log.estimate())
    optima = [(size, best_rate(grid[size])[0]) for size in SIZES]
    print(
        "law fitted to all:", fit_rates(optima, kappa2=log.estimate().kappa2 if arguments.optimizer == "adam" else None)
    )
    for size, best in optima:
        told = advise([log], {SIZES[0]: grid[SIZES[0]]}, target_batch=size, optimizer=arguments.optimizer)
        rule = optima[0][1] * (size / SIZES[0]) ** (1 if arguments.optimizer == "sgd" else 0.5)
        print(f"B={size}: best of the grid {best:.4g}, foretold {told.learning_rate:.4g}, rule of thumb {rule:.4g}")


if __name__ == "__main__":
    main()
