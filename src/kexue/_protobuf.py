"""The little of the protocol buffer wire format that checkpoint indices and SentencePiece models need."""

from collections.abc import Iterator

__all__ = ["WireError", "as_signed", "fields", "put_bytes", "put_fixed32", "put_varint", "read_varint", "varint"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class WireError(Exception):
    """Bytes that are no valid message; readers turn it into an error that names file and tensor."""


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a base-128 number of at most 64 bits; returns it and the position behind it."""
    if at < len(data) and data[at] < 0x80:  # one byte, the usual case
        return data[at], at + 1
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise WireError("a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at
    raise WireError("a number has more than 64 bits")


def as_signed(value: int) -> int:
    """int64 of its two's complement, as int32 and int64 fields are stored."""
    return value - (1 << 64) if value >= 1 << 63 else value


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Walk over a message: (field number, value); numbers unsigned, everything else as bytes."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        value: int | bytes
        if kind == _VARINT:
            value, at = read_varint(data, at)
        elif kind == _BYTES:
            size, at = read_varint(data, at)
            if size > len(data) - at:
                raise WireError("a field is cut off")
            value, at = data[at : at + size], at + size
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
            if size > len(data) - at:
                raise WireError("a field is cut off")
            value, at = int.from_bytes(data[at : at + size], "little"), at + size
        else:
            raise WireError(f"wire type {kind} is not known")
        yield number, value


def varint(value: int) -> bytes:
    """Base-128 form of a number from 0 to 2^64 - 1."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def put_varint(number: int, value: int) -> bytes:
    """A number field; left out when zero, as proto3 does."""
    return varint(number << 3 | _VARINT) + varint(value) if value else b""


def put_bytes(number: int, value: bytes) -> bytes:
    """A message, text or bytes field; written even when empty."""
    return varint(number << 3 | _BYTES) + varint(len(value)) + value


def put_fixed32(number: int, value: int) -> bytes:
    """A fixed 32-bit field."""
    return varint(number << 3 | _FIXED32) + value.to_bytes(4, "little")
