"""Hiding tokens: BERT's masks over words or tokens, and SpanBERT's spans. All rows at once, in numpy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kexue.errors import ConfigError

__all__ = ["Masked", "Spans", "mask_tokens"]

Array = np.ndarray


class Masked(NamedTuple):
    """What a masked language model is trained on; all ``(n, length)``.

    Attributes:
        token_ids: int32, the corrupted tokens.
        targets: int32, the original tokens.
        weights: bool, true at the tokens that count in the loss: those selected, whether their id changed or not.
    """

    token_ids: Array
    targets: Array
    weights: Array


@dataclass(frozen=True)
class Spans:
    """SpanBERT's spans (arXiv 1907.10529): lengths in words, geometric with parameter ``p``, cut off at ``longest``.

    The cut-off distribution is p (1 - p)^(k - 1) / (1 - (1 - p)^longest) for k = 1 .. longest: mean 3.8 by default.
    """

    p: float = 0.2
    longest: int = 10


def mask_tokens(
    rows: Mapping[str, Array],
    rng: np.random.Generator,
    *,
    mask_id: int,
    vocabulary_range: tuple[int, int],
    share: float = 0.15,
    keep: float = 0.1,
    random: float = 0.1,
    whole_words: bool = True,
    spans: Spans | None = None,
) -> Masked:
    """Select words and corrupt their tokens.

    Without spans each word (or token) is selected independently with probability ``share``; each selected token then
    becomes ``mask_id`` with probability ``1 - keep - random``, stays with probability ``keep``, or becomes a token
    drawn evenly from ``vocabulary_range``. With spans, runs of neighbouring words are selected, anywhere with equal
    probability, until ``share`` of the row's tokens are (a span that would exceed it is left away), and the tokens of
    one span are all masked, all kept, or all replaced, as SpanBERT does. Special tokens and padding are never
    selected, and a span never leaves its piece.

    Args:
        rows: ``token_ids`` and ``word_ids`` (-1 where nothing may be hidden), and for spans ``document_ids``; as from
            `PackedRows.take`. Left unchanged.
        rng: where chance comes from: the same state gives the same masks.
        mask_id: id of ``[MASK]``.
        vocabulary_range: half-open range of ids for replacements.
        share: part of the words or tokens to select.
        keep: part of those selected that stay as they are.
        random: part of those selected that get a random token.
        whole_words: select words, not tokens, so that no part of a hidden word gives it away.
        spans: select spans.

    Raises:
        ConfigError: shares outside [0, 1] or an empty range.

    Source: Devlin et al., arXiv 1810.04805; RoBERTa's dynamic masks; kexue.fm article 7055.
    """
    if not (0 < share <= 1 and keep >= 0 and random >= 0 and keep + random <= 1):
        raise ConfigError(
            "expected 0 < share <= 1, keep >= 0, random >= 0, keep + random <= 1. "
            f"Received: share={share}, keep={keep}, random={random}"
        )
    low, high = vocabulary_range
    if not 0 <= low < high:
        raise ConfigError(f"vocabulary_range must be (low, high) with low < high. Received: {vocabulary_range}")
    if spans is not None and not (0 < spans.p <= 1 and spans.longest >= 1):
        raise ConfigError(f"spans need 0 < p <= 1 and longest >= 1. Received: {spans}")
    token_ids = np.asarray(rows["token_ids"], "int32")
    units = np.asarray(rows["word_ids"])
    text = units >= 0
    if not whole_words:
        units = np.where(text, np.cumsum(text, 1) - 1, -1)
    most = int(units.max(initial=-1)) + 1
    if most == 0:
        return Masked(token_ids.copy(), token_ids.copy(), np.zeros(token_ids.shape, bool))
    row = np.arange(len(units))[:, None]
    if spans is None:
        selected = (rng.random((len(units), most)) < share)[row, units] & text
        draw = rng.random(token_ids.shape)
    else:
        of_unit = _select_spans(units, np.asarray(rows["document_ids"]), most, rng, share, spans)
        selected = (of_unit >= 0)[row, units] & text
        draw = rng.random((len(units), most))[row, np.where(selected, of_unit[row, units], 0)]
    replaced = rng.integers(low, high, token_ids.shape, "int32")
    hidden = np.where(draw < random, replaced, np.where(draw < random + keep, token_ids, np.int32(mask_id)))
    return Masked(np.where(selected, hidden, token_ids), token_ids.copy(), selected)


def _select_spans(
    units: Array, documents: Array, most: int, rng: np.random.Generator, share: float, spans: Spans
) -> Array:
    """First word of the span that each word belongs to, ``(n, most)``; -1: none."""
    count = len(units)
    row, column = np.nonzero(units >= 0)
    unit = units[row, column]
    tokens = np.bincount(row * most + unit, minlength=count * most).reshape(count, most)
    document = np.zeros((count, most), "int64")
    document[row, unit] = documents[row, column]
    words = (tokens > 0).sum(1)
    budget = share * tokens.sum(1)
    # Chance decides about the fraction of a token, so that short rows are not masked less.
    budget = np.floor(budget) + (rng.random(count) < budget % 1)
    before = np.concatenate([np.zeros((count, 1), "int64"), np.cumsum(tokens, 1)], 1)
    result = np.full((count, most), -1)
    used = np.zeros(count)
    lengths = np.arange(1, spans.longest + 1)
    chance = spans.p * (1 - spans.p) ** (lengths - 1)
    offset = np.arange(spans.longest)
    # Every round draws one span for each row that is not full. Spans that overlap, leave their piece or exceed the
    # budget are left away; rows that cannot be filled exactly end when tries do.
    tries = np.zeros(count, "int64")
    for _ in range(most * 8):
        active = np.flatnonzero((used < budget) & (tries < 16))
        if not len(active):
            break
        start = (rng.random(len(active)) * words[active]).astype("int64")
        length = rng.choice(lengths, len(active), p=chance / chance.sum())
        stop = np.minimum(start + length, words[active])
        cost = before[active, stop] - before[active, start]
        places = np.minimum(start[:, None] + offset, most - 1)
        inside = offset < (stop - start)[:, None]
        free = (result[active[:, None], places] < 0) | ~inside
        home = (document[active[:, None], places] == document[active, start][:, None]) | ~inside
        good = free.all(1) & home.all(1) & (used[active] + cost <= budget[active]) & (stop == start + length)
        tries[active] = np.where(good, 0, tries[active] + 1)
        mine, where = np.nonzero(inside & good[:, None])
        result[active[mine], places[mine, where]] = start[mine]
        used[active] += np.where(good, cost, 0)
    return result
