"""The log of a run that `kexue.training.batch_size.advice` reads: CSV or JSON Lines, one line an update of the weights.

Columns:

| column | meaning |
|---|---|
| ``step`` | updates of the weights so far, from 1 |
| ``loss`` | mean loss of the update's samples |
| ``learning_rate`` | of that update |
| ``batch_size`` | samples behind the update, B |
| ``micro_batch`` | samples behind one gradient, b |
| ``grad_norm2_micro`` | mean of ``|G_b|^2`` over the update's micro-batches |
| ``grad_norm2_full`` | ``|G_B|^2`` |
| ``sign_agreement`` | optional: mean of ``sign(G_i) sign(G'_i)`` over the coordinates of two micro-batches |

Other columns are left alone; an empty field is a number that was not measured.
"""

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from kexue.errors import ConfigError, DataError
from kexue.training.batch_size.noise import NoiseEstimate, average, kappa2_of_agreement, two_batches

__all__ = ["COLUMNS", "NoiseLog", "read_table"]

COLUMNS = (
    "step",
    "loss",
    "learning_rate",
    "batch_size",
    "micro_batch",
    "grad_norm2_micro",
    "grad_norm2_full",
    "sign_agreement",
)
_POSITIVE = ("step", "batch_size", "micro_batch")
_NORMS = ("micro_batch", "grad_norm2_micro", "grad_norm2_full")


def read_table(path: str | os.PathLike[str]) -> tuple[list[dict[str, Any]], list[int]]:
    """The rows of a CSV or JSON Lines file, and each one's line number; which of the two the first character tells.

    Raises:
        DataError: no rows, no text, or a line that is neither; the message names it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file (UTF-8). Expected CSV or JSON Lines.") from None
    rows: list[dict[str, Any]] = []
    numbers = []
    if text.lstrip().startswith("{"):
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}:{number}: not a line of JSON ({error}).") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number}: expected a JSON object. Received: {line[:60]!r}")
            rows.append(row)
            numbers.append(number)
    else:
        reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
        for found in reader:
            if None in found or None in found.values():
                raise DataError(f"{path}:{reader.line_num}: as many fields as the header has are expected.")
            rows.append(found)
            numbers.append(reader.line_num)
    if not rows:
        raise DataError(f"{path} has no rows. Expected CSV with a header, or JSON Lines.")
    return rows, numbers


def number(row: Mapping[str, Any], name: str, where: str) -> float:
    """One field as a float; NaN where it is empty or missing.

    Raises:
        DataError: it is no number.
    """
    value = row.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"{where}: column {name} must be a number. Received: {value!r}") from None


class NoiseLog:
    """Rows of a run, in memory and, given a path, in a file as they come.

    Args:
        path: ``.csv``, or ``.jsonl``; None keeps them in memory only. A file that exists is continued, so that a run
            that was resumed has one log; rows of steps that the new run repeats are dropped when it is read.
        rows: to begin with.

    Raises:
        ConfigError: the path ends otherwise, or a CSV file with other columns lies there.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, rows: Iterable[Mapping[str, float]] = ()) -> None:
        self.path = None if path is None else Path(path)
        self.rows: list[dict[str, float]] = []
        self._file: IO[str] | None = None
        self._begin()
        for row in rows:
            self.append(row)

    def _begin(self) -> None:
        path = self.path
        if path is None or self._file is not None:
            return
        if path.suffix not in (".csv", ".jsonl"):
            raise ConfigError(f"the log's name must end in .csv or .jsonl. Received: {path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists() or not path.stat().st_size
        header = ",".join(COLUMNS)
        if path.suffix == ".csv" and not fresh:
            with open(path, encoding="utf-8") as file:
                found = file.readline().strip()
            if found != header:
                raise ConfigError(f"{path} has other columns. Expected: {header}. Received: {found[:200]}.")
        self._file = open(path, "a", encoding="utf-8", newline="")  # noqa: SIM115  closed in close()
        if path.suffix == ".csv" and fresh:
            self._file.write(header + "\n")

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row; columns that are missing are empty."""
        full = {name: float(row.get(name, math.nan)) for name in COLUMNS}
        self.rows.append(full)
        self._begin()
        if self._file is None or self.path is None:
            return
        known = {name: _plain(value) for name, value in full.items()}
        if self.path.suffix == ".csv":
            self._file.write(",".join("" if v is None else repr(v) for v in known.values()) + "\n")
        else:
            self._file.write(json.dumps({k: v for k, v in known.items() if v is not None}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file; the next row opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "NoiseLog":
        """A log from a CSV or JSON Lines file.

        Raises:
            DataError: a needed column is missing, or a field is no number, or not positive where it must be; the
                message names the line.
        """
        table, numbers = read_table(path)
        missing = [name for name in ("step", "loss", "learning_rate", "batch_size") if name not in table[0]]
        if missing:
            raise DataError(
                f"{path}: missing columns {', '.join(missing)}. Expected: {', '.join(COLUMNS)} (the last is optional). "
                f"Received: {', '.join(map(str, table[0]))}"
            )
        rows: list[dict[str, float]] = []
        for row, line in zip(table, numbers, strict=True):
            where = f"{path}:{line}"
            values = {name: number(row, name, where) for name in COLUMNS}
            for name in _POSITIVE:
                if values[name] <= 0 or (name in ("step", "batch_size") and not math.isfinite(values[name])):
                    raise DataError(f"{where}: column {name} must be a positive number. Received: {row.get(name)!r}")
            while rows and rows[-1]["step"] >= values["step"]:
                rows.pop()  # a run that was resumed repeats steps since its last save
            rows.append(values)
        return cls(rows=rows)

    def column(self, name: str) -> np.ndarray:
        """One column as float64, NaN where it was not measured."""
        return np.array([row[name] for row in self.rows], np.float64)

    def estimate(self, *, skip: float = 0.2, blocks: int = 16) -> NoiseEstimate:
        """The noise, averaged over the run.

        Args:
            skip: share of the run's steps left out at its beginning, where the gradient is large and changes fast.
            blocks: of consecutive steps, for the confidence interval.

        Raises:
            DataError: no row has both norms, with a micro-batch smaller than the batch.
        """
        if not 0 <= skip < 1:
            raise ConfigError(f"skip must be in [0, 1). Received: {skip}")
        B, b, small, large = (self.column(name) for name in ("batch_size", *_NORMS))
        usable = np.isfinite(small) & np.isfinite(large) & np.isfinite(b) & (b < B)
        if not usable.any():
            raise DataError(
                "no row tells the noise: grad_norm2_micro, grad_norm2_full and micro_batch < batch_size are needed. "
                "Train with gradient_accumulation_steps of at least 2, or measure with measure_noise_scale."
            )
        usable &= np.arange(len(usable)) >= int(skip * len(usable)) if usable[int(skip * len(usable)) :].any() else True
        pairs = [two_batches(*values) for values in zip(*(x[usable] for x in (small, large, b, B)), strict=True)]
        norm2, trace = np.array(pairs).T
        signs, size = self.column("sign_agreement")[usable], b[usable]
        known = np.isfinite(signs)
        # kappa^2 needs one micro-batch size; the commonest
        sizes, counts = np.unique(size[known], return_counts=True)
        kappa2 = None
        if len(sizes):
            common = sizes[counts.argmax()]
            kappa2 = kappa2_of_agreement(float(signs[known & (size == common)].mean()), float(common))
        return average(norm2, trace, blocks=blocks, kappa2=kappa2)


def _plain(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) < 1e15 else value
