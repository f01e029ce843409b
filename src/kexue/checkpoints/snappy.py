"""Decompression of raw Snappy blocks, which index files of old TensorFlow versions may contain.

A block is the length of the result (base-128), then elements: literals, and copies of what was written before.
Index blocks are small, so plain Python is fast enough.
"""

from kexue._protobuf import WireError, read_varint

__all__ = ["decompress"]


def decompress(data: bytes, limit: int) -> bytes:
    """Decompress one block.

    Args:
        data: the compressed block.
        limit: largest size of the result that is accepted.

    Raises:
        WireError: the block is corrupt or larger than the limit.
    """
    size, at = read_varint(data, 0)
    if size > limit:
        raise WireError(f"a compressed block claims {size} bytes")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        kind = tag & 3
        if kind == 0:  # literal; a long one has its length in 1 to 4 bytes
            length = tag >> 2
            if length >= 60:
                extra = length - 59
                length, at = _number(data, at, extra), at + extra
            length += 1
            if length > len(data) - at or len(out) + length > size:
                raise WireError("a compressed block is corrupt")
            out += data[at : at + length]
            at += length
            continue
        if kind == 1:
            length, offset, at = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | _number(data, at, 1), at + 1
        else:
            extra = 2 if kind == 2 else 4
            length, offset, at = (tag >> 2) + 1, _number(data, at, extra), at + extra
        if not 0 < offset <= len(out) or len(out) + length > size:
            raise WireError("a compressed block is corrupt")
        piece = bytes(out[-offset:][:length])
        out += (piece * (length // len(piece) + 1))[:length]  # a copy may run into what it writes
    if len(out) != size:
        raise WireError("a compressed block is cut off")
    return bytes(out)


def _number(data: bytes, at: int, size: int) -> int:
    if size > len(data) - at:
        raise WireError("a compressed block is cut off")
    return int.from_bytes(data[at : at + size], "little")
