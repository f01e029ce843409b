"""Every kind of file, damaged in 200 random ways: refused, or all values right; never anything else."""

import numpy as np
import pytest
from tests.checkpoints.damage import attempt, example_tensors, trials, write_tensorflow, write_torch

from kexue.checkpoints import write_safetensors, write_tf_bundle


@pytest.mark.parametrize("kind", ["index", "data"])
def test_tensorflow_bundle_of_our_own(tmp_path, kind):
    index, data, _ = write_tf_bundle(tmp_path / "m.ckpt", example_tensors())
    victim = index if kind == "index" else data
    counts = trials(tmp_path / "m.ckpt", victim, example_tensors(), seed=1)
    assert counts["wrong"] == 0
    assert counts["refused"] >= 180  # the padding of the footer is all that means nothing


@pytest.mark.peer
def test_tensorflow_bundle_of_tensorflow(tmp_path):
    pytest.importorskip("tensorflow")
    path, expected = write_tensorflow(tmp_path)
    for victim in (tmp_path / "tf.ckpt.index", tmp_path / "tf.ckpt.data-00000-of-00001"):
        counts = trials(path, victim, expected, seed=2)
        assert counts["wrong"] == 0
        assert counts["refused"] >= 180


def test_safetensors_of_our_own(tmp_path):
    (file,) = write_safetensors(tmp_path / "model.safetensors", example_tensors())
    counts = trials(file, file, example_tensors(), seed=3)
    assert counts["wrong"] == 0
    assert counts["refused"] >= 180


def test_sharded_safetensors_index(tmp_path):
    files = write_safetensors(tmp_path / "model.safetensors", example_tensors(), max_shard_size=500)
    assert len(files) > 3
    assert trials(files[0], files[0], example_tensors(), seed=4, runs=100)["wrong"] == 0


def test_safetensors_of_others_header_and_size(tmp_path):
    """There is no checksum of the numbers in these, so only the header and the size are told."""
    from safetensors.numpy import save_file

    file = tmp_path / "model.safetensors"
    save_file(example_tensors(), file)
    data = file.read_bytes()
    for cut in np.random.default_rng(5).integers(0, len(data), 100):
        file.write_bytes(data[:cut])
        assert attempt(file, example_tensors()) == "refused"
    file.write_bytes(data)
    trials(file, file, example_tensors(), seed=6)  # no crash, no large allocation


@pytest.mark.peer
def test_torch_zip(tmp_path):
    pytest.importorskip("torch")
    path, expected = write_torch(tmp_path)
    counts = trials(path, path, expected, seed=7)
    assert counts["wrong"] == 0
    assert counts["refused"] >= 100  # much of a zip file is padding, dates and copies


@pytest.mark.peer
def test_torch_zip_directory(tmp_path):
    """The directory at the end is covered by no checksum: change many of its bytes."""
    pytest.importorskip("torch")
    path, expected = write_torch(tmp_path)
    data, rng = path.read_bytes(), np.random.default_rng(8)
    start = data.index(b"PK\x01\x02")
    for at in rng.integers(start, len(data), 200):
        path.write_bytes(data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :])
        assert attempt(path, expected) in ("refused", "right")
