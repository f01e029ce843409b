"""A generated data set for entity recognition: Chinese weather and travel notices.

It has the pattern on which the GlobalPointer article shows what relative positions are for: weather reports that list
many places. Each place is an entity of the same type, so a model that scores starts and ends without knowing how far
apart they are pairs the start of one with the end of another. The notices are nested too: an organisation contains its
place (``[[青阳]气象局]``), a route its two ends (``[[青阳]至[临河]高铁]``), a warning its phenomenon
(``[[暴雨]橙色预警]``).

Labels: ``地点`` place, ``机构`` organisation, ``景点`` sight, ``路线`` route, ``时间`` time, ``天气`` phenomenon,
``预警`` warning, ``数值`` measured value.

Offsets are exact by construction: the text is built piece by piece, and an entity is the stretch between two moments of
that. Names of places are composed of syllables; which pairs of syllables may occur depends on the split, so the names
of the validation and test set never occur in training, though each of their characters does.

Source: kexue.fm article 8373 (GlobalPointer); arXiv 2208.03054. The sentences were written for kexue.
"""

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

from kexue.demo import words
from kexue.errors import ConfigError

__all__ = ["LABELS", "SPECIALS", "Split", "datasets", "generate", "place_stems", "vocabulary"]

Split = Literal["train", "valid", "test"]

LABELS = ("地点", "机构", "景点", "路线", "时间", "天气", "预警", "数值")
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

LENGTHS = (20, 120)
"""Shortest and longest notice, in characters."""

LONGEST_LIST = 12
PLAIN_SHARE = 0.08  # sentences without an entity
_SLOT = re.compile(r"\{(\w+)\}")


def _split_of(first: int, second: int) -> Split:
    """The split that owns a pair of syllables: 14 of 20 train, 2 validate, 4 test; every syllable is in each."""
    cell = (first * 7 + second * 3) % 20
    return "train" if cell < 14 else "valid" if cell < 16 else "test"


def place_stems(split: Split) -> list[str]:
    """The two-character names, without 市, 县 and the like, that places of this split are made of."""
    if split not in get_args(Split):
        raise ConfigError(f"split must be one of {get_args(Split)}. Received: split={split!r}")
    return [
        a + b
        for i, a in enumerate(words.FIRST)
        for j, b in enumerate(words.SECOND)
        if a != b and _split_of(i, j) == split
    ]


