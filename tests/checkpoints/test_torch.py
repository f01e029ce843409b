"""PyTorch files: equality with ``torch.load``, and programs that must not run."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue.checkpoints import open_checkpoint, read_all
from kexue.errors import CheckpointError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer
DATA = Path(os.environ.get("KEXUE_DATA", Path(__file__).parents[3] / "shared" / "data"))

KINDS = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
KINDS += ["complex64", "complex128", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"]
FORMATS = [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}]


def raw(tensor) -> bytes:
    if not tensor.numel():  # torch cannot view nothing as bytes
        return b""
    return tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).numpy().tobytes()


def check(path, state) -> None:
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == "torch"
        values = read_all(checkpoint)
        assert list(values) == list(state)
        for name, tensor in state.items():
            assert values[name].shape == checkpoint.shape(name) == tuple(tensor.shape), name
            assert str(values[name].dtype) == str(tensor.dtype).removeprefix("torch."), name
            assert values[name].tobytes() == raw(tensor), name


@st.composite
def states(draw):
    """Tensors as windows of any shape and stride into storages that several of them may share."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    state, storages = {}, []
    for i in range(draw(st.integers(1, 5))):
        if not storages or draw(st.booleans()):
            dtype = getattr(torch, draw(st.sampled_from(KINDS)))
            size = draw(st.integers(1, 60))
            data = torch.randint(0, 2 if dtype == torch.bool else 256, (size * 16,), generator=generator)
            storages.append(data.to(torch.uint8)[: size * dtype.itemsize].clone().view(dtype))
        base = draw(st.sampled_from(storages))
        shape, strides, last = [], [], 0
        offset = draw(st.integers(0, base.numel() - 1))
        for _ in range(draw(st.integers(0, 3))):
            stride = draw(st.integers(0, 7))
            most = 4 if stride == 0 else (base.numel() - 1 - offset - last) // stride + 1
            n = draw(st.integers(0, min(5, most)))
            shape.append(n)
            strides.append(stride)
            last += max(n - 1, 0) * stride
        state[f"w{i}"] = base.as_strided(shape, strides, offset)
    return state


@settings(max_examples=60)
@given(states(), st.sampled_from(FORMATS))
def test_any_layout_equals_torch_load(tmp_path_factory, state, options):
    path = tmp_path_factory.mktemp("torch") / "m.bin"
    if "_use_new_zipfile_serialization" in options:  # torch itself cannot read the newer dtypes from the old format
        state = {name: tensor for name, tensor in state.items() if str(tensor.dtype)[6:] in KINDS[:12]}
    torch.save(state, path, **options)
    loaded = torch.load(path, weights_only="pickle_protocol" not in options)
    assert all(raw(loaded[name]) == raw(state[name]) for name in state)
    check(path, state)


@pytest.mark.parametrize("options", FORMATS)
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_modules(tmp_path, options, wrap):
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Embedding(4, 3))
    state = module.state_dict()
    torch.save(wrap(state), tmp_path / "m.pt", **options)
    check(tmp_path / "m.pt", state)
    parameters = dict(module.named_parameters())
    torch.save(wrap(parameters), tmp_path / "p.pth", **options)
    check(tmp_path / "p.pth", parameters)


def test_tensors_over_one_storage_in_the_old_format(tmp_path):
    base = torch.arange(10.0)
    torch.save({"a": base[2:5], "b": base}, tmp_path / "m.bin", _use_new_zipfile_serialization=False)
    check(tmp_path / "m.bin", {"a": base[2:5], "b": base})


def test_numbers_that_are_no_tensors_are_passed_over(tmp_path):
    torch.save({"w": torch.ones(2), "version": 3, "name": "x", "list": [1, None, True, 2.5, 10**30]}, tmp_path / "m.pt")
    check(tmp_path / "m.pt", {"w": torch.ones(2)})


def test_sharded(tmp_path):
    state = {f"w{i}": torch.full((2, 2), float(i)) for i in range(4)}
    names = list(state)
    table = {}
    for i in (0, 1):
        file = f"pytorch_model-0000{i + 1}-of-00002.bin"
        torch.save({name: state[name] for name in names[2 * i : 2 * i + 2]}, tmp_path / file)
        table |= dict.fromkeys(names[2 * i : 2 * i + 2], file)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))
    check(tmp_path, state)
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(CheckpointError, match=r"00002-of-00002\.bin: no such file"):
        open_checkpoint(tmp_path)


@pytest.mark.data
@pytest.mark.parametrize("name", ["RNABERT.pth", "bert_mul_2.pth"])
def test_a_real_checkpoint(name):
    path = DATA / "fixtures/rnabert" / name
    if not path.exists():
        pytest.skip(f"{path} is absent")
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert len(state) == 117
    check(path, state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: torch.nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear"),
        (lambda: torch.ones(2), "a single tensor"),
        (lambda: [torch.ones(2)], "a list"),
        (lambda: {"epoch": 3}, "'epoch'"),
        (lambda: {0: torch.ones(2)}, "names of tensors, received 0"),
        (lambda: {"w": torch.ones(2).to_sparse()}, "_rebuild_sparse_tensor"),
        (lambda: {"w": torch.ones(2, dtype=torch.complex64).conj()}, "conjugated"),
        (lambda: {(1, 2): torch.ones(2)}, "neither text nor number"),
        (lambda: {"w": np.ones(3)}, r"numpy\.\S*_reconstruct"),
    ],
)
@pytest.mark.parametrize("options", FORMATS[:2])
def test_what_is_no_dictionary_of_tensors(tmp_path, content, message, options):
    torch.save(content(), tmp_path / "m.pt", **options)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "m.pt")


def test_many_tensors_over_one_storage(tmp_path):
    """A thousand times the same 4 MB: reading all of them would take 4 GB."""
    base = torch.zeros(1_000_000)
    torch.save({f"w{i}": base for i in range(1000)}, tmp_path / "m.bin")
    with pytest.raises(CheckpointError, match="far larger than the file"):
        open_checkpoint(tmp_path / "m.bin")
    torch.save({f"w{i}": base for i in range(24)}, tmp_path / "m.bin")  # as many as a model shares with good reason
    with open_checkpoint(tmp_path / "m.bin") as checkpoint:
        assert len(checkpoint) == 24


def test_damage_in_the_old_format(tmp_path):
    """No checksum there: values may be wrong, but nothing else may happen, and a cut is always noticed."""
    state = {f"w{i}": torch.randn(3, 4) for i in range(5)}
    file = tmp_path / "m.bin"
    torch.save(state, file, _use_new_zipfile_serialization=False)
    data, rng = file.read_bytes(), np.random.default_rng(0)
    for at in rng.integers(0, len(data), 300):
        file.write_bytes(data[:at])
        with pytest.raises(CheckpointError, match=r"m\.bin"):
            open_checkpoint(file)
        file.write_bytes(data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :])
        try:
            with open_checkpoint(file) as checkpoint:
                read_all(checkpoint)
        except CheckpointError:
            pass
