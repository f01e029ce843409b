"""Batches for training: made by several processes, each delivered once an epoch, resumable anywhere."""

import json
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import keras
import numpy as np

# The hook by which Keras takes batches as they come: a `PyDataset` would be shuffled again by `fit`, and with workers
# Keras 3.15 repeats some of its batches and loses others in the first epoch (docs/data_loading.md).
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from kexue.errors import ConfigError
from kexue.training.data._calls import Call, kept_random
from kexue.training.data._recipe import Maker, Plan
from kexue.training.data.pool import Answer, WorkerError, WorkerPool, retried, worker_count

__all__ = ["Loader"]

_BATCH = 4  # beside the uses in `_recipe`: the global generators while a batch is made


class Loader(DataAdapter):
    """Batches of a source with random access, for ``fit`` on every backend or for a loop of your own.

    In an epoch every example comes exactly once. What a batch holds is a function of ``seed``, epoch and step alone:
    the number of workers, kills and resumes do not change it. ``model.fit(loader, epochs=...)`` takes one epoch of the
    loader an epoch; ``shuffle`` of ``fit`` has no effect.

    Args:
        source: has ``len()`` and ``source[index]``. It is sent to each worker once by pickle, so let it open files on
            first use and not when it is made.
        batch_size: examples in a batch, of this host.
        transform: ``transform(example)``, or ``transform(example, rng)`` for random changes; None: leave it.
        collate: ``collate(examples)``, or with ``rng``, gives what Keras trains on: ``(inputs, targets)``,
            ``(inputs, targets, sample_weights)`` or inputs alone; None: stack arrays and numbers.
        seed: of the order and of ``rng``.
        shuffle: a new permutation each epoch.
        drop_remainder: leave out a last batch that is not full.
        shard: (this host, number of hosts): every host gives the same arguments but its own number, and gets its part
            of each global batch.
        workers: processes; 0: none; None: one for each core. Source, transform and collate must then be importable.
        threads: threads instead of processes, for sources that wait for a disk or network.
        ahead: batches made in advance; None: two a worker.
        retries: how often a batch is made again whose worker was killed, with a warning.
        engine: ``"kexue"``, or ``"grain"``: Grain's worker processes (``pip install grain``), same batches.

    Raises:
        ConfigError: an argument that cannot work, or parts that cannot be pickled.
        DataError: no full batch in the source; examples that do not stack.
        WorkerError: a worker was killed more than ``retries`` times at one batch.

    Example:
        >>> loader = Loader([(i, 2 * i) for i in range(6)], batch_size=4, shuffle=False)
        >>> [inputs.tolist() for inputs, targets in loader]
        [[0, 1, 2, 3], [4, 5]]
        >>> loader.state()
        {'epoch': 1, 'step': 0}
    """

    def __init__(
        self,
        source: Any,
        *,
        batch_size: int,
        transform: Callable[..., Any] | None = None,
        collate: Callable[..., Any] | None = None,
        seed: int = 0,
        shuffle: bool = True,
        drop_remainder: bool = False,
        shard: tuple[int, int] = (0, 1),
        workers: int | None = 0,
        threads: bool = False,
        ahead: int | None = None,
        retries: int = 1,
        engine: str = "kexue",
    ) -> None:
        if not hasattr(source, "__len__") or not hasattr(source, "__getitem__"):
            raise ConfigError(
                f"source must have len() and source[index]. Received: {type(source).__name__}. Of an iterator make a "
                "list, or write it to disk and read it by index; kexue.training.data.buffered_shuffle shuffles streams."
            )
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("retries", retries, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be an integer, at least {least}. Received: {value!r}")
        if ahead is not None and (isinstance(ahead, bool) or not isinstance(ahead, int) or ahead < 0):
            raise ConfigError(f"ahead must be None or an integer, at least 0. Received: {ahead!r}")
        if engine not in ("kexue", "grain"):
            raise ConfigError(f'engine must be "kexue" or "grain". Received: {engine!r}')
        self.workers = worker_count(workers)
        if engine == "grain" and (threads or not self.workers):
            raise ConfigError('engine="grain" is about worker processes: give workers=1 or more and threads=False.')
        self.plan = Plan(
            len(source), batch_size=batch_size, seed=seed, shuffle=shuffle, drop_remainder=drop_remainder, shard=shard
        )
        self._call = Call(Maker(source, transform, collate, seed), "batch {}")
        self.seed, self.retries, self.threads, self.engine = seed, retries, threads, engine
        self.ahead = 2 * self.workers if ahead is None else ahead
        self._static = collate is None
        self._epoch = self._step = 0
        self._pool: WorkerPool | None = None
        self._ready: dict[tuple[int, int], Future[Answer]] = {}
        self._lock = threading.Lock()  # TensorFlow asks from threads of its own
        self._finalizer: Any = None

    # ---------------------------------------------------------------- batches

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return self.plan.steps

    def __getitem__(self, step: int) -> Any:
        """A batch of the current epoch, made here and now; it does not move the place."""
        if not 0 <= step < len(self):
            raise IndexError(f"the epoch has batches 0 to {len(self) - 1}. Received: {step}")
        return self._make(self._epoch, step)

    def __iter__(self) -> Iterator[Any]:
        """The batches from the current place to the end of the epoch."""
        return self._pass(every=True)

    def _pass(self, *, every: bool) -> Iterator[Any]:
        epoch, first = self._epoch, self._step
        if self.engine == "grain":
            from kexue.training.data.grain_engine import grain_batches

            items = [self._item(epoch, step) for step in range(first, len(self))]
            batches = grain_batches(self._call, items, workers=self.workers, ahead=self.ahead)
        else:
            batches = (self._get(epoch, step) for step in range(first, len(self)))
        for step, batch in enumerate(batches, first):
            # The place moves before the batch is handed out: whoever has it counts it as done.
            if step + 1 == len(self):
                self._epoch, self._step = epoch + 1, 0
            elif every:
                self._epoch, self._step = epoch, step + 1
            yield batch

    def _item(self, epoch: int, step: int) -> tuple[Any, Any]:
        return (_BATCH, self.seed, epoch, step), (epoch, step, self.plan.indices(epoch, step))

    def _make(self, epoch: int, step: int) -> Any:
        with kept_random():
            return self._call(*self._item(epoch, step))

    def _get(self, epoch: int, step: int) -> Any:
        if not self.workers:
            return self._make(epoch, step)
        with self._lock:
            if self._pool is None:
                self._pool = WorkerPool(self._call, self.workers, threads=self.threads, retries=self.retries)
                self._finalizer = weakref.finalize(self, WorkerPool.close, self._pool)
            window = [divmod(epoch * len(self) + step + more, len(self)) for more in range(self.ahead + 1)]
            for old in self._ready.keys() - set(window):
                self._ready.pop(old).cancel()
            for place in window:
                if place not in self._ready:
                    self._ready[place] = self._pool.submit([self._item(*place)])
            future = self._ready.pop((epoch, step))
        try:
            answer = future.result()
        except WorkerError as error:
            self.close()
            raise WorkerError(f"{error} It had batch {step} of epoch {epoch}.") from None
        if message := retried(answer, f"batch {step} of epoch {epoch}"):
            warnings.warn(message, RuntimeWarning, stacklevel=3)
        if answer.error is not None:
            raise answer.error
        return answer.results[0]

    # ---------------------------------------------------------------- place

    def state(self) -> dict[str, int]:
        """The place: epoch and step to go on with; JSON.

        Exact for a loop over the loader. ``fit`` takes batches in advance and moves the place by whole epochs; there
        the training counts: ``{"epoch": resume.epoch, "step": resume.step}`` of `kexue.training.Resume`.
        """
        return {"epoch": self._epoch, "step": self._step}

    def restore(self, state: Mapping[str, int]) -> None:
        """Go to a place.

        Raises:
            ConfigError: not a place of this loader.
        """
        epoch, step = (state.get("epoch"), state.get("step")) if isinstance(state, Mapping) else (None, None)
        if not (isinstance(epoch, int) and isinstance(step, int) and epoch >= 0 and 0 <= step <= len(self)):
            raise ConfigError(
                f"Expected a state like {{'epoch': 0, 'step': 12}} with a step up to {len(self)}, the batches in an "
                f"epoch of this loader. Received: {json.dumps(state, default=str)[:200]}"
            )
        self._epoch, self._step = (epoch, step) if step < len(self) else (epoch + 1, 0)

    def close(self) -> None:
        """End the workers. The next batch starts new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._ready.clear()
        if pool is not None:
            self._finalizer.detach()
            pool.close()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---------------------------------------------------------------- called by Keras

    def _keras_pass(self) -> Iterator[Any]:
        # Keras draws a batch of a pass that it gives up, to learn the shapes: only a whole pass moves the place.
        return self._pass(every=False)

    def get_numpy_iterator(self) -> Iterator[Any]:
        """For ``predict`` and others."""
        return self._keras_pass()

    def get_jax_iterator(self) -> Iterator[Any]:
        """For JAX."""
        return self._keras_pass()

    def get_torch_dataloader(self) -> Any:
        """For PyTorch: an iterable of batches of tensors."""
        return (keras.tree.map_structure(keras.ops.convert_to_tensor, batch) for batch in self._keras_pass())

    def get_tf_dataset(self) -> Any:
        """For TensorFlow: a ``tf.data.Dataset`` that is an epoch each time it is iterated over."""
        import tensorflow as tf

        def spec(value: Any) -> Any:
            array = np.asarray(value)
            # A collation may give each batch another length, which one batch does not show.
            known = 1 if self._static else 2
            return tf.TensorSpec((*[None] * min(known, array.ndim), *array.shape[known:]), array.dtype)

        def signature() -> Any:
            return keras.tree.map_structure(spec, self[0])

        return tf.data.Dataset.from_generator(self._keras_pass, output_signature=signature())

    @property
    def num_batches(self) -> int:
        """Batches to the end of the epoch."""
        return len(self) - self._step

    @property
    def batch_size(self) -> int:
        """Examples in a batch."""
        return self.plan.batch_size

    @property
    def has_partial_batch(self) -> bool | None:
        """Not told."""
        return None

    @property
    def partial_batch_size(self) -> int | None:
        """Not told."""
        return None
