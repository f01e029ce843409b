"""Column files: a token and its tag on a line, a blank line between sentences."""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from kexue.errors import DataError
from kexue.text.characters import is_spaceless
from kexue.text.data.records import Example, check_example
from kexue.text.data.tags import from_tags, split_tag

__all__ = ["COLUMN_FORMATS", "ColumnReader", "looks_like_germeval"]

COLUMN_FORMATS = {"bio": "BI", "iob1": "BI", "bioes": "BIESLU", "bmes": "BMES", "bmeso": "BMES", "germeval": "BI"}
_CHUNKS = {"", "NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP"}  # phrases of CoNLL 2000
_DIGIT_MARKED = re.compile(r"\S[0-9]", re.DOTALL)  # Weibo: character and its place in the word


@dataclass
class Sentence:
    """Rows of one sentence: the fields and where they stood."""

    line: int
    rows: list[list[str]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    problem: tuple[int, str] | None = None


def fields_of(line: str) -> list[str]:
    """Fields at tabs if there is one, else at spaces. The token may itself be a space or an ideographic space."""
    if "\t" in line:
        return line.split("\t")
    parts = [part for part in line.split(" ") if part]
    return [" ", *parts] if line[0] == " " and len(parts) == 1 else parts


def sentences(lines: list[str | None]) -> Iterator[Sentence]:
    """Group the lines of a file."""
    current: Sentence | None = None
    for number, line in enumerate(lines, 1):
        if line is not None and (not line.strip(" \t") or line.startswith("-DOCSTART-")):
            if current is not None:
                yield current
            current = None
            continue
        current = current or Sentence(number)
        if line is None:
            current.problem = current.problem or (number, "not valid UTF-8")
        else:
            current.rows.append(fields_of(line))
            current.numbers.append(number)
    if current is not None:
        yield current


def _is_tag(text: str) -> bool:
    try:
        split_tag(text)
    except DataError:
        return False
    return True


def looks_like_germeval(lines: list[str | None]) -> bool:
    """Index, token, outer tag, inner tag; or without the index, where the first is not of phrase chunks."""
    rows: list[list[str]] = []
    for sentence in sentences(lines):
        rows += [row for row in sentence.rows if not (row[0].startswith("#") and not _is_tag(row[-1]))]
        if len(rows) >= 2000:
            break
    if not rows or {len(row) for row in rows} not in ({3}, {4}):
        return False
    if not all(_is_tag(row[-1]) and _is_tag(row[-2]) for row in rows):
        return False
    if len(rows[0]) == 4:
        return all(row[0].isdecimal() for row in rows)
    return not {split_tag(row[-2])[1] for row in rows} <= _CHUNKS


class ColumnReader:
    """Turns sentences into examples.

    Args:
        name: the file, for messages.
        lines: its lines.
        scheme: a key of `COLUMN_FORMATS`; None: found from the letters in use.
        columns: positions of the token and the tag.
        join: what stands between two tokens; None: nothing if nearly all tokens are single characters, else a space,
            save beside ideographs, kana and full-width punctuation.
        strict: refuse tag sequences that the scheme cannot produce.
        labels: permitted labels.
    """

    def __init__(
        self,
        name: str,
        lines: list[str | None],
        *,
        scheme: str | None,
        columns: tuple[int, int] | None,
        join: str | None,
        strict: bool,
        labels: Collection[str] | None,
    ) -> None:
        self.name = name
        self.strict = strict
        self.labels = labels
        self.repaired = 0
        self._good: set[str] = set()  # tags that passed all checks
        self.repaired_at: int | None = None
        self.sentences = list(sentences(lines))
        self.germeval = scheme == "germeval"
        if self.germeval:
            self._drop_comments()
        self.token_column, *self.tag_columns = self._columns(columns)
        tokens = Counter(self._token(row) for sentence in self.sentences for row in sentence.rows)
        total = sum(tokens.values())
        marked = sum(n for token, n in tokens.items() if token and _DIGIT_MARKED.fullmatch(token))
        self.digit_marked = total > 0 and marked >= 0.99 * total
        single = sum(n for token, n in tokens.items() if token is not None and len(token) == 1)
        self.join = join
        if join is None and (self.digit_marked or single >= 0.95 * total):
            self.join = ""
        self.scheme = scheme or self._find_scheme()

    def __iter__(self) -> Iterator[tuple[int, Example | DataError]]:
        for sentence in self.sentences:
            try:
                yield sentence.line, self._example(sentence)
            except DataError as error:
                yield sentence.line, error

    def _columns(self, columns: tuple[int, int] | None) -> tuple[int, ...]:
        if columns is not None:
            return tuple(columns)
        if self.germeval:
            width = Counter(len(row) for sentence in self.sentences for row in sentence.rows).most_common(1)
            return (1, 2, 3) if width and width[0][0] >= 4 else (0, 1, 2)
        return 0, -1

    def _drop_comments(self) -> None:
        """GermEval's lines ``# source [date]``; a token ``#`` has its index before it or its two tags behind."""
        for sentence in self.sentences:
            keep = [i for i, row in enumerate(sentence.rows) if not self._is_comment(row)]
            sentence.rows = [sentence.rows[i] for i in keep]
            sentence.numbers = [sentence.numbers[i] for i in keep]
        self.sentences = [sentence for sentence in self.sentences if sentence.rows or sentence.problem]

    @staticmethod
    def _is_comment(row: list[str]) -> bool:
        return row[0].startswith("#") and not (len(row) == 3 and _is_tag(row[1]) and _is_tag(row[2]))

    def _token(self, row: list[str]) -> str | None:
        return row[self.token_column] if len(row) > self.token_column else None

    def _find_scheme(self) -> str:
        """From the letters in use; without any B that IOB1 would not write, entities that open with I mean IOB1."""
        letters: Counter[str] = Counter()
        opened_by = Counter[str]()
        for sentence in self.sentences:
            before = ("O", "")
            for row in sentence.rows:
                tag = row[self.tag_columns[0]] if len(row) > 1 else "O"
                here = (tag[0], tag[2:]) if tag[1:2] in ("-", "_") else ("O", "")
                letters[here[0]] += 1
                opened_by[here[0]] += before[1] != here[1]
                before = here
        if letters["M"] > letters["I"]:
            return "bmes"
        if letters["E"] + letters["S"] + letters["L"] + letters["U"]:
            return "bioes"
        return "iob1" if opened_by["I"] and not opened_by["B"] else "bio"

    def _example(self, sentence: Sentence) -> Example:
        if sentence.problem:
            raise self._error(*sentence.problem)
        text, bounds, tags = "", [], [[] for _ in self.tag_columns]  # type: ignore[var-annotated]
        for number, row in zip(sentence.numbers, sentence.rows, strict=True):
            if len(row) < 2 or len(row) <= max(self.token_column, *self.tag_columns):
                raise self._error(number, f"expected a token and its tag, received {' '.join(row)!r}")
            token = row[self.token_column]
            if not token:
                raise self._error(number, "the token is empty")
            if self.digit_marked and _DIGIT_MARKED.fullmatch(token):
                token = token[0]
            if text:
                text += self._between(text[-1], token[0])
            bounds.append((len(text), len(text) + len(token)))
            text += token
            for column, found in zip(self.tag_columns, tags, strict=True):
                found.append(self._checked(row[column], number))
        spans = []
        for column_tags in tags:
            for start, end, label in self._spans(column_tags, sentence):
                spans.append((bounds[start][0], bounds[end - 1][1], label, None))
        return check_example(text, spans, None)

    def _spans(self, tags: list[str], sentence: Sentence) -> list[tuple[int, int, str]]:
        scheme = {"bmeso": "bmes", "germeval": "bio"}.get(self.scheme, self.scheme)
        if self.strict:
            try:
                return list(from_tags(tags, scheme, strict=True))  # type: ignore[arg-type]
            except DataError as error:
                position = int(str(error).split(":")[0].removeprefix("tag "))
                raise self._error(sentence.numbers[min(position, len(tags) - 1)], str(error)) from None
        spans = from_tags(tags)
        if scheme != "iob1":
            for span in spans:
                if tags[span.start][0] in "IMEL":
                    self.repaired += 1
                    self.repaired_at = self.repaired_at or sentence.numbers[span.start]
        return list(spans)

    def _checked(self, tag: str, number: int) -> str:
        if tag in self._good:
            return tag
        try:
            _, label = split_tag(tag)
        except DataError as error:
            raise self._error(number, str(error)) from None
        if tag != "O" and tag[0] not in COLUMN_FORMATS[self.scheme]:
            raise self._error(number, f"unknown tag {tag!r} in the scheme {self.scheme}")
        if "," in label:
            raise self._error(number, f"unknown tag {tag!r}: several tags in one column")
        if label and self.labels is not None and label not in self.labels:
            raise self._error(number, f"unknown label {label!r}. Expected one of: {', '.join(sorted(self.labels))}")
        self._good.add(tag)
        return tag

    def _between(self, left: str, right: str) -> str:
        if self.join is not None:
            return self.join
        return "" if is_spaceless(left) or is_spaceless(right) else " "

    def _error(self, number: int, message: str) -> DataError:
        return DataError(f"{self.name}:{number}: {message}")
