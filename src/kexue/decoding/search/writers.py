"""CGMH at work: sentences with given words in them, and paraphrases by annealing (kexue.fm 8062, 8194; UPSA, arXiv
1909.03588)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kexue.decoding.search.annealing import Schedule, anneal, geometric
from kexue.decoding.search.cgmh import CGMH
from kexue.decoding.search.language import CausalScores
from kexue.decoding.search.likeness import SoftMatch, shared_pairs
from kexue.decoding.search.mlm_gibbs import special_tokens
from kexue.decoding.search.sentences import Sentence, Slots, target, with_keywords
from kexue.decoding.search.states import Seed, generator
from kexue.errors import ConfigError, DataError

__all__ = ["KeywordWriter", "Paraphraser", "Written"]

Progress = Callable[[int, list["Written"]], None]


@dataclass(frozen=True)
class Written:
    """A text that a search found.

    Attributes:
        text: as a string.
        tokens: its ids.
        score: the logarithm of what the search aims at.
    """

    text: str
    tokens: tuple[int, ...]
    score: float


def _ids(tokenizer: Any, text: str, what: str) -> list[int]:
    """Ids of a text, all of them known.

    Raises:
        DataError: nothing is left of it, or it holds special tokens or what the vocabulary does not know.
    """
    ids = [int(i) for i in tokenizer.plain_pieces([text])[0].ids]
    if not ids:
        raise DataError(f"{what} has no token. Received: {text!r:.60}")
    special = set(tokenizer.special_ids)
    odd = [i for i, token in enumerate(ids) if token in special]
    if odd:
        offsets = tokenizer.plain_pieces([text])[0].offsets
        pieces = ", ".join(repr(text[slice(*offsets[i])]) for i in odd[:5])
        raise DataError(f"the vocabulary has no word for {pieces} in {what}. Leave it out, or take another model.")
    return ids


class KeywordWriter:
    """Writes sentences that contain given words, by CGMH.

    Args:
        language: log p of sentences; its ``slots`` propose tokens unless others are given.
        tokenizer: of the model.
        slots: what may stand in a slot; `kexue.decoding.search.MaskedScores.slots` looks at both sides.
        gamma: power of p; below 1 for longer sentences.
        shortest, longest: numbers of tokens.
        options: further ones of `CGMH`: ``mode``, ``candidates``, ``rescore``, ``smoothing``, ``forbidden``.
    """

    def __init__(
        self,
        language: CausalScores,
        tokenizer: Any,
        *,
        slots: Slots | None = None,
        gamma: float = 0.8,
        shortest: int = 1,
        longest: int = 32,
        **options: Any,
    ) -> None:
        options = {"forbidden": special_tokens(tokenizer)} | options
        self.tokenizer, self.language = tokenizer, language
        self.chain = CGMH(
            target(language, gamma=gamma), slots or language.slots, shortest=shortest, longest=longest, **options
        )

    def start(self, keywords: Sequence[str], chains: int = 1, *, shuffle: bool = True, seed: Seed = None) -> Any:
        """A first sentence for each chain: the keywords, in an order of its own with ``shuffle``, and random tokens
        between up to the least length.

        Raises:
            DataError: a keyword without tokens or with unknown ones.
            ConfigError: no keyword, or too many for the greatest length.
        """
        if not keywords or chains < 1:
            raise ConfigError(f"needs a keyword and a chain at least. Received: {len(keywords)} and {chains}")
        rng = generator(seed)
        words = [_ids(self.tokenizer, word, f"the keyword {word!r:.30}") for word in keywords]
        size = sum(map(len, words))
        if size > self.chain.longest:
            raise ConfigError(
                f"the keywords have {size} tokens, longest={self.chain.longest}. Raise it, or give fewer."
            )
        orders = [rng.permutation(len(words)) if shuffle else range(len(words)) for _ in range(chains)]
        return self.chain.grown([with_keywords([words[i] for i in o]) for o in orders], self.chain.shortest, rng)

    def write(
        self,
        keywords: Sequence[str],
        *,
        chains: int = 8,
        steps: int = 200,
        shuffle: bool = True,
        seed: Seed = None,
        progress: Progress | None = None,
    ) -> list[Written]:
        """The likeliest sentence that each chain met, the best first.

        Args:
            keywords: words that every sentence contains.
            chains: how many sentences.
            steps: moves of each chain.
            shuffle: each chain begins with the keywords in an order of its own; the order within a chain never changes.
            seed: of all random numbers.
            progress: called after each step with its number and the best sentences so far.
        """
        rng = generator(seed)
        states: list[Sentence] = self.start(keywords, chains, shuffle=shuffle, seed=rng)
        best, best_scores = list(states), self.chain.density(states)
        for step in range(steps):
            run = self.chain.sample(states, 1, seed=rng)
            states, scores = run.last, run.log_density[0]  # type: ignore[index]
            for i in np.flatnonzero(scores > best_scores):
                best[i], best_scores[i] = states[i], scores[i]
            if progress is not None:
                progress(step + 1, _listed(self.tokenizer, best, best_scores))
        return _listed(self.tokenizer, best, best_scores)


def _listed(tokenizer: Any, states: list[Sentence], scores: np.ndarray) -> list[Written]:
    """The best first."""
    order = np.argsort(-scores, kind="stable")
    return [Written(tokenizer.decode(states[i].tokens), states[i].tokens, float(scores[i])) for i in order]


class Paraphraser:
    """Says a sentence in other words without having seen a pair: annealing of
    ``gamma log p(x) + weight log likeness(x, source) + distance log(1 - shared pairs(x, source))``.

    Args:
        language: log p of sentences.
        tokenizer: of the model.
        likeness: how alike a text is to the source, in [0, 1].
        slots: what may stand in a slot; left to right by default.
        gamma: power of p.
        weight: power of the likeness.
        distance: power of the share of neighbouring pairs that are new; 0 allows the source itself as the answer.
        schedule: of the temperature; by default 3 * 0.97^step, not below 0.05.
        slack: a paraphrase may have so many tokens more or fewer than the source.
        options: further ones of `CGMH`.
    """

    def __init__(
        self,
        language: CausalScores,
        tokenizer: Any,
        likeness: SoftMatch | Callable[[Any, Any], Any],
        *,
        slots: Slots | None = None,
        gamma: float = 1.0,
        weight: float = 30.0,
        distance: float = 4.0,
        schedule: Schedule | None = None,
        slack: int = 4,
        **options: Any,
    ) -> None:
        self.language, self.tokenizer, self.likeness = language, tokenizer, likeness
        self.slots = slots or language.slots
        self.gamma, self.weight, self.distance, self.slack = gamma, weight, distance, slack
        self.schedule = schedule or geometric(3.0, 0.97, 0.05)
        self.options = {"forbidden": special_tokens(tokenizer)} | options

    def score(self, sentences: Any, source: Sequence[int]) -> np.ndarray:
        """What annealing maximises, (n,)."""
        logs = self.gamma * np.asarray(self.language(sentences), "float64")
        with np.errstate(divide="ignore"):
            logs = logs + self.weight * np.log(np.asarray(self.likeness(sentences, source), "float64"))
            if self.distance:
                logs = logs + self.distance * np.log(np.clip(1.001 - shared_pairs(sentences, source), None, 1.0))
        return logs

    def paraphrase(
        self,
        text: str,
        *,
        keep: Sequence[str] = (),
        chains: int = 4,
        steps: int = 200,
        seed: Seed = None,
        progress: Progress | None = None,
    ) -> list[Written]:
        """The best sentence of each chain, the best first.

        Args:
            text: what to say in other words.
            keep: words of the text that must stay.
            chains: how many searches.
            steps: moves of each.
            seed: of all random numbers.
            progress: called after each step with its number and the best sentences so far.

        Raises:
            DataError: a text without tokens or with unknown ones; a word of ``keep`` that the text lacks.
        """
        source = _ids(self.tokenizer, text, "the text")
        marks = [0] * len(source)
        for number, word in enumerate(keep, 1):
            ids = _ids(self.tokenizer, word, f"the word {word!r:.30}")
            places = [
                i for i in range(len(source)) if source[i : i + len(ids)] == ids and not any(marks[i : i + len(ids)])
            ]
            if not places:
                raise DataError(f"the text lacks the word {word!r:.30} that should stay (or it overlaps another one).")
            marks[places[0] : places[0] + len(ids)] = [number] * len(ids)
        least = max(1, len(source) - self.slack)
        chain = CGMH(
            lambda sentences: self.score(sentences, source),
            self.slots,
            shortest=least,
            longest=len(source) + self.slack,
            **self.options,
        )

        def report(step: int, best: list[Sentence], scores: np.ndarray) -> None:
            if progress is not None:
                progress(step + 1, _listed(self.tokenizer, best, scores))

        found = anneal(
            chain.density,
            lambda states, rng: chain.propose(states, rng)[0],
            [Sentence(tuple(source), tuple(marks))] * chains,
            steps,
            self.schedule,
            seed=seed,
            progress=report,
        )
        return _listed(self.tokenizer, found.best, found.best_score)
