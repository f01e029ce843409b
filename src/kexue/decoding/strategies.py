"""How the next token is chosen: the most probable one, a random one, or beams."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kexue.decoding.arguments import EXTREME, amount, whole
from kexue.errors import ConfigError

__all__ = ["Beam", "Greedy", "Sample", "Search"]


def _checked(search: "Search", *names: str) -> None:
    """Make integers of any kind ``int``."""
    for name in names:
        object.__setattr__(search, name, whole(getattr(search, name), name))


@dataclass(frozen=True)
class Search:
    """Base of the three; ``branches`` go on from each prompt."""

    @property
    def branches(self) -> int:
        return 1

    @property
    def results(self) -> int:
        """Sequences that a prompt gets."""
        return self.branches

    @property
    def key(self) -> tuple[Any, ...]:
        """What a compiled loop depends on; all else is data."""
        return (type(self).__name__, self.branches)


@dataclass(frozen=True)
class Greedy(Search):
    """The most probable token at each step; the first of several."""


@dataclass(frozen=True)
class Sample(Search):
    """Random tokens. Filters in this order: temperature, ``top_k``, ``top_p``, ``min_p``; each renormalises.

    Args:
        temperature: p becomes ``p^(1/temperature)``.
        top_k: keep so many most probable tokens; 0 keeps all.
        top_p: of those keep the fewest most probable ones whose probabilities sum to at least ``top_p``, and what is as
            probable as the last of them.
        min_p: of those keep the ones at least ``min_p`` times as probable as the most probable one.
        n: samples for each prompt.
        seed: row r draws from ``seed + r``, its samples in turn, whatever batch, backend or bucket it is in. A
            sequence gives each row its own seed.

    Source: top-p, Holtzman et al., arXiv 1904.09751; min-p, Nguyen et al., 2407.01082.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    n: int = 1
    seed: int | Sequence[int] = 0

    def __post_init__(self) -> None:
        _checked(self, "top_k", "n")
        amount(self.temperature, "temperature", 1 / EXTREME, EXTREME, "; Greedy() is its limit at 0")
        if not isinstance(self.seed, int | np.integer) and np.ndim(self.seed) != 1:
            raise ConfigError(f"seed must be an integer or one for each prompt. Received: seed={self.seed!r:.80}")
        if self.top_k < 0 or not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1 or self.n < 1:
            raise ConfigError(
                "top_k must be at least 0, top_p in (0, 1], min_p in [0, 1], n at least 1. Received: "
                f"top_k={self.top_k}, top_p={self.top_p}, min_p={self.min_p}, n={self.n}"
            )

    @property
    def branches(self) -> int:
        return self.n

    @property
    def sorted_tokens(self) -> int:
        """Most probable tokens that are sorted, 0 for none."""
        return 1 << (self.top_k - 1).bit_length() if self.top_k else 0

    @property
    def key(self) -> tuple[Any, ...]:
        return (*super().key, self.sorted_tokens, self.top_p < 1)


@dataclass(frozen=True)
class Beam(Search):
    """Beam search for the sequences of greatest ``sum of log p / length^length_penalty``.

    A sequence that ends leaves the beam for a pool of the ``width`` best; a prompt is done once nothing in its beam can
    still enter the pool. The length counts generated tokens, the stop token among them.

    Args:
        width: beams of each prompt, and the most sequences it can get.
        length_penalty: 0 compares sums; above 0 longer sequences gain.
        n_best: sequences that a prompt gets, ``width`` at most.
        groups: the beams are divided in so many groups, one after the other at each step (diverse beam search); divides
            ``width``.
        diversity: each choice of a token by an earlier group costs a later one so much, in the comparison only.
        rule: ``"pool"`` as above, or ``"bert4keras"``: stop tokens compete with the others; once a sequence may end,
            the search is over if the best one of the beam has ended, and otherwise those that have ended are dropped
            and the beam is narrower from then on. No length penalty, no groups, one result.
        temperature: p becomes ``p^(1/temperature)`` before sums.

    Source: groups, Vijayakumar et al., arXiv 1610.02424; the rule of kexue.fm article 6915's library.
    """

    width: int = 4
    length_penalty: float = 0.0
    n_best: int = 1
    groups: int = 1
    diversity: float = 0.0
    rule: str = "pool"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _checked(self, "width", "n_best", "groups")
        if self.width < 1 or not 1 <= self.n_best <= self.width:
            raise ConfigError(
                f"width must be at least 1 and n_best from 1 to width. Received: width={self.width}, "
                f"n_best={self.n_best}"
            )
        if self.groups < 1 or self.width % self.groups:
            raise ConfigError(f"groups must divide width. Received: groups={self.groups}, width={self.width}")
        if self.rule not in ("pool", "bert4keras"):
            raise ConfigError(f"rule must be 'pool' or 'bert4keras'. Received: rule={self.rule!r}")
        if self.rule == "bert4keras" and (self.groups > 1 or self.n_best > 1 or self.length_penalty):
            raise ConfigError("rule='bert4keras' has one result, no groups and no length_penalty.")
        amount(self.temperature, "temperature", 1 / EXTREME, EXTREME)
        amount(self.length_penalty, "length_penalty", -10, 10)
        amount(self.diversity, "diversity", 0, EXTREME)
        if self.diversity and self.groups == 1:
            raise ConfigError(f"diversity is between groups: give groups=2 or more. Received: {self!r}")

    @property
    def branches(self) -> int:
        return self.width

    @property
    def results(self) -> int:
        return self.n_best

    @property
    def key(self) -> tuple[Any, ...]:
        return (*super().key, self.groups, self.rule)
