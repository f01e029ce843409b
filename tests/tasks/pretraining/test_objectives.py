"""Objectives against their definitions, token by token."""

import numpy as np
import pytest
from tests.tasks.pretraining.corpus import shards, tokenizer

from kexue.errors import ConfigError
from kexue.tasks.pretraining.objectives import CausalLM, MaskedLM, Mixture, PrefixLM, Specials, parse
from kexue.tasks.pretraining.setup import specials
from kexue.text import Tokenizer
from kexue.text.corpus import PackedRows

TOKENS = tokenizer()
FRAME = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
SEP, MASK, STOP = TOKENS.sep_id, TOKENS.mask_id, TOKENS.token_to_id("。")
SPECIALS = Specials(words=(5, len(TOKENS)), sep_id=SEP, mask_id=MASK, seams=(STOP,))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    made = shards(tmp_path_factory.mktemp("corpus"))
    plan = PackedRows(
        [made.split(name) for name in made.names], length=48, seed=1, epoch=0, cls_id=2, sep_id=SEP, pairs="separated"
    )
    return plan.take(np.arange(len(plan)))


def documents(rows):
    """(row, first, past the last) of each piece."""
    for row, ids in enumerate(rows["document_ids"]):
        for number in range(1, ids.max() + 1):
            places = np.flatnonzero(ids == number)
            yield row, places[0], places[-1] + 1


def test_masked(rows):
    batch = MaskedLM().batch(rows, SPECIALS, np.random.default_rng(0))
    changed = batch["token_ids"] != rows["token_ids"]
    listed = np.zeros(changed.shape, bool)
    for row, (places, weights) in enumerate(zip(batch["target_positions"], batch["target_weights"], strict=True)):
        assert len(set(places.tolist())) == len(places)
        listed[row, places[weights > 0]] = True
    real = rows["word_ids"] >= 0
    assert not (listed & ~real).any()  # never a special token or padding
    np.testing.assert_array_equal(
        np.take_along_axis(rows["token_ids"], batch["target_positions"], 1)[batch["target_weights"] > 0],
        batch["target_ids"][batch["target_weights"] > 0],
    )
    # What was changed is listed, but where a row had more than it has room for.
    room = batch["target_positions"].shape[1]
    full = batch["target_weights"].sum(1) == room
    assert not (changed & ~listed)[~full].any()
    n = real.sum()
    assert abs(listed.sum() / n - 0.15) < 4 * np.sqrt(0.15 * 0.85 / n) + full.mean() * 0.02
    assert (batch["segment_ids"] == 0).all()


@pytest.mark.parametrize(
    ("vocabulary", "words"),
    [
        ([*FRAME, "[MASK]", *"abcdef"], (5, 11)),
        ([*FRAME, *"abcdef", "[MASK]"], (4, 10)),  # RoBERTa, DeBERTa
        ([*"abcdef", *FRAME, "[MASK]"], (0, 6)),  # ModernBERT
        (["[PAD]", "x", *FRAME[1:], "[MASK]", *"abcdef"], (6, 12)),  # spare tokens between, as in BERT
    ],
)
def test_random_tokens_are_words(vocabulary, words):
    assert specials(Tokenizer.from_vocab(vocabulary)).words == words


def test_masked_leaves_out_at_random(rows):
    """Where a row has more targets than room, early and late places have the same chance."""
    seen = np.zeros(48)
    few = {name: values[rows["padding_mask"].all(1)][:1].repeat(4000, 0) for name, values in rows.items()}

    class Narrow(MaskedLM):
        def room(self, length):
            return 4

    batch = Narrow(share=0.5).batch(few, SPECIALS, np.random.default_rng(0))
    np.add.at(seen, batch["target_positions"][batch["target_weights"] > 0], 1)
    real = few["word_ids"][0] >= 0
    expected = seen.sum() / real.sum()
    assert (np.abs(seen[real] - expected) < 5 * np.sqrt(expected)).all()
    assert (seen[~real] == 0).all()


def test_causal(rows):
    batch = CausalLM().batch(rows, SPECIALS, np.random.default_rng(0))
    wanted = np.zeros(rows["token_ids"].shape)
    for row, first, past in documents(rows):
        for place in range(first, past - 1):
            wanted[row, place] = 1
            assert batch["target_ids"][row, place] == rows["token_ids"][row, place + 1]
    np.testing.assert_array_equal(batch["target_weights"], wanted)
    np.testing.assert_array_equal(batch["segment_ids"], rows["padding_mask"])


def test_prefix(rows):
    batch = PrefixLM().batch(rows, SPECIALS, np.random.default_rng(0))
    ids, segments, weights = batch["token_ids"], batch["segment_ids"], batch["target_weights"]
    ends = pairs = 0
    for row, first, past in documents(rows):
        segment = segments[row, first:past]
        if past - first <= 3:  # one token cannot be divided
            assert not segment.any()
            assert not weights[row, first:past].any()
            continue
        start = int(segment.argmax())  # of the target within the piece
        assert segment[start:].all()
        assert not segment[:start].any()
        assert 0 < start < past - first
        assert ids[row, first + start - 1] == SEP  # the source is closed
        assert ids[row, past - 1] == SEP
        original = rows["token_ids"][row, first:past]
        ends += original[start - 1] == STOP
        if (rows["part_ids"][row, first:past] == 1).any() and SEP in original[1:-1]:
            pairs += 1
            source, target = original[1 : start - 1], original[start:-1]
            np.testing.assert_array_equal(source, target)  # the corpus repeats the first half
        for place in range(first, past):
            inside = first + start - 1 <= place < past - 1
            assert weights[row, place] == inside
            if inside:
                assert batch["target_ids"][row, place] == ids[row, place + 1]
    assert pairs > 50
    assert ends > 50


def test_mixture_draws_by_weight(rows):
    mixture = parse("mlm=0.5,clm=0.25,unilm=0.25")
    counts = np.bincount([mixture.draw(np.random.default_rng([3, i])) for i in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(counts, [0.5, 0.25, 0.25], atol=0.03)
    assert mixture.mask == "prefix"
    assert isinstance(parse("span"), MaskedLM)
    assert parse("mlm").mask == "bidirectional"
    assert repr(mixture) == repr(parse("mlm=2,clm=1,unilm=1"))


@pytest.mark.parametrize("text", ["bert", "mlm=x", "mlm=0", "mlm,mlm", "mlm=1,,clm", "mlm=nan,clm=1"])
def test_bad_objectives(text):
    with pytest.raises(ConfigError, match=r"objective|weight"):
        parse(text)


def test_empty_mixture():
    with pytest.raises(ConfigError, match="objectives"):
        Mixture([])
