"""`parallel_map`: order, seeds, what reaches the user when a worker raises or dies, and that nothing stays behind."""

import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training import loading_functions as functions

from kexue.errors import ConfigError
from kexue.training.data import WorkerError, buffered_shuffle, parallel_map


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 2}, {"workers": 3, "chunk": 4}, {"threads": True}])
def test_results_are_those_of_map_and_random_numbers_depend_on_the_item_alone(options):
    expected = [(x, float(np.random.default_rng((7, place)).random())) for place, x in enumerate("abcdef")]
    assert list(parallel_map(functions.draw, "abcdef", seed=7, **options)) == expected
    assert list(parallel_map(functions.draw, "abcdef", seed=8, **options)) != expected


def test_global_generators_are_seeded_per_item_and_the_callers_stay_as_they_were():
    import random

    np.random.seed(3)
    random.seed(3)
    expected = np.random.random(), random.random()
    np.random.seed(3)
    random.seed(3)
    alone = list(parallel_map(functions.draw_globally, range(5), workers=0))
    assert (np.random.random(), random.random()) == expected
    assert len({draw for _, draw, _ in alone}) == 5
    assert list(parallel_map(functions.draw_globally, range(5), workers=2, ordered=True)) == alone


def test_unordered_results_come_as_they_are_ready_and_all_come():
    results = list(parallel_map(functions.late, range(12), workers=2, ordered=False))
    assert results[0] != 0
    assert sorted(results) == list(range(12))


def test_items_are_read_only_as_far_as_allowed():
    taken = []

    def items():
        for i in itertools.count():
            taken.append(i)
            yield i

    results = parallel_map(functions.square, items(), workers=2, max_pending=5)
    for i in range(20):
        assert next(results) == i * i
        assert len(taken) <= i + 1 + 5
    results.close()


def test_workers_load_no_framework_and_arrays_travel():
    assert list(parallel_map(functions.frameworks, range(2), workers=1)) == [[], []]
    for size, (array, rest) in enumerate(parallel_map(functions.array, range(4), workers=2)):
        assert array.tolist() == list(range(size * 1000))
        assert rest["even"].tolist() == list(range(0, size, 2))
        assert array.flags.writeable


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 2}, {"workers": 2, "chunk": 4}, {"threads": True}])
def test_an_exception_reaches_the_user_after_the_results_before_it(options):
    results = parallel_map(functions.picky, range(20), **options)
    assert list(itertools.islice(results, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(KeyError, match="five") as caught:
        next(results)
    assert caught.value.__notes__ == ["Raised for item 5 of parallel_map."]
    if options.get("workers"):
        assert 'raise KeyError("five")' in str(caught.value.__cause__)  # the line of the function in the worker


def test_an_exception_that_cannot_travel_is_told_in_words():
    with pytest.raises(WorkerError, match="OddError: 0 and 1"):
        list(parallel_map(functions.odd, range(3), workers=1))


@pytest.mark.parametrize(("function", "how"), [(functions.deadly, "SIGKILL"), (functions.leaves, "exited with code 0")])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_worker_that_dies_is_an_error_that_names_the_item(function, how, ordered):
    with pytest.raises(WorkerError, match=f"(?s){how}.*item 5"):
        list(parallel_map(function, range(20), workers=2, ordered=ordered))


def test_a_dead_worker_is_noticed_behind_a_long_item():
    started = time.monotonic()
    items = parallel_map(functions.sleep_or_die, [600, 0], workers=2)
    with pytest.raises(WorkerError, match="item 1"):
        list(items)
    assert time.monotonic() - started < 60


def test_lost_items_are_done_again_exactly_once(tmp_path):
    items = [(i, str(tmp_path / "died")) for i in range(20)]
    with pytest.warns(RuntimeWarning, match="SIGKILL at items 4 to 7"):
        assert list(parallel_map(functions.deadly_once, items, workers=2, retries=1, chunk=4)) == list(range(20))
    with pytest.raises(WorkerError, match="2 times"):
        list(parallel_map(functions.deadly, range(20), workers=2, retries=1))


@pytest.mark.parametrize(
    ("function", "items"), [(lambda x: x, [1]), (functions.square, [lambda: 0])], ids=["function", "item"]
)
def test_what_cannot_be_pickled_is_named(function, items):
    with pytest.raises(ConfigError, match="top level of a module"):
        list(parallel_map(function, items, workers=1))


@pytest.mark.parametrize(
    "options", [{"workers": -1}, {"workers": 1.5}, {"chunk": 0}, {"max_pending": 0}, {"retries": -1}, {"seed": -1}]
)
def test_arguments_are_checked_at_once(options):
    with pytest.raises(ConfigError, match="Received"):
        parallel_map(functions.square, [1], **options)


SCRIPT = """
import os, signal, sys, time
from kexue.training.data import parallel_map
from tests.training.loading_functions import report_and_hang

# A shell's background jobs begin with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _ in parallel_map(report_and_hang, [sys.argv[1]] * 2, workers=2):
    pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_orphans_when_the_program_is_stopped(tmp_path, number):
    """Ctrl-C, and a kill that leaves the program no time for anything."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    program = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2, 60)
    os.killpg(program.pid, number) if number == signal.SIGINT else program.send_signal(number)
    assert program.wait(20) != 0
    wait_for(lambda: not any(lives(int(path.name)) for path in tmp_path.iterdir()), 20)


def test_closing_ends_the_workers(tmp_path):
    results = parallel_map(functions.report, [str(tmp_path)] * 50, workers=2, ordered=False)
    next(results)
    results.close()
    assert not any(lives(int(path.name)) for path in tmp_path.iterdir())


def test_functions_of_the_script_itself_work(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from kexue.training.data import parallel_map\n"
        "def double(x): return 2 * x\n"
        "if __name__ == '__main__': print(list(parallel_map(double, range(4), workers=2)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == "[0, 2, 4, 6]\n", done.stderr


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@given(st.integers(0, 40), st.integers(1, 50), st.integers(0, 5))
def test_buffered_shuffle_gives_every_item_once_and_none_too_early(count, size, seed):
    shuffled = list(buffered_shuffle(iter(range(count)), size, seed=seed))
    assert sorted(shuffled) == list(range(count))
    assert all(place >= item - (size - 1) for place, item in enumerate(shuffled))
    assert shuffled == list(buffered_shuffle(range(count), size, seed=seed))
    if size == 1:
        assert shuffled == list(range(count))


def test_buffered_shuffle_is_uniform_when_the_buffer_holds_all():
    from collections import Counter

    seen = Counter(tuple(buffered_shuffle("abc", 3, seed=seed)) for seed in range(1200))
    assert len(seen) == 6
    assert all(150 < times < 250 for times in seen.values())  # 200 expected, standard deviation 13
    with pytest.raises(ConfigError, match="size"):
        buffered_shuffle("abc", 0)
