"""Adversarial training: weights that are good also where the embeddings are a little worse.

All perturb trainable variables, by default the embedding tables, as the article does: a token has the same
perturbation at all its places in the batch. The norm is that of all chosen variables together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import keras

from kexue.errors import ConfigError
from kexue.training.strategies.base import Problem, Strategy, Update, choose
from kexue.training.strategies.divergence import Divergence

__all__ = ["FGM", "PGD", "VAT", "GradientPenalty"]

EMBEDDINGS = r"(^|/)token_embedding/table$|(^|/)embeddings$"
"""Tables of `kexue.models.Transformer` and of ``keras.layers.Embedding``."""


@dataclass(frozen=True, kw_only=True)
class _OnVariables(Strategy):
    """Strategies that look beside the values of some variables."""

    variables: str = EMBEDDINGS

    def check(self, model: keras.Model) -> None:
        choose(model, self.variables)


def _positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise ConfigError(f"{name} must be a positive number. Received: {name}={value!r}")


def _count(**numbers: int) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a positive integer. Received: {name}={value!r}")


def _against(problem: Problem, chosen: Sequence[int], delta: Any, clean: tuple[Any, Any, Any], weight: float) -> Update:
    """Gradient of ``weight L(w) + L(w + delta)``, ``clean`` being loss, outputs and gradients (if any) at w."""
    loss, _, gradients = problem.gradient(problem.forward, problem.shifted(chosen, delta))
    if weight:
        loss = loss + weight * clean[0]
        gradients = [a + weight * c for a, c in zip(gradients, clean[2], strict=True)]
    return Update(loss, clean[1], gradients)


def _look(problem: Problem, chosen: Sequence[int], everything: bool) -> tuple[Any, Any, Any, list[Any]]:
    """Loss, outputs, gradients of all variables (None unless asked for) and those of the chosen ones, at w."""
    if everything:
        loss, outputs, gradients = problem.gradient(problem.forward, problem.values)
        return loss, outputs, gradients, [gradients[i] for i in chosen]
    loss, outputs, some = problem.gradient(lambda d: problem.forward(problem.shifted(chosen, d)), problem.at(chosen))
    return loss, outputs, None, some


@dataclass(frozen=True, kw_only=True)
class FGM(_OnVariables):
    """Fast gradient method: ``min L(w + delta) + clean_weight L(w)``, ``delta = epsilon g / |g|``, g the gradient of
    L by the chosen variables. Two passes forward and back.

    Args:
        variables: regular expression found in the paths of the variables to perturb.
        epsilon: length of the perturbation.
        clean_weight: of the loss without perturbation; 0 in article 7234, 1 in much code that adds both gradients.

    Raises:
        ConfigError: numbers that cannot work.

    Source: article 7234; arXiv 1605.07725.
    """

    epsilon: float = field(default=1.0, kw_only=False)
    clean_weight: float = 0.0

    def __post_init__(self) -> None:
        _positive(epsilon=self.epsilon)
        if not self.clean_weight >= 0:
            raise ConfigError(f"clean_weight must not be negative. Received: {self.clean_weight}")

    def update(self, problem: Problem) -> Update:
        """See `Strategy`."""
        chosen = problem.chosen(self.variables)
        loss, outputs, gradients, some = _look(problem, chosen, bool(self.clean_weight))
        delta = problem.unit(some, self.epsilon)
        return _against(problem, chosen, delta, (loss, outputs, gradients), self.clean_weight)


@dataclass(frozen=True, kw_only=True)
class PGD(_OnVariables):
    """Projected gradient descent: ``min L(w + delta) + clean_weight L(w)`` after ``steps`` times

        delta <- P(delta + step_size g / |g|),   g the gradient at w + delta

    from delta = 0, P being the nearest point with ``|delta| <= epsilon``. ``steps + 1`` passes forward and
    back. One step of size epsilon is `FGM`.

    Args:
        variables: regular expression found in the paths of the variables to perturb.
        epsilon: greatest length of the perturbation.
        step_size: of each step.
        steps: how many.
        clean_weight: of the loss without perturbation.

    Raises:
        ConfigError: numbers that cannot work.

    Source: article 7234; arXiv 1706.06083.
    """

    epsilon: float = field(default=1.0, kw_only=False)
    step_size: float = 0.3
    steps: int = 3
    clean_weight: float = 0.0

    def __post_init__(self) -> None:
        _positive(epsilon=self.epsilon, step_size=self.step_size)
        _count(steps=self.steps)
        if not self.clean_weight >= 0:
            raise ConfigError(f"clean_weight must not be negative. Received: {self.clean_weight}")

    def update(self, problem: Problem) -> Update:
        """See `Strategy`."""
        chosen = problem.chosen(self.variables)
        loss, outputs, gradients, some = _look(problem, chosen, bool(self.clean_weight))
        delta = problem.unit(some, min(self.step_size, self.epsilon))
        for _ in range(self.steps - 1):
            _, _, some = problem.gradient(lambda d: problem.forward(problem.shifted(chosen, d)), delta)
            moved = [d + s for d, s in zip(delta, problem.unit(some, self.step_size), strict=True)]
            shrink = keras.ops.minimum(1.0, self.epsilon / problem.norm(moved))
            delta = [d * shrink for d in moved]
        return _against(problem, chosen, delta, (loss, outputs, gradients), self.clean_weight)


@dataclass(frozen=True, kw_only=True)
class GradientPenalty(_OnVariables):
    """``min L(w) + epsilon / 2 |g|^2``, g the gradient of L by the chosen variables. A derivative of a derivative:
    one pass forward, two back, of which the second goes through the first.

    Args:
        variables: regular expression found in the paths of the variables.
        epsilon: weight of the penalty.

    Raises:
        ConfigError: numbers that cannot work.

    Source: article 7234, where a small perturbation ``epsilon g`` (of length ``epsilon |g|``) gives this penalty to
    first order.
    """

    second_order = True
    epsilon: float = field(default=1.0, kw_only=False)

    def __post_init__(self) -> None:
        _positive(epsilon=self.epsilon)

    def update(self, problem: Problem) -> Update:
        """See `Strategy`."""
        chosen = problem.chosen(self.variables)

        def total(values: list[Any]) -> tuple[Any, Any]:
            loss, outputs, g = problem.gradient(
                lambda d: problem.forward(problem.shifted(chosen, d, values)), problem.at(chosen)
            )
            square = sum(keras.ops.sum(keras.ops.square(part)) for part in g)
            return loss + 0.5 * self.epsilon * square, outputs

        return Update(*problem.gradient(total, problem.values))


@dataclass(frozen=True, kw_only=True)
class VAT(_OnVariables):
    """Virtual adversarial training: ``min L(w) + weight D(p(w), p(w + delta))`` with the perturbation of length epsilon
    that changes the outputs p most. No labels are needed for the second term.

        d <- unit normal vector;   steps times:  d <- unit(gradient by delta of D(p(w), p(w + delta)) at xi d)
        delta = epsilon d

    which is the power iteration for the greatest eigenvalue of the second derivative of D, up to terms of order xi. The
    search, and p(w), are without dropout: with it the gradient at 0 is not 0, and d would follow the dropout. p(w) is
    a constant in the gradient. ``2 + steps`` passes forward, ``1 + steps`` back.

    Args:
        variables: regular expression found in the paths of the variables to perturb.
        epsilon: length of the perturbation.
        xi: where the search looks. The random start is spread over the whole table, of which a batch uses few rows: a
            table needs a large one, as in the article.
        steps: of the power iteration.
        weight: of the divergence.
        kind: of the outputs: ``"softmax"``, exclusive classes on the last axis; ``"sigmoid"``, each for itself.
        from_logits: False: the outputs are probabilities.
        output: name or number of the output, for a model with several.
        seed: of the random starts.

    Raises:
        ConfigError: numbers that cannot work.

    Source: article 7466; arXiv 1704.03976.
    """

    epsilon: float = field(default=1.0, kw_only=False)
    xi: float = 10.0
    steps: int = 1
    weight: float = 1.0
    kind: Literal["softmax", "sigmoid"] = "softmax"
    from_logits: bool = True
    output: str | int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _positive(epsilon=self.epsilon, xi=self.xi, weight=self.weight)
        _count(steps=self.steps)
        self._divergence()

    def _divergence(self) -> Divergence:
        return Divergence(self.kind, self.from_logits, self.output)

    def check(self, model: keras.Model) -> None:
        super().check(model)
        self._divergence().check(model)

    def direction(self, problem: Problem, constant: Any) -> list[Any]:
        """The unit vector d, ``constant`` being p(w)."""
        chosen, divergence = problem.chosen(self.variables), self._divergence()

        def change(delta: list[Any]) -> tuple[Any, Any]:
            return divergence(problem, constant, problem.predict(problem.shifted(chosen, delta))), ()

        d = problem.unit(problem.normal(problem.at(chosen), self.seed))
        for _ in range(self.steps):
            d = problem.unit(problem.gradient(change, [part * self.xi for part in d])[2])
        return d

    def update(self, problem: Problem) -> Update:
        """See `Strategy`."""
        chosen, divergence = problem.chosen(self.variables), self._divergence()
        constant = keras.tree.map_structure(keras.ops.stop_gradient, problem.predict(problem.values))
        delta = [part * self.epsilon for part in self.direction(problem, constant)]

        def total(values: list[Any]) -> tuple[Any, Any]:
            loss, outputs = problem.forward(values)
            _, moved = problem.forward(problem.shifted(chosen, delta, values))
            return loss + self.weight * divergence(problem, constant, moved), outputs

        return Update(*problem.gradient(total, problem.values))
