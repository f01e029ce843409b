"""Checkpoints cut into several files with an index json (``model.safetensors.index.json`` and its PyTorch twin)."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kexue.checkpoints.base import Checkpoint, TensorSpec
from kexue.checkpoints.randomaccess import RandomAccessFile
from kexue.errors import CheckpointError

__all__ = ["ShardedCheckpoint", "read_index", "unique_table"]

_MAX_INDEX = 1 << 28


def unique_table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Hook for `json.loads` that refuses a name which occurs twice, instead of dropping the first one."""
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def read_index(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the ``weight_map`` (tensor name to file name) of an index json.

    Raises:
        CheckpointError: no valid index, or a shard that is not simply a file in the same folder.
    """
    file = RandomAccessFile(path)
    try:
        if file.size > _MAX_INDEX:
            raise CheckpointError(f"{file.path}: expected an index of at most 256 MiB, received {file.size} bytes.")
        text = file.read(0, file.size).tobytes()
    finally:
        file.close()
    try:
        index = json.loads(text.decode(), object_pairs_hook=unique_table)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file.path}: expected an index in JSON, received no valid JSON: {error}.") from error
    table = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(table, dict) or not all(isinstance(shard, str) for shard in table.values()):
        raise CheckpointError(f'{file.path}: expected a table "weight_map" from tensor names to file names.')
    for name, shard in table.items():
        if not shard or shard in (".", "..") or "\0" in shard or "/" in shard or "\\" in shard:
            raise CheckpointError(
                f"{file.path}: tensor {name!r}: expected the name of a file in the same folder, received {shard!r}."
            )
    return table


class ShardedCheckpoint(Checkpoint):
    """Several files of one format, joined by their index.

    Only the tensors in the index are listed. All shards are opened at once, so that a missing one is known at once.

    Raises:
        CheckpointError: a shard is missing or damaged, or lacks a tensor that the index promises.
    """

    def __init__(self, path: str | os.PathLike[str], open_shard: Callable[[Path], Checkpoint]) -> None:
        table = read_index(path)
        self._shards: dict[str, Checkpoint] = {}
        self._table = table
        specs: dict[str, TensorSpec] = {}
        try:
            for name, shard in table.items():
                file = Path(path).parent / shard
                if shard not in self._shards:
                    if not file.exists():
                        raise CheckpointError(
                            f"{file}: no such file, but the index {Path(path).name} says that it holds tensor "
                            f"{name!r}. Copy the missing file into the folder."
                        )
                    self._shards[shard] = open_shard(file)
                if name not in self._shards[shard]:
                    raise CheckpointError(
                        f"{file}: tensor {name!r} is missing, but the index {Path(path).name} says that it is here."
                    )
                specs[name] = self._shards[shard].spec(name)
        except BaseException:
            self.close()
            raise
        super().__init__(path, specs)

    @property
    def format(self) -> str:  # type: ignore[override]
        """The format of the shards."""
        return next((shard.format for shard in self._shards.values()), "safetensors")

    def _read(self, name: str, spec: TensorSpec) -> np.ndarray:
        return self._shards[self._table[name]][name]

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()
