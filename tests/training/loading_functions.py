"""Functions that worker processes of the tests import. No framework here: the workers must start fast."""

import os
import signal
import sys
import time

import numpy as np


class OddError(Exception):
    """An exception that pickle cannot rebuild."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def square(x):
    return x * x


def draw(x, rng):
    return x, float(rng.random())


def draw_globally(x):
    import random

    return x, float(np.random.random()), random.random()


def picky(x):
    if x == 5:
        raise KeyError("five")
    return x


def odd(x):
    raise OddError(x, 1)


def deadly(x):
    if x == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def deadly_once(pair):
    x, flag = pair
    if x == 5 and not os.path.exists(flag):
        open(flag, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def leaves(x):
    if x == 5:
        os._exit(0)
    return x


def slow(x):
    time.sleep(0.05)
    return x


def endless(x):
    time.sleep(600)


def late(x):
    time.sleep(0.3 if x == 0 else 0.0)
    return x


def frameworks(x):
    return sorted({"keras", "jax", "torch", "tensorflow"} & set(sys.modules))


def array(x):
    return np.arange(x * 1000, dtype=np.float32), {"even": np.arange(x)[::2]}


def unpicklable(x):
    return lambda: x


class Texts:
    """A source that opens nothing before it is used."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"id": np.int32(index)}


def augment(example, rng):
    return {**example, "noise": np.float32(rng.random())}


def deadly_example(example):
    if example["id"] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return example


def bad_example(example):
    if example["id"] == 5:
        raise ValueError("bad text")
    return example


def slow_example(example):
    time.sleep(0.02)
    return example


def row(example):
    x = np.float32(example["id"])
    return np.stack([x, 1.0]).astype("float32"), np.asarray([2 * x], "float32")


def leaves_example(example):
    if example["id"] == 5:
        os._exit(0)
    return example


def sleep_or_die(seconds):
    if not seconds:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)


def report(folder):
    open(os.path.join(folder, str(os.getpid())), "w").close()


def report_and_hang(folder):
    report(folder)
    time.sleep(600)
