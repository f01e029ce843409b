"""Atomic writer of safetensors files, single and sharded, with checksums that other readers pass over."""

import json
import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from kexue.checkpoints.safetensors import CHECKSUM_KEY, SAFETENSORS_DTYPES, tensor_checksum
from kexue.errors import CheckpointError
from kexue.files import atomic_write

__all__ = ["write_safetensors"]

_CODES = {dtype: code for code, dtype in SAFETENSORS_DTYPES.items()}


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    *,
    metadata: Mapping[str, str] | None = None,
    max_shard_size: int | None = None,
) -> list[Path]:
    """Write tensors to ``path``, or to numbered shards and ``path.index.json`` when they exceed ``max_shard_size``.

    All files are complete on the disk before the first takes its final name. A sharded save first takes an older
    index away and puts the new one last, so shards of two saves are never read together; shards, index or single
    file of an older save under the same path are removed at the end.

    Args:
        path: the file, such as ``folder/model.safetensors``.
        tensors: arrays by name.
        metadata: texts for the header; ``format: "pt"``, which ``transformers`` asks for, is added unless given.
        max_shard_size: largest number of tensor bytes in a file; a tensor that is larger gets a file to itself.
            None for one file.

    Returns:
        The files that were written; the index first if there is one.

    Raises:
        CheckpointError: safetensors has no such dtype, or the metadata are not texts.
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target}: expected a path that ends in .safetensors.")
    if max_shard_size is not None and max_shard_size <= 0:
        raise CheckpointError(f"expected max_shard_size of at least 1 byte, received {max_shard_size}.")
    texts = {"format": "pt", **(metadata or {})}
    if not all(isinstance(key, str) and isinstance(text, str) for key, text in texts.items()):
        raise CheckpointError(f"{target}: expected texts in the metadata, received {texts!r}.")
    arrays = {name: _plain(name, array, target) for name, array in tensors.items()}
    groups = _split(arrays, max_shard_size)
    index_path = target.with_name(target.name + ".index.json")
    if len(groups) == 1:
        with atomic_write(target) as temporary:
            _save(temporary, groups[0], texts, target)
        index_path.unlink(missing_ok=True)
        _remove_shards(target, keep=())
        return [target]
    files = [target.with_name(f"{target.stem}-{i:05d}-of-{len(groups):05d}{target.suffix}") for i in _ones(groups)]
    table = {name: file.name for file, group in zip(files, groups, strict=True) for name in group}
    index = {"metadata": {"total_size": sum(array.nbytes for array in arrays.values())}, "weight_map": table}
    with ExitStack() as stack:
        for file, group in zip(files, groups, strict=True):
            _save(stack.enter_context(atomic_write(file)), group, texts, file)
        index_path.unlink(missing_ok=True)
    with atomic_write(index_path) as temporary:
        temporary.write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    target.unlink(missing_ok=True)
    _remove_shards(target, keep=files)
    return [index_path, *files]


def _ones(groups: list[dict[str, np.ndarray]]) -> range:
    return range(1, len(groups) + 1)


def _plain(name: str, array: np.ndarray, target: Path) -> np.ndarray:
    """A contiguous little-endian array, copied only if it is none."""
    if not isinstance(name, str) or name == "__metadata__":
        raise CheckpointError(f"{target}: {name!r} cannot be the name of a tensor. Expected another text.")
    array = np.asarray(array)
    array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    if array.dtype not in _CODES:
        raise CheckpointError(
            f"{target}: tensor {name!r}: safetensors has no dtype {array.dtype}. "
            f"Expected one of {', '.join(map(str, _CODES))}; convert it first."
        )
    return array


def _split(arrays: dict[str, np.ndarray], limit: int | None) -> list[dict[str, np.ndarray]]:
    groups: list[dict[str, np.ndarray]] = [{}]
    filled = 0
    for name, array in arrays.items():
        if limit is not None and groups[-1] and filled + array.nbytes > limit:
            groups.append({})
            filled = 0
        groups[-1][name] = array
        filled += array.nbytes
    return groups


def _save(temporary: Path, arrays: dict[str, np.ndarray], texts: Mapping[str, str], target: Path) -> None:
    sums = {name: f"{tensor_checksum(name, a.shape, _CODES[a.dtype], a):08x}" for name, a in arrays.items()}
    try:
        save_file(arrays, temporary, {**texts, CHECKSUM_KEY: json.dumps(sums)})
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{target}: safetensors cannot write these tensors: {error}.") from error
    _sort_texts(temporary)


def _sort_texts(path: Path) -> None:
    """Put the texts of the header, which the library writes in the order of a hash table, into that of their keys, so
    that equal contents are equal files."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        sorted_header = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(sorted_header) <= size:  # longer only if the library wrote a character in another way
            file.seek(8)
            file.write(sorted_header.ljust(size))


def _remove_shards(target: Path, keep: tuple[()] | list[Path]) -> None:
    pattern = re.compile(re.escape(target.stem) + r"-\d{5}-of-\d{5}\.safetensors")
    for stale in target.parent.iterdir():
        if pattern.fullmatch(stale.name) and stale not in keep:
            stale.unlink(missing_ok=True)
