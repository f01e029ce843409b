"""Rotary positions in two dimensions on pictures of sizes that were never seen (kexue.fm 8397).

A picture is a grid of cells with bars of three cells: lying, standing, falling, rising. Each cell of a bar must tell
which kind it belongs to. Models train on 8 x 8 cells. With positions counted row by row a standing bar steps by the
width of the picture, so that another width turns it into another kind; with one rotation for rows and one for columns
it does not.

    python examples/parts/rotary_2d.py
"""

import argparse
from typing import Any

import toy
import keras
import numpy as np

from kexue.models import Transformer

STEPS = np.array([[0, 1], [1, 0], [1, 1], [-1, 1]])
EMPTY, FULL = 0, 1
TRAINED = 8


def picture(rng: np.random.Generator, height: int, width: int, bars: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells, and what each is to tell (-1 where nothing), both of shape (height, width)."""
    cells, asked = np.zeros((height, width), "int32"), np.full((height, width), -1)
    free = np.ones((height + 2, width + 2), bool)  # with a margin, so that bars do not touch
    while bars:
        kind = int(rng.integers(len(STEPS)))
        places = rng.integers((height, width)) + np.arange(3)[:, None] * STEPS[kind]
        if (places < 0).any() or (places >= (height, width)).any() or not free[tuple((places + 1).T)].all():
            continue
        cells[tuple(places.T)], asked[tuple(places.T)] = FULL, kind
        for y, x in places:
            free[y : y + 3, x : x + 3] = False
        bars -= 1
    return cells, asked


def pictures(rng: np.random.Generator, rows: int, height: int, width: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A batch, cells row by row; as many bars for their area as in the training pictures."""
    bars = 4 * height * width // TRAINED**2
    made = [picture(rng, height, width, bars) for _ in range(rows)]
    cells, asked = (np.stack(parts).reshape(rows, -1) for parts in zip(*made, strict=True))
    return {"token_ids": cells}, asked


def build(position: str, options: dict[str, Any]) -> Transformer:
    config = {
        "vocabulary_size": len(STEPS),
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 128,
        "num_segments": 0,
        "position": position,
        "position_options": options,
        "tie_embeddings": False,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    }
    return Transformer(config, head="lm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    sizes = ((8, 8), (8, 12), (12, 8), (12, 12), (16, 16))
    kinds = {
        "rotary, rows and columns": lambda size: ("rotary_nd", {"grid": list(size)}),
        "rotary, row by row": lambda size: ("rotary", {}),
        "sinusoidal, row by row": lambda size: ("sinusoidal", {}),
    }
    rows = []
    for name, kind in kinds.items():
        scores = []
        for seed in range(options.seeds):
            keras.utils.set_random_seed(seed)
            model = build(*kind((TRAINED, TRAINED)))
            toy.train(model, lambda rng: pictures(rng, 64, TRAINED, TRAINED), options.steps, seed=seed)
            scores.append([])
            for size in sizes:
                reader = build(*kind(size))
                reader.set_weights(model.get_weights())
                scores[-1].append(toy.accuracy(reader, lambda rng, size=size: pictures(rng, 16, *size), count=4))
        rows.append((name, *np.mean(scores, 0).tolist()))
    print(f"cells of bars told right, %, mean of {options.seeds} seeds; trained on {TRAINED} x {TRAINED}")
    toy.show(("positions", *(f"{h} x {w}" for h, w in sizes)), rows)


if __name__ == "__main__":
    main()
