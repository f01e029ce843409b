"""LevelDB-style sorted tables, the container of TensorFlow's ``.index`` files: reading and writing.

::

    data block 1 | ... | data block n | metaindex block | index block | footer (48 bytes)

A block is a run of entries ``shared, non_shared, value_len (base-128), key tail, value`` whose keys share a prefix
with the key before, then the restart offsets and their number (uint32), then one byte for the compression and the
masked CRC-32C of all that. The index block maps the last key of each data block to its offset and size; the footer
holds where metaindex and index are, and a magic number.
"""

from collections.abc import Iterable, Iterator

from kexue._protobuf import WireError, read_varint, varint
from kexue.checkpoints import snappy
from kexue.checkpoints.crc32c import crc32c, mask

__all__ = ["MAGIC", "build_table", "read_table"]

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER, _TRAILER = 48, 5
_RESTART_EVERY = 16
_BLOCK_BYTES = 4096
_EXPANSION = 64  # more than compression and shared prefixes do in real files


def read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Walk over the entries of a table, verifying the checksum of every block before its first entry.

    Raises:
        WireError: not a table, truncated or corrupt.
    """
    if len(data) < _FOOTER or data[-8:] != MAGIC:
        raise WireError("the magic number at the end is missing, so this is no index file or it is truncated")
    footer = data[-_FOOTER:]
    _, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    previous: bytes | None = None
    budget = _EXPANSION * len(data)
    for last, value in _entries(_block(data, *index)):
        handle, _ = _handle(value, 0)
        for key, entry in _entries(_block(data, *handle)):
            if previous is not None and key <= previous:
                raise WireError("the entries are not in order")
            previous = key
            budget -= len(key)  # shared prefixes could blow a small file up without end
            if budget < 0:
                raise WireError("the names are too long")
            yield key, entry
        if previous is None or previous > last:
            raise WireError("the entries do not fit the index block")


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return (offset, size), at


def _block(data: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    if end + _TRAILER > len(data) - _FOOTER:
        raise WireError(f"a block at {offset} of {size} bytes is not inside the file")
    stored = int.from_bytes(data[end + 1 : end + _TRAILER], "little")
    if mask(crc32c(data[offset : end + 1])) != stored:
        raise WireError(f"the checksum of the block at {offset} is wrong")
    block, compression = data[offset:end], data[end]
    if compression == 0:
        return block
    if compression == 1:
        return snappy.decompress(block, _EXPANSION * len(block) + 64)
    raise WireError(f"compression type {compression} is not known")


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(block) < 4:
        raise WireError("a block is too short")
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    if end < 0:
        raise WireError("a block has more restart points than bytes")
    at, key = 0, b""
    while at < end:
        shared, at = read_varint(block, at)
        own, at = read_varint(block, at)
        size, at = read_varint(block, at)
        if shared > len(key) or own + size > end - at:
            raise WireError("an entry is not inside its block")
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, block[at : at + size]
        at += size


class _BlockBuilder:
    def __init__(self, restart_every: int) -> None:
        self.restart_every = restart_every
        self.data, self.restarts, self.entries, self.last = bytearray(), [0], 0, b""

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self.entries and self.entries % self.restart_every == 0:
            self.restarts.append(len(self.data))
        elif self.entries:
            while shared < min(len(key), len(self.last)) and key[shared] == self.last[shared]:
                shared += 1
        self.data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        self.last = key
        self.entries += 1

    def finish(self) -> bytes:
        """The block with its trailer, not compressed."""
        tail = b"".join(n.to_bytes(4, "little") for n in [*self.restarts, len(self.restarts)])
        block = bytes(self.data) + tail + b"\0"
        return block + mask(crc32c(block)).to_bytes(4, "little")


def build_table(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Make a table of (key, value) pairs that come in the order of their keys."""
    out = bytearray()

    def write(block: _BlockBuilder) -> bytes:
        data = block.finish()
        handle = varint(len(out)) + varint(len(data) - _TRAILER)
        out.extend(data)
        return handle

    index, block = _BlockBuilder(1), _BlockBuilder(_RESTART_EVERY)
    for key, value in entries:
        block.add(key, value)
        if len(block.data) >= _BLOCK_BYTES:
            index.add(block.last, write(block))
            block = _BlockBuilder(_RESTART_EVERY)
    if block.entries:
        index.add(block.last, write(block))
    handles = write(_BlockBuilder(_RESTART_EVERY)) + write(index)
    return bytes(out) + handles.ljust(_FOOTER - len(MAGIC), b"\0") + MAGIC
