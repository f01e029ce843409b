"""Training a BERT vocabulary: characters for Chinese, wordpieces for words of letters and digits, one ranking for both.

Deterministic: ties go by the text of the tokens, never by the order in which a hash table gives them (the trainer of
the Rust library numbers its alphabet in such an order).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from tokenizers import normalizers, pre_tokenizers

from kexue.errors import ConfigError, DataError
from kexue.text._rust import BERT_SPECIALS
from kexue.text.corpus._runs import CharacterTable, bert_pieces
from kexue.text.corpus.merges import merges
from kexue.text.tokenizer import Tokenizer

__all__ = ["train_vocabulary"]

_CHUNK = 1 << 20
_LONGEST = 100  # characters: longer words are unknown to the tokenizer anyway
_ASCII = [chr(code) for code in range(33, 127)]


def train_vocabulary(
    texts: Iterable[str | Sequence[str]],
    size: int,
    *,
    min_count: int = 5,
    required: Iterable[str] = (),
    specials: Sequence[str] = tuple(BERT_SPECIALS.values()),
    unused: int = 0,
    lowercase: bool = True,
) -> Tokenizer:
    """Train a WordPiece vocabulary of BERT's kind.

    Always in it: ``specials``, ``[unused1] ...``, the printable ASCII characters, ``##`` forms of its letters and
    digits, and ``required``. The other places go to what occurs most often, at least ``min_count`` times: characters
    that are words of their own (ideographs, punctuation), letters at the start or inside of words, and wordpieces
    that merging the most frequent neighbours again and again gives (byte-pair encoding on characters; its count is
    that of the pair when it is merged).

    Args:
        texts: texts, or documents as `read_corpus` gives them; read once.
        size: greatest number of tokens; there are fewer if not enough occur ``min_count`` times.
        min_count: see above; rarer words take no part in the merging.
        required: tokens to have whatever their count, such as a list of standard characters.
        specials: come first, in this order. BERT's five must be among them.
        unused: number of spare tokens after them, for tokens of one's own.
        lowercase: lower-case and strip accents, as the resulting tokenizer will.

    Returns:
        A tokenizer, to be written by its ``save``. Ids after the fixed tokens go by falling count.

    Raises:
        ConfigError: ``size`` is too small for the fixed tokens.
        DataError: no text.

    Source: Schuster and Nakajima (2012); Sennrich et al., arXiv 1508.07909.
    """
    lacking = [token for token in BERT_SPECIALS.values() if token not in specials]
    if lacking or len(set(specials)) < len(specials):
        raise ConfigError(
            f"specials must be different tokens with BERT's five among them, {', '.join(lacking) or 'none'} missing. "
            f"Received: specials={list(specials)!r}"
        )
    if min_count < 1 or unused < 0:
        raise ConfigError(f"expected min_count >= 1 and unused >= 0. Received: {min_count} and {unused}")
    ascii_tokens = [token for token in _ASCII if not (lowercase and token.isupper())]
    inner = [f"##{token}" for token in ascii_tokens if token.isalnum()]
    spare = [f"[unused{i}]" for i in range(1, unused + 1)]
    fixed = list(dict.fromkeys([*specials, *spare, *ascii_tokens, *inner, *required]))
    if "" in fixed or size < len(fixed):
        raise ConfigError(f"size must be at least {len(fixed)} (the fixed tokens), none empty. Received: size={size}")
    singles, words = _count(texts, lowercase)
    if not singles and not words:
        raise DataError("the texts are empty")
    candidates = Counter(singles)
    for word, count in words.items():
        candidates[word[0]] += count
        for character in word[1:]:
            candidates[f"##{character}"] += count
    frequent = {word: count for word, count in words.items() if count >= min_count and len(word) > 1}
    places = size - len(fixed)
    for piece, count in merges(frequent, places, min_count):
        candidates.setdefault(piece, count)
    for token in fixed:
        candidates.pop(token, None)
    ranked = sorted((-count, token) for token, count in candidates.items() if count >= min_count)
    return Tokenizer.from_vocab([*fixed, *(token for _, token in ranked[:places])], lowercase=lowercase)


def _chunks(texts: Iterable[str | Sequence[str]]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for item in texts:
        for text in item if isinstance(item, (list, tuple)) else (item,):
            if not isinstance(text, str):
                raise DataError(f"expected texts or lists of texts. Received: {type(text).__name__}")
            chunk.append(text)
            size += len(text)
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _count(texts: Iterable[str | Sequence[str]], lowercase: bool) -> tuple[Counter[str], Counter[str]]:
    """How often each character that is a word of its own occurs, and each word; normalised."""
    normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lowercase
    )
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    table = CharacterTable(normalizer, pre_tokenizer, ord)
    characters = np.zeros(0x110000, "int64")
    raw: Counter[str] = Counter()
    for chunk in _chunks(texts):
        runs = table.split(chunk)
        counts = np.bincount(runs.kinds[runs.kinds >= 0])
        characters[: len(counts)] += counts
        raw.update(runs.words)
    singles = Counter({chr(code): int(characters[code]) for code in np.flatnonzero(characters).tolist()})
    words: Counter[str] = Counter()
    for run, count in raw.items():
        for piece in bert_pieces(normalizer, pre_tokenizer, run):
            # A run can hold characters that only become words of their own when they are normalised.
            if len(piece) <= _LONGEST:
                words[piece] += count
    return singles, words
