"""Random numbers that depend on the steps of a training alone."""

from typing import Any

import keras
import numpy as np

__all__ = ["SteadyRandom"]


class SteadyRandom(keras.callbacks.Callback):
    """Each step goes on with PyTorch's random numbers where the step before left them.

    Passes over data, validation and other callbacks draw from the same generator in between; undone, those draws let
    a run that was resumed differ from one that was never stopped. The other backends keep the states of their
    generators in variables, and nothing is to be done there.

    Attributes:
        state: of the generator after the last step; None before the first, and on other backends.
    """

    state_name = "random"

    def __init__(self) -> None:
        super().__init__()
        self.state: np.ndarray | None = None
        self._torch = keras.backend.backend() == "torch"

    def state_arrays(self) -> dict[str, np.ndarray]:
        """For `Resume`."""
        return {} if self.state is None else {"torch": self.state}

    def load_state_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """The reverse."""
        self.state = arrays["torch"]

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._torch and self.state is not None:
            import torch

            torch.set_rng_state(torch.from_numpy(self.state.copy()))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._torch:
            import torch

            self.state = torch.get_rng_state().numpy()
