"""Constraints against their definitions: every sequence of a small vocabulary, one by one."""

import itertools
import re
from collections.abc import Callable, Sequence

import keras
import numpy as np
import pytest
from keras import ops

from kexue.decoding.constraints import Automaton, Constraint, Contains, Regex, Source, SpanOfSource, Trie
from kexue.errors import ConfigError

many = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="each shape is a compilation; test_generation.py has them in a loop"
)
SIZE, STOP = 5, 0
TEXTS = [None, "a", "b", "ab", "c1"]


def accepted(constraint: Constraint, source: Sequence[int], room: int, size: int = SIZE) -> set[tuple[int, ...]]:
    """Sequences of tokens 1 .. that may be generated, with a stop token after them in ``room``."""
    tables, state = constraint.prepare([Source(np.array(source, "int32"))], size)
    tables = keras.tree.map_structure(ops.convert_to_tensor, tables)
    texts: list[tuple[int, ...]] = [()]
    state = keras.tree.map_structure(lambda x: ops.convert_to_tensor(x)[:, None], state)
    found = set()
    for left in range(room, 0, -1):
        may, ends = constraint.allowed(tables, state, ops.convert_to_tensor(np.array([[left]], "int32")), size)
        shape = (1, len(texts), size)
        may = np.array(np.broadcast_to(ops.convert_to_numpy(may), shape)[0])
        ends = np.broadcast_to(ops.convert_to_numpy(ends), shape[:2])[0]
        found |= {text for text, end in zip(texts, ends, strict=True) if end}
        may[:, STOP] = False
        pairs = np.argwhere(may)
        if not len(pairs) or left == 1:
            break
        parents, tokens = (ops.convert_to_tensor(column.astype("int32")[None]) for column in pairs.T)
        state = keras.tree.map_structure(lambda x, at=parents: ops.take(x, at[0], axis=1), state)
        state = constraint.advance(tables, state, tokens)
        texts = [(*texts[p], int(t)) for p, t in pairs]
    return found


def every(room: int, size: int = SIZE) -> list[tuple[int, ...]]:
    return [t for n in range(room) for t in itertools.product(range(1, size), repeat=n)]


def contains(text: Sequence[int], word: Sequence[int]) -> bool:
    return any(tuple(text[i : i + len(word)]) == tuple(word) for i in range(len(text) - len(word) + 1))


WORDS = [(1, 1, 2), (2, 3), (4,), (1, 2, 4)]
SOURCE = [1, 2, 1, 2, 3, 0, 4, 4, 1]
CASES: dict[str, tuple[Callable[[], Constraint], Callable[[tuple[int, ...]], bool]]] = {
    "trie": (lambda: Trie(WORDS), lambda t: t in WORDS),
    "trie with empty": (lambda: Trie([(), (3, 3)]), lambda t: t in ((), (3, 3))),
    "span": (lambda: SpanOfSource([0]), lambda t: contains(SOURCE[:5], t) or contains(SOURCE[6:], t)),
    "span of the second part": (
        lambda: SpanOfSource([0], part=[1], empty=False), lambda t: bool(t) and contains(SOURCE[6:], t),
    ),
    "contains": (lambda: Contains([(1, 2), (3,)]), lambda t: contains(t, (1, 2)) and contains(t, (3,))),
    "both": (
        lambda: SpanOfSource([0]) & Contains([(2,)]),
        lambda t: contains(t, (2,)) and (contains(SOURCE[:5], t) or contains(SOURCE[6:], t)),
    ),
    "automaton": (
        lambda: Automaton([[-1, 1, -1, -1, -1], [-1, -1, 0, -1, -1]], [True, False]),
        lambda t: t == (1, 2) * (len(t) // 2),
    ),
}  # fmt: skip


@many
@pytest.mark.parametrize("name", CASES)
def test_definition(name: str) -> None:
    """Exactly the sequences that the definition names, save those that there is no room to end."""
    make, holds = CASES[name]
    room = 5
    assert accepted(make(), SOURCE, room) == {t for t in every(room) if holds(t)}


@many
@pytest.mark.parametrize(
    "pattern",
    [
        "a*b",
        "(a|b)+c1",
        "[^c]{2,3}",
        "a?b?(ab)?",
        "c\\d|\\w{1,2}",
        ".{4,}",
        "(?:ab|c1){2}",
        "a{0}b",
        "(a*b*)*",
        "a{2,}",
        "[ab]1?|",
    ],
)
def test_regex(pattern: str) -> None:
    """The module `re` on the text of each sequence of tokens."""
    room = 5
    expected = {t for t in every(room) if re.fullmatch(pattern, "".join(TEXTS[n] for n in t))}
    assert accepted(Regex(pattern, TEXTS), SOURCE, room) == expected


@many
@pytest.mark.parametrize("words", [[(1, 1, 2), (1, 2)], [(1, 2, 1, 2, 3)], [(1,), (2, 2)], [(1, 2, 1, 1)]])
def test_contains_overlaps(words: list[tuple[int, ...]]) -> None:
    """Words that overlap or repeat themselves are found where they stand, and nothing without them ends."""
    room, size = 7, 4
    found = accepted(Contains(words), SOURCE, room, size)
    assert found
    assert all(all(contains(t, w) for w in words) for t in found)
    # What is left out needs overlaps for want of room.
    short = room - sum(map(len, words)) + min(map(len, words))
    assert {t for t in every(short, size) if all(contains(t, w) for w in words)} <= found


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Trie([]), "at least one sequence"),
        (lambda: Contains([]), "at least one token"),
        (lambda: Contains([[]]), "at least one token"),
        (lambda: Automaton([[1, 1], [1, 1]], [False, False]), "no end can be reached"),
        (lambda: Automaton([[2, 1], [1, 1]], [True, False]), "between -1 and 1"),
        (lambda: Automaton([0, 1], [True, False]), "shape"),
        (lambda: Regex("(a", TEXTS), "is missing"),
        (lambda: Regex("a)", TEXTS), r"unexpected '\)'"),
        (lambda: Regex("*a", TEXTS), "nothing to repeat"),
        (lambda: Regex("[a", TEXTS), "is missing"),
        (lambda: Regex("a{2,1}", TEXTS), "m <= n"),
        (lambda: Regex("a{x}", TEXTS), "must begin"),
        (lambda: Regex("^a$", TEXTS), "whole text"),
        (lambda: Regex("a+?", TEXTS), "second quantifier"),
        (lambda: Regex("(?=a)", TEXTS), "plain groups"),
        (lambda: Regex("a\\b", TEXTS), "one character"),
        (lambda: Regex("[b-a]", TEXTS), "bad character range"),
        (lambda: Regex("x", TEXTS), "no end can be reached"),
        (lambda: Regex("(a{100}){100}{1,3}", TEXTS), "second quantifier"),
        (lambda: Regex("((a{100}){100}){100}", TEXTS), "nodes"),
    ],
)
def test_errors(make: Callable[[], Constraint], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_sizes_are_checked() -> None:
    source = [Source(np.array([1]))]
    for constraint in (Trie([[9]]), Contains([[9]]), Automaton([[0]], [True])):
        with pytest.raises(ConfigError, match="token"):
            constraint.prepare(source, SIZE)
