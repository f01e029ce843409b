"""GPT, GPT-2 and Qwen: ``vocab.json`` with ``merges.txt``. Places, round trips and roles; ids equal transformers'."""

import json
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.text.hard_texts import HARD_TEXTS, random_text

from kexue.errors import ConfigError, DataError
from kexue.text import Tokenizer, simplify_vocabulary

END = "<|endoftext|>"
KINDS = {"gpt2": "GPT2Tokenizer", "openai-gpt": "OpenAIGPTTokenizer", "qwen2": "Qwen2Tokenizer"}
_rng = random.Random(11)
CORPUS = ["the quick brown fox jumps over the lazy dog's back", "今天天气不错，北京", *HARD_TEXTS]
TEXTS = [*HARD_TEXTS, "I'll they'RE 12345 a\r\n\r\n  b", *(random_text(_rng) for _ in range(200))]


def train(kind, folder):
    """A small vocabulary of that kind, by the trainer of ``tokenizers``."""
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    corpus = CORPUS + [random_text(_rng) for _ in range(60)]
    if kind == "openai-gpt":
        rust = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
        rust.normalizer = normalizers.BertNormalizer(lowercase=True)
        rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.BpeTrainer(vocab_size=450, special_tokens=["<unk>"], end_of_word_suffix="</w>")
    else:
        rust = tokenizers.Tokenizer(models.BPE())
        rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=[END], initial_alphabet=alphabet)
    rust.train_from_iterator(corpus, trainer)
    folder.mkdir(parents=True)
    rust.model.save(str(folder))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("bpe")
    return {kind: train(kind, root / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def tokenizers_of(folders):
    return {kind: Tokenizer.from_pretrained(folder, family=kind) for kind, folder in folders.items()}


def test_roles(folders, tokenizers_of):
    assert tokenizers_of["gpt2"].specials == {"unk": END, "bos": END, "eos": END}
    assert tokenizers_of["openai-gpt"].specials == {"unk": "<unk>"}
    assert tokenizers_of["qwen2"].specials == {"pad": END, "unk": END, "eos": END}
    padded = Tokenizer.from_pretrained(folders["gpt2"], specials={"pad": END})
    assert padded.pad_id == padded.eos_id == padded.bos_id == padded.token_to_id(END)
    assert padded.encode(f"the{END}").token_ids[-1] == padded.eos_id
    assert tokenizers_of["gpt2"].cls_id is tokenizers_of["gpt2"].mask_id is None


def test_kind_is_found(folders, tmp_path):
    assert Tokenizer.from_pretrained(folders["gpt2"]).bos_id is not None  # by its token
    assert Tokenizer.from_pretrained(folders["openai-gpt"]).lowercase  # by the ends of words
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((folders["gpt2"] / name).read_bytes())
    one = Tokenizer.from_pretrained(tmp_path).encode("caf\u0065\u0301")
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    assert Tokenizer.from_pretrained(tmp_path).encode("caf\u0065\u0301").tokens != one.tokens  # composed first
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    assert Tokenizer.from_pretrained(tmp_path).encode("caf\u0065\u0301").tokens == one.tokens
    with pytest.raises(DataError, match=r"t5 has no vocab.json"):
        Tokenizer.from_pretrained(tmp_path, family="t5")
    with pytest.raises(DataError, match="lacks"):
        Tokenizer.from_pretrained(tmp_path, family="roberta")


def test_lower_case_is_the_family_s(folders):
    with pytest.raises(ConfigError, match="no lower-casing"):
        Tokenizer.from_pretrained(folders["gpt2"], lowercase=True)
    with pytest.raises(ConfigError, match="always lower-cases"):
        Tokenizer.from_pretrained(folders["openai-gpt"], lowercase=False)
    gpt = Tokenizer.from_pretrained(folders["openai-gpt"], lowercase=True)
    assert gpt.encode("THE Fox").tokens == gpt.encode("the fox").tokens


@pytest.mark.parametrize("config", [{"add_bos_token": True}, {"add_prefix_space": True}])
def test_settings(folders, tmp_path, config):
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((folders["gpt2"] / name).read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "GPT2Tokenizer"}))
    tokenizer, plain = Tokenizer.from_pretrained(tmp_path), Tokenizer.from_pretrained(folders["gpt2"])
    if "add_bos_token" in config:
        assert tokenizer.encode("the").tokens == (END, *plain.encode("the").tokens)
        assert tokenizer.encode("the", "fox").segment_ids.tolist().count(1) == len(plain.encode("fox")) + 1
    else:
        assert tokenizer.encode("the").token_ids.tolist() == plain.encode(" the").token_ids.tolist()
        assert tokenizer.encode("the").offsets[-1].tolist()[1] == 3
    tokenizer.save(tmp_path / "saved")
    assert Tokenizer.from_pretrained(tmp_path / "saved").encode("the").tokens == tokenizer.encode("the").tokens


