"""Losses of a pretraining run over its updates, those of training and of held-out rows.

python examples/zh_mini/curves.py LOG.csv [PICTURE.png]
"""

import csv
import sys

import matplotlib.pyplot as plt

OBJECTIVES = {"mlm": "masked", "clm": "causal", "unilm": "prefix"}


def main(path: str, picture: str = "curves.png") -> None:
    """Draw."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
    for number, (key, name) in enumerate(OBJECTIVES.items()):
        for prefix, style, what in (("", "-", ""), ("val_", "o", ", held out")):
            points = [
                (int(row["step"]), float(row[f"{prefix}{key}_loss"])) for row in rows if row[f"{prefix}{key}_loss"]
            ]
            axes.plot(*zip(*points, strict=True), style, color=f"C{number}", markersize=5, label=f"{name}{what}")
    axes.set(xlabel="updates; lines are the training's, means since the last validation", ylabel="loss, nats a token")
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=3)
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:])
