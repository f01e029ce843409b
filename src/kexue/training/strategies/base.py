"""A strategy says what is minimised for a batch; `with_strategy` makes it the training step of a Keras model.

A strategy sees a `Problem`: the batch as a function from values of the weights to a loss, and a derivative that nests.
Nothing in it depends on the backend, and no weight is ever changed to look at the loss elsewhere. The three files
``step_*.py`` hold what does depend: how to differentiate, and how Keras wants a step to be.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import keras
from keras import ops

from kexue.errors import ConfigError

__all__ = ["Problem", "Strategy", "Update", "with_strategy"]


class Update(NamedTuple):
    """What a strategy makes of a batch.

    Attributes:
        loss: what is minimised, a scalar; the logs show its mean.
        outputs: of the model, for the metrics.
        gradients: one for each trainable variable.
    """

    loss: Any
    outputs: Any
    gradients: Sequence[Any]


class Strategy:
    """What is minimised. To write another, define `update` with the methods of `Problem`.

    class Flat(Strategy):                       # sharpness-aware minimisation, arXiv 2010.01412
        def update(self, problem):
            _, outputs, g = problem.gradient(problem.forward, problem.values)
            size = problem.norm(g)
            uphill = [w + 0.05 * d / size for w, d in zip(problem.values, g)]
            loss, _, g = problem.gradient(problem.forward, uphill)
            return Update(loss, outputs, g)
    """

    second_order = False
    """Whether derivatives are nested; some fused kernels have no second derivative and are then avoided."""

    def check(self, model: keras.Model) -> None:
        """Raise ConfigError if the strategy cannot work on a model."""

    def update(self, problem: "Problem") -> Update:
        """Loss, outputs and gradients of a batch."""
        raise NotImplementedError


class Problem:
    """One batch of a model, as a function of the values of its trainable variables.

    The values of all other variables (random states, moving statistics, metrics) are threaded through: each pass draws
    new dropout, and only the first one counts for moving statistics and metrics.

    Attributes:
        values: of the trainable variables.
        fixed: current values of the others.
        metrics: likewise.
        x: inputs.
        y: targets.
        sample_weight: or None.
    """

    def __init__(
        self,
        model: keras.Model,
        data: Any,
        values: Sequence[Any],
        fixed: Sequence[Any],
        metrics: Sequence[Any],
        *,
        scale: Any,
        step: Any,
        differentiate: Callable[..., Any],
    ) -> None:
        self._model = model
        self.x, self.y, self.sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self.values = list(values)
        self.fixed, self.metrics = list(fixed), list(metrics)
        self._scale, self._step, self._differentiate = scale, step, differentiate
        self._random = [v.path.endswith("seed_generator_state") for v in model.non_trainable_variables]
        self._first, self._draws = True, 0

    # ---------------------------------------------------------------- the function

    def forward(self, values: Sequence[Any]) -> tuple[Any, Any]:
        """Loss (regularisation included) and outputs in training, at these values."""
        model = self._model
        training = {"training": True} if model._call_has_training_arg else {}
        outputs, fixed, losses = model.stateless_call(values, self.fixed, self.x, return_losses=True, **training)
        if losses:
            model._losses_override = losses
        loss, (_, fixed, metrics) = model.stateless_compute_loss(
            values,
            fixed,
            self.metrics,
            x=self.x,
            y=self.y,
            y_pred=outputs,
            sample_weight=self.sample_weight,
            training=True,
        )
        if losses:
            model._losses_override = []
        if self._first:
            self.fixed, self.metrics, self._first = list(fixed), list(metrics), False
        else:
            states = zip(self._random, fixed, self.fixed, strict=True)
            self.fixed = [new if random else old for random, new, old in states]
        return loss, outputs

    def predict(self, values: Sequence[Any]) -> Any:
        """Outputs at these values as in evaluation: no dropout, nothing counted."""
        training = {"training": False} if self._model._call_has_training_arg else {}
        return self._model.stateless_call(values, self.fixed, self.x, **training)[0]

    def gradient(
        self, function: Callable[[list[Any]], tuple[Any, Any]], values: Sequence[Any]
    ) -> tuple[Any, Any, list[Any]]:
        """Value, second result and gradient of ``function: values -> (scalar, anything)``.

        May be called inside of a function that is itself being differentiated. Gradients do not carry the loss scale
        of float16 training.
        """

        def run(values: list[Any]) -> Any:
            loss, extra = function(values)
            return loss * ops.cast(self._scale, loss.dtype), (loss, extra, self.fixed, self.metrics)

        gradients, (loss, extra, self.fixed, self.metrics) = self._differentiate(run, list(values))
        return loss, extra, [ops.cast(g, "float32") / self._scale for g in gradients]

    # ---------------------------------------------------------------- helpers

    def chosen(self, pattern: str) -> list[int]:
        """Numbers of the trainable variables in whose path the expression is found."""
        return choose(self._model, pattern)

    def at(self, chosen: Sequence[int]) -> list[Any]:
        """Zeros to add to the chosen variables."""
        return [ops.zeros_like(self.values[i]) for i in chosen]

    def shifted(self, chosen: Sequence[int], delta: Sequence[Any], values: Sequence[Any] | None = None) -> list[Any]:
        """``values`` (by default the current ones) with ``delta`` added to the chosen variables."""
        result = list(self.values if values is None else values)
        for i, change in zip(chosen, delta, strict=True):
            result[i] = result[i] + ops.cast(change, result[i].dtype)
        return result

    def norm(self, tensors: Sequence[Any]) -> Any:
        """Euclidean norm of all together, and 1 where it is 0."""
        size = ops.sqrt(sum(ops.sum(ops.square(ops.cast(t, "float32"))) for t in tensors))
        return ops.where(size > 0, size, 1.0)

    def unit(self, tensors: Sequence[Any], length: float = 1.0) -> list[Any]:
        """Tensors of this Euclidean norm together, in their direction; zeros stay zeros."""
        size = self.norm(tensors)
        return [ops.cast(t, "float32") * (length / size) for t in tensors]

    def normal(self, like: Sequence[Any], seed: int) -> list[Any]:
        """Standard normal numbers, others for each step and tensor, the same for the same seed."""
        made = []
        for tensor in like:
            self._draws += 1
            source = _Counted(seed, self._step, self._draws)
            made.append(keras.random.normal(tuple(tensor.shape), dtype="float32", seed=source))
        return made


class _Counted(keras.random.SeedGenerator):
    """Random numbers as a function of a seed, a step and a number; no state to keep or to save."""

    def __init__(self, seed: int, step: Any, draw: int) -> None:
        self._parts = seed, step, draw

    def next(self, ordered: bool = True) -> Any:
        seed, step, draw = self._parts
        kind = "int32" if keras.backend.backend() == "tensorflow" else "uint32"
        return ops.stack([ops.cast(step, kind), ops.convert_to_tensor((seed * 1000003 + draw) % 2**31, dtype=kind)])


def choose(model: keras.Model, pattern: str) -> list[int]:
    """Numbers of the trainable variables in whose path the expression is found.

    Raises:
        ConfigError: there are none; the message lists the paths.
    """
    paths = [v.path for v in model.trainable_variables]
    found = [i for i, path in enumerate(paths) if re.search(pattern, path)]
    if not found:
        shown = ", ".join(paths[:8]) + (", ..." if len(paths) > 8 else "")
        raise ConfigError(
            f"no trainable variable has a path with {pattern!r}. Give variables= a regular expression that is found in "
            f"one of: {shown or '(the model has none)'}"
        )
    return found


def with_strategy(model: keras.Model, strategy: Strategy | None) -> keras.Model:
    """Train a model with a strategy from now on: ``compile``, ``fit`` and ``train_on_batch`` work as ever.

        with_strategy(model, FGM(epsilon=1.0))
        model.compile(AdamW(2e-5), loss, metrics=["accuracy"])
        model.fit(...)
        with_strategy(model, None)                  # back to plain training

    Evaluation, prediction, saving and the class of the model are as before; a saved model holds no strategy. Loss
    functions, loss weights, metrics, sample weights, regularisation, accumulation, mixed precision with loss scaling
    and dropout are Keras'. The loss in the training logs is what the strategy minimises.

    Args:
        model: built; changed in place.
        strategy: or None.

    Returns:
        The model.

    Raises:
        ConfigError: the strategy cannot work on the model.
    """
    if strategy is None:
        if "train_step" in vars(model):
            del model.train_step
    else:
        if not isinstance(strategy, Strategy):
            raise ConfigError(f"strategy must be a Strategy, such as FGM(), or None. Received: {strategy!r}")
        if not model.built:
            raise ConfigError("the model is not built. Call it on a batch, or build it, before with_strategy.")
        strategy.check(model)
        module = import_module(f"kexue.training.strategies.step_{keras.backend.backend()}")
        model.train_step = partial(module.train_step, model, strategy)
    model.train_function = None  # a compiled step of before
    return model
