"""Packed rows: nothing lost or doubled, frames, ids, determinism, how full rows are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue.errors import ConfigError, DataError
from kexue.text.corpus import PackedRows, Split
from kexue.text.corpus.packing import cut_pieces, fill_rows

CLS, SEP, PAD = 1_000_001, 1_000_002, 0
IDS = {"cls_id": CLS, "sep_id": SEP, "pad_id": PAD}


def make_split(documents, first=1, starts=None):
    """Documents as lists of part sizes; every token is unique."""
    parts = [size for document in documents for size in document]
    total = sum(parts)
    return Split(
        np.arange(first, first + total, dtype="uint32"),
        np.ones(total, bool) if starts is None else np.asarray(starts, bool),
        np.r_[0, np.cumsum(parts)].astype("int64"),
        np.r_[0, np.cumsum([len(document) for document in documents])].astype("int64"),
    )


def pieces_of(batch):
    """Cells of each piece of each row, in order."""
    for row, documents in enumerate(batch["document_ids"]):
        for number in range(1, documents.max() + 1):
            yield row, np.flatnonzero(documents == number)


corpora = st.lists(
    st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any), min_size=1, max_size=12),
    min_size=1,
    max_size=3,
)


@settings(max_examples=80)
@given(
    corpora,
    st.integers(4, 40),
    st.integers(0, 5),
    st.sampled_from(["parts", "separated"]),
    st.sampled_from([0, 0.08, 1]),
    st.data(),
)
def test_every_property(corpora, length, epoch, pairs, slack, data):
    splits, parts, documents, first, pair_tokens = [], {}, {}, 1, set()
    for corpus in corpora:
        total = sum(map(sum, corpus))
        starts = np.array(data.draw(st.lists(st.booleans(), min_size=total, max_size=total)), bool)
        split = make_split(corpus, first, starts)
        splits.append(split)
        for index in range(len(split)):
            content = split.document(index)
            for part, tokens in enumerate(content):
                parts |= {int(token): (part, bool(split.word_starts[token - first])) for token in tokens}
                documents |= {int(token): (len(splits), index) for token in tokens}
            if len(content) == 2 and all(map(len, content)) and sum(map(len, content)) + 3 <= length:
                pair_tokens.add(int(content[0][-1]))
        first += total
    rows = PackedRows(splits, length=length, seed=3, epoch=epoch, pairs=pairs, slack=slack, **IDS)
    batch = rows.take(range(len(rows)))
    seen = []
    for row, cells in pieces_of(batch):
        ids = batch["token_ids"][row, cells]
        assert np.array_equal(cells, np.arange(cells[0], cells[0] + len(cells)))
        assert np.array_equal(batch["position_ids"][row, cells], np.arange(len(cells)))
        assert ids[0] == CLS
        assert ids[-1] == SEP
        content = (ids != CLS) & (ids != SEP)
        inner = np.flatnonzero(ids[1:-1] == SEP)
        text = ids[content].tolist()
        assert text == list(range(text[0], text[0] + len(text)))  # neighbours of the corpus
        assert len({documents[token] for token in text}) == 1
        seen += text
        if pairs == "separated" and len(inner):
            assert len(inner) == 1
            assert int(ids[inner[0]]) in pair_tokens
            pair_tokens.discard(int(ids[inner[0]]))
        else:
            assert not len(inner)
        base = parts[text[0]][0]
        part_ids = batch["part_ids"][row, cells]
        assert part_ids[content].tolist() == [parts[token][0] - base for token in text]
        assert part_ids[0] == 0
        assert part_ids[-1] == part_ids[-2]
        if len(inner):
            assert part_ids[inner[0] + 1] == 0
        words = batch["word_ids"][row, cells]
        assert (words[~content] == -1).all()
        steps = np.diff(words[content])
        assert steps.tolist() == [int(parts[token][1]) for token in text[1:]]
    assert sorted(seen) == sorted(parts)  # each token in exactly one row
    if pairs == "separated":
        assert not pair_tokens  # each pair that fits has its separator
    mask = batch["padding_mask"]
    assert np.array_equal(mask, batch["document_ids"] > 0)
    assert (batch["token_ids"][~mask] == PAD).all()
    assert (batch["word_ids"][~mask] == -1).all()
    assert (np.diff(mask.astype(int), axis=1) <= 0).all()  # padding comes last
    for row in batch["word_ids"]:
        numbers = row[row >= 0]
        assert sorted(set(numbers.tolist())) == list(range(numbers.max() + 1))
    assert rows.tokens == len(parts)
    assert rows.filled == pytest.approx(mask.mean())
    # Any rows, in any order, are those of the whole.
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6))
    for name, values in rows.take(chosen).items():
        assert np.array_equal(values, batch[name][chosen])
        assert values.dtype == (bool if name == "padding_mask" else np.int32)


def test_pairs_separated_belong_to_the_first_part():
    batch = PackedRows([make_split([[2, 3]])], length=8, seed=0, epoch=0, pairs="separated", **IDS)[0]
    assert batch["token_ids"].tolist() == [CLS, 1, 2, SEP, 3, 4, 5, SEP]
    assert batch["part_ids"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_cuts():
    """By hand: at part boundaries; inside a part at a word start where the piece would be too short."""
    split = make_split([[4, 4, 9]], starts=[i in (0, 4, 6, 8, 11, 14) for i in range(17)])
    chosen = np.array([0])
    assert cut_pieces(split, 10, chosen)[1].tolist() == [8, 9]
    assert cut_pieces(split, 10, chosen, slack=0.5)[1].tolist() == [8, 9]
    assert cut_pieces(split, 10, chosen, slack=0.2)[1].tolist() == [8, 9]
    assert cut_pieces(split, 10, chosen, slack=0.1)[1].tolist() == [8, 9]  # inside: the word 8-10 is not torn
    assert cut_pieces(split, 6, chosen, slack=0.1)[1].tolist() == [6, 5, 6]
    assert cut_pieces(split, 5, chosen)[1].tolist() == [4, 4, 3, 3, 3]
    # A word longer than 16 tokens is cut wherever the row ends.
    assert cut_pieces(make_split([[50]], starts=[True] + [False] * 49), 20, chosen)[1].tolist() == [20, 20, 10]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=200), st.integers(30, 60))
def test_rows_are_filled_as_best_fit_decreasing_does(sizes, length):
    """The same number of rows as the slow textbook loop."""
    rows = fill_rows(np.array(sizes), length)
    used = np.bincount(rows, sizes)
    assert used.max() <= length
    assert (used > 0).all()
    rooms = []
    for size in sorted(sizes, reverse=True):
        fitting = [i for i, room in enumerate(rooms) if room >= size]
        if fitting:
            rooms[min(fitting, key=lambda i: rooms[i])] -= size
        else:
            rooms.append(length - size)
    assert sorted(used) == sorted(length - room for room in rooms)


def test_epochs_and_seeds():
    split = make_split([[5 + i % 7] for i in range(200)])

    def rows(seed, epoch):
        packed = PackedRows([split], length=32, seed=seed, epoch=epoch, **IDS)
        return packed.take(range(len(packed)))["token_ids"]

    assert np.array_equal(rows(0, 0), rows(0, 0))
    for other in (rows(0, 1), rows(1, 0), rows(1, 1)):
        assert not np.array_equal(rows(0, 0)[:20], other[:20])
    # Neighbours change too, not only the order of the rows.
    together = [{frozenset(row[row < CLS].tolist()) for row in rows(0, epoch)} for epoch in (0, 1)]
    assert len(together[0] & together[1]) < len(together[0]) / 2


@pytest.mark.parametrize("weight", [0, 0.25, 1, 2.5])
def test_weights(weight):
    split, other = make_split([[3]] * 100), make_split([[3]] * 10, first=1000)
    rows = PackedRows([split, other], length=16, seed=0, epoch=0, weights=[weight, 1], **IDS)
    ids = rows.take(range(len(rows)))["token_ids"]
    counts = np.bincount(ids[(ids > 0) & (ids < 1000)], minlength=301)[1:]
    assert counts.sum() == 300 * weight
    assert set(counts.tolist()) <= {int(weight), int(np.ceil(weight))}
    assert ((ids >= 1000) & (ids < CLS)).sum() == 30


def test_shards_pack(shards, tokenizer):
    """From files: every token of every corpus, rows well filled."""
    splits = [shards.split(name) for name in shards.names]
    rows = PackedRows(splits, length=64, seed=0, epoch=0, cls_id=tokenizer.cls_id, sep_id=tokenizer.sep_id)
    batch = rows.take(range(len(rows)))
    content = batch["word_ids"] >= 0
    expected = np.sort(np.concatenate([split.tokens for split in splits]))
    assert np.array_equal(np.sort(batch["token_ids"][content]), expected)
    assert rows.filled > 0.97


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("length", [128, 512])
def test_real_text_fills_rows(data_folder, tokenizer, tmp_path, length):
    from kexue.text.corpus import Corpus, build_shards

    corpus = Corpus(data_folder / "corpora" / "laws.txt.xz")  # long documents of short and long paragraphs: hardest
    split = build_shards({"laws": corpus}, tokenizer, tmp_path / "s", progress=False).split("laws")
    rows = PackedRows([split], length=length, seed=0, epoch=0, **IDS)
    assert rows.filled > 0.97
    assert rows.tokens == len(split.tokens)


def test_wrong_arguments():
    split = make_split([[3]])
    for wrong in (
        {"length": 3},
        {"length": 1 << 20},
        {"weights": [1, 1]},
        {"weights": [-1]},
        {"weights": [float("nan")]},
        {"pairs": "both"},
        {"slack": 2},
        {"seed": -1},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            PackedRows([split], **{"length": 8, "seed": 0, "epoch": 0} | IDS | wrong)
    with pytest.raises(DataError, match="no tokens"):
        PackedRows([split], length=8, seed=0, epoch=0, weights=[0], **IDS)
    rows = PackedRows([split], length=8, seed=0, epoch=0, **IDS)
    for index in ([1], [-1], [[0]]):
        with pytest.raises(ConfigError, match="row numbers"):
            rows.take(index)
    with pytest.raises(IndexError):
        rows[1]
    assert rows.take([])["token_ids"].shape == (0, 8)
    assert len(list(rows)) == 1
