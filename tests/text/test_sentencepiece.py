"""SentencePiece models without the package: files, damage, families, offsets, saving. Models are written by hand."""

import itertools
import json
import pickle
import string
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.text.hard_texts import HARD_TEXTS
from tests.text.spiece import BYTE, CONTROL, NORMAL, SYMBOL, UNKNOWN, UNUSED, charsmap, model_bytes, number, write

from kexue._protobuf import put_bytes
from kexue.errors import ConfigError, DataError
from kexue.text import Tokenizer, extend_vocabulary, pad, simplify_vocabulary, windows
from kexue.text._sentencepiece import read_sentencepiece

RULES = charsmap({"Ａ": "A", "㈱": "(株)", "e\u0301": "é", "\t": " ", "\u3000": " ", "\u200b": ""})
LETTERS = [*"abcdefghijklmnopqrstuvwxyzAé今天北京(株)[]<>/#,.'\"0123456789"]
WORDS = ["▁", "▁hello", "▁the", "lo", "he", "▁今天", "北京", "ing", "▁9,", "9,", "un", "th"]
BYTES = [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]


def unigram_pieces(first, byte_fallback=False):
    """The family's own tokens, then words and letters with different scores."""
    body = [(piece, -1.0 - 0.37 * index, NORMAL) for index, piece in enumerate(WORDS)]
    body += [(piece, -8.0 - 0.11 * index, NORMAL) for index, piece in enumerate(LETTERS)]
    return [*first, *(BYTES if byte_fallback else []), *body]


def bpe_pieces(first, byte_fallback=False):
    """Merges in order, then letters, as the trainer of SentencePiece writes them."""
    merges = ["he", "▁t", "lo", "▁the", "llo", "hello", "▁hello", "今天", "▁▁", "北京", "in", "ing"]
    body = [(piece, -float(index), NORMAL) for index, piece in enumerate(merges + ["▁t", "▁"][1:] + LETTERS)]
    return [*first, *(BYTES if byte_fallback else []), *body]


FIRST = {
    "albert": [
        ("<pad>", 0, CONTROL),
        ("<unk>", 0, UNKNOWN),
        ("[CLS]", 0, CONTROL),
        ("[SEP]", 0, CONTROL),
        ("[MASK]", 0, SYMBOL),
    ],
    "t5": [("<pad>", 0, CONTROL), ("</s>", 0, CONTROL), ("<unk>", 0, UNKNOWN)],
    "xlnet": [("<unk>", 0, UNKNOWN)]
    + [(name, 0, CONTROL) for name in ("<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>")]
    + [("<eop>", 0, SYMBOL)],
    "deberta-v2": [("[PAD]", 0, CONTROL), ("[CLS]", 0, CONTROL), ("[SEP]", 0, CONTROL), ("[UNK]", 0, UNKNOWN)],
    "llama": [("<unk>", 0, UNKNOWN), ("<s>", 0, CONTROL), ("</s>", 0, CONTROL)],
}  # fmt: skip
FIRST["mt5"] = FIRST["t5"]
FIRST["xlm-roberta"] = FIRST["plain"] = FIRST["llama"]
FILES = {"deberta-v2": "spm.model", "llama": "tokenizer.model", "xlm-roberta": "sentencepiece.bpe.model"}


