"""TensorFlow bundles: equality with TensorFlow in both directions, and files made to deceive."""

import contextlib
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue._protobuf import WireError, put_bytes, put_fixed32, put_varint, varint
from kexue.checkpoints import open_checkpoint, read_all, summarize, write_tf_bundle
from kexue.checkpoints.crc32c import crc32c, mask
from kexue.checkpoints.snappy import decompress
from kexue.checkpoints.sstable import build_table, read_table
from kexue.checkpoints.tf_index import Entry, encode_entry, encode_header, slice_key
from kexue.errors import CheckpointError

DATA = Path(os.environ.get("KEXUE_DATA", Path(__file__).parents[3] / "shared" / "data"))
KINDS = ["float32", "float64", "float16", "bfloat16", "int8", "uint8", "int16", "uint16", "int32", "uint32"]
KINDS += ["int64", "uint64", "bool", "complex64", "complex128"]


def equal_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def all_kinds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    out = {}
    for kind in KINDS:
        dtype = np.dtype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
        out[f"{kind}/matrix"] = (rng.standard_normal((3, 5)) * 3).astype(np.int8).astype(dtype)
        out[f"{kind}/scalar"] = np.asarray(1).astype(dtype)
        out[f"{kind}/empty"] = np.zeros((0, 4), dtype)
    return out


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


