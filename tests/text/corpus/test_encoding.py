"""The fast road gives the tokens of the tokenizer."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.text.hard_texts import HARD_TEXTS

from kexue.errors import ConfigError, DataError
from kexue.text import Tokenizer
from kexue.text.corpus import Encoder

strange = st.text(max_size=40)
familiar = st.lists(
    st.sampled_from(
        [*"中国好的。，！ab1 \n\t,.'", "hello", "[MASK]", "[SEP]", "é", "e\u0301", "\u200b", "\ufffd", "##s"]
    )
).map("".join)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [None, True, False])
def test_equals_the_tokenizer(tokenizer, lowercase, strip_accents):
    other = Tokenizer.from_vocab(
        tokenizer.vocabulary, lowercase=lowercase, strip_accents=strip_accents, specials_in_text=False
    )
    encoder = Encoder(other)

    @settings(max_examples=150)
    @given(st.lists(strange | familiar, max_size=5))
    @example(["\ud800中", "", "a" * 101, "ſ", "İ", "ﬁ", "\u037e", "\u0301中", "中\u0301", "\u0345"])
    @example([*HARD_TEXTS])
    def check(texts):
        encoded = encoder(texts)
        pieces = other.plain_pieces(texts)
        assert encoded.tokens.tolist() == [i for piece in pieces for i in piece.ids]
        assert encoded.sizes.tolist() == [len(piece.ids) for piece in pieces]
        starts = [not token.startswith("##") for piece in pieces for token in piece.tokens]
        assert encoded.word_starts.tolist() == starts

    check()


def test_every_character(tokenizer):
    """All code points, alone, inside a word and before a mark, one text for each."""
    other = Tokenizer.from_vocab(tokenizer.vocabulary, specials_in_text=False)
    encoder = Encoder(other)
    for low in range(0, 0x30000, 0x4000):
        texts = [f"{chr(c)} b{chr(c)}a{chr(c)}\u0301" for c in range(low, low + 0x4000, 7)]
        assert encoder(texts).tokens.tolist() == [i for piece in other.plain_pieces(texts) for i in piece.ids]


def test_specials_in_the_text_are_text(tokenizer):
    tokens = Encoder(tokenizer)(["今[MASK]天[SEP]", "[PAD]"]).tokens
    assert not set(tokens.tolist()) & (set(tokenizer.special_ids) - {tokenizer.unk_id})
    assert tokenizer.encode("[MASK]").token_ids[1] == tokenizer.mask_id  # the tokenizer itself is as it was


def test_words_of_a_segmenter(tokenizer):
    def segment(text):
        return ["今天", "天气", "un", "affable", "好", "了"] if text.startswith("今天") else [text]

    encoded = Encoder(tokenizer, segment)(["今天天气 unaffable好了", "好的。"])
    names = [tokenizer.id_to_token(i) for i in encoded.tokens.tolist()]
    assert names == ["今", "天", "天", "气", "un", "##aff", "##able", "好", "了", "好", "的", "。"]
    assert encoded.word_starts.tolist() == [bool(int(c)) for c in "101010011100"]
    with pytest.raises(DataError, match="do not spell"):
        Encoder(tokenizer, lambda text: ["x"])(["好"])
    with pytest.raises(ConfigError, match="words must be a callable"):
        Encoder(tokenizer, 3)


def test_table_of_words_starts_afresh(tokenizer, monkeypatch):
    monkeypatch.setattr("kexue.text.corpus.encoding._MOST_WORDS", 3)
    encoder = Encoder(tokenizer)
    for text in ("hello worlds is", "cafes is unaffable", "hello zzz", "hello"):
        assert encoder([text]).tokens.tolist() == tokenizer.plain_pieces([text])[0].ids


def test_other_tokenizers(tokenizers_of):
    texts = ["Hello world, this is a test", "", "More text"]
    for tokenizer in tokenizers_of.values():
        encoded = Encoder(tokenizer)(texts)
        pieces = tokenizer.with_literal_text().plain_pieces(texts)
        assert encoded.tokens.tolist() == [i for piece in pieces for i in piece.ids]
        assert encoded.word_starts[0]


def test_no_texts(tokenizer):
    encoded = Encoder(tokenizer)([])
    assert [len(array) for array in encoded] == [0, 0, 0]
    assert Encoder(tokenizer)(["", " "]).sizes.tolist() == [0, 0]
    assert encoded.tokens.dtype == np.int32