def family_bytes(family):
    if family == "llama":
        return model_bytes(bpe_pieces(FIRST["llama"], True), kind=2, byte_fallback=True, strip=False)
    return model_bytes(unigram_pieces(FIRST[family], family == "plain"), byte_fallback=family == "plain", rules=RULES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {family: write(root / family, FILES.get(family, "spiece.model"), family_bytes(family)) for family in FIRST}


@pytest.fixture(scope="module")
def tokenizers_of(folders):
    return {family: Tokenizer.from_pretrained(folder, family=family) for family, folder in folders.items()}


# ---------------------------------------------------------------- families


TEMPLATES = {
    "albert": ("[CLS] ▁hello [SEP]", "[CLS] ▁hello [SEP] ▁今天 [SEP]", [0, 0, 0, 1, 1]),
    "t5": ("▁hello </s>", "▁hello </s> ▁今天 </s>", [0, 0, 0, 0]),
    "mt5": ("▁hello </s>", "▁hello </s> ▁今天 </s>", [0, 0, 0, 0]),
    "xlnet": ("▁hello <sep> <cls>", "▁hello <sep> ▁今天 <sep> <cls>", [0, 0, 1, 1, 2]),
    "deberta-v2": ("[CLS] ▁hello [SEP]", "[CLS] ▁hello [SEP] ▁今天 [SEP]", [0, 0, 0, 1, 1]),
    "llama": ("<s> ▁hello", "<s> ▁hello <s> ▁ 今天", [0, 0, 1, 1, 1]),
    "xlm-roberta": ("<s> ▁hello </s>", "<s> ▁hello </s> </s> ▁今天 </s>", [0] * 6),
    "plain": ("▁hello", "▁hello ▁今天", [0, 1]),
}


@pytest.mark.parametrize("family", TEMPLATES)
def test_templates(tokenizers_of, family):
    single, pair, segments = TEMPLATES[family]
    tokenizer = tokenizers_of[family]
    assert tokenizer.encode("hello").tokens == tuple(single.split())
    encoding = tokenizer.encode("hello", "今天")
    assert encoding.tokens == tuple(pair.split())
    assert encoding.segment_ids.tolist() == segments
    added = len(encoding) - (encoding.sequence_ids >= 0).sum()
    assert tokenizer.special_count(pair=True) == added == encoding.special.sum()


ANGLES = {"pad": "<pad>", "unk": "<unk>", "bos": "<s>", "eos": "</s>", "mask": "<mask>"}
BRACKETS = {"cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "bos": "[CLS]", "eos": "[SEP]"}
ROLES = {
    "albert": BRACKETS | {"pad": "<pad>", "unk": "<unk>"},
    "t5": {"pad": "<pad>", "unk": "<unk>", "eos": "</s>"},
    "xlnet": ANGLES | {"cls": "<cls>", "sep": "<sep>"},
    "deberta-v2": BRACKETS | {"pad": "[PAD]", "unk": "[UNK]"},
    "llama": {"unk": "<unk>", "bos": "<s>", "eos": "</s>"},
    "xlm-roberta": ANGLES | {"cls": "<s>", "sep": "</s>"},
}


@pytest.mark.parametrize("family", ROLES)
def test_roles(tokenizers_of, family):
    tokenizer, roles = tokenizers_of[family], ROLES[family]
    assert tokenizer.specials == roles
    for role in ("unk", "cls", "sep", "mask", "bos", "eos"):
        index = getattr(tokenizer, f"{role}_id")
        assert index == (tokenizer.token_to_id(roles[role]) if role in roles else None)
        assert index is None or tokenizer.id_to_token(index) == roles[role]
    assert tokenizer.pad_id == (tokenizer.token_to_id(roles["pad"]) if "pad" in roles else 0)


def test_vocabularies(tokenizers_of):
    size = len(unigram_pieces(FIRST["t5"]))
    assert len(tokenizers_of["mt5"]) == size
    t5 = tokenizers_of["t5"]
    assert [t5.token_to_id(f"<extra_id_{i}>") for i in (99, 1, 0)] == [size, size + 98, size + 99]
    assert t5.encode("hello<extra_id_0>今天").tokens == ("▁hello", "<extra_id_0>", "▁今天", "</s>")
    deberta = tokenizers_of["deberta-v2"]
    assert deberta.mask_id == len(deberta) - 1 == len(unigram_pieces(FIRST["deberta-v2"]))
    xlm = tokenizers_of["xlm-roberta"]
    assert xlm.vocabulary[:5] == ["<s>", "<pad>", "</s>", "<unk>", "▁"]
    assert xlm.vocabulary[-1] == "<mask>"
    for family, tokenizer in tokenizers_of.items():
        if family != "xlm-roberta":
            pieces = (bpe_pieces if family == "llama" else unigram_pieces)(FIRST[family], family in ("llama", "plain"))
            assert tokenizer.vocabulary[: len(pieces)] == [piece for piece, _, _ in pieces]


@pytest.mark.parametrize(
    ("config", "model", "expected"),
    [
        ({"tokenizer_class": "T5Tokenizer"}, {"model_type": "xlnet"}, "▁hello </s>"),
        ({"tokenizer_class": "AlbertTokenizerFast"}, None, None),  # no [CLS] in this model
        ({}, {"model_type": "t5"}, "▁hello </s>"),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, {"model_type": "umt5"}, "▁hello </s>"),
        ({}, {"family": "mt5"}, "▁hello </s>"),
    ],
)
def test_family_from_configuration(tmp_path, config, model, expected):
    write(tmp_path, "spiece.model", family_bytes("t5"), **config)
    if model is not None:
        (tmp_path / "config.json").write_text(json.dumps(model))
    if expected is None:
        with pytest.raises(DataError, match=r"lacks \[CLS\], \[SEP\]"):
            Tokenizer.from_pretrained(tmp_path)
    else:
        assert Tokenizer.from_pretrained(tmp_path).encode("hello").tokens == tuple(expected.split())
        assert Tokenizer.from_pretrained(tmp_path, family="plain").encode("hello").tokens == ("▁hello",)


def test_mt5_has_no_extra_ids_of_its_own(tmp_path):
    write(tmp_path, "spiece.model", family_bytes("t5"), tokenizer_class="T5Tokenizer")
    size = len(unigram_pieces(FIRST["t5"]))
    assert len(Tokenizer.from_pretrained(tmp_path)) == size + 100
    (tmp_path / "config.json").write_text('{"model_type": "mt5"}')
    assert len(Tokenizer.from_pretrained(tmp_path)) == size
    write(tmp_path, "spiece.model", family_bytes("t5"), tokenizer_class="T5Tokenizer", extra_ids=3)
    (tmp_path / "config.json").unlink()
    assert Tokenizer.from_pretrained(tmp_path).vocabulary[-3:] == ["<extra_id_2>", "<extra_id_1>", "<extra_id_0>"]
    own = [*unigram_pieces(FIRST["t5"]), ("▁<extra_id_0>", 0, SYMBOL)]
    write(tmp_path, "spiece.model", model_bytes(own), tokenizer_class="T5Tokenizer")
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == len(own)
    assert tokenizer.encode("hello <extra_id_0> 今天").tokens == ("▁hello", "▁<extra_id_0>", "▁今天", "</s>")


def test_llama_ends(tmp_path):
    data = family_bytes("llama")
    for config, tokens in [
        ({}, ["<s>", "▁hello"]),
        ({"add_bos_token": False}, ["▁hello"]),
        ({"add_eos_token": True}, ["<s>", "▁hello", "</s>"]),
    ]:
        write(tmp_path, "tokenizer.model", data, tokenizer_class="LlamaTokenizer", **config)
        assert list(Tokenizer.from_pretrained(tmp_path).encode("hello").tokens) == tokens
    old = Tokenizer.from_pretrained(tmp_path)
    assert old.encode("</s>hello").tokens[1:3] == ("</s>", "▁hello")
    write(tmp_path, "tokenizer.model", data, tokenizer_class="LlamaTokenizer", legacy=False)
    assert Tokenizer.from_pretrained(tmp_path).encode("</s>hello").tokens[1:3] == ("</s>", "hello")


def test_configured_tokens(tmp_path):
    data = family_bytes("deberta-v2")
    size = len(unigram_pieces(FIRST["deberta-v2"]))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[MASK]": size + 1, "[NEW]": size}))
    (tmp_path / "config.json").write_text('{"model_type": "deberta-v2"}')
    tokenizer = Tokenizer.from_pretrained(write(tmp_path, "spm.model", data))
    assert tokenizer.vocabulary[size:] == ["[NEW]", "[MASK]"]
    assert tokenizer.encode("hello[NEW]").tokens == ("[CLS]", "▁hello", "[NEW]", "[SEP]")
    decoder = {str(size): {"content": "[MASK]", "lstrip": True, "special": True}}
    write(tmp_path, "spm.model", data, added_tokens_decoder=decoder, mask_token="[MASK]")
    assert Tokenizer.from_pretrained(tmp_path).mask_id == size
    for wrong, words in [
        ({"[MASK]": size + 5}, "its place is"),
        ({"[MASK]": 1}, "its place is"),
        ({"[MASK]": "x"}, "a text and an id"),
    ]:
        (tmp_path / "tokenizer_config.json").unlink(missing_ok=True)
        (tmp_path / "added_tokens.json").write_text(json.dumps(wrong))
        with pytest.raises(DataError, match=words):
            Tokenizer.from_pretrained(tmp_path)


def test_roles_can_be_given(folders):
    tokenizer = Tokenizer.from_pretrained(folders["llama"], family="llama", specials={"pad": "</s>"})
    assert tokenizer.pad_id == tokenizer.eos_id == 2
    with pytest.raises(DataError, match="nope"):
        Tokenizer.from_pretrained(folders["llama"], family="llama", specials={"pad": "nope"})
    with pytest.raises(ConfigError, match="roles"):
        Tokenizer.from_pretrained(folders["llama"], family="llama", specials={"end": "</s>"})


def test_choices_that_do_not_fit(folders):
    with pytest.raises(ConfigError, match="family='albert'"):
        Tokenizer.from_pretrained(folders["t5"])
    with pytest.raises(ConfigError, match="family must be one of"):
        Tokenizer.from_pretrained(folders["t5"], family="bert4")
    with pytest.raises(ConfigError, match="lower-casing"):
        Tokenizer.from_pretrained(folders["t5"], family="t5", lowercase=True)
    with pytest.raises(DataError, match="opens with <unk>"):
        Tokenizer.from_pretrained(folders["t5"], family="xlm-roberta")
    with pytest.raises(ConfigError, match="WordPiece"):
        Tokenizer.from_pretrained(folders["t5"], family="t5", pre_tokenize=str.split)


# ---------------------------------------------------------------- normalisation


def test_albert_cleans(folders):
    lower = Tokenizer.from_pretrained(folders["albert"], family="albert")
    assert lower.lowercase
    assert lower.encode("  HÉLLO\u3000the ").tokens == ("[CLS]", "▁hello", "▁the", "[SEP]")
    assert lower.encode("``a''").tokens == lower.encode('"a"').tokens
    cased = Tokenizer.from_pretrained(folders["albert"], family="albert", lowercase=False)
    assert not cased.lowercase
    assert cased.encode("A").tokens == ("[CLS]", "▁", "A", "[SEP]")
    assert lower.encode("9,9").tokens == ("[CLS]", "▁", "9", ",", "9", "[SEP]")  # not "▁9,"
    plain = Tokenizer.from_pretrained(folders["albert"], family="plain", specials={"mask": "[MASK]"})
    assert plain.encode("9,9").tokens == ("▁9,", "9")


def test_rules_are_applied(tokenizers_of):
    tokenizer = tokenizers_of["t5"]
    encoding = tokenizer.encode("\u3000 Ａ\t㈱x\u200b e\u0301 ")
    assert encoding.tokens == ("▁", "A", "▁", "(", "株", ")", "x", "▁", "é", "</s>")
    assert encoding.offsets.tolist() == [[2, 2], [2, 3], [3, 3], *[[4, 5]] * 3, [5, 6], [7, 7], [8, 9], [0, 0]]
    assert encoding.char_span(8, 9) == (8, 10)  # with its accent
    for blank in ("", " ", "\t \u3000"):
        assert tokenizer.encode(blank).tokens == ("</s>",)


def test_no_prefix(tmp_path):
    pieces = unigram_pieces(FIRST["t5"])
    write(tmp_path, "spiece.model", model_bytes(pieces, prefix=False))
    assert Tokenizer.from_pretrained(tmp_path, family="plain").encode("lo the").tokens == ("lo", "▁the")
    write(tmp_path, "spiece.model", model_bytes(pieces, strip=False))
    tokenizer = Tokenizer.from_pretrained(tmp_path, family="plain")
    assert tokenizer.encode(" the ").tokens == ("▁", "▁the", "▁")
    assert tokenizer.decode(tokenizer.encode(" the ").token_ids) == " the "


@pytest.mark.parametrize("family", ["t5", "plain", "albert", "deberta-v2"])
def test_names_of_pieces_in_a_text(folders, family):
    """A literal ``</s>`` is the token only where that is wanted; ``<0x41>`` in a text never is the byte."""
    specials = Tokenizer.from_pretrained(folders[family], family=family)
    literal = Tokenizer.from_pretrained(folders[family], family=family, specials_in_text=False)
    for token in sorted(set(specials.specials.values())):
        assert specials.token_to_id(token) in specials.encode(f"the {token} the").token_ids[1:-1]
        inner = literal.encode(f"the {token} the")
        ids = inner.token_ids[~inner.special]
        assert literal.unk_id == literal.token_to_id(token) or literal.token_to_id(token) not in ids
    encoding = specials.encode("<0x41>")
    assert not [token for token in encoding.tokens if token.startswith("<0x")]
    assert {"0", "x", "4", "1"} <= {c for token in encoding.tokens for c in token}


def test_a_saved_unigram_keeps_literals_out(folders, tmp_path):
    Tokenizer.from_pretrained(folders["t5"], family="t5").save(tmp_path)
    for _ in range(2):  # also when saved again
        tokenizer = Tokenizer.from_pretrained(tmp_path, specials_in_text=False)
        assert tokenizer.eos_id not in tokenizer.encode("the </s> the").token_ids[:-1]
        tokenizer.save(tmp_path)


# ---------------------------------------------------------------- BPE


def merged(text, pieces):
    """The rule of SentencePiece: of all neighbours whose union is a piece, merge the best, the leftmost of equals."""
    scores = {piece: score for piece, score, kind in pieces if kind == NORMAL}
    symbols = list("▁" + text.replace(" ", "▁")) if text else []
    while True:
        pairs = [(-scores[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(symbols)) if a + b in scores]
        if not pairs:
            break
        i = min(pairs)[1]
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
    result = []
    for symbol in symbols:
        result += [symbol] if symbol in scores else [f"<0x{byte:02X}>" for byte in symbol.encode()]
    return tuple(result)


@given(text=st.text(st.sampled_from("helot ing今天北京😀 "), max_size=25))
@example(text="  the hello  今天京")
def test_bpe_merges_by_score(tokenizers_of, text):
    pieces = bpe_pieces(FIRST["llama"], True)
    assert tokenizers_of["llama"].encode(text).tokens[1:] == merged(text, pieces)


def best(text, pieces):
    """Brute force over all ways to cut a short word into known pieces: the greatest sum of scores."""
    scores = {piece: score for piece, score, kind in pieces if kind == NORMAL}

    def cut(rest):
        if not rest:
            return 0.0, ()
        ways = [(cut(rest[n:]), rest[:n]) for n in range(1, len(rest) + 1) if rest[:n] in scores]
        return max(((total + scores[piece], (piece, *tail)) for (total, tail), piece in ways), default=(-1e9, ()))

    return cut("▁" + text)[1]


@given(text=st.text(st.sampled_from("helothingun今天北京9,"), min_size=1, max_size=10))
def test_unigram_is_the_best_cut(tokenizers_of, text):
    assert tokenizers_of["t5"].encode(text).tokens[:-1] == best(text, unigram_pieces(FIRST["t5"]))


# ---------------------------------------------------------------- offsets, decoding, the common road

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
            assert surface.replace("\t", "") in (body, body.upper())
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


# ---------------------------------------------------------------- damaged files

GOOD = unigram_pieces(FIRST["t5"])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no pieces"),
        (b"\n", "cut off"),
        (b"not a model at all", "not a valid"),
        (model_bytes(GOOD)[:50], "cut off"),
        (model_bytes([("a", 0.0, NORMAL)]), "unknown characters, there are 0"),
        (model_bytes([*GOOD, ("b2", 0.0, UNKNOWN)]), "there are 2"),
        (model_bytes([*GOOD, ("a", 0.0, NORMAL)]), "'a' stands twice"),
        (model_bytes([*GOOD, ("", 0.0, NORMAL)]), "is empty"),
        (model_bytes([*GOOD, ("zz", float("nan"), NORMAL)]), "'zz' is nan"),
        (model_bytes([*GOOD, ("zz", 0.0, 9)]), "not a valid"),
        (model_bytes([("<unk>", 0.0, UNKNOWN)]), "no normal pieces"),
        (model_bytes([*GOOD, ("zz", 0.0, UNUSED)]), "unused"),
        (model_bytes(GOOD, kind=4), "model_type=4"),
        (model_bytes(GOOD, trainer=number(24, 1)), "suffix"),
        (model_bytes(GOOD, normalizer=number(5, 0)), "escape"),
        (model_bytes(GOOD, byte_fallback=True), "256 byte pieces"),
        (model_bytes(GOOD) + put_bytes(1, put_bytes(1, b"\xff")), "utf-8"),
        (model_bytes(GOOD) + put_bytes(1, number(1, 3)), "number where text"),
        (model_bytes(GOOD) + put_bytes(1, put_bytes(1, b"zz") + put_bytes(2, b"x")), "where a number"),
        (model_bytes(GOOD, rules=b"\1\2"), "cut off"),
        (model_bytes(GOOD, rules=RULES[:900]), "cut off"),
        (model_bytes(GOOD, rules=RULES[:1024]), "cut off"),
        (model_bytes(GOOD, rules=RULES[:-9]), "outside the replacements"),
        (model_bytes(GOOD, rules=RULES + b"\xff"), "UTF-8"),
    ],
)
def test_damage_is_named(tmp_path, data, words):
    path = write(tmp_path, "spiece.model", data) / "spiece.model"
    with pytest.raises(DataError, match=words) as caught:
        Tokenizer.from_pretrained(path, family="t5")
    assert "spiece.model" in str(caught.value)


