"""A line that says how far the building of shards is; nothing where the output is no terminal."""

import sys
import time
from typing import Any

__all__ = ["Progress"]


class Progress:
    """Shows documents, tokens and tokens a second on standard error."""

    def __init__(self, wanted: bool) -> None:
        self._shown = wanted and sys.stderr.isatty()
        self._status: Any = None

    def __enter__(self) -> "Progress":
        if self._shown:
            from rich.console import Console

            self._status = Console(stderr=True).status("")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def start(self, name: str, documents: int) -> None:
        """A new corpus, of which some documents are done already."""
        self._name, self._documents, self._tokens, self._since = name, documents, 0, time.monotonic()

    def advance(self, documents: int, tokens: int) -> None:
        """So many more."""
        self._documents += documents
        self._tokens += tokens
        if self._status is not None:
            rate = self._tokens / max(time.monotonic() - self._since, 1e-9)
            self._status.update(
                f"{self._name}: {self._documents:,} documents, {self._tokens:,} tokens, {rate:,.0f} tokens/s"
            )
