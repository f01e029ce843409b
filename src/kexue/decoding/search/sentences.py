"""Sentences that a search changes: tokens, some of which belong to keywords and stay; and what makes one good."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kexue.errors import ConfigError

__all__ = ["Scores", "Sentence", "Sentences", "Slots", "smaller", "target", "with_keywords"]

Sentences = Sequence[Sequence[int]]

Scores = Callable[[Sentences], Any]
"""``sentences -> (n,)`` log-probabilities."""

Slots = Callable[[Sentences, Sentences], Any]
"""``(lefts, rights) -> (n, V)`` log-probabilities of the token between what stands left and right of it."""


@dataclass(frozen=True)
class Sentence:
    """A state of CGMH.

    Args:
        tokens: ids.
        keywords: for each token 0, or the number of the keyword (from 1) that it belongs to. Tokens of keywords are
            neither replaced nor deleted, and nothing is inserted inside one. Empty: none.
    """

    tokens: tuple[int, ...]
    keywords: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.keywords:
            object.__setattr__(self, "keywords", (0,) * len(self.tokens))
        if len(self.keywords) != len(self.tokens):
            raise ConfigError(
                f"keywords must have a number for each token. Received: {len(self.keywords)} for {len(self.tokens)}"
            )

    def __len__(self) -> int:
        return len(self.tokens)

    def free(self) -> list[int]:
        """Places whose token may be replaced or deleted."""
        return [i for i, keyword in enumerate(self.keywords) if not keyword]

    def gaps(self) -> list[int]:
        """Places where a token may be inserted: before token i, or at the end."""
        last = len(self.tokens)
        inside = (
            0 < i < last and self.keywords[i] and self.keywords[i - 1] == self.keywords[i] for i in range(last + 1)
        )
        return [i for i, keyword in enumerate(inside) if not keyword]

    def moved(self, kind: str, place: int, token: int | None) -> "Sentence":
        """After ``"replace"``, ``"insert"`` or ``"delete"`` at a place."""
        middle = () if token is None else (token,)
        after = place + (kind != "insert")
        return Sentence(
            self.tokens[:place] + middle + self.tokens[after:],
            self.keywords[:place] + (0,) * len(middle) + self.keywords[after:],
        )


def with_keywords(keywords: Sequence[Sequence[int]]) -> Sentence:
    """The sentence that consists of the keywords alone, each a sequence of ids."""
    if not keywords or not all(len(word) for word in keywords):
        raise ConfigError("needs at least one keyword, and none without tokens.")
    tokens = tuple(int(i) for word in keywords for i in word)
    return Sentence(tokens, tuple(n for n, word in enumerate(keywords, 1) for _ in word))


def target(language: Scores, *, gamma: float = 1.0, extra: Callable[[Any], Any] | None = None) -> Scores:
    """log rho = gamma log p(x) + extra(x).

    Args:
        language: log p of sentences.
        gamma: below 1 it weakens the preference of language models for short sentences (0.8 in the published program).
        extra: further factors, as logarithms: likeness to another sentence; 0 or minus infinity for a condition.
    """
    if not gamma >= 0:
        raise ConfigError(f"gamma must be 0 or more. Received: {gamma}")

    def score(sentences: Any) -> np.ndarray:
        logs = gamma * np.asarray(language(sentences), "float64")
        return logs if extra is None else logs + np.asarray(extra(sentences), "float64")

    return score


def smaller(first: Slots, second: Slots) -> Slots:
    """The smaller of two laws of a slot: a token must fit both (the paper's forward and backward models)."""
    return lambda lefts, rights: np.minimum(first(lefts, rights), second(lefts, rights))
