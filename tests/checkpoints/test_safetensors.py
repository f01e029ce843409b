"""safetensors: equality with the safetensors library, sharding, checksums, headers made to deceive."""

import json
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue.checkpoints import open_checkpoint, read_all, write_safetensors
from kexue.errors import CheckpointError

KINDS = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8"]
KINDS += ["uint64", "uint32", "uint16", "uint8", "bool", "complex64", "float8_e4m3fn", "float8_e5m2"]


def dtype_of(kind):
    return np.dtype(getattr(ml_dtypes, kind) if kind.startswith(("bfloat", "float8")) else kind)


def equal_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def tensors_of(layout, seed):
    rng = np.random.default_rng(seed)
    out = {}
    for name, (shape, kind) in layout.items():
        dtype = dtype_of(kind)
        raw = rng.integers(0, 2 if kind == "bool" else 256, int(np.prod(shape)) * dtype.itemsize, dtype=np.uint8)
        out[name] = raw.view(dtype).reshape(shape)
    return out


LAYOUTS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda name: name != "__metadata__"),
    st.tuples(st.lists(st.integers(0, 5), max_size=3), st.sampled_from(KINDS)),
    max_size=20,
)


@settings(max_examples=40)
@given(LAYOUTS, st.integers(0, 1000), st.one_of(st.none(), st.integers(1, 400)))
def test_round_trip(tmp_path_factory, layout, seed, limit):
    tensors = tensors_of(layout, seed)
    folder = tmp_path_factory.mktemp("st")
    files = write_safetensors(folder / "model.safetensors", tensors, max_shard_size=limit)
    for path in (folder, files[0]):
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.format == "safetensors"
            read = read_all(checkpoint)
            assert read.keys() == tensors.keys()
            assert all(equal_bits(read[name], tensors[name]) for name in tensors)
    if limit:
        for file in files[1:]:
            with open_checkpoint(file) as shard:
                assert len(shard) == 1 or sum(value.nbytes for value in shard.values()) <= limit


@pytest.mark.peer
def test_the_library_reads_ours_and_we_read_its(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    kinds = [kind for kind in KINDS if kind not in ("uint64", "uint32", "uint16")]  # torch cannot compare these
    ours = tensors_of({kind: ([3, 4], kind) for kind in kinds} | {"s": ([], "float32"), "e": ([0, 2], "float32")}, 1)
    (file,) = write_safetensors(tmp_path / "a.safetensors", ours, metadata={"note": "字"})
    theirs = load_file(file)
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        assert str(value.dtype).removeprefix("torch.") == str(ours[name].dtype)
        assert value.reshape(-1).view(torch.uint8).numpy().tobytes() == ours[name].tobytes()
    save_file(theirs, tmp_path / "b.safetensors", {"format": "pt"})
    with open_checkpoint(tmp_path / "b.safetensors") as checkpoint:
        assert checkpoint.metadata == {"format": "pt"}
        assert all(equal_bits(checkpoint[name], ours[name]) for name in ours)
    with open_checkpoint(file) as checkpoint:
        assert checkpoint.metadata == {"format": "pt", "note": "字"}


@pytest.mark.peer
@pytest.mark.parametrize("limit", [None, 20_000])
def test_transformers_loads_ours(tmp_path, limit):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=32
    )
    model = transformers.BertModel(config)
    config.save_pretrained(tmp_path)
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    write_safetensors(tmp_path / "model.safetensors", tensors, max_shard_size=limit)
    loaded = transformers.BertModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


def test_equal_contents_are_equal_files(tmp_path):
    """Texts of the header too, whose order in the library is that of a hash table."""
    arrays = {"b": np.arange(3.0), "甲": np.ones((2, 2), "int8")}
    texts = {name: f'{name}\n"é"' for name in ("z", "y", "x", "format", "w", "乙")}
    written = set()
    for turn in range(8):
        write_safetensors(
            tmp_path / "a.safetensors", arrays, metadata=dict(sorted(texts.items(), reverse=turn % 2 == 1))
        )
        written.add((tmp_path / "a.safetensors").read_bytes())
    assert len(written) == 1
    with open_checkpoint(tmp_path / "a.safetensors") as checkpoint:
        assert checkpoint.metadata == texts
        np.testing.assert_array_equal(checkpoint["b"], arrays["b"])


