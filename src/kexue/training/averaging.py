"""Averages of weights as Keras callbacks: exponential (EMA), equal (SWA), of the latest (LAWA).

They look on: training is the same with and without them. For averages within the compiled step see
`kexue.training.AveragedOptimizer`.
"""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.training.blending import check_ema, compiled_blend, sample_weight
from kexue.training.swapping import Swap, chain, copied
from kexue.training.weight_average import Swapping, WeightAverage

__all__ = ["EMA", "LAWA", "SWA", "SwapAverage"]


class EMA(WeightAverage):
    """Exponential moving average of the weights.

        A <- d A + (1 - d) w     after each update of the weights w

    Args:
        decay: d, in [0, 1]. 0.9999 for large models, 0.999 for GANs and short training.
        mode: ``"copy"``: A begins as the first weights, which keep the share d^n. ``"zero"``: A begins at 0 and is
            divided by the sum of the shares, ``1 - d^n``, which takes the first weights out.
        warmup: the decay of update n (from 0) is ``min(d, (1 + n) / (10 + n))``.
        update_every: k: take a sample after every k-th update only, with ``d^k``; also where one call of Keras makes
            several updates (``steps_per_execution``).
        **options: of `WeightAverage`.

    The averages are float32 whatever the weights are, all weights by default, batch-norm statistics among them.

    Example:
        ``ema = EMA(0.999)``, ``model.fit(x, y, validation_data=..., callbacks=[ema, ModelCheckpoint(...)])``, then
        ``with averaged(model): model.save("averaged.keras")``.

    Source: kexue.fm article 6575; the warm-up: TensorFlow's ``ExponentialMovingAverage``.
    """

    state_name = "ema"

    def __init__(
        self,
        decay: float = 0.9999,
        *,
        mode: Literal["copy", "zero"] = "copy",
        warmup: bool = False,
        update_every: int = 1,
        **options: Any,
    ) -> None:
        check_ema(decay, mode, update_every)
        if "every" in options or "unit" in options:
            raise ConfigError("EMA takes update_every instead of every and unit.")
        super().__init__(every=update_every, **options)
        self.decay, self.mode, self.warmup = float(decay), mode, bool(warmup)
        self._total = 0.0

    @property
    def ready(self) -> bool:
        """There is an average: from the beginning with a copy."""
        return self.samples > 0 or (self.mode == "copy" and self._variables is not None)

    def _begin(self, values: list[Any]) -> None:
        self._blend = compiled_blend()
        copy = self.mode == "copy"
        self._shadows = [copied(ops.cast(v, "float32")) if copy else ops.zeros_like(v, "float32") for v in values]
        self._total = float(copy)

    def _sample(self, values: list[Any], steps: int) -> None:
        weight = sample_weight(self.decay, self.warmup, steps, self.steps - steps)
        self._shadows = self._blend(self._shadows, values, weight)
        self._total += weight * (1.0 - self._total)

    def _averages(self) -> list[Any]:
        if self.mode == "copy":
            return self._shadows
        if self._total == 0:
            raise ConfigError("decay=1 gives every sample the share 0.")
        return [shadow / self._total for shadow in self._shadows]

    def _state(self) -> dict[str, Any]:
        return {"total": np.asarray(self._total, "float64"), "weights": self._shadows}

    def _restore(self, arrays: dict[str, np.ndarray]) -> None:
        self._shadows, self._total = self._numbered(arrays, "weights"), float(arrays["total"])


