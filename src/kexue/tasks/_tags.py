"""Best tags of token scores, and how probable a stretch of them is."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from kexue.nn.heads import viterbi_decode

__all__ = ["Probability", "best_chains", "best_tokens"]

Probability = Callable[[int, int], float]
"""Of the tags of tokens ``[start, end)``."""


def best_tokens(scores: Sequence[np.ndarray]) -> list[tuple[np.ndarray, Probability]]:
    """Every token by itself: the tag with the highest score, and the product of the tags' probabilities.

    Args:
        scores: for each text ``(tokens, tags)`` logits.
    """
    result: list[tuple[np.ndarray, Probability]] = []
    for logits in scores:
        tags = logits.argmax(-1)
        best = logits.max(-1, keepdims=True)
        log_p = -np.log(np.exp(logits - best, dtype=np.float64).sum(-1))
        result.append((tags, partial(_product, log_p)))
    return result


def _product(log_p: np.ndarray, start: int, end: int) -> float:
    return float(np.exp(log_p[start:end].sum()))


def best_chains(
    scores: Sequence[np.ndarray], transitions: np.ndarray, start: np.ndarray, end: np.ndarray
) -> list[tuple[np.ndarray, Probability]]:
    """The most probable chain of each text, and the probability that a stretch of tokens carries just its tags,
    summed over all chains (forward-backward, rescaled at every step).

    Args:
        scores: for each text ``(tokens, tags)`` emissions.
        transitions: ``(tags, tags)``, from row to column.
        start: ``(tags,)``.
        end: ``(tags,)``.
    """
    rows, length, kinds = len(scores), max(len(s) for s in scores), len(start)
    emissions = np.zeros((rows, length, kinds), np.float32)
    sizes = np.asarray([len(s) for s in scores])
    for i, s in enumerate(scores):
        emissions[i, : len(s)] = s
    live = np.arange(length) < sizes[:, None]
    tags, _ = viterbi_decode(emissions, transitions, start, end, live)

    step = np.exp(transitions, dtype=np.float64)
    first, last = np.exp(start, dtype=np.float64), np.exp(end, dtype=np.float64)
    weight = np.exp(emissions - emissions.max(-1, keepdims=True), dtype=np.float64)
    scale = np.ones((rows, length))
    forward, backward = np.empty_like(weight), np.empty_like(weight)
    for t in range(length):
        reached = (first if t == 0 else forward[:, t - 1] @ step) * weight[:, t]
        total = reached.sum(-1)
        scale[:, t] = np.where(live[:, t] & (total > 0), total, 1.0)
        forward[:, t] = np.where(live[:, t, None], reached / scale[:, t, None], forward[:, t - 1] if t else 0.0)
    backward[:, length - 1] = last
    for t in range(length - 2, -1, -1):
        after = (weight[:, t + 1] * backward[:, t + 1]) @ step.T / scale[:, t + 1, None]
        backward[:, t] = np.where(live[:, t + 1, None], after, last)
    total = forward[:, -1] @ last

    def probability(row: int) -> Probability:
        def of(i: int, j: int) -> float:
            if not total[row]:
                return 0.0
            path = tags[row, i:j]
            value = forward[row, i, path[0]] * backward[row, j - 1, path[-1]] / total[row]
            for t in range(i + 1, j):
                value *= step[path[t - i - 1], path[t - i]] * weight[row, t, path[t - i]] / scale[row, t]
            return float(min(value, 1.0))

        return of

    return [(tags[i, : sizes[i]], probability(i)) for i in range(rows)]
