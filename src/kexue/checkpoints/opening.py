"""Finding out what a path is: one function for all formats."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from kexue.checkpoints.base import Checkpoint
from kexue.checkpoints.safetensors import SafetensorsCheckpoint
from kexue.checkpoints.sharded import ShardedCheckpoint
from kexue.checkpoints.sstable import MAGIC
from kexue.checkpoints.tf_bundle import TensorFlowCheckpoint
from kexue.checkpoints.torch_zip import LEGACY_START, ZIP_START, TorchCheckpoint
from kexue.errors import CheckpointError

__all__ = ["open_checkpoint"]

_ACCEPTED = (
    "Accepted are model.safetensors, pytorch_model.bin (.pt, .pth), their *.index.json when sharded, and TensorFlow V2 "
    "checkpoints (PREFIX.index with PREFIX.data-*). Not supported: .h5 (load it with Keras or transformers and save it "
    "as safetensors), .msgpack (from Flax: transformers' from_pretrained(..., from_flax=True) of a version before 5, "
    "then save_pretrained), TensorFlow V1 checkpoints (restore and save with tf.compat.v1.train.Saver)."
)
# In a folder with several of these the first is taken, as transformers does.
_FOLDER_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_FOREIGN = {".h5": "HDF5", ".hdf5": "HDF5", ".keras": "Keras", ".msgpack": "Flax", ".onnx": "ONNX", ".gguf": "GGUF"}
_TORCH_SUFFIXES = (".bin", ".pt", ".pth")


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a checkpoint of any format that kexue reads.

    Args:
        path: a folder (``model.safetensors``, ``pytorch_model.bin`` or their index json; else the TensorFlow
            checkpoint that the text file ``checkpoint`` names, or the only ``*.index``; else the only ``.safetensors``,
            ``.bin``, ``.pt`` or ``.pth`` file), a TensorFlow prefix such as ``bert_model.ckpt`` or its ``.index``, a
            safetensors or PyTorch file, or an index json.

    Returns:
        A lazy, read-only mapping from names to arrays; close it, or use it in a ``with`` block.

    Raises:
        CheckpointError: nothing or more than one thing was found (the message lists both what is there and what
            is accepted), or the files are damaged.
    """
    target = Path(path)
    try:
        if target.is_dir():
            return _open_folder(target)
        return _open_file(target)
    except CheckpointError:
        raise
    except (OSError, ValueError) as error:  # a folder that may not be listed, a NUL in the path
        raise CheckpointError(f"{target}: cannot be opened: {error}.") from error


def _open_folder(folder: Path) -> Checkpoint:
    files = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    known = [name for name in _FOLDER_FILES if name in files]
    prefixes = [name.removesuffix(".index") for name in files if name.endswith(".index")]
    found = [*known, *(f"{prefix}.index" for prefix in prefixes)]
    if known and prefixes:
        raise _ambiguous(folder, found)
    if known:
        return _open_file(folder / known[0])
    if prefixes:
        named = _named_prefix(folder / "checkpoint")
        if named in prefixes:
            return TensorFlowCheckpoint(folder / named)
        if len(prefixes) == 1:
            return TensorFlowCheckpoint(folder / prefixes[0])
        raise _ambiguous(folder, found)
    loose = [name for name in files if name.endswith((".safetensors", *_TORCH_SUFFIXES))]
    loose = [name for name in files if name.endswith((".safetensors.index.json", ".bin.index.json"))] or loose
    if len(loose) == 1:
        return _open_file(folder / loose[0])
    if loose:
        raise _ambiguous(folder, loose)
    listing = ", ".join(files[:12]) + (", ..." if len(files) > 12 else "")
    raise CheckpointError(f"{folder}: no checkpoint found; the folder holds: {listing or 'no files'}. {_ACCEPTED}")


def _ambiguous(folder: Path, found: list[str]) -> CheckpointError:
    return CheckpointError(
        f"{folder}: expected one checkpoint, found {', '.join(found)}. Give the path of one of them."
    )


def _named_prefix(path: Path) -> str | None:
    """Last part of the prefix that TensorFlow's text file ``checkpoint`` names; folders in it are often long gone."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    match = re.search(r'^\s*model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', text, re.MULTILINE)
    return re.split(r"[/\\]", re.sub(r"\\(.)", r"\1", match[1]))[-1] if match else None


def _open_file(path: Path) -> Checkpoint:
    name = path.name
    if name.endswith(".index"):
        return TensorFlowCheckpoint(str(path).removesuffix(".index"))
    if name.endswith(".index.json"):
        return ShardedCheckpoint(path, _shard_opener(path))
    if Path(f"{path}.index").is_file() and not path.exists():
        return TensorFlowCheckpoint(path)
    if not path.exists():
        near = sorted(entry.name for entry in path.parent.glob("*") if entry.is_file()) if path.parent.is_dir() else []
        listing = f"The folder holds: {', '.join(near[:12])}. " if near else ""
        raise CheckpointError(f"{path}: no such file, folder or TensorFlow prefix. {listing}{_ACCEPTED}")
    start, end = _ends(path)
    if start.startswith((ZIP_START, LEGACY_START)) and path.suffix not in _FOREIGN:
        return TorchCheckpoint(path)
    if path.suffix == ".safetensors":
        return SafetensorsCheckpoint(path)
    if start.startswith(b"\x89HDF") or path.suffix in _FOREIGN:
        kind = _FOREIGN.get(path.suffix, "HDF5")
        raise CheckpointError(f"{path}: expected a checkpoint, received a file of {kind}. {_ACCEPTED}")
    if end == MAGIC:
        raise CheckpointError(f"{path}: expected a checkpoint, received one in TensorFlow's V1 format. {_ACCEPTED}")
    if path.suffix in _TORCH_SUFFIXES:
        return TorchCheckpoint(path)
    if re.search(r"\.data-\d{5}-of-\d{5}$", name):
        prefix = re.sub(r"\.data-\d{5}-of-\d{5}$", "", name)
        raise CheckpointError(f"{path}: this is the data file of a TensorFlow checkpoint. Give the prefix {prefix!r}.")
    raise CheckpointError(f"{path}: not recognised as a checkpoint (it begins with {start[:8]!r}). {_ACCEPTED}")


def _shard_opener(path: Path) -> Callable[[Path], Checkpoint]:
    """Shards are told by their own suffix; an index never points to another index."""

    def open_shard(shard: Path) -> Checkpoint:
        if shard.suffix == ".safetensors":
            return SafetensorsCheckpoint(shard)
        if shard.suffix in _TORCH_SUFFIXES:
            return TorchCheckpoint(shard)
        raise CheckpointError(f"{path}: expected shards that end in .safetensors or .bin, received {shard.name!r}.")

    return open_shard


def _ends(path: Path) -> tuple[bytes, bytes]:
    """The first 16 and the last 8 bytes."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8))
            return start, file.read(8)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}.") from error
