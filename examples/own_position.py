"""A position encoding of your own, in a Transformer, without touching kexue.

The encoding is KERPLE's logarithmic kernel (Chi et al., arXiv 2205.09921): each head adds ``-a log(1 + b |i - j|)`` to
its scores and trains a and b. The task is to name the last marker (ids 0 to 3) that was seen among noise, so nearness
is what counts. Models are trained on 32 tokens and evaluated on up to 256.

    python examples/own_position.py
"""

import tempfile
from typing import Any

import kexue  # noqa: F401  # isort: skip  # before Keras: it chooses the backend
import keras
import numpy as np
from keras import ops

from kexue.models import Transformer, TransformerConfig
from kexue.nn.positions.analysis import extrapolation_curve
from kexue.nn.positions.base import PositionEncoding


@keras.saving.register_keras_serializable(package="examples")
class LogDistance(PositionEncoding):
    def __init__(self, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, *_: Any) -> None:  # weights that all blocks share
        self.a = self.add_weight(shape=(self.heads, 1, 1), initializer="ones", name="a")
        self.b = self.add_weight(shape=(self.heads, 1, 1), initializer="ones", name="b")
        self.built = True

    def tables(self, query_positions: Any, key_positions: Any, **_: Any) -> tuple[Any, ...]:  # once a forward pass
        q, k = (ops.cast(p, "float32") for p in (query_positions, key_positions))
        distance = ops.abs(q[:, None, :, None] - k[:, None, None, :])  # (batch or 1, 1, queries, keys)
        return (-ops.softplus(self.a) * ops.log(1 + ops.softplus(self.b) * distance),)

    def scores(self, q: Any, k: Any, tables: tuple[Any, ...], *, scale: Any, layer: Any) -> Any:  # in each block
        return tables[0]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"heads": self.heads}


def make(position: Any, train_length: int = 32) -> Transformer:
    """A small decoder with an encoding by name or object."""
    config = TransformerConfig(
        vocabulary_size=12, hidden_size=32, num_layers=1, num_heads=4, intermediate_size=64, max_length=train_length,
        num_segments=0, mask="causal", position=position, dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    return Transformer(config, head="lm")


def texts(count: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids ``(count, length)``, one in ten a marker, and at each place the last marker until there."""
    rng = np.random.default_rng(seed)
    marker = rng.random((count, length)) < 0.1
    marker[:, 0] = True
    ids = np.where(marker, rng.integers(0, 4, marker.shape), rng.integers(4, 12, marker.shape)).astype("int32")
    last = np.maximum.accumulate(np.where(marker, np.arange(length), 0), axis=1)
    return ids, np.take_along_axis(ids, last, axis=1)


def accuracy(model: Transformer, length: int) -> float:
    """At the second half of new texts."""
    ids, labels = texts(64, length, seed=1)
    guess = ops.convert_to_numpy(model(ids)["logits"]).argmax(-1)
    return float((guess == labels)[:, length // 2 :].mean())


def main(examples: int = 20000, lengths: tuple[int, ...] = (32, 64, 128, 256)) -> dict[str, list[float]]:
    ids, labels = texts(examples, 32, seed=0)
    results = {}
    print(f"{'':12}" + "".join(f"{length:>8}" for length in lengths))
    for name, position in {"own": LogDistance(heads=4), "none": "none", "learned": "learned"}.items():
        keras.utils.set_random_seed(0)
        model = make(position)
        loss = {"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "sequence_output": None}
        model.compile(keras.optimizers.Adam(3e-3), loss=loss)
        model.fit({"token_ids": ids}, {"logits": labels}, batch_size=64, verbose=0)
        if name == "own":  # a folder holds the encoding by its registered name and its arguments
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                model = Transformer.from_pretrained(folder, head="lm")
        curve = extrapolation_curve(lambda length, m=model: accuracy(m, length), lengths, train_length=32)
        results[name] = curve.values.tolist()
        print(f"{name:12}" + "".join(f"{value:>8.3f}" for value in results[name]))
    return results


if __name__ == "__main__":
    main()
