"""How many random features a Performer needs (kexue.fm 7921, 8338).

Softmax attention of random queries and keys against its estimate from m features, directions drawn independently or
orthogonal: relative error of the kernel, total variation of the rows, relative error of the output.

    python examples/parts/performer_features.py
"""

import argparse

import toy
import numpy as np

from kexue.nn.attention.performer import performer_error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="of queries and keys")
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--spread", type=float, default=0.7, help="standard deviation of their entries")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, options.length, options.size))
    report = performer_error(options.spread * q, options.spread * k, v, features=(16, 64, 256, 1024, 4096))
    kinds = {False: "independent", True: "orthogonal"}
    rows = [
        (kinds[e.orthogonal], e.features, f"{e.kernel:.3f}", f"{e.probabilities:.3f}", f"{e.output:.3f}")
        for e in report
    ]
    toy.show(("directions", "features", "kernel", "rows", "output"), rows)
    for kind, name in kinds.items():
        mine = [e for e in report if e.orthogonal == kind]
        slope = np.polyfit(np.log([e.features for e in mine]), np.log([e.kernel for e in mine]), 1)[0]
        print(f"{name}: kernel error falls like features^{slope:.2f}")


if __name__ == "__main__":
    main()
