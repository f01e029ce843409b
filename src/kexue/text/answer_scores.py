"""Scores of answers to questions: exact match and F1 of CMRC 2018, and the metric of SogouQA.

Both compare a predicted text with several accepted ones and take the best. Where a question has no accepted answer, the
empty text is right and any other wrong, as in SQuAD 2.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kexue.errors import DataError

__all__ = [
    "AnswerScores",
    "answer_f1",
    "exact_match",
    "score_answers",
    "segments",
    "sogou_accuracy",
    "sogou_f1",
]

# What the evaluation of CMRC 2018 leaves out before it compares. (Its list has "……" too, which no character equals.)
_LEFT_OUT = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")

_SOGOU = frozenset(
    " `^~<=>|_-,;:!?/.'\"()[]{}@$*\\&#%+\n…‰※•—‖‘’“”№←↑→↓∴∨∵∶∩∈∑√∞≯≡≮≤≥≈≌⊥⊙⌒□◆◇◎●★☆♀♂¨°·§¤±"
    "\u3000、。〃々〈〉《》「」『』【】〓〔〕〖〗÷×′▲″△∠≠■ˇˉ￣￥＿！＄（），．：；？～﹑￠"
)
"""Characters that count as blanks in SogouQA's metric."""


@dataclass(frozen=True)
class AnswerScores:
    """Means over the questions, in [0, 1].

    Attributes:
        exact: exact match of CMRC 2018.
        f1: F1 of CMRC 2018.
        accuracy: accuracy of SogouQA, over the questions that have an answer.
        sogou_f1: F1 of SogouQA, over the same.
        answered: share of the questions for which an answer was given.
        count: questions.
    """

    exact: float
    f1: float
    accuracy: float
    sogou_f1: float
    answered: float
    count: int

    @property
    def final(self) -> float:
        """Mean of the two scores of SogouQA."""
        return (self.accuracy + self.sogou_f1) / 2

    def as_dict(self) -> dict[str, float | int]:
        """All of them, ready for JSON."""
        names = ("exact", "f1", "accuracy", "sogou_f1", "final", "answered", "count")
        return {name: getattr(self, name) for name in names}

    def table(self) -> str:
        """Three lines of plain text."""
        return (
            f"CMRC 2018  exact match {self.exact:.4f}  F1 {self.f1:.4f}\n"
            f"SogouQA    accuracy    {self.accuracy:.4f}  F1 {self.sogou_f1:.4f}  final {self.final:.4f}\n"
            f"{self.count:,} questions, {self.answered:.1%} answered"
        )


