"""Results whose text matches a regular expression, over the characters of a vocabulary.

The expression becomes a nondeterministic automaton of characters (Thompson), that a deterministic one (subsets), and
that one of tokens: a token leads where its characters lead. Characters that no part of the expression tells apart are
one.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from kexue.decoding.constraints.automata import Automaton
from kexue.errors import ConfigError

__all__ = ["Regex"]

MOST_STATES = 2000
MOST_NODES = 20000
MOST_NESTED = 50
"""Of the automata; ``a{1000}{1000}`` must not fill the memory."""


class Regex(Automaton):
    """The result as a text matches ``pattern`` as a whole.

    Args:
        pattern: literals, ``.``, classes such as ``[a-z]`` and ``[^,]``, escapes of one character (``\\d``, ``\\w``,
            ``\\s`` and their opposites, ``\\.``), groups, ``|``, ``*``, ``+``, ``?``, ``{m}``, ``{m,}``, ``{m,n}``. No
            anchors, back references or look-around.
        texts: the text of each token of the model's vocabulary, None for those that may not come, such as [CLS]; a
            piece such as ``##ing`` is to be given as ``ing``.

    Raises:
        ConfigError: a pattern that is wrong, too large, or that no tokens can match.
    """

    def __init__(self, pattern: str, texts: Sequence[str | None]) -> None:
        alphabet = sorted({ch for text in texts if text for ch in text})
        parser = _Parser(pattern)
        start, end = parser.parse()
        groups, count = _groups(parser.atoms, alphabet)
        table, accepting = _deterministic(parser, start, end, groups, count)
        group_of = {ch: int(g) for ch, g in zip(alphabet, groups.group, strict=True)}
        super().__init__(_over_tokens(table, texts, group_of), accepting)
        self.pattern = pattern


class _Parser:
    """Builds the nondeterministic automaton: ``steps[node]`` are pairs of an atom's number and a node, ``free[node]``
    nodes that are reached without a character."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at = pattern, 0
        self.depth = 0
        self.atoms: list[str] = []
        self.numbers: dict[str, int] = {}
        self.steps: list[list[tuple[int, int]]] = []
        self.free: list[list[int]] = []

    def wrong(self, what: str) -> ConfigError:
        return ConfigError(f"{what} at character {self.at} of the regular expression {self.pattern!r}.")

    def node(self) -> int:
        if len(self.steps) >= MOST_NODES:
            raise self.wrong(f"more than {MOST_NODES} nodes")
        self.steps.append([])
        self.free.append([])
        return len(self.steps) - 1

    def peek(self) -> str:
        return self.pattern[self.at] if self.at < len(self.pattern) else ""

    def parse(self) -> tuple[int, int]:
        piece = self.alternatives()
        if self.at < len(self.pattern):
            raise self.wrong("unexpected ')'")
        return piece

    def alternatives(self) -> tuple[int, int]:
        self.depth += 1
        if self.depth > MOST_NESTED:
            raise self.wrong(f"more than {MOST_NESTED} groups inside each other")
        pieces = [self.sequence()]
        while self.peek() == "|":
            self.at += 1
            pieces.append(self.sequence())
        self.depth -= 1
        if len(pieces) == 1:
            return pieces[0]
        start, end = self.node(), self.node()
        for first, last in pieces:
            self.free[start].append(first)
            self.free[last].append(end)
        return start, end

    def sequence(self) -> tuple[int, int]:
        start = end = self.node()
        while self.peek() not in ("", "|", ")"):
            first, last = self.repeated()
            self.free[end].append(first)
            end = last
        return start, end

    def repeated(self) -> tuple[int, int]:
        begin = self.at
        piece = self.atom()
        after = self.at
        low, high = self.quantifier()
        if low is None:
            return piece
        done = self.at
        if self.peek() in ("*", "+", "?", "{"):
            raise self.wrong("a second quantifier; lazy and possessive ones mean nothing here, so put it in a group")
        start = end = self.node()
        for n in range(max(low, 1) if high is None else high):
            first, last = piece if n == 0 else self.again(begin, after)  # each repetition has nodes of its own
            self.free[end].append(first)
            if high is None and n == max(low, 1) - 1:
                self.free[last].append(first)
            if n >= low:
                self.free[first].append(last)
            end = last
        self.at = done
        return start, end

    def again(self, begin: int, after: int) -> tuple[int, int]:
        """The piece between two places of the pattern once more."""
        inner = _Parser(self.pattern[begin:after])
        inner.depth = self.depth
        inner.atoms, inner.numbers, inner.steps, inner.free = self.atoms, self.numbers, self.steps, self.free
        return inner.parse()

    def quantifier(self) -> tuple[int | None, int | None]:
        ch = self.peek()
        if ch and ch in "*+?":
            self.at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[ch]
        if ch != "{":
            return None, 0
        found = re.compile(r"\{(\d+)(,(\d*))?\}").match(self.pattern, self.at)
        if not found:
            raise self.wrong("'{' must begin {m}, {m,} or {m,n}, or be escaped")
        self.at = found.end()
        low = int(found[1])
        high = low if found[2] is None else int(found[3]) if found[3] else None
        if high is not None and high < low:
            raise self.wrong("{m,n} needs m <= n")
        return low, high

    def atom(self) -> tuple[int, int]:
        ch = self.peek()
        if ch in ("*", "+", "?", "{"):
            raise self.wrong(f"nothing to repeat before {ch!r}")
        if ch in ("^", "$"):
            raise self.wrong(f"{ch!r}: the whole text is matched always; escape it to mean the character")
        if ch == "(":
            self.at += 1
            if self.peek() == "?":
                if not self.pattern.startswith("?:", self.at):
                    raise self.wrong("only plain groups and (?:...) are known")
                self.at += 2
            piece = self.alternatives()
            if self.peek() != ")":
                raise self.wrong("a ')' is missing")
            self.at += 1
            return piece
        first = self.at
        if ch == "[":
            self.at += 1
            self.at += self.peek() == "^"
            self.at += self.peek() == "]"
            while self.peek() not in ("]", ""):
                self.at += 2 if self.peek() == "\\" else 1
            if not self.peek():
                raise self.wrong("a ']' is missing")
        elif ch == "\\":
            self.at += 1
            if not self.peek() or self.peek() in "bBAZ0123456789":
                raise self.wrong("an escape that does not stand for one character")
        self.at += 1
        text = self.pattern[first : self.at]
        if text not in self.numbers:
            try:
                re.compile(text)
            except re.error as error:
                raise self.wrong(f"{text!r}: {error}") from None
            self.numbers[text] = len(self.atoms)
            self.atoms.append(text)
        start, end = self.node(), self.node()
        self.steps[start].append((self.numbers[text], end))
        return start, end


