"""What NBCE is asked for, and one of its steps: from the logits of the rows to a token and what stands behind it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kexue.decoding.filters import draw
from kexue.decoding.nbce.pooling import NEVER, Pooling, merge, normalised, number_ops

__all__ = ["Law", "Step", "Used", "step"]


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
class Law:
    """What an answer is written by, checked.

    Attributes:
        pooling: see `combine`.
        exact: the naive Bayes posterior.
        betas: (steps,) of each step; without meaning where exact.
        numbers: (steps,) uniform in [0, 1), one for each draw.
        eta: see `combine`.
        top_p: likewise.
        temperature: of the draws; 0 for the likeliest token.
        stop: ids that end the text.
    """

    pooling: Pooling
    exact: bool
    betas: np.ndarray
    numbers: np.ndarray
    eta: float
    top_p: float
    temperature: float
    stop: Collection[int]

    @property
    def key(self) -> tuple[Any, ...]:
        """What a compiled loop depends on; all else is data."""
        return (self.pooling, self.exact, self.top_p < 1, self.temperature == 0)


class Step(NamedTuple):
    """`Used` as scalars and vectors of arrays or tensors."""

    token: Any
    context: Any
    entropy: Any
    log_probs: Any
    without: Any


def step(law: Law, logits: Any, t: Any, previous: Any, data: Any, count: Any = None) -> Step:
    """The next token.

    Args:
        law: its ``key`` counts.
        logits: (rows, V), arrays or tensors, row 0 without context.
        t: the number of tokens before.
        previous: the context of the token before, -1 for none.
        data: ``betas``, ``numbers``, ``eta``, ``top_p`` and ``temperature``, of the law or as tensors.
        count: contexts that are real, the first ones, a float; None for all.
    """
    ops = number_ops(logits)
    logs = normalised(logits)
    if law.exact:
        number = logs.shape[0] - 1 if count is None else count
        found = merge(
            logs, beta=number - 1.0, pooling="mean", previous=None, eta=0.0, top_p=None, floor=NEVER, count=count
        )
    else:
        found = merge(
            logs, beta=data["betas"][t], pooling=law.pooling, previous=previous, eta=data["eta"],
            top_p=data["top_p"] if law.top_p < 1 else None, floor=-100.0, count=count,
        )  # fmt: skip
    if law.temperature == 0:
        token = ops.argmax(found.log_scores, axis=-1)
    else:
        p = ops.exp(normalised(found.log_scores / data["temperature"]))
        token = draw(p, data["numbers"][t])
    own = ops.take(logs[1:], token, axis=1)
    mine = own if count is None else ops.where(ops.arange(float(own.shape[0])) < count, own, 2 * NEVER)
    context = found.context if law.pooling == "min_entropy" and not law.exact else ops.argmax(mine, axis=-1)
    return Step(token, context, found.entropy, own, ops.take(logs[0], token, axis=0))
