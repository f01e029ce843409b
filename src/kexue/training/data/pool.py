"""Worker processes, each behind a thread that speaks to it over pipes of its own.

Nothing is shared between workers, so one that is killed leaves no lock behind and no half-written message in the way
of others: the pipe just ends, which its thread notices at once.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import spawn
from typing import Any

from kexue.errors import ConfigError, KexueError
from kexue.training.data._calls import Call
from kexue.training.data._messages import pack, read, write

__all__ = ["Answer", "WorkerError", "WorkerPool", "retried", "worker_count"]

_BOOT = "import sys; sys.path[:] = {path!r}; from kexue.training.data._worker import main; main()"
_GRACE_S = 1.0


class WorkerError(KexueError, RuntimeError):
    """A worker process died, or raised something that cannot travel to this process."""


class _WorkerTraceback(Exception):  # noqa: N818  it is shown, never raised
    """Shown as the cause of an exception that came from a worker."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}\n"""'


class Answer:
    """What became of a task: the results before the first failure, the failure, and how many workers died of it."""

    def __init__(self, results: list[Any], error: BaseException | None = None, deaths: Sequence[str] = ()) -> None:
        self.results, self.error, self.deaths = results, error, deaths


def worker_count(workers: int | None) -> int:
    """The number of workers; None: one for each core that this process may use."""
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise ConfigError(f"workers must be None, 0 (no other process) or a positive number. Received: {workers!r}")
    return workers


class WorkerPool:
    """Workers that call one function on the items they are sent.

    Args:
        call: what to call; it is pickled once, and sent to each worker once.
        workers: how many, at least 1.
        threads: threads of this process instead of processes.
        retries: how many more times a task is tried whose worker died.

    Raises:
        ConfigError: the function cannot be pickled.
    """

    def __init__(self, call: Call, workers: int, *, threads: bool = False, retries: int = 0) -> None:
        self._call, self._retries = call, retries
        self._payload = None if threads else _packed(call, call.function)
        self._todo: queue.SimpleQueue[tuple[Any, Future[Answer]] | None] = queue.SimpleQueue()
        self._crew = _Crew()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, items: list[tuple[Sequence[int], Any]]) -> "Future[Answer]":
        """Have the function called on some ``(entropy, item)``, one after the other in one worker.

        Raises:
            ConfigError: an item cannot be pickled.
        """
        future: Future[Answer] = Future()
        self._todo.put((items if self._payload is None else _packed(items, items), future))
        return future

    def pids(self) -> list[int]:
        """Process ids of the workers that live."""
        return self._crew.pids()

    def close(self) -> None:
        """End the workers, idle or busy."""
        self._crew.end()
        while True:
            try:
                task = self._todo.get_nowait()
            except queue.Empty:
                break
            if task is not None:
                task[1].cancel()
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            if self._payload is not None and thread is not threading.current_thread():
                thread.join()

    def _serve(self) -> None:
        worker: _Worker | None = None
        while (task := self._todo.get()) is not None and not self._crew.ended:
            message, future = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if self._payload is None:
                    future.set_result(_here(self._call, message))
                    continue
                deaths: list[str] = []
                while True:
                    try:
                        worker = worker or self._crew.hire(self._payload)
                        answer = worker.ask(message)
                        answer.deaths = deaths
                        future.set_result(answer)
                        break
                    except (EOFError, OSError):
                        deaths.append(worker.end() if worker is not None else "could not be started")
                        worker = None
                        if len(deaths) > self._retries or self._crew.ended:
                            raise WorkerError(_death(deaths, self._retries)) from None
            except BaseException as error:
                future.set_exception(error)
        if worker is not None:
            worker.end()


