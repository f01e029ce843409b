"""Tokenizer without a peer: files, errors, offsets, hook, decoding, saving."""

import itertools
import json
import pickle
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.text.hard_texts import HARD_TEXTS

from kexue.errors import ConfigError, DataError
from kexue.text import Tokenizer, windows


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    return Tokenizer.from_vocab(vocabulary)


def plain(text: str, lowercase: bool = True) -> str:
    """What BERT makes of characters, said with the Python standard library alone."""
    text = "".join(c for c in text if c in "\t\n\r" or (unicodedata.category(c)[0] != "C" and c != "\ufffd"))
    if lowercase:
        text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn").lower()
    return text


TEXTS = st.text(
    st.one_of(st.sampled_from("aéÀßİ今天 \n.,[]#😀ＡΣx\u0301\u200b\x00각か"), st.characters(codec="utf-8")), max_size=20
)


@given(text=TEXTS, lowercase=st.booleans())
@example(text="İ e\u0301x \U00020000国 \ufb01 ŉ 각", lowercase=True)
def test_slices_of_the_original_are_the_tokens(vocabulary, text, lowercase):
    tokenizer = Tokenizer.from_vocab(vocabulary, lowercase=lowercase)
    encoding = tokenizer.encode(text)
    previous = 0
    for token, (start, end), special in zip(encoding.tokens, encoding.offsets.tolist(), encoding.special, strict=True):
        if special:
            assert (start, end) == (0, 0)
            continue
        assert previous <= end
        assert 0 <= start < end <= len(text)
        previous = end
        surface = plain(text[start:end], lowercase)
        if token != "[UNK]" and token not in text:
            body = token.removeprefix("##")
            assert body == surface or (len(body) == 1 and body in surface)  # one of several pieces of a character
    covered = np.zeros(len(text), bool)
    for start, end in encoding.offsets.tolist():
        covered[start:end] = True
    for index, character in enumerate(text):
        if not covered[index]:  # only what BERT drops may be missing
            assert not plain(character, lowercase).strip() or character.isspace(), (text, index)


@given(text=TEXTS)
def test_spans_and_tokens_agree(vocabulary, text):
    tokenizer = Tokenizer.from_vocab(vocabulary)
    encoding = tokenizer.encode(text, "xx")
    first, last = encoding.token_range()
    count = int((encoding.sequence_ids == 0).sum())
    assert (first, last) == ((1, 1 + count) if count else (0, 0))
    for i in range(first, last):
        start, end = encoding.char_span(i, i + 1)
        found = encoding.token_span(start, end)
        assert found is not None
        assert found[0] <= i < found[1]
        assert encoding.char_to_token(start) == found[0]
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            span = encoding.token_span(start, end)
            if span is not None:  # all of its characters lie within, all other tokens outside
                low, high = encoding.char_span(*span)
                assert start <= low < high
                assert encoding.offsets[span[1] - 1, 1] <= end
                outside = [
                    o for j, o in enumerate(encoding.offsets[first:last].tolist(), first) if not span[0] <= j < span[1]
                ]
                assert all(b <= start or a >= end for a, b in outside)


def test_span_edges(tokenizer):
    text = "hello cafe\u0301 \u200b北京"
    encoding = tokenizer.encode(text)
    assert encoding.tokens == ("[CLS]", "hello", "cafe", "北", "京", "[SEP]")
    assert encoding.token_span(0, 5) == (1, 2)
    assert encoding.token_span(6, 11) == (2, 3)  # with the accent
    assert encoding.token_span(6, 10) == (2, 3)  # without
    assert encoding.char_span(2, 3) == (6, 11)  # never cuts the accent off
    assert encoding.token_span(5, 15) == (2, 5)  # white space and control characters at the edges
    assert encoding.token_span(1, 5) is None
    assert encoding.token_span(0, 3) is None
    assert encoding.token_span(5, 6) is None
    assert encoding.char_to_token(5) is None
    assert encoding.char_to_token(13) == 3
    assert encoding.char_span(0, 2) is None
    assert encoding.char_span(2, 2) is None
    for start, end in [(0, 0), (3, 2), (-1, 2), (0, len(text) + 1)]:
        with pytest.raises(DataError, match="start"):
            encoding.token_span(start, end)
    with pytest.raises(ConfigError, match="sequence"):
        encoding.token_span(0, 1, sequence=1)


