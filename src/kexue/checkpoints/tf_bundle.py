"""Reader of TensorFlow V2 checkpoints (bundles) that does not need TensorFlow.

A bundle is ``PREFIX.index``, a sorted table of names with shape, dtype, position and CRC-32C, and the raw tensors in
``PREFIX.data-00000-of-0000N``. Names are given as they are stored: variable names for ``tf.compat.v1.train.Saver``,
``.../.ATTRIBUTES/VARIABLE_VALUE`` for object-based checkpoints. Partitioned variables are put together. Tensors of
strings (such as ``_CHECKPOINTABLE_OBJECT_GRAPH``) are arrays of ``bytes`` objects.

Everything is covered by a checksum: the index when it is opened, a tensor when it is read.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from kexue._protobuf import WireError, read_varint
from kexue.checkpoints.base import Checkpoint, TensorSpec
from kexue.checkpoints.crc32c import crc32c, extend, mask
from kexue.checkpoints.dtypes import OPAQUE, STRING, array_from_bytes, count, is_numeric
from kexue.checkpoints.randomaccess import RandomAccessFile
from kexue.checkpoints.sstable import read_table
from kexue.checkpoints.tf_index import Entry, Extent, dtype_of, parse_entry, parse_header, slice_key
from kexue.errors import CheckpointError

__all__ = ["TensorFlowCheckpoint"]

_VERSION = 1  # of the bundle format; a file says the oldest reader that understands it
_MAX_INDEX = 1 << 30


@dataclass(frozen=True)
class _Spec(TensorSpec):
    number: int  # TensorFlow's dtype
    parts: tuple[Entry, ...]  # one, or the slices of a partitioned variable
    extents: tuple[tuple[Extent, ...], ...]  # of the slices; empty when not partitioned


class TensorFlowCheckpoint(Checkpoint):
    """A TensorFlow V2 checkpoint.

    Args:
        prefix: path without ``.index`` and ``.data-*``, as TensorFlow takes it.

    Raises:
        CheckpointError: a file is missing, truncated or corrupt, or the format is one this reader does not know.
    """

    format = "tf"

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        self.index = Path(f"{os.fspath(prefix)}.index")
        self._files: list[RandomAccessFile] = []
        try:
            entries = self._load_index(prefix)
            specs = {name: self._spec(name, entry, entries) for name, entry in entries.items() if name[:1] != b"\0"}
            if sum(entry.size for entry in entries.values()) > sum(file.size for file in self._files):
                raise WireError("its tensors together are larger than the data files")
            super().__init__(prefix, {name.decode(): spec for name, spec in specs.items()})
        except (WireError, UnicodeDecodeError) as error:
            self.close()
            raise CheckpointError(f"{self.index}: the index is corrupt: {error}. Copy the file again.") from error
        except BaseException:
            self.close()
            raise

    def _load_index(self, prefix: str | os.PathLike[str]) -> dict[bytes, Entry]:
        file = RandomAccessFile(self.index)
        try:
            if file.size > _MAX_INDEX:
                raise CheckpointError(f"{self.index}: expected an index of at most 1 GiB, received {file.size} bytes.")
            table = list(read_table(file.read(0, file.size).tobytes()))
        finally:
            file.close()
        if not table or table[0][0] != b"":
            raise WireError("the header is missing")
        shards, big_endian, oldest = parse_header(table[0][1])
        if big_endian:
            raise CheckpointError(
                f"{self.index}: written by a big-endian machine, which is not supported. "
                "Load and save it once with TensorFlow on a little-endian machine."
            )
        if oldest > _VERSION:
            raise CheckpointError(
                f"{self.index}: expected bundle format {_VERSION}, received one that needs a reader of {oldest}."
            )
        if not 1 <= shards <= 99999:
            raise WireError(f"the header claims {shards} data files")
        for shard in range(shards):
            path = f"{os.fspath(prefix)}.data-{shard:05d}-of-{shards:05d}"
            self._files.append(RandomAccessFile(path, needed_by=f"(the index {self.index.name} needs it)"))
        return {key: parse_entry(value) for key, value in table[1:]}

    def _where(self, name: bytes, entry: Entry) -> str:
        file = self._files[entry.shard].path if 0 <= entry.shard < len(self._files) else self.index
        return f"{file}: tensor {name.decode(errors='replace')!r}"

    def _spec(self, name: bytes, entry: Entry, entries: dict[bytes, Entry]) -> _Spec:
        where = self._where(name, entry)
        dtype = dtype_of(entry.number)
        if not entry.slices:
            self._check(entry, where)
            return _Spec(entry.shape, dtype, self._files[entry.shard].path, entry.number, (entry,), ())
        total = count(entry.shape, where)
        if not is_numeric(dtype):
            raise CheckpointError(f"{where}: partitioned variables of dtype number {entry.number} are not supported.")
        parts = []
        for extents in entry.slices:
            part = entries.get(slice_key(name, extents))
            if part is None:
                raise CheckpointError(f"{where}: the index has no entry for its slice {_show(extents)}.")
            if part.number != entry.number or part.shape != _slice_shape(entry.shape, extents, where):
                raise CheckpointError(f"{where}: the slice {_show(extents)} does not have the expected shape or dtype.")
            self._check(part, where)
            parts.append(part)
        if sum(count(part.shape, where) for part in parts) != total:
            raise CheckpointError(f"{where}: its {len(parts)} slices do not cover the shape {entry.shape} exactly.")
        if total * dtype.itemsize > sum(file.size for file in self._files):
            raise CheckpointError(f"{where}: shape {entry.shape} is larger than the data files.")
        file = self._files[parts[0].shard].path
        return _Spec(entry.shape, dtype, file, entry.number, tuple(parts), tuple(entry.slices))

    def _check(self, entry: Entry, where: str) -> None:
        if not 0 <= entry.shard < len(self._files):
            raise CheckpointError(f"{where}: expected one of {len(self._files)} data files, received {entry.shard}.")
        size, dtype = count(entry.shape, where), dtype_of(entry.number)
        if is_numeric(dtype) and entry.size != size * dtype.itemsize:
            raise CheckpointError(
                f"{where}: expected {size * dtype.itemsize} bytes for shape {entry.shape} and dtype {dtype}, "
                f"the index says {entry.size}."
            )
        if dtype == STRING and size > entry.size:  # one byte for each length is the least
            raise CheckpointError(f"{where}: {entry.size} bytes cannot hold {size} strings.")
        available = self._files[entry.shard].size
        if entry.offset < 0 or entry.size < 0 or entry.offset + entry.size > available:
            raise CheckpointError(
                f"{where}: expected bytes {entry.offset} to {entry.offset + entry.size}, but the file has {available} "
                "bytes. It is truncated or corrupt; copy it again."
            )

    def _read(self, name: str, spec: TensorSpec) -> np.ndarray:
        spec = cast(_Spec, spec)
        where = self._where(name.encode(), spec.parts[0])
        if spec.dtype == OPAQUE:
            raise CheckpointError(
                f"{where}: TensorFlow's dtype number {spec.number} (a resource, variant or quantised type) is not "
                "supported. Leave this tensor out."
            )
        if not spec.extents:
            return self._read_entry(spec.parts[0], name)
        whole = np.empty(spec.shape, spec.dtype)
        seen = np.zeros(spec.shape, np.bool_)
        for part, extents in zip(spec.parts, spec.extents, strict=True):
            place = tuple(slice(None) if n < 0 else slice(start, start + n) for start, n in extents)
            whole[place] = self._read_entry(part, name)
            seen[place] = True
        if not seen.all():  # the volumes add up, so a hole means that slices overlap
            raise CheckpointError(f"{where}: its slices overlap.")
        return whole

    def _read_entry(self, entry: Entry, name: str) -> np.ndarray:
        where = self._where(name.encode(), entry)
        data = self._files[entry.shard].read(entry.offset, entry.size, f"tensor {name!r}")
        dtype = dtype_of(entry.number)
        if dtype == STRING:
            return _strings(data.tobytes(), entry, where)
        if mask(crc32c(data)) != entry.crc:
            raise _checksum_error(where)
        return array_from_bytes(data, dtype, entry.shape, where)

    def close(self) -> None:
        for file in self._files:
            file.close()


def _checksum_error(where: str) -> CheckpointError:
    return CheckpointError(f"{where}: the checksum does not match, the data is corrupt. Copy the file again.")


def _show(extents: tuple[Extent, ...]) -> str:
    return "[" + ", ".join(":" if n < 0 else f"{start}:{start + n}" for start, n in extents) + "]"


def _slice_shape(shape: tuple[int, ...], extents: tuple[Extent, ...], where: str) -> tuple[int, ...]:
    fits = len(extents) == len(shape)
    fits = fits and all(
        (start, n) == (0, -1) or (n >= 0 and 0 <= start <= start + n <= size)
        for (start, n), size in zip(extents, shape, strict=True)
    )
    if not fits:
        raise CheckpointError(f"{where}: the slice {_show(extents)} is not inside the shape {shape}.")
    return tuple(size if n < 0 else n for (_, n), size in zip(extents, shape, strict=True))


def _strings(data: bytes, entry: Entry, where: str) -> np.ndarray:
    """Strings are stored as all lengths (base-128), a CRC of the lengths, then the characters.

    The CRC takes a length as 4 bytes (8 when it does not fit), and the CRC of the entry goes on from it.
    """
    lengths, at, crc = [], 0, 0
    try:
        for _ in range(math.prod(entry.shape)):
            length, at = read_varint(data, at)
            lengths.append(length)
            crc = extend(crc, length.to_bytes(4 if length < 1 << 32 else 8, "little"))
    except WireError as error:
        raise CheckpointError(f"{where}: the strings are corrupt: {error}.") from error
    stored = data[at : at + 4]
    at += 4
    if stored != mask(crc).to_bytes(4, "little") or at + sum(lengths) != len(data):
        raise _checksum_error(where)
    if mask(extend(extend(crc, stored), data[at:])) != entry.crc:
        raise _checksum_error(where)
    out = np.empty(len(lengths), object)
    for i, length in enumerate(lengths):
        out[i] = data[at : at + length]
        at += length
    return out.reshape(entry.shape)
