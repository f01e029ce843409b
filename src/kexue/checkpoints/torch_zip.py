"""Reader of PyTorch ``.bin``, ``.pt`` and ``.pth`` files, without PyTorch and without running what is in them.

Two containers: the zip archive that ``torch.save`` writes since version 1.6 (one record a storage, covered by the
CRC-32 of the archive) and the older stream of pickles followed by the storages (no checksum at all, so a flipped bit
in the numbers cannot be noticed there).

The file must hold a dictionary from names to tensors. If a value under the key "state_dict", "model_state_dict",
"model" or "module" is such a dictionary, as training scripts save it, that one is taken. Entries that are no tensors
(versions, epochs) are passed over.
"""

import math
import os
import struct
import threading
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from kexue.checkpoints.base import Checkpoint, TensorSpec
from kexue.checkpoints.dtypes import array_from_bytes, count
from kexue.checkpoints.randomaccess import RandomAccessFile
from kexue.checkpoints.torch_pickle import BytesSource, StorageRef, TensorRef, load_pickle
from kexue.errors import CheckpointError

__all__ = ["LEGACY_START", "ZIP_START", "TorchCheckpoint"]

ZIP_START = b"PK\x03\x04"
LEGACY_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # the pickled magic number
_LEGACY_PROTOCOL = 1001
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_EXPANSION = 1 << 28  # bytes that tensors with stride 0, or over one storage, may take beyond the size of the file

# zipfile raises several kinds on damaged archives: RuntimeError for a claimed password, NotImplementedError for
# features, struct.error and others for nonsense in headers
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class _Spec(TensorSpec):
    ref: TensorRef


