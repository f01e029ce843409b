"""Error of Performer's random features against their number, for vectors of several sizes.

256 random queries and keys of 64 dimensions with normal entries of standard deviation s; scores are divided by
sqrt(64). Root mean square relative error of the exponential kernel, mean total variation of the rows of attention, and
relative error of its output on random values; 8 draws.
"""

import numpy as np

from benchmarks.report import arguments, publish, table


def main() -> None:
    options = arguments(__doc__).parse_args()
    from kexue.nn.attention.performer import performer_error

    rng = np.random.default_rng(0)
    normal = rng.normal(size=(3, 256, 64))
    rows = []
    for size in (0.25, 0.5, 1.0):
        q, k, v = normal[0] * size, normal[1] * size, normal[2]
        report = performer_error(q, k, v, (16, 64, 256, 1024))
        for iid, orthogonal in zip(report[:4], report[4:], strict=True):
            errors = [
                f"{getattr(iid, name):.3f} / {getattr(orthogonal, name):.3f}"
                for name in ("kernel", "probabilities", "output")
            ]
            rows.append((size, iid.features, *errors))
    body = "Independent / orthogonal features.\n\n" + table(("s", "features", "kernel", "rows", "output"), rows)
    publish("performer", "Performer's error", "python -m benchmarks.performer", body, options.write)


if __name__ == "__main__":
    main()
