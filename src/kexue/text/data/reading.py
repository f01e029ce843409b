"""Reading comprehension: questions, passages and answers from the usual JSON files."""

import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kexue.errors import ConfigError, DataError
from kexue.text.data.records import iterate_json
from kexue.text.data.sources import DataWarning, read_lines, read_source

__all__ = ["READING_FORMATS", "nearest_occurrence", "read_reading", "split_reading"]

Record = dict[str, Any]
NO_ANSWER = "no_answer"
"""How WebQA writes that an evidence holds no answer."""


def read_reading(path: str | os.PathLike[str], format: str = "auto", *, split: str | None = None) -> list[Record]:
    """Read a data set of questions with passages.

    Formats:
        ``squad``: SQuAD 1 and 2, and whatever is in that style (CMRC 2018, DRCD); ``is_impossible`` gives no answers.
        ``cmrc``: CMRC 2018's own (a list of ``context_text`` with ``qas``). ``webqa``: an object of questions with
        ``evidences``; the answer ``no_answer`` counts as none. ``sogouqa``: a list of questions with ``passages``,
        each ``{"passage", "answer"}`` (also WebQA in the form of kexue.fm). ``jsonl``: kexue's records, one a line.
        ``auto`` looks at the content.

    A wrong ``answer_start`` is put right, to the nearest occurrence of the answer, with one warning for the file.

    Args:
        path: a file, ``.gz``, ``.xz``, ``archive.zip``, ``archive.zip/member``, or a folder (with ``split``).
        format: see above.
        split: ``"train"``, ``"valid"`` or ``"test"``: which file of a folder or archive.

    Returns:
        Records ``{"id": str, "question": str, "passages": [str, ...], "answers": [str, ...], "spans": [{"passage":
        int, "start": int, "end": int}, ...], "group": str}``. ``answers`` are different, all as good as the others;
        empty: there is none. ``spans`` are characters of passages, only for formats that have them. ``group`` is the
        article.

    Raises:
        DataError: names the file and the place of what is wrong; an empty file too.
        ConfigError: an unknown format.
    """
    if format not in READING_FORMATS:
        raise ConfigError(f"format must be one of {', '.join(READING_FORMATS)}. Received: format={format!r}")
    name, data = read_source(path, split)
    lines = read_lines(name, data)
    content: Any = None
    if format != "jsonl":
        content = _whole(name, lines, must=format != "auto")
    if format == "auto":
        format = _guess(name, content)
    moved: Counter[str] = Counter()
    found = list(_jsonl(name, lines)) if format == "jsonl" else list(_READERS[format](name, content, moved))
    if not found:
        raise DataError(f"{name}: no questions in it")
    if moved["moved"] or moved["lost"]:
        warnings.warn(
            f"{name}: {moved['moved']} answers do not stand where answer_start says, and were looked up nearby; "
            f"{moved['lost']} stand nowhere in their passage",
            DataWarning,
            stacklevel=2,
        )
    return found


def _whole(name: str, lines: list[str | None], must: bool) -> Any:
    if None in lines:
        raise DataError(f"{name}:{lines.index(None) + 1}: not valid UTF-8. Convert the file to UTF-8")
    try:
        return json.loads("\n".join(line or "" for line in lines))
    except json.JSONDecodeError as error:
        if not must:  # JSON Lines are more than one value
            return None
        raise DataError(
            f"{name}:{error.lineno}: not valid JSON at column {error.colno} ({error.msg}). Is the file complete?"
        ) from None
    except (RecursionError, ValueError) as error:
        raise DataError(f"{name}: not usable JSON ({error})") from None


def _guess(name: str, content: Any) -> str:
    if isinstance(content, dict) and isinstance(content.get("data"), list):
        return "squad"
    first: Any = None
    if isinstance(content, dict):
        first = next(iter(content.values()), None)
        if isinstance(first, dict) and "evidences" in first:
            return "webqa"
    if isinstance(content, list):
        first = next(iter(content), None)
        if isinstance(first, dict) and "context_text" in first:
            return "cmrc"
        passages = first.get("passages") if isinstance(first, dict) else None
        if isinstance(passages, list) and passages and isinstance(passages[0], dict):
            return "sogouqa"
    if content is None or isinstance(content, list) or "passages" in content or "question" in content:
        return "jsonl"
    raise DataError(
        f"{name}: not a known form of reading comprehension. Expected one of {', '.join(READING_FORMATS[1:])}"
    )


