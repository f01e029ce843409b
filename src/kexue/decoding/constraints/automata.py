"""Constraints that are finite automata over tokens: allowed texts as a trie, and any table of states.

`Trie` keeps the children of a node next to each other, so that memory is that of its edges; `Automaton` is a dense
table of states and tokens, for few states, such as those of a regular expression.

Both know from each state how many tokens the shortest way to an end takes, and leave out what would not reach one in
the room that is left, one place of it for the stop token.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from keras import ops

from kexue.decoding.arguments import sequences_of_ids
from kexue.decoding.constraints.base import Constraint, Source
from kexue.decoding.tokens import mark
from kexue.errors import ConfigError

__all__ = ["Automaton", "Trie"]

NEVER = 1 << 20
"""Tokens to an end where there is none."""


class Automaton(Constraint):
    """The sequences that an automaton accepts.

    Args:
        table: ``(states, vocabulary)`` int32, the state after each token, -1 where it may not come.
        accepting: ``(states,)`` booleans, the sequence may end here. State 0 is the first.

    Raises:
        ConfigError: shapes or states that do not fit, or no end that can be reached.
    """

    def __init__(self, table: Any, accepting: Any) -> None:
        self.table, self.accepting = np.asarray(table, "int32"), np.asarray(accepting, bool)
        states = len(self.accepting) if self.accepting.ndim else 0
        if self.table.ndim != 2 or len(self.table) != states or not self.table.size:
            raise ConfigError(
                "table must be of shape (states, vocabulary) and accepting of shape (states,). Received: "
                f"{self.table.shape} and {self.accepting.shape}"
            )
        if self.table.max() >= states or self.table.min() < -1:
            raise ConfigError(f"the table's states must lie between -1 and {states - 1}.")
        self.distance = _distances([np.unique(row[row >= 0]) for row in self.table], self.accepting)
        if self.distance[0] >= NEVER:
            raise ConfigError("no sequence of tokens satisfies the constraint: no end can be reached from its start.")

    @property
    def key(self) -> Any:
        return "automaton"

    def prepare(self, sources: Sequence[Source], vocabulary: int) -> tuple[dict[str, Any], Any]:
        if self.table.shape[1] != vocabulary:
            raise ConfigError(f"the automaton has {self.table.shape[1]} tokens, the model {vocabulary}.")
        return {
            "table": self.table, "accepting": self.accepting, "distance": self.distance,
        }, np.zeros(len(sources), "int32")  # fmt: skip

    def allowed(self, tables: dict[str, Any], state: Any, left: Any, vocabulary: int) -> tuple[Any, Any]:
        to = ops.take(tables["table"], ops.maximum(state, 0), axis=0)  # (B, K, V)
        need = ops.take(tables["distance"], ops.maximum(to, 0), axis=0)
        # One place for this token, one for the stop token.
        fits = need <= left[..., None] - 2
        may = ops.logical_and(ops.logical_and(to >= 0, fits), (state >= 0)[..., None])
        return may, ops.logical_and(ops.take(tables["accepting"], ops.maximum(state, 0), axis=0), state >= 0)

    def advance(self, tables: dict[str, Any], state: Any, tokens: Any) -> Any:
        row = ops.take(tables["table"], ops.maximum(state, 0), axis=0)
        to = ops.take_along_axis(row, tokens[..., None], axis=-1)[..., 0]
        return ops.where(state >= 0, to, -1)


class Trie(Constraint):
    """One of the given sequences of tokens, as a whole.

    Args:
        texts: sequences of token ids.

    Raises:
        ConfigError: no sequence.
    """

    def __init__(self, texts: Iterable[Sequence[int]]) -> None:
        children: list[dict[int, int]] = [{}]
        ends = [False]
        for text in sequences_of_ids(texts, "texts"):
            node = 0
            for token in text:
                if token not in children[node]:
                    children[node][token] = len(children)
                    children.append({})
                    ends.append(False)
                node = children[node][token]
            ends[node] = True
        if not any(ends):
            raise ConfigError("a trie needs at least one sequence of tokens.")
        self.degree = np.array([len(c) for c in children], "int32")
        self.first = np.concatenate([[0], np.cumsum(self.degree)[:-1]]).astype("int32")
        self.tokens = np.array([t for c in children for t in c], "int32")
        self.nodes = np.array([n for c in children for n in c.values()], "int32")
        self.ends = np.array(ends)
        self.distance = _distances([np.array(list(c.values()), int) for c in children], self.ends)
        self.widest = int(self.degree.max()) if len(children) > 1 else 1

    @property
    def key(self) -> Any:
        return ("trie", _power(self.widest))

    def hindered(self, stop: Sequence[int]) -> bool:
        closed = np.isin(self.tokens, list(stop))
        if not closed.any():
            return False
        parents = np.repeat(np.arange(len(self.degree)), self.degree)
        reached = np.zeros(len(self.degree), bool)
        reached[0] = True
        order = np.argsort(self.nodes)  # a node's number is above its parent's
        for edge in order[~closed[order]]:
            reached[self.nodes[edge]] = reached[parents[edge]]
        return not (reached & self.ends).any()

    def prepare(self, sources: Sequence[Source], vocabulary: int) -> tuple[dict[str, Any], Any]:
        if len(self.tokens) and (self.tokens.min() < 0 or self.tokens.max() >= vocabulary):
            raise ConfigError(f"the trie's tokens must lie between 0 and {vocabulary - 1}.")
        # Rounded up, so that another trie of about the size is the same program.
        nodes, edges = _power(len(self.degree)), _power(len(self.tokens) + _power(self.widest))
        arrays = {"first": self.first, "degree": self.degree, "ends": self.ends, "distance": self.distance}
        tables = {name: _fill(array, nodes) for name, array in arrays.items()}
        tables |= {"tokens": _fill(self.tokens, edges), "nodes": _fill(self.nodes, edges)}
        return tables, np.zeros(len(sources), "int32")

    def _edges(self, tables: dict[str, Any], state: Any) -> tuple[Any, Any, Any]:
        """Tokens, nodes and whether they are real, of the edges from each state: ``(batch, branches, widest)``."""
        node = ops.maximum(state, 0)
        nth = ops.arange(_power(self.widest), dtype="int32")[None, None]
        place = ops.take(tables["first"], node, axis=0)[..., None] + nth
        real = ops.logical_and(nth < ops.take(tables["degree"], node, axis=0)[..., None], (state >= 0)[..., None])
        place = ops.where(real, place, 0)
        return ops.take(tables["tokens"], place, axis=0), ops.take(tables["nodes"], place, axis=0), real

    def allowed(self, tables: dict[str, Any], state: Any, left: Any, vocabulary: int) -> tuple[Any, Any]:
        tokens, nodes, real = self._edges(tables, state)
        fits = ops.take(tables["distance"], nodes, axis=0) <= left[..., None] - 2
        may = mark(tokens, ops.logical_and(real, fits), vocabulary)
        return may, ops.logical_and(ops.take(tables["ends"], ops.maximum(state, 0), axis=0), state >= 0)

    def advance(self, tables: dict[str, Any], state: Any, tokens: Any) -> Any:
        theirs, nodes, real = self._edges(tables, state)
        here = ops.logical_and(real, ops.equal(theirs, tokens[..., None]))
        return ops.max(ops.where(here, nodes, -1), axis=-1)


def _power(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def _fill(x: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([x, np.zeros(size - len(x), x.dtype)])


def _distances(following: Sequence[np.ndarray], accepting: np.ndarray) -> np.ndarray:
    """Tokens from each state to the nearest accepting one."""
    before: list[list[int]] = [[] for _ in accepting]
    for state, next_states in enumerate(following):
        for other in next_states:
            before[int(other)].append(state)
    distance = np.where(accepting, 0, NEVER).astype("int32")
    wave = [int(n) for n in np.flatnonzero(accepting)]
    steps = 0
    while wave:
        steps += 1
        near = {state for other in wave for state in before[other] if distance[state] >= NEVER}
        for state in near:
            distance[state] = steps
        wave = list(near)
    return distance
