"""A function applied to many items by many processes."""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import count, islice
from typing import Any, TypeVar

from kexue.errors import ConfigError
from kexue.training.data._calls import Call, kept_random
from kexue.training.data.pool import Answer, WorkerError, WorkerPool, retried, worker_count

__all__ = ["parallel_map"]

T = TypeVar("T")


def parallel_map(
    function: Callable[..., T],
    items: Iterable[Any],
    *,
    workers: int | None = None,
    ordered: bool = True,
    max_pending: int | None = None,
    chunk: int = 1,
    threads: bool = False,
    seed: int = 0,
    retries: int = 0,
    progress: bool = False,
) -> Iterator[T]:
    """``map(function, items)`` by several processes.

    ``items`` may be endless: it is read only as far ahead as ``max_pending`` allows. Random numbers depend on ``seed``
    and the place of the item alone, so the results are the same for any number of workers: a parameter ``rng`` of the
    function receives ``numpy.random.default_rng((seed, place))``, and in processes the global generators of ``random``
    and ``numpy.random`` are seeded for each item.

    Closing the generator, leaving the loop by an exception or by Ctrl-C, ends the workers.

    Args:
        function: at the top level of a module that can be imported. What it prints goes to standard error.
        items: what to apply it to; picklable.
        workers: processes; None: one for each core; 0: no other process.
        ordered: results in the order of the items; False: as they come.
        max_pending: items taken from ``items`` whose results have not been taken yet; None: four a worker (chunk).
        chunk: items that travel together. Take more where a call needs less than about a millisecond.
        threads: threads of this process, for functions that wait or release Python's lock.
        seed: of the random numbers.
        retries: how often an item is tried again when its worker was killed. A result counts only when it arrived
            whole, so no item counts twice.
        progress: show a bar on the terminal.

    Yields:
        One result an item.

    Raises:
        ConfigError: an argument that cannot work, or a function or item that cannot be pickled.
        WorkerError: a worker was killed (out of memory, say), more than ``retries`` times at the same items.
        Exception: what the function raised, with a note naming the item's place and the worker's traceback as cause.

    Example:
        >>> from math import sqrt
        >>> list(parallel_map(sqrt, [1, 4, 9], workers=2))
        [1.0, 2.0, 3.0]

    Source: ``parallel_apply`` of bert4keras (article 6915), which hangs when a worker raises or dies.
    """
    workers = worker_count(workers)
    _positive(chunk=chunk, max_pending=max_pending)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ConfigError(f"seed must be an integer, 0 or greater. Received: {seed!r}")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ConfigError(f"retries must be 0 or a positive number. Received: {retries!r}")
    call = Call(function, "item {} of parallel_map")
    entries = (((seed, place), item) for place, item in zip(count(), items, strict=False))
    if workers == 0:
        results: Iterator[T] = _alone(call, entries)
    else:
        window = max(1, (max_pending or 4 * workers * chunk) // chunk)
        results = _together(call, entries, workers, ordered, window, chunk, threads, retries)
    return _shown(results, items) if progress else results


def _positive(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigError(f"{name} must be a positive number. Received: {value!r}")


def _alone(call: Call, entries: Iterator[Any]) -> Iterator[Any]:
    for entropy, item in entries:
        with kept_random():
            result = call(entropy, item)
        yield result


def _together(
    call: Call,
    entries: Iterator[Any],
    workers: int,
    ordered: bool,
    window: int,
    chunk: int,
    threads: bool,
    retries: int,
) -> Iterator[Any]:
    pool = WorkerPool(call, workers, threads=threads, retries=retries)
    waiting: deque[Future[Answer]] = deque()
    first: dict[Future[Answer], int] = {}
    try:
        while True:
            while len(waiting) < window and (items := list(islice(entries, chunk))):
                future = pool.submit(items)
                first[future] = items[0][0][-1]
                waiting.append(future)
            if not waiting:
                return
            future = _next(waiting, ordered)
            waiting.remove(future)
            place = first.pop(future)
            answer = _taken(future, place, chunk)
            yield from answer.results
            if answer.error is not None:
                raise answer.error
    finally:
        pool.close()


def _next(waiting: deque["Future[Answer]"], ordered: bool) -> "Future[Answer]":
    while True:
        done = wait([waiting[0]] if ordered else waiting, timeout=1.0, return_when=FIRST_COMPLETED).done
        if done:
            return waiting[0] if ordered else next(future for future in waiting if future in done)
        for future in waiting:  # a long item at the head must not hide that a worker died behind it
            if future.done() and isinstance(future.exception(), WorkerError):
                return future


def _taken(future: "Future[Answer]", place: int, chunk: int) -> Answer:
    what = f"item {place}" if chunk == 1 else f"items {place} to {place + chunk - 1}"
    try:
        answer = future.result()
    except WorkerError as error:
        raise WorkerError(f"{error} It had {what} of parallel_map.") from None
    if message := retried(answer, what):
        warnings.warn(message, RuntimeWarning, stacklevel=4)
    return answer


def _shown(results: Iterator[T], items: Any) -> Iterator[T]:
    from rich.progress import track

    yield from track(results, total=len(items) if hasattr(items, "__len__") else None, description="items")
