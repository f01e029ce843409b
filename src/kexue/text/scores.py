"""Generated text against references: BLEU and chrF of sacrebleu, ROUGE of rouge-score, on Chinese and other text.

All in percent. They need the extra ``kexue[metrics]``, which is imported when a score is asked for.
"""

import importlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from kexue.errors import ConfigError, DataError

__all__ = ["METRICS", "bleu", "chrf", "rouge", "score_texts", "tokens_of"]

METRICS = ("bleu", "chrf", "rouge")
_ROUGES = {"rouge1": "rouge1", "rouge2": "rouge2", "rouge_l": "rougeL"}
# Scripts written without spaces: ideographs of all planes with their radicals and marks, kana, bopomofo.
_PLANE = "\u2e80-\u2fff\u3001-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_ALONE = f"{_PLANE}\U00020000-\U000323af"
_TOKEN = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+|[^\w\s]")


def tokens_of(text: str) -> list[str]:
    """What `rouge` counts: lower-cased; an ideograph, a kana or a mark of punctuation alone, runs of other letters and
    digits together. White space only separates.

    >>> tokens_of("用BERT-base做2020年的题。")
    ['用', 'bert', '-', 'base', '做', '2020', '年', '的', '题', '。']
    """
    return _TOKEN.findall(text.lower())


class _Tokens:
    """`tokens_of` as a tokenizer of rouge-score, whose own keeps Latin letters only."""

    def tokenize(self, text: str) -> list[str]:
        return tokens_of(text)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"scores of generated text need sacrebleu and rouge-score ({error}): pip install 'kexue[metrics]'"
        ) from None


def _checked(outputs: Iterable[str], references: Iterable[str]) -> tuple[list[str], list[str]]:
    found = []
    for name, texts in (("outputs", outputs), ("references", references)):
        if isinstance(texts, str):
            raise DataError(f"{name} must be a list of texts. Received one text: {texts!r:.60}")
        found.append(list(texts))
        wrong = next((i for i, text in enumerate(found[-1]) if not isinstance(text, str)), None)
        if wrong is not None:
            raise DataError(f"{name}[{wrong}] must be a text. Received: {type(found[-1][wrong]).__name__}")
    if len(found[0]) != len(found[1]) or not found[0]:
        raise DataError(
            f"expected as many outputs as references, at least one. Received: {len(found[0])} and {len(found[1])}"
        )
    return found[0], found[1]


def _bleu(tokenize: str) -> Any:
    try:
        return _library("sacrebleu.metrics").BLEU(tokenize=tokenize)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"sacrebleu has no tokenizer {tokenize!r}: {error}") from None


def bleu(outputs: Iterable[str], references: Iterable[str], *, tokenize: str = "zh") -> float:
    """BLEU of the corpus, 0 to 100: ``BP exp(mean of log p_n, n = 1..4)`` with p_n the clipped precision of n-grams
    over all texts and BP ``exp(1 - r / c)`` where the outputs (c tokens) are shorter than the references (r).

    Args:
        outputs: generated texts.
        references: one each.
        tokenize: of sacrebleu: ``"zh"``, ideographs alone and other text as in Moses; ``"13a"``; ``"char"`` ...

    Raises:
        DataError: lists of different lengths, empty ones, or something that is not a text.
        ConfigError: sacrebleu is not installed, or has no such tokenizer.

    Source: Papineni et al., ACL 2002; sacrebleu, arXiv 1804.08771.
    """
    found, wanted = _checked(outputs, references)
    return float(_bleu(tokenize).corpus_score(found, [wanted]).score)


def chrf(outputs: Iterable[str], references: Iterable[str]) -> float:
    """chrF2 of the corpus, 0 to 100: F (recall weighs 2² times precision) of character n-grams, n = 1..6, counted
    over all texts, without white space.

    Args:
        outputs: generated texts.
        references: one each.

    Raises:
        DataError, ConfigError: as in `bleu`.

    Source: Popović, WMT 2015.
    """
    found, wanted = _checked(outputs, references)
    return float(_library("sacrebleu.metrics").CHRF().corpus_score(found, [wanted]).score)


def rouge(outputs: Iterable[str], references: Iterable[str]) -> dict[str, float]:
    """Mean F1 over the texts, 0 to 100, of shared unigrams (``rouge1``), bigrams (``rouge2``) and of the longest
    common subsequence (``rouge_l``), in the tokens of `tokens_of`.

    Args:
        outputs: generated texts.
        references: one each.

    Raises:
        DataError, ConfigError: as in `bleu`.

    Source: Lin, ACL workshop 2004.
    """
    found, wanted = _checked(outputs, references)
    scorer = _library("rouge_score.rouge_scorer").RougeScorer(list(_ROUGES.values()), tokenizer=_Tokens())
    rows = [scorer.score(reference, output) for output, reference in zip(found, wanted, strict=True)]
    return {name: 100.0 * sum(row[theirs].fmeasure for row in rows) / len(rows) for name, theirs in _ROUGES.items()}


def score_texts(
    outputs: Sequence[str], references: Sequence[str], metrics: Sequence[str] = METRICS, *, tokenize: str = "zh"
) -> dict[str, float]:
    """Several scores in one dict: ``bleu``, ``chrf``, ``rouge1``, ``rouge2``, ``rouge_l``.

    Args:
        outputs: generated texts.
        references: one each.
        metrics: some of `METRICS`.
        tokenize: see `bleu`.

    Raises:
        DataError, ConfigError: as in `bleu`; an unknown metric.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or isinstance(metrics, str):
        raise ConfigError(f"metrics must be some of {', '.join(METRICS)}. Received: metrics={metrics!r}")
    scores: dict[str, float] = {}
    for name in metrics:
        if name == "bleu":
            scores["bleu"] = bleu(outputs, references, tokenize=tokenize)
        elif name == "chrf":
            scores["chrf"] = chrf(outputs, references)
        else:
            scores |= rouge(outputs, references)
    return scores
