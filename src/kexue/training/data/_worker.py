"""What runs in a worker process: read tasks from standard input, answer on standard output.

The process imports NumPy and what the function needs, no framework. It ends when its parent does, even in the middle
of a task.
"""

import os
import pickle
import queue
import signal
import threading
import time
import traceback
from multiprocessing import spawn
from typing import Any, BinaryIO

from kexue.training.data._messages import pack, read, write

__all__ = ["failure", "main"]


def failure(error: BaseException) -> tuple[BaseException | None, str, str]:
    """An exception as it can travel: itself if it survives pickling, its last line, and its traceback."""
    try:
        travels: BaseException | None = pickle.loads(pickle.dumps(error))
    except Exception:
        travels = None
    last = "".join(traceback.format_exception_only(error)).strip()
    return travels, last, "".join(traceback.format_exception(error)).rstrip()


def main() -> None:
    """Serve the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    tasks_file, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what the function prints must not mix with the answers
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks_file, tasks), daemon=True).start()
    call = tasks.get()
    if isinstance(call, _Broken):
        write(answers, pack(call.failure))
        return
    if call is None:
        return
    write(answers, pack(None))
    while (task := tasks.get()) is not None:
        write(answers, _answer(call, task))


class _Broken:
    """Something that arrived but could not be unpickled here."""

    def __init__(self, error: BaseException) -> None:
        self.failure = failure(error)


def _listen(file: BinaryIO, tasks: "queue.SimpleQueue[Any]") -> None:
    script = None
    while True:
        try:
            # A function or an item may come from the script itself. Only then is the script run here, which may well
            # import a framework.
            preparation = read(file)
            if preparation is not None and script is None:
                spawn.prepare(preparation)
                script = preparation
            tasks.put(read(file))
        except EOFError:
            break
        except BaseException as error:
            tasks.put(_Broken(error))
    tasks.put(None)
    time.sleep(1.0)
    os._exit(1)  # still busy for a parent that is gone


def _answer(call: Any, task: Any) -> list[bytes | memoryview]:
    results: list[Any] = []
    try:
        if isinstance(task, _Broken):
            return pack(([], task.failure))
        for entropy, item in task:
            results.append(call(entropy, item))
        return pack((results, None))
    except BaseException as error:
        try:
            return pack((results, failure(error)))
        except Exception:  # it is the results that cannot be pickled
            return pack(([], failure(error)))