class TorchCheckpoint(Checkpoint):
    """One file written by ``torch.save``.

    Raises:
        CheckpointError: missing, truncated or corrupt, not a dictionary of tensors, or it asks for code.
    """

    format = "torch"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        file = RandomAccessFile(path)
        self._container: _Zip | _Legacy | None = None
        try:
            start = file.read(0, min(file.size, len(LEGACY_START))).tobytes()
            if start.startswith(ZIP_START):
                self._container = _Zip(file)
            elif start == LEGACY_START:
                self._container = _Legacy(file)
            else:
                raise CheckpointError(
                    f"{file.path}: expected a file written by torch.save (a zip archive, or the older pickle format), "
                    f"received one of {file.size} bytes that begins with {start[:8]!r}. "
                    "It is empty, corrupt or of another format."
                )
            tensors = _tensors(self._container.content, str(file.path))
            specs = {name: _Spec(ref.shape, ref.dtype, file.path, ref) for name, ref in tensors.items()}
            for name, spec in specs.items():
                self._check(f"{file.path}: tensor {name!r}", spec.ref)
            # Tied weights share a storage and stride 0 repeats a number, but a file that does so without end is a trap.
            if sum(ref.dtype.itemsize * math.prod(ref.shape) for ref in tensors.values()) > 64 * file.size + _EXPANSION:
                raise CheckpointError(f"{file.path}: its tensors are far larger than the file that should hold them.")
            super().__init__(path, specs)
        except BaseException:
            file.close()
            raise
        self._file = file
        self._uses = Counter(ref.storage.key for ref in tensors.values())
        self._shared: tuple[str, np.ndarray] | None = None  # last storage that several tensors point into

    def _check(self, where: str, ref: TensorRef) -> None:
        size, storage, item = count(ref.shape, where), ref.storage, ref.dtype.itemsize
        unit = storage.dtype.itemsize if storage.dtype is not None else 1
        if storage.dtype is not None and storage.dtype != ref.dtype:
            raise CheckpointError(f"{where}: expected dtype {storage.dtype} of its storage, received {ref.dtype}.")
        available = storage.count * unit // item
        if len(ref.strides) != len(ref.shape) or min((*ref.strides, ref.offset)) < 0:
            raise CheckpointError(f"{where}: strides {ref.strides} do not fit shape {ref.shape}.")
        last = ref.offset + sum((n - 1) * step for n, step in zip(ref.shape, ref.strides, strict=True))
        if size and last >= available:
            raise CheckpointError(
                f"{where}: expected element {last} for shape {ref.shape}, strides {ref.strides}, "
                f"offset {ref.offset}, but its storage {storage.key!r} has {available} elements."
            )
        root = storage.count if storage.root_count is None else storage.root_count
        cast("_Zip | _Legacy", self._container).check(storage.key, root * unit, where)

    def _read(self, name: str, spec: TensorSpec) -> np.ndarray:
        ref = cast(_Spec, spec).ref
        where = f"{self._file.path}: tensor {name!r}"
        data = self._storage(ref.storage, where)
        item = ref.dtype.itemsize
        if ref.storage.root_count is not None:
            start = ref.storage.start * item
            data = data[start : start + ref.storage.count * item]
        # as raw bytes of the item size: NumPy's striding does not know every dtype of ml_dtypes
        elements = data[: data.size // item * item].view(np.dtype((np.void, item)))
        if not count(ref.shape, where):
            return np.zeros(ref.shape, ref.dtype)
        # the step along a dimension of size 1 means nothing and may be any number
        steps = [step * item if n > 1 else item for n, step in zip(ref.shape, ref.strides, strict=True)]
        view = np.lib.stride_tricks.as_strided(elements[ref.offset :], ref.shape, steps, writeable=False)
        if view.size * item == data.size and view.flags.c_contiguous and self._uses[ref.storage.key] == 1:
            return array_from_bytes(data, ref.dtype, ref.shape, where)
        own = np.array(view, order="C")
        return array_from_bytes(own.reshape(-1).view(np.uint8), ref.dtype, ref.shape, where)

    def _storage(self, storage: StorageRef, where: str) -> np.ndarray:
        shared = self._shared
        if shared is not None and shared[0] == storage.key:
            return shared[1]
        data = cast("_Zip | _Legacy", self._container).read(storage.key, where)
        if self._uses[storage.key] > 1:
            self._shared = (storage.key, data)
        return data

    def close(self) -> None:
        self._shared = None
        self._file.close()


def _tensors(content: Any, where: str) -> dict[str, TensorRef]:
    """Find the dictionary of tensors, through at most four wrappers."""
    for _ in range(4):
        if not isinstance(content, dict):
            kind = "a single tensor" if isinstance(content, TensorRef) else f"a {type(content).__name__}"
            raise CheckpointError(
                f"{where}: expected a dictionary from names to tensors, received {kind}. "
                "Save model.state_dict() with torch.save."
            )
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), None)
        if inner is None:
            break
        content = inner
    tensors = {name: value for name, value in content.items() if isinstance(value, TensorRef)}
    if not tensors and content:
        raise CheckpointError(
            f"{where}: expected tensors in the dictionary, received only {', '.join(map(repr, list(content)[:5]))}. "
            f"Save model.state_dict(), alone or under the key {_WRAPPERS[0]!r}."
        )
    odd = next((name for name in tensors if not isinstance(name, str)), None)
    if odd is not None:
        raise CheckpointError(f"{where}: expected texts as names of tensors, received {odd!r}.")
    return tensors


