"""What `open_checkpoint` makes of a path, and what all readers have in common."""

import os
import subprocess
import sys

import numpy as np
import pytest

from kexue.checkpoints import open_checkpoint, read_all, summarize, write_safetensors, write_tf_bundle
from kexue.errors import CheckpointError

TENSORS = {"encoder/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "encoder/bias": np.ones(3, np.float16)}


@pytest.fixture(params=["tf", "safetensors", "sharded"])
def checkpoint(request, tmp_path):
    if request.param == "tf":
        write_tf_bundle(tmp_path / "m.ckpt", TENSORS)
    else:
        limit = 10 if request.param == "sharded" else None
        write_safetensors(tmp_path / "model.safetensors", TENSORS, max_shard_size=limit)
    with open_checkpoint(tmp_path) as opened:
        yield opened


def test_it_is_a_mapping(checkpoint):
    assert set(checkpoint.names()) == set(checkpoint) == set(checkpoint.keys()) == set(TENSORS)
    assert len(checkpoint) == 2
    assert "encoder/bias" in checkpoint
    assert "bias" not in checkpoint
    assert 3 not in checkpoint
    assert {name: value.tolist() for name, value in checkpoint.items()} == {n: a.tolist() for n, a in TENSORS.items()}
    assert checkpoint.shape("encoder/kernel") == (2, 3)
    assert checkpoint.dtype("encoder/bias") == np.float16
    assert checkpoint.get("nothing") is None
    assert checkpoint.get("encoder/bias").shape == (3,)
    assert checkpoint == checkpoint  # noqa: PLR0124 comparing contents would fail on arrays
    assert "2 tensors" in repr(checkpoint)
    lines = {line.name: line for line in summarize(checkpoint)}
    assert (lines["encoder/kernel"].size, lines["encoder/kernel"].nbytes) == (6, 24)
    assert lines["encoder/bias"].dtype == "float16"
    assert (checkpoint.path.parent / lines["encoder/bias"].file).exists()


def test_arrays_are_the_readers_own(checkpoint):
    checkpoint["encoder/kernel"][:] = 7
    assert np.array_equal(checkpoint["encoder/kernel"], TENSORS["encoder/kernel"])


def test_unknown_names(checkpoint):
    for action in (
        lambda: checkpoint["encoder/kernal"],
        lambda: checkpoint.shape("encoder/kernal"),
        lambda: read_all(checkpoint, ["encoder/bias", "encoder/kernal"]),
    ):
        with pytest.raises(CheckpointError) as caught:
            action()
        assert str(checkpoint.path) in str(caught.value)
        assert "'encoder/kernal'" in str(caught.value)
        assert "'encoder/kernel'" in str(caught.value)


def test_read_all_takes_names_in_their_order(checkpoint):
    assert list(read_all(checkpoint, ["encoder/kernel"])) == ["encoder/kernel"]
    assert list(read_all(checkpoint, iter(["encoder/kernel", "encoder/bias"]))) == ["encoder/kernel", "encoder/bias"]


def test_reading_after_close(checkpoint):
    checkpoint.close()
    checkpoint.close()
    assert checkpoint.shape("encoder/kernel") == (2, 3)
    with pytest.raises(CheckpointError, match="closed"):
        checkpoint["encoder/kernel"]


def test_all_ways_to_name_a_tensorflow_checkpoint(tmp_path):
    write_tf_bundle(tmp_path / "bert_model.ckpt", TENSORS)
    for path in (tmp_path, tmp_path / "bert_model.ckpt", tmp_path / "bert_model.ckpt.index", str(tmp_path)):
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.format == "tf"
            assert checkpoint.path == tmp_path / "bert_model.ckpt"
    (tmp_path / "checkpoint").unlink()
    assert len(open_checkpoint(tmp_path)) == 2
    with pytest.raises(CheckpointError, match=r"Give the prefix 'bert_model\.ckpt'"):
        open_checkpoint(tmp_path / "bert_model.ckpt.data-00000-of-00001")


@pytest.mark.parametrize(
    "line", ["b", "/gone/b", "gs://bucket/b", "C:\\\\gone\\\\b"], ids=["relative", "absolute", "cloud", "windows"]
)
def test_the_text_file_names_the_newest(tmp_path, line):
    write_tf_bundle(tmp_path / "a", TENSORS)
    write_tf_bundle(tmp_path / "b", TENSORS)
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{line}"\nall_model_checkpoint_paths: "a"\n')
    assert open_checkpoint(tmp_path).path.name == "b"
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "c"\n')
    with pytest.raises(CheckpointError, match=r"found a\.index, b\.index"):
        open_checkpoint(tmp_path)


def test_the_text_file_with_odd_names(tmp_path):
    write_tf_bundle(tmp_path / "z", TENSORS)
    write_tf_bundle(tmp_path / 'a "b"', TENSORS)
    assert open_checkpoint(tmp_path).path.name == 'a "b"'


def test_more_than_one_checkpoint(tmp_path):
    write_tf_bundle(tmp_path / "m", TENSORS)
    write_safetensors(tmp_path / "model.safetensors", TENSORS)
    with pytest.raises(CheckpointError, match=r"expected one checkpoint, found model\.safetensors, m\.index"):
        open_checkpoint(tmp_path)
    assert open_checkpoint(tmp_path / "model.safetensors").format == "safetensors"


def test_loose_files(tmp_path):
    write_safetensors(tmp_path / "first.safetensors", TENSORS)
    assert len(open_checkpoint(tmp_path)) == 2
    write_safetensors(tmp_path / "second.safetensors", TENSORS)
    with pytest.raises(CheckpointError, match=r"first\.safetensors, second\.safetensors"):
        open_checkpoint(tmp_path)


def test_an_empty_folder_says_what_is_accepted(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CheckpointError, match=r"notes\.txt.*model\.safetensors.*\.h5.*\.msgpack.*V1"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("tf_model.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        ("model.keras", b"PK\x03\x04" + bytes(100), "Keras"),
        ("flax_model.msgpack", b"\x85abc", "Flax"),
        ("model.ckpt-1", bytes(100) + (0xDB4775248B80FB57).to_bytes(8, "little"), "V1"),
        ("notes.txt", b"hello", "not recognised"),
        ("model.bin", b"", "empty"),
        ("model.bin", b"hello", "torch.save"),
        ("model.safetensors", b"", "safetensors"),
        ("model.ckpt.index", b"", "index"),
        ("model.ckpt.index", b"hello" * 20, "magic number"),
        ("model.bin.index.json", b"", "JSON"),
    ],
)
def test_other_files(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(tmp_path / name)
    assert name in str(caught.value)


def test_paths_that_are_not_there(tmp_path):
    (tmp_path / "bert_model.ckpt.meta").write_bytes(b"")
    for path in (tmp_path / "bert_model.ckpt", tmp_path / "no/such", "a\0b", tmp_path / "x.index", tmp_path / "x.bin"):
        with pytest.raises(CheckpointError):
            open_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"bert_model\.ckpt\.meta"):
        open_checkpoint(tmp_path / "bert_model.ckpt")


def test_folders_in_place_of_files(tmp_path):
    write_tf_bundle(tmp_path / "m", TENSORS)
    data = tmp_path / "m.data-00000-of-00001"
    data.unlink()
    data.mkdir()
    with pytest.raises(CheckpointError, match="received a folder"):
        open_checkpoint(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    (file,) = write_safetensors(tmp_path / "model.safetensors", TENSORS)
    file.chmod(0)
    with pytest.raises(CheckpointError, match="Permission"):
        open_checkpoint(tmp_path)


def test_refused_permission_is_our_error(tmp_path, monkeypatch):
    """The same for a superuser, to whom the system refuses nothing."""
    (file,) = write_safetensors(tmp_path / "model.safetensors", TENSORS)
    import builtins

    def refuse(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be .*Permission denied"):
        open_checkpoint(file)


def test_no_framework_is_imported():
    code = (
        "import sys, kexue.checkpoints;"
        "sys.exit(bool({'keras', 'jax', 'torch', 'tensorflow', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