@pytest.mark.peer
class TestAgainstTensorFlow:
    def save(self, tf, prefix, tensors, **options):
        v1 = tf.compat.v1
        with tf.Graph().as_default(), v1.Session() as session:
            for name, value in tensors.items():
                v1.get_variable(name, initializer=tf.constant(value))
            for name, (value, partitioner) in options.get("partitioned", {}).items():
                v1.get_variable(
                    name, value.shape, initializer=v1.random_normal_initializer(), partitioner=partitioner(v1)
                )
            session.run(v1.global_variables_initializer())
            v1.train.Saver(sharded=options.get("sharded", False)).save(session, str(prefix))

    def compare(self, tf, prefix):
        reader = tf.train.load_checkpoint(str(prefix))
        with open_checkpoint(prefix) as checkpoint:
            assert set(checkpoint.names()) == set(reader.get_variable_to_shape_map())
            for name in checkpoint:
                expected = np.asarray(reader.get_tensor(name))
                assert list(checkpoint.shape(name)) == reader.get_variable_to_shape_map()[name]
                value = checkpoint[name]
                if value.dtype == object:
                    assert value.tolist() == (expected.tolist() if expected.shape else reader.get_tensor(name))
                else:
                    assert equal_bits(value, expected), name
            return checkpoint.names()

    def test_all_dtypes(self, tf, tmp_path):
        self.save(tf, tmp_path / "m.ckpt", all_kinds())
        assert len(self.compare(tf, tmp_path / "m.ckpt")) == 3 * len(KINDS)

    def test_partitioned_variables(self, tf, tmp_path):
        parts = {
            "rows": (np.zeros((1000, 7, 3)), lambda v1: v1.fixed_size_partitioner(7)),
            "columns": (np.zeros((2, 90_000)), lambda v1: v1.fixed_size_partitioner(3, axis=1)),
            "one/line": (np.zeros(300_000), lambda v1: v1.fixed_size_partitioner(20)),
        }
        self.save(tf, tmp_path / "m.ckpt", {}, partitioned=parts, sharded=True)
        assert set(self.compare(tf, tmp_path / "m.ckpt")) == set(parts)

    def test_strings(self, tf, tmp_path):
        strings = {"s": np.array([[b"a", b"bcd" * 100], [b"", b"\0x"]], object), "t": np.array(b"text", object)}
        self.save(tf, tmp_path / "m.ckpt", strings)
        self.compare(tf, tmp_path / "m.ckpt")
        with open_checkpoint(tmp_path / "m.ckpt") as checkpoint:
            assert read_all(checkpoint) == {}  # no numbers

    def test_object_based(self, tf, tmp_path):
        saved = tf.train.Checkpoint(a=tf.Variable([1.0, 2.0]), step=tf.Variable(3, dtype=tf.int64)).save(
            str(tmp_path / "ckpt")
        )
        names = self.compare(tf, saved)
        assert "a/.ATTRIBUTES/VARIABLE_VALUE" in names
        with open_checkpoint(tmp_path) as checkpoint:  # the text file names the prefix
            assert str(checkpoint.path) == saved
            assert "_CHECKPOINTABLE_OBJECT_GRAPH" in checkpoint
            assert "_CHECKPOINTABLE_OBJECT_GRAPH" not in read_all(checkpoint)

    def test_several_data_files(self, tf, tmp_path):
        values = all_kinds()
        prefixes = []
        for i in range(3):
            prefix = tmp_path / f"part{i}"
            self.save(tf, prefix, {name: value for j, (name, value) in enumerate(values.items()) if j % 3 == i})
            prefixes.append(str(prefix))
        tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=prefixes, destination_prefix=str(tmp_path / "whole"), delete_old_dirs=False
        )
        assert (tmp_path / "whole.data-00002-of-00003").exists()
        assert len(self.compare(tf, tmp_path / "whole")) == len(values)
        (tmp_path / "whole.data-00001-of-00003").unlink()
        with pytest.raises(CheckpointError, match=r"whole\.data-00001-of-00003: no such file"):
            open_checkpoint(tmp_path / "whole")

    def test_tensorflow_reads_ours(self, tf, tmp_path):
        values = {f"bert/layer_{i}/{name}": value for i in range(20) for name, value in all_kinds().items()}
        write_tf_bundle(tmp_path / "m.ckpt", values)
        assert len(self.compare(tf, tmp_path / "m.ckpt")) == len(values)
        assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "m.ckpt")
        v1 = tf.compat.v1
        with tf.Graph().as_default(), v1.Session() as session:
            variable = v1.get_variable("bert/layer_3/float32/matrix", [3, 5])
            v1.train.Saver().restore(session, str(tmp_path / "m.ckpt"))
            assert equal_bits(session.run(variable), values["bert/layer_3/float32/matrix"])

    @pytest.mark.data
    def test_a_checkpoint_of_bert(self, tf):
        prefix = DATA / "fixtures/keras_bert_tf_checkpoint/test_checkpoint/bert_model.ckpt"
        if not Path(f"{prefix}.index").exists():
            pytest.skip(f"{prefix}.index is absent")
        assert "bert/embeddings/word_embeddings" in self.compare(tf, prefix)


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: name[0] != "\0"),
        st.tuples(st.lists(st.integers(0, 5), max_size=3), st.sampled_from(KINDS)),
        max_size=30,
    ),
    st.integers(0, 1000),
)
def test_round_trip(tmp_path_factory, layout, seed):
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, (shape, kind) in layout.items():
        dtype = np.dtype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
        raw = rng.integers(0, 2 if kind == "bool" else 256, int(np.prod(shape)) * dtype.itemsize, dtype=np.uint8)
        tensors[name] = raw.view(dtype).reshape(shape)  # NaNs and all
    prefix = tmp_path_factory.mktemp("tf") / "m.ckpt"
    write_tf_bundle(prefix, tensors)
    with open_checkpoint(prefix) as checkpoint:
        assert list(checkpoint) == sorted(tensors, key=str.encode)
        for name, value in read_all(checkpoint).items():
            assert equal_bits(value, tensors[name])
            assert checkpoint.dtype(name) == value.dtype
        lines = {line.name: line for line in summarize(checkpoint)}
        assert {name: line.nbytes for name, line in lines.items()} == {n: a.nbytes for n, a in tensors.items()}


