"""An exponential moving average of the weights within the compiled training step."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.training.blending import blend, check_ema, sample_weight
from kexue.training.swapping import Swap, accumulation_steps, chain, chosen, patterns

__all__ = ["AveragedOptimizer"]


@keras.saving.register_keras_serializable(package="kexue")
class AveragedOptimizer(keras.optimizers.Optimizer):
    """Any optimizer, and beside it the average of the weights that it trains.

        A <- d A + (1 - d) w     after each update of the weights w

    The weights take the same course as without it. The averages are variables of the optimizer, so that whatever saves
    an optimizer saves them. A step that only accumulates a gradient, or that loss scaling skips, is no update.

    Args:
        inner_optimizer: the optimizer; under ``mixed_float16`` Keras puts its ``LossScaleOptimizer`` around the whole.
        decay: d, as in `EMA`, whose results these are.
        mode: likewise. A copy is taken when the optimizer is built, usually when ``fit`` begins.
        warmup: likewise.
        update_every: likewise.
        include: globs for the paths of the weights to average. An optimizer knows trainable weights only; the `EMA`
            callback averages statistics of batch norms as well.
        exclude: likewise, of those to leave as they are.

    Raises:
        ConfigError: arguments that cannot work; an optimizer with ``use_ema=True``, which averages already.

    Example:
        ``model.compile(AveragedOptimizer(AdamW(1e-3), 0.999), loss)``, ``model.fit(..., callbacks=[SwapAverage()])``,
        then ``with averaged(model): model.save("averaged.keras")``.

    Source: kexue.fm article 6575.
    """

    def __init__(
        self,
        inner_optimizer: Any,
        decay: float = 0.9999,
        *,
        mode: Literal["copy", "zero"] = "copy",
        warmup: bool = False,
        update_every: int = 1,
        include: str | Sequence[str] = "*",
        exclude: str | Sequence[str] = (),
        name: str = "averaged",
    ) -> None:
        inner_optimizer = keras.optimizers.get(inner_optimizer)
        check_ema(decay, mode, update_every)
        for optimizer in chain(inner_optimizer):
            if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
                raise ConfigError("put LossScaleOptimizer around AveragedOptimizer, not inside.")
            if isinstance(optimizer, AveragedOptimizer) or getattr(optimizer, "use_ema", False):
                raise ConfigError(
                    f"the optimizer {optimizer.name!r} averages the weights already"
                    f"{' (use_ema=True)' if getattr(optimizer, 'use_ema', False) else ''}. Use one of the two."
                )
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer
        self.decay, self.mode, self.warmup = float(decay), mode, bool(warmup)
        self.update_every = update_every
        self.include, self.exclude = patterns(include), patterns(exclude)
        self.swap = Swap(self._pairs)

    def build(self, variables: Sequence[Any]) -> None:
        """Create the averages."""
        if self.built:
            return
        self.inner_optimizer.build(variables)
        super().build(variables)
        copy = self.mode == "copy"
        taken = {id(v) for v in chosen(variables, self.include, self.exclude)}
        self._averaged = [i for i, v in enumerate(variables) if id(v) in taken]
        self._updates = self.add_variable((), dtype="int32", name="updates")
        self._total = self.add_variable((), initializer="ones" if copy else "zeros", dtype="float32", name="total")
        self._averages = [self._shadow(variables[i], copy) for i in self._averaged]

    def _shadow(self, variable: Any, copy: bool) -> Any:
        def start(shape: Any, dtype: Any = None) -> Any:
            return ops.copy(ops.cast(ops.stop_gradient(variable.value), dtype))

        return self.add_variable(
            variable.shape,
            initializer=start if copy else "zeros",
            dtype="float32",
            layout=getattr(variable, "_layout", None),
            name=f"{variable.path.replace('/', '_')}_average",
        )

    @property
    def variables(self) -> list[Any]:
        """Its own and those of the inner optimizer."""
        return self._variables + self.inner_optimizer.variables

    @property
    def ready(self) -> bool:
        """There is an average: from the beginning with a copy."""
        return self.built and float(ops.convert_to_numpy(self._total)) > 0

    def _pairs(self) -> list[tuple[Any, Any]]:
        if not self.ready:
            raise ConfigError("AveragedOptimizer has no average yet: no update was made.")
        variables = [self._trainable_variables[i] for i in self._averaged]
        values = [average.value for average in self._averages]
        if self.mode == "zero":
            values = [value / self._total.value for value in values]
        return list(zip(variables, values, strict=True))

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """One step of the inner optimizer, and of the averages if it changed the weights."""
        if not self.built:
            if trainable_variables is None:
                raise ConfigError("the optimizer is not built. Call build(variables), or give the variables to apply.")
            self.build(list(trainable_variables))
        every_step = not accumulation_steps(self.inner_optimizer)
        before = None if every_step else ops.copy(self.inner_optimizer.iterations)
        self.inner_optimizer.apply(grads, trainable_variables)
        n = ops.copy(self._updates)  # PyTorch assigns in place
        if every_step and self.update_every == 1:
            self._updates.assign(n + 1)
            self._blend(n)
            return
        changed = True if before is None else ops.not_equal(before, self.inner_optimizer.iterations)
        now = n + ops.cast(changed, "int32")
        self._updates.assign(now)
        due = ops.logical_and(changed, ops.equal(now % self.update_every, 0))
        held = [self._total, *self._averages]
        values = ops.cond(due, lambda: self._blended(n), lambda: [ops.convert_to_tensor(v) for v in held])
        for variable, value in zip(held, values, strict=True):
            variable.assign(value)

    def _blend(self, n: Any) -> None:
        for variable, value in zip([self._total, *self._averages], self._blended(n), strict=True):
            variable.assign(value)

    def _blended(self, n: Any) -> list[Any]:
        n = n + 1 - self.update_every  # updates before those of this sample
        weight = sample_weight(self.decay, self.warmup, self.update_every, n)
        averages = [average.value for average in self._averages]
        values = [self._trainable_variables[i].value for i in self._averaged]
        total = blend([self._total.value], [ops.ones(())], weight)
        if keras.backend.backend() == "torch":
            from kexue.training.blending_torch import blend_in_place

            return [*total, *blend_in_place(averages, values, weight)]
        return [*total, *blend(averages, values, weight)]

    # ---------------------------------------------------------------- the inner optimizer's

    @property
    def learning_rate(self) -> Any:
        """Of the inner optimizer."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self) -> Any:
        """Of the inner optimizer."""
        return self.inner_optimizer.iterations

    def scale_loss(self, loss: Any) -> Any:
        """As the inner optimizer wants it."""
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """As the inner optimizer wants it."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            "inner_optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "decay": self.decay,
            "mode": self.mode,
            "warmup": self.warmup,
            "update_every": self.update_every,
            "include": list(self.include),
            "exclude": list(self.exclude),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "AveragedOptimizer":
        """The reverse of `get_config`."""
        inner = keras.saving.deserialize_keras_object(config["inner_optimizer"], custom_objects=custom_objects)
        return cls(**config | {"inner_optimizer": inner})
