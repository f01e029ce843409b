"""Consistency training: the same outputs whatever dropout drops."""

from dataclasses import dataclass, field
from typing import Any, Literal

import keras

from kexue.errors import ConfigError
from kexue.training.strategies.base import Problem, Strategy, Update
from kexue.training.strategies.divergence import Divergence

__all__ = ["RDrop"]


@dataclass(frozen=True, kw_only=True)
class RDrop(Strategy):
    """R-Drop: the batch goes through the model twice, with other dropout, and both outputs shall agree.

        L = (L_1 + L_2) / 2 + alpha / 4 (KL(p_1 || p_2) + KL(p_2 || p_1))

    This is the article's normalisation: there each sample stands twice in the batch, so that the mean of the loss is
    over both, and the sum of the divergences is divided by 4; the article's alpha is 4. It is half of the paper's
    ``L_1 + L_2 + alpha / 2 (KL + KL)``, with the same alpha. Where code has ``CE + alpha (KL + KL) / 2``, CE being the
    mean of both passes, give twice its alpha. Without dropout the second term is 0.

    Args:
        alpha: weight of the divergence.
        kind: of the outputs: ``"softmax"``, exclusive classes on the last axis; ``"sigmoid"``, each for itself (as in
            the pointer heads of `kexue.tasks.NER`).
        from_logits: False: the outputs are probabilities.
        output: name or number of the output, for a model with several.

    Raises:
        ConfigError: numbers that cannot work.

    Source: article 8496; arXiv 2106.14448.
    """

    alpha: float = field(default=4.0, kw_only=False)
    kind: Literal["softmax", "sigmoid"] = "softmax"
    from_logits: bool = True
    output: str | int | None = None

    def __post_init__(self) -> None:
        if not self.alpha >= 0:
            raise ConfigError(f"alpha must not be negative. Received: alpha={self.alpha!r}")
        self._divergence()

    def _divergence(self) -> Divergence:
        return Divergence(self.kind, self.from_logits, self.output)

    def check(self, model: keras.Model) -> None:
        """See `Strategy`."""
        self._divergence().check(model)

    def update(self, problem: Problem) -> Update:
        """See `Strategy`."""
        divergence = self._divergence()

        def total(values: list[Any]) -> tuple[Any, Any]:
            one, first = problem.forward(values)
            two, second = problem.forward(values)
            apart = divergence(problem, first, second) + divergence(problem, second, first)
            return (one + two) / 2.0 + self.alpha / 4.0 * apart, first

        return Update(*problem.gradient(total, problem.values))
