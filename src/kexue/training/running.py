"""Keras ``fit`` over batches that can begin anywhere, from a saved state where there is one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import keras

from kexue.training.feeding import feed
from kexue.training.resume import Resume

__all__ = ["run"]


def run(
    model: keras.Model,
    batches: Any,
    *,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    state: Resume | None = None,
    verbose: int | str = "auto",
    validation: Any = None,
    short: bool = False,
) -> keras.callbacks.History:
    """Train a compiled model.

    Args:
        model: compiled.
        batches: a `keras.utils.PyDataset` with ``num_batches``, ``signature()`` and the attributes ``epoch`` and
            ``start``: where in the run its first batch lies.
        epochs: in all, those of an earlier process included.
        callbacks: of Keras.
        state: restored first, saved on the way; it comes last of the callbacks.
        verbose: as in Keras.
        validation: batches of the same kind, for ``val_loss`` and so on.
        short: the last epoch has fewer batches than the others.

    Returns:
        The History over all epochs, resumed ones included.
    """
    history = keras.callbacks.History()
    history.set_model(model)
    logs: dict[str, list[Any]] = {}
    first, done = 0, 0
    if state is not None and state.restore(model):
        logs = {key: list(values) for key, values in state.history.items()}
        first, done = state.epoch, state.step
        if state.finished:
            first = epochs
    every = [_Place(batches), *callbacks, *([state] if state is not None else [])]
    # Keras counts the steps of an epoch once in a fit: an epoch of another number of steps, the rest of one that was
    # interrupted or a shorter last one, has a fit of its own.
    cuts = {first, epochs} | ({first + 1} if done else set()) | ({epochs - 1} if short else set())
    for start, stop in pairwise(sorted(cut for cut in cuts if first <= cut <= epochs)):
        if model.stop_training and start > first:
            continue
        batches.epoch, batches.start = start, done
        done = 0
        with _flushed_denormals():
            part = model.fit(
                feed(batches),
                epochs=stop,
                initial_epoch=start,
                callbacks=every,
                verbose=verbose,
                shuffle=False,
                validation_data=None if validation is None else feed(validation),
            )
        for key, values in part.history.items():
            logs.setdefault(key, []).extend(float(v) for v in values)
    history.epoch = list(range(max((len(values) for values in logs.values()), default=0)))
    history.history = logs
    if state is not None and not state.finished:
        state.finish(model, len(history.epoch))
    return history


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """On a CPU, numbers below 1e-38 count as 0 in PyTorch, as XLA has it: the arithmetic of small gradients would take
    up to five times as long."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    before = float(torch.tensor(1e-39) * 0.5) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


class _Place(keras.callbacks.Callback):
    """Tells the batches which epoch it is."""

    def __init__(self, batches: Any) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.batches.epoch = epoch