def test_not_contiguous_and_big_endian_arrays(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_safetensors(tmp_path / "a.safetensors", {"t": array.T, "b": array.astype(">f4"), "h": array[:, ::2]})
    with open_checkpoint(tmp_path) as checkpoint:
        assert equal_bits(checkpoint["t"], np.ascontiguousarray(array.T))
        assert equal_bits(checkpoint["b"], array)
        assert equal_bits(checkpoint["h"], np.ascontiguousarray(array[:, ::2]))


def test_checksum_notices_a_flipped_bit(tmp_path):
    (file,) = write_safetensors(tmp_path / "a.safetensors", {"w": np.ones(8, np.float32), "v": np.ones(1, np.int8)})
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)
    with open_checkpoint(file) as checkpoint:
        assert checkpoint["v"] == 1
        with pytest.raises(CheckpointError, match=r"a\.safetensors: tensor 'w': the checksum"):
            checkpoint["w"]
        with pytest.raises(CheckpointError, match="the checksum does"):
            read_all(checkpoint)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"w1"', b'"w2"'), (b'"F16"', b'"I16"'), (b"[2,3]", b"[3,2]"), (b"[2,3]", b"[6,1]")],
)
def test_checksum_covers_name_dtype_and_shape(tmp_path, old, new):
    (file,) = write_safetensors(tmp_path / "a.safetensors", {"w1": np.ones((2, 3), np.float16)})
    data = file.read_bytes()
    assert data.count(old) == 1
    file.write_bytes(data.replace(old, new))
    with pytest.raises(CheckpointError), open_checkpoint(file) as checkpoint:
        read_all(checkpoint)


# Headers that lie.


def forge(folder: Path, header, payload: bytes = bytes(24)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + payload)
    return folder / "m.safetensors"


def info(dtype="F32", shape=(2, 3), offsets=(0, 24), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def test_the_forger_can_be_honest(tmp_path):
    with open_checkpoint(forge(tmp_path, {"a": info()})) as checkpoint:
        assert equal_bits(checkpoint["a"], np.zeros((2, 3), np.float32))


@pytest.mark.parametrize(
    "header",
    [
        {"a": info(offsets=(0, 28))},
        {"a": info(offsets=(24, 0))},
        {"a": info(offsets=(-4, 20))},
        {"a": info(offsets=(1, 25))},
        {"a": info(offsets=(0.0, 24.0))},
        {"a": info(offsets=(0, 1 << 60), shape=(1 << 58,))},
        {"a": info(shape=(1 << 60, 1 << 60))},
        {"a": info(shape=(-2, -3))},
        {"a": info(shape=(True, 6))},
        {"a": info(shape="23")},
        {"a": info(dtype="F7")},
        {"a": info(dtype=["F32"])},
        {"a": info(more=1)},
        {"a": 3},
        {"a": info(), "b": info()},  # overlap
        {"a": info(shape=(2,), offsets=(0, 8)), "b": info(shape=(2,), offsets=(16, 24))},  # gap
        {"a": info(shape=(2,), offsets=(0, 8))},  # bytes left over
        {},
        [],
        {"__metadata__": {"x": 1}, "a": info()},
        {"__metadata__": {"kexue.crc32c": "{"}, "a": info()},
        {"__metadata__": {"kexue.crc32c": "{}"}, "a": info()},
        {"__metadata__": {"kexue.crc32c": '{"a": 5}'}, "a": info()},
        b"",
        b"{",
        b"\xff\xff",
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_lies_in_the_header(tmp_path, header):
    with pytest.raises(CheckpointError, match=r"m\.safetensors"):
        open_checkpoint(forge(tmp_path, header))


@pytest.mark.parametrize("data", [b"", b"1234567", bytes(8), b"\xff" * 100, (1 << 60).to_bytes(8, "little") + b"{}"])
def test_no_header(tmp_path, data):
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"m\.safetensors"):
        open_checkpoint(tmp_path)


def test_bytes_that_are_no_bools(tmp_path):
    with (
        open_checkpoint(forge(tmp_path, {"a": info("BOOL", (24,))}, b"\2" * 24)) as checkpoint,
        pytest.raises(CheckpointError, match=r"tensor 'a'.*bool"),
    ):
        checkpoint["a"]


# Sharded checkpoints.


@pytest.fixture
def sharded(tmp_path):
    tensors = {f"w{i}": np.full((4, 4), i, np.float32) for i in range(5)}
    files = write_safetensors(tmp_path / "model.safetensors", tensors, max_shard_size=128)
    assert [file.name for file in files] == [
        "model.safetensors.index.json",
        *(f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)),
    ]
    return tmp_path


def test_index_has_the_form_that_others_expect(sharded):
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 5 * 64}
    assert index["weight_map"]["w4"] == "model-00003-of-00003.safetensors"