def test_truncated_spans_are_none(tokenizer):
    encoding = tokenizer.encode("北京 上海", "hello 今", max_length=6)
    assert encoding.tokens == ("[CLS]", "北", "京", "[SEP]", "hello", "[SEP]")
    encoding = tokenizer.encode("北京 上海", max_length=4)
    assert encoding.truncated
    assert encoding.token_span(0, 2) == (1, 3)
    assert encoding.token_span(0, 3) == (1, 3)
    assert encoding.token_span(1, 4) is None
    assert encoding.token_span(3, 5) is None
    emoji = Tokenizer.from_vocab(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ᄀ", "##ᅡ", "##ᆨ"])
    assert emoji.encode("각", max_length=4).token_span(0, 1) is None  # the character itself was cut


def test_truncation_modes(tokenizer):
    def lengths(**kw):
        ids = tokenizer.encode("a b c d e", "x y z", **kw).sequence_ids.tolist()
        return ids.count(0), ids.count(1)

    assert lengths() == (5, 3)
    assert lengths(max_length=10) == (4, 3)
    assert lengths(max_length=8) == (3, 2)
    assert lengths(max_length=8, truncation="first") == (2, 3)
    assert lengths(max_length=9, truncation="second") == (5, 1)
    assert lengths(max_length=3) == (0, 0)
    for kw, word in [
        ({"max_length": 10, "truncation": "error"}, "windows"),
        ({"max_length": 5, "truncation": "first"}, "longest"),
        ({"max_length": 7, "truncation": "second"}, "longest"),
    ]:
        with pytest.raises(DataError, match=word):
            lengths(**kw)
    with pytest.raises(ConfigError, match="special tokens"):
        lengths(max_length=2)
    with pytest.raises(ConfigError, match="truncation"):
        lengths(max_length=9, truncation="left")
    kept = tokenizer.encode("a b c d e", "x y z", max_length=8)
    assert kept.tokens[-1] == "[SEP]"
    assert kept.segment_ids.tolist() == [0] * 5 + [1] * 3


@given(a=st.integers(0, 30), b=st.integers(0, 30), budget=st.integers(0, 40))
def test_longest_first_is_popping_one_by_one(a, b, budget):
    from kexue.text.encoding import truncated_lengths

    keep = truncated_lengths(a, b, budget, "longest")
    x, y = a, b
    while x + y > budget:
        x, y = (x - 1, y) if x > y else (x, y - 1)
    assert sum(keep) == sum((x, y))
    assert abs(keep[0] - x) <= 1  # only who gets the odd one may differ


def test_batch_equals_single(tokenizer):
    batch = tokenizer.encode_batch([*HARD_TEXTS, ("a", "b")], max_length=9)
    for text, item in zip(HARD_TEXTS, batch, strict=False):
        single = tokenizer.encode(text, max_length=9)
        assert item.token_ids.tolist() == single.token_ids.tolist()
        assert item.token_ids.dtype == item.segment_ids.dtype == item.offsets.dtype == np.int32
        assert item.special.dtype == bool
        assert item.offsets.shape == (len(item), 2)
    assert batch[-1].sequence_ids.tolist() == [-1, 0, -1, 1, -1]
    assert tokenizer.encode_batch([]) == []


def test_lone_surrogates_keep_offsets(tokenizer):
    encoding = tokenizer.encode("北\ud83d京\udc00x")
    assert encoding.tokens[1:-1] == ("北", "京", "x")
    assert encoding.offsets[1:-1].tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("wrong", ["a text", [1], [None], [("a", "b", "c")], [("a", 3)]])
def test_wrong_input(tokenizer, wrong):
    with pytest.raises((DataError, ConfigError)):
        tokenizer.encode_batch(wrong)


# ---------------------------------------------------------------- words first


def test_words_first(vocabulary):
    for wrong in (["今天", "气"], ["今天"], ["今天", "天气", "x"], ["天气"]):
        with pytest.raises(DataError, match="spell"):
            Tokenizer.from_vocab(vocabulary, pre_tokenize=lambda text, words=wrong: words).encode("今天天气")

    words = Tokenizer.from_vocab(vocabulary, pre_tokenize=lambda text: ["今天", "天气", "不错", "Hello"])
    encoding = words.encode("今天 天气不错 Hello")
    assert encoding.tokens == ("[CLS]", "今天", "天气", "不", "错", "hello", "[SEP]")
    assert encoding.offsets[1:-1].tolist() == [[0, 2], [3, 5], [5, 6], [6, 7], [8, 13]]
    masked = Tokenizer.from_vocab(vocabulary, pre_tokenize=lambda text: [text])
    assert masked.encode("今天[MASK]天气").tokens[1:-1] == ("今天", "[MASK]", "天气")
    assert masked.encode("##s").tokens == Tokenizer.from_vocab(vocabulary).encode("##s").tokens


@given(
    st.lists(
        st.sampled_from(["今天", "天气", "北京", "错", " ", "hello", "İx", "e\u0301", "[SEP]", "😀", "##s", ""]),
        max_size=8,
    )
)
def test_words_first_offsets(vocabulary, words):
    text = "".join(words)
    tokenizer = Tokenizer.from_vocab(
        vocabulary, pre_tokenize=lambda part: [part[i : i + 2] for i in range(0, len(part), 2)]
    )
    encoding = tokenizer.encode(text)
    assert encoding.texts == (text,)
    end = 0
    for token, (a, b) in list(zip(encoding.tokens, encoding.offsets.tolist(), strict=True))[1:-1]:
        assert a >= end or token.startswith("##")
        end = b
        assert token in ("[UNK]", text[a:b]) or token.removeprefix("##") in plain(text[a:b])


def test_hook_errors(vocabulary, monkeypatch):
    with pytest.raises(ConfigError, match="pre_tokenize"):
        Tokenizer.from_vocab(vocabulary, pre_tokenize="mecab")
    monkeypatch.setitem(__import__("sys").modules, "jieba", None)
    with pytest.raises(ConfigError, match="pip install jieba"):
        Tokenizer.from_vocab(vocabulary, pre_tokenize="jieba")
    with pytest.raises(DataError, match="strings"):
        Tokenizer.from_vocab(vocabulary, pre_tokenize=lambda text: [1]).encode("a")


# ---------------------------------------------------------------- files


BROKEN_MERGES = '{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}}'


def write(path, tokens, end="\n"):
    path.write_bytes("".join(t + end for t in tokens).encode())
    return path


def test_vocabulary_lines(tmp_path, vocabulary):
    odd = [*vocabulary, "\u2028", "\x85", "", "z\u2029"]
    tokens = Tokenizer.from_pretrained(write(tmp_path / "vocab.txt", odd)).vocabulary
    assert tokens == odd  # splitlines would break at U+2028
    assert Tokenizer.from_pretrained(write(tmp_path / "v.txt", odd, "\r\n")).vocabulary == odd
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbf" + "\n".join(vocabulary).encode())
    assert Tokenizer.from_pretrained(tmp_path / "bom.txt").vocabulary == vocabulary


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nx\ny\nx\n", r":7: .*'x' stands twice \(first in line 5"),
        (b"[PAD]\n[CLS]\n[SEP]\nx\n", r"lacks \[UNK\]"),
        (b"a\nb\n", r"\[PAD\], \[UNK\], \[CLS\], \[SEP\]"),
        (b"[PAD]\n\xff\xfe\n", "UTF-8"),
    ],
)
def test_broken_vocabulary(tmp_path, content, words):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        Tokenizer.from_pretrained(tmp_path)
    assert "vocab.txt" in str(caught.value)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no tokenizer found"),
        ({"tokenizer.json": "{"}, "tokenizer.json:1: not valid JSON"),
        ({"tokenizer.json": "[1]"}, "expected a JSON object"),
        ({"tokenizer.json": "{}"}, "not a tokenizer"),
        ({"tokenizer.json": '{"a":' * 99999}, "tokenizer.json"),
        ({"vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\n", "tokenizer_config.json": "{,"}, "tokenizer_config.json:1"),
        ({"vocab.json": "{}"}, "both"),
        ({"tokenizer.json": BROKEN_MERGES}, "not a tokenizer"),
        ({"vocab.json": '{"a": "b"}', "merges.txt": ""}, "integer"),
        ({"vocab.json": '{"<s>": 0, "</s>": 1, "<unk>": 1}', "merges.txt": ""}, "share"),
        ({"vocab.json": '{"<s>": 0, "</s>": 1}', "merges.txt": ""}, "lacks <unk>"),
        ({"vocab.json": '{"<s>": 0, "</s>": 1, "<unk>": 2}', "merges.txt": "#version\na b c\n"}, "merges.txt:2"),
        ({"vocab.json": '{"<s>": 0, "</s>": 1, "<unk>": 2}', "merges.txt": "a b\n"}, "does not fit"),
    ],
)
def test_broken_files(tmp_path, files, words):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words):
        Tokenizer.from_pretrained(tmp_path)


