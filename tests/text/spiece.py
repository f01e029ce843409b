"""SentencePiece model files for tests: written by hand, or trained on a few sentences."""

import io
import json
import random
import struct
from pathlib import Path

from tests.text.hard_texts import HARD_TEXTS, random_text

from kexue._protobuf import put_bytes, put_fixed32, put_varint, varint

NORMAL, UNKNOWN, CONTROL, SYMBOL, UNUSED, BYTE = range(1, 7)

SENTENCES = [
    "I paid 1,000 dollars in 2,019, twice.",
    "the quick brown fox jumps over the lazy dog's back",
    "他说``hello''，好",
    "今天天气不错，我们去北京吧",
    "a  b   c",
    "  lead",
    "trail  ",
]


def number(field: int, value: int) -> bytes:
    """A number field that is written even when zero (`put_varint` leaves zero out)."""
    return varint(field << 3) + varint(value)


def charsmap(rules: dict[str, str]) -> bytes:
    """Compile rules: every node of the trie gets a block of 256 units of its own, which wastes space but is valid."""
    nodes: dict[bytes, int] = {b"": 0}
    for key in rules:
        data = key.encode()
        for size in range(1, len(data) + 1):
            nodes.setdefault(data[:size], len(nodes))
    blob, places = b"", {}
    for key, value in rules.items():
        places[key.encode()] = len(blob)
        blob += value.encode() + b"\0"
    # The children of node n lie in block n + 1, at their last byte; a value lies there at byte 0.
    units = [0] * (256 * (len(nodes) + 1))
    for prefix, index in nodes.items():
        block = 256 * (index + 1)
        label = prefix[-1] if prefix else 0
        at = 256 * (nodes[prefix[:-1]] + 1) + label if prefix else 0
        units[at] = (at ^ block) << 10 | (prefix in places) << 8 | label
        if prefix in places:
            units[block] = places[prefix] | 1 << 31
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + blob


def model_bytes(
    pieces: list[tuple[str, float, int]],
    *,
    kind: int = 1,
    byte_fallback: bool = False,
    rules: bytes = b"",
    prefix: bool = True,
    strip: bool = True,
    trainer: bytes = b"",
    normalizer: bytes = b"",
) -> bytes:
    out = b""
    for piece, score, what in pieces:
        bits = struct.unpack("<I", struct.pack("<f", score))[0]
        out += put_bytes(1, put_bytes(1, piece.encode()) + put_fixed32(2, bits) + put_varint(3, what))
    out += put_bytes(2, number(3, kind) + number(35, int(byte_fallback)) + trainer)
    return out + put_bytes(3, put_bytes(2, rules) + number(3, int(prefix)) + number(4, int(strip)) + normalizer)


def write(folder: Path, file: str, data: bytes, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(data)
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def corpus() -> list[str]:
    rng = random.Random(0)
    texts = (SENTENCES + HARD_TEXTS) * 5 + [random_text(rng) for _ in range(100)]
    return [text for text in texts if text.strip()]


def train(**settings: object) -> bytes:
    """A model of the package sentencepiece, about 500 pieces."""
    import sentencepiece

    out = io.BytesIO()
    defaults = {"vocab_size": 500, "hard_vocab_limit": settings.get("model_type") == "bpe", "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=out, **(defaults | settings)
    )
    return out.getvalue()