def test_not_contiguous_and_big_endian_arrays(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_tf_bundle(tmp_path / "m", {"t": array.T, "b": array.astype(">f4"), "half": array[:, ::2]})
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert equal_bits(checkpoint["t"], np.ascontiguousarray(array.T))
        assert equal_bits(checkpoint["b"], array)
        assert equal_bits(checkpoint["half"], np.ascontiguousarray(array[:, ::2]))


def test_a_failed_write_changes_nothing(tmp_path):
    write_tf_bundle(tmp_path / "m", {"a": np.ones(3, np.float32)})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match=r"tensor 'b'.*dtype"):
        write_tf_bundle(tmp_path / "m", {"a": np.zeros(9, np.float32), "b": np.array(["text"])})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_index_beside_newer_data_is_refused(tmp_path, monkeypatch):
    """The machine stops between the two renames."""
    write_tf_bundle(tmp_path / "m", {"a": np.ones(3, np.float32)})
    replace = os.replace

    def stop(source, target):
        if str(target).endswith(".index"):
            raise OSError("stopped")
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(OSError, match="stopped"):
        write_tf_bundle(tmp_path / "m", {"a": np.zeros(3, np.float32)})
    with open_checkpoint(tmp_path / "m") as checkpoint, pytest.raises(CheckpointError, match=r"'a'.*checksum"):
        read_all(checkpoint)


def test_data_files_of_an_older_checkpoint_go_away(tmp_path):
    (tmp_path / "m.data-00001-of-00002").write_bytes(b"old")
    (tmp_path / "other.data-00001-of-00002").write_bytes(b"not ours")
    write_tf_bundle(tmp_path / "m", {"a": np.ones(3, np.float32)})
    assert not (tmp_path / "m.data-00001-of-00002").exists()
    assert (tmp_path / "other.data-00001-of-00002").exists()


# Files whose checksums are right but whose contents lie.


def forge(folder: Path, *entries: tuple[bytes, bytes], data: bytes = bytes(24), header: bytes | None = None) -> Path:
    table = [(b"", encode_header() if header is None else header), *entries]
    (folder / "m.index").write_bytes(build_table(table))
    (folder / "m.data-00000-of-00001").write_bytes(data)
    return folder / "m"


def entry(**fields) -> bytes:
    values = {"number": 1, "shape": (2, 3), "size": 24, "crc": mask(crc32c(bytes(24)))}
    return encode_entry(Entry(**{**values, **fields}))


NEGATIVE = (1 << 64) - 6  # -6 as a varint


@pytest.mark.parametrize(
    "lie",
    [
        {"size": 1 << 60},
        {"offset": 1 << 60},
        {"offset": 25},
        {"offset": NEGATIVE},
        {"size": NEGATIVE},
        {"shape": (1 << 60,)},
        {"shape": (1 << 40, 1 << 40)},
        {"shape": (1 << 62, 4), "size": 0},  # 2^64 elements are none in 64 bits
        {"shape": (NEGATIVE,)},
        {"shape": (NEGATIVE, (1 << 64) - 1), "size": 24},
        {"shape": (0, 1 << 62, 1 << 62), "size": 0, "crc": 0},
        {"shape": (1,) * 70, "size": 4},
        {"shape": (2, 2)},
        {"shard": 1},
        {"shard": NEGATIVE},
        {"number": 7, "shape": (1 << 50,)},
        {"crc": 12345},
        {"number": 10, "shape": (24,)},  # see below: bytes that are no bools
    ],
)
def test_lies_about_a_tensor(tmp_path, lie):
    data = bytes([7] * 24) if lie.get("number") == 10 else bytes(24)
    crc = {"crc": mask(crc32c(data))} if "crc" not in lie else {}
    prefix = forge(tmp_path, (b"good", entry(**crc)), (b"liar", entry(**lie, **crc)), data=data + data)
    with pytest.raises(CheckpointError, match="m\\."), open_checkpoint(prefix) as checkpoint:
        checkpoint["liar"]


