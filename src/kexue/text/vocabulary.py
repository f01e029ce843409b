"""Vocabulary slimming: fewer tokens, the same weights.

A Chinese BERT spends a third of its vocabulary on pieces that its own tokenizer can never produce (``##中``: every
ideograph is a word of its own). `simplify_vocabulary` leaves such tokens out and says which rows of the embedding
and of the output bias to keep; `extend_vocabulary` adds tokens whose rows are means of old ones. The rules are those
of bert4keras (``load_vocab(simplified=True)``, ``keep_tokens``, ``compound_tokens``).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kexue.errors import ConfigError, DataError
from kexue.text.characters import is_cjk, is_punctuation
from kexue.text.tokenizer import Tokenizer

__all__ = ["SimplifiedVocabulary", "extend_vocabulary", "is_redundant", "simplify_vocabulary"]

Compound = tuple[tuple[int, ...], tuple[float, ...]]
"""Old ids and their weights; the new row is the weighted mean of the old rows."""


@dataclass(frozen=True, eq=False)
class SimplifiedVocabulary:
    """A vocabulary made from another one.

    Attributes:
        vocabulary: the tokens; new id = position.
        keep_tokens: ``(kept,)`` int32, the old id of each new id; row ``i`` of the new embedding is row
            ``keep_tokens[i]`` of the old one.
        compound_tokens: for the tokens after the kept ones ``(old ids, weights)``, the new row being
            ``sum(w * row) / sum(w)``.
        old_size: size of the vocabulary it was made from.
        tokenizer: over the new vocabulary; None if only a list of tokens was given.
    """

    vocabulary: list[str]
    keep_tokens: np.ndarray
    old_size: int
    tokenizer: Tokenizer | None = None
    compound_tokens: list[Compound] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.vocabulary)

    @property
    def dropped(self) -> int:
        """How many of the old tokens are gone."""
        return self.old_size - len(self.keep_tokens)

    def rows(self, table: np.ndarray) -> np.ndarray:
        """Apply the change to an embedding ``(old, d)`` or a bias ``(old,)``."""
        if len(table) != self.old_size:
            raise DataError(f"expected a table of {self.old_size} rows. Received: {table.shape}")
        parts = [table[self.keep_tokens]]
        for ids, weights in self.compound_tokens:
            weight = np.asarray(weights, "float64")
            mean = np.tensordot(weight / weight.sum(), table[list(ids)].astype("float64"), axes=1)
            parts.append(mean.astype(table.dtype)[None])
        return np.concatenate(parts)


def is_redundant(token: str) -> bool:
    """Whether BERT's own tokenizer can never produce the token: more than one character (``##`` not counted as such
    but making the token one of several), with an ideograph or punctuation among them. Bracketed tokens like
    ``[unused1]`` are redundant too, special tokens are kept by name.
    """
    if len(token) < 2:
        return False
    body = token.removeprefix("##")
    return any(is_cjk(c) or is_punctuation(c) for c in body)


def simplify_vocabulary(
    source: Tokenizer | Sequence[str],
    *,
    keep_first: Sequence[str] | None = None,
    keep: Iterable[str] = (),
    texts: Iterable[str] | None = None,
    min_count: int = 1,
    drop_redundant: bool | None = None,
) -> SimplifiedVocabulary:
    """Leave out tokens.

    Args:
        source: a WordPiece tokenizer, or the list of tokens.
        keep_first: tokens that open the new vocabulary in this order, whatever else happens; default: padding,
            unknown, start, end, mask. Those that the vocabulary lacks are an error.
        keep: further tokens never to drop.
        texts: if given (needs a tokenizer), only tokens that occur in these texts at least ``min_count`` times are
            kept. Texts with other characters then give ``[UNK]`` more often than before.
        min_count: see ``texts``.
        drop_redundant: leave out tokens that cannot occur (see `is_redundant`). Default: yes, but for a tokenizer
            with a ``pre_tokenize`` hook, or one that does not split Chinese, no: there whole Chinese words do occur.

    Returns:
        The new vocabulary with the rows to keep, in the old order after ``keep_first``.

    Raises:
        DataError: a token of ``keep_first`` or ``keep`` that does not exist.
        ConfigError: ``texts`` without a tokenizer, or not WordPiece.
    """
    tokenizer = source if isinstance(source, Tokenizer) else None
    tokens = tokenizer.vocabulary if tokenizer is not None else list(source)  # type: ignore[arg-type]
    if tokenizer is not None and not tokenizer.is_word_piece:
        kind = type(tokenizer.rust.model).__name__
        raise ConfigError(
            f"only WordPiece vocabularies can be simplified. Received: {kind}, where every token takes part in cutting "
            "others: BPE builds tokens from tokens, unigram weighs them against each other"
        )
    if min_count < 1:
        raise ConfigError(f"min_count must be at least 1. Received: min_count={min_count}")
    ids = {token: index for index, token in enumerate(tokens)}
    if keep_first is None:
        names = tokenizer.specials if tokenizer is not None else _usual_specials(ids)
        keep_first = [names[role] for role in ("pad", "unk", "cls", "sep", "mask") if role in names]
    first = list(dict.fromkeys(keep_first))
    wanted = set(first) | set(keep)
    missing = sorted(wanted - set(ids))
    if missing:
        raise DataError(f"the vocabulary has no {', '.join(map(repr, missing))}, which should be kept")
    if tokenizer is not None:
        wanted |= set(tokenizer.specials.values())
    counts: Counter[int] | None = None
    if texts is not None:
        if tokenizer is None:
            raise ConfigError("counting tokens in texts needs a Tokenizer, received a list of tokens")
        counts = _count(tokenizer, texts)
    if drop_redundant is None:
        drop_redundant = tokenizer is None or (tokenizer.splits_chinese and not tokenizer.has_words)
    rest = [
        token
        for index, token in enumerate(tokens)
        if token not in first
        and (
            token in wanted
            or (not (drop_redundant and is_redundant(token)) and (counts is None or counts[index] >= min_count))
        )
    ]
    vocabulary = [*first, *rest]
    return SimplifiedVocabulary(
        vocabulary=vocabulary,
        keep_tokens=np.asarray([ids[token] for token in vocabulary], "int32"),
        old_size=len(tokens),
        tokenizer=None if tokenizer is None else tokenizer.with_vocabulary(vocabulary),
    )


def extend_vocabulary(
    base: Tokenizer | SimplifiedVocabulary,
    new_tokens: Iterable[str] | Mapping[str, Mapping[str, float]],
    *,
    tokenizer: Tokenizer | None = None,
) -> SimplifiedVocabulary:
    """Add tokens whose embedding rows are weighted means of old rows.

    Args:
        base: the tokenizer, or a vocabulary that `simplify_vocabulary` made (then ids refer to the original model).
        new_tokens: tokens, each made of the pieces that the old tokenizer cuts it into, equally weighted; or
            ``{token: {old token: weight}}``. Note that BERT's tokenizer cuts Chinese into characters: a new Chinese
            word is found only with a ``pre_tokenize`` hook.
        tokenizer: the original tokenizer, needed when ``base`` is a `SimplifiedVocabulary` (its own, slim one knows
            fewer pieces).

    Returns:
        The vocabulary with the new tokens at the end and ``compound_tokens`` for them.

    Raises:
        DataError: a token exists already, or consists of unknown pieces only.
    """
    if isinstance(base, Tokenizer):
        tokenizer = tokenizer or base
        size = len(base)
        base = SimplifiedVocabulary(base.vocabulary, np.arange(size, dtype="int32"), size, base)
    if tokenizer is None:
        raise ConfigError("extend_vocabulary needs the original tokenizer beside a SimplifiedVocabulary: tokenizer=...")
    if len(tokenizer) != base.old_size:
        raise ConfigError(f"the original tokenizer has {base.old_size} tokens. Received: one with {len(tokenizer)}")
    known = set(base.vocabulary)
    compounds = list(base.compound_tokens)
    added = []
    for token in new_tokens:
        if token in known:
            raise DataError(f"the token {token!r} is in the vocabulary already")
        if isinstance(new_tokens, Mapping):
            weights = dict(new_tokens[token])
            missing = [old for old in weights if tokenizer.token_to_id(old) is None]
            if missing or not weights or sum(weights.values()) <= 0:
                raise DataError(
                    f"{token!r}: needs old tokens with positive weight; unknown: {', '.join(missing) or '-'}"
                )
            pieces = [(tokenizer.token_to_id(old) or 0, float(weight)) for old, weight in weights.items()]
        else:
            piece_ids = tokenizer.plain_pieces([token.removeprefix("##")])[0].ids
            pieces = [(index, 1.0) for index in piece_ids if index != tokenizer.unk_id]
            if not pieces:
                raise DataError(f"{token!r}: the old vocabulary knows none of its pieces. Give weights yourself")
        compounds.append((tuple(index for index, _ in pieces), tuple(weight for _, weight in pieces)))
        known.add(token)
        added.append(token)
    vocabulary = [*base.vocabulary, *added]
    template = base.tokenizer or tokenizer
    return SimplifiedVocabulary(
        vocabulary, base.keep_tokens, base.old_size, template.with_vocabulary(vocabulary), compounds
    )


def _usual_specials(ids: Mapping[str, int]) -> dict[str, str]:
    from kexue.text._rust import find_specials

    return find_specials(ids, {})


def _count(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[int]:
    counts: Counter[int] = Counter()
    chunk: list[str] = []

    def flush() -> None:
        for encoding in tokenizer.encode_batch(chunk):
            counts.update(encoding.token_ids.tolist())
        chunk.clear()

    for text in texts:
        chunk.append(text)
        if len(chunk) == 1024:
            flush()
    flush()
    return counts
