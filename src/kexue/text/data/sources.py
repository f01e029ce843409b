"""Bytes and lines of a data file: plain, ``.gz``, ``.xz``, or a member of a ``.zip``."""

import gzip
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from kexue.errors import DataError

__all__ = ["DataWarning", "read_lines", "read_source"]

_SPLITS = {
    "train": {"train", "training"},
    "valid": {"valid", "validation", "val", "dev", "devel"},
    "test": {"test", "testing", "eval"},
}


class DataWarning(UserWarning):
    """Something in a data set was repaired or left out."""


def read_source(path: str | os.PathLike[str], split: str | None = None) -> tuple[str, bytes]:
    """Name (for messages) and uncompressed content of a data file.

    Args:
        path: a file; ``archive.zip`` with one file in it; ``archive.zip/member``; or, with ``split``, a folder or an
            archive with several files.
        split: ``"train"``, ``"valid"`` (also found as dev) or ``"test"``: picks the one file of a folder or archive
            whose name has that word.

    Raises:
        DataError: no such file, several candidates, or a broken archive; the message lists what there is.
    """
    path = Path(path)
    archive, member = _archive(path)
    if archive is not None:
        return _read_zip(archive, member, split)
    if path.is_dir():
        files = {file.name: file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")}
        path = files[_choose(str(path), list(files), split)]
        if path.suffix == ".zip":
            return _read_zip(path, None, split)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        elif data[:6] == b"\xfd7zXZ\x00":
            data = lzma.decompress(data)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path}: cannot be read, is the file complete? ({error})") from None
    return str(path), data


def read_lines(name: str, data: bytes) -> list[str | None]:
    r"""The lines of a UTF-8 file, ended by ``\n`` or ``\r\n``; None stands for a line that is not valid UTF-8."""
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{name}:1: the file is UTF-16. Convert it to UTF-8")
    raw = data.split(b"\n")
    try:  # one decoding for all lines is much faster
        lines: list[str | None] = list(data.decode("utf-8").split("\n"))
    except UnicodeDecodeError:
        lines = [_decoded(line) for line in raw]
    return [line[:-1] if line is not None and line.endswith("\r") else line for line in lines]


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _archive(path: Path) -> tuple[Path | None, str | None]:
    """Split ``folder/a.zip/b/c.txt`` into the archive and the member."""
    for parent in (path, *path.parents):
        if parent.suffix.lower() == ".zip" and parent.is_file():
            member = path.relative_to(parent).as_posix()
            return parent, None if member == "." else member
    return None, None


def _read_zip(archive: Path, member: str | None, split: str | None) -> tuple[str, bytes]:
    try:
        with zipfile.ZipFile(archive) as file:
            names = [
                name
                for name in file.namelist()
                if not name.endswith("/")
                and not name.startswith("__MACOSX/")
                and not PurePosixPath(name).name.startswith(".")
            ]
            if member is None:
                member = _choose(str(archive), names, split)
            elif member not in names:
                ends = [name for name in names if name.endswith("/" + member)]
                if len(ends) != 1:
                    raise DataError(f"{archive}: no member {member!r}. There are: {', '.join(names)}")
                member = ends[0]
            return f"{archive}/{member}", file.read(member)
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{archive}: cannot be read, is the archive complete? ({error})") from None


def _choose(place: str, names: Sequence[str], split: str | None) -> str:
    if split is not None:
        words = _SPLITS.get(split, {split})
        names = [name for name in names if words & set(re.split(r"[^a-z0-9]+", PurePosixPath(name).name.lower()))]
    if len(names) == 1:
        return names[0]
    wanted = "exactly one file" if split is None else f"exactly one file of the split {split!r}"
    hint = "name the file, e.g. archive.zip/member" if split is None else "name the file instead"
    raise DataError(f"{place}: expected {wanted}, found {len(names)}: {', '.join(names) or 'none'}. Please {hint}")
