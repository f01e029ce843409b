"""What callbacks that average weights have in common: when they look, when the averages stand in the model, state."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kexue.errors import CheckpointError, ConfigError
from kexue.training.swapping import Swap, accumulation_steps, attach, chain, chosen, detach, patterns

__all__ = ["Swapping", "WeightAverage"]


class Swapping(keras.callbacks.Callback):
    """Installs averages when Keras evaluates, predicts or ends an epoch."""

    swap: Swap

    def __init__(self, *, evaluate: bool, epoch_end: bool, final: str) -> None:
        super().__init__()
        if final not in ("training", "averaged"):
            raise ConfigError(f"final must be 'training' or 'averaged'. Received: {final!r}")
        self.evaluate, self.epoch_end, self.final = evaluate, epoch_end, final
        self._kept = False  # as installed by `on_epoch_end` or before, not by this evaluation

    @property
    def ready(self) -> bool:
        """There is an average."""
        return True

    def on_train_begin(self, logs: Any = None) -> None:
        """Go on from the weights of training."""
        self.swap.reset()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Go on from the weights of training."""
        self.swap.reset()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Callbacks that come later see the averages."""
        if self.epoch_end and self.ready:
            self.swap.apply()

    def on_train_end(self, logs: Any = None) -> None:
        """Leave what ``final`` asks for."""
        if self.final == "averaged" and self.ready:
            self.swap.apply()
        else:
            self.swap.reset()

    def on_test_begin(self, logs: Any = None) -> None:
        """Evaluate the averages."""
        self._kept = self.swap.applied
        if self.evaluate and self.ready:
            self.swap.apply()

    def on_test_end(self, logs: Any = None) -> None:
        """Put the weights of training back."""
        if not self._kept:
            self.swap.reset()

    def on_predict_begin(self, logs: Any = None) -> None:
        """Predict with the averages."""
        self.on_test_begin()

    def on_predict_end(self, logs: Any = None) -> None:
        """Put the weights of training back."""
        self.on_test_end()


class WeightAverage(Swapping):
    """What the averages have in common.

    Args:
        every: take a sample every so many updates or epochs.
        unit: ``"step"``: updates of the weights, of which accumulated gradients make one in several batches;
            ``"epoch"``: ends of epochs, before their validation.
        start: how many updates or epochs to wait.
        include: globs for the paths of the weights to average, batch-norm statistics among them.
        exclude: likewise, of those to leave as they are.
        evaluate: averages stand in the model during ``evaluate`` and ``predict`` that have this callback, and the
            validation of ``fit``.
        epoch_end: callbacks that are listed after this one see the averages at the end of an epoch, such as
            ``ModelCheckpoint`` and `BestWeights`. `Resume` saves the weights of training all the same; put Keras'
            ``BackupAndRestore`` before this one.
        final: what the model holds after ``fit``, ``"training"`` or ``"averaged"``. The next ``fit`` goes on from the
            weights of training in either case.

    Attributes:
        steps: updates seen so far.
        samples: taken so far.
    """

    state_name = "average"

    def __init__(
        self,
        *,
        every: int = 1,
        unit: Literal["step", "epoch"] = "step",
        start: int = 0,
        include: str | Sequence[str] = "*",
        exclude: str | Sequence[str] = (),
        evaluate: bool = True,
        epoch_end: bool = True,
        final: Literal["training", "averaged"] = "training",
    ) -> None:
        super().__init__(evaluate=evaluate, epoch_end=epoch_end, final=final)
        if not isinstance(every, int) or every < 1 or not isinstance(start, int) or start < 0:
            raise ConfigError(f"a sample is taken every 1 or more, from 0 or later. Received: {every=}, {start=}")
        if unit not in ("step", "epoch"):
            raise ConfigError(f"unit must be 'step' or 'epoch'. Received: {unit!r}")
        self.every, self.unit, self.start = every, unit, start
        self.include, self.exclude = patterns(include), patterns(exclude)
        self.steps = self.samples = self.epochs = self._since = 0
        self.swap = Swap(self._pairs)
        self._variables: list[Any] | None = None
        self._pending: dict[str, np.ndarray] | None = None
        self._last: int | None = None
        self._open = False

    # ---------------------------------------------------------------- the average

    def _begin(self, values: list[Any]) -> None:
        raise NotImplementedError

    def _sample(self, values: list[Any], steps: int) -> None:
        raise NotImplementedError

    def _averages(self) -> list[Any]:
        raise NotImplementedError

    def _state(self) -> dict[str, Any]:
        raise NotImplementedError

    def _restore(self, arrays: dict[str, np.ndarray]) -> None:
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        """There is an average."""
        return self.samples > 0

    def _values(self) -> list[Any]:
        model = self.model  # on JAX the property puts the state of fit into the variables
        if self._variables is None:
            self._prepare(model)
        return [variable.value for variable in self._variables or ()]

    def _pairs(self) -> list[tuple[Any, Any]]:
        self._values()
        if not self.ready:
            raise ConfigError(f"{type(self).__name__} has no average yet: no sample was taken.")
        return list(zip(self._variables or (), self._averages(), strict=True))

    def _prepare(self, model: keras.Model) -> None:
        self._variables = chosen(model.weights, self.include, self.exclude)
        self._begin([variable.value for variable in self._variables])
        if self._pending is not None:
            arrays, self._pending = self._pending, None
            self.load_state_arrays(arrays)

    def update(self, count: int = 1) -> None:
        """Tell of ``count`` updates of the weights; called by Keras in ``fit``, by oneself in a loop of one's own.

        In such a loop call ``set_model(model)`` before the first update.
        """
        if self._variables is None:
            self._values()
        self.steps += count
        if self.unit == "step":
            self._advance(count, self.steps)

    def _advance(self, count: int, total: int) -> None:
        self._since += min(count, max(total - self.start, 0))
        if self._since >= self.every:
            self._sample(self._values(), self._since)
            self.samples, self._since = self.samples + 1, 0

    def apply(self) -> None:
        """Put the averages into the model, and the weights of training aside."""
        self.swap.apply()

    def reset(self) -> None:
        """Put the weights of training back."""
        self.swap.reset()

    def keep(self, model: keras.Model) -> None:
        """Leave the averages in the model for good, when all training is done; it knows this callback no more."""
        self.set_model(model)
        self.swap.keep()
        detach(model, self.swap)

    # ---------------------------------------------------------------- called by Keras

    def set_model(self, model: keras.Model) -> None:
        """Average the weights of this model and no other."""
        if self._model is not None and model is not self._model:
            raise ConfigError(f"this {type(self).__name__} averages {self._model.name!r}. Make another for each model.")
        super().set_model(model)
        attach(model, self.swap)
        if model.built:
            self._values()

    def on_train_begin(self, logs: Any = None) -> None:
        """Check the optimizer."""
        super().on_train_begin()
        for optimizer in chain(self.model.optimizer):
            if getattr(optimizer, "use_ema", False):
                raise ConfigError(
                    f"the optimizer {optimizer.name!r} has use_ema=True and puts averages into the weights by itself; "
                    f"{type(self).__name__} would average averages. Use one of the two."
                )
        self._last = None
        self._values()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Count updates from here."""
        super().on_epoch_begin(epoch)
        self._open = True
        self._raw, self._accumulated, self._skips = _counter(self.model.optimizer)
        if self._last is None:
            self._last = self._raw // self._accumulated

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count the updates of this call."""
        raw = _counter(self.model.optimizer)[0] if self._skips else self._raw + batch + 1
        updates = raw // self._accumulated
        count, self._last = updates - (self._last or 0), updates
        if count > 0:
            self.update(count)

    def _close(self) -> None:
        if self._open:
            self._open = False
            self.epochs += 1
            if self.unit == "epoch":
                self._advance(1, self.epochs)

    def on_test_begin(self, logs: Any = None) -> None:
        """The validation of an epoch counts its sample."""
        self._close()
        super().on_test_begin()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Take the epoch's sample, and show the averages to later callbacks."""
        self._close()
        super().on_epoch_end(epoch)

    # ---------------------------------------------------------------- state, for `Resume`

    def state_arrays(self) -> dict[str, np.ndarray]:
        """Everything that the average consists of."""
        if self._variables is None:
            return {} if self._pending is None else self._pending
        counts = {"steps": self.steps, "samples": self.samples, "epochs": self.epochs, "since": self._since}
        return {**{key: np.asarray(value, "int64") for key, value in counts.items()}, **_arrays(self._state())}

    def load_state_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """The reverse; before the callback knows its model, it waits.

        Raises:
            CheckpointError: the arrays are of another average or other weights.
        """
        if not arrays:
            return
        if self._variables is None:
            self._pending = dict(arrays)
            return
        try:
            self._restore(arrays)
            self.steps, self.samples, self.epochs, self._since = (
                int(arrays[key]) for key in ("steps", "samples", "epochs", "since")
            )
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"the saved state does not fit this {type(self).__name__} of {len(self._variables)} weights: {error}. "
                "Give it the arguments that it had."
            ) from None

    def _numbered(self, arrays: dict[str, np.ndarray], group: str) -> list[Any]:
        """The tensors of ``group``, checked against the weights."""
        found = [arrays[key] for key in sorted(arrays) if key.startswith(f"{group}.")]
        expected = [tuple(v.shape) for v in self._variables or ()]
        if [array.shape for array in found] != expected:
            raise ValueError(f"{group}: expected the shapes {expected}, received {[a.shape for a in found]}")
        return [ops.convert_to_tensor(array) for array in found]


def _counter(optimizer: Any) -> tuple[int, int, bool]:
    """Batches that an optimizer took, how many make an update, and whether it may skip some (loss scaling)."""
    every = list(chain(optimizer))
    accumulated = accumulation_steps(optimizer) or 1
    taken = getattr(every[-1], "_iterations", every[-1].iterations)
    skips = any(isinstance(o, keras.optimizers.LossScaleOptimizer) for o in every)
    return int(ops.convert_to_numpy(taken)), accumulated, skips


def _arrays(state: dict[str, Any]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for key, value in state.items():
        if isinstance(value, list):
            found |= {f"{key}.{i:05d}": np.array(ops.convert_to_numpy(v)) for i, v in enumerate(value)}
        else:
            found[key] = value
    return found
