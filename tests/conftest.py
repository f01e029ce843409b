"""Shared set-up of all tests."""

import gc
import os
import random
import sys
import tempfile
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Many tests build the same tiny models anew: what JAX has compiled once in this run (of one worker, with the processes
# that it starts) is read from a folder that goes away with it. JAX looks at these when it is imported.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
    compiled = tempfile.TemporaryDirectory(prefix="kexue-tests-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import kexue  # noqa: F401  chooses the Keras backend before a test imports Keras

# By hand every run draws new examples; CI draws the same ones each time, so that a change is judged by what it changes.
settings.register_profile("kexue", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("kexue")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Initial weights, from Python's generator in Keras, depend on the test only and not on those before it."""
    seed = zlib.crc32(item.nodeid.encode())
    random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two workers must give a test one name: an address in it is another in each process."""
    unstable = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unstable:
        raise pytest.UsageError(f"give these parameters ids that hold no address: {unstable}")


@pytest.fixture(autouse=True, scope="module")
def forget_compiled() -> Iterator[None]:
    """Functions compiled for one file are of no use to the next, and JAX keeps them all: gigabytes in the end."""
    yield
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()
    gc.collect()
