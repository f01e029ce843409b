"""Parallel context windows (PCW, arXiv 2212.10947), to compare NBCE with.

One row holds all contexts and then the task. A context sees itself only; the task sees all of them. The contexts are
aligned at their ends: with L the length of the longest, the last token of each has position L - 1, and the task goes
on at L.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kexue.decoding.arguments import sequences_of_ids, several
from kexue.decoding.nbce.pooling import normalised
from kexue.decoding.nbce.windows_mask import ParallelWindows
from kexue.decoding.search.forward import no_gradients
from kexue.errors import ConfigError

__all__ = ["ParallelContexts", "WindowLayout", "window_layout", "write_greedily"]


@dataclass(frozen=True, eq=False)
class WindowLayout:
    """A row of contexts and task.

    Attributes:
        tokens: (length,) ids.
        positions: (length,).
        windows: (length,) number of the context, -1 in the task.
    """

    tokens: np.ndarray
    positions: np.ndarray
    windows: np.ndarray

    def dense(self) -> np.ndarray:
        """(length, length), True where the row's token may see the column's."""
        places = np.arange(len(self.tokens))
        q, k = self.windows[:, None], self.windows[None]
        return (places[None] <= places[:, None]) & ((q == k) | (q < 0))


def window_layout(contexts: Sequence[Sequence[int]], task: Sequence[int]) -> WindowLayout:
    """Tokens, positions and windows of contexts (each with its own first token, if any) and what follows them.

    Raises:
        ConfigError: an empty task, or no context with a token.
    """
    contexts, (task,) = sequences_of_ids(contexts, "contexts"), sequences_of_ids([task], "task")
    longest = max((len(context) for context in contexts), default=0)
    if not len(task) or not longest:
        raise ConfigError(
            f"needs a context and a task with tokens. Received: {len(contexts)} contexts, {len(task)} tokens"
        )
    tokens = [token for context in contexts for token in context] + list(task)
    positions = [p for context in contexts for p in range(longest - len(context), longest)]
    windows = [number for number, context in enumerate(contexts) for _ in context]
    return WindowLayout(
        np.asarray(tokens, "int32"),
        np.asarray(positions + list(range(longest, longest + len(task))), "int32"),
        np.asarray(windows + [-1] * len(task), "int32"),
    )


class ParallelContexts:
    """PCW of a kexue model, without a cache.

    Args:
        model: a `Transformer` built with ``mask=ParallelWindows()`` and the head ``lm``.
        segment: segment id of all tokens; None: not given.

    Raises:
        ConfigError: another mask.
    """

    def __init__(self, model: Any, *, segment: int | None = None) -> None:
        if not isinstance(getattr(model, "mask", None), ParallelWindows):
            raise ConfigError("parallel context windows need a model that was loaded with mask=ParallelWindows().")
        self.model, self.segment = model, segment

    def next(self, contexts: Sequence[Sequence[int]], task: Sequence[int]) -> np.ndarray:
        """Log-probabilities (V,) of the token after the task."""
        from keras import ops

        layout = window_layout(contexts, task)
        batch = {"token_ids": layout.tokens, "position_ids": layout.positions, "order": layout.windows}
        if self.segment is not None:
            batch["segment_ids"] = np.full_like(layout.tokens, self.segment)
        with no_gradients():
            logits = self.model({name: value[None] for name, value in batch.items()})["logits"][0, -1]
        return normalised(np.asarray(ops.convert_to_numpy(logits), "float64"))

    def generate(
        self,
        contexts: Sequence[Sequence[int]],
        task: Sequence[int],
        *,
        max_tokens: int = 64,
        stop: int | Collection[int] = (),
    ) -> list[int]:
        """The likeliest token, again and again."""
        return write_greedily(self.next, contexts, task, max_tokens, stop)


def write_greedily(
    step: Any, contexts: Sequence[Sequence[int]], task: Sequence[int], max_tokens: int, stop: int | Collection[int]
) -> list[int]:
    """Ids by ``step(contexts, task) -> (V,)``, the largest each time."""
    written: list[int] = []
    stop = several(stop)
    while len(written) < max_tokens:
        token = int(np.argmax(step(contexts, [*task, *written])))
        if token in stop:
            break
        written.append(token)
    return written