class _Zip:
    """The archive: ``NAME/data.pkl`` describes, ``NAME/data/KEY`` are the storages. Stored, never compressed."""

    def __init__(self, file: RandomAccessFile) -> None:
        self.path, self.lock = file.path, threading.Lock()
        try:
            self.archive = zipfile.ZipFile(file.handle)
            members = self.archive.infolist()
        except _ZIP_ERRORS as error:
            raise CheckpointError(
                f"{file.path}: the zip archive is truncated or corrupt ({error}). Copy it again."
            ) from error
        self.members = {member.filename: member for member in members}
        if len(self.members) != len(members):
            raise CheckpointError(f"{file.path}: the zip archive has two members of one name. It is corrupt.")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
                raise CheckpointError(
                    f"{file.path}: member {member.filename!r} is compressed, which torch.save never does. "
                    "The archive is corrupt or no PyTorch file."
                )
            if member.file_size > file.size:
                raise CheckpointError(f"{file.path}: member {member.filename!r} is larger than the file.")
        programs = [name for name in self.members if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(programs) != 1:
            raise CheckpointError(
                f"{file.path}: expected one member NAME/data.pkl, found {len(programs)}. "
                "The archive is corrupt or no PyTorch file."
            )
        self.root = programs[0].removesuffix("data.pkl")
        order = self.root + "byteorder"
        if order in self.members and self._member(order, "byte order").tobytes() != b"little":
            raise CheckpointError(f"{file.path}: expected little-endian numbers, received another byte order.")
        data = self._member(programs[0], "description").tobytes()
        self.content, _ = load_pickle(BytesSource(data), str(file.path))

    def _member(self, name: str, what: str) -> np.ndarray:
        member = self.members[name]
        try:
            data = np.empty(member.file_size, np.uint8)
            view, done = memoryview(data.data), 0
            with self.lock, self.archive.open(member) as stream:
                while got := stream.readinto(view[done:]) if done < len(view) else 0:  # type: ignore[attr-defined]
                    done += got
                if stream.read(1) or done < len(view):  # the read at the end compares the checksum
                    raise zipfile.BadZipFile("its size is wrong")
        except _ZIP_ERRORS as error:
            raise CheckpointError(
                f"{self.path}: {what}: member {name!r} of the zip archive is corrupt ({error}). Copy it again."
            ) from error
        return data

    def check(self, key: str, size: int, where: str) -> None:
        """Compare what the description claims of a storage with the member."""
        member = self.members.get(f"{self.root}data/{key}")
        if member is None:
            raise CheckpointError(f"{where}: the archive has no storage {key!r}. It is corrupt; copy it again.")
        if member.file_size != size:
            raise CheckpointError(
                f"{where}: expected a storage {key!r} of {size} bytes, it has {member.file_size}. It is corrupt."
            )

    def read(self, key: str, where: str) -> np.ndarray:
        """Read one storage and verify its checksum."""
        return self._member(f"{self.root}data/{key}", where.removeprefix(f"{self.path}: "))


class _Legacy:
    """Before PyTorch 1.6: pickles of magic number, protocol, system, content and keys; then count and bytes of each."""

    def __init__(self, file: RandomAccessFile) -> None:
        self.file, where = file, str(file.path)
        source = _FileSource(file)
        load_pickle(source, where)  # the magic number, which was compared already
        protocol, system = load_pickle(source, where)[0], load_pickle(source, where)[0]
        if protocol != _LEGACY_PROTOCOL or not isinstance(system, dict) or system.get("little_endian") is not True:
            raise CheckpointError(f"{where}: expected protocol {_LEGACY_PROTOCOL} and little-endian numbers.")
        self.content, self.storages = load_pickle(source, where)
        keys, _ = load_pickle(source, where)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
            raise CheckpointError(f"{where}: the list of storages is corrupt. Copy the file again.")
        self.keys, self.first = cast("list[str]", keys), source.at
        self.places: dict[str, tuple[int, int]] | None = None

    def _locate(self) -> dict[str, tuple[int, int]]:
        if self.places is None:
            self.places, at = {}, self.first
            for key in self.keys:
                if key not in self.storages:
                    raise CheckpointError(f"{self.file.path}: the storage {key!r} is not described. It is corrupt.")
                dtype = self.storages[key].dtype  # the file has the number of elements, not of bytes
                elements = int.from_bytes(self.file.read(at, 8, f"storage {key!r}").tobytes(), "little")
                size = elements * (dtype.itemsize if dtype is not None else 1)
                self.places[key] = (at + 8, size)
                at += 8 + size
            if at != self.file.size:
                raise CheckpointError(
                    f"{self.file.path}: expected a file of {at} bytes, it has {self.file.size}. "
                    "It is truncated or corrupt; copy it again."
                )
        return self.places

    def check(self, key: str, size: int, where: str) -> None:
        """Compare what the description claims of a storage with the file."""
        place = self._locate().get(key)
        if place is None or place[1] != size:
            raise CheckpointError(f"{where}: expected a storage {key!r} of {size} bytes. The file is corrupt.")

    def read(self, key: str, where: str) -> np.ndarray:
        """Read one storage."""
        return self.file.read(*self._locate()[key], where.removeprefix(f"{self.file.path}: "))


class _FileSource:
    """The pickles at the beginning of a file, read piece by piece."""

    def __init__(self, file: RandomAccessFile) -> None:
        self.file, self.at = file, 0
        self._start, self._piece = 0, b""

    def take(self, size: int) -> bytes:
        """The next bytes."""
        begin = self.at - self._start
        if begin + size > len(self._piece):
            if size > self.file.size - self.at:
                raise EOFError
            self._start, begin = self.at, 0
            self._piece = self.file.read(self.at, min(max(size, 1 << 16), self.file.size - self.at)).tobytes()
        self.at += size
        return self._piece[begin : begin + size]
