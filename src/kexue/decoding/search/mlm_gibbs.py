"""Text out of a masked language model by Gibbs sampling (kexue.fm 8119; arXiv 1902.04094).

Hide a token, draw another from the model's law given all others, go on elsewhere. The conditionals of a masked language
model do not in general belong to one joint law (the claim that BERT is a Markov random field was withdrawn by its
authors), so that what the chain converges to depends on the order of the updates: pseudo-Gibbs. The length never
changes.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kexue.decoding.search.chains import draw
from kexue.decoding.search.language import MaskedScores
from kexue.decoding.search.states import seed_sequence
from kexue.errors import ConfigError

__all__ = ["MaskedChains", "MaskedGibbs", "special_tokens"]

Scan = Literal["random", "systematic", "permutation"]


def special_tokens(tokenizer: Any) -> list[int]:
    """Ids that no text should be made of: special tokens and BERT's ``[unused1]`` and its like."""
    unused = [i for i, token in enumerate(tokenizer.vocabulary) if not token or token.lower().startswith("[unused")]
    return sorted({*tokenizer.special_ids, *unused})


@dataclass(frozen=True, eq=False)
class MaskedChains:
    """Samples of several chains of sentences.

    Attributes:
        samples: for each kept step the sentences of all chains, tuples of ids.
        steps: the numbers of the kept steps, from 1.
        changed: (chains,) share of the updates that changed a token.
        last: the sentences at the end.
    """

    samples: list[list[tuple[int, ...]]]
    steps: list[int]
    changed: np.ndarray
    last: list[tuple[int, ...]]


