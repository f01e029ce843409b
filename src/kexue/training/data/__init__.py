"""Feeding training: work spread over processes, batches that are delivered exactly once and resume anywhere."""

from kexue._lazy import names_from

# Keras is imported by `Loader` alone: worker processes must not load it.
_HOME = {
    "Loader": "loader",
    "WorkerError": "pool",
    "buffered_shuffle": "shuffling",
    "parallel_map": "mapping",
}

__all__ = ["Loader", "WorkerError", "buffered_shuffle", "parallel_map"]


__getattr__ = names_from(__name__, _HOME)
