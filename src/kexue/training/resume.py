"""Training that goes on after a kill as if nothing had happened.

A state folder holds ``state.json`` (where the run is, its history, what job it is) and the safetensors files that it
names: weights, optimizer, metrics and random states, and one file for each callback that has a state (`Stateful`). New
files are complete on the disk before ``state.json`` names them, so the folder is usable whenever the process dies.
"""

import json
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np

from kexue.checkpoints import open_checkpoint, write_safetensors
from kexue.errors import CheckpointError, ConfigError
from kexue.files import atomic_write
from kexue.training.swapping import settle, training_weights

__all__ = ["Resume", "Stateful"]

_FORMAT = "kexue-training-state"


@runtime_checkable
class Stateful(Protocol):
    """A callback whose memory is part of a run; a class of one's own needs no base class for it.

    It may have a ``state_version``, a hashable value: its file is written again only when that changes.
    """

    state_name: str
    """Name of its file, the same in every run."""

    def state_arrays(self) -> dict[str, np.ndarray]:
        """Everything that it remembers; empty if there is nothing yet."""
        ...

    def load_state_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Remember that instead. Called before ``fit``, and so before the callback knows its model."""
        ...


class Resume(keras.callbacks.Callback):
    """Saves the state of ``fit`` and restores it.

    Give it as the last of your callbacks. After `restore`, call ``fit(..., initial_epoch=resume.epoch)`` with data
    that begin with step ``resume.step`` of that epoch.

    Args:
        folder: where the state lives; created when needed.
        job: JSON data that tell this job from others: settings, and a digest of the data. A folder of another job is
            refused.
        save_every: also save every so many steps within an epoch; None: at the end of epochs only.
        callbacks: those of ``fit``. What `Stateful` ones of them remember is part of the state; others are passed over.
        writes: False: only reads, for all processes of a training but one.

    Attributes:
        epoch: the epoch to begin or go on with.
        step: how many steps of that epoch are done.
        history: logs of the finished epochs.
        finished: nothing is left to do; see `finish`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        job: Mapping[str, Any],
        save_every: int | None = None,
        callbacks: Sequence[Any] = (),
        writes: bool = True,
    ) -> None:
        super().__init__()
        if save_every is not None and save_every < 1:
            raise ConfigError(f"save_every must be a positive number of steps or None. Received: {save_every}")
        self.folder = Path(folder)
        self.job = json.loads(json.dumps(job))
        self.save_every, self.writes = save_every, writes
        self.stateful: dict[str, Stateful] = {}
        for callback in callbacks:
            if isinstance(callback, Stateful):
                same = sum(other.state_name == callback.state_name for other in self.stateful.values())
                self.stateful[f"{callback.state_name}-{same}"] = callback
        self._written: dict[str, tuple[str, Hashable]] = {}
        self.epoch = self.step = 0
        self.history: dict[str, list[Any]] = {}
        self.finished = False
        self._metrics: list[np.ndarray] | None = None
        self._offset = 0

    # ---------------------------------------------------------------- reading

    def restore(self, model: keras.Model) -> bool:
        """Bring a compiled model, its optimizer and the callbacks to the saved state.

        Returns:
            False if the folder has no state yet.

        Raises:
            ConfigError: the state belongs to another job; the message says what differs.
            CheckpointError: it is damaged or does not fit the model.
        """
        path = self.folder / "state.json"
        if not path.is_file():
            return False
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            if state["format"] != _FORMAT or state["version"] != 2:
                raise ValueError(f"format {state['format']!r}, version {state['version']!r}")
            job, files = state["job"], state["files"]
            epoch, step, history, finished = state["epoch"], state["step"], state["history"], state["finished"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: not the state of a training run ({error!r}). Give another folder."
            ) from None
        self._check_job(job, path)
        if getattr(model, "optimizer", None) is None:
            raise ConfigError(
                "the model must be compiled before its state is restored: model.compile(optimizer, loss)."
            )
        settle(model)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        arrays = self._read(files["state"])
        groups = {name: [v for k, v in sorted(arrays.items()) if k.startswith(name)] for name in _groups(model)}
        for name, variables in _groups(model).items():
            _check(groups[name], variables, self.folder / files["state"], name)
        for name, variables in _groups(model).items():
            for variable, value in zip(variables, groups[name], strict=True):
                variable.assign(value)
        self._metrics = groups["metrics"]
        for name, callback in self.stateful.items():
            if name in files:
                callback.load_state_arrays(self._read(files[name]))
                self._written[name] = (files[name], getattr(callback, "state_version", None))
        self.epoch, self.step, self.history, self.finished = epoch, step, history, finished
        return True

    def _check_job(self, job: Mapping[str, Any], path: Path) -> None:
        if job == self.job:
            return
        keys = [key for key in {**job, **self.job} if job.get(key) != self.job.get(key)]
        shown = "; ".join(f"{key} was {_short(job.get(key))}, now {_short(self.job.get(key))}" for key in keys[:4])
        raise ConfigError(
            f"{path} belongs to another job: {shown}. Run the job it belongs to, or give an empty folder."
        )

    def _read(self, name: str) -> dict[str, np.ndarray]:
        with open_checkpoint(self.folder / name) as checkpoint:
            return {key: np.array(checkpoint[key]) for key in checkpoint.names()}

    # ---------------------------------------------------------------- writing

    def save(self, model: keras.Model, epoch: int, step: int) -> None:
        """Write the state: ``step`` steps of ``epoch`` are done. Of averaged weights, those of training are saved."""
        if not self.writes:
            return
        place = f"{epoch:05d}-{step:07d}.safetensors"
        with training_weights(model):
            arrays = {
                f"{group}.{i:05d}": np.array(keras.ops.convert_to_numpy(variable.value))
                for group, variables in _groups(model).items()
                for i, variable in enumerate(variables)
            }
        self.folder.mkdir(parents=True, exist_ok=True)
        files = {"state": f"state-{place}"}
        write_safetensors(self.folder / files["state"], arrays)
        for name, callback in self.stateful.items():
            version = getattr(callback, "state_version", None)
            if name in self._written and version is not None and self._written[name][1] == version:
                files[name] = self._written[name][0]
            elif arrays := callback.state_arrays():
                files[name] = f"{name}-{place}"
                write_safetensors(self.folder / files[name], arrays)
                self._written[name] = (files[name], version)
        state = {
            "format": _FORMAT,
            "version": 2,
            "epoch": epoch,
            "step": step,
            "finished": self.finished,
            "history": self.history,
            "files": files,
            "job": self.job,
        }
        with atomic_write(self.folder / "state.json") as temporary:
            temporary.write_text(json.dumps(state, ensure_ascii=False, indent=1), encoding="utf-8")
        for name in ("state", *self.stateful):
            for old in self.folder.glob(f"{name}-*.safetensors"):
                if old.name not in files.values():
                    old.unlink()
            for old in self.folder.glob(f".{name}-*.tmp"):  # what a kill in the middle of writing leaves
                old.unlink()

    def finish(self, model: keras.Model, epoch: int) -> None:
        """Mark the job as done: calling it again restores the result and trains no more."""
        self.finished = True
        self.save(model, epoch, 0)

    # ---------------------------------------------------------------- called by Keras

    def on_train_begin(self, logs: Any = None) -> None:
        """What is saved must be the weights of this training, not of an earlier one whose averages it goes on from."""
        settle(self.model, [c.swap for c in self.stateful.values() if hasattr(c, "swap")])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Put the running means of an epoch that was interrupted back."""
        self._offset = self.step if epoch == self.epoch else 0
        self._current = epoch
        if self._metrics is not None and self._offset:
            for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
                variable.assign(value)
        self._metrics = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save now and then, but not at the last step, which the end of the epoch follows."""
        done = self._offset + batch + 1
        if self.save_every and done % self.save_every == 0 and batch + 1 != self.params.get("steps"):
            self.save(self.model, self._current, done)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save."""
        for key, value in (logs or {}).items():
            self.history.setdefault(key, []).append(float(value))
        self.epoch, self.step = epoch + 1, 0
        self.save(self.model, epoch + 1, 0)


def _groups(model: keras.Model) -> dict[str, list[Any]]:
    return {
        "trainable": list(model.trainable_variables),
        "fixed": list(model.non_trainable_variables),  # states of random generators too
        "optimizer": list(model.optimizer.variables),
        "metrics": list(model.metrics_variables),
    }


def _check(arrays: list[np.ndarray], variables: list[Any], path: Path, group: str) -> None:
    expected = [tuple(v.shape) for v in variables]
    received = [array.shape for array in arrays]
    if expected != received:
        raise CheckpointError(
            f"{path}: the {group} arrays do not fit the model: expected {len(expected)} with the shapes "
            f"{_short(expected)}, received {len(received)} with {_short(received)}."
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