class MaskedGibbs:
    """Gibbs sampling of sentences, all chains in one batch.

    Each chain has random numbers of its own, drawn from the seed and its place: it goes the same way whatever runs
    beside it (up to the rounding of batched products).

    Args:
        scores: the model; `MaskedScores.of(model, tokenizer)`.
        forbidden: ids that are never drawn; `special_tokens(tokenizer)`. Frozen tokens may be among them.
        temperature: of the draws; a number, or ``step -> number`` with steps from 0.
        top_k: draw among the likeliest k tokens only.
        block: tokens hidden and drawn at a time. More than one is faster for long texts, but the tokens of a block are
            drawn independently of each other.
        scan: ``"random"``, ``"systematic"`` or ``"permutation"`` (a new order each sweep) choice of places.

    Raises:
        ConfigError: numbers out of range.
    """

    def __init__(
        self,
        scores: MaskedScores,
        *,
        forbidden: Collection[int] = (),
        temperature: float | Callable[[int], float] = 1.0,
        top_k: int | None = None,
        block: int = 1,
        scan: Scan = "random",
    ) -> None:
        if block < 1 or (top_k is not None and top_k < 1):
            raise ConfigError(f"block and top_k must be at least 1. Received: block={block}, top_k={top_k}")
        if scan not in ("random", "systematic", "permutation"):
            raise ConfigError(f"scan must be 'random', 'systematic' or 'permutation'. Received: {scan!r}")
        self.scores, self.top_k, self.block, self.scan = scores, top_k, block, scan
        self.forbidden = np.array(sorted({int(i) for i in forbidden}), "int64")
        self.temperature = temperature if callable(temperature) else lambda step: temperature

    def law(self, lefts: Any, step: int) -> np.ndarray:
        """Log-probabilities (n, V) after temperature, ``forbidden`` and ``top_k``; unnormalised."""
        temperature = self.temperature(step)
        if not temperature > 0:
            raise ConfigError(f"temperature must be positive. Received: {temperature}. For the likeliest take top_k=1.")
        logs = np.asarray(lefts, "float64") / temperature
        if self.forbidden.size:
            if self.forbidden[-1] >= logs.shape[1] or self.forbidden[0] < 0:
                raise ConfigError(f"forbidden ids must lie in [0, {logs.shape[1]}). Received: {self.forbidden[-1]}")
            logs[:, self.forbidden] = -np.inf
        if self.top_k is not None and self.top_k < logs.shape[1]:
            least = np.argsort(-logs, axis=1, kind="stable")[:, self.top_k :]
            np.put_along_axis(logs, least, -np.inf, axis=1)
        return logs

    def sample(
        self,
        start: Sequence[Sequence[int]],
        steps: int,
        *,
        frozen: Sequence[Sequence[bool]] | None = None,
        burn_in: int = 0,
        thin: int = 1,
        seed: int | np.random.SeedSequence | None = None,
        progress: Callable[[int, list[tuple[int, ...]]], None] | None = None,
    ) -> MaskedChains:
        """Run the chains.

        Args:
            start: a sentence for each chain, ids without special tokens around; ``[MASK]`` where nothing stands yet.
                Lengths may differ.
            steps: updates of each chain after the burn-in.
            frozen: for each chain, true at tokens that stay; none by default.
            burn_in: updates before the first kept sample.
            thin: keep every so many-th.
            seed: of all random numbers.
            progress: called after each update with its number and the sentences.

        Raises:
            ConfigError: no chain, a chain that is frozen everywhere or empty, numbers out of range, a sentence longer
                than the model's positions.
        """
        places = self._free(start, frozen)
        if steps < 1 or burn_in < 0 or not 1 <= thin <= steps:
            raise ConfigError(
                f"needs steps >= thin >= 1 and burn_in >= 0. Received: steps={steps}, thin={thin}, burn_in={burn_in}"
            )
        rngs = [np.random.default_rng(child) for child in seed_sequence(seed).spawn(len(start))]
        orders = [_order(self.scan, free, self.block, rng) for free, rng in zip(places, rngs, strict=True)]
        texts = [[int(i) for i in text] for text in start]
        kept, numbers, changed, total = [], [], np.zeros(len(texts)), np.zeros(len(texts))
        for step in range(burn_in + steps):
            chosen = [next(order) for order in orders]
            for index, (where, values) in enumerate(zip(chosen, self._drawn(texts, chosen, rngs, step), strict=True)):
                for place, value in zip(where, values, strict=True):
                    changed[index] += texts[index][place] != value
                    texts[index][place] = value
                total[index] += len(where)
            if step >= burn_in and (step - burn_in) % thin == thin - 1:
                kept.append([tuple(text) for text in texts])
                numbers.append(step + 1)
            if progress is not None:
                progress(step + 1, [tuple(text) for text in texts])
        return MaskedChains(kept, numbers, changed / total, [tuple(text) for text in texts])

    def fill(self, text: Sequence[int], *, step: int = 0) -> tuple[list[int], np.ndarray]:
        """Places of ``[MASK]`` in a text, and the model's probabilities (places, V) there, all hidden at once."""
        places = [i for i, token in enumerate(text) if token == self.scores.mask_id]
        if not places:
            return [], np.zeros((0, 0))
        rows = [[*self.scores.start, *text, *self.scores.end]]
        logs = self.law(self.scores.forward.at(rows, [[len(self.scores.start) + i for i in places]])[0], step)
        top = np.exp(logs - logs.max(axis=1, keepdims=True))
        return places, top / top.sum(axis=1, keepdims=True)

    def _free(self, start: Sequence[Sequence[int]], frozen: Sequence[Sequence[bool]] | None) -> list[list[int]]:
        if not len(start):
            raise ConfigError("start must hold one sentence for each chain. Received: none")
        if frozen is not None and [len(f) for f in frozen] != [len(s) for s in start]:
            raise ConfigError("frozen must have a value for each token of each chain.")
        result = []
        limit = self.scores.forward.longest
        for index, text in enumerate(start):
            free = [i for i in range(len(text)) if frozen is None or not frozen[index][i]]
            size = len(text) + len(self.scores.start) + len(self.scores.end)
            if not free:
                raise ConfigError(f"chain {index} has no token that may change. Give a longer text, or freeze less.")
            if limit is not None and size > limit:
                raise ConfigError(f"chain {index} has {size} tokens, the model takes {limit}. Shorten the text.")
            result.append(free)
        return result

    def _drawn(
        self, texts: list[list[int]], chosen: list[list[int]], rngs: list[np.random.Generator], step: int
    ) -> list[list[int]]:
        """New tokens at the chosen places of each text."""
        most = max(len(where) for where in chosen)
        rows, places = [], np.zeros((len(texts), most), "int32")
        for index, (text, where) in enumerate(zip(texts, chosen, strict=True)):
            row = [*self.scores.start, *text, *self.scores.end]
            for number, place in enumerate(where):
                row[len(self.scores.start) + place] = self.scores.mask_id
                places[index, number] = len(self.scores.start) + place
            rows.append(row)
        logs = self.scores.forward.at(rows, places)  # (chains, most, V)
        uniform = np.zeros((len(texts), most))
        for index, where in enumerate(chosen):
            uniform[index, : len(where)] = rngs[index].random(len(where))
        flat = draw(self.law(logs.reshape(-1, logs.shape[-1]), step), uniform.reshape(-1))
        return [row[: len(where)].tolist() for row, where in zip(flat.reshape(uniform.shape), chosen, strict=True)]


def _order(scan: str, free: list[int], block: int, rng: np.random.Generator) -> Any:
    """Endless stream of places to redraw."""

    def stream() -> Any:
        size = min(block, len(free))
        while True:
            if scan == "random":
                yield [free[i] for i in rng.choice(len(free), size, replace=False)]
                continue
            sweep = [free[i] for i in (rng.permutation(len(free)) if scan == "permutation" else range(len(free)))]
            yield from (sweep[i : i + size] for i in range(0, len(sweep), size))

    return stream()
