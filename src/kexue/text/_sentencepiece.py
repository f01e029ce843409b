"""A SentencePiece model file as data: pieces, scores, the rules of its normaliser. Nothing but bytes is needed.

Wire format: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
"""

import math
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from kexue._protobuf import WireError, as_signed, fields
from kexue.errors import DataError
from kexue.text._charsmap import check_charsmap

__all__ = ["Kind", "SentencePieceModel", "read_sentencepiece"]

_UNIGRAM, _BPE = 1, 2


class Kind(IntEnum):
    """What a piece is."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_KINDS = {int(kind): kind for kind in Kind}  # quicker than Kind(number), and there are 250,000 pieces in mT5


@dataclass(frozen=True)
class SentencePieceModel:
    """What a model file says.

    Attributes:
        pieces: text of every piece; id = position.
        scores: log probability (unigram) or minus the rank of the merge (BPE).
        kinds: see `Kind`.
        bpe: BPE, else unigram.
        byte_fallback: a character without a piece becomes its UTF-8 bytes.
        charsmap: compiled normalisation, empty for none.
        dummy_prefix: a space is put before the text.
        strip_spaces: spaces at the ends go, several in a row become one.
    """

    pieces: list[str]
    scores: list[float]
    kinds: list[Kind]
    bpe: bool
    byte_fallback: bool
    charsmap: bytes
    dummy_prefix: bool
    strip_spaces: bool

    @property
    def unknown(self) -> int:
        """Id of the piece for unknown characters."""
        return self.kinds.index(Kind.UNKNOWN)


@dataclass
class _Raw:
    """The fields while they are read, with the defaults of the format."""

    pieces: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    trainer: dict[int, int] = field(default_factory=lambda: {3: _UNIGRAM, 24: 0, 35: 0})
    rules: dict[int, int] = field(default_factory=lambda: {3: 1, 4: 1, 5: 1})
    charsmap: bytes = b""


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Read a ``spiece.model``, ``spm.model``, ``tokenizer.model`` or ``sentencepiece.bpe.model``.

    Raises:
        DataError: the file is damaged, or uses what kexue has no counterpart for (word and character models, white
            space as a suffix, unescaped white space, pieces marked unused).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        raw = _parse(data)
        model = _checked(raw)
        check_charsmap(model.charsmap)
    except (WireError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path}: not a valid SentencePiece model ({error})") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return model


def _parse(data: bytes) -> _Raw:
    raw = _Raw()
    for number, value in fields(data):
        if number == 1:
            _parse_piece(raw, _message(value))
        elif number == 2:
            _parse_numbers(raw.trainer, _message(value))
        elif number == 3:
            rules = _message(value)
            _parse_numbers(raw.rules, rules)
            for inner, content in fields(rules):
                if inner == 2:
                    raw.charsmap = _message(content)
    return raw


def _parse_piece(raw: _Raw, data: bytes) -> None:
    piece, score, kind = b"", 0.0, int(Kind.NORMAL)
    for number, value in fields(data):
        if number == 1:
            piece = _message(value)
        elif number == 2:
            score = struct.unpack("<f", _number(value).to_bytes(8, "little")[:4])[0]
        elif number == 3:
            kind = _number(value)
    if kind not in _KINDS:
        raise WireError(f"piece {len(raw.pieces)} is of the unknown kind {kind}")
    raw.pieces.append(piece.decode("utf-8"))
    raw.scores.append(score)
    raw.kinds.append(_KINDS[kind])


def _parse_numbers(into: dict[int, int], data: bytes) -> None:
    for number, value in fields(data):
        if number in into:
            into[number] = as_signed(_number(value))


def _message(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise WireError("a number where text or a message belongs")
    return value


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise WireError("text or a message where a number belongs")
    return value


def _checked(raw: _Raw) -> SentencePieceModel:
    if not raw.pieces:
        raise ValueError("it holds no pieces")
    seen: dict[str, int] = {}
    for index, piece in enumerate(raw.pieces):
        if not piece:
            raise ValueError(f"piece {index} is empty")
        if piece in seen:
            raise ValueError(f"the piece {piece!r} stands twice, at {seen[piece]} and {index}")
        if not math.isfinite(raw.scores[index]):
            raise ValueError(f"the score of {piece!r} is {raw.scores[index]}")
        seen[piece] = index
    unknown = raw.kinds.count(Kind.UNKNOWN)
    if unknown != 1:
        raise ValueError(f"exactly one piece must stand for unknown characters, there are {unknown}")
    trainer, rules = raw.trainer, raw.rules
    if trainer[3] not in (_UNIGRAM, _BPE):
        raise DataError(f"only unigram and BPE models can be read. Received: model_type={trainer[3]} (3 word, 4 char)")
    if trainer[24]:
        raise DataError("models with white space as a suffix (treat_whitespace_as_suffix) cannot be read")
    if not rules[5]:
        raise DataError("models with unescaped white space (escape_whitespaces=false) cannot be read")
    if Kind.UNUSED in raw.kinds:
        raise DataError(f"pieces marked unused cannot be read, {raw.kinds.count(Kind.UNUSED)} of them are here")
    if trainer[35]:
        missing = [f"<0x{byte:02X}>" for byte in range(256) if f"<0x{byte:02X}>" not in seen]
        if missing:
            raise ValueError(f"byte fallback needs 256 byte pieces, {len(missing)} lack, such as {missing[0]}")
    return SentencePieceModel(
        pieces=raw.pieces,
        scores=raw.scores,
        kinds=raw.kinds,
        bpe=trainer[3] == _BPE,
        byte_fallback=bool(trainer[35]),
        charsmap=raw.charsmap,
        dummy_prefix=bool(rules[3]),
        strip_spaces=bool(rules[4]),
    )
