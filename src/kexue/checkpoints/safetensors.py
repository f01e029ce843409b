"""Reader and atomic writer of safetensors files, single and sharded.

The format has no checksum of its own: what can be noticed in any file is damage to the header and a wrong size, not a
flipped bit in the numbers. Files written by kexue carry a CRC-32C for each tensor in the header's ``__metadata__``
(one text under the key ``kexue.crc32c``, which other libraries pass over); where it is present, every tensor that is
read is verified, together with its name, shape and dtype.
"""

import json
import os
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from kexue.checkpoints.base import Checkpoint, TensorSpec
from kexue.checkpoints.crc32c import crc32c, extend
from kexue.checkpoints.dtypes import BFLOAT16, FLOAT8_E4M3, FLOAT8_E5M2, array_from_bytes, count
from kexue.checkpoints.randomaccess import RandomAccessFile
from kexue.checkpoints.sharded import unique_table
from kexue.errors import CheckpointError

__all__ = ["CHECKSUM_KEY", "SAFETENSORS_DTYPES", "SafetensorsCheckpoint", "tensor_checksum"]

CHECKSUM_KEY = "kexue.crc32c"
SAFETENSORS_DTYPES: dict[str, np.dtype] = {
    code: np.dtype(kind)
    for code, kind in {
        "BOOL": np.bool_,
        "U8": np.uint8,
        "I8": np.int8,
        "F8_E5M2": FLOAT8_E5M2,
        "F8_E4M3": FLOAT8_E4M3,
        "I16": np.int16,
        "U16": np.uint16,
        "F16": np.float16,
        "BF16": BFLOAT16,
        "I32": np.int32,
        "U32": np.uint32,
        "F32": np.float32,
        "C64": np.complex64,
        "F64": np.float64,
        "I64": np.int64,
        "U64": np.uint64,
    }.items()
}
_MAX_HEADER = 100_000_000  # the limit of the safetensors library


@dataclass(frozen=True)
class _Spec(TensorSpec):
    offset: int
    size: int
    checksum: int | None


def tensor_checksum(name: str, shape: tuple[int, ...], dtype: str, data: np.ndarray) -> int:
    """CRC-32C over name, safetensors dtype, shape and bytes of a tensor."""
    label = json.dumps([name, dtype, list(shape)]).encode()
    return extend(crc32c(label), data)


class SafetensorsCheckpoint(Checkpoint):
    """One safetensors file.

    Attributes:
        metadata: the texts of the header's ``__metadata__``, without kexue's checksums.

    Raises:
        CheckpointError: missing, truncated, or the header is not valid.
    """

    format = "safetensors"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = RandomAccessFile(path)
        try:
            header, start = self._load_header()
            metadata = header.pop("__metadata__", {})
            if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
                raise self._broken("__metadata__ is not a table of texts")
            self.metadata: dict[str, str] = dict(metadata)
            super().__init__(path, self._specs_of(header, start, self._checksums(header)))
        except BaseException:
            self._file.close()
            raise

    def _broken(self, why: str) -> CheckpointError:
        return CheckpointError(
            f"{self._file.path}: no valid safetensors file: {why}. It is corrupt or of another format; copy it again."
        )

    def _load_header(self) -> tuple[dict[str, Any], int]:
        file = self._file
        if file.size < 10:  # length and "{}"
            raise self._broken(f"{file.size} bytes are too few")
        size = int.from_bytes(file.read(0, 8).tobytes(), "little")
        if size > min(_MAX_HEADER, file.size - 8):
            raise self._broken(f"the header claims {size} bytes, the file has {file.size}")
        try:
            header = json.loads(file.read(8, size).tobytes().decode(), object_pairs_hook=unique_table)
        except (ValueError, RecursionError) as error:  # bad JSON and bad UTF-8 are ValueErrors
            raise self._broken(f"the header is no valid JSON ({error})") from error
        if not isinstance(header, dict):
            raise self._broken("the header is not a table")
        return header, 8 + size

    def _checksums(self, header: dict[str, Any]) -> dict[str, int]:
        text = self.metadata.pop(CHECKSUM_KEY, None)
        if text is None:
            return {}
        try:
            sums = {name: int(value, 16) for name, value in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise self._broken(f"the checksums in {CHECKSUM_KEY} cannot be read ({error})") from error
        if set(sums) != set(header):
            odd = sorted(set(sums) ^ set(header))[0]
            raise self._broken(f"the checksums and the header do not name the same tensors (tensor {odd!r})")
        return sums

    def _specs_of(self, header: dict[str, Any], start: int, checksums: dict[str, int]) -> dict[str, TensorSpec]:
        specs: dict[str, TensorSpec] = {}
        ranges = []
        for name, info in header.items():
            where = f"{self._file.path}: tensor {name!r}"
            if not isinstance(info, dict) or set(info) != {"dtype", "shape", "data_offsets"}:
                raise CheckpointError(f"{where}: expected dtype, shape and data_offsets in the header.")
            code, shape, offsets = info["dtype"], info["shape"], info["data_offsets"]
            dtype = SAFETENSORS_DTYPES.get(code) if isinstance(code, str) else None
            if dtype is None:
                raise CheckpointError(
                    f"{where}: dtype {code!r} is not supported. Expected one of {', '.join(SAFETENSORS_DTYPES)}."
                )
            if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
                raise CheckpointError(f"{where}: shape and data_offsets must be lists in the header.")
            size = count(shape, where) * dtype.itemsize
            count(offsets, where)  # two whole numbers, not negative
            begin, end = offsets
            if end - begin != size:
                raise CheckpointError(
                    f"{where}: expected {size} bytes for shape {shape} and dtype {code}, received {end - begin}."
                )
            ranges.append((begin, end, name))
            specs[name] = _Spec(tuple(shape), dtype, self._file.path, start + begin, size, checksums.get(name))
        at = 0
        for begin, end, name in sorted(ranges):
            if begin != at:
                problem = "overlaps the tensor before it" if begin < at else "leaves a gap before it"
                raise CheckpointError(f"{self._file.path}: tensor {name!r}: its place in the file {problem}.")
            at = end
        if start + at != self._file.size:
            raise CheckpointError(
                f"{self._file.path}: expected a file of {start + at} bytes, it has {self._file.size}. "
                "It is truncated or corrupt; copy it again."
            )
        return specs

    def _read(self, name: str, spec: TensorSpec) -> np.ndarray:
        spec = cast(_Spec, spec)
        data = self._file.read(spec.offset, spec.size, f"tensor {name!r}")
        where = f"{self._file.path}: tensor {name!r}"
        if spec.checksum is not None:
            code = next(code for code, dtype in SAFETENSORS_DTYPES.items() if dtype == spec.dtype)
            if tensor_checksum(name, spec.shape, code, data) != spec.checksum:
                raise CheckpointError(f"{where}: the checksum does not match, the data is corrupt. Copy it again.")
        return array_from_bytes(data, spec.dtype, spec.shape, where)

    def close(self) -> None:
        self._file.close()
