"""CRC-32C (Castagnoli) of large buffers at memory speed with NumPy.

A CRC is linear over GF(2): with register ``s`` and message ``m`` the register after ``s, m`` is
``Z^len(m) s + crc0(m)``, where the 32 x 32 bit matrix ``Z`` feeds one zero byte. So the message is cut into rows of
``W`` bytes and folded: ``row_{i+1} ^= Z^W row_i`` on all words of a row at once leaves one row with the same CRC as
the whole message. ``Z^W`` of a word takes two look-ups, one for each half of it. Rows of 64 KiB, then of 1 KiB, and
the rest byte by byte.

The polynomial is the one of RFC 3720; the reflected form 0x82F63B78 is used.
"""

from functools import lru_cache

import numpy as np

__all__ = ["crc32c", "extend", "mask", "unmask"]

_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_ROWS = (1 << 16, 1 << 10)  # bytes in a row, both powers of two


def _byte_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return table


_TABLE = _byte_table()


def _times(columns: list[int], vector: int) -> int:
    """Matrix (as its 32 columns) times bit vector over GF(2)."""
    result, i = 0, 0
    while vector:
        if vector & 1:
            result ^= columns[i]
        vector >>= 1
        i += 1
    return result


@lru_cache(maxsize=len(_ROWS))
def _fold_tables(width: int) -> tuple[np.ndarray, np.ndarray]:
    """``Z^width`` as two tables, for the low and the high half of a word."""
    columns = [_TABLE[(1 << i) & 0xFF] ^ ((1 << i) >> 8) for i in range(32)]
    for _ in range(width.bit_length() - 1):  # squared: 1, 2, 4, ... width bytes
        columns = [_times(columns, column) for column in columns]
    halves = []
    for half in (columns[:16], columns[16:]):
        table = np.zeros(1, np.uint32)
        for column in half:
            table = np.concatenate([table, table ^ np.uint32(column)])
        halves.append(table)
    return halves[0], halves[1]


def _fold(data: np.ndarray, width: int, register: int) -> np.ndarray:
    """Shorten a message of two rows or more to less than two; its CRC from zero is that of ``data`` from register."""
    rows = data.size // width
    low, high = _fold_tables(width)
    words = data[: rows * width].view("<u4").reshape(rows, width // 4)
    state = words[0].astype("<u4")
    state[0] ^= np.uint32(register)  # a register is the same as the register added to the first four bytes
    for row in words[1:]:
        halves = state.view("<u2")
        state = low.take(halves[0::2])
        state ^= high.take(halves[1::2])
        state ^= row
    return np.concatenate([state.view(np.uint8), data[rows * width :]])


def extend(crc: int, data: bytes | bytearray | memoryview | np.ndarray) -> int:
    """CRC-32C of a message that goes on, from the CRC of its beginning and the bytes that follow."""
    array = data.reshape(-1).view(np.uint8) if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    register = crc ^ 0xFFFFFFFF
    for width in _ROWS:
        if array.size >= 2 * width:
            array = _fold(array, width, register)
            register = 0
    for byte in array.tobytes():
        register = _TABLE[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFFFFFF


def crc32c(data: bytes | bytearray | memoryview | np.ndarray) -> int:
    """CRC-32C of a whole message (of an array: of its bytes in C order).

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    return extend(0, data)


def mask(crc: int) -> int:
    """The form in which LevelDB tables store a CRC (so that a CRC of data with CRCs in it stays useful)."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def unmask(masked: int) -> int:
    """Inverse of `mask`."""
    rotated = (masked - _MASK_DELTA) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF
