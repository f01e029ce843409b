"""Scores of generated text: values worked out by hand, and their definitions written down again."""

import math
import sys
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from kexue.errors import ConfigError, DataError
from kexue.text.scores import bleu, chrf, rouge, score_texts, tokens_of

pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score")


def grams(items, n):
    return Counter(tuple(items[i : i + n]) for i in range(len(items) - n + 1))


def random_texts(seed, count=12):
    """Texts of three characters, so that n-grams of all orders are shared."""
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("天地人"), rng.integers(8, 20))) for _ in range(count)]


def bleu_by_definition(outputs, references):
    logs = []
    for n in range(1, 5):
        hits = sum((grams(o, n) & grams(r, n)).total() for o, r in zip(outputs, references, strict=True))
        logs.append(math.log(hits / sum(grams(o, n).total() for o in outputs)))
    c, r = sum(map(len, outputs)), sum(map(len, references))
    return 100 * min(1.0, math.exp(1 - r / c)) * math.exp(sum(logs) / 4)


def chrf_by_definition(outputs, references):
    precision, recall = [], []
    for n in range(1, 7):
        hits = sum((grams(o, n) & grams(r, n)).total() for o, r in zip(outputs, references, strict=True))
        precision.append(hits / sum(grams(o, n).total() for o in outputs))
        recall.append(hits / sum(grams(r, n).total() for r in references))
    p, r = sum(precision) / 6, sum(recall) / 6
    return 100 * 5 * p * r / (4 * p + r)


def longest_common_subsequence(a, b):
    """By trying all subsequences of ``a``."""
    for size in range(min(len(a), len(b)), 0, -1):
        for chosen in combinations(a, size):
            rest = iter(b)
            if all(c in rest for c in chosen):
                return size
    return 0


def f1(hits, found, wanted):
    return 2 * hits / (found + wanted) if hits else 0.0


def test_bleu_by_hand():
    # Shared n-grams 4/6, 3/5, 2/4, 1/3; the output is the longer one.
    assert bleu(["天下太平无事"], ["天下太平"]) == pytest.approx(100 * (4 / 6 * 3 / 5 * 2 / 4 / 3) ** 0.25)
    assert bleu(["天下太平"], ["天下太平无事"]) == pytest.approx(100 * math.exp(1 - 6 / 4))  # brevity alone
    assert bleu(["天下太平"], ["天下太平"]) == pytest.approx(100)
    # "zh" keeps Latin words whole: 2 of 3 unigrams, 1 of 2 bigrams, no longer ones (smoothed, hence below "char").
    assert bleu(["用 tokens 写"], ["用 tokens 读"]) < bleu(["用 tokens 写"], ["用 tokens 读"], tokenize="char")


def test_rouge_by_hand():
    scores = rouge(["甲乙丙丁"], ["甲丙乙丁戊"])
    assert scores["rouge1"] == pytest.approx(100 * 2 * 1 * 0.8 / 1.8)  # all four, of five
    assert scores["rouge2"] == 0.0
    assert scores["rouge_l"] == pytest.approx(100 * 2 * 3 / 9)  # 甲乙丁
    both = rouge(["甲乙丙丁", "好"], ["甲丙乙丁戊", "好"])
    assert both["rouge_l"] == pytest.approx((scores["rouge_l"] + 100) / 2)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_definitions(seed):
    outputs, references = random_texts(seed), random_texts(seed + 10)
    assert bleu(outputs, references) == pytest.approx(bleu_by_definition(outputs, references), abs=1e-9)
    assert chrf(outputs, references) == pytest.approx(chrf_by_definition(outputs, references), abs=1e-9)
    outputs, references = [t[:9] for t in outputs], [t[:9] for t in references]
    scores = rouge(outputs, references)
    pairs = list(zip(outputs, references, strict=True))
    for n in (1, 2):
        values = [f1((grams(o, n) & grams(r, n)).total(), grams(o, n).total(), grams(r, n).total()) for o, r in pairs]
        assert scores[f"rouge{n}"] == pytest.approx(100 * np.mean(values), abs=1e-9)
    values = [f1(longest_common_subsequence(o, r), len(o), len(r)) for o, r in pairs]
    assert scores["rouge_l"] == pytest.approx(100 * np.mean(values), abs=1e-9)


def test_tokens():
    assert tokens_of("用BERT-base做 2020年的题。") == ["用", "bert", "-", "base", "做", "2020", "年", "的", "题", "。"]
    assert tokens_of("ａ １２\u3000カナ𠮷_x") == ["ａ", "１２", "カ", "ナ", "𠮷", "_x"]
    assert tokens_of(" \n") == []


def test_edges():
    """Empty outputs score 0 and break nothing; all metrics together."""
    scores = score_texts(["", "天"], ["天下", "地上"])
    assert set(scores) == {"bleu", "chrf", "rouge1", "rouge2", "rouge_l"}
    assert set(scores.values()) == {0.0}
    assert score_texts(["天下"], ["天下"], ["rouge"]) == {"rouge1": 100.0, "rouge2": 100.0, "rouge_l": 100.0}
    assert score_texts(["天下"], ["天下"], []) == {}


def test_mistakes(monkeypatch):
    for outputs, references, message in (
        (["a"], [], "as many outputs as references"),
        ([], [], "at least one"),
        ("ab", ["a", "b"], "must be a list of texts"),
        (["a", 3], ["a", "b"], r"outputs\[1\]"),
    ):
        for score in (bleu, chrf, rouge):
            with pytest.raises(DataError, match=message):
                score(outputs, references)
    with pytest.raises(ConfigError, match="tokenizer 'moon'"):
        bleu(["a"], ["a"], tokenize="moon")
    with pytest.raises(ConfigError, match="metrics"):
        score_texts(["a"], ["a"], ["meteor"])
    for module, score in (("sacrebleu.metrics", bleu), ("rouge_score.rouge_scorer", rouge)):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ConfigError, match=r"pip install 'kexue\[metrics\]'"):
            score(["a"], ["a"])
