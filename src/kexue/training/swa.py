"""What stochastic weight averaging needs besides the average: a cyclic rate, batch-norm statistics taken anew."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kexue.errors import ConfigError, DataError
from kexue.nn.probes import same_randomness

__all__ = ["CyclicLinear", "refresh_statistics"]


@keras.saving.register_keras_serializable(package="kexue")
class CyclicLinear(keras.optimizers.schedules.LearningRateSchedule):
    """The rate falls linearly within each cycle and jumps up again at the next.

        rate(i) = (1 - t) high + t low,   t = (i mod c + 1) / c,   i = 0, 1, ...

    The last step of a cycle has the rate ``low``: where ``SWA(unit="step", every=c)`` takes its sample.

    Args:
        high: rate before the cycle's first step; that step has ``high - (high - low) / c``.
        low: the lowest rate.
        cycle: c, in updates.

    Source: arXiv 1803.05407, section 3.2.
    """

    def __init__(self, high: float, low: float, cycle: int) -> None:
        super().__init__()
        if not 0 <= low <= high or not isinstance(cycle, int) or cycle < 1:
            raise ConfigError(f"a cycle needs 0 <= low <= high and cycle >= 1. Received: {high=}, {low=}, {cycle=}")
        self.high, self.low, self.cycle = float(high), float(low), cycle

    def __call__(self, step: Any) -> Any:
        """The rate of a step, float32."""
        t = ops.cast(ops.cast(step, "int32") % self.cycle + 1, "float32") / self.cycle
        return (1.0 - t) * self.high + t * self.low

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"high": self.high, "low": self.low, "cycle": self.cycle}


def refresh_statistics(model: keras.Model, batches: Iterable[Any]) -> int:
    """Set the means and variances of all batch norms to those of ``batches`` under the weights of now.

    Averaged weights see other activations than any of the weights that were averaged. Each moving statistic becomes
    the equal mean over the batches of what the layer measures in training mode; nothing else changes.

    Args:
        model: built, with the averages in its weights (within `averaged`, whose exit takes away the statistics too
            if they are among what is averaged, or after `EMA.apply`).
        batches: inputs as the model takes them, of equal size; without targets.

    Returns:
        The number of batches; 0 if the model has no batch norm.

    Raises:
        DataError: no batches.

    Source: arXiv 1803.05407, section 3.2.
    """
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    norms = [layer for layer in norms if layer.trainable]  # frozen ones use their statistics in training as well
    if not norms:
        return 0
    wanted = {id(v): v for layer in norms for v in (layer.moving_mean, layer.moving_variance)}
    fixed = model.non_trainable_variables
    places = [i for i, v in enumerate(fixed) if id(v) in wanted]
    momenta = [layer.momentum for layer in norms]
    sums: list[Any] = [0.0] * len(places)
    count = 0
    mode = {"training": True} if model._call_has_training_arg else {}

    def statistics(trainable: Any, others: Any, x: Any) -> list[Any]:
        _, new = model.stateless_call(trainable, others, x, **mode)
        return [new[i] for i in places]

    if keras.backend.backend() == "jax":
        import jax

        statistics = jax.jit(statistics)
    try:
        for layer in norms:
            layer.momentum = 0.0  # the new statistic is the batch's
        for batch in batches:
            x = tree.map_structure(ops.convert_to_tensor, batch)
            with same_randomness():
                found = statistics([v.value for v in model.trainable_variables], [v.value for v in fixed], x)
            sums = [s + np.asarray(ops.convert_to_numpy(f), "float64") for s, f in zip(sums, found, strict=True)]
            count += 1
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
    if not count:
        raise DataError("refresh_statistics was given no batches.")
    for i, total in zip(places, sums, strict=True):
        fixed[i].assign((total / count).astype("float32"))
    return count
