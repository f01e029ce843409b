"""The loop of NBCE: contexts in one batch, one token for all of them, and a report of which context spoke."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kexue.decoding.nbce.pooling import NEVER, Pooling, combine, normalised
from kexue.errors import ConfigError

__all__ = ["NBCE", "Answer", "ContextRows", "Used"]


class ContextRows(Protocol):
    """A causal model that reads several rows and then takes the same token on each, with a cache or without.

    `kexue.decoding.nbce.KexueRows` and `TransformersRows` are two.
    """

    def start(self, rows: Sequence[Sequence[int]]) -> Any:
        """Read rows of ids of any lengths: logits (rows, V) of the next token of each."""

    def extend(self, token: int) -> Any:
        """Append a token to every row: logits (rows, V) of the one after."""


@dataclass(frozen=True, eq=False)
class Used:
    """What stands behind one token.

    Attributes:
        token: its id.
        context: from 0: the context that was chosen (min-entropy pooling), or under which the token is likeliest.
        entropy: (n,) of the contexts' next-token laws after top-p.
        log_probs: (n,) of the token under each context, before top-p.
        without: log-probability of the token without context.
    """

    token: int
    context: int
    entropy: np.ndarray
    log_probs: np.ndarray
    without: float


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
        if not temperature >= 0:
            raise ConfigError(f"temperature must be 0 or more. Received: {temperature}")
        if isinstance(beta, str) and beta != "exact":
            raise ConfigError(f"beta must be a number, a function of the step, or 'exact'. Received: {beta!r}")
        self.model, self.beta, self.pooling = model, beta, pooling
        self.eta, self.top_p, self.temperature, self.start = eta, top_p, temperature, list(start)

    def generate(
        self,
        contexts: Sequence[Sequence[int]],
        prompt: Sequence[int],
        *,
        max_tokens: int = 64,
        stop: Collection[int] = (),
        seed: int | np.random.Generator | None = None,
        progress: Callable[[Used], None] | None = None,
    ) -> Answer:
        """Write on after the prompt.

        Args:
            contexts: ids of each, without special tokens.
            prompt: ids of the question or text that follows each of them, and stands alone in row 0.
            max_tokens: at most so many.
            stop: ids that end the text.
            seed: of the draws.
            progress: called with each token as it comes.

        Raises:
            ConfigError: no context, or nothing to begin with: no prompt and no ``start``.
        """
        if not contexts or max_tokens < 1:
            raise ConfigError(f"needs a context and max_tokens >= 1. Received: {len(contexts)} and {max_tokens}")
        if not (self.start or len(prompt)):
            raise ConfigError(
                "the row without context would be empty: give a prompt, or start=[id of the first token]."
            )
        rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
        rows = [[*self.start, *context, *prompt] for context in ([], *contexts)]
        logits = self.model.start(rows)
        used: list[Used] = []
        previous = None
        while True:
            use = self._step(np.asarray(logits, "float64"), previous, len(used), rng)
            if use.token in stop:
                return Answer([u.token for u in used], used, True)
            used.append(use)
            if progress is not None:
                progress(use)
            if len(used) == max_tokens:
                return Answer([u.token for u in used], used, False)
            previous = use.context
            logits = self.model.extend(use.token)

    def _step(self, logits: np.ndarray, previous: int | None, step: int, rng: np.random.Generator) -> Used:
        logs = normalised(logits)
        if self.beta == "exact":
            found = combine(logs, beta=len(logs) - 2.0, pooling="mean", top_p=1.0, floor=NEVER)
        else:
            beta = self.beta(step) if callable(self.beta) else float(self.beta)
            found = combine(logs, beta=beta, pooling=self.pooling, previous=previous, eta=self.eta, top_p=self.top_p)
        if self.temperature == 0:
            token = int(found.log_scores.argmax())
        else:
            law = np.exp(normalised(found.log_scores / self.temperature))
            token = int(rng.choice(len(law), p=law / law.sum()))
        surest = self.pooling == "min_entropy" and self.beta != "exact"
        own = logs[1:, token]
        return Used(
            token, int(found.context) if surest else int(own.argmax()), found.entropy, own, float(logs[0, token])
        )
