"""The weights of the best epoch."""

from typing import Any, Literal

import keras
import numpy as np

__all__ = ["BestWeights"]


class BestWeights(keras.callbacks.Callback):
    """Remembers the weights of the epoch with the best value of a log entry, and puts them back when asked (`restore`).

    Args:
        monitor: name in the logs; an earlier callback may have put it there.
        mode: whether large or small is good. Of equal values the latest epoch counts: it has learnt more, and a score
            that stays at 0 must not keep the weights of the first epoch.
    """

    state_name = "best"

    def __init__(self, monitor: str = "val_f1", mode: Literal["max", "min"] = "max") -> None:
        super().__init__()
        self.monitor, self.mode = monitor, mode
        self.epoch: int | None = None
        self.value: float | None = None
        self.weights: list[np.ndarray] | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare with the best so far."""
        value = (logs or {}).get(self.monitor)
        if value is None or np.isnan(value):
            return
        if self.value is None or (value >= self.value if self.mode == "max" else value <= self.value):
            self.epoch, self.value = epoch, float(value)
            self.weights = [np.array(keras.ops.convert_to_numpy(v.value)) for v in self.model.weights]

    @property
    def state_version(self) -> int | None:
        """Changes with the weights; for `Resume`."""
        return self.epoch

    def state_arrays(self) -> dict[str, np.ndarray]:
        """Epoch, value and weights; for `Resume`."""
        if self.epoch is None or self.weights is None:
            return {}
        weights = {f"weight.{i:05d}": weight for i, weight in enumerate(self.weights)}
        return {"epoch": np.asarray(self.epoch, "int64"), "value": np.asarray(self.value, "float64"), **weights}

    def load_state_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """The reverse."""
        self.epoch, self.value = int(arrays["epoch"]), float(arrays["value"])
        self.weights = [arrays[key] for key in sorted(arrays) if key.startswith("weight.")]

    def restore(self, model: keras.Model) -> None:
        """Put the best weights into the model, if any epoch was recorded."""
        if self.weights is not None:
            for variable, weight in zip(model.weights, self.weights, strict=True):
                variable.assign(weight)