def test_missing_path(tmp_path):
    with pytest.raises(DataError, match="no such"):
        Tokenizer.from_pretrained(tmp_path / "nowhere")


def test_cased_or_not(tmp_path, vocabulary):
    path = write(tmp_path / "vocab.txt", vocabulary)
    assert Tokenizer.from_pretrained(path).lowercase
    write(path, [*vocabulary, "<S>", "[ABC]"])
    assert Tokenizer.from_pretrained(path).lowercase  # bracketed tokens do not count
    write(path, [*vocabulary, "Hello"])
    assert not Tokenizer.from_pretrained(path).lowercase
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert Tokenizer.from_pretrained(path).lowercase
    assert not Tokenizer.from_pretrained(path, lowercase=False).lowercase
    Tokenizer.from_pretrained(path).save(tmp_path / "saved")
    assert not Tokenizer.from_pretrained(tmp_path / "saved", lowercase=False).lowercase


def test_save_load_pickle(tmp_path, vocabulary):
    tokenizer = Tokenizer.from_vocab(vocabulary, lowercase=False, strip_accents=True, specials_in_text=False)
    (tmp_path / "config.json").write_text("{}")
    tokenizer.save(tmp_path)
    assert (tmp_path / "config.json").exists()  # files of others are left alone
    only_vocab = tmp_path / "only"
    only_vocab.mkdir()
    for name in ("vocab.txt", "tokenizer_config.json"):
        (only_vocab / name).write_bytes((tmp_path / name).read_bytes())
    for other in (
        Tokenizer.from_pretrained(tmp_path),
        Tokenizer.from_pretrained(only_vocab),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        assert repr(other) == repr(tokenizer)
        for text in HARD_TEXTS:
            assert other.encode(text).token_ids.tolist() == tokenizer.encode(text).token_ids.tolist()
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["split_special_tokens"] is True


def test_look_up_and_decode(tokenizer, vocabulary):
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (
        0,
        1,
        2,
        3,
        4,
    )
    assert tokenizer.vocabulary == vocabulary
    assert tokenizer.vocabulary_size == len(vocabulary) == len(tokenizer)
    assert tokenizer.token_to_id("北京") == vocabulary.index("北京")
    assert tokenizer.token_to_id("nope") is None
    for text in ["unaffable hello", "今天天气不错，北京。", "我hello".replace("我", "今"), "3.14, (ab) it's", "x-x"]:
        assert tokenizer.decode(tokenizer.encode(text).token_ids) == text
    assert tokenizer.decode(tokenizer.encode("今").token_ids, skip_special=False) == "[CLS]今[SEP]"
    with pytest.raises(DataError, match="token ids lie in"):
        tokenizer.decode([len(vocabulary)])
    with pytest.raises(DataError):
        tokenizer.id_to_token(-1)


def test_no_mask_token():
    tokenizer = Tokenizer.from_vocab(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"])
    assert tokenizer.mask_id is None
    assert tokenizer.encode("a").token_ids.tolist() == [2, 4, 3]


# ---------------------------------------------------------------- windows


@given(n=st.integers(0, 40), max_length=st.integers(4, 15), data=st.data())
def test_windows(vocabulary, n, max_length, data):
    tokenizer = Tokenizer.from_vocab(vocabulary)
    stride = data.draw(st.integers(1, max_length - 2))
    text = " ".join("abcdefghij"[i % 10] for i in range(n))
    whole = tokenizer.encode(text)
    parts = windows(whole, max_length, stride)
    seen = set()
    for part in parts:
        assert len(part) <= max_length
        assert part.tokens[0] == "[CLS]"
        assert part.tokens[-1] == "[SEP]"
        assert part.special.sum() == 2
        assert part.texts == (text,)
        for i in range(1, len(part) - 1):
            start, end = part.offsets[i].tolist()
            assert text[start:end] == part.tokens[i]
            assert part.token_span(start, end) == (i, i + 1)
            seen.add((start, end))
    assert seen == {tuple(o) for o in whole.offsets[1:-1].tolist()}
    for before, after in itertools.pairwise(parts):
        overlap = {tuple(o) for o in before.offsets[1:-1].tolist()} & {tuple(o) for o in after.offsets[1:-1].tolist()}
        assert len(overlap) == max_length - 2 - stride
        # what a window does not hold entirely has no place in it
        assert after.token_span(0, len(text)) is None
        assert before.token_span(before.limits[0][0], len(text)) is None
        low, high = before.offsets[1, 0], before.offsets[-2, 1]
        assert before.token_span(int(low), int(high)) == (1, len(before) - 1)


def test_windows_errors(tokenizer):
    for stride in (0, 9):
        with pytest.raises(ConfigError, match="stride"):
            windows(tokenizer.encode("a b c"), 10, stride)
    with pytest.raises(ConfigError, match="pair"):
        windows(tokenizer.encode("a", "b"), 10, 2)
