"""Less compilation time for tests on tiny models."""

from collections.abc import Iterator

import keras
import pytest


@pytest.fixture(autouse=True)
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """JAX compiles without its costly passes, save where a test measures itself against a peer.

    PyTorch gets one thread: several wait for each other longer than tiny models take.
    """
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)
    if keras.backend.backend() != "jax" or any(request.node.get_closest_marker(m) for m in ("peer", "slow")):
        yield
        return
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