class _Notice:
    """A text under construction with its entities."""

    def __init__(self, rng: random.Random, stems: list[str]) -> None:
        self.rng = rng
        self.stems = stems
        self.text = ""
        self.warned = ""  # phenomenon of the latest warning
        self.entities: list[dict[str, Any]] = []

    # Building blocks.

    def say(self, *choices: str) -> None:
        self.text += self.rng.choice(choices)

    @contextmanager
    def entity(self, label: str) -> Iterator[None]:
        start = len(self.text)
        yield
        self.entities.append({"start": start, "end": len(self.text), "label": label})

    def fill(self, template: str) -> None:
        """Write a template; text and names of slots alternate in the split."""
        for index, part in enumerate(_SLOT.split(template)):
            if index % 2:
                getattr(self, part)()
            else:
                self.text += part

    def names(self, count: int) -> list[str]:
        """Different stems, a few of them with a third syllable."""
        stems = self.rng.sample(self.stems, count)
        return [s + self.rng.choice(words.THIRD) if self.rng.random() < 0.1 else s for s in stems]

    def listing(self, count: int, item: Callable[[int], None]) -> None:
        """``a、b、c和d``: one separator all through, perhaps another word before the last."""
        comma = self.rng.choice(words.COMMAS)
        last = self.rng.choice((comma, comma, *words.LAST_COMMAS))
        for index in range(count):
            if index:
                self.say(last if index == count - 1 else comma)
            item(index)

    def number(self, kind: str, low: int, high: int, step: int = 1) -> None:
        """A value such as ``12℃``, or a range."""
        unit = words.UNITS[kind]
        with self.entity("数值"):
            value = self.rng.randrange(low, high + 1, step)
            if self.rng.random() < 0.35:
                more = value + step * self.rng.randint(1, 4)
                self.text += f"{value}{self.rng.choice(words.RANGES)}{more}{unit}"
            else:
                self.text += f"{value}{unit}"

    # Slots: places.

    def _place(self, name: str, ending: str = "") -> None:
        with self.entity("地点"):
            self.text += name + (ending if len(name) == 2 else "")

    def _ending(self) -> str:
        return self.rng.choice(words.PLACE_ENDINGS) if self.rng.random() < 0.5 else ""

    def place(self) -> None:
        if self.rng.random() < 0.15:  # a county and its city, side by side
            city, county = self.names(2)
            self._place(city, "市")
            self._place(county, self.rng.choice(("县", "区", "镇")))
        else:
            self._place(self.names(1)[0], self._ending())

    def places(self) -> None:
        self._list_places(self.rng.randint(1, 4))

    def many(self) -> None:
        self._list_places(self.rng.randint(4, LONGEST_LIST))

    def _list_places(self, count: int) -> None:
        names = self.names(count)
        style = self.rng.choice(("bare", "bare", "same", "mixed", "parts"))
        same = self.rng.choice(words.PLACE_ENDINGS)

        def item(index: int) -> None:
            if style == "mixed":
                self._place(names[index], self._ending())
            else:
                self._place(names[index], same if style == "same" else "")
            if style == "parts":
                self.say(*words.PARTS)

        self.listing(count, item)
        if count > 2 and self.rng.random() < 0.4:
            self.text += self.rng.choice(words.LIST_ENDINGS).format(count=count)

    def _readings(self, value: Callable[[], None]) -> None:
        names = self.names(self.rng.randint(3, 9))
        ending = self.rng.choice((*words.PLACE_ENDINGS, "", "", ""))

        def item(index: int) -> None:
            self._place(names[index], ending)
            value()

        self.listing(len(names), item)

    def temps(self) -> None:
        self._readings(self.temp)

    def rains(self) -> None:
        self._readings(self.rain)

    def winds(self) -> None:
        self._readings(self.wind)

    # Slots: what contains a place.

    def org(self) -> None:
        self._org(words.ORG_ENDINGS, words.NATIONAL_ORGS)

    def met(self) -> None:
        self._org(words.MET_ENDINGS, words.NATIONAL_METS)

    def _org(self, endings: tuple[str, ...], national: tuple[str, ...]) -> None:
        with self.entity("机构"):
            if self.rng.random() < 0.15:
                self.say(*national)
            else:
                self._place(self.names(1)[0], self.rng.choice(("", "市", "县")))
                self.say(*endings)

    def spot(self) -> None:
        with self.entity("景点"):
            self._place(self.names(1)[0])
            self.say(*words.SPOT_ENDINGS)

    def route(self) -> None:
        with self.entity("路线"):
            start, end = self.names(2)
            self._place(start)
            self.say(*words.ROUTE_LINKS)
            self._place(end)
            self.say(*words.ROUTE_ENDINGS)

    def orgs(self) -> None:
        self.listing(self.rng.randint(2, 4), lambda _: self.org())

    def spots(self) -> None:
        self.listing(self.rng.randint(2, 5), lambda _: self.spot())

    def routes(self) -> None:
        self.listing(self.rng.randint(1, 4), lambda _: self.route())

    # Slots: time and weather.

    def time(self) -> None:
        rng = self.rng
        day, hour = rng.randint(1, 27), rng.randint(0, 22)
        with self.entity("时间"):
            self.text += rng.choice(words.TIME_FORMS).format(
                date=rng.choice(words.DAYS),
                part=rng.choice(words.DAY_PARTS),
                span=rng.choice(words.SPANS),
                month=rng.randint(1, 12),
                day=day,
                next=day + 1,
                later=rng.randint(day + 1, 28),
                hour=hour,
                evening=rng.randint(hour + 1, 23),
                any=rng.randint(0, 23),
                minute=rng.randint(1, 59),
            )

    def _phenomenon(self, word: str) -> None:
        with self.entity("天气"):
            self.text += word

    def weather(self) -> None:
        """Mostly what the warning of the same notice was about."""
        same = self.warned and self.rng.random() < 0.7
        self._phenomenon(self.warned if same else self.rng.choice(words.PHENOMENA))

    def weathers(self) -> None:
        chosen = self.rng.sample(words.PHENOMENA, self.rng.randint(2, 4))
        self.listing(len(chosen), lambda index: self._phenomenon(chosen[index]))

    def gale(self) -> None:
        self.wind()
        self._phenomenon(self.rng.choice(words.GALES))

    def warning(self) -> None:
        self.warned = self.rng.choice([word for word in words.WARNED if word != self.warned])
        self._warning(self.rng.choice(words.COLOURS))

    def _warning(self, colour: str) -> None:
        with self.entity("预警"):
            self._phenomenon(self.warned)
            self.text += colour
            self.say(*words.WARNING_ENDINGS)

    def upgrade(self) -> None:
        self.warned = self.rng.choice(words.WARNED)
        low, high = sorted(self.rng.sample(range(len(words.COLOURS)), 2))
        self._warning(words.COLOURS[low])
        self.text += words.UPGRADED
        self._warning(words.COLOURS[high])

    # Slots: values.

    def temp(self) -> None:
        self.number("temp", 1, 34)

    def drop(self) -> None:
        self.number("drop", 3, 14)

    def wind(self) -> None:
        self.number("wind", 4, 12)

    def rain(self) -> None:
        self.number("rain", 5, 260, 5)

    def snow(self) -> None:
        self.number("snow", 2, 40)

    def view(self) -> None:
        self.number("view", 50, 900, 50)

    def speed(self) -> None:
        self.number("speed", 30, 80, 10)

    def length(self) -> None:
        self.number("length", 3, 400)

    def plain(self) -> None:
        """A sentence without an entity."""
        clauses = self.rng.sample(words.PLAIN_CLAUSES, self.rng.randint(2, 4))
        *between, end = words.PLAIN_MARKS
        self.text += self.rng.choice(between).join(clauses) + end


