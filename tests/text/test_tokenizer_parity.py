"""Ids, offsets, segments and truncation equal those of transformers."""

import json
import random

import pytest
from tests.text.hard_texts import HARD_TEXTS, random_text

from kexue.text.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peer


def assert_equal(ours, theirs, texts, pairs=None):
    for index, text in enumerate(texts):
        pair = pairs[index] or "x" if pairs else None  # transformers takes an empty second text for none
        a = ours.encode(text, pair)
        b = theirs(text, pair, return_offsets_mapping=True, return_token_type_ids=True)
        assert a.token_ids.tolist() == b["input_ids"], repr(text)
        assert [tuple(o) for o in a.offsets.tolist()] == b["offset_mapping"], repr(text)
        assert a.segment_ids.tolist() == b["token_type_ids"]
        assert [None if s < 0 else s for s in a.sequence_ids.tolist()] == b.sequence_ids(0)
        assert list(a.tokens) == b.tokens(0)


@pytest.mark.parametrize("lowercase", [True, False])
def test_word_piece(vocabulary, tmp_path, lowercase):
    path = tmp_path / "vocab.txt"
    path.write_bytes("".join(token + "\n" for token in vocabulary).encode())
    ours = Tokenizer.from_pretrained(path, lowercase=lowercase)
    theirs = transformers.BertTokenizer(str(path), do_lower_case=lowercase)
    rng = random.Random(1)
    texts = HARD_TEXTS + [random_text(rng) for _ in range(300)]
    assert_equal(ours, theirs, texts)
    assert_equal(ours, theirs, texts, [rng.choice(texts) for _ in texts])


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "lowercase"),
    [
        ("bert_base_chinese/albert_config/vocab.txt", True),
        ("bert_base_cased/vocab.cased.txt", False),
        ("bert_base_uncased/vocab.txt", True),
        ("roformer_v2/chinese_roformer-v2-char_L-12_H-768_A-12/vocab.txt", True),
    ],
)
def test_real_vocabularies(data_folder, name, lowercase):
    path = data_folder / "vocab" / name
    ours = Tokenizer.from_pretrained(path)  # cased or not is found out
    assert ours.lowercase == lowercase
    theirs = transformers.BertTokenizer(str(path), do_lower_case=lowercase)
    rng = random.Random(2)
    assert_equal(ours, theirs, HARD_TEXTS + [random_text(rng) for _ in range(300)])


@pytest.mark.parametrize("accents", [True, False])
def test_settings_of_the_folder_are_honoured(vocabulary, tmp_path, accents):
    theirs = transformers.BertTokenizer(
        {t: i for i, t in enumerate(vocabulary)},
        do_lower_case=False,
        strip_accents=accents,
        tokenize_chinese_chars=False,
    )
    theirs.save_pretrained(tmp_path)
    ours = Tokenizer.from_pretrained(tmp_path)
    assert_equal(ours, theirs, HARD_TEXTS)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    assert_equal(Tokenizer.from_pretrained(tmp_path), theirs, HARD_TEXTS)


@pytest.mark.parametrize(
    ("ours_mode", "theirs_mode"), [("longest", "longest_first"), ("first", "only_first"), ("second", "only_second")]
)
def test_truncation(vocabulary, ours_mode, theirs_mode):
    ours = Tokenizer.from_vocab(vocabulary)
    theirs = transformers.BertTokenizer({t: i for i, t in enumerate(vocabulary)})
    for n in range(0, 9):
        for m in range(1, 9):  # transformers takes an empty second text for none
            for length in range(3, 20):
                a, b = " ".join("abcdefgh"[:n]), " ".join("12345678"[:m])
                if (ours_mode == "first" and m >= length - 3) or (ours_mode == "second" and n >= length - 3):
                    continue  # both refuse; transformers also where nothing of the text would be left
                expected = theirs(a, b, truncation=theirs_mode, max_length=length)["input_ids"]
                assert ours.encode(a, b, max_length=length, truncation=ours_mode).token_ids.tolist() == expected


def test_literal_specials_can_be_split(vocabulary):
    ours = Tokenizer.from_vocab(vocabulary, specials_in_text=False)
    theirs = transformers.BertTokenizer({t: i for i, t in enumerate(vocabulary)}, split_special_tokens=True)
    text = "a [SEP] b[MASK][CLS]"
    assert ours.encode(text).token_ids.tolist() == theirs(text)["input_ids"]
    assert ours.mask_id not in ours.encode(text).token_ids