ANY = st.text(
    st.one_of(st.sampled_from("the fox今天京 \n\u00e9e\u0301😀'12"), st.characters(codec="utf-8")), max_size=25
)


@given(text=ANY)
def test_bytes_round_trip(tokenizers_of, text):
    for kind in ("gpt2", "qwen2"):
        tokenizer = tokenizers_of[kind]
        assert tokenizer.decode(tokenizer.encode(text).token_ids) == tokenizer.normalize(text)
    assert tokenizers_of["gpt2"].normalize(text) == text


BYTES = {}


def spelt(token):
    """The bytes behind a byte-level token."""
    if not BYTES:
        shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
        hidden = [byte for byte in range(256) if byte not in shown]
        BYTES.update({chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)})
    return bytes(BYTES[c] for c in token)


@given(text=ANY)
def test_places_of_byte_level_tokens(tokenizers_of, text):
    encoding = tokenizers_of["gpt2"].encode(text)
    data = text.encode()
    at = 0  # byte position in the text
    first = [len(text[:i].encode()) for i in range(len(text) + 1)]
    last = (0, 0)
    for token, (start, end) in zip(encoding.tokens, encoding.offsets.tolist(), strict=True):
        part = spelt(token)
        assert data[at : at + len(part)] == part
        low = max(i for i in range(len(text) + 1) if first[i] <= at)
        high = min(i for i in range(len(text) + 1) if first[i] >= at + len(part))
        body = text[low:high].strip()  # every character that the token has a byte of, white space at the edges aside
        assert text[start:end] == body
        assert start >= last[0]
        assert end >= last[1]
        if body:
            assert low <= start < end <= high
        last = (start, end)
        at += len(part)
    assert at == len(data)


@given(text=ANY)
def test_places_of_words(tokenizers_of, text):
    tokenizer = tokenizers_of["openai-gpt"]
    encoding = tokenizer.encode(text)
    last = (0, 0)
    for token, (start, end) in zip(encoding.tokens, encoding.offsets.tolist(), strict=True):
        assert last[0] <= start < end <= len(text)
        assert end >= last[1]
        last = (start, end)
        surface = text[start:end]
        if token != "<unk>" and surface.isascii():
            assert token.removesuffix("</w>") == surface.lower()


@pytest.mark.parametrize("kind", KINDS)
def test_save_load_pickle(tokenizers_of, tmp_path, kind):
    tokenizer = tokenizers_of[kind]
    tokenizer.save(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == KINDS[kind]
    again = Tokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    for other in (again, Tokenizer.from_pretrained(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
        assert other.specials == tokenizer.specials
        assert other.vocabulary == tokenizer.vocabulary
        for text in HARD_TEXTS:
            for pair in (None, "今天"):
                assert other.encode(text, pair).token_ids.tolist() == tokenizer.encode(text, pair).token_ids.tolist()
    with pytest.raises(ConfigError, match="only WordPiece"):
        simplify_vocabulary(tokenizer)


@pytest.mark.parametrize(
    ("vocab", "merges", "words"),
    [
        ("{}", "", "empty"),
        ('{"<unk>": 2, "a": 0, "b": 1}', "a b\n", "does not fit vocab.json, which has no token 'ab'"),
        ('{"a": 0, "b": true}', "", "integer"),
        ('{"a</w>": 0}', "", "lacks <unk>"),
    ],
)
def test_broken_files(tmp_path, vocab, merges, words):
    (tmp_path / "vocab.json").write_text(vocab)
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(DataError, match=words):
        Tokenizer.from_pretrained(tmp_path, family="openai-gpt").encode("zz")


@pytest.mark.peer
@pytest.mark.parametrize("kind", KINDS)
def test_transformers(folders, tokenizers_of, tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    ours, folder = tokenizers_of[kind], folders[kind]
    theirs = getattr(transformers, KINDS[kind])(str(folder / "vocab.json"), str(folder / "merges.txt"))
    ours.save(tmp_path / "saved")
    saved = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    theirs.save_pretrained(tmp_path / "theirs")
    read = Tokenizer.from_pretrained(tmp_path / "theirs")
    assert read.specials == ours.specials
    for text in [*TEXTS, f"the {END} fox{END}"]:
        ids = ours.encode(text).token_ids.tolist()
        assert ids == theirs(text)["input_ids"], repr(text)
        assert ids == saved(text)["input_ids"]
        assert ids == read.encode(text).token_ids.tolist()
        pair = ours.encode(text, "今天 fox").token_ids.tolist()
        assert pair == theirs(text, "今天 fox")["input_ids"]
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