def score_answers(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> AnswerScores:
    """Scores of a data set.

    Args:
        predictions: one text a question, "" for no answer.
        answers: the accepted answers of each question; none: there is no answer.

    Raises:
        DataError: no questions, or not as many of both.
    """
    if len(predictions) != len(answers) or not predictions:
        raise DataError(
            f"expected as many predictions as questions, at least one. Received: {len(predictions)} predictions and "
            f"{len(answers)} questions"
        )
    pairs = list(zip(predictions, answers, strict=True))
    open_ones = [(text, accepted) for text, accepted in pairs if accepted]
    total, some = len(pairs), max(len(open_ones), 1)
    return AnswerScores(
        exact=sum(exact_match(*pair) for pair in pairs) / total,
        f1=sum(answer_f1(*pair) for pair in pairs) / total,
        accuracy=sum(sogou_accuracy(*pair) for pair in open_ones) / some,
        sogou_f1=sum(sogou_f1(*pair) for pair in open_ones) / some,
        answered=sum(bool(text) for text, _ in pairs) / total,
        count=total,
    )


# ---------------------------------------------------------------- CMRC 2018


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 if the prediction is one of the answers up to case, punctuation and blanks at the ends.

    Source: the evaluation script of CMRC 2018, Cui et al., arXiv 1810.07366.
    """

    def plain(text: str) -> str:
        return "".join(c for c in text.lower().strip() if c not in _LEFT_OUT)

    if not answers:
        return float(not plain(prediction))
    return float(any(plain(prediction) == plain(answer) for answer in answers))


def answer_f1(prediction: str, answers: Sequence[str]) -> float:
    """Greatest F1 over the answers, of the longest contiguous run of `segments` that both texts share.

    With c segments in that run, precision c / (segments of the prediction), recall c / (segments of the answer).

    Source: as `exact_match`.
    """
    predicted = segments(prediction)
    if not answers:
        return float(not predicted)
    best = 0.0
    for answer in answers:
        gold = segments(answer)
        common = longest_common_run(predicted, gold)
        if common:
            best = max(best, 2 * common / (len(predicted) + len(gold)))
    return best


def segments(text: str) -> list[str]:
    """Lower-case Chinese characters one by one, and the words of what stands between them; no punctuation.

    Punctuation is dropped first, so that "3.5-inch" is one run; the runs are cut into words by the rules of the Penn
    Treebank, as NLTK does, each as one sentence.
    """
    pieces: list[str] = []
    run = ""
    for c in text.lower().strip():
        if c in _LEFT_OUT:
            continue
        if "\u4e00" <= c <= "\u9fa5":
            pieces += [*_words(run), c]
            run = ""
        else:
            run += c
    return pieces + _words(run)


_TREEBANK = (
    (r"^\"", "`` "),
    (r"([ (\[{<])(\"|'{2})", r"\1 `` "),
    (r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", r"' "),
    (r"([,])([^\d])", r" \1 \2"),
    (r"([,])$", r" \1 "),
    (r"\.{2,}", r" \g<0> "),
    (r"[;@#$%&\u2012-\u2015«»‘’„]", r" \g<0> "),
    (r"([^\.])(\.)([\]\)}>\"'»”’ ]*)\s*$", r"\1 \2 \3 "),
    (r"[?!]", r" \g<0> "),
    (r"([^'])' ", r"\1 ' "),
    (r"[\]\[(){}<>]", r" \g<0> "),
    (r"\"", " '' "),
    (r"([^' ])('s|'m|'d|') ", r"\1 \2 "),
    (r"([^' ])('ll|'re|'ve|n't) ", r"\1 \2 "),
)
_RULES = tuple((re.compile(pattern), replacement) for pattern, replacement in _TREEBANK)


def _words(run: str) -> list[str]:
    if run.isalnum() or not run.strip():
        return run.split()
    for pattern, replacement in _RULES[:-2]:
        run = pattern.sub(replacement, run)
    run = f" {run} "
    for pattern, replacement in _RULES[-2:]:
        run = pattern.sub(replacement, run)
    return run.split()


def longest_common_run(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest contiguous run that both hold."""
    longest, before = 0, [0] * (len(second) + 1)
    for item in first:
        now = [0] * (len(second) + 1)
        for j, other in enumerate(second):
            if item == other:
                now[j + 1] = before[j] + 1
                longest = max(longest, now[j + 1])
        before = now
    return longest


# ---------------------------------------------------------------- SogouQA


def _half_width(text: str) -> str:
    return "".join(" " if c == "\u3000" else chr(ord(c) - 0xFEE0) if "\uff01" <= c <= "\uff5e" else c for c in text)


def _blanked(text: str) -> str:
    return "".join(" " if c in _SOGOU else c for c in text)


def _normal(text: str) -> str:
    return re.sub(r"\s+", "", _blanked(_half_width(text).lower()))


def sogou_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """1 if the normal form of the prediction is an answer or the normal form of one, or if both name the same set.

    The normal form: half-width, lower-case, without punctuation and blanks. The sets are those of the parts between
    blanks and punctuation. An empty prediction scores 0.

    Source: the scorer that comes with kexue.fm article 5409's data; used in 7115.
    """
    prediction = prediction.strip()
    if not prediction:
        return 0.0

    def parts(text: str) -> set[str]:
        return {_normal(part) for part in _blanked(text).lower().split(" ")}

    accepted = {*answers, *map(_normal, answers)}
    return float(_normal(prediction) in accepted or any(parts(prediction) == parts(answer) for answer in answers))


def sogou_f1(prediction: str, answers: Sequence[str]) -> float:
    """Greatest F1 over the answers of the characters of normal forms, counted with their multiplicities.

    Source: as `sogou_accuracy`.
    """
    predicted = Counter(_normal(prediction.strip()))
    best = 0.0
    for answer in answers:
        gold = Counter(_normal(answer))
        common = (predicted & gold).total()
        if common:
            best = max(best, 2 * common / (predicted.total() + gold.total()))
    return best
