"""Random single-byte corruptions and truncations of checkpoints: refused, or the values stay right.

The files are written by TensorFlow, safetensors' own writer, kexue's writers and PyTorch. Each trial damages one byte
of one file, or cuts one file short, and reads everything. Anything but a `CheckpointError` or all values equal to the
originals counts as a failure. The safetensors format has no checksums; kexue's writer adds them, other writers' files
can be damaged in their data without a trace, which the table shows.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.report import arguments, publish, table


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"bert/embeddings/word_embeddings": (40, 12), "bert/encoder/layer_0/output/dense/kernel": (24, 12)}
    shapes |= {f"bert/encoder/layer_{i}/output/LayerNorm/gamma": (12,) for i in range(6)}
    return {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def write_tensorflow(folder: Path) -> None:
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in tensors().items():
            tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(folder / "bert_model.ckpt"), write_meta_graph=False)


def write_kexue_bundle(folder: Path) -> None:
    from kexue.checkpoints import write_tf_bundle

    write_tf_bundle(folder / "bert_model.ckpt", tensors())


def write_kexue_safetensors(folder: Path) -> None:
    from kexue.checkpoints import write_safetensors

    write_safetensors(folder / "model.safetensors", tensors())


def write_safetensors(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file(tensors(), folder / "model.safetensors")


def write_pytorch(folder: Path) -> None:
    import torch

    torch.save({k: torch.tensor(v) for k, v in tensors().items()}, folder / "pytorch_model.bin")


WRITERS: dict[str, Callable[[Path], None]] = {
    "TensorFlow bundle, by TensorFlow": write_tensorflow,
    "TensorFlow bundle, by kexue": write_kexue_bundle,
    "safetensors, by kexue": write_kexue_safetensors,
    "safetensors, by safetensors": write_safetensors,
    "PyTorch, by torch.save": write_pytorch,
}


def trial(whole: Path, rng: np.random.Generator) -> str:
    """What became of one damaged copy: refused, right, wrong or the name of another exception."""
    from kexue.checkpoints import open_checkpoint
    from kexue.errors import CheckpointError

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "checkpoint"
        shutil.copytree(whole, folder)
        files = sorted(p for p in folder.iterdir() if p.name != "checkpoint")
        victim = files[rng.integers(len(files))]
        data = bytearray(victim.read_bytes())
        place = int(rng.integers(len(data)))
        if rng.random() < 0.25:
            data = data[:place]
        else:
            data[place] ^= int(rng.integers(1, 256))
        victim.write_bytes(bytes(data))
        original = tensors()
        try:
            with open_checkpoint(folder) as checkpoint:
                read = {key: np.asarray(checkpoint[key]) for key in checkpoint.names()}
        except CheckpointError:
            return "refused"
        except Exception as error:
            return type(error).__name__
        same = read.keys() == original.keys() and all(
            read[k].shape == v.shape and read[k].tobytes() == v.tobytes() for k, v in original.items()
        )
        return "right" if same else "wrong values"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = []
    for kind, writer in WRITERS.items():
        rng = np.random.default_rng(options.seed)
        with tempfile.TemporaryDirectory() as name:
            whole = Path(name)
            writer(whole)
            start = time.perf_counter()
            results = [trial(whole, rng) for _ in range(options.trials)]
            slowest = time.perf_counter() - start
        other = sorted(set(results) - {"refused", "right", "wrong values"})
        rows.append(
            (
                kind,
                results.count("refused"),
                results.count("right"),
                results.count("wrong values"),
                ", ".join(other) or 0,
                f"{slowest / options.trials * 1e3:.1f}",
            )
        )
    header = ("files", "refused", "values right", "wrong values", "other exceptions", "ms a trial")
    body = f"{options.trials} trials each, seed {options.seed}.\n\n{table(header, rows)}"
    publish("corruption", "Damaged checkpoints", "python -m benchmarks.corruption", body, options.write)


if __name__ == "__main__":
    main()
