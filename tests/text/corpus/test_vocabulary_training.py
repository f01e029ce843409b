"""Vocabulary training: counts, merges against brute force, determinism, use as a tokenizer."""

import itertools
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.text.corpus.conftest import make_documents

from kexue.errors import ConfigError, DataError
from kexue.text import Tokenizer
from kexue.text.corpus import train_vocabulary
from kexue.text.corpus.merges import merges

words = st.dictionaries(st.text("abc", min_size=2, max_size=6), st.integers(1, 9), max_size=8)


def slow_merges(words, most, min_count):
    """Count all pairs anew for each merge."""
    pieces = {word: [word[0], *("##" + c for c in word[1:])] for word in words}
    for _ in range(most):
        pairs = Counter()
        for word, count in words.items():
            for pair in zip(pieces[word], pieces[word][1:], strict=False):
                pairs[pair] += count
        if not pairs:
            return
        pair = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[pair] < min_count:
            return
        merged = pair[0] + pair[1][2:]
        yield merged, pairs[pair]
        for word, parts in pieces.items():
            position, result = 0, []
            while position < len(parts):
                if tuple(parts[position : position + 2]) == pair:
                    result.append(merged)
                    position += 2
                else:
                    result.append(parts[position])
                    position += 1
            pieces[word] = result


@given(words, st.integers(1, 20), st.integers(1, 5))
def test_merges(words, most, min_count):
    found = list(merges(words, most, min_count))
    assert found == list(slow_merges(words, most, min_count))
    assert found == list(merges(dict(reversed(words.items())), most, min_count))
    counts = [count for _, count in found]
    # A run of equal letters counts its overlapping pairs, so only words without one promise falling counts.
    if not any(a == b for word in words for a, b in itertools.pairwise(word)):
        assert counts == sorted(counts, reverse=True)


def test_counts_decide():
    texts = ["今今今今天天天，，zzzz hello hello hello", "help 罕 2024 2024 2024"]
    tokenizer = train_vocabulary(texts, 1000, min_count=2)
    learned = [token for token in tokenizer.vocabulary if not token.isascii()]
    assert learned == ["今", "天", "，"]  # falling counts; 罕 occurs once
    assert "hello" in tokenizer.vocabulary
    assert "2024" in tokenizer.vocabulary
    assert "罕" not in tokenizer.vocabulary
    tight = train_vocabulary(texts, len(train_vocabulary(texts, 1000, min_count=100)) + 1, min_count=2)
    assert [token for token in tight.vocabulary if not token.isascii()] == ["今"]
    assert "罕" in train_vocabulary(texts, 1000, required=["罕"]).vocabulary


def test_fixed_tokens_come_first():
    tokenizer = train_vocabulary(
        ["中" * 9], 500, unused=3, specials=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[S]"]
    )
    assert tokenizer.vocabulary[:9] == [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[S]",
        "[unused1]",
        "[unused2]",
        "[unused3]",
    ]
    assert tokenizer.vocabulary[-1] == "中"
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (
        0,
        1,
        2,
        3,
        4,
    )
    assert tokenizer.lowercase
    cased = train_vocabulary(["Hello"], 500, lowercase=False)
    assert not cased.lowercase
    assert cased.encode("Hello").tokens[1:-1] == ("H", "##e", "##l", "##l", "##o")


def test_normalised_as_the_tokenizer_does():
    """Accents, ligatures, compatibility ideographs: counted in the form in which they are looked up."""
    texts = ["CAFÉ café cafe\u0301 ﾊﾟ Ελλάδα \ufa11 崎 привет 안녕"] * 10
    tokenizer = train_vocabulary(texts, 1000)
    assert tokenizer.unk_id not in tokenizer.encode(texts[0]).token_ids.tolist()
    assert "cafe" in tokenizer.vocabulary


def test_documents_and_texts_are_the_same():
    documents = make_documents(50)
    flat = [part for document in documents for part in document]
    assert train_vocabulary(documents, 300).vocabulary == train_vocabulary(flat, 300).vocabulary


def test_no_unknown_in_frequent_text(tmp_path):
    documents = make_documents(200)
    tokenizer = train_vocabulary(iter(documents), 400)
    tokenizer.save(tmp_path)
    again = Tokenizer.from_pretrained(tmp_path)
    for document in documents:
        encoding = again.encode(" ".join(document))
        assert tokenizer.unk_id not in encoding.token_ids.tolist()
        assert encoding.token_ids.tolist() == tokenizer.encode(" ".join(document)).token_ids.tolist()
    assert {"hello", "worlds", "unaffable", "cafes"} <= set(again.vocabulary)


def test_the_same_in_every_process():
    """Whatever the seed of Python's hashes."""
    script = (
        "from tests.text.corpus.conftest import make_documents\n"
        "from kexue.text.corpus import train_vocabulary\n"
        "print('\\n'.join(train_vocabulary(make_documents(40), 200, min_count=1).vocabulary).encode().hex())"
    )
    outputs = set()
    for seed in "012":
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(["", *sys.path])}
        done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_wrong_arguments():
    with pytest.raises(ConfigError, match="size must be at least"):
        train_vocabulary(["中"], 20)
    with pytest.raises(ConfigError, match=r"\[MASK\] missing"):
        train_vocabulary(["中"], 500, specials=["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    with pytest.raises(ConfigError, match="min_count"):
        train_vocabulary(["中"], 500, min_count=0)
    with pytest.raises(DataError, match="empty"):
        train_vocabulary(["", " "], 500)
    with pytest.raises(DataError, match="expected texts"):
        train_vocabulary([3], 500)
