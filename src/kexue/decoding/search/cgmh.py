"""Constrained sentences by Metropolis-Hastings: replace, insert, delete (kexue.fm 8194; CGMH, arXiv 1811.10996).

A step picks one of the three moves with probability 1/3, then a place, then (replace, insert) a token from the law
``q(. | left, right)`` of the slot:

    replace   min(1, rho(y) q(x_i | slot) / (rho(x) q(y_i | slot)))
    insert    min(1, rho(y) gaps(x) / (rho(x) q(y_i | slot) tokens(y)))
    delete    min(1, rho(y) q(x_i | slot) tokens(x) / (rho(x) gaps(y)))

with ``gaps`` the number of places where a token may be inserted and ``tokens`` the number that may be deleted.

Two modes:

- ``"exact"``: as above, and the candidates of a slot depend on the slot alone. The chain satisfies detailed balance.
- ``"faithful"``: the published program: the present token of the slot is always among its candidates, the reverse
  probability is taken from the candidates of the present sentence, and the two numbers of places are left out. Not
  exactly stationary; `kexue.decoding.search.kernels.balance_gap` tells by how much on small spaces.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from kexue.decoding.search.chains import Chains, log_acceptance, metropolis_hastings
from kexue.decoding.search.sentences import Scores, Sentence, Slots
from kexue.decoding.search.states import Seed, checked_scores, generator
from kexue.errors import ConfigError

__all__ = ["CGMH", "Move"]

MOVES = ("replace", "insert", "delete")


class Move(NamedTuple):
    """One way to go on from a sentence.

    Attributes:
        probability: of its being proposed.
        target: the sentence that it leads to.
        log_acceptance: of the probability that it is then accepted.
    """

    probability: float
    target: Sentence
    log_acceptance: float


class CGMH:
    """The sampler.

    Args:
        target: log rho of sentences given as sequences of ids, minus infinity where one is forbidden; see
            `kexue.decoding.search.sentences.target`.
        slots: what may stand in a slot: ``CausalScores.slots`` (left to right, the published one),
            ``MaskedScores.slots``, or `kexue.decoding.search.sentences.smaller` of two of them.
        mode: ``"exact"`` or ``"faithful"``.
        candidates: so many likeliest tokens of a slot are proposed (64 in the published program); None: all.
        rescore: weigh the candidates with this score of the whole sentence, as the published program does (its own
            language model), instead of with the law of the slot. Costs ``candidates`` sentences a step and chain.
        smoothing: part of the proposals that are uniform over all tokens. Above 0 every token can be proposed, so that
            the chain is irreducible; exact all the same.
        forbidden: ids that are never proposed, such as `kexue.decoding.search.mlm_gibbs.special_tokens`.
        shortest: no deletion from sentences of this length.
        longest: no insertion into sentences of this length.

    Raises:
        ConfigError: numbers out of range.
    """

    def __init__(
        self,
        target: Scores,
        slots: Slots,
        *,
        mode: Literal["exact", "faithful"] = "exact",
        candidates: int | None = 64,
        rescore: Scores | None = None,
        smoothing: float = 0.0,
        forbidden: Collection[int] = (),
        shortest: int = 1,
        longest: int = 64,
    ) -> None:
        if mode not in ("exact", "faithful"):
            raise ConfigError(f"mode must be 'exact' or 'faithful'. Received: {mode!r}")
        if not 0 <= smoothing <= 1 or (candidates is not None and candidates < 1):
            raise ConfigError(f"needs 0 <= smoothing <= 1 and candidates >= 1. Received: {smoothing} and {candidates}")
        if not 0 <= shortest <= longest or longest < 1:
            raise ConfigError(f"needs 0 <= shortest <= longest >= 1. Received: {shortest} and {longest}")
        self.target, self.slots, self.mode = target, slots, mode
        self.candidates, self.rescore, self.smoothing = candidates, rescore, smoothing
        self.forbidden = np.array(sorted({int(i) for i in forbidden}), "int64")
        self.shortest, self.longest = shortest, longest

    # ---------------------------------------------------------------- running

    def density(self, sentences: Sequence[Sentence]) -> np.ndarray:
        """log rho of the sentences."""
        return checked_scores(self.target([s.tokens for s in sentences]), len(sentences), "target")

    def propose(self, sentences: Sequence[Sentence], rng: np.random.Generator) -> tuple[list[Sentence], Any, Any]:
        """A `kexue.decoding.search.chains.Proposal`: for each sentence a move, log q(y|x), log q(x|y).

        A move that is not possible (nothing to delete, no room) stays where it is.
        """
        kinds = [MOVES[i] for i in rng.integers(3, size=len(sentences))]
        picks, uniform = rng.random(len(sentences)), rng.random(len(sentences))
        places = [self._places(s, kind) for s, kind in zip(sentences, kinds, strict=True)]
        active = [i for i, where in enumerate(places) if where]
        proposed = list(sentences)
        forward, backward = np.zeros(len(sentences)), np.zeros(len(sentences))
        if not active:
            return proposed, forward, backward
        where = {i: places[i][int(picks[i] * len(places[i]))] for i in active}
        laws = self._laws([(sentences[i], kinds[i], where[i]) for i in active])
        for i, law in zip(active, laws, strict=True):
            token = None
            if kinds[i] != "delete":
                edges = np.cumsum(law)
                token = int(np.searchsorted(edges, uniform[i] * edges[-1], side="right"))
                token = min(token, int(np.flatnonzero(law)[-1]))
            proposed[i] = sentences[i].moved(kinds[i], where[i], token)
            forward[i], backward[i] = self._densities(sentences[i], proposed[i], kinds[i], where[i], law)
        return proposed, forward, backward

    def sample(self, start: Sequence[Sentence], steps: int, **options: Any) -> Chains:
        """Chains of sentences; options of `kexue.decoding.search.chains.metropolis_hastings`."""
        for sentence in start:
            if not self.shortest <= len(sentence) <= self.longest:
                raise ConfigError(
                    f"a chain must start with {self.shortest} to {self.longest} tokens. Received: {len(sentence)}"
                )
        return metropolis_hastings(self.density, self.propose, list(start), steps, **options)

    def grown(self, sentences: Sequence[Sentence], length: int, seed: Seed = None) -> list[Sentence]:
        """Sentences with tokens inserted at random places, whatever the target says, until they have ``length``."""
        rng = generator(seed)
        result = list(sentences)
        while short := [i for i, s in enumerate(result) if len(s) < length]:
            gaps = [int(rng.choice(result[i].gaps())) for i in short]
            laws = self._laws([(result[i], "insert", gap) for i, gap in zip(short, gaps, strict=True)])
            for i, gap, law in zip(short, gaps, laws, strict=True):
                result[i] = result[i].moved("insert", gap, int(rng.choice(len(law), p=law)))
        return result

    # ---------------------------------------------------------------- small spaces

    def moves(self, sentence: Sequence[int] | Sentence) -> Iterator[Move]:
        """All moves out of a sentence, save those that are not possible."""
        x = sentence if isinstance(sentence, Sentence) else Sentence(tuple(sentence))
        for kind in MOVES:
            places = self._places(x, kind)
            for place in places:
                law = self._laws([(x, kind, place)])[0]
                tokens = [None] if kind == "delete" else [int(t) for t in np.flatnonzero(law)]
                for token in tokens:
                    y = x.moved(kind, place, token)
                    forward, backward = self._densities(x, y, kind, place, law)
                    old, new = self.density([x]), self.density([y])
                    log = log_acceptance("hastings", old, new, np.array([forward]), np.array([backward]))
                    share = (1.0 if token is None else law[token]) / (3 * len(places))
                    yield Move(share, y, float(log[0]))

    def kernel(self, states: Sequence[Sentence]) -> np.ndarray:
        """Transition matrix over ``states``, which no accepted move may leave.

        Raises:
            ConfigError: a move leaves them.
        """
        index = {state: number for number, state in enumerate(states)}
        matrix = np.zeros((len(states), len(states)))
        for number, state in enumerate(states):
            for move in self.moves(state):
                flow = move.probability * np.exp(move.log_acceptance)
                if flow == 0:
                    continue
                if move.target not in index:
                    raise ConfigError(f"a move leaves the given states: from {state} to {move.target}")
                matrix[number, index[move.target]] += flow
            matrix[number, number] += 1 - matrix[number].sum()
        return matrix

    # ---------------------------------------------------------------- the parts

    def _places(self, x: Sentence, kind: str) -> list[int]:
        if kind == "insert":
            return x.gaps() if len(x) < self.longest else []
        if kind == "delete" and len(x) <= self.shortest:
            return []
        return x.free()

    def _laws(self, asked: Sequence[tuple[Sentence, str, int]]) -> np.ndarray:
        """q(. | slot) of each question, (n, V)."""
        lefts = [x.tokens[:place] for x, _, place in asked]
        rights = [x.tokens[place + (kind != "insert") :] for x, kind, place in asked]
        present = [None if kind == "insert" else x.tokens[place] for x, kind, place in asked]
        logs = np.array(self.slots(lefts, rights), "float64")
        if logs.ndim != 2 or len(logs) != len(asked):
            raise ConfigError(
                f"slots must give (n, V) log-probabilities for {len(asked)} slots. Received: {logs.shape}"
            )
        if self.forbidden.size:
            logs[:, self.forbidden] = -np.inf
        allowed = np.isfinite(logs)
        if self.candidates is not None and self.candidates < logs.shape[1]:
            least = np.argsort(-logs, axis=1, kind="stable")[:, self.candidates :]
            own = np.take_along_axis(logs, np.array([[0 if t is None else t] for t in present]), 1)[:, 0]
            np.put_along_axis(logs, least, -np.inf, axis=1)
            if self.mode == "faithful":
                for i, token in enumerate(present):
                    if token is not None:
                        logs[i, token] = own[i]
        if self.rescore is not None:
            logs = self._rescored(logs, lefts, rights)
        top = logs.max(axis=1, keepdims=True)
        if not np.isfinite(top).all():
            raise ConfigError("a slot has no possible token. Forbid fewer tokens or allow more candidates.")
        law = np.exp(logs - top)
        law /= law.sum(axis=1, keepdims=True)
        if self.smoothing:
            law = (1 - self.smoothing) * law + self.smoothing * allowed / allowed.sum(axis=1, keepdims=True)
        return law

    def _rescored(self, logs: np.ndarray, lefts: Any, rights: Any) -> np.ndarray:
        rows, tokens = np.nonzero(np.isfinite(logs))
        whole = [(*lefts[r], int(t), *rights[r]) for r, t in zip(rows, tokens, strict=True)]
        result = np.full_like(logs, -np.inf)
        result[rows, tokens] = checked_scores(self.rescore(whole), len(whole), "rescore")  # type: ignore[misc]
        return result

    def _densities(self, x: Sentence, y: Sentence, kind: str, place: int, law: np.ndarray) -> tuple[float, float]:
        """log q(y|x) and log q(x|y)."""
        new = 1.0 if kind == "delete" else law[y.tokens[place]]
        old = 1.0 if kind == "insert" else law[x.tokens[place]]
        if self.mode == "exact":
            back = {"replace": "replace", "insert": "delete", "delete": "insert"}[kind]
            here, there = len(self._places(x, kind)), len(self._places(y, back))
            new, old = new / here, old / there if there else 0.0
        with np.errstate(divide="ignore"):
            return float(np.log(new)), float(np.log(old))