def generate(count: int, seed: int, split: Split = "train") -> list[dict[str, Any]]:
    """Make notices; the same arguments give the same notices on every machine.

    Args:
        count: how many; no two are equal. A larger count begins with the notices of a smaller one.
        seed: of the random choices.
        split: whose place names are used, see `place_stems`.

    Returns:
        ``[{"text": str, "entities": [{"start": int, "end": int, "label": str}]}]``; ``end`` is exclusive, entities
        are sorted by start, the outer before the inner. Texts are 20 to 120 characters long.

    Raises:
        ConfigError: ``count`` is negative or the split is unknown.
    """
    if count < 0:
        raise ConfigError(f"count must be 0 or more. Received: count={count}")
    stems = place_stems(split)
    rng = random.Random(f"kexue notices {seed} {split}")
    notices: list[dict[str, Any]] = []
    seen: set[str] = set()
    while len(notices) < count:
        notice = _Notice(rng, stems)
        if rng.random() < PLAIN_SHARE:
            notice.plain()
        else:
            notice.fill(rng.choice(words.TEMPLATES))
        if notice.text in seen or not LENGTHS[0] <= len(notice.text) <= LENGTHS[1]:
            continue
        seen.add(notice.text)
        entities = sorted(notice.entities, key=lambda e: (e["start"], -e["end"]))
        notices.append({"text": notice.text, "entities": entities})
    return notices


def datasets(train: int = 4000, valid: int = 500, test: int = 500, seed: int = 0) -> dict[Split, list[dict[str, Any]]]:
    """The three sets of the demonstration; no place name of one occurs in another.

    Args:
        train: number of training notices.
        valid: number of validation notices.
        test: number of test notices.
        seed: of the random choices.

    Returns:
        ``{"train": [...], "valid": [...], "test": [...]}``, each as from `generate`.
    """
    return {
        "train": generate(train, seed, "train"),
        "valid": generate(valid, seed, "valid"),
        "test": generate(test, seed, "test"),
    }


def vocabulary() -> list[str]:
    """A WordPiece vocabulary that covers every notice: `SPECIALS`, then single characters in code-point order.

    A run of digits and units that are neither ideographs nor punctuation is one word to WordPiece (``12℃``); for those
    characters the continuation (``##2``) is listed too.
    """
    inside_words = "0123456789" + "℃～"
    texts: list[str] = [inside_words]
    for name, value in vars(words).items():
        if not name.startswith("_"):
            texts.extend(value.values() if isinstance(value, dict) else value)
    characters = set(_SLOT.sub("", "".join(texts)))
    return [*SPECIALS, *sorted(characters), *(f"##{c}" for c in inside_words)]
