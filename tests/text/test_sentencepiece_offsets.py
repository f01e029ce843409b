"""SentencePiece models without the package: places in the text, decoding, batches, saving."""

import pickle
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.text.hard_texts import HARD_TEXTS
from tests.text.spiece_families import TEMPLATES

from kexue.errors import ConfigError
from kexue.text import Tokenizer, extend_vocabulary, pad, simplify_vocabulary, windows

TEXTS = st.text(
    st.one_of(st.sampled_from("hello the今天北京 \t\u3000Ａ㈱é\u0301😀#<>"), st.characters(codec="utf-8")), max_size=25
)


@pytest.mark.parametrize("family", list(TEMPLATES))
@given(text=TEXTS)
@example(text="  今😀😀a\u0301 ㈱株Ａ  the")
def test_offsets(tokenizers_of, family, text):
    tokenizer = tokenizers_of[family]
    encoding = tokenizer.encode(text)
    spans = encoding.offsets[~encoding.special].tolist()
    tokens = [token for token, special in zip(encoding.tokens, encoding.special, strict=True) if not special]
    last = (0, 0)
    covered = np.zeros(len(text), bool)
    for token, (start, end) in zip(tokens, spans, strict=True):
        assert 0 <= start <= end <= len(text)
        assert start >= last[0]
        assert end >= last[1]
        last = (start, end)
        covered[start:end] = True
        surface = text[start:end]
        body = token.replace("▁", "")
        if token.startswith("<0x"):
            byte = int(token[3:5], 16)
            composed = unicodedata.normalize("NFC", text[start : end + 1])  # the accent is outside the range
            assert byte in surface.encode() or byte in composed.encode() or start == end
            assert start < end or text[start - 1].isspace()
        elif token not in tokenizer.specials.values() and surface.isascii() and "\u0301" not in text:
            surface = surface.lower() if tokenizer.lowercase else surface
            assert surface.replace("\t", "") == body
    if family in ("llama", "plain"):  # bytes stand for all that is unknown: nothing but white space is lost
        for index, character in enumerate(text):
            assert covered[index] or character.isspace() or character in "\u200b\u0301▁", (text, index)


@given(text=st.text(st.sampled_from("今😀𠀀x é"), max_size=8))
def test_bytes_of_a_character_share_its_place(tokenizers_of, text):
    for family in ("plain", "llama"):
        encoding = tokenizers_of[family].encode(text)
        for token, (start, end) in zip(encoding.tokens, encoding.offsets.tolist(), strict=True):
            if token.startswith("<0x"):
                assert end - start == 1
        for index, character in enumerate(text):
            here = [
                t for t, o in zip(encoding.tokens, encoding.offsets.tolist(), strict=True) if o == [index, index + 1]
            ]
            if here and here[0].startswith("<0x"):
                assert bytes(int(token[3:5], 16) for token in here) == character.encode()


@given(text=TEXTS.map(lambda text: text.replace("▁", "").replace("\x00", "")))
def test_llama_round_trip(tokenizers_of, text):
    tokenizer = tokenizers_of["llama"]
    assert tokenizer.decode(tokenizer.encode(text).token_ids) == text


def test_decoding(tokenizers_of):
    for family in TEMPLATES:
        tokenizer = tokenizers_of[family]
        assert tokenizer.decode(tokenizer.encode("hello the 今天北京").token_ids) == "hello the 今天北京"


def test_truncation_padding_windows(tokenizers_of):
    tokenizer = tokenizers_of["xlnet"]
    short = tokenizer.encode("hello the hello the", "今天 今天", max_length=6)
    assert short.tokens == ("▁hello", "▁the", "<sep>", "▁今天", "<sep>", "<cls>")
    assert short.truncated
    rows = [tokenizer.encode("hello"), tokenizer.encode("hello the the")]
    batch = pad(rows, pad_id=tokenizer.pad_id, buckets=None)
    assert batch["token_ids"][0, -2:].tolist() == [tokenizer.pad_id] * 2  # on the right, as everywhere
    assert batch["padding_mask"].tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    parts = windows(tokenizer.encode("hello the hello the hello"), 4, 2)
    assert all(part.tokens[-2:] == ("<sep>", "<cls>") for part in parts)
    assert tokenizer.encode("hello the").char_span(1, 2) == (6, 9)
    assert tokenizer.encode("hello the").token_span(6, 9) == (1, 2)


# ---------------------------------------------------------------- saving


@pytest.mark.parametrize("family", list(TEMPLATES))
def test_save_load_pickle(tokenizers_of, tmp_path, family):
    tokenizer = tokenizers_of[family]
    tokenizer.save(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    assert not (tmp_path / "vocab.json").exists()
    for other in (Tokenizer.from_pretrained(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
        assert other.specials == tokenizer.specials
        assert other.vocabulary == tokenizer.vocabulary
        for text in HARD_TEXTS:
            for pair in (None, "今天"):
                a, b = tokenizer.encode(text, pair), other.encode(text, pair)
                assert a.token_ids.tolist() == b.token_ids.tolist()
                assert a.segment_ids.tolist() == b.segment_ids.tolist()
                assert a.offsets.tolist() == b.offsets.tolist()


def test_no_slimming(tokenizers_of):
    for family in ("t5", "llama"):
        with pytest.raises(ConfigError, match="only WordPiece"):
            simplify_vocabulary(tokenizers_of[family])
        with pytest.raises(ConfigError, match="WordPiece"):
            extend_vocabulary(tokenizers_of[family], ["new"])