def test_a_missing_shard_is_named(sharded):
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003\.safetensors: no such file.*'w2'"):
        open_checkpoint(sharded)


def edit(path: Path, change) -> None:
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index["weight_map"].update(w9="model-00001-of-00003.safetensors"), "'w9' is missing"),
        (lambda index: index["weight_map"].update(w0="model-00003-of-00003.safetensors"), "'w0' is missing"),
        (lambda index: index["weight_map"].update(w0="../model-00001-of-00003.safetensors"), "same folder"),
        (lambda index: index["weight_map"].update(w0="/etc/passwd"), "same folder"),
        (lambda index: index["weight_map"].update(w0=".."), "same folder"),
        (lambda index: index["weight_map"].update(w0="model.safetensors.index.json"), "expected shards that end"),
        (lambda index: index["weight_map"].update(w0=3), "weight_map"),
        (lambda index: index.pop("weight_map"), "weight_map"),
    ],
)
def test_lies_in_the_index(sharded, change, message):
    edit(sharded / "model.safetensors.index.json", change)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(sharded)


def test_an_index_with_a_name_twice(sharded):
    path = sharded / "model.safetensors.index.json"
    path.write_text(path.read_text().replace('"w1"', '"w0"'))
    with pytest.raises(CheckpointError, match="twice"):
        open_checkpoint(sharded)


def test_files_of_an_older_save_go_away(sharded):
    write_safetensors(sharded / "model.safetensors", {"w": np.ones((8, 8), np.float32)}, max_shard_size=10_000)
    assert [path.name for path in sharded.iterdir()] == ["model.safetensors"]
    two = {"v": np.ones(8, np.float32), "w": np.zeros(8, np.float32)}
    write_safetensors(sharded / "model.safetensors", two, max_shard_size=32)
    assert sorted(path.name for path in sharded.iterdir()) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]


@pytest.mark.parametrize("stop_at", range(4))
def test_a_save_that_stops_never_mixes_two_states(sharded, monkeypatch, stop_at):
    old = {f"w{i}": np.full((4, 4), i, np.float32) for i in range(5)}
    new = {name: value + 100 for name, value in old.items()}
    replace, calls = os.replace, []

    def stop(source, target):
        calls.append(target)
        if len(calls) > stop_at:
            raise OSError("stopped")
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(OSError, match="stopped"):
        write_safetensors(sharded / "model.safetensors", new, max_shard_size=128)
    assert not list(sharded.glob(".*"))
    try:
        with open_checkpoint(sharded) as checkpoint:
            values = read_all(checkpoint)
    except CheckpointError:
        return
    assert any(all(equal_bits(values[name], state[name]) for name in state) for state in (old, new))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tensors": {"w": np.array(["text"])}}, "tensor 'w'.*dtype"),
        ({"tensors": {"w": np.ones(2, np.complex128)}}, "tensor 'w'.*complex128"),
        ({"tensors": {"__metadata__": np.ones(2)}}, "cannot be the name"),
        ({"tensors": {}, "metadata": {"a": 1}}, "metadata"),
        ({"tensors": {}, "max_shard_size": 0}, "max_shard_size"),
    ],
)
def test_what_cannot_be_written_changes_nothing(tmp_path, arguments, message):
    (file,) = write_safetensors(tmp_path / "m.safetensors", {"a": np.ones(3)})
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        write_safetensors(file, **arguments)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_wrong_suffix(tmp_path):
    with pytest.raises(CheckpointError, match=r"ends in \.safetensors"):
        write_safetensors(tmp_path / "m.bin", {})
