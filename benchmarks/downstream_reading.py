"""Extractive reading without a network: data, windows, answers from scores, exact match and F1 of CMRC 2018."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kexue.text import Encoding, Tokenizer
from kexue.text.answer_scores import longest_common_run

# What the evaluation of CMRC 2018 leaves out before it compares.
PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》…·、「」（）－～『』")
QUESTION = 40
"""Most tokens of a question; the rest is cut off."""


class Question(NamedTuple):
    """A question on a passage, with where its first answer stands (None: nowhere) and all accepted answers."""

    article: str
    passage: str
    question: str
    span: tuple[int, int] | None
    answers: tuple[str, ...]


def read_squad(path: Path) -> list[Question]:
    """Questions of a file in the format of SQuAD. A wrong ``answer_start`` is put right: the nearest occurrence."""
    found = []
    for number, article in enumerate(json.loads(path.read_text(encoding="utf-8"))["data"]):
        name = article.get("title") or str(number)
        for paragraph in article["paragraphs"]:
            passage = paragraph["context"]
            for item in paragraph["qas"]:
                answers = tuple(answer["text"] for answer in item["answers"])
                span = nearest(passage, answers[0], item["answers"][0]["answer_start"])
                found.append(Question(name, passage, item["question"], span, answers))
    return found


def nearest(passage: str, answer: str, place: int) -> tuple[int, int] | None:
    """The occurrence of ``answer`` that begins nearest to ``place``, as a range of characters."""
    starts = [i for i in range(len(passage)) if answer and passage.startswith(answer, i)]
    if not starts:
        return None
    start = min(starts, key=lambda i: abs(i - place))
    return start, start + len(answer)


def split_by_article(questions: Sequence[Question], share: float, seed: int) -> tuple[list[Question], list[Question]]:
    """``share`` of the articles with all their questions, and the others."""
    articles = sorted({q.article for q in questions})
    order = np.random.default_rng(seed).permutation(len(articles))
    first = {articles[i] for i in order[: round(share * len(articles))]}
    return [q for q in questions if q.article in first], [q for q in questions if q.article not in first]


def windows(tokenizer: Tokenizer, question: Question, length: int, stride: int) -> list[Encoding]:
    """``[CLS] question [SEP] part of the passage [SEP]``; every token of the passage is in at least one."""
    first, passage = tokenizer.plain_pieces([question.question, question.passage])
    first = first.cut(0, QUESTION)
    room = length - len(first) - tokenizer.special_count(pair=True)
    made = []
    for start in range(0, max(len(passage), 1), stride):
        made.append(tokenizer.assemble(first, passage.cut(start, start + room)))
        if start + room >= len(passage):
            break
    return made


def target(window: Encoding, span: tuple[int, int] | None) -> tuple[int, int] | None:
    """First and last token of the answer in a window, or None where it is not wholly inside."""
    found = None if span is None else window.token_span(*span, sequence=1)
    return None if found is None else (found[0], found[1] - 1)


def training_windows(
    tokenizer: Tokenizer, questions: Sequence[Question], length: int, stride: int, negatives: float, seed: int
) -> Iterator[tuple[Encoding, tuple[int, int]]]:
    """For each question a window with the answer and, for the share ``negatives`` of them, one without, whose target
    is the first token."""
    rng = np.random.default_rng(seed)
    for question in questions:
        pairs = [(window, target(window, question.span)) for window in windows(tokenizer, question, length, stride)]
        inside = [(window, place) for window, place in pairs if place is not None]
        outside = [window for window, place in pairs if place is None]
        if not inside:
            continue
        yield inside[rng.integers(len(inside))]
        if outside and rng.random() < negatives:
            yield outside[rng.integers(len(outside))], (0, 0)


def best_span(
    starts: np.ndarray, ends: np.ndarray, allowed: np.ndarray, longest: int
) -> tuple[float, tuple[int, int] | None]:
    """The greatest ``starts[i] + ends[j]``, both allowed and ``i <= j < i + longest``, and ``(i, j)``."""
    size = len(starts)
    i, j = np.arange(size)[:, None], np.arange(size)
    fits = allowed[:, None] & allowed & (i <= j) & (j < i + longest)
    if not fits.any():
        return -np.inf, None
    scores = np.where(fits, starts[:, None].astype("float64") + ends, -np.inf)
    place = np.unravel_index(int(scores.argmax()), scores.shape)
    return float(scores[place]), (int(place[0]), int(place[1]))


def answer(parts: Sequence[tuple[Encoding, np.ndarray]], longest: int) -> str:
    """The best answer over the windows of one question.

    Each window comes with ``(2, n)`` scores of first and last token. Windows are compared by how far their span is
    above their own first token, which stands for "not here".
    """
    best, text = -np.inf, ""
    for window, scores in parts:
        size = len(window)
        score, span = best_span(scores[0, :size], scores[1, :size], window.sequence_ids == 1, longest)
        score -= float(scores[0, 0]) + float(scores[1, 0])
        if span is not None and score > best:
            characters = window.char_span(span[0], span[1] + 1)
            if characters is not None:
                best, text = score, window.texts[1][slice(*characters)]
    return text


def segments(text: str) -> list[str]:
    """Lower-case Chinese characters one by one and other runs between them, without punctuation and white space."""
    pieces: list[str] = []
    run = ""
    for c in text.lower():
        chinese = "\u4e00" <= c <= "\u9fa5"
        if chinese or c in PUNCTUATION or c.isspace():
            pieces += [run] if run else []
            pieces += [c] if chinese else []
            run = ""
        else:
            run += c
    return [*pieces, run] if run else pieces


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 if the prediction is one of the answers up to case and punctuation."""

    def plain(text: str) -> str:
        return "".join(c for c in text.lower().strip() if c not in PUNCTUATION)

    return float(any(plain(prediction) == plain(answer) for answer in answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Greatest F1 over the answers, of the longest run of segments that prediction and answer share."""
    best = 0.0
    predicted = segments(prediction)
    for text in answers:
        gold = segments(text)
        common = longest_common_run(predicted, gold)
        if common:
            best = max(best, 2 * common / (len(predicted) + len(gold)))
    return best
