"""PyTorch files made by hand, without PyTorch: programs that must not run, and descriptions that lie."""

import contextlib
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue.checkpoints import open_checkpoint, read_all
from kexue.checkpoints.torch_pickle import BytesSource, load_pickle
from kexue.errors import CheckpointError

# Programs. Each would create the canary if it ran.


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def programs(canary: Path) -> dict[str, object]:
    return {
        "system": Evil(os.system, f"touch {canary}"),
        "eval": Evil(eval, f"open({str(canary)!r}, 'w')"),
        "exec": Evil(exec, f"open({str(canary)!r}, 'w')"),
        "open": Evil(open, str(canary), "w"),
        "getattr": Evil(getattr, Evil(__import__, "os"), "system"),
        "load": Evil(pickle.loads, pickle.dumps(Evil(os.system, f"touch {canary}"))),
        "in_dict": OrderedDict(a=Evil(os.mkdir, str(canary))),
        "call": Evil(subprocess.call, ["touch", str(canary)]),
    }


def as_zip(path: Path, program: bytes, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", program)
        for name, data in members.items():
            archive.writestr(f"m/data/{name.removeprefix('s')}", data)
    return path


def as_legacy(path: Path, program: bytes, **storages: np.ndarray) -> Path:
    head = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in head) + program)
    with open(path, "ab") as file:
        file.write(pickle.dumps([name.removeprefix("s") for name in storages], 2))
        for data in storages.values():
            file.write(len(data).to_bytes(8, "little") + data.tobytes())
    return path


@pytest.mark.parametrize("kind", ["system", "eval", "exec", "open", "getattr", "load", "in_dict", "call"])
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("container", [as_zip, as_legacy])
def test_programs_are_refused_and_not_run(tmp_path, kind, protocol, container):
    canary = tmp_path / "canary"
    program = pickle.dumps({"w": programs(canary)[kind]}, protocol)
    file = container(tmp_path / "m.bin", program)
    with pytest.raises(CheckpointError, match=r"m\.bin"):
        open_checkpoint(file)
    assert not canary.exists()


def test_the_refused_name_is_in_the_message(tmp_path):
    with pytest.raises(CheckpointError, match=rf"the global {os.system.__module__}\.system"):
        open_checkpoint(as_zip(tmp_path / "m.bin", pickle.dumps(Evil(os.system, "true"), 2)))


def test_the_canary_works(tmp_path):
    """That the programs above do something when an unpickler runs them."""
    for kind in ("system", "eval", "exec", "in_dict", "call"):
        canary = tmp_path / kind
        pickle.loads(pickle.dumps(programs(canary)[kind]))
        assert canary.exists()


def number(n: int) -> bytes:
    size = n.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + n.to_bytes(size, "little", signed=True)


def tensor(count=6, offset=0, shape=(2, 3), strides=(3, 1), view=b"") -> bytes:
    """Instructions for a dictionary with one tensor ``w``."""
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + b"0X\3\0\0\0cpu" + number(count) + view + b"tQ"
    sizes, steps = (b"(" + b"".join(map(number, values)) + b"t" for values in (shape, strides))
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + sizes + steps + b"\x89)tR"
    return b"\x80\2}X\1\0\0\0w" + call + b"s."


def test_the_forger_can_be_honest(tmp_path):
    data = np.arange(6, dtype=np.float32)
    with open_checkpoint(as_zip(tmp_path / "m.bin", tensor(), s0=data.tobytes())) as checkpoint:
        assert np.array_equal(checkpoint["w"], data.reshape(2, 3))


@pytest.mark.parametrize(
    "lie",
    [
        {"count": 7},
        {"count": 1 << 60},
        {"count": -6},
        {"offset": 1},
        {"offset": -1},
        {"offset": 1 << 70},
        {"shape": (3, 3)},
        {"shape": (2, -3)},
        {"shape": (-2, -3)},
        {"shape": (1 << 40, 1 << 40), "strides": (0, 0)},
        {"shape": (1 << 32,), "strides": (0,)},  # 16 GiB out of one number
        {"shape": (0, 1 << 63), "strides": (1, 1)},
        {"strides": (4, 1)},
        {"strides": (3, -1)},
        {"strides": (1 << 62, 1)},
        {"strides": (3,)},
        {"shape": (1,) * 70, "strides": (1,) * 70},
    ],
)
def test_lies_about_a_tensor(tmp_path, lie):
    file = as_zip(tmp_path / "m.bin", tensor(**lie), s0=bytes(24))
    with pytest.raises(CheckpointError, match=r"m\.bin"):
        open_checkpoint(file)


def test_the_step_of_a_dimension_of_one_means_nothing(tmp_path):
    program = tensor(shape=(1, 6), strides=(1 << 62, 1))
    with open_checkpoint(as_zip(tmp_path / "m.bin", program, s0=bytes(24))) as checkpoint:
        assert checkpoint["w"].shape == (1, 6)


