"""What may be generated, as objects that combine with ``&``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from kexue.errors import ConfigError

__all__ = ["Both", "Constraint", "Source", "check_stop"]


@dataclass(frozen=True)
class Source:
    """What a constraint may know of a prompt: its tokens, and with a decoder those of the encoder."""

    tokens: np.ndarray
    encoder: np.ndarray | None = None

    @property
    def text(self) -> np.ndarray:
        """The tokens that a result is about: the encoder's, or the prompt's."""
        return self.tokens if self.encoder is None else self.encoder


class Constraint:
    """Base of all constraints: a state for each sequence, which says what may come next.

    States and tables are arrays, so that a constraint runs inside a compiled loop; another one of the same ``key`` and
    sizes needs no new compilation. `allowed` and `advance` are written with ``keras.ops``.
    """

    @property
    def key(self) -> Any:
        """What a compiled loop depends on, hashable: by default the object itself. Two whose methods do the same with
        their tables and states may share a key, and with it a program."""
        return self

    def hindered(self, stop: Sequence[int]) -> bool:
        """Whether it is known before the prompts are that no sequence without these stop tokens satisfies it."""
        return False

    def prepare(self, sources: Sequence[Source], vocabulary: int) -> tuple[dict[str, Any], Any]:
        """Tables, and the first states: an array or a tuple of arrays ``(batch, ...)``."""
        raise NotImplementedError

    def allowed(self, tables: dict[str, Any], state: Any, left: Any, vocabulary: int) -> tuple[Any, Any]:
        """Which token may come next, and whether the sequence may end.

        Args:
            tables: from `prepare`.
            state: arrays ``(batch, branches, ...)``.
            left: ``(batch, 1)`` int32, tokens that there is room for, a stop token among them.
            vocabulary: number of tokens.

        Returns:
            Booleans ``(batch, branches, vocabulary)`` and ``(batch, branches)``; the first is not asked about stop
            tokens.
        """
        raise NotImplementedError

    def advance(self, tables: dict[str, Any], state: Any, tokens: Any) -> Any:
        """The states after ``tokens`` (batch, branches)."""
        raise NotImplementedError

    def __and__(self, other: "Constraint") -> "Both":
        return Both(self, other)


class Both(Constraint):
    """Two constraints at once. Each looks at its own promise only: where they leave no common token, the sequence is a
    dead end."""

    def __init__(self, left: Constraint, right: Constraint) -> None:
        self.left, self.right = left, right

    @property
    def key(self) -> Any:
        return ("and", self.left.key, self.right.key)

    def hindered(self, stop: Sequence[int]) -> bool:
        return self.left.hindered(stop) or self.right.hindered(stop)

    def prepare(self, sources: Sequence[Source], vocabulary: int) -> tuple[dict[str, Any], Any]:
        a, b = self.left.prepare(sources, vocabulary), self.right.prepare(sources, vocabulary)
        return {"left": a[0], "right": b[0]}, (a[1], b[1])

    def allowed(self, tables: dict[str, Any], state: Any, left: Any, vocabulary: int) -> tuple[Any, Any]:
        a = self.left.allowed(tables["left"], state[0], left, vocabulary)
        b = self.right.allowed(tables["right"], state[1], left, vocabulary)
        return ops.logical_and(a[0], b[0]), ops.logical_and(a[1], b[1])

    def advance(self, tables: dict[str, Any], state: Any, tokens: Any) -> Any:
        return (
            self.left.advance(tables["left"], state[0], tokens),
            self.right.advance(tables["right"], state[1], tokens),
        )


def check_stop(constraint: Any, stop: Sequence[int]) -> None:
    """Whether sequences that satisfy a constraint can end.

    Raises:
        ConfigError: there is no stop token, or all that the constraint allows holds one.
    """
    if not isinstance(constraint, Constraint):
        raise ConfigError(f"constraint must be of kexue.decoding.constraints. Received: {constraint!r}")
    if not stop:
        raise ConfigError("a constraint needs a stop token: without one a sequence that satisfies it cannot end.")
    if constraint.hindered(stop):
        raise ConfigError(
            f"the constraint's texts hold a stop token (of {list(stop)}), which ends a sequence and stands in none: "
            "leave it out of them."
        )
