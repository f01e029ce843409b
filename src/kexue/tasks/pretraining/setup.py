"""What a pretraining starts from: networks of a configuration, a folder or a model, checked against the tokenizer."""

import os
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import keras

from kexue.errors import ConfigError
from kexue.models import Transformer, TransformerConfig
from kexue.models.weights import named_weights
from kexue.nn import masks
from kexue.tasks.pretraining.objectives import Specials
from kexue.text import Tokenizer
from kexue.training.seeding import seeded_weights

__all__ = ["check", "copied", "network", "specials"]

_SEAMS = "。！？；!?;\n"

Source = Transformer | TransformerConfig | Mapping[str, Any] | str | os.PathLike[str]


def network(
    source: Source, *, mask: str, head: str, dtype: Any, seed: int | None, dropout: float | None
) -> tuple[Transformer, TransformerConfig]:
    """The network to train, and the configuration that its checkpoint is to have: with dropout as it was."""
    with seeded_weights(seed):
        if isinstance(source, str | os.PathLike):
            model = Transformer.from_pretrained(source, mask=mask, head=head, dtype=dtype)
        elif isinstance(source, Transformer):
            if dtype is not None:
                raise ConfigError(f"a Transformer has its dtype already: Transformer(config, dtype={dtype!r}).")
            model = source
        else:
            model = Transformer(source, mask=mask, head=head, dtype=dtype)
    config = model.config
    if dropout is not None and {config.dropout, config.attention_dropout} != {dropout}:
        changed = config.replace(dropout=dropout, attention_dropout=dropout)
        with seeded_weights(seed):
            other = Transformer(changed, mask=model.mask, head=model.heads, dtype=model._parts[3])
        return copied(model, other), config
    return model, config


def copied(source: keras.Model, target: Transformer) -> Transformer:
    """``target`` with the weights of ``source``."""
    weights = named_weights(source)
    for name, variable in named_weights(target).items():
        variable.assign(weights[name])
    return target


def check(model: Transformer, tokenizer: Tokenizer, length: int, head: str, mask: str) -> None:
    """Raise ConfigError where they do not fit each other, or under a mask that shows targets; ``mask`` hides them."""
    if head not in model.heads:
        raise ConfigError(f"the model needs {_ARTICLE[head]} head: Transformer(config, head={head!r}).")
    if model.config.decoder_layers is not None or model.config.two_stream:
        raise ConfigError("models with a decoder or two streams are not pretrained here; expected one stack of blocks.")
    if model.config.vocabulary_size < len(tokenizer):
        raise ConfigError(
            f"the tokenizer has {len(tokenizer)} tokens, the model {model.config.vocabulary_size}. They must belong "
            "together."
        )
    for role in ("cls_id", "sep_id"):
        if getattr(tokenizer, role) is None:
            raise ConfigError(f"the tokenizer lacks a token for {role}, which stands around each piece of text.")
    if mask == "prefix" and model.config.num_segments == 1:
        raise ConfigError("unilm and mixtures need segments 0 and 1, the model knows one (num_segments=1).")
    segments = [[0, 0, 0, 1, 1, 1]] if mask == "prefix" else [[1] * 6]
    seen, hidden = (keras.ops.convert_to_numpy(m.dense(6, segment_ids=segments)) for m in (model.mask, masks.get(mask)))
    if (seen & ~hidden).any():
        raise ConfigError(
            f"under the model's mask {model.mask!r} tokens see their targets: Transformer(config, mask={mask!r}, ...)."
        )
    if model.max_tokens is not None and length > model.max_tokens:
        raise ConfigError(f"length={length} is beyond the model's positions, which end at {model.max_tokens}.")


_ARTICLE = {"lm": "an lm", "discriminator": "a discriminator"}


def specials(tokenizer: Tokenizer) -> Specials:
    """What objectives need to know of the vocabulary."""
    return Specials(
        words=_words(tokenizer),
        sep_id=tokenizer.sep_id,  # type: ignore[arg-type]
        mask_id=tokenizer.mask_id,
        seams=tuple(i for mark in _SEAMS if (i := tokenizer.token_to_id(mark)) is not None),
    )


def _words(tokenizer: Tokenizer) -> tuple[int, int]:
    """The longest range of ids without a special token: these stand first, last or on both sides (RoBERTa)."""
    marks = sorted({-1, *tokenizer.special_ids, len(tokenizer)})
    low, high = max(pairwise(marks), key=lambda pair: pair[1] - pair[0])
    return low + 1, high
