"""Progress of a training: a bar on a terminal, a line an epoch elsewhere."""

import sys
import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kexue.cli._common import note

__all__ = ["TrainingProgress"]


def _speed(figures: dict[str, float]) -> str:
    """``12.3k tokens/s  45.6 GFLOP/s``; empty without figures."""
    words = {"tokens_per_second": "tokens/s", "flops_per_second": "FLOP/s"}
    return "  ".join(f"{_short(figures[name])}{unit}" for name, unit in words.items() if name in figures)


def _short(number: float) -> str:
    """Three digits and a prefix."""
    for prefix in ("", "k", "M", "G"):
        if number < 1000:
            return f"{number:.3g} {prefix}"
        number /= 1000
    return f"{number:.3g} T"


class TrainingProgress(keras.callbacks.Callback):
    """Shows the loss while an epoch runs, with its speed where that is measured, and all its figures when it ends.

    Args:
        name: written before the epoch.

    Attributes:
        speed: a callback whose ``figures()`` are those of the epoch so far (`kexue.tasks.Pretrainer` sets it), or None.
    """

    speed: Any = None

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
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task("starting", total=self.params.get("steps"), loss="...", speed="")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the bar back to its start."""
        self.began = time.perf_counter()
        if self.bar is not None:
            self.bar.reset(
                self.task,
                total=self.params.get("steps"),
                description=f"{self.name}epoch {epoch + 1}",
                loss="...",
                speed="",
            )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """One step further."""
        if self.bar is not None:
            loss = (logs or {}).get("loss")
            speed = "" if self.speed is None else _speed(self.speed.figures())
            loss = "..." if loss is None else f"{float(loss):.4f}"
            self.bar.update(self.task, completed=batch + 1, loss=loss, speed=speed)

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
