"""The batches of a `Loader` by Grain's worker processes, under a watch.

Grain 0.2.18 notices a worker that was killed, but waits for ever for one that exited with code 0, and its iterator
state holds for one number of workers only. Here each element of its source is a whole batch, the state is the loader's,
and a worker that is gone is an error.
"""

import multiprocessing
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from kexue.errors import ConfigError
from kexue.training.data._calls import Call
from kexue.training.data.pool import WorkerError

__all__ = ["grain_batches"]

_TICK_S = 0.5
_KILLED_S = 2.0  # how long no batch may come after a worker was killed
_ENDED_S = 60.0  # after one exited with code 0, as it does too when its share is done and another is slow
_END = object()


class _Batches:
    """A random-access source of batches."""

    def __init__(self, call: Call, items: Sequence[tuple[Any, Any]]) -> None:
        self.call, self.items = call, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.call(*self.items[index])


def grain_batches(call: Call, items: Sequence[tuple[Any, Any]], *, workers: int, ahead: int) -> Iterator[Any]:
    """Call for each ``(entropy, item)`` in Grain's workers, in order.

    Raises:
        ConfigError: Grain is not installed.
        WorkerError: a worker is gone.
    """
    try:
        import grain
        from absl import flags
    except ImportError:
        raise ConfigError('engine="grain" needs Grain: pip install grain.') from None
    if not flags.FLAGS.is_parsed():  # without this Grain works in programs started by absl.app alone
        flags.FLAGS.mark_as_parsed()
    dataset = grain.MapDataset.source(_Batches(call, items)).to_iter_dataset(
        grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    )
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=max(1, ahead // workers))
    before = set(multiprocessing.active_children())
    source = iter(dataset.mp_prefetch(options))
    arrived: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=1)
    stopped = threading.Event()
    threading.Thread(target=_draw, args=(source, arrived, stopped), daemon=True).start()
    mine: set[Any] = set()
    whole = False
    try:
        for place in range(len(items)):
            batch, error = _wait(arrived, before, mine, place)
            if batch is _END:
                raise WorkerError(f"Grain ended after {place} of {len(items)} batches.")
            if isinstance(error, RuntimeError) and "terminated unexpectedly" in str(error):
                raise WorkerError(f"{error} It happened at batch {place} of those asked for.") from None
            if error is not None:
                raise error
            whole = place + 1 == len(items)
            yield batch
    finally:
        stopped.set()
        if not whole:  # after the last batch Grain ends them itself, and tidies up
            for worker in mine | _workers(before):
                worker.kill()


def _draw(source: Any, arrived: "queue.Queue[Any]", stopped: threading.Event) -> None:
    try:
        for batch in source:
            if not _put(arrived, (batch, None), stopped):
                return
        _put(arrived, (_END, None), stopped)
    except BaseException as error:
        _put(arrived, (None, error), stopped)


def _put(arrived: "queue.Queue[Any]", entry: Any, stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            arrived.put(entry, timeout=_TICK_S)
        except queue.Full:
            continue
        return True
    return False


def _workers(before: set[Any]) -> set[Any]:
    return {
        child for child in multiprocessing.active_children() if child not in before and child.name.startswith("grain-")
    }


def _wait(
    arrived: "queue.Queue[Any]", before: set[Any], mine: set[Any], place: int
) -> tuple[Any, BaseException | None]:
    silent = 0.0
    while True:
        try:
            return arrived.get(timeout=_TICK_S)
        except queue.Empty:
            mine |= _workers(before)
            gone = [child for child in mine if child.exitcode is not None]
            silent = silent + _TICK_S if gone else 0.0
            if silent >= (_KILLED_S if any(child.exitcode for child in gone) else _ENDED_S):
                raise WorkerError(
                    f"A Grain worker exited with code {gone[0].exitcode} before it gave batch {place} of those asked "
                    "for. See its output above."
                ) from None
