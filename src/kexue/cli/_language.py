"""What ``fill`` and ``sample`` share: a masked language model, texts, a line on the terminal while they work."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from kexue.cli._common import die, note, one_line, start_keras
from kexue.errors import CheckpointError, ConfigError, DataError

__all__ = ["check_length", "check_temperature", "check_text", "load_language", "note_unknown", "status", "texts_from"]


def load_language(model: str, mask: str | None = None) -> tuple[Any, Any]:
    """Model with the head ``lm``, and its tokenizer.

    Raises:
        KexueError: no such checkpoint, no head, no ``[MASK]``.
    """
    start_keras()
    from kexue.files import shipped
    from kexue.models import Transformer
    from kexue.text import Tokenizer

    if not Path(shipped(model)).exists():
        raise CheckpointError(f"{model}: no such folder. Give a checkpoint folder, or zh-mini, which comes with kexue.")
    tokenizer = Tokenizer.from_pretrained(model)
    if tokenizer.mask_id is None:
        raise ConfigError(f"{model} has no [MASK] token; a masked language model is needed, such as BERT or zh-mini.")
    return Transformer.from_pretrained(model, head="lm", mask=mask), tokenizer


def check_text(tokenizer: Any, text: str, what: str = "the text") -> list[int]:
    """Ids of a text without special tokens.

    Raises:
        DataError: not UTF-8, or nothing that the vocabulary can name.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{what} is not valid UTF-8.") from None
    ids = [int(i) for i in tokenizer.plain_pieces([text])[0].ids]
    if not ids:
        raise DataError(f"{what} is empty. Received: {text!r:.60}")
    return ids


def check_length(network: Any, tokens: int, what: str = "the text") -> None:
    """Raise where so many tokens, with one before and after, are more than the model was trained for.

    Raises:
        ConfigError: too many.
    """
    limit = network.config.max_length
    if tokens + 2 > limit:
        raise ConfigError(f"{what} has {tokens} tokens, the model takes {limit - 2}. Shorten it.")


def check_temperature(value: float) -> None:
    """Raise where draws at this temperature are beyond the numbers of the machine, or none at all.

    Raises:
        ConfigError: out of range.
    """
    if not 1e-3 <= value <= 1e3:
        raise ConfigError(f"--temperature must be above 0, from 0.001 to 1000. Received: {value:g}")


def note_unknown(tokenizer: Any, ids: list[int], what: str) -> None:
    """Say how many tokens the vocabulary does not know."""
    unknown = sum(token == tokenizer.unk_id for token in ids)
    if unknown:
        note(f"{what}: {unknown} token(s) that the vocabulary does not know, read as [UNK].")


def texts_from(text: list[str] | None, what: str) -> list[str]:
    """Texts of the command line, or lines of stdin for a single ``-``; empty lines are left out."""
    if not text:
        die(f"Nothing to do: give {what}, or - for lines of stdin.")
    if text != ["-"]:
        return text
    found = []
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            decoded = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            raise DataError(f"stdin:{number}: not valid UTF-8. Convert it to UTF-8.") from None
        if decoded:
            found.append(decoded)
    if not found:
        raise DataError("stdin holds no text.")
    return found


@contextmanager
def status() -> Iterator[Any]:
    """A line on stderr that is written over, on a terminal; nothing elsewhere: ``show(step, steps, text)``."""
    live = sys.stderr.isatty()

    def show(step: int, steps: int, text: str) -> None:
        if live:
            typer.echo(f"\r\x1b[K{step}/{steps}  {one_line(text)[:60]}", err=True, nl=False)

    try:
        yield show
    finally:
        if live:
            typer.echo("\r\x1b[K", err=True, nl=False)
