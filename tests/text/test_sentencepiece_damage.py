"""Damaged SentencePiece models are an error that names the file, whatever the damage."""

import string
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.hard_texts import HARD_TEXTS
from tests.text.spiece import NORMAL, UNKNOWN, UNUSED, charsmap, model_bytes, number, write
from tests.text.spiece_families import FIRST, RULES, unigram_pieces
from tokenizers import normalizers

from kexue._protobuf import put_bytes
from kexue.errors import DataError
from kexue.text import Tokenizer
from kexue.text._charsmap import check_charsmap
from kexue.text._sentencepiece import read_sentencepiece

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
        (model_bytes([*GOOD, ("zz", 0.0, 9)]), "unknown kind 9"),
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


@pytest.mark.parametrize(("place", "fine"), [(0, True), (1, True), (2, False), (3, False), (5, True), (99, False)])
def test_a_value_must_point_at_a_character(place, fine):
    """The replacements are "(株)" and an end mark: places 2 and 3 lie within a character."""
    rules = charsmap({"a": "(株)"})
    assert rules.count(struct.pack("<I", 1 << 31)) == 1
    changed = rules.replace(struct.pack("<I", 1 << 31), struct.pack("<I", 1 << 31 | place))
    if fine:
        check_charsmap(changed)
        assert normalizers.Precompiled(changed).normalize_str("a") == "(株)\0".encode()[place:].decode().rstrip("\0")
    else:
        with pytest.raises(ValueError, match="outside the replacements"):
            check_charsmap(changed)