class SWA(WeightAverage):
    """Equal average of the weights at the end of several epochs or cycles (stochastic weight averaging).

        A <- A + (w - A) / n     with sample n = 1, 2, ...

    With a cyclic rate, take ``every`` as the length of the cycle (`CyclicLinear`). A network with batch norm needs its
    statistics taken anew for the average: `refresh_statistics`.

    Args:
        start: how many epochs (or updates) to wait; three quarters of the training in the paper.
        every: epochs (or updates) from sample to sample.
        unit: of both, ``"epoch"`` or ``"step"``.
        **options: of `WeightAverage`.

    Source: Izmailov et al., arXiv 1803.05407.
    """

    state_name = "swa"

    def __init__(
        self, start: int = 0, every: int = 1, *, unit: Literal["step", "epoch"] = "epoch", **options: Any
    ) -> None:
        super().__init__(start=start, every=every, unit=unit, **options)

    def _begin(self, values: list[Any]) -> None:
        self._blend = compiled_blend()
        self._shadows = [ops.zeros_like(v, "float32") for v in values]

    def _sample(self, values: list[Any], steps: int) -> None:
        self._shadows = self._blend(self._shadows, values, 1.0 / (self.samples + 1))

    def _averages(self) -> list[Any]:
        return self._shadows

    def _state(self) -> dict[str, Any]:
        return {"weights": self._shadows}

    def _restore(self, arrays: dict[str, np.ndarray]) -> None:
        self._shadows = self._numbered(arrays, "weights")


class LAWA(WeightAverage):
    """Equal average of the weights at the latest k samples (latest weight averaging).

    Args:
        k: how many; they lie in the memory of the host, float32.
        every: epochs (or updates) from sample to sample.
        unit: of it, ``"epoch"`` or ``"step"``.
        start: how many epochs (or updates) to wait.
        **options: of `WeightAverage`.

    Source: Kaddour, arXiv 2209.14981.
    """

    state_name = "lawa"

    def __init__(
        self,
        k: int = 5,
        every: int = 1,
        *,
        unit: Literal["step", "epoch"] = "epoch",
        start: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(start=start, every=every, unit=unit, **options)
        if not isinstance(k, int) or k < 1:
            raise ConfigError(f"k must be a positive integer. Received: {k!r}")
        self.k = k

    def _begin(self, values: list[Any]) -> None:
        self._latest: list[list[np.ndarray]] = []

    def _sample(self, values: list[Any], steps: int) -> None:
        taken = [np.array(ops.convert_to_numpy(ops.cast(value, "float32"))) for value in values]
        self._latest = [*self._latest, taken][-self.k :]

    def _averages(self) -> list[Any]:
        return [np.mean(group, axis=0, dtype="float64") for group in zip(*self._latest, strict=True)]

    def _state(self) -> dict[str, Any]:
        return {f"sample{i:03d}": taken for i, taken in enumerate(self._latest)}

    def _restore(self, arrays: dict[str, np.ndarray]) -> None:
        groups = sorted({key.split(".")[0] for key in arrays if key.startswith("sample") and "." in key})
        self._latest = [[ops.convert_to_numpy(t) for t in self._numbered(arrays, group)] for group in groups][-self.k :]


class SwapAverage(Swapping):
    """Installs the averages of an `AveragedOptimizer` around evaluation and at the end of epochs.

    Args:
        evaluate: as in `WeightAverage`.
        epoch_end: likewise.
        final: likewise.

    For Keras' own ``use_ema=True`` there is ``keras.callbacks.SwapEMAWeights``.
    """

    def __init__(
        self, *, evaluate: bool = True, epoch_end: bool = True, final: Literal["training", "averaged"] = "training"
    ) -> None:
        super().__init__(evaluate=evaluate, epoch_end=epoch_end, final=final)

    def set_model(self, model: keras.Model) -> None:
        """Find the optimizer that averages."""
        super().set_model(model)
        owners = [o for o in chain(model.optimizer) if isinstance(getattr(o, "swap", None), Swap)]
        if not owners:
            raise ConfigError(
                "SwapAverage needs a model that was compiled with AveragedOptimizer. "
                f"Received: {type(model.optimizer).__name__}"
            )
        self._owner, self.swap = owners[0], owners[0].swap

    @property
    def ready(self) -> bool:
        """There is an average."""
        _ = self.model  # on JAX the property puts the state of fit into the variables
        return self._owner.ready
