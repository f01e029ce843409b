"""Messages between a process and its workers: pickles over a pipe, arrays beside them without a copy."""

import pickle
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

__all__ = ["pack", "read", "write"]

_COUNT = struct.Struct("<I")
_SIZE = struct.Struct("<Q")


def pack(message: Any) -> list[bytes | memoryview]:
    """The parts of a message: its pickle, then the memory of the contiguous arrays in it."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    return [head, *(buffer.raw() for buffer in buffers)]


def write(file: BinaryIO, parts: Sequence[bytes | memoryview]) -> None:
    """Send the parts of a message."""
    file.write(_COUNT.pack(len(parts)) + b"".join(_SIZE.pack(len(part)) for part in parts))
    for part in parts:
        file.write(part)
    file.flush()


def read(file: BinaryIO) -> Any:
    """Receive a message.

    Raises:
        EOFError: the other side is gone, be it in the middle of the message.
    """
    count = _COUNT.unpack(_exactly(file, _COUNT.size))[0]
    sizes = _exactly(file, count * _SIZE.size)
    head, *buffers = [_exactly(file, size) for (size,) in _SIZE.iter_unpack(sizes)]
    return pickle.loads(head, buffers=buffers)


def _exactly(file: BinaryIO, size: int) -> bytearray:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        received = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not received:
            raise EOFError(f"the pipe closed after {done} of {size} bytes")
        done += received
    return data
