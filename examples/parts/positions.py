"""Position encodings side by side: how they extrapolate, and how much a trained model depends on order.

Small decoders learn to name the last marker that was seen among noise, on texts of 32 tokens, and are evaluated on up
to 256. Tables end at the training length; encodings that see distances, or can be unrolled further, go on.

    python examples/parts/positions.py [FOLDER]     # about 10 s an encoding; pictures go into FOLDER
"""

import sys
from pathlib import Path
from typing import Any

import kexue  # noqa: F401  # isort: skip  # before Keras: it chooses the backend
import keras
import numpy as np
from keras import ops

from kexue.models import Transformer, TransformerConfig
from kexue.models.weights import named_weights
from kexue.nn.positions import analysis, analysis_plots

LENGTHS = (32, 64, 128, 256)
ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("none", {}),
    "learned": ("learned", {}),
    "hierarchical": ("hierarchical", {}),
    "multiplicative": ("multiplicative", {}),
    "sinusoidal": ("sinusoidal", {"amplitude": 0.1}),
    "recursive (GRU)": ("recursive", {"max_length": 256}),
    "FLOATER": ("floater", {"max_length": 256}),
    "complex order": ("complex", {}),
    "convolution": ("conv", {"size": 5}),
    "TUPE": ("tupe", {}),
    "Shaw": ("shaw", {"table": "learned"}),
    "T5": ("t5", {}),
    "DeBERTa": ("deberta", {}),
    "rotary": ("rotary", {}),
    "rotary, half": ("rotary", {"fraction": 0.5}),
    "ALiBi": ("alibi", {}),
}


def texts(count: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids ``(count, length)``, one in ten a marker (0 to 3), and at each place the last marker until there."""
    rng = np.random.default_rng(seed)
    marker = rng.random((count, length)) < 0.1
    marker[:, 0] = True
    ids = np.where(marker, rng.integers(0, 4, marker.shape), rng.integers(4, 12, marker.shape)).astype("int32")
    last = np.maximum.accumulate(np.where(marker, np.arange(length), 0), axis=1)
    return ids, np.take_along_axis(ids, last, axis=1)


def train(position: str, options: dict[str, Any], examples: int) -> Transformer:
    keras.utils.set_random_seed(0)
    config = TransformerConfig(
        vocabulary_size=12, hidden_size=32, num_layers=1, num_heads=4, intermediate_size=64, max_length=32,
        num_segments=0, mask="causal", position=position, position_options=options, dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    model = Transformer(config, head="lm")
    loss = {"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "sequence_output": None}
    model.compile(keras.optimizers.Adam(3e-3), loss=loss)
    ids, labels = texts(examples, 32, seed=0)
    model.fit({"token_ids": ids}, {"logits": labels}, batch_size=64, verbose=0)
    return model


def accuracy(model: Transformer, length: int) -> float:
    """At the second half of new texts."""
    ids, labels = texts(64, length, seed=1)
    guess = ops.convert_to_numpy(model(ids)["logits"]).argmax(-1)
    return float((guess == labels)[:, length // 2 :].mean())


def main(folder: str | None = None, names: tuple[str, ...] = tuple(ENCODINGS), examples: int = 20000) -> dict[str, Any]:
    curves, orders = {}, {}
    print("| encoding | weights | " + " | ".join(map(str, LENGTHS)) + " | order |")
    print("|---|---|" + "---|" * (len(LENGTHS) + 1))
    for name in names:
        model = train(*ENCODINGS[name], examples)
        curve = analysis.extrapolation_curve(lambda length, m=model: accuracy(m, length), LENGTHS, train_length=32)
        order = analysis.order_sensitivity(model, texts(32, 32, seed=2)[0], trials=4)
        weights = sum(int(np.prod(w.shape)) for n, w in named_weights(model).items() if n.startswith("position"))
        cells = ["refused" if np.isnan(v) else f"{v:.3f}" for v in curve.values]
        print(f"| {name} | {weights} | {' | '.join(cells)} | {order.value:.2f} |", flush=True)
        curves[name], orders[name] = curve, order
    if folder is not None:
        analysis_plots.plot_extrapolation(curves, path=Path(folder) / "extrapolation.png")
        analysis_plots.plot_order_sensitivity(orders, path=Path(folder) / "order.png")
    return curves


if __name__ == "__main__":
    main(*sys.argv[1:2])