SMALL = model_bytes(unigram_pieces(FIRST["t5"]), rules=charsmap({"Ａ": "A", "e\u0301": "é"}))


@settings(max_examples=300)
@given(place=st.integers(0, len(SMALL) - 1), value=st.integers(0, 255), cut=st.booleans())
def test_any_damage_is_an_error_or_harmless(tmp_path_factory, place, value, cut):
    data = bytearray(SMALL)
    data[place] = value
    path = tmp_path_factory.getbasetemp() / "damaged.model"
    path.write_bytes(bytes(data[:place]) if cut else bytes(data))
    try:
        tokenizer = Tokenizer.from_pretrained(path, family="plain")
    except DataError:
        return
    for text in ("hello Ａe\u0301 今天", *HARD_TEXTS[4:8]):
        tokenizer.encode(text)


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_rules_never_reach_the_rust_library(data):
    """Damage to units that matter: the check must refuse what the library would stumble over."""
    from tokenizers import normalizers

    from kexue.text._charsmap import check_charsmap

    rules = bytearray(RULES)
    places = [at for at in range(4, len(rules)) if rules[at]]
    for _ in range(data.draw(st.integers(1, 3))):
        rules[data.draw(st.sampled_from(places))] = data.draw(st.integers(0, 255))
    try:
        check_charsmap(bytes(rules))
    except ValueError:
        return
    normalizer = normalizers.Precompiled(bytes(rules))
    for text in ("Ａ㈱e\u0301\t\u3000\u200b", string.printable, *HARD_TEXTS):
        normalizer.normalize_str(text)


def test_real_numbers_are_read(tmp_path):
    pieces = [("<unk>", 0.0, UNKNOWN), ("a", -1.5, NORMAL), ("今", -2.25, NORMAL)]
    path = write(tmp_path, "m.model", model_bytes(pieces, rules=RULES, prefix=False)) / "m.model"
    model = read_sentencepiece(path)
    assert model.pieces == ["<unk>", "a", "今"]
    assert model.scores == [0.0, -1.5, -2.25]
    assert model.charsmap == RULES
    assert (model.bpe, model.byte_fallback, model.dummy_prefix, model.strip_spaces) == (False, False, False, True)
    assert model.unknown == 0
    with pytest.raises(DataError, match="cannot be read"):
        read_sentencepiece(tmp_path / "none.model")
