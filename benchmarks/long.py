"""Softmax against linear attention at lengths 512, 2,048 and 8,192: time and peak memory.

One attention layer of width 512 with 8 heads, batch 1, float32, on the Keras backend in force, compiled where the
backend compiles. Each row is a process of its own: its peak is the greatest resident memory less that of the same
process at length 16. "Explicit" is softmax attention that holds all scores; "kexue" is what the library takes by
itself. Linear attention has the features ``exp`` and as many of them as a key has entries (``key_multiplier=1``).
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.report import arguments, median, publish, table

WIDTH, HEADS = 512, 8
KINDS = {
    "softmax, kexue": ("softmax", False),
    "softmax, explicit": ("softmax explicit", False),
    "linear": ("linear", False),
    "softmax causal, kexue": ("softmax", True),
    "softmax causal, explicit": ("softmax explicit", True),
    "linear causal": ("linear", True),
}
BASE = 16
"""Length of the process whose memory is taken off."""


def compiled(layer: object, length: int, gradient: bool) -> Callable[[], object]:
    """One forward pass, or one with gradients of all weights and of the input."""
    import keras
    import numpy as np

    x = np.random.default_rng(0).normal(size=(1, length, WIDTH)).astype("float32")
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        def loss(weights: object, x: object) -> object:
            y, _ = layer.stateless_call(weights, [v.value for v in layer.non_trainable_variables], x)
            return (y * y).sum() if gradient else y

        run = jax.jit(jax.grad(loss, (0, 1)) if gradient else loss)
        weights = [v.value for v in layer.trainable_variables]
        return lambda: jax.block_until_ready(run(weights, x))
    if backend == "tensorflow":
        import tensorflow as tf

        given = tf.constant(x)

        @tf.function
        def step() -> object:
            if not gradient:
                return layer(given)
            with tf.GradientTape() as tape:
                tape.watch(given)
                value = tf.reduce_sum(layer(given) ** 2)
            return tape.gradient(value, [*layer.trainable_variables, given])

        return step
    import torch

    def forward() -> object:
        if not gradient:
            with torch.inference_mode():
                return layer(torch.tensor(x))
        (layer(torch.tensor(x, requires_grad=True)) ** 2).sum().backward()
        return None

    return forward


def one(kind: str, length: int, gradient: bool, rounds: int) -> None:
    """Measure in this process and print JSON."""
    import kexue  # noqa: F401  chooses the backend
    from kexue.nn.attention import kernels, multihead, registry

    name, causal = KINDS[kind]
    if name == "softmax explicit":
        multihead.attend = kernels.explicit_attention  # type: ignore[assignment]
    size = WIDTH // HEADS
    options = {"feature": "exp", "key_multiplier": 1} if name == "linear" else {}
    mask = {"mask": "causal" if causal else None} if name == "linear" else {"causal": causal}
    layer = registry.make(name.split()[0], options, heads=HEADS, key_size=size, **mask)
    layer.build((None, None, WIDTH))
    run = compiled(layer, length, gradient)
    run()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": median(seconds), "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def measure(kind: str, length: int, gradient: bool, rounds: int) -> dict[str, float] | None:
    """`one` in a process; None where it fails, for want of memory."""
    command = [sys.executable, "-m", "benchmarks.long", "--one", kind, str(length), str(int(gradient)), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def fits(kind: str, length: int, gradient: bool) -> bool:
    """The explicit scores, and some copies of them, fit in the free memory."""
    if "explicit" not in kind:
        return True
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return HEADS * length**2 * 4 * (6 if gradient else 3) < free


def rows_of(lengths: list[int], gradient: bool, rounds: int) -> list[tuple[str, ...]]:
    base = {kind: measure(kind, BASE, gradient, 1) for kind in KINDS}
    rows = []
    for length in lengths:
        found = {kind: measure(kind, length, gradient, rounds) for kind in KINDS if fits(kind, length, gradient)}
        for kind in KINDS:
            got, low = found.get(kind), base[kind]
            causal = "causal" in kind
            softmax = found.get("softmax causal, kexue" if causal else "softmax, kexue")
            if got is None or low is None or softmax is None:
                rows.append((str(length), kind, "does not fit", "", ""))
                continue
            peak = max(got["peak"] - low["peak"], 0.0)
            ratio = f"{got['seconds'] / softmax['seconds']:.2f}"
            rows.append((str(length), kind, f"{got['seconds'] * 1000:.1f}", f"{peak:.0f}", ratio))
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--one", nargs=4, metavar=("KIND", "LENGTH", "GRADIENT", "ROUNDS"), help="for its own processes"
    )
    options = parser.parse_args()
    if options.one:
        kind, length, gradient, rounds = options.one
        one(kind, int(length), bool(int(gradient)), int(rounds))
        return
    import kexue  # noqa: F401  chooses the backend

    header = ("length", "attention", "ms", "peak MiB", "time / softmax, kexue")
    parts = [f"Keras backend {os.environ['KERAS_BACKEND']}."]
    for gradient in (False, True):
        title = "With gradients" if gradient else "Forward"
        parts.append(f"{title}:\n\n" + table(header, rows_of(options.lengths, gradient, options.rounds)))
    publish("long", "Attention on long sequences", "python -m benchmarks.long", "\n\n".join(parts), options.write)


if __name__ == "__main__":
    main()