def test_the_forger_can_be_honest(tmp_path):
    with open_checkpoint(forge(tmp_path, (b"a", entry()))) as checkpoint:
        assert equal_bits(checkpoint["a"], np.zeros((2, 3), np.float32))


def test_many_tensors_over_the_same_bytes_are_refused(tmp_path):
    prefix = forge(tmp_path, *((f"t{i:03d}".encode(), entry()) for i in range(100)))
    with pytest.raises(CheckpointError, match="larger than the data files"):
        open_checkpoint(prefix)


def test_opaque_entries_are_listed_and_not_read(tmp_path):
    prefix = forge(tmp_path, (b"a", entry()), (b"variant", entry(number=21, size=0)))
    with open_checkpoint(prefix) as checkpoint:
        assert checkpoint.names() == ("a", "variant")
        assert list(read_all(checkpoint)) == ["a"]
        with pytest.raises(CheckpointError, match=r"'variant'.*dtype number 21"):
            checkpoint["variant"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (put_varint(1, 1) + put_varint(2, 1), "big-endian"),
        (put_varint(1, 1) + put_bytes(3, put_varint(2, 9)), "reader of 9"),
        (put_varint(1, 1 << 40), "data files"),
        (b"", "data files"),
        (b"\x0a", "cut off"),
        (b"\x0f", "wire type"),
        (put_bytes(1, b"x"), "number"),
        (put_fixed32(3, 5), "message"),
    ],
)
def test_headers(tmp_path, header, message):
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(forge(tmp_path, (b"a", entry()), header=header))


def slice_of(*extents: tuple[int, int]) -> bytes:
    inner = b""
    for start, length in extents:
        inner += put_bytes(1, put_varint(1, start) + put_varint(2, length))
    return put_bytes(7, inner)


@pytest.mark.parametrize(
    "slices",
    [
        slice_of((0, 2), (0, 3)),  # no such entry
        slice_of((0, 9), (0, 3)),
        slice_of((0, 1 << 50), (0, 3)),
        slice_of((0, 2)),
        put_bytes(7, b"\xff"),
    ],
)
def test_lies_about_slices(tmp_path, slices):
    whole = encode_entry(Entry(1, (2, 3))) + slices
    with pytest.raises(CheckpointError, match="m\\."):
        open_checkpoint(forge(tmp_path, (b"a", whole)))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 1), (1, 3)], None),
        ([(1, 3), (0, 1)], None),
        ([(0, 1), (2, 2)], "do not cover"),
        ([(0, 1), (1, 3), (3, 1)], "do not cover"),
        ([(0, 2), (1, 2)], "overlap"),
    ],
)
def test_slices_must_cover_the_whole(tmp_path, rows, message):
    """A variable of shape (4, 3) in pieces of whole rows."""
    data = np.arange(12, dtype=np.float32).reshape(4, 3)
    whole = encode_entry(Entry(1, (4, 3)))
    table, payload = [], b""
    for start, n in rows:
        piece = data[start : start + n].tobytes()
        inner = put_bytes(1, put_varint(1, start) + put_varint(2, n)) + put_bytes(1, b"")
        whole += put_bytes(7, inner)
        entry = Entry(1, (n, 3), 0, len(payload), len(piece), mask(crc32c(piece)))
        table.append((slice_key(b"a", [(start, n), (0, -1)]), encode_entry(entry)))
        payload += piece
    prefix = forge(tmp_path, *sorted([*table, (b"a", whole)]), data=payload)
    if message is None:
        with open_checkpoint(prefix) as checkpoint:
            assert checkpoint.names() == ("a",)
            assert equal_bits(checkpoint["a"], data)
    else:
        with pytest.raises(CheckpointError, match=message), open_checkpoint(prefix) as checkpoint:
            checkpoint["a"]


def test_truncated_data_is_known_before_anything_is_read(tmp_path):
    _, data, _ = write_tf_bundle(tmp_path / "m", {"a": np.ones(3, np.float32), "b": np.ones(3, np.float32)})
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"m\.data-00000-of-00001: tensor 'b'.*truncated"):
        open_checkpoint(tmp_path / "m")


