"""The messages inside a TensorFlow ``.index`` file: header, one entry a tensor, slices of partitioned variables."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np

from kexue._protobuf import WireError, as_signed, fields, put_bytes, put_fixed32, put_varint
from kexue.checkpoints.dtypes import BFLOAT16, FLOAT8_E4M3, FLOAT8_E5M2, OPAQUE, STRING

__all__ = [
    "Entry",
    "Extent",
    "dtype_of",
    "encode_entry",
    "encode_header",
    "number_of",
    "parse_entry",
    "parse_header",
    "slice_key",
]

_DTYPES: dict[int, np.dtype] = {
    number: np.dtype(kind)
    for number, kind in {
        1: np.float32,
        2: np.float64,
        3: np.int32,
        4: np.uint8,
        5: np.int16,
        6: np.int8,
        7: STRING,
        8: np.complex64,
        9: np.int64,
        10: np.bool_,
        14: BFLOAT16,
        17: np.uint16,
        18: np.complex128,
        19: np.float16,
        22: np.uint32,
        23: np.uint64,
        24: FLOAT8_E5M2,
        25: FLOAT8_E4M3,
        29: ml_dtypes.int4,
        30: ml_dtypes.uint4,
    }.items()
}
_NUMBERS = {dtype: number for number, dtype in _DTYPES.items() if number not in (7, 29, 30)}

Extent = tuple[int, int]  # start and length; a whole dimension is (0, -1)


@dataclass
class Entry:
    """One BundleEntryProto."""

    number: int = 0  # dtype
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0  # masked
    slices: list[tuple[Extent, ...]] = field(default_factory=list)


def dtype_of(number: int) -> np.dtype:
    """NumPy dtype of a TensorFlow DataType; what NumPy cannot hold is opaque."""
    return _DTYPES.get(number, OPAQUE)


def number_of(dtype: np.dtype) -> int | None:
    """TensorFlow DataType of a NumPy dtype; None if there is none."""
    return _NUMBERS.get(dtype)


def _int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise WireError("a number was expected")
    return as_signed(value)


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise WireError("a message was expected")
    return value


def parse_header(data: bytes) -> tuple[int, bool, int]:
    """Number of shards, whether big-endian, and the oldest reader version that may read it."""
    shards, big, oldest = 0, False, 0
    for number, value in fields(data):
        if number == 1:
            shards = _int(value)
        elif number == 2:
            big = _int(value) != 0
        elif number == 3:
            for inner, version in fields(_message(value)):
                if inner == 2:
                    oldest = _int(version)
    return shards, big, oldest


def encode_header() -> bytes:
    """One shard, little-endian, written by version 1."""
    return put_varint(1, 1) + put_bytes(3, put_varint(1, 1))


def parse_entry(data: bytes) -> Entry:
    """Decode one entry."""
    entry = Entry()
    for number, value in fields(data):
        if number == 1:
            entry.number = _int(value)
        elif number == 2:
            entry.shape = _parse_shape(_message(value))
        elif number == 3:
            entry.shard = _int(value)
        elif number == 4:
            entry.offset = _int(value)
        elif number == 5:
            entry.size = _int(value)
        elif number == 6:
            entry.crc = _int(value)
        elif number == 7:
            entry.slices.append(_parse_slice(_message(value)))
    return entry


def _parse_shape(data: bytes) -> tuple[int, ...]:
    shape = []
    for number, value in fields(data):
        if number == 2:
            size = 0
            for inner, n in fields(_message(value)):
                if inner == 1:
                    size = _int(n)
            shape.append(size)
        elif number == 3 and _int(value):
            raise WireError("the shape is unknown")
    return tuple(shape)


def _parse_slice(data: bytes) -> tuple[Extent, ...]:
    extents = []
    for number, value in fields(data):
        if number == 1:
            start, length = 0, -1
            for inner, n in fields(_message(value)):
                if inner == 1:
                    start = _int(n)
                elif inner == 2:
                    length = _int(n)
            extents.append((start, length))
    return tuple(extents)


def encode_entry(entry: Entry) -> bytes:
    """Encode one entry of a tensor that is not partitioned."""
    shape = b"".join(put_bytes(2, put_varint(1, n)) for n in entry.shape)
    return (
        put_varint(1, entry.number)
        + put_bytes(2, shape)
        + put_varint(3, entry.shard)
        + put_varint(4, entry.offset)
        + put_varint(5, entry.size)
        + put_fixed32(6, entry.crc)
    )


_ESCAPES = {0x00: b"\0\xff", 0xFF: b"\xff\0"}


# A slice of a partitioned variable is an entry of its own; its key is an order-preserving code of name and extents.


def slice_key(name: bytes, extents: Sequence[Extent]) -> bytes:
    """Key of the entry that holds the data of one slice."""
    escaped = b"".join(_ESCAPES.get(byte, bytes([byte])) for byte in name)
    key = _ordered_number(0) + escaped + b"\0\x01" + _ordered_number(len(extents))
    for start, length in extents:
        key += _ordered_signed(start) + _ordered_signed(length)
    return key


def _ordered_number(value: int) -> bytes:
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def _ordered_signed(value: int) -> bytes:
    """The sign bit inverted and as many leading ones as there are further bytes, then the number, big-endian."""
    magnitude = ~value if value < 0 else value
    size = magnitude.bit_length() // 7 + 1
    header = ((1 << size) - 1) << (7 * size)  # `size` ones at the top of size * 8 bits
    return ((value & ((1 << 8 * size) - 1)) ^ header).to_bytes(size, "big")