class _Crew:
    """The processes of a pool, so that they can be ended from outside the threads that speak to them."""

    def __init__(self) -> None:
        self.ended = False
        self._lock = threading.Lock()
        self._workers: weakref.WeakSet[_Worker] = weakref.WeakSet()

    def hire(self, payload: list[Any]) -> "_Worker":
        with self._lock:
            if self.ended:
                raise EOFError
            worker = _Worker()
            self._workers.add(worker)
        worker.start(payload)
        return worker

    def pids(self) -> list[int]:
        return [worker.process.pid for worker in list(self._workers) if worker.process.poll() is None]

    def end(self) -> None:
        with self._lock:
            self.ended = True
            for worker in list(self._workers):
                worker.process.kill()


class _Worker:
    """One process."""

    def __init__(self) -> None:
        # Not by fork: it copies the locks of threads that it does not copy, and JAX and TensorFlow have threads.
        options = [part for option in sys.warnoptions for part in ("-W", option)]
        command = [sys.executable, *options, "-c", _BOOT.format(path=sys.path)]
        environment = dict(os.environ)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment.setdefault(name, "1")  # the workers are the parallelism
        environment["JAX_PLATFORMS"] = "cpu"  # if one imports JAX at all: the accelerator belongs to training
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=1 << 16
        )
        self._hello: Any = ...

    def start(self, payload: list[Any]) -> None:
        with suppress(OSError):  # it died already; `ask` will see
            self._send(payload)

    def _send(self, parts: list[Any]) -> None:
        preparation = None
        if b"__main__" in parts[0]:
            data = spawn.get_preparation_data("worker")
            preparation = {key: data[key] for key in ("init_main_from_name", "init_main_from_path") if key in data}
        stdin: Any = self.process.stdin
        write(stdin, pack(preparation))
        write(stdin, parts)

    def ask(self, message: list[Any]) -> Answer:
        """Send a task and wait for the answer; EOFError or OSError: the process is gone."""
        stdout: Any = self.process.stdout
        if self._hello is ...:
            self._hello = read(stdout)
        if self._hello is not None:
            raise _received(self._hello, "A worker process could not load the function.")
        self._send(message)
        results, failed = read(stdout)
        return Answer(results, None if failed is None else _received(failed, "A worker process raised an exception."))

    def end(self) -> str:
        """End the process and say how it ended."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            code = self.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if code < 0:
            name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
            return f"was killed by {name}"
        return f"exited with code {code}"


def _here(call: Call, items: list[tuple[Sequence[int], Any]]) -> Answer:
    results: list[Any] = []
    try:
        for entropy, item in items:
            results.append(call(entropy, item, shared=True))
    except Exception as error:
        return Answer(results, error)
    return Answer(results)


def _received(failed: tuple[BaseException | None, str, str], what: str) -> BaseException:
    error, last, text = failed
    if not isinstance(error, Exception):  # a SystemExit in a worker must not end this process
        error = WorkerError(f"{what} It cannot be raised here; it was: {last}")
    error.__cause__ = _WorkerTraceback(text)
    return error


def _packed(message: Any, culprit: Any) -> list[Any]:
    try:
        return pack(message)
    except Exception as error:
        short = repr(culprit)[:200]
        raise ConfigError(
            f"Cannot be sent to worker processes: {short} ({type(error).__name__}: {error}). Functions and classes "
            "must be defined at the top level of a module that can be imported (no lambda, nothing defined inside a "
            "function), and what they hold must be picklable: open files and databases in the worker, on first use. "
            "Or use workers=0 or threads=True."
        ) from None


def _death(deaths: Sequence[str], retries: int) -> str:
    again = f" {len(deaths)} times, although it was tried again" if len(deaths) > 1 else ""
    hint = (
        "SIGKILL mostly means that memory ran out: use fewer workers or smaller items."
        if any("SIGKILL" in death for death in deaths)
        else "See its output above."
    )
    more = "" if retries else " With retries=1 the items that it lost are tried again."
    return f"A worker process {deaths[-1]} before it answered{again}. {hint}{more}"


def retried(answer: Answer, what: str) -> str | None:
    """A warning where workers died before the answer came."""
    if not answer.deaths:
        return None
    return f"A worker process {answer.deaths[-1]} at {what}, which was done again by a new one: nothing is lost."
