"""Examples a second of data loaders whose transformation keeps a core busy. Run: python -m benchmarks.loading"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

BATCH = 16


class Source:
    """Examples by number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return heavy(index)


def heavy(index: int) -> Any:
    """About two milliseconds of Python, and 64 kB to send."""
    total = 0
    for i in range(30_000):
        total = (total * 31 + i + index) % 1_000_003
    return np.full(16_384, total, np.float32)


def kexue(count: int, workers: int) -> Iterator[Iterable[Any]]:
    """Our own."""
    from kexue.training.data import Loader

    with Loader(Source(count), batch_size=BATCH, workers=workers) as loader:
        yield loader
        yield loader


def alone(count: int, workers: int) -> Iterator[Iterable[Any]]:
    """One process."""
    from kexue.training.data import Loader

    loader = Loader(Source(count), batch_size=BATCH)
    yield loader
    yield loader


def grain_raw(count: int, workers: int) -> Iterator[Iterable[Any]]:
    """Grain as its documentation shows."""
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    dataset = grain.MapDataset.source(Source(count)).shuffle(seed=0).to_iter_dataset().batch(BATCH)
    dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2))
    yield dataset
    yield dataset


def torch_loader(count: int, workers: int) -> Iterator[Iterable[Any]]:
    """PyTorch, workers kept between epochs, started by spawn: by fork JAX may deadlock."""
    import torch.utils.data

    loader = torch.utils.data.DataLoader(
        Source(count),
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    yield loader
    yield loader


def py_dataset(count: int, workers: int) -> Iterator[Iterable[Any]]:
    """Keras, processes (by fork)."""
    import keras
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    source = Source(count)

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return (count + BATCH - 1) // BATCH

        def __getitem__(self, index: int) -> np.ndarray:
            return np.stack([source[i] for i in range(index * BATCH, min((index + 1) * BATCH, count))])

    for _ in range(2):
        adapter = PyDatasetAdapter(Batches(workers=workers, use_multiprocessing=True))
        adapter.on_epoch_begin()
        yield adapter.get_numpy_iterator()
        adapter.on_epoch_end()


def main() -> None:
    """Print one line a loader: seconds to the first batch, and examples a second of both epochs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="*", default=["alone", "kexue", "grain_raw", "torch_loader", "py_dataset"])
    options = parser.parse_args()
    ways: dict[str, Callable[[int, int], Iterator[Iterable[Any]]]] = {
        "alone": alone,
        "kexue": kexue,
        "grain_raw": grain_raw,
        "torch_loader": torch_loader,
        "py_dataset": py_dataset,
    }
    import keras  # noqa: F401  as in training; not part of what is timed

    for name in options.only:
        result: dict[str, Any] = {"loader": name, "workers": options.workers}
        for epoch, batches in enumerate(ways[name](options.count, options.workers)):
            start, first, examples = time.perf_counter(), 0.0, 0
            for batch in batches:
                first = first or time.perf_counter() - start
                examples += len(batch[0]) if isinstance(batch, tuple) else len(batch)
            rate = examples / (time.perf_counter() - start)
            result |= {f"first_batch_s_{epoch + 1}": round(first, 2), f"examples_per_s_{epoch + 1}": round(rate)}
            result["delivered"] = result.get("delivered", 0) + examples
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
