"""Rotary positions in two dimensions on pictures of sizes that were never seen (kexue.fm 8397).

A picture is a grid of cells with bars of three cells: lying, standing, falling, rising. Each cell of a bar must tell
which kind it belongs to. Models train on pictures of 5 to 8 rows and columns. With positions counted row by row a
standing bar steps by the width of the picture, so that another width turns it into another kind; with one rotation for
rows and one for columns it does not.

    python examples/parts/rotary_2d.py
"""

import argparse
from typing import Any

import toy
import keras
import numpy as np

from kexue.models import Transformer

STEPS = np.array([[0, 1], [1, 0], [1, 1], [-1, 1]])
WIDEST = 64


def picture(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells, and what each is to tell (-1 where nothing), both of shape (height, width); a bar for every 16 cells."""
    cells, asked = np.zeros((height, width), "int32"), np.full((height, width), -1)
    free = np.ones((height + 2, width + 2), bool)  # with a margin, so that bars do not touch
    for _ in range(height * width // 16 * 20):
        kind = int(rng.integers(len(STEPS)))
        places = rng.integers((height, width)) + np.arange(3)[:, None] * STEPS[kind]
        if (places < 0).any() or (places >= (height, width)).any() or not free[tuple((places + 1).T)].all():
            continue
        cells[tuple(places.T)], asked[tuple(places.T)] = 1, kind
        for y, x in places:
            free[y : y + 3, x : x + 3] = False
        if (asked >= 0).sum() >= 3 * (height * width // 16):
            break
    return cells, asked


def pictures(
    rng: np.random.Generator, rows: int, sizes: Any, length: int, plane: bool
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A padded batch of pictures, cells row by row.

    Args:
        rng: source of chance.
        rows: number of pictures.
        sizes: called for the (height, width) of each.
        length: cells a row is padded to.
        plane: positions are places on a plane ``WIDEST`` cells wide; otherwise the cells are counted.
    """
    ids, targets = np.zeros((rows, length), "int32"), np.full((rows, length), -1)
    places, real = np.zeros((rows, length), "int32"), np.zeros((rows, length), bool)
    for i in range(rows):
        height, width = sizes(rng)
        cells, asked = picture(rng, height, width)
        n = cells.size
        ids[i, :n], targets[i, :n], real[i, :n] = cells.ravel(), asked.ravel(), True
        step = WIDEST if plane else width
        places[i, :n] = (np.arange(height)[:, None] * step + np.arange(width)).ravel()
    return {"token_ids": ids, "padding_mask": real, "position_ids": places}, targets


def trained(rng: np.random.Generator) -> tuple[int, int]:
    """The size of a training picture."""
    return tuple(rng.integers(5, 9, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    kinds = {
        "rotary, rows and columns": ("rotary_nd", {"grid": [WIDEST, WIDEST], "base": 10.0}),
        "rotary, row by row": ("rotary", {"base": 10.0}),
        "sinusoidal, row by row": ("sinusoidal", {}),
    }
    unseen = ((8, 8), (8, 12), (12, 8), (12, 12), (16, 16))
    rows = []
    for name, (position, settings) in kinds.items():
        plane, scores = position == "rotary_nd", []
        for seed in range(options.seeds):
            keras.utils.set_random_seed(seed)
            config = {
                "vocabulary_size": len(STEPS),
                "hidden_size": 64,
                "num_layers": 2,
                "num_heads": 4,
                "intermediate_size": 128,
                "num_segments": 0,
                "position": position,
                "position_options": settings,
                "tie_embeddings": False,
                "dropout": 0.0,
                "attention_dropout": 0.0,
            }
            model = Transformer(config, head="lm")
            toy.train(model, lambda rng, p=plane: pictures(rng, 32, trained, 64, p), options.steps, seed=seed)
            scores.append(
                [
                    toy.accuracy(model, lambda rng, s=s, p=plane: pictures(rng, 16, lambda _: s, s[0] * s[1], p))
                    for s in unseen
                ]
            )
        rows.append((name, *np.mean(scores, 0).tolist()))
    print(f"cells of bars told right, %, mean of {options.seeds} seeds; trained on 5 x 5 to 8 x 8")
    toy.show(("positions", *(f"{h} x {w}" for h, w in unseen)), rows)


if __name__ == "__main__":
    main()
