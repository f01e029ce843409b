"""Logs of a run: speed, and a CSV file that survives a kill and goes on after it."""

import csv
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kexue.errors import DataError
from kexue.files import atomic_write

__all__ = ["CsvLog", "Speed"]


class Speed(keras.callbacks.Callback):
    """Adds ``tokens_per_second`` and ``flops_per_second`` of the epoch to its logs.

    The clock starts after the first step of the epoch, which may compile, and stops before validation and saving.

    Args:
        tokens: of a step.
        flops: of a step, see `training_flops`.
    """

    def __init__(self, tokens: int, flops: float) -> None:
        super().__init__()
        self.tokens, self.flops = tokens, flops
        self._steps, self._began, self._now = 0, 0.0, 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._steps = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        # The value is waited for now and then, or the clock would show how fast steps are queued.
        if logs and batch % 8 == 0:
            float(logs["loss"])
        self._now = time.perf_counter()
        if not self._steps:
            self._began = self._now
        self._steps += 1

    def figures(self) -> dict[str, float]:
        """Means since the epoch began."""
        if self._steps < 2:
            return {}
        rate = (self._steps - 1) / (self._now - self._began)
        return {"tokens_per_second": rate * self.tokens, "flops_per_second": rate * self.flops}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs.update(self.figures())


class CsvLog(keras.callbacks.Callback):
    """A line for every ``every`` steps and at the end of each epoch: ``step``, ``epoch``, ``seconds`` and the logs.

    Losses and accuracies are means since the beginning of the epoch. Each line is written at once, so that a kill
    costs none; a run that goes on from an earlier state drops the lines after it first.

    Args:
        path: of the file.
        columns: names of logs.
        steps: updates in an epoch; the last may have fewer.
        every: updates between lines within an epoch; None: at its end only.
        constants: columns that are the same in all lines.
        accumulation: batches to an update.
        rate: gives the learning rate of an update, by its number from 0.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Sequence[str],
        *,
        steps: int,
        every: int | None = None,
        constants: Mapping[str, Any] | None = None,
        accumulation: int = 1,
        rate: Callable[[int], Any] | None = None,
    ) -> None:
        super().__init__()
        self.path, self.steps, self.every = Path(path), steps, every
        self.accumulation, self.rate = accumulation, rate
        self.constants = dict(constants or {})
        self.columns = ["step", "epoch", "seconds", *self.constants, "learning_rate", *columns]
        self._began, self._epoch, self._offset, self._seen = time.time(), 0, 0, 0

    def start(self, epoch: int, step: int) -> None:
        """Begin the file, or go on with it after ``step`` batches of ``epoch``.

        Raises:
            DataError: the file is there and is not such a log.
        """
        self._offset, done = step, epoch * self.steps + step // self.accumulation
        kept: list[dict[str, str]] = []
        if self.path.is_file() and done:
            with self.path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                if reader.fieldnames is None or "step" not in reader.fieldnames:
                    raise DataError(f"{self.path} is not the log of a run: no column 'step'. Move it elsewhere.")
                kept = [row for row in reader if (row["step"] or "").isdigit() and int(row["step"]) <= done]
        before = float(kept[-1].get("seconds") or 0) if kept else 0.0
        self._began = time.time() - before
        with atomic_write(self.path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows({name: row.get(name) or "" for name in self.columns} for row in kept)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        update, rest = divmod(self._offset + batch + 1, self.accumulation)
        self._seen = update
        last = batch + 1 == self.params.get("steps")
        if self.every and not rest and update % self.every == 0 and not last:
            self._write(update, logs or {})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._write(self._seen, logs or {})
        self._offset = 0

    def _write(self, step: int, logs: Mapping[str, Any]) -> None:
        done = self._epoch * self.steps + step
        values = {name: f"{float(value):.6g}" for name, value in logs.items()}
        if self.rate is not None:
            values["learning_rate"] = f"{float(self.rate(done - 1)):.6g}"
        line = self.constants | {"step": done, "epoch": self._epoch, "seconds": f"{time.time() - self._began:.1f}"}
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns, extrasaction="ignore", restval="").writerow(values | line)