def view(start: int, length: int) -> bytes:
    return b"(U\1v" + number(start) + number(length) + b"t"


def test_views_of_storages_in_the_old_format(tmp_path):
    """Only very old versions wrote them; `torch.load` still reads them, so it can say what is right."""
    data = np.arange(20, dtype=np.float32)
    program = tensor(count=20, offset=1, shape=(2, 3), strides=(4, 1), view=view(5, 9))
    file = as_legacy(tmp_path / "m.bin", program, s0=data)
    with open_checkpoint(file) as checkpoint:
        assert checkpoint["w"].tolist() == [[6, 7, 8], [10, 11, 12]]
    torch = pytest.importorskip("torch")
    assert torch.load(file, weights_only=False)["w"].tolist() == [[6, 7, 8], [10, 11, 12]]


@pytest.mark.parametrize("lie", [(5, 16), (-1, 9), (5, -1), (21, 0), (5, 7)])
def test_lies_about_views(tmp_path, lie):
    program = tensor(count=20, offset=1, shape=(2, 3), strides=(4, 1), view=view(*lie))
    with pytest.raises(CheckpointError, match=r"m\.bin"):
        open_checkpoint(as_legacy(tmp_path / "m.bin", program, s0=np.zeros(20, np.float32)))


def test_a_missing_storage(tmp_path):
    with pytest.raises(CheckpointError, match=r"'w': the archive has no storage '0'"):
        open_checkpoint(as_zip(tmp_path / "m.bin", tensor()))


def test_compressed_members_are_refused(tmp_path):
    """The door of zip bombs: 100 MB of zeros in 100 KB."""
    file = tmp_path / "m.bin"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", tensor(count=25_000_000, shape=(25_000_000,), strides=(1,)))
        archive.writestr("m/data/0", bytes(100_000_000))
    with pytest.raises(CheckpointError, match="is compressed"):
        open_checkpoint(file)


def test_an_archive_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("document.xml", "text")
    with pytest.raises(CheckpointError, match=r"data\.pkl"):
        open_checkpoint(tmp_path / "m.pt")


def test_a_dictionary_that_doubles_itself_without_end():
    """Each level holds the one below twice; walking it would take 2^200 steps."""
    program = b"\x80\2}q\0" + b"".join(
        b"}" + b"(U\1a" + b"h" + bytes([i]) + b"U\1b" + b"h" + bytes([i]) + b"uq" + bytes([i + 1]) for i in range(200)
    )
    content, _ = load_pickle(BytesSource(program + b"."), "here")
    assert set(content) == {"a", "b"}


def test_tuples_that_double_themselves_are_no_keys():
    """Hashing such a tuple takes 2^200 steps."""
    levels = (b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(200))
    program = b"\x80\2)q\0" + b"".join(levels)
    with pytest.raises(CheckpointError, match="neither text nor number"):
        load_pickle(BytesSource(program + b"}h\xc8Ns."), "here")


@pytest.mark.parametrize(
    "program",
    [
        b"X\xff\xff\xff\xff",
        b"\x8d" + b"\xff" * 8,
        b"B\xff\xff\xff\xffabc",
        b"N" + b"r\xff\xff\xff\xff",  # a memo of 4 billion places
        b"h\7.",
        b"(",
        b"(.",
        b"R",
        b"NNR.",
        b"}b.",
        b"NNb.",
        b"NNs.",
        b"}(Nu.",
        b"Na.",
        b"NNa.",
        b"NQ.",
        b"X\2\0\0\0\xff\xff.",
        b"c" + b"a" * 10_000,
        b"\x8cxNc",
        b"I1\n.",
        b".",
        b"",
    ],
)
def test_nonsense(program):
    with pytest.raises(CheckpointError, match=r"^here"):
        load_pickle(BytesSource(program), "here")


@settings(max_examples=500)
@given(st.binary(max_size=40), st.integers(0, 200), st.integers(0, 30))
def test_any_bytes_in_the_middle_of_a_program(junk, at, skip):
    good = tensor()
    with contextlib.suppress(CheckpointError):
        load_pickle(BytesSource(good[:at] + junk + good[at + skip :]), "here")


@settings(max_examples=100)
@given(st.binary(max_size=8), st.integers(0, 140), st.integers(0, 8))
def test_any_program_over_a_small_storage(tmp_path_factory, junk, at, skip):
    """The archive is sound and its checksums are right, only the program is not."""
    good = tensor()
    file = as_zip(tmp_path_factory.mktemp("torch") / "m.bin", good[:at] + junk + good[at + skip :], s0=bytes(24))
    try:
        with open_checkpoint(file) as checkpoint:
            assert all(value.nbytes <= 1 << 29 for value in read_all(checkpoint).values())
    except CheckpointError:
        pass
