"""What all checkpoint formats have in common: a lazy, read-only mapping from tensor names to arrays.

A reader checks the table of contents when it is opened (names, shapes, sizes against the size of the files) and the
data of a tensor when that tensor is read. Nothing is allocated before the size on disk was compared with the claim.
"""

import difflib
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import numpy as np

from kexue.checkpoints.dtypes import is_numeric
from kexue.errors import CheckpointError

__all__ = ["Checkpoint", "TensorSpec", "TensorSummary", "read_all", "summarize"]


@dataclass(frozen=True)
class TensorSpec:
    """What the table of contents says of one tensor; formats add where its bytes are."""

    shape: tuple[int, ...]
    dtype: np.dtype
    file: Path


@dataclass(frozen=True)
class TensorSummary:
    """One line of a tensor listing."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int  # number of elements
    nbytes: int  # 0 for text and opaque entries, whose size says nothing
    file: str  # file name without folder


class Checkpoint(Mapping[str, np.ndarray]):
    """A checkpoint on disk as a lazy, read-only mapping ``name -> array``.

    ``checkpoint[name]`` reads one tensor from disk, verifies whatever checksum the format has and returns an array
    of its own (nothing is cached); an unknown name or damaged data raises `CheckpointError`. Use it in a ``with``
    block or call `close`.

    Attributes:
        format: "tf", "safetensors" or "torch".
        path: the file (or index file, or TensorFlow prefix) that was opened.
    """

    format: ClassVar[str]

    def __init__(self, path: str | os.PathLike[str], specs: Mapping[str, TensorSpec]) -> None:
        self.path = Path(path)
        self._specs = dict(specs)

    @abstractmethod
    def _read(self, name: str, spec: TensorSpec) -> np.ndarray:
        """Read and verify one tensor."""

    @abstractmethod
    def close(self) -> None:
        """Close the files. Reading afterwards is an error; names, shapes and dtypes stay available."""

    def names(self) -> tuple[str, ...]:
        """All names, in the order of the file."""
        return tuple(self._specs)

    def spec(self, name: str) -> TensorSpec:
        """Shape, dtype and file of one tensor.

        Raises:
            CheckpointError: unknown name; the message has the nearest names.
        """
        try:
            return self._specs[name]
        except (KeyError, TypeError):
            near = difflib.get_close_matches(str(name), self._specs, n=3, cutoff=0.5)
            hint = f"Nearest names: {', '.join(map(repr, near))}." if near else "No name is similar."
            raise CheckpointError(
                f"{self.path}: expected a tensor named {name!r}, but the checkpoint has no such tensor "
                f"among its {len(self._specs)}. {hint} Use names() for the full list."
            ) from None

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one tensor, without reading it."""
        return self.spec(name).shape

    def dtype(self, name: str) -> np.dtype:
        """NumPy dtype of one tensor, without reading it; ``object`` for tensors of byte strings."""
        return self.spec(name).dtype

    def __getitem__(self, name: str) -> np.ndarray:
        return self._read(name, self.spec(name))

    def get(self, name: str, default: np.ndarray | None = None) -> np.ndarray | None:  # type: ignore[override]
        """The tensor, or ``default`` if there is none of this name; damaged data still raises."""
        return self[name] if name in self else default  # noqa: SIM401 this is get itself

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    # Mapping compares by content, which would read both files and then fail on arrays; identity is what is meant.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.path)!r}: {len(self)} tensors, format {self.format!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def summarize(checkpoint: Checkpoint) -> list[TensorSummary]:
    """List all tensors of a checkpoint without reading them."""
    lines = []
    for name in checkpoint:
        spec = checkpoint.spec(name)
        size = 1
        for n in spec.shape:
            size *= n
        nbytes = size * spec.dtype.itemsize if is_numeric(spec.dtype) else 0
        lines.append(TensorSummary(name, spec.shape, str(spec.dtype), size, nbytes, spec.file.name))
    return lines


def read_all(checkpoint: Checkpoint, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read several tensors, all or nothing.

    Args:
        checkpoint: an open checkpoint.
        names: what to read; None for every numeric tensor (byte strings and opaque entries, which a TensorFlow
            checkpoint may also hold, are left out).

    Returns:
        ``name -> array`` in the order of ``names``.

    Raises:
        CheckpointError: a name is unknown or a tensor is damaged; then nothing is returned at all.
    """
    if names is None:
        wanted = [name for name in checkpoint if is_numeric(checkpoint.dtype(name))]
    elif isinstance(names, str):
        wanted = [names]
    else:
        wanted = list(names)
    for name in wanted:  # an unknown name should be found before gigabytes are read
        checkpoint.spec(name)
    return {name: checkpoint[name] for name in wanted}
