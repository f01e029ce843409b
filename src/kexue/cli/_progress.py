"""Progress of a training: a bar on a terminal, a line an epoch elsewhere."""

import sys
import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kexue.cli._common import note

__all__ = ["TrainingProgress"]


class TrainingProgress(keras.callbacks.Callback):
    """Shows the loss while an epoch runs and all its figures when it ends.

    Args:
        name: written before the epoch.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self.name = name and f"{name}  "
        self.bar: Progress | None = None
        self.task: Any = None
        self.began = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Open the bar."""
        if sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("loss {task.fields[loss]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task("starting", total=self.params.get("steps"), loss="...")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the bar back to its start."""
        self.began = time.perf_counter()
        if self.bar is not None:
            self.bar.reset(
                self.task, total=self.params.get("steps"), description=f"{self.name}epoch {epoch + 1}", loss="..."
            )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """One step further."""
        if self.bar is not None:
            loss = (logs or {}).get("loss")
            self.bar.update(self.task, completed=batch + 1, loss="..." if loss is None else f"{float(loss):.4f}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """A line that stays."""
        figures = "  ".join(f"{name} {float(value):.4g}" for name, value in (logs or {}).items())
        seconds = time.perf_counter() - self.began
        note(f"{self.name}epoch {epoch + 1}/{self.params.get('epochs', '?')}  {figures}  {seconds:.1f} s")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Give the terminal back; may be called twice."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
