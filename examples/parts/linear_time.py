"""Softmax attention takes time like n^2, linear attention like n (kexue.fm 8338).

The slope is that of log time against log n over the lengths; at short lengths other costs hide it.

    python examples/parts/linear_time.py
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import toy
import keras
import numpy as np

from kexue.nn import masks
from kexue.nn.attention.linear import LinearAttention
from kexue.nn.attention.multihead import MultiHeadAttention


def compiled(layer: keras.layers.Layer) -> Callable[[Any], Any]:
    """The layer's call outside training, compiled where the backend compiles."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(layer)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(layer)
    return layer


def seconds(call: Callable[[Any], Any], x: Any, repeats: int) -> float:
    """The best of some runs."""
    best = float("inf")
    for _ in range(repeats + 1):  # the first one compiles
        start = time.perf_counter()
        keras.ops.convert_to_numpy(call(x))
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--longest", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    lengths = [n for n in (1024, 2048, 4096, 8192, 16384) if n <= options.longest]
    layers = {
        "softmax": MultiHeadAttention(4, 32),
        "softmax, causal": MultiHeadAttention(4, 32, causal=True),
        "linear": LinearAttention(4, 32, feature="elu+1"),
        "linear, causal": LinearAttention(4, 32, feature="elu+1", mask=masks.Causal()),
    }
    rng = np.random.default_rng(0)
    rows = []
    for name, layer in layers.items():
        times = []
        for n in lengths:
            x = keras.ops.convert_to_tensor(rng.normal(size=(1, n, 128)).astype("float32"))
            layer(x[:, :8])  # builds it
            times.append(seconds(compiled(layer), x, options.repeats))
        slope = np.polyfit(np.log(lengths), np.log(times), 1)[0]
        last = np.log(times[-1] / times[-2]) / np.log(2)
        rows.append((name, *(f"{1e3 * t:.1f}" for t in times), f"{slope:.2f}", f"{last:.2f}"))
    print("one layer of 4 heads of 32, batch 1, milliseconds by length; slopes over all lengths and the last doubling")
    toy.show(("attention", *lengths, "slope", "last"), rows)


if __name__ == "__main__":
    main()
