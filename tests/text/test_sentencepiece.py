"""SentencePiece models without the package: families, normalisation, merges and cuts. Models are written by hand."""

import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.text.spiece import NORMAL, SYMBOL, UNKNOWN, model_bytes, write
from tests.text.spiece_families import FIRST, TEMPLATES, bpe_pieces, family_bytes, unigram_pieces

from kexue.errors import ConfigError, DataError
from kexue.text import Tokenizer


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


def test_roles_can_be_given(family_folders):
    tokenizer = Tokenizer.from_pretrained(family_folders["llama"], family="llama", specials={"pad": "</s>"})
    assert tokenizer.pad_id == tokenizer.eos_id == 2
    with pytest.raises(DataError, match="nope"):
        Tokenizer.from_pretrained(family_folders["llama"], family="llama", specials={"pad": "nope"})
    with pytest.raises(ConfigError, match="roles"):
        Tokenizer.from_pretrained(family_folders["llama"], family="llama", specials={"end": "</s>"})


def test_choices_that_do_not_fit(family_folders):
    with pytest.raises(ConfigError, match="family='albert'"):
        Tokenizer.from_pretrained(family_folders["t5"])
    with pytest.raises(ConfigError, match="family must be one of"):
        Tokenizer.from_pretrained(family_folders["t5"], family="bert4")
    with pytest.raises(ConfigError, match="lower-casing"):
        Tokenizer.from_pretrained(family_folders["t5"], family="t5", lowercase=True)
    with pytest.raises(DataError, match="opens with <unk>"):
        Tokenizer.from_pretrained(family_folders["t5"], family="xlm-roberta")
    with pytest.raises(ConfigError, match="WordPiece"):
        Tokenizer.from_pretrained(family_folders["t5"], family="t5", pre_tokenize=str.split)


# ---------------------------------------------------------------- normalisation


def test_albert_cleans(family_folders):
    lower = Tokenizer.from_pretrained(family_folders["albert"], family="albert")
    assert lower.lowercase
    assert lower.encode("  HÉLLO\u3000the ").tokens == ("[CLS]", "▁hello", "▁the", "[SEP]")
    assert lower.encode("``a''").tokens == lower.encode('"a"').tokens
    cased = Tokenizer.from_pretrained(family_folders["albert"], family="albert", lowercase=False)
    assert not cased.lowercase
    assert cased.encode("A").tokens == ("[CLS]", "▁", "A", "[SEP]")
    assert lower.encode("9,9").tokens == ("[CLS]", "▁", "9", ",", "9", "[SEP]")  # not "▁9,"
    plain = Tokenizer.from_pretrained(family_folders["albert"], family="plain", specials={"mask": "[MASK]"})
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
def test_names_of_pieces_in_a_text(family_folders, family):
    """A literal ``</s>`` is the token only where that is wanted; ``<0x41>`` in a text never is the byte."""
    specials = Tokenizer.from_pretrained(family_folders[family], family=family)
    literal = Tokenizer.from_pretrained(family_folders[family], family=family, specials_in_text=False)
    for token in sorted(set(specials.specials.values())):
        assert specials.token_to_id(token) in specials.encode(f"the {token} the").token_ids[1:-1]
        inner = literal.encode(f"the {token} the")
        ids = inner.token_ids[~inner.special]
        assert literal.unk_id == literal.token_to_id(token) or literal.token_to_id(token) not in ids
    encoding = specials.encode("<0x41>")
    assert not [token for token in encoding.tokens if token.startswith("<0x")]
    assert {"0", "x", "4", "1"} <= {c for token in encoding.tokens for c in token}


def test_a_saved_unigram_keeps_literals_out(family_folders, tmp_path):
    Tokenizer.from_pretrained(family_folders["t5"], family="t5").save(tmp_path)
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


SYMBOLS = [
    ("<unk>", 0, UNKNOWN),
    ("▁", -1.5, NORMAL),
    ("xyz", -9, SYMBOL),
    ("xyzq", 0.1, NORMAL),
    ("q", -0.05, NORMAL),
    ("abc", -9, SYMBOL),
    ("ab", 0.15, NORMAL),
    ("c", 0.1, NORMAL),
    *((letter, -5.0, NORMAL) for letter in "abxyz"),
]


def test_user_defined_symbols_are_scored_by_length(tmp_path):
    """A tenth for every byte, less a tenth: "xyz" has 0.2; with "q" that beats "xyzq". "ab" and "c" beat "abc"."""
    data = model_bytes(SYMBOLS)
    write(tmp_path, "m.model", data)
    ours = Tokenizer.from_pretrained(tmp_path / "m.model", family="plain")
    assert ours.encode("xyzqabc").tokens == ("▁", "xyz", "q", "ab", "c")
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        return
    assert SentencePieceProcessor(model_proto=data).encode_as_pieces("xyzqabc") == ["▁", "xyz", "q", "ab", "c"]