@settings(max_examples=300)
@given(st.binary(max_size=60), st.binary(max_size=20))
def test_any_bytes_as_an_entry(tmp_path_factory, value, key):
    prefix = forge(tmp_path_factory.mktemp("forged"), (b"\1" + key, value))
    try:
        with open_checkpoint(prefix) as checkpoint:
            assert all(value.nbytes <= 1 << 20 for value in read_all(checkpoint).values())
    except CheckpointError:
        pass


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_any_bytes_as_a_table(data):
    with contextlib.suppress(WireError):
        list(read_table(data + (0xDB4775248B80FB57).to_bytes(8, "little")))


def test_tables_of_many_blocks():
    entries = [(f"layer/{i:06d}/kernel".encode(), bytes([i % 256]) * (i % 90)) for i in range(5000)]
    assert list(read_table(build_table(entries))) == entries


def test_names_that_share_prefixes_do_not_blow_up():
    """A name of 4 KB, then thousands of entries of a few bytes that share it: the table is small, the names are not."""
    head, count = b"x" * 4000, 20_000
    block = varint(0) + varint(len(head)) + varint(0) + head
    block += b"".join(varint(4000) + varint(3) + varint(0) + i.to_bytes(3, "big") for i in range(count))
    with pytest.raises(WireError, match="too long"):
        list(read_table(table_of(block + bytes(4) + (1).to_bytes(4, "little"), 0, b"y")))


# Compressed by a real Snappy (270 and 10,000 bytes).
COMPRESSED = (
    "8e026c626572742f656e636f6465722f6c617965725f302f6b65726e656c204a1c0000316a1c00fe38007238000061760100f0460000"
    "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30313233343536"
    "3738393a3b3c3d3e3f404142434445"
)
PLAIN = b"bert/encoder/layer_0/kernel bert/encoder/layer_1/kernel " * 3 + b"a" * 31 + b"\0" + bytes(range(70))


def test_snappy():
    compressed = bytes.fromhex(COMPRESSED)
    assert decompress(compressed, 1000) == PLAIN
    repeated = bytes.fromhex("904e046162" + "fe0200" * 156 + "360200")
    assert decompress(repeated, 10_000) == b"ab" * 5000
    with pytest.raises(WireError, match="claims"):
        decompress(repeated, 9999)
    for cut in range(len(compressed)):
        with pytest.raises(WireError):
            decompress(compressed[:cut], 1000)


@given(st.binary(max_size=200))
def test_any_bytes_as_snappy(data):
    with contextlib.suppress(WireError):
        assert len(decompress(data, 1 << 16)) <= 1 << 16


def test_a_compressed_block_in_a_table(tmp_path):
    """Index files of old TensorFlow versions: one literal is a valid Snappy stream."""
    forge(tmp_path, (b"a", entry()))
    block = build_block([(b"", encode_header()), (b"a", entry())])
    literal = varint(len(block)) + bytes([60 << 2, len(block) - 1]) + block
    (tmp_path / "m.index").write_bytes(table_of(literal, 1, b"a"))
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert equal_bits(checkpoint["a"], np.zeros((2, 3), np.float32))


def build_block(entries):
    body = b"".join(varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in entries)
    return body + bytes(4) + (1).to_bytes(4, "little")


def table_of(block: bytes, compression: int, last: bytes) -> bytes:
    """A table of one data block."""
    out, handles = b"", []
    for content, kind in ((block, compression), (build_block([]), 0), (None, 0)):
        data = build_block([(last, handles[0])]) if content is None else content
        handles.append(varint(len(out)) + varint(len(data)))
        data += bytes([kind])
        out += data + mask(crc32c(data)).to_bytes(4, "little")
    return out + (handles[1] + handles[2]).ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")
