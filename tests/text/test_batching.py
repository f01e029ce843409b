"""Padding, length batches, packing: nothing lost, nothing twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexue.errors import ConfigError, DataError
from kexue.text import DEFAULT_BUCKETS, Tokenizer, bucket_length, length_batches, pack, pad, unpack

TOKENIZER = Tokenizer.from_vocab(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghij"])


def encoded(size):
    """An encoding of ``size`` tokens (at least 2)."""
    return TOKENIZER.encode(" ".join("abcdefghij"[i % 10] for i in range(size - 2)))


def test_bucket_length():
    assert [bucket_length(n) for n in (0, 1, 16, 17, 512, 513, 1024, 1025)] == [16, 16, 16, 32, 512, 768, 1024, 1280]
    assert bucket_length(5, (10, 4, 6)) == 6
    assert bucket_length(37, None) == 37
    with pytest.raises(ConfigError, match="buckets"):
        bucket_length(3, [])


def test_pad():
    a, b = encoded(5), TOKENIZER.encode("a b", "c")
    batch = pad([a, b], batch_size=4, pad_id=9)
    assert {k: (v.shape, str(v.dtype)) for k, v in batch.items()} == {
        "token_ids": ((4, 16), "int32"),
        "segment_ids": ((4, 16), "int32"),
        "padding_mask": ((4, 16), "bool"),
    }
    assert batch["token_ids"][0].tolist() == [*a.token_ids.tolist(), *[9] * 11]
    assert batch["segment_ids"][1, : len(b)].tolist() == b.segment_ids.tolist()
    assert batch["padding_mask"].sum(1).tolist() == [5, len(b), 0, 0]
    assert pad([a], length=7)["token_ids"].shape == (1, 7)
    assert pad([encoded(17)], max_length=20)["token_ids"].shape == (1, 20)
    assert pad([encoded(17)], max_length=10)["token_ids"].shape == (1, 17)
    assert pad([a], buckets=None)["token_ids"].shape == (1, 5)
    for kw, word in [({"length": 4}, "windows"), ({"batch_size": 1}, "fit")]:
        with pytest.raises(ConfigError, match=word):
            pad([a, b], **kw)
    with pytest.raises(ConfigError, match="at least one"):
        pad([])


@given(
    lengths=st.lists(st.integers(0, 700), max_size=60),
    batch_size=st.one_of(st.none(), st.integers(1, 9)),
    max_tokens=st.one_of(st.none(), st.integers(768, 3000)),
    seed=st.one_of(st.none(), st.integers(0, 5)),
    buckets=st.sampled_from([DEFAULT_BUCKETS, None, (7, 100)]),
)
def test_length_batches(lengths, batch_size, max_tokens, seed, buckets):
    if batch_size is None and max_tokens is None:
        batch_size = 4
    kw = {"max_tokens": max_tokens, "shuffle_seed": seed, "buckets": buckets}
    batches = length_batches(lengths, batch_size, **kw)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = [bucket_length(lengths[i], buckets) for i in batch]
        if buckets is not None:
            assert len(set(padded)) == 1
        if batch_size is not None:
            assert len(batch) <= batch_size
        if max_tokens is not None:
            assert len(batch) * max(padded) <= max_tokens
    assert length_batches(lengths, batch_size, **kw) == batches
    if seed is None and buckets is not None:
        sizes = [bucket_length(lengths[batch[0]], buckets) for batch in batches]
        assert sizes == sorted(sizes)


def test_length_batches_use_the_room_and_the_seed():
    lengths = [10] * 20 + [100] * 7
    assert [len(b) for b in length_batches(lengths, max_tokens=160)] == [10, 10, *[1] * 7]
    assert length_batches(lengths, 4, shuffle_seed=1) != length_batches(lengths, 4, shuffle_seed=2)
    with pytest.raises(DataError, match="example 20"):
        length_batches(lengths, max_tokens=100)
    with pytest.raises(ConfigError, match="batch_size"):
        length_batches(lengths)
    with pytest.raises(ConfigError, match="positive"):
        length_batches(lengths, 0)


@given(st.lists(st.integers(2, 20), max_size=25), st.integers(20, 45))
def test_pack_and_unpack(sizes, length):
    encodings = [encoded(size) for size in sizes]
    packed = pack(encodings, length)
    batch = packed.batch
    for name in ("token_ids", "segment_ids", "position_ids", "document_ids"):
        assert batch[name].dtype == np.int32
    for name in ("token_ids", "segment_ids"):
        for encoding, back in zip(encodings, unpack(batch[name], packed), strict=True):
            assert back.tolist() == getattr(encoding, name).tolist()
    for part in unpack(batch, packed):
        assert part["position_ids"].tolist() == list(range(len(part["token_ids"])))
        assert len(set(part["document_ids"].tolist())) == 1
        assert part["padding_mask"].all()
    values = np.random.default_rng(0).normal(size=(*batch["token_ids"].shape, 2, 3))
    back = unpack(values, packed)
    assert [b.shape for b in back] == [(size, 2, 3) for size in sizes]
    cells = np.concatenate([b.reshape(-1, 6) for b in back]) if back else np.zeros((0, 6))
    assert sorted(map(tuple, cells)) == sorted(map(tuple, values[batch["padding_mask"]].reshape(-1, 6)))
    assert batch["padding_mask"].sum() == sum(sizes)
    assert ((batch["document_ids"] > 0) == batch["padding_mask"]).all()
    for row in batch["document_ids"]:
        real = row[row > 0].tolist()
        assert real == sorted(real)
        assert set(real) == set(range(1, max(real, default=0) + 1))
    # no two rows could be one: then best fit would have put them together
    fill = sorted(batch["padding_mask"].sum(1).tolist())
    assert len(fill) < 2 or fill[0] + fill[1] > length


def test_long_documents_are_packed_first():
    packed = pack([encoded(n) for n in (3, 3, 3, 7, 7, 7)], 10)
    assert packed.batch["token_ids"].shape == (3, 10)
    assert packed.efficiency == 1.0


def test_pack_errors_and_rows():
    with pytest.raises(DataError, match=r"document 1 has 9 tokens.*windows"):
        pack([encoded(3), encoded(9)], 8)
    packed = pack([encoded(8), encoded(3), encoded(5)], 8, batch_size=3, pad_id=0)
    assert packed.batch["token_ids"].shape == (3, 8)
    assert packed.efficiency == 16 / 24
    with pytest.raises(ConfigError, match="rows"):
        pack([encoded(8), encoded(8)], 8, batch_size=1)
    with pytest.raises(ConfigError, match="shape"):
        unpack(np.zeros((2, 8)), packed)
