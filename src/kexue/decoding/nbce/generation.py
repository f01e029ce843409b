"""The loop of NBCE: contexts in one batch, one token for all of them, and a report of which context spoke."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kexue.decoding.arguments import EXTREME, amount, sequences_of_ids, several, whole
from kexue.decoding.nbce.law import Law, Used, step
from kexue.decoding.nbce.pooling import Pooling, check
from kexue.errors import ConfigError

__all__ = ["NBCE", "Answer", "ContextRows"]


CHUNK = 16
"""Tokens between two looks at a compiled loop."""


class ContextRows(Protocol):
    """A causal model that reads several rows and then takes the same token on each, with a cache or without.

    `kexue.decoding.nbce.KexueRows` and `TransformersRows` are two. A model may write the whole text itself, in one
    program, by an attribute ``compiled`` with the method ``write`` of `kexue.decoding.nbce.rows_cached.CachedRows`; it
    is asked unless the pooling is a function.
    """

    def start(self, rows: Sequence[Sequence[int]]) -> Any:
        """Read rows of ids of any lengths: logits (rows, V) of the next token of each."""

    def extend(self, token: int) -> Any:
        """Append a token to every row: logits (rows, V) of the one after."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What NBCE wrote.

    Attributes:
        tokens: ids, the stop token not among them.
        used: one report a token.
        stopped: whether a stop token ended it.
    """

    tokens: list[int]
    used: list[Used]
    stopped: bool

    @property
    def contexts(self) -> list[int]:
        """The context behind each token."""
        return [use.context for use in self.used]


class NBCE:
    """Reads contexts that do not fit together, and answers from all of them.

    Args:
        model: see `ContextRows`.
        beta: see `combine`; or ``step -> beta`` with steps from 0; or ``"exact"``: n - 1, the naive Bayes posterior
            (with mean pooling and no truncation).
        pooling, eta, top_p: see `combine`.
        temperature: of the draw; near 0 is greedy, 0 is.
        start: ids that open each row, such as a BOS or ``[CLS]`` token.

    Raises:
        ConfigError: numbers out of range.
    """

    def __init__(
        self,
        model: ContextRows,
        *,
        beta: float | str | Callable[[int], float] = 0.25,
        pooling: Pooling = "min_entropy",
        eta: float = 0.1,
        top_p: float = 0.95,
        temperature: float = 0.01,
        start: Sequence[int] = (),
    ) -> None:
        if temperature != 0:
            amount(temperature, "temperature", 1 / EXTREME, EXTREME, ", or 0")
        amount(eta, "eta", -EXTREME, EXTREME)
        if isinstance(beta, str) and beta != "exact":
            raise ConfigError(f"beta must be a number, a function of the step, or 'exact'. Received: {beta!r}")
        check(0.0 if isinstance(beta, str) or callable(beta) else beta, pooling, top_p)
        self.model, self.beta, self.pooling = model, beta, pooling
        self.eta, self.top_p, self.temperature, self.start = eta, top_p, temperature, list(start)

    def generate(
        self,
        contexts: Sequence[Sequence[int]],
        prompt: Sequence[int],
        *,
        max_tokens: int = 64,
        stop: int | Collection[int] = (),
        seed: int | np.random.Generator | None = None,
        progress: Callable[[Used], None] | None = None,
    ) -> Answer:
        """Write on after the prompt.

        Args:
            contexts: ids of each, without special tokens.
            prompt: ids of the question or text that follows each of them, and stands alone in row 0.
            max_tokens: at most so many, and fewer where the positions of a model with ``compiled`` end.
            stop: ids that end the text.
            seed: of the draws.
            progress: called with each token as it comes.

        Raises:
            ConfigError: no context, or nothing to begin with: no prompt and no ``start``.
        """
        max_tokens = whole(max_tokens, "max_tokens")
        contexts, (prompt,) = sequences_of_ids(contexts, "contexts"), sequences_of_ids([prompt], "prompt")
        stop = several(stop)
        if not contexts or max_tokens < 1:
            raise ConfigError(f"needs a context and max_tokens >= 1. Received: {len(contexts)} and {max_tokens}")
        if not (self.start or prompt):
            raise ConfigError(
                "the row without context would be empty: give a prompt, or start=[id of the first token]."
            )
        rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
        rows = [[*self.start, *context, *prompt] for context in ([], *contexts)]
        law = self._law(max_tokens, stop, rng)
        compiled = None if callable(self.pooling) else getattr(self.model, "compiled", None)
        used: list[Used] = []
        for use in self._steps(rows, law) if compiled is None else compiled.write(rows, law, 1 if progress else CHUNK):
            if use.token in stop:
                return Answer([u.token for u in used], used, True)
            used.append(use)
            if progress is not None:
                progress(use)
        return Answer([u.token for u in used], used, False)

    def _law(self, steps: int, stop: Collection[int], rng: np.random.Generator) -> Law:
        exact = isinstance(self.beta, str)
        betas = np.zeros(steps)
        if not exact:
            betas[:] = [self.beta(t) for t in range(steps)] if callable(self.beta) else self.beta
            check(betas.min(), self.pooling, self.top_p)
        return Law(self.pooling, exact, betas, rng.random(steps), self.eta, self.top_p, self.temperature, stop)

    def _steps(self, rows: Sequence[Sequence[int]], law: Law) -> Iterator[Used]:
        data, previous, token = vars(law), -1, 0
        for t in range(len(law.betas)):
            logits = self.model.extend(token) if t else self.model.start(rows)
            found = step(law, np.asarray(logits, "float64"), t, previous, data)
            token, previous = int(found.token), int(found.context)
            yield Used(token, previous, found.entropy, found.log_probs, float(found.without))
