"""Questions with passages as rows ``[CLS] part of a passage [SEP] question [SEP]``, and where answers stand in them."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kexue.decoding.arguments import whole
from kexue.errors import ConfigError, DataError
from kexue.tasks._windows import Document, Window
from kexue.text import DataWarning, Tokenizer

__all__ = [
    "Choices",
    "Question",
    "Sizes",
    "check_question",
    "check_questions",
    "documents",
    "draw_rows",
    "spans_in",
    "target_in",
]

NAMES = ("max_passage", "max_question", "stride")


class Sizes(NamedTuple):
    """Greatest lengths in tokens.

    Attributes:
        passage: of a part of a passage with its special tokens, [CLS] and [SEP].
        question: of the question with its [SEP].
        stride: from a part of a passage to the next.
    """

    passage: int
    question: int
    stride: int

    @classmethod
    def checked(cls, tokenizer: Tokenizer, passage: int, question: int, stride: int | None) -> "Sizes":
        """Sizes that can work; the default stride is half of the room for the passage.

        Raises:
            ConfigError: they leave no room.
        """
        passage, question = whole(passage, "max_passage"), whole(question, "max_question")
        around = tokenizer.special_count(pair=True) - 1
        room = passage - around
        if room < 1 or question < 2:
            raise ConfigError(
                f"max_passage must be above {around} (its special tokens) and max_question at least 2. Received: "
                f"max_passage={passage}, max_question={question}"
            )
        stride = max(room // 2, 1) if stride is None else whole(stride, "stride")
        if not 1 <= stride <= room:
            raise ConfigError(f"stride must lie in [1, {room}] for max_passage={passage}. Received: stride={stride}")
        return cls(passage, question, stride)


class Question(NamedTuple):
    """A checked record, see `kexue.text.read_reading`; spans are ``(passage, start, end)``."""

    question: str
    passages: tuple[str, ...]
    answers: tuple[str, ...] = ()
    spans: tuple[tuple[int, int, int], ...] = ()


def check_question(record: Any, where: str, answered: bool = False) -> Question:
    """A question with at least one passage, none of them empty.

    Raises:
        DataError: says what is wrong with it.
    """
    if not isinstance(record, Mapping):
        raise DataError(f'{where}: expected {{"question": str, "passages": [str, ...]}}. Received: {record!r:.80}')
    question, passages = record.get("question"), record.get("passages")
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"{where}: the question must be a text that is not empty. Received: {question!r:.80}")
    if isinstance(passages, str | Mapping) or not isinstance(passages, Iterable):
        raise DataError(f"{where}: the passages must be a list of texts. Received: {passages!r:.80}")
    passages = tuple(passages)
    if not passages:
        raise DataError(f"{where}: there are no passages to read. Give at least one.")
    for n, passage in enumerate(passages):
        if not isinstance(passage, str) or not passage.strip():
            raise DataError(f"{where}: passage {n} must be a text that is not empty. Received: {passage!r:.80}")
    if not answered:
        return Question(question, passages)
    answers = record.get("answers")
    if isinstance(answers, str) or not isinstance(answers, Sequence) or not all(isinstance(a, str) for a in answers):
        raise DataError(
            f"{where}: the answers must be a list of texts, an empty one for 'no answer'. Received: {answers!r:.80}"
        )
    spans = []
    for span in record.get("spans") or ():
        try:
            p, start, end = (int(span[name]) for name in ("passage", "start", "end"))
            fits = 0 <= p < len(passages) and 0 <= start < end <= len(passages[p])
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits:
            raise DataError(
                f'{where}: a span must be {{"passage": int, "start": int, "end": int}} inside its passage. '
                f"Received: {span!r:.80}"
            )
        spans.append((p, start, end))
    return Question(question, passages, tuple(a for a in answers if a.strip()), tuple(dict.fromkeys(spans)))


def check_questions(data: Any, what: str, answered: bool = False) -> list[Question]:
    """All records of a data set.

    Raises:
        DataError: none, or a broken one; the message names it.
    """
    if isinstance(data, str | Mapping) or not isinstance(data, Iterable):
        raise DataError(f"{what} must be a list of records with question and passages. Received: {data!r:.80}")
    found = [check_question(record, f"{what} {n}", answered) for n, record in enumerate(data)]
    if not found:
        raise DataError(f"{what} holds no questions.")
    return found


def documents(
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    sizes: Sizes,
    what: str,
    *,
    marks: Mapping[int, str] | None = None,
    cut: bool = True,
) -> list[list[Document]]:
    """The passages of each question, each cut into windows that end with the question.

    Args:
        tokenizer: of the model.
        questions: to encode.
        sizes: of the rows.
        what: names the questions in messages.
        marks: characters that the model reads as others, for ``str.translate``; one for one, so that places stay.
        cut: a question that is too long loses its end, with one warning; False: it is an error.

    Raises:
        DataError: a question or passage without a token, or a question that is too long.
    """
    texts = list(dict.fromkeys(text for q in questions for text in (q.question, *q.passages)))
    read = texts if marks is None else [text.translate(marks) for text in texts]
    pieces = dict(zip(texts, tokenizer.pieces(read), strict=True))
    room = sizes.question - 1
    long = 0
    found = []
    for n, one in enumerate(questions):
        asked = pieces[one.question]
        if not len(asked):
            raise DataError(f"{what} {n}: the question has no token in the vocabulary. Received: {one.question!r:.80}")
        if len(asked) > room:
            if not cut:
                raise DataError(
                    f"{what} {n}: the question has {len(asked)} tokens, and the reader takes {room} "
                    f"(max_question={sizes.question}). Shorten it."
                )
            long += 1
            asked = asked.cut(0, room)
        row = []
        for p, passage in enumerate(one.passages):
            if not len(pieces[passage]):
                raise DataError(f"{what} {n}: passage {p} has no token in the vocabulary. Received: {passage!r:.80}")
            row.append(_document(tokenizer, asked, pieces[passage], sizes))
        found.append(row)
    if long:
        warnings.warn(
            f"{long} of {len(questions)} questions of {what} are longer than max_question={sizes.question} and lost "
            "their end.",
            DataWarning,
            stacklevel=4,
        )
    return found


def _document(tokenizer: Tokenizer, question: Any, passage: Any, sizes: Sizes) -> Document:
    room = sizes.passage - (tokenizer.special_count(pair=True) - 1)
    windows = []
    for start in range(0, len(passage), sizes.stride):
        row = tokenizer.assemble(passage.cut(start, start + room), question)
        first, last = row.token_range()
        windows.append(Window(row.token_ids, first, start, last - first))
        if start + room >= len(passage):
            break
    whole = tokenizer.assemble(passage)
    first, last = whole.token_range()
    return Document(whole, first, last - first, tuple(windows))


def spans_in(question: Question, number: int, document: Document) -> list[tuple[int, int]]:
    """Where answers stand in a passage: half-open ranges of its tokens; those that tokens can express.

    The record's own places, or all occurrences of its answers where it has none.
    """
    text = document.encoding.texts[0]
    places = [(start, end) for p, start, end in question.spans if p == number]
    if not question.spans:
        for answer in question.answers:
            at = text.find(answer)
            while at >= 0:
                places.append((at, at + len(answer)))
                at = text.find(answer, at + 1)
    found = (document.encoding.token_span(*place) for place in dict.fromkeys(places))
    first = document.first
    return list(dict.fromkeys((span[0] - first, span[1] - first) for span in found if span is not None))


def target_in(
    question: Question, number: int, document: Document, window: Window, marks: Mapping[int, str]
) -> str | None:
    """The answer to generate from a window of passage ``number``; None where it holds none.

    Where the record says where answers stand, that of the first place inside the window. Otherwise the first answer
    all of whose parts, separated by blanks, occur in it, its parts joined by commas.
    """
    text = document.encoding.texts[0]  # with its marks
    if question.spans:
        for start, end in spans_in(question, number, document):
            if window.start <= start and end <= window.start + window.size:
                place = document.encoding.char_span(document.first + start, document.first + end)
                return None if place is None else text[slice(*place)]
        return None
    low, high = document.first + window.start, document.first + window.start + window.size
    here = text[document.encoding.offsets[low, 0] : document.encoding.offsets[high - 1, 1]]
    for answer in question.answers:
        parts = [part.translate(marks) for part in answer.split(" ") if part]
        if parts and all(part in here for part in parts):
            return ",".join(parts)
    return None


class Choices(NamedTuple):
    """The rows that a question may be trained on.

    Attributes:
        passages: for each passage the numbers of its rows.
        answered: the numbers of those that hold the answer.
    """

    passages: tuple[tuple[int, ...], ...]
    answered: frozenset[int]


def draw_rows(choices: Sequence[Choices], negatives: float | None, rng: np.random.Generator) -> np.ndarray:
    """One row for each question: of a random passage a random window.

    Args:
        choices: of the questions.
        negatives: None: as above; else rows without the answer are drawn with this probability where there are both
            kinds.
        rng: draws.
    """
    drawn = []
    for one in choices:
        rows = one.passages[rng.integers(len(one.passages))]
        if negatives is not None:
            every = [row for passage in one.passages for row in passage]
            kinds = [[row for row in every if (row in one.answered) is wanted] for wanted in (True, False)]
            kind = kinds[int(rng.random() < negatives)]
            rows = tuple(kind or every)
        drawn.append(rows[rng.integers(len(rows))])
    return np.asarray(drawn, np.int64)
