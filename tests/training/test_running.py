"""What `run` does around Keras' fit."""

import keras
import pytest

from kexue.training.running import _flushed_denormals

torch = pytest.importorskip("torch")


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="a switch of PyTorch")
@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_flushed_inside_only(before):
    def tiny() -> float:
        return float(torch.tensor(1e-39) * 0.5)

    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot")
    try:
        torch.set_flush_denormal(before)
        outside = tiny()
        with _flushed_denormals():
            assert tiny() == 0.0
        assert tiny() == outside
        assert (outside == 0.0) == before
    finally:
        torch.set_flush_denormal(False)
