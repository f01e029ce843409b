"""Damaging files at random, and what a reader may make of it: an error of ours, or the right values.

Run as a script for many seeds: ``python tests/checkpoints/damage.py 50``.
"""

import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from kexue.checkpoints import open_checkpoint, read_all, write_safetensors, write_tf_bundle
from kexue.errors import CheckpointError


def example_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """A few dozen tensors of many dtypes and shapes, among them scalars and empty ones."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for i in range(4):
        tensors[f"bert/encoder/layer_{i}/kernel"] = rng.standard_normal((7, 5)).astype(np.float32)
        tensors[f"bert/encoder/layer_{i}/bias"] = rng.standard_normal(5).astype(np.float32)
    for kind in (np.float64, np.float16, np.int8, np.int16, np.int32, np.int64, np.uint8, np.bool_):
        name = np.dtype(kind).name
        tensors[f"{name}/matrix"] = rng.integers(0, 2, (3, 4)).astype(kind)
        tensors[f"{name}/scalar"] = np.asarray(1, kind)
        tensors[f"{name}/empty"] = np.zeros((0, 3), kind)
    return tensors


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One byte changed, or the end cut off."""
    at = int(rng.integers(len(data)))
    if rng.random() < 0.25:
        return data[:at]
    return data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :]


def same(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> bool:
    """Equal names, shapes, dtypes and bits."""
    return left.keys() == right.keys() and all(
        a.dtype == right[name].dtype and a.shape == right[name].shape and a.tobytes() == right[name].tobytes()
        for name, a in left.items()
    )


def attempt(path: Path, expected: Mapping[str, np.ndarray], memory: int = 8 << 20) -> str:
    """Read everything: "refused", "right" or "wrong"; other exceptions pass through."""
    tracemalloc.start()
    begin = time.perf_counter()
    try:
        with open_checkpoint(path) as checkpoint:
            result = "right" if same(read_all(checkpoint), expected) else "wrong"
    except CheckpointError as error:
        result = "refused" if str(path.parent) in str(error) else f"an error that names no file: {error}"
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < memory, f"{peak} bytes were allocated"
    assert time.perf_counter() - begin < 20, "that took far too long"
    return result


def trials(path: Path, victim: Path, expected: Mapping[str, np.ndarray], seed: int, runs: int = 200) -> dict[str, int]:
    """Damage ``victim`` in ``runs`` ways, each time opening ``path``; the file is put right at the end."""
    rng = np.random.default_rng(seed)
    original = victim.read_bytes()
    counts = {"refused": 0, "right": 0, "wrong": 0}
    try:
        for _ in range(runs):
            victim.write_bytes(damaged(original, rng))
            counts[attempt(path, expected)] += 1
    finally:
        victim.write_bytes(original)
    return counts


def every_byte(path: Path, victim: Path, expected: Mapping[str, np.ndarray], seed: int) -> dict[str, int]:
    """Change each byte of ``victim`` once."""
    rng = np.random.default_rng(seed)
    original = victim.read_bytes()
    counts = {"refused": 0, "right": 0, "wrong": 0}
    try:
        for at in range(len(original)):
            byte = bytes([original[at] ^ int(rng.integers(1, 256))])
            victim.write_bytes(original[:at] + byte + original[at + 1 :])
            counts[attempt(path, expected)] += 1
    finally:
        victim.write_bytes(original)
    return counts


def write_torch(folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """The example tensors as ``torch.save`` writes them."""
    import torch

    tensors = {name: torch.from_numpy(array.copy()) for name, array in example_tensors().items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin", example_tensors()


def write_tensorflow(folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """The example tensors as TensorFlow's own Saver writes them, with a partitioned variable."""
    import tensorflow as tf

    v1 = tf.compat.v1
    expected = example_tensors()
    expected["parts"] = np.random.default_rng(1).standard_normal((40, 6)).astype(np.float32)
    with tf.Graph().as_default(), v1.Session() as session:
        for name, array in expected.items():
            if name == "parts":
                v1.get_variable(
                    name,
                    shape=array.shape,
                    initializer=v1.zeros_initializer(),
                    partitioner=v1.fixed_size_partitioner(3),
                )
            else:
                v1.get_variable(name, initializer=tf.constant(array))
        session.run(v1.global_variables_initializer())
        parts = [variable for variable in v1.global_variables() if variable.op.name.startswith("parts/")]
        rows = np.split(expected["parts"], np.cumsum([part.shape[0] for part in parts])[:-1])
        for part, row in zip(parts, rows, strict=True):
            session.run(part.assign(row))
        v1.train.Saver().save(session, str(folder / "tf.ckpt"), write_meta_graph=False)
    return folder / "tf.ckpt", expected


def _main(seeds: int) -> None:
    folder = Path(tempfile.mkdtemp())
    expected = example_tensors()
    jobs: list[tuple[str, Path, Path, Mapping[str, np.ndarray]]] = []
    index, data, _ = write_tf_bundle(folder / "own.ckpt", expected)
    jobs += [("own index", folder / "own.ckpt", index, expected), ("own data", folder / "own.ckpt", data, expected)]
    (file,) = write_safetensors(folder / "own.safetensors", expected)
    jobs.append(("own safetensors", file, file, expected))
    writers: list[tuple[str, Callable[[Path], tuple[Path, dict[str, np.ndarray]]]]] = [
        ("TensorFlow", write_tensorflow),
        ("PyTorch", write_torch),
    ]
    for name, write in writers:
        try:
            path, values = write(folder)
        except ImportError:
            print(f"{name} is not installed")
            continue
        victims = [path] if path.exists() else [Path(f"{path}.index"), Path(f"{path}.data-00000-of-00001")]
        jobs += [(f"{name} {victim.suffix}", path, victim, values) for victim in victims]
    for label, path, victim, values in jobs:
        total = {"refused": 0, "right": 0, "wrong": 0}
        for seed in range(seeds):
            for kind, n in trials(path, victim, values, seed).items():
                total[kind] += n
        print(f"{label:32} random {total}   every byte {every_byte(path, victim, values, 0)}", flush=True)


if __name__ == "__main__":
    _main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
