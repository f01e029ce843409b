"""Models with random initial weights: built-in sizes, configuration files, and a vocabulary from the data."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kexue.models.config import TransformerConfig
from kexue.text import Tokenizer

__all__ = ["character_vocabulary", "read_configuration", "sized"]

_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_FEW = 20_000  # characters; in less text a character that occurs once is all there is to learn it from

# hidden size, layers, heads, inner size
SIZES = {"tiny": (128, 2, 4, 512), "small": (256, 4, 4, 1024), "medium": (512, 8, 8, 2048)}


def sized(name: str, vocabulary_size: int, max_length: int) -> TransformerConfig:
    """A built-in size: an encoder with rotary positions."""
    hidden, layers, heads, inner = SIZES[name]
    return TransformerConfig(
        family="roformer",
        position="rotary",
        vocabulary_size=vocabulary_size,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        intermediate_size=inner,
        max_length=max_length,
    )


def read_configuration(path: Path) -> TransformerConfig:
    """A configuration file: kexue's, a bare `TransformerConfig`, Hugging Face's or Google's.

    Raises:
        ConfigError: it is none of these.
    """
    from kexue.cli._checkpoints import configuration
    from kexue.models.loading import read_config

    data, _ = read_config(path, path)
    if "vocabulary_size" in data:
        return TransformerConfig.from_dict(data)
    # Without tensors to tell by, a configuration that names no family means BERT.
    return configuration(data, ["bert/embeddings/position_embeddings"], None)[0]


def character_vocabulary(texts: Iterable[str]) -> Tokenizer:
    """A cased tokenizer whose tokens are the characters of the texts.

    In a longer text a character has to occur twice; the others are ``[UNK]``, which is thereby trained too. Characters
    that stand inside a word of letters or digits get their ``##`` form.
    """
    bare = Tokenizer.from_vocab(_SPECIALS, lowercase=False)
    first: Counter[str] = Counter()
    inner: Counter[str] = Counter()
    for text in texts:
        for word in _words(bare, text):
            first[word[0]] += 1
            inner.update(word[1:])
    least = 2 if first.total() + inner.total() > _FEW else 1
    tokens = [*_SPECIALS, *_frequent(first, least), *(f"##{c}" for c in _frequent(inner, least))]
    return Tokenizer.from_vocab(tokens, lowercase=False)


def _words(tokenizer: Tokenizer, text: str) -> list[str]:
    """The words that WordPiece will see."""
    normal = tokenizer.normalize(text)
    pre: Any = tokenizer.rust.pre_tokenizer
    return [word for word, _ in pre.pre_tokenize_str(normal)]


def _frequent(counts: Counter[str], least: int) -> list[str]:
    """Most frequent first, ties in code-point order, so that equal data give equal ids."""
    return [c for c, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= least]
