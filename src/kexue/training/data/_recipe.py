"""How a batch is made from its number: a pure function of source, seed, epoch and step.

Worker processes import this file, so it stays free of frameworks.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from kexue.errors import ConfigError, DataError
from kexue.training.data._calls import takes_rng
from kexue.training.data.shuffling import global_batches, shard_slice

__all__ = ["Maker", "Plan", "stack"]

# What random numbers are for: streams of one seed that must differ.
_ORDER, _EXAMPLE, _BATCH = 1, 2, 3


class Plan:
    """Which examples are in which batch.

    Args:
        examples: their number.
        batch_size: examples in a batch of one host.
        seed: of the order.
        shuffle: a new permutation for each epoch.
        drop_remainder: leave the last batch out where it is not full.
        shard: (this host, number of hosts).
    """

    def __init__(
        self,
        examples: int,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        drop_remainder: bool,
        shard: tuple[int, int],
    ) -> None:
        self.examples, self.batch_size, self.seed = examples, batch_size, seed
        self.shuffle, self.shard = shuffle, shard
        self.steps = global_batches(examples, batch_size, shard, drop_remainder)
        if not self.steps:
            raise DataError(
                f"The source has {examples} examples: no batch of {batch_size} on {shard[1]} host(s). Give more "
                "examples, a smaller batch_size, or drop_remainder=False."
            )
        self._order = lru_cache(maxsize=2)(self._new_order)

    def _new_order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.examples)
        return np.random.default_rng((_ORDER, self.seed, epoch)).permutation(self.examples)

    def indices(self, epoch: int, step: int) -> np.ndarray:
        """Examples of this host's batch."""
        return self._order(epoch)[shard_slice(step, self.examples, self.batch_size, self.shard)]


class Maker:
    """Makes a batch: examples from the source, transformed and collated.

    Random numbers of a transformation depend on seed, epoch and example, those of the collation on seed, epoch and
    step: not on workers, batch size (for examples) or where training was resumed.
    """

    def __init__(
        self, source: Any, transform: Callable[..., Any] | None, collate: Callable[..., Any] | None, seed: int
    ) -> None:
        self.source, self.transform, self.seed = source, transform, seed
        self.collate: Callable[..., Any] = collate or stack
        self.rngs = (transform is not None and takes_rng(transform), takes_rng(self.collate))

    def __call__(self, task: tuple[int, int, np.ndarray]) -> Any:
        """The batch of ``(epoch, step, indices)``."""
        epoch, step, indices = task
        examples = [self._example(epoch, index) for index in indices.tolist()]
        if self.rngs[1]:
            return self.collate(examples, rng=np.random.default_rng((_BATCH, self.seed, epoch, step)))
        return self.collate(examples)

    def _example(self, epoch: int, index: int) -> Any:
        try:
            example = self.source[index]
            if self.transform is None:
                return example
            if self.rngs[0]:
                return self.transform(example, rng=np.random.default_rng((_EXAMPLE, self.seed, epoch, index)))
            return self.transform(example)
        except Exception as error:
            error.add_note(f"Raised for example {index} of the source, in epoch {epoch}.")
            raise


def stack(examples: Sequence[Any]) -> Any:
    """Stack examples leaf by leaf: dictionaries, tuples and lists of arrays and numbers.

    Python's integers become int32 and its floats float32 (integers beside floats too); arrays keep their types.

    Raises:
        DataError: examples of different shapes or kinds.
    """
    first = examples[0]
    try:
        if isinstance(first, Mapping):
            if any(example.keys() != first.keys() for example in examples):
                raise ValueError(f"keys {[sorted(example) for example in examples[:3]]}")
            return {key: stack([example[key] for example in examples]) for key in first}
        if isinstance(first, tuple | list):
            return tuple(stack(list(part)) for part in zip(*examples, strict=True))
        if isinstance(first, bool | np.ndarray | np.generic):
            return np.stack(examples)
        if isinstance(first, int | float):
            # One float among them makes all of them floats: an integer type would cut them off.
            return np.asarray(examples, np.int32 if all(isinstance(each, int) for each in examples) else np.float32)
    except DataError:
        raise
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(
            f"Examples of a batch do not stack ({error}). Make their shapes equal in transform=, or give "
            "collate=, a function of a list of examples, for instance one that pads (kexue.text.pad)."
        ) from None
    raise ConfigError(
        f"Do not know how to stack examples of {type(first).__name__}. Give collate=, a function of a list of examples "
        "that returns (inputs, targets) of arrays."
    )
