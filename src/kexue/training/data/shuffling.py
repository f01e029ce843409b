"""Orders of examples."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

from kexue.errors import ConfigError

__all__ = ["buffered_shuffle", "global_batches", "shard_slice"]

T = TypeVar("T")


def buffered_shuffle(items: Iterable[T], size: int, *, seed: int = 0) -> Iterator[T]:
    """Shuffle a stream too long to be held: fill a buffer, give out a random member for each new one, then the rest.

    Every item comes once, at most ``size - 1`` places before where it stood in the stream; it waits about ``size``
    places on average. So ``size`` should exceed the runs of like items; a full permutation needs random access.

    Raises:
        ConfigError: a size below 1.
    """
    if size < 1:
        raise ConfigError(f"size, the items that the buffer holds, must be at least 1. Received: {size}")
    return _buffered(items, size, np.random.default_rng(seed))


def _buffered(items: Iterable[T], size: int, rng: np.random.Generator) -> Iterator[T]:
    buffer: list[T] = []
    for item in items:
        if len(buffer) < size - 1:
            buffer.append(item)
            continue
        buffer.append(item)
        place = int(rng.integers(len(buffer)))
        buffer[place], buffer[-1] = buffer[-1], buffer[place]
        yield buffer.pop()
    for place in rng.permutation(len(buffer)):
        yield buffer[place]


def global_batches(examples: int, batch_size: int, shard: tuple[int, int], drop_remainder: bool) -> int:
    """Batches in an epoch, the same number on all hosts.

    Raises:
        ConfigError: the last examples are too few to give each host one.
    """
    host, hosts = shard
    if hosts < 1 or not 0 <= host < hosts:
        raise ConfigError(f"shard must be (this host, number of hosts), from (0, 1) on. Received: {shard}")
    whole, rest = divmod(examples, batch_size * hosts)
    if drop_remainder or not rest:
        return whole
    if rest < hosts:
        raise ConfigError(
            f"After {whole} batches of {batch_size} on each of {hosts} hosts, {rest} examples are left, too few for "
            "one batch on every host, and hosts must take the same number of steps. Use drop_remainder=True."
        )
    return whole + 1


def shard_slice(step: int, examples: int, batch_size: int, shard: tuple[int, int]) -> slice:
    """Where in the epoch's order the batch of a host lies.

    Hosts take consecutive parts of one global batch, so the global batches, and with them training, do not depend on
    the number of hosts that share a global batch size. A last batch that is not full is divided as evenly as possible.
    """
    host, hosts = shard
    start = step * batch_size * hosts
    size = min(batch_size * hosts, examples - start)
    share, more = divmod(size, hosts)
    low = start + host * share + min(host, more)
    return slice(low, low + share + (host < more))
