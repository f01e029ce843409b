"""CRC-32C against the published vectors and a bit-by-bit division."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue.checkpoints.crc32c import crc32c, extend, mask, unmask


def by_bits(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        for i in range(8):
            bit = (register ^ (byte >> i)) & 1
            register = (register >> 1) ^ (0x82F63B78 if bit else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # RFC 3720, B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_published_vectors(data, expected):
    assert crc32c(data) == expected


@pytest.mark.parametrize("size", [1, 2047, 2048, 2049, 3071, 5000, 131071, 131072, 131073, 200003])
def test_long_messages_equal_division_bit_by_bit(size):
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    assert crc32c(data) == by_bits(data.tobytes())


@settings(max_examples=30)
@given(st.integers(0, 300_000), st.integers(0, 300_000), st.integers(0, 2**32 - 1))
def test_a_message_may_come_in_two_parts(first, second, seed):
    data = np.random.default_rng(seed).integers(0, 256, first + second, dtype=np.uint8)
    assert extend(crc32c(data[:first]), data[first:]) == crc32c(data)


def test_an_array_counts_as_its_bytes_in_c_order():
    array = np.arange(30_000, dtype=np.float32).reshape(100, 300)
    assert crc32c(array.T) == crc32c(np.ascontiguousarray(array.T).tobytes())


@given(st.integers(0, 2**32 - 1))
def test_masking_is_reversible(crc):
    assert unmask(mask(crc)) == crc
    assert mask(crc) != crc
