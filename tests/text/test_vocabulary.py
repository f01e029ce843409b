"""Slim vocabularies: the same tokens through fewer rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.text.hard_texts import HARD_TEXTS

from kexue.errors import ConfigError, DataError
from kexue.text import Tokenizer, extend_vocabulary, simplify_vocabulary


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    return Tokenizer.from_vocab([*vocabulary, "##京都", "你好", "[unused1]", "##。"])


def test_redundant_tokens_go(tokenizer):
    slim = simplify_vocabulary(tokenizer)
    gone = set(tokenizer.vocabulary) - set(slim.vocabulary)
    assert gone >= {"##京都", "你好", "[unused1]", "##。", "今天", "##中"}
    assert {"中", "。", "hello", "##s", "##1"} <= set(slim.vocabulary)
    assert slim.vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert slim.dropped == len(gone)
    assert [tokenizer.vocabulary[i] for i in slim.keep_tokens] == slim.vocabulary
    assert slim.keep_tokens.dtype == np.int32
    assert simplify_vocabulary(tokenizer.vocabulary).vocabulary == slim.vocabulary


@given(st.text(st.sampled_from("hello今天京都你好。 1s[]wx"), max_size=20))
def test_same_tokens_on_any_text(tokenizer, text):
    slim = simplify_vocabulary(tokenizer)
    for t in (text, *HARD_TEXTS):
        assert slim.keep_tokens[slim.tokenizer.encode(t).token_ids].tolist() == tokenizer.encode(t).token_ids.tolist()


def test_by_frequency(tokenizer):
    texts = ["今天天气", "今天 hello", "今天"]
    slim = simplify_vocabulary(tokenizer, texts=texts, keep=["world"])
    assert slim.vocabulary == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "天", "气", "今", "hello", "world"]
    for text in texts:
        assert slim.tokenizer.encode(text).tokens == tokenizer.encode(text).tokens
    twice = simplify_vocabulary(tokenizer, texts=texts, min_count=2)
    assert set(twice.vocabulary[5:]) == {"今", "天"}


def test_order_and_hook(tokenizer):
    slim = simplify_vocabulary(tokenizer, keep_first=["[CLS]", "中", "[PAD]"])
    assert slim.vocabulary[:3] == ["[CLS]", "中", "[PAD]"]
    assert {"[UNK]", "[SEP]", "[MASK]"} <= set(slim.vocabulary)  # without these there is no tokenizer
    assert slim.tokenizer.cls_id == 0
    words = Tokenizer.from_vocab(tokenizer.vocabulary, pre_tokenize=lambda text: [text])
    assert "今天" in simplify_vocabulary(words).vocabulary
    assert simplify_vocabulary(words).tokenizer.encode("今天").tokens == ("[CLS]", "今天", "[SEP]")


def test_rows(tokenizer):
    slim = simplify_vocabulary(tokenizer)
    table = np.random.default_rng(0).normal(size=(len(tokenizer), 3)).astype("float32")
    extended = extend_vocabulary(slim, {"XY": {"x": 1.0, "y": 3.0}}, tokenizer=tokenizer)
    extended = extend_vocabulary(extended, ["un##x", "hellos"], tokenizer=tokenizer)
    assert extended.vocabulary[-3:] == ["XY", "un##x", "hellos"]
    rows = extended.rows(table)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows[: len(slim)], slim.rows(table))
    at = {token: table[i] for i, token in enumerate(tokenizer.vocabulary)}
    np.testing.assert_allclose(rows[-3], at["x"] / 4 + 3 * at["y"] / 4, rtol=1e-6)
    np.testing.assert_allclose(rows[-1], (at["hello"] + at["##s"]) / 2, rtol=1e-6)
    assert extended.tokenizer.encode("hellos").token_ids.tolist()[1] == len(extended) - 1
    assert extended.rows(table[:, 0]).shape == (len(extended),)  # a bias
    with pytest.raises(DataError, match="rows"):
        extended.rows(table[1:])


def test_extend_directly(tokenizer):
    extended = extend_vocabulary(tokenizer, ["hellos"])
    assert len(extended) == len(tokenizer) + 1
    assert extended.keep_tokens.tolist() == list(range(len(tokenizer)))
    assert extended.compound_tokens == [((tokenizer.token_to_id("hello"), tokenizer.token_to_id("##s")), (1.0, 1.0))]


def test_errors(tokenizer):
    with pytest.raises(DataError, match="nope"):
        simplify_vocabulary(tokenizer, keep_first=["nope"])
    with pytest.raises(ConfigError, match="Tokenizer"):
        simplify_vocabulary(["[PAD]", "a"], texts=["a"])
    with pytest.raises(ConfigError, match="min_count"):
        simplify_vocabulary(tokenizer, min_count=0)
    with pytest.raises(DataError, match="already"):
        extend_vocabulary(tokenizer, ["hello"])
    with pytest.raises(DataError, match="none of its pieces"):
        extend_vocabulary(tokenizer, ["ж"])
    with pytest.raises(DataError, match="nope"):
        extend_vocabulary(tokenizer, {"new": {"nope": 1.0}})
    with pytest.raises(ConfigError, match="original tokenizer"):
        extend_vocabulary(simplify_vocabulary(tokenizer), ["new"])


@pytest.mark.data
def test_real_chinese_vocabulary(data_folder):
    tokenizer = Tokenizer.from_pretrained(data_folder / "vocab/bert_base_chinese/albert_config")
    # the figure that bert4keras' users know
    slim = simplify_vocabulary(tokenizer.vocabulary, keep_first=["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    assert len(slim) == 13584
    slim = simplify_vocabulary(tokenizer)
    assert len(slim) == 13585  # [MASK] as well
    for text in HARD_TEXTS:
        assert slim.tokenizer.encode(text).tokens == tokenizer.encode(text).tokens