@pytest.fixture(scope="module")
def bpe_folder(tmp_path_factory):
    from tokenizers import ByteLevelBPETokenizer

    folder = tmp_path_factory.mktemp("bpe")
    bpe = ByteLevelBPETokenizer()
    rng = random.Random(3)
    corpus = ["the quick brown fox jumps over the lazy dog's back", "今天天气不错，北京", *HARD_TEXTS]
    bpe.train_from_iterator(
        corpus + [random_text(rng) for _ in range(50)],
        vocab_size=700,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    )
    bpe.save_model(str(folder))
    return folder


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("source", ["files", "json"])
def test_byte_level_bpe(bpe_folder, tmp_path, source, prefix):
    # "a <mask>" is one token without a space before it in the published checkpoints and in transformers 4
    mask = transformers.AddedToken("<mask>", lstrip=True, special=True)
    theirs = transformers.RobertaTokenizer(
        str(bpe_folder / "vocab.json"), str(bpe_folder / "merges.txt"), add_prefix_space=prefix, mask_token=mask
    )
    if source == "json":
        theirs.save_pretrained(tmp_path)
    else:
        for name in ("vocab.json", "merges.txt"):
            (tmp_path / name).write_bytes((bpe_folder / name).read_bytes())
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": prefix}))
    ours = Tokenizer.from_pretrained(tmp_path)
    texts = [t.replace("[MASK]", "<mask>").replace("[SEP]", "</s>") for t in HARD_TEXTS]
    for text in [*texts, "a <mask> b", " lead", "two  spaces "]:
        for pair in (None, "other 世界"):
            a, b = ours.encode(text, pair), theirs(text, pair, return_offsets_mapping=True)
            assert a.token_ids.tolist() == b["input_ids"], repr(text)
            assert not a.segment_ids.any()
            for (start, end), (start2, end2) in zip(a.offsets.tolist(), b["offset_mapping"], strict=True):
                assert (start, end) == (start2, end2) or not text[start2:end2].strip() or start == end
    assert ours.pad_id == theirs.pad_token_id
    assert ours.mask_id == theirs.mask_token_id
    assert ours.decode(ours.encode("the quick 今天").token_ids) == "the quick 今天" if not prefix else True


def test_saved_folder_opens_in_transformers(vocabulary, bpe_folder, tmp_path):
    ours = Tokenizer.from_vocab(vocabulary, lowercase=False)
    ours.save(tmp_path / "wp")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "wp")
    assert type(theirs).__name__ == "BertTokenizer"
    assert_equal(ours, theirs, HARD_TEXTS)
    only_vocab = transformers.BertTokenizer(str(tmp_path / "wp" / "vocab.txt"), do_lower_case=False)
    assert_equal(ours, only_vocab, HARD_TEXTS)
    ours = Tokenizer.from_pretrained(bpe_folder)
    ours.save(tmp_path / "bpe")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "bpe")
    again = Tokenizer.from_pretrained(tmp_path / "bpe")
    (tmp_path / "bpe" / "tokenizer.json").unlink()
    from_parts = Tokenizer.from_pretrained(tmp_path / "bpe")
    for text in HARD_TEXTS:
        ids = ours.encode(text, "x").token_ids.tolist()
        assert ids == theirs(text, "x")["input_ids"] == again.encode(text, "x").token_ids.tolist()
        assert ids == from_parts.encode(text, "x").token_ids.tolist()


def test_words_first_equals_roformer(vocabulary, tmp_path):
    """An independent statement of the rule: the vocabulary's words whole, the rest as without the hook."""
    words = ["今天", "天气", "不错", "！"]
    ours = Tokenizer.from_vocab(vocabulary, pre_tokenize=lambda _: words)
    theirs = transformers.BertTokenizer({t: i for i, t in enumerate(vocabulary)})
    text = "".join(words)
    expected = [2]
    for word in words:
        expected += (
            [vocabulary.index(word)] if word in vocabulary else theirs(word, add_special_tokens=False)["input_ids"]
        )
    assert ours.encode(text).token_ids.tolist() == [*expected, 3]


@pytest.mark.parametrize("family", ["electra", "nezha", "albert"])
def test_word_piece_of_other_families(vocabulary, tmp_path, family):
    """ELECTRA, NEZHA and the Chinese ALBERT come with BERT's vocab.txt; their family changes nothing."""
    (tmp_path / "vocab.txt").write_bytes("".join(token + "\n" for token in vocabulary).encode())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    theirs = transformers.BertTokenizer(str(tmp_path / "vocab.txt"))
    if family == "electra":
        theirs = transformers.ElectraTokenizer(str(tmp_path / "vocab.txt"))
    assert_equal(Tokenizer.from_pretrained(tmp_path), theirs, HARD_TEXTS)


@pytest.mark.parametrize("family", ["modernbert", "llama"])
def test_tokenizer_json_with_bytes(tmp_path, family):
    """ModernBERT (``[CLS] A [SEP]``) and LLaMA 3 (``<|begin_of_text|> A``): byte-level BPE that lives in one file."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    modern = family == "modernbert"
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] if modern else ["<|begin_of_text|>", "<|end_of_text|>"]
    rust = tokenizers.Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=450, special_tokens=names, initial_alphabet=alphabet)
    rust.train_from_iterator(HARD_TEXTS * 3, trainer)
    if modern:
        rust.normalizer = normalizers.NFC()
        rust.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
        roles = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    else:
        begin = names[0]
        template = processors.TemplateProcessing(
            single=f"{begin}:0 $A:0", pair=f"{begin}:0 $A:0 {begin}:1 $B:1", special_tokens=[(begin, 0)]
        )
        rust.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
        roles = {"bos": names[0], "eos": names[1]}
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=rust, **{f"{role}_token": token for role, token in roles.items()}
    )
    theirs.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    ours = Tokenizer.from_pretrained(tmp_path)
    assert ours.specials == roles
    for text in HARD_TEXTS:
        for pair in (None, "other 世界"):
            a, b = ours.encode(text, pair), theirs(text, pair, return_token_type_ids=True)
            assert a.token_ids.tolist() == b["input_ids"]
            assert a.segment_ids.tolist() == b["token_type_ids"]
        if not modern:
            assert ours.decode(ours.encode(text).token_ids) == text
    ours.save(tmp_path / "saved")
    assert Tokenizer.from_pretrained(tmp_path / "saved").encode("今 x", "y").tokens == ours.encode("今 x", "y").tokens
