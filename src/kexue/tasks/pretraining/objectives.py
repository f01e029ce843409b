"""What a language model is trained to predict, and what it may see while it does: objectives as functions of a batch.

An objective takes packed rows and gives a batch with its targets. All of them can share one set of weights, because an
objective differs from another by the attention mask only (kexue.fm article 6933), and with the rule `Prefix` that is a
matter of ``segment_ids``: 0 where a token is seen by all (masked language model), 1 where only later tokens see it
(language model), both in a row for a source and its target (UniLM). `Mixture` draws one of them for each step.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kexue.errors import ConfigError
from kexue.text.corpus.masking import Spans, mask_tokens

__all__ = ["CausalLM", "Electra", "MaskedLM", "Mixture", "Objective", "PrefixLM", "Specials", "parse"]

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Specials:
    """What objectives need to know of a vocabulary.

    Args:
        words: half-open range of ids for random replacements.
        sep_id, mask_id: ids of ``[SEP]`` and ``[MASK]``.
        seams: ids of marks that end a sentence; a source preferably ends at one.
    """

    words: tuple[int, int]
    sep_id: int
    mask_id: int | None
    seams: tuple[int, ...] = ()


class Objective(ABC):
    """One way to make targets.

    Attributes:
        name: for logs.
        mask: name of the attention mask that suffices.
    """

    name: str
    mask: str

    @abstractmethod
    def batch(self, rows: Mapping[str, np.ndarray], specials: Specials, rng: np.random.Generator) -> Batch:
        """Inputs and targets.

        Args:
            rows: ``token_ids``, ``document_ids``, ``word_ids``, ``part_ids`` (rows, length), see
                `kexue.text.corpus.PackedRows`.
            specials: of the vocabulary.
            rng: all randomness comes from here.

        Returns:
            ``token_ids`` and ``segment_ids`` (rows, length), and for T targets a row ``target_positions``,
            ``target_ids`` (rows, T) int32, ``target_weights`` (rows, T) float32, 0 where there is none. T depends on
            the length alone.
        """


@dataclass(frozen=True)
class MaskedLM(Objective):
    """BERT's objective: tokens of words drawn with probability ``share`` are to be told from all others.

    Of the chosen tokens 80 % become ``[MASK]``, 10 % a random token, 10 % stay. Words are masked whole where the
    corpus knows them. A row has room for three standard deviations more targets than its mean; where more were drawn,
    a random choice of them counts.

    Args:
        share: probability.
        spans: mask spans of geometric length (SpanBERT, arXiv 1907.10529) instead of words.
    """

    share: float = 0.15
    spans: bool = False
    mask = "bidirectional"
    others = 0.1
    """Part of the chosen tokens that stay, and as many that become a random token."""

    @property
    def name(self) -> str:  # type: ignore[override]
        return "span" if self.spans else "mlm"

    def room(self, length: int) -> int:
        """T."""
        mean = self.share * length
        return min(8 * math.ceil((mean + 3 * math.sqrt(mean)) / 8), length)

    def batch(self, rows: Mapping[str, np.ndarray], specials: Specials, rng: np.random.Generator) -> Batch:
        if specials.mask_id is None:
            raise ConfigError("a masked language model needs a [MASK] token, which this vocabulary has not.")
        masked = mask_tokens(
            rows,
            rng,
            share=self.share,
            keep=self.others,
            random=self.others,
            mask_id=specials.mask_id,
            vocabulary_range=specials.words,
            spans=Spans() if self.spans else None,
        )
        chosen = masked.weights
        room = self.room(chosen.shape[1])
        # Random keys, smaller at chosen places: the first T in their order are the targets, again in reading order.
        keys = rng.random(chosen.shape, "float32") + ~chosen
        places = np.sort(np.argpartition(keys, room - 1, axis=1)[:, :room], axis=1).astype("int32")
        return {
            "token_ids": masked.token_ids,
            "segment_ids": np.zeros_like(masked.token_ids),
            "target_positions": places,
            "target_ids": np.take_along_axis(masked.targets, places, 1),
            "target_weights": np.take_along_axis(chosen, places, 1).astype("float32"),
        }


@dataclass(frozen=True)
class Electra(MaskedLM):
    """Masked tokens for a generator, and the text as it was, in which its samples are put for a discriminator.

    Every chosen token becomes ``[MASK]``. Of words of which a row has no room for all targets, the discriminator sees
    the tokens that are no targets as they were. What is done with the batch is up to
    `kexue.tasks.pretraining.electra.ElectraModel`.

    Args:
        share: probability.
        spans: see `MaskedLM`.
        weight: of the discriminator's loss beside the generator's.

    Source: Clark et al., "ELECTRA", arXiv 2003.10555.
    """

    weight: float = 50.0
    name = "electra"
    others = 0.0

    def batch(self, rows: Mapping[str, np.ndarray], specials: Specials, rng: np.random.Generator) -> Batch:
        """As that of `Objective`, and ``original_ids`` (rows, length)."""
        return super().batch(rows, specials, rng) | {"original_ids": rows["token_ids"].astype("int32")}


@dataclass(frozen=True)
class CausalLM(Objective):
    """Each token from those before it, documents apart."""

    name = "clm"
    mask = "causal"

    def batch(self, rows: Mapping[str, np.ndarray], specials: Specials, rng: np.random.Generator) -> Batch:
        segments = (rows["document_ids"] > 0).astype("int32")
        return {"token_ids": rows["token_ids"], "segment_ids": segments} | _next(rows["token_ids"], segments, rows)


@dataclass(frozen=True)
class PrefixLM(Objective):
    """UniLM: a source seen by all, closed by ``[SEP]``, and a target that follows token by token (arXiv 1905.03197).

    In a document of two parts (a pair) the seam is the ``[SEP]`` between them. Elsewhere it is drawn from the marks
    that end a sentence, or from all tokens where there is none; the token at the seam gives its place to ``[SEP]``, so
    that lengths stay as they are. A piece of a single token has no targets.
    """

    name = "unilm"
    mask = "prefix"

    def batch(self, rows: Mapping[str, np.ndarray], specials: Specials, rng: np.random.Generator) -> Batch:
        ids, documents = rows["token_ids"].copy(), rows["document_ids"]
        inner = rows["word_ids"] >= 0
        # A seam needs a token after it.
        inner[:, :-1] &= inner[:, 1:] & (documents[:, :-1] == documents[:, 1:])
        inner[:, -1] = False
        parts = rows["part_ids"]
        seam = np.zeros_like(inner)
        seam[:, :-1] = (ids[:, :-1] == specials.sep_id) & (parts[:, 1:] == 1) & (documents[:, :-1] == documents[:, 1:])
        inner |= seam
        mark = np.isin(ids, specials.seams)
        # The greatest key of each piece wins: a pair's seam before a sentence's end before any token.
        keys = np.where(inner, rng.random(inner.shape, "float32") + mark + 2.0 * seam, -1.0)
        segments = np.zeros_like(ids)
        count = int(documents.max(initial=0)) + 1
        flat = (np.arange(len(ids))[:, None] * count + documents).ravel()
        best = np.full(len(ids) * count, -1.0)
        np.maximum.at(best, flat, keys.ravel())
        found = (keys == best[flat].reshape(keys.shape)) & (keys >= 0) & (documents > 0)
        ids[found] = specials.sep_id
        # After the seam, within the document.
        place = np.full(len(ids) * count, ids.shape[1])
        place[flat.reshape(ids.shape)[found]] = np.nonzero(found)[1]
        after = np.arange(ids.shape[1])[None] > place[flat].reshape(ids.shape)
        segments[after & (documents > 0)] = 1
        return {"token_ids": ids, "segment_ids": segments} | _next(ids, segments, rows)


def _next(ids: np.ndarray, segments: np.ndarray, rows: Mapping[str, np.ndarray]) -> Batch:
    """Targets of a language model: the next token where it belongs to the same document and to segment 1."""
    documents = rows["document_ids"]
    length = ids.shape[1]
    weights = np.zeros(ids.shape, "float32")
    weights[:, :-1] = (documents[:, :-1] == documents[:, 1:]) & (documents[:, 1:] > 0) & (segments[:, 1:] == 1)
    return {
        "target_positions": np.broadcast_to(np.arange(length, dtype="int32"), ids.shape).copy(),
        "target_ids": np.pad(ids[:, 1:], ((0, 0), (0, 1))).astype("int32"),
        "target_weights": weights,
    }


class Mixture(Objective):
    """One of several objectives for each step, drawn with given weights: the same network under several masks.

    Args:
        parts: objectives and their weights.
    """

    name = "mixture"
    mask = "prefix"

    def __init__(self, parts: Sequence[tuple[Objective, float]]) -> None:
        if not parts or any(not (weight > 0 and math.isfinite(weight)) for _, weight in parts):
            raise ConfigError(f"a mixture needs objectives with positive weights. Received: {parts!r}")
        self.parts = tuple(objective for objective, _ in parts)
        total = math.fsum(weight for _, weight in parts)
        self.weights = tuple(weight / total for _, weight in parts)
        names = [part.name for part in self.parts]
        if len(names) > 1 and any(isinstance(part, Electra) for part in self.parts):
            raise ConfigError("electra trains two networks of its own and cannot be part of a mixture.")
        if len(set(names)) != len(names):
            raise ConfigError(f"each objective may stand in a mixture once. Received: {', '.join(names)}")

    def __repr__(self) -> str:
        inner = ", ".join(f"({part!r}, {weight:.6g})" for part, weight in zip(self.parts, self.weights, strict=True))
        return f"Mixture([{inner}])"

    def draw(self, rng: np.random.Generator) -> int:
        """Index of the objective of a step."""
        return int(rng.choice(len(self.parts), p=self.weights))

    def batch(self, rows: Mapping[str, np.ndarray], specials: Specials, rng: np.random.Generator) -> Batch:
        return self.parts[self.draw(rng)].batch(rows, specials, rng)


_NAMES: dict[str, Any] = {
    "mlm": MaskedLM,
    "clm": CausalLM,
    "unilm": PrefixLM,
    "span": lambda: MaskedLM(spans=True),
    "electra": Electra,
}


def parse(text: str | Objective) -> Objective:
    """``"mlm"``, ``"clm"``, ``"unilm"``, ``"span"``, ``"electra"``, or a mixture ``"mlm=0.5,clm=0.25,unilm=0.25"``.

    Raises:
        ConfigError: another name, or weights that are not positive numbers.
    """
    if isinstance(text, Objective):
        return text
    parts: list[tuple[Objective, float]] = []
    for item in text.split(","):
        name, _, weight = item.strip().partition("=")
        if name not in _NAMES:
            raise ConfigError(
                f"unknown objective {name!r}. Expected {', '.join(_NAMES)}, or a mixture such as "
                "'mlm=0.5,clm=0.25,unilm=0.25'."
            )
        try:
            parts.append((_NAMES[name](), float(weight or 1)))
        except ValueError:
            raise ConfigError(f"the weight of {name} must be a number. Received: {weight!r}") from None
    mixture = Mixture(parts)
    return mixture if len(parts) > 1 else mixture.parts[0]
