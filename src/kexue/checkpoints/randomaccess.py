"""A file that is read at offsets, with every failure told as a `CheckpointError` that names the file."""

import os
import threading
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kexue.errors import CheckpointError

__all__ = ["RandomAccessFile"]


class RandomAccessFile:
    """Reads at offsets from one open file.

    The handle is kept open, so a file that is replaced on disk (as atomic writers do) goes on being read in its old
    state instead of mixing two states. Reads of several threads are serialised.
    """

    def __init__(self, path: str | os.PathLike[str], needed_by: str = "") -> None:
        self.path = Path(path)
        note = f" {needed_by}" if needed_by else ""
        if self.path.is_dir():
            raise CheckpointError(f"{self.path}: expected a file{note}, received a folder.")
        try:
            self._file = open(self.path, "rb")  # noqa: SIM115 the object owns it until close()
            self.size = os.fstat(self._file.fileno()).st_size
        except FileNotFoundError:
            raise CheckpointError(f"{self.path}: no such file{note}. Check the path, or copy the file there.") from None
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be opened{note}: {error.strerror or error}.") from error
        self._lock = threading.Lock()

    def read(self, offset: int, size: int, where: str = "") -> np.ndarray:
        """Read exactly ``size`` bytes at ``offset`` into a fresh uint8 array.

        Raises:
            CheckpointError: the range is not inside the file, or the system cannot read it.
        """
        what = f"{self.path}: {where}" if where else f"{self.path}"
        if offset < 0 or size < 0 or offset + size > self.size:
            raise CheckpointError(
                f"{what}: expected bytes {offset} to {offset + size}, but the file has {self.size} bytes. "
                "It is truncated or corrupt; copy it again."
            )
        try:
            data = np.empty(size, np.uint8)
            view, done = memoryview(data.data), 0
            with self._lock:
                self._file.seek(offset)
                while done < size:
                    got = self._file.readinto(view[done:])
                    if not got:
                        raise CheckpointError(f"{what}: the file became shorter while it was read.")
                    done += got
        except CheckpointError:
            raise
        except (OSError, MemoryError, ValueError) as error:  # ValueError: the file was closed
            raise CheckpointError(f"{what}: cannot read {size} bytes at {offset}: {error}.") from error
        return data

    @property
    def handle(self) -> BinaryIO:
        """The open file, for libraries that want to seek in it themselves; do not mix with `read`."""
        return self._file

    def close(self) -> None:
        """Close the file; twice does no harm."""
        self._file.close()
