"""Writing files so that a crash never leaves a half-written one, and no two processes write the same ones."""

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kexue.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["SHIPPED", "atomic_folder", "atomic_write", "folder_lock", "for_json", "shipped"]

SHIPPED = ("zh-mini",)
"""Checkpoints that come with kexue."""

_HELD: dict[Path, int] = {}
"""Folders that this process holds, and how many times over."""


def _mode(default: int) -> int:
    mask = os.umask(0)
    os.umask(mask)
    return default & ~mask


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the block succeeds, delete it otherwise.

    The data is flushed to the disk before the rename, so that a power cut leaves either the old or the new file.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(0o666))  # mkstemp makes it private
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, last: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; its files appear in ``path`` only if the block succeeds.

    A new folder appears by one rename. In a folder that exists, each file replaces its namesake by a rename and
    everything else stays; the file called ``last`` (what readers open first) goes last.
    """
    target = Path(path)
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} is a file; a folder was to be written there")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        yield temporary
        os.chmod(temporary, _mode(0o777))
        if not target.exists():
            os.replace(temporary, target)
            return
        for entry in sorted(temporary.iterdir(), key=lambda entry: (entry.name == last, entry.name)):
            place = target / entry.name
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            os.replace(entry, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def shipped(path: str | os.PathLike[str]) -> Path:
    """The folder of a checkpoint that comes with kexue where ``path`` is its name, and ``path`` itself otherwise.

    A file or folder of the user's that is called so goes first.
    """
    if str(path) in SHIPPED and not Path(path).exists():
        return Path(__file__).parent / "pretrained" / str(path)
    return Path(path)


@contextmanager
def folder_lock(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the folder ``path`` for this process; it is created where it does not exist.

    The lock is the kernel's, on the file ``.lock`` there (which stays): it ends with the block or with the process,
    however that dies, so no stale one can be left behind. The same process may take it again inside. Where there are
    no such locks (Windows, some network file systems) nothing is held and nothing refused.

    Raises:
        ConfigError: another process holds it.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    key = folder.resolve()
    if fcntl is None or key in _HELD:
        _HELD[key] = _HELD.get(key, 0) + 1
        try:
            yield
        finally:
            _release(key)
        return
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, _mode(0o666))
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise ConfigError(
                    f"another process works in {folder}. Wait until it is done, stop it, or give another folder."
                ) from None
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
        _HELD[key] = 1
        try:
            yield
        finally:
            _release(key)
    finally:
        os.close(handle)  # which ends the lock


def _release(key: Path) -> None:
    _HELD[key] -= 1
    if not _HELD[key]:
        del _HELD[key]


def for_json(value: Any) -> Any:
    """The value with None for numbers that are not finite: JSON has none."""
    if isinstance(value, dict):
        return {key: for_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