def nearest_occurrence(passage: str, answer: str, place: int) -> tuple[int, int] | None:
    """The occurrence of ``answer`` that begins nearest to ``place``, as a range of characters; None: there is none."""
    if not answer:
        return None
    before = passage.rfind(answer, 0, max(place, 0) + len(answer))
    after = passage.find(answer, max(place, 0))
    starts = [start for start in (before, after) if start >= 0]
    if not starts:
        return None
    start = min(starts, key=lambda i: abs(i - place))
    return start, start + len(answer)


def _get(value: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object. Received: {type(value).__name__}")
    if key not in value:
        raise DataError(f"{where} lacks the key {key!r}. It has: {', '.join(map(repr, value)) or 'none'}")
    if not isinstance(value[key], kind):
        raise DataError(f"{where}: {key!r} must be a {kind.__name__}. Received: {value[key]!r:.80}")
    return value[key]


def _text(value: Any, key: str, where: str) -> str:
    text = _get(value, key, str, where)
    if not text.strip():
        raise DataError(f"{where}: {key!r} is empty")
    return text


def _record(
    name: str, question: str, passages: Sequence[str], answers: Sequence[str], spans: Any, group: str
) -> Record:
    places = [{"passage": p, "start": s, "end": e} for p, s, e in dict.fromkeys(spans)]
    unique = list(dict.fromkeys(answer for answer in answers if answer.strip()))
    record: Record = {"id": name, "question": question, "passages": list(passages), "answers": unique}
    return record | {"spans": places, "group": group}


def _squad(name: str, content: Any, moved: Counter[str]) -> Iterator[Record]:
    for a, article in enumerate(_get(content, "data", list, name)):
        where = f"{name}, data[{a}]"
        title = article.get("title") if isinstance(article, dict) else None
        for p, paragraph in enumerate(_get(article, "paragraphs", list, where)):
            here = f"{where}.paragraphs[{p}]"
            passage = _text(paragraph, "context", here)
            for q, item in enumerate(_get(paragraph, "qas", list, here)):
                place = f"{here}.qas[{q}]"
                question = _text(item, "question", place)
                given = [] if item.get("is_impossible") else _get(item, "answers", list, place)
                answers, spans = [], []
                for n, answer in enumerate(given):
                    text = _get(answer, "text", str, f"{place}.answers[{n}]")
                    start = answer.get("answer_start", -1)
                    if isinstance(start, bool) or not isinstance(start, int):
                        raise DataError(f"{place}.answers[{n}]: 'answer_start' must be an integer. Received: {start!r}")
                    answers.append(text)
                    span = nearest_occurrence(passage, text, start)
                    moved["lost"] += span is None
                    if span is not None:
                        moved["moved"] += span[0] != start
                        spans.append((0, *span))
                yield _record(str(item.get("id", place)), question, [passage], answers, spans, str(title or here))


def _cmrc(name: str, content: Any, moved: Counter[str]) -> Iterator[Record]:
    for a, article in enumerate(content if isinstance(content, list) else [None]):
        where = f"{name}[{a}]"
        passage = _text(article, "context_text", where)
        for q, item in enumerate(_get(article, "qas", list, where)):
            place = f"{where}.qas[{q}]"
            given = _get(item, "answers", list, place)
            if not all(isinstance(answer, str | int | float) for answer in given):
                raise DataError(f"{place}: 'answers' must be strings. Received: {given!r:.80}")
            answers = [str(answer) for answer in given]  # the published file has a number among them
            found = [nearest_occurrence(passage, answer, 0) for answer in answers]
            moved["lost"] += sum(span is None for span in found)
            spans = [(0, *span) for span in found if span is not None]
            question = _text(item, "query_text", place)
            yield _record(str(item.get("query_id", place)), question, [passage], answers, spans, where)


def _webqa(name: str, content: Any, moved: Counter[str]) -> Iterator[Record]:
    if not isinstance(content, dict):
        raise DataError(f"{name}: expected an object of questions. Received: {type(content).__name__}")
    for key, item in content.items():
        where = f"{name}[{key!r}]"
        passages, answers = [], []
        evidences = _get(item, "evidences", dict, where)
        for part, evidence in evidences.items():
            here = f"{where}.evidences[{part!r}]"
            passages.append(_text(evidence, "evidence", here))
            given = _get(evidence, "answer", list, here)
            if not all(isinstance(answer, str) for answer in given):
                raise DataError(f"{here}: 'answer' must be a list of strings. Received: {given!r:.80}")
            answers += [answer for answer in given if answer != NO_ANSWER]
        if not passages:
            raise DataError(f"{where}: no evidences")
        yield _record(key, _text(item, "question", where), passages, answers, [], key)


def _sogouqa(name: str, content: Any, moved: Counter[str]) -> Iterator[Record]:
    if not isinstance(content, list):
        raise DataError(f"{name}: expected a list of questions. Received: {type(content).__name__}")
    for n, item in enumerate(content):
        where = f"{name}[{n}]"
        passages, answers = [], []
        for p, part in enumerate(_get(item, "passages", list, where)):
            here = f"{where}.passages[{p}]"
            passages.append(_text(part, "passage", here))
            if part.get("answer"):
                answers.append(_get(part, "answer", str, here))
        if isinstance(item.get("answer"), str):
            answers.append(item["answer"])
        if not passages:
            raise DataError(f"{where}: no passages")
        yield _record(str(item.get("id", n)), _text(item, "question", where), passages, answers, [], str(n))


def _jsonl(name: str, lines: list[str | None]) -> Iterator[Record]:
    for number, item in iterate_json(name, lines):
        where = f"{name}:{number}"
        if isinstance(item, DataError):
            raise DataError(f"{where}: {item}")
        question = _text(item, "question", where)
        passages, answers = _get(item, "passages", list, where), item.get("answers", [])
        for key, texts in (("passages", passages), ("answers", answers)):
            if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
                raise DataError(f"{where}: {key!r} must be a list of texts that are not empty. Received: {texts!r:.80}")
        if not passages:
            raise DataError(f"{where}: no passages")
        spans = []
        for span in item.get("spans", []):
            p, start, end = (_get(span, key, int, f"{where}, a span") for key in ("passage", "start", "end"))
            if not (0 <= p < len(passages) and 0 <= start < end <= len(passages[p])):
                raise DataError(f"{where}: a span lies outside its passage. Received: {span!r:.80}")
            spans.append((p, start, end))
        name_of = str(item.get("id", number))
        yield _record(name_of, question, passages, answers, spans, str(item.get("group", name_of)))


_READERS: dict[str, Callable[[str, Any, Counter[str]], Iterator[Record]]] = {
    "squad": _squad,
    "cmrc": _cmrc,
    "webqa": _webqa,
    "sogouqa": _sogouqa,
}
READING_FORMATS: tuple[str, ...] = ("auto", "jsonl", *_READERS)


def split_reading(records: Sequence[Record], share: float, seed: int = 0) -> tuple[list[Record], list[Record]]:
    """Cut into two parts that have no passage and no article in common.

    Records that share a passage or a ``group`` stay together, also over others.

    Args:
        records: as `read_reading` gives them.
        share: of the groups in the first part.
        seed: the same seed gives the same parts.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"share must lie in [0, 1]. Received: share={share}")
    parent = list(range(len(records)))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    first: dict[Any, int] = {}
    for n, record in enumerate(records):
        own = [("group", record["group"])] if "group" in record else []
        for key in (*own, *(("passage", passage) for passage in record["passages"])):
            parent[root(n)] = root(first.setdefault(key, n))
    roots = [root(n) for n in range(len(records))]
    names = list(dict.fromkeys(roots))
    order = np.random.default_rng(seed).permutation(len(names))
    chosen = {names[i] for i in order[: round(share * len(names))]}
    return (
        [record for record, name in zip(records, roots, strict=True) if name in chosen],
        [record for record, name in zip(records, roots, strict=True) if name not in chosen],
    )
