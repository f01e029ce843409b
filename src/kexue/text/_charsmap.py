"""Checking the compiled normalisation rules of a SentencePiece model.

Layout: size of the trie in bytes (4 bytes, little endian), the trie, the replacements as UTF-8 strings ended by NUL.
The trie is a double array (Aoe 1989): the unit at ``i`` with offset ``o`` has its child for byte ``b`` at
``i ^ o ^ b``, where the label of the unit must be ``b``; the child for byte 0 holds the value, the place of the
replacement. The Rust library follows these links without looking at the bounds and would abort on a damaged file,
so every link that can be reached is followed here first.
"""

import numpy as np

__all__ = ["check_charsmap"]

_HAS_VALUE = np.uint32(1 << 8)
_WIDE = np.uint32(1 << 9)
_LABEL = np.uint32(1 << 31 | 0xFF)
_VALUE = np.uint32((1 << 31) - 1)
_BYTES = np.arange(1, 256, dtype="uint32")


def check_charsmap(data: bytes) -> None:
    """Raise ValueError if following the rules could leave the data; no rules at all are fine."""
    if not data:
        return
    size = int.from_bytes(data[:4], "little")
    if len(data) < 4 or size % 4 or not 0 < size <= len(data) - 4:
        raise ValueError("the normalisation rules are cut off")
    units = np.frombuffer(data, "<u4", count=size // 4, offset=4)
    try:
        replacements = data[4 + size :].decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the replacements of the normalisation rules are not UTF-8") from None
    starts = np.zeros(len(data) - 4 - size + 1, bool)  # places where a character begins
    blob = np.frombuffer(data, "uint8", offset=4 + size)
    starts[:-1] = (blob & 0xC0) != 0x80
    nodes = np.zeros(1, "uint32")  # the root
    seen = np.zeros(len(units), bool)  # units are shared: keys with equal ends run together
    while len(nodes):
        seen[nodes] = True
        parents = units[nodes]
        base = nodes ^ _offsets(parents)
        if int((base | 0xFF).max()) >= len(units):
            raise ValueError("the trie of the normalisation rules points outside itself")
        if nodes[0]:  # the value of the root, the empty text, is never looked up
            values = units[base[(parents & _HAS_VALUE) != 0]] & _VALUE
            if len(values) and (int(values.max()) >= len(replacements.encode()) or not starts[values].all()):
                raise ValueError("the trie of the normalisation rules points outside the replacements")
        children = base[:, None] ^ _BYTES
        nodes = np.unique(children[(units[children] & _LABEL) == _BYTES])
        nodes = nodes[~seen[nodes]]


def _offsets(units: np.ndarray) -> np.ndarray:
    return (units >> np.uint32(10)) << ((units & _WIDE) >> np.uint32(6))
