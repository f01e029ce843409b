"""What the commands share: errors as one line, warnings as one line, JSON, loading a task."""

import errno
import functools
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer

from kexue.errors import ConfigError, KexueError
from kexue.files import atomic_write, for_json

__all__ = [
    "Options",
    "chunks",
    "die",
    "dumps",
    "guarded",
    "interactive",
    "interruptible",
    "load_task",
    "note",
    "one_line",
    "start_keras",
    "warn",
    "write_json",
    "write_lines",
]

Function = TypeVar("Function", bound=Callable[..., None])
Item = TypeVar("Item")

_CHUNK = 512  # texts read before the next prediction

# What a wrong path, missing rights or a full disk raise; other errors of the system are not the user's mistake.
_PATH_ERRORS = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
}


def one_line(message: object) -> str:
    """The message without line breaks."""
    return " ".join(str(message).split())


def note(message: str) -> None:
    """A remark for people, on stderr so that stdout stays clean for programs."""
    typer.echo(message, err=True)


def warn(message: object) -> None:
    """One line on stderr."""
    typer.secho("Warning: ", fg="yellow", nl=False, err=True)
    typer.echo(one_line(message), err=True)


def die(message: object, code: int = 2) -> NoReturn:
    """One line on stderr, then exit."""
    typer.secho("Error: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(one_line(message), err=True)
    raise typer.Exit(code)


def guarded(function: Function) -> Function:
    """Turn a user's mistakes into one line and exit code 2, and Ctrl-C into exit code 130."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        debug = os.environ.get("KEXUE_DEBUG", "") not in ("", "0")
        try:
            with _warnings_as_lines(), _interrupts_arrive():
                function(*args, **kwargs)
                sys.stdout.flush()
        except BrokenPipeError:  # the reader of our output has gone, as in `kexue predict ... | head`
            _drop_stdout()
            raise typer.Exit(128 + 13) from None
        except KeyboardInterrupt:
            if debug:
                raise
            die("interrupted.", 130)
        except KexueError as error:
            if debug:
                raise
            die(error)
        except OSError as error:
            if debug or error.errno not in _PATH_ERRORS:
                raise
            names = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
            die(f"{names}: {error.strerror}" if names else error.strerror)

    return command  # type: ignore[return-value]


def _drop_stdout() -> None:
    """Whatever is still buffered goes nowhere, or the interpreter would complain when it flushes at exit."""
    with suppress(OSError, ValueError):  # not a real file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Warnings that kexue raises, about data and checkpoints, become one line each; others are left as they are."""
    show = warnings.showwarning
    own = str(Path(__file__).parents[1])

    def line(*arguments: Any) -> None:  # message, category, file name, line number, file, line
        if arguments[2].startswith(own):
            warn(arguments[0])
        else:
            show(*arguments)

    with warnings.catch_warnings():
        warnings.showwarning = line  # type: ignore[assignment]
        yield


@contextmanager
def _interrupts_arrive() -> Iterator[None]:
    """Python drops what is raised in a finalizer or a callback of its garbage collector, and JAX has some: a Ctrl-C
    that comes just then would be lost. It is sent once more."""
    usual = sys.unraisablehook

    def hook(dropped: Any) -> None:
        if dropped.exc_type is not KeyboardInterrupt:
            usual(dropped)
            return
        later = threading.Timer(0.05, _interrupt)
        later.daemon = True
        later.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = usual


def _interrupt() -> None:
    """A Ctrl-C for the main thread, whatever it waits for."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:  # Windows
        signal.raise_signal(signal.SIGINT)


def start_keras() -> None:
    """Import Keras, with a plain message where the chosen backend is not installed.

    Raises:
        ConfigError: the backend that ``KERAS_BACKEND`` names does not exist or is not installed.
    """
    try:
        import keras  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"Keras cannot start: the module {error.name!r} is not installed "
            f"(KERAS_BACKEND={os.environ.get('KERAS_BACKEND', 'not set')}). Install it or choose another backend."
        ) from error
    except ValueError as error:
        backend = os.environ.get("KERAS_BACKEND")
        if backend in ("jax", "torch", "tensorflow", "numpy", "openvino"):
            raise
        raise ConfigError(f"KERAS_BACKEND={backend} is no backend: {error}") from error


@dataclass(frozen=True)
class Options:
    """The options of a command; a dataclass of its own has them as fields."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}


def write_json(path: Path, value: Any) -> None:
    """A file of indented JSON, whole or not at all; numbers that are not finite, which JSON has not, are null."""
    with atomic_write(path) as file:
        file.write_text(dumps(for_json(value), indent=2) + "\n", encoding="utf-8")


def write_lines(path: Path, records: Iterable[Any]) -> None:
    """A file of JSON Lines, whole or not at all."""
    with atomic_write(path) as file:
        file.write_text("".join(dumps(record) + "\n" for record in records), encoding="utf-8")


def chunks(items: Iterator[Item], batch_size: int) -> Iterator[list[Item]]:
    """Items in lists, so that memory does not grow with the input; one by one where a person types them."""
    size = 1 if sys.stdin.isatty() else max(_CHUNK, batch_size)
    while part := list(islice(items, size)):
        yield part


def load_task(folder: Path) -> Any:
    """A saved task.

    Raises:
        KexueError: there is none in the folder, or it is broken.
    """
    start_keras()
    from kexue.tasks import load

    return load(folder)


def interactive() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def interruptible(
    run: Callable[..., None], settings: Any, *, restart: bool, place: str = "where the state was last saved"
) -> None:
    """Run a training; Ctrl-C says how to go on."""
    try:
        run(settings, restart=restart)
    except KeyboardInterrupt:
        die(f"interrupted. The same command goes on {place}; --restart begins anew.", 130)


def dumps(value: Any, **options: Any) -> str:
    """JSON with readable Chinese; lone surrogates, which cannot be written as UTF-8, as escapes."""
    text = json.dumps(value, ensure_ascii=False, **options)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, **options)
    return text