class _Groups:
    def __init__(self, group: np.ndarray, takes: np.ndarray) -> None:
        self.group, self.takes = group, takes


def _groups(atoms: Sequence[str], alphabet: Sequence[str]) -> tuple[_Groups, int]:
    """Characters by which atoms match them: the group of each, and ``takes[atom, group]``."""
    match = np.zeros((len(alphabet), len(atoms)), bool)
    for n, atom in enumerate(atoms):
        compiled = re.compile(atom, re.DOTALL)
        match[:, n] = [compiled.fullmatch(ch) is not None for ch in alphabet]
    kinds, group = np.unique(match, axis=0, return_inverse=True)
    return _Groups(np.reshape(group, -1), kinds.T), len(kinds)


def _deterministic(parser: _Parser, start: int, end: int, groups: _Groups, count: int) -> tuple[np.ndarray, np.ndarray]:
    """States by groups of characters, -1 for none, and which of them accept."""

    def closure(nodes: set[int]) -> frozenset[int]:
        waiting, found = list(nodes), set(nodes)
        while waiting:
            for node in parser.free[waiting.pop()]:
                if node not in found:
                    found.add(node)
                    waiting.append(node)
        return frozenset(found)

    states = {closure({start}): 0}
    order = list(states)
    rows: list[list[int]] = []
    for state in order:  # grows on the way
        row = []
        for group in range(count):
            reached = {to for node in state for atom, to in parser.steps[node] if groups.takes[atom, group]}
            if not reached:
                row.append(-1)
                continue
            following = closure(reached)
            if following not in states:
                if len(states) >= MOST_STATES:
                    raise ConfigError(f"the regular expression {parser.pattern!r} needs over {MOST_STATES} states.")
                states[following] = len(states)
                order.append(following)
            row.append(states[following])
        rows.append(row)
    return np.array(rows, "int32").reshape(len(order), count), np.array([end in state for state in order])


def _over_tokens(table: np.ndarray, texts: Sequence[str | None], group_of: dict[str, int]) -> np.ndarray:
    """The state after each token, ``(states, vocabulary)``; the last state of ``table`` by -1 stays -1."""
    longest = max((len(text) for text in texts if text), default=0)
    groups = np.full((len(texts), longest), -1)
    for n, text in enumerate(texts):
        groups[n, : len(text or "")] = [group_of[ch] for ch in text or ""]
    lost = np.concatenate([table, np.full((1, table.shape[1]), -1)])  # from -1, which is the last row, to -1
    out: Any = np.repeat(np.arange(len(table))[:, None], len(texts), axis=1)
    for column in groups.T:
        real = column >= 0
        out[:, real] = lost[out[:, real], column[real]]
    out[:, [not text for text in texts]] = -1
    return out.astype("int32")
