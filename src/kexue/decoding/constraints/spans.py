"""Results that are a span of the source, and results that contain given words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from kexue.decoding.arguments import sequences_of_ids
from kexue.decoding.constraints.base import Constraint, Source
from kexue.decoding.prompts import bucket
from kexue.decoding.tokens import mark
from kexue.errors import ConfigError

__all__ = ["Contains", "SpanOfSource"]


class SpanOfSource(Constraint):
    """The result is a contiguous piece of the source's tokens: extractive reading comprehension.

    The state is where in the source the result so far ends, at all places at once.

    Args:
        separators: token ids that a span cannot contain, such as those of [CLS] and [SEP]: a span lies between two of
            them. Where a passage and a question stand in one prompt, that keeps them apart.
        part: of the pieces between separators, which may be copied: ``None`` for all, or their numbers from 0 (the
            passage of ``[CLS] passage [SEP] question [SEP]`` is number 0; empty pieces do not count).
        empty: the empty result is allowed ("no answer").

    Source: kexue.fm article 7115.
    """

    def __init__(self, separators: Sequence[int] = (), part: Sequence[int] | None = None, empty: bool = True) -> None:
        self.separators = tuple(int(n) for n in separators)
        self.part = None if part is None else tuple(int(n) for n in part)
        self.empty = empty

    @property
    def key(self) -> Any:
        return "span"

    def prepare(self, sources: Sequence[Source], vocabulary: int) -> tuple[dict[str, Any], Any]:
        width = bucket(max(len(source.text) for source in sources)) + 1
        ids = np.full((len(sources), width), -1, "int32")
        for row, source in enumerate(sources):
            ids[row, : len(source.text)] = np.where(self._usable(source.text), source.text, -1)
        start = np.zeros((len(sources), width + 1), bool)
        start[:, :-1] = True
        # The last column says that nothing was generated yet.
        start[:, -1] = True
        return {"source": ids, "empty": np.bool_(self.empty)}, start

    def _usable(self, text: np.ndarray) -> np.ndarray:
        usable = ~np.isin(text, self.separators)
        if self.part is None:
            return usable
        begins = usable & ~np.concatenate([[False], usable[:-1]])
        return usable & np.isin(np.cumsum(begins) - 1, self.part)

    def allowed(self, tables: dict[str, Any], state: Any, left: Any, vocabulary: int) -> tuple[Any, Any]:
        here, fresh = state[..., :-1], state[..., -1]
        source = tables["source"][:, None]
        may = mark(ops.broadcast_to(source, here.shape), ops.logical_and(here, source >= 0), vocabulary)
        return may, ops.logical_or(ops.logical_not(fresh), tables["empty"])

    def advance(self, tables: dict[str, Any], state: Any, tokens: Any) -> Any:
        hit = ops.logical_and(state[..., :-1], ops.equal(tables["source"][:, None], tokens[..., None]))
        none = ops.zeros_like(hit[..., :1])
        return ops.concatenate([none, hit[..., :-1], none], axis=-1)


class Contains(Constraint):
    """The result contains each of the given words, sequences of tokens, somewhere.

    Anything may come between them as long as there is room for the words that are missing, one after the other, the
    one that is furthest on first. Words may overlap, but room is not saved by it. Each word's progress is that of the
    Knuth-Morris-Pratt automaton.

    Args:
        words: sequences of token ids, for all prompts alike.

    Raises:
        ConfigError: no word, or an empty one.
    """

    def __init__(self, words: Sequence[Sequence[int]]) -> None:
        self.words = sequences_of_ids(words, "words")
        if not self.words or not all(self.words):
            raise ConfigError(f"words must be sequences of at least one token. Received: {words!r:.80}")
        self.longest = max(map(len, self.words))
        self.distinct = sorted({token for word in self.words for token in word})

    @property
    def key(self) -> Any:
        return ("contains", len(self.words), self.longest, len(self.distinct))

    def hindered(self, stop: Sequence[int]) -> bool:
        return not set(self.distinct).isdisjoint(stop)

    def prepare(self, sources: Sequence[Source], vocabulary: int) -> tuple[dict[str, Any], Any]:
        if max(max(word) for word in self.words) >= vocabulary or min(min(word) for word in self.words) < 0:
            raise ConfigError(f"the words' tokens must lie between 0 and {vocabulary - 1}.")
        shape = (len(self.words), self.longest + 1)
        tokens, back = np.full(shape, -1, "int32"), np.zeros(shape, "int32")
        for n, word in enumerate(self.words):
            tokens[n, : len(word)] = word
            for m in range(1, len(word)):
                # Longest proper prefix that is a suffix of the first m tokens.
                back[n, m] = next(k for k in range(m - 1, -1, -1) if word[:k] == word[m - k : m])
        lengths = np.array([len(word) for word in self.words], "int32")
        distinct = np.array(self.distinct, "int32")
        tables = {"tokens": tokens, "back": back, "lengths": lengths, "distinct": distinct}
        return tables, np.zeros((len(sources), len(self.words)), "int32")

    def _next(self, tables: dict[str, Any], state: Any) -> Any:
        """Next token of each word, ``(batch, branches, words)``; -1 where it is done."""
        nth = ops.arange(len(self.words), dtype="int32")[None, None]
        flat = ops.reshape(tables["tokens"], (-1,))
        return ops.take(flat, nth * (self.longest + 1) + state, axis=0)

    @staticmethod
    def _need(tables: dict[str, Any], state: Any) -> Any:
        """Tokens that the missing words take."""
        lengths = tables["lengths"][None, None]
        missing = state < lengths
        whole = ops.sum(ops.where(missing, lengths, 0), axis=-1)
        return whole - ops.max(ops.where(missing, state, 0), axis=-1)

    def allowed(self, tables: dict[str, Any], state: Any, left: Any, vocabulary: int) -> tuple[Any, Any]:
        batch, branches, words = state.shape
        # A token of no word loses all progress; the others are tried.
        lost = self._need(tables, ops.where(ops.equal(state, tables["lengths"][None, None]), state, 0))
        count = len(self.distinct)
        tokens = ops.broadcast_to(tables["distinct"][None, None], (batch, branches, count))
        tried = ops.reshape(ops.repeat(state, count, axis=1), (batch, branches * count, words))
        tried = self.advance(tables, tried, ops.reshape(tokens, (batch, branches * count)))
        need = ops.reshape(self._need(tables, tried), (batch, branches, count))
        fits = mark(tokens, need <= left[..., None] - 2, vocabulary)
        ours = mark(tokens, ops.ones_like(tokens, dtype="bool"), vocabulary)
        may = ops.where(ours, fits, (lost <= left - 2)[..., None])
        return may, self._need(tables, state) <= 0

    def advance(self, tables: dict[str, Any], state: Any, tokens: Any) -> Any:
        done = ops.equal(state, tables["lengths"][None, None])
        nth = ops.arange(len(self.words), dtype="int32")[None, None]
        back = ops.reshape(tables["back"], (-1,))
        at, found = state, ops.zeros_like(done)
        for _ in range(self.longest):
            hit = ops.equal(self._next(tables, at), tokens[..., None])
            fall = ops.take(back, nth * (self.longest + 1) + at, axis=0)
            at = ops.where(ops.logical_or(found, hit), at, fall)
            found = ops.logical_or(found, hit)
        at = at + ops.cast(ops.equal(self._next(tables, at), tokens[..., None]), "int32")
        return ops.where(done, state, at)
