"""Shared set-up of all tests."""

import gc
import random
import sys
import zlib
from collections.abc import Iterator

import pytest

import kexue  # noqa: F401  chooses the Keras backend before a test imports Keras


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Initial weights, from Python's generator in Keras, depend on the test only and not on those before it."""
    seed = zlib.crc32(item.nodeid.encode())
    random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


@pytest.fixture(autouse=True, scope="module")
def forget_compiled() -> Iterator[None]:
    """Functions compiled for one file are of no use to the next, and JAX keeps them all: gigabytes in the end."""
    yield
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()
    gc.collect()
