"""Shared set-up of all tests."""

import gc
from collections.abc import Iterator

import pytest

import kexue  # noqa: F401  chooses the Keras backend before a test imports Keras


@pytest.fixture(autouse=True, scope="module")
def forget_compiled() -> Iterator[None]:
    """Functions compiled for one file are of no use to the next, and JAX keeps them all: gigabytes in the end."""
    yield
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()
    gc.collect()
