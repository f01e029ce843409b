"""A model with its tokenizer, from a checkpoint or a configuration."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from kexue.errors import ConfigError
from kexue.models import Transformer, TransformerConfig
from kexue.text import Tokenizer, simplify_vocabulary

__all__ = ["check_vocabulary", "open_model"]


def open_model(
    path_or_config: str | os.PathLike[str] | TransformerConfig | Mapping[str, Any],
    tokenizer: Tokenizer | None,
    keep_tokens: Sequence[int] | str | None,
    *,
    mask: str | None = None,
    head: str | None = None,
    dtype: Any = None,
    **model_changes: Any,
) -> tuple[Transformer, Tokenizer]:
    """What ``from_pretrained`` of the tasks begin with.

    Args:
        path_or_config: a checkpoint of any known format; or a `TransformerConfig` or a dict of its fields for random
            weights.
        tokenizer: instead of the checkpoint's own.
        keep_tokens: ``"simplified"``, or ids to keep; see the tasks.
        mask: of the model.
        head: of the model.
        dtype: Keras dtype policy.
        **model_changes: fields of `TransformerConfig` to change, or arguments of `Transformer.from_pretrained`.

    Raises:
        ConfigError, CheckpointError, DataError: arguments or files that cannot work.
    """
    given: dict[str, Any] | None = None
    if isinstance(path_or_config, TransformerConfig):
        given = path_or_config.to_dict()
    elif isinstance(path_or_config, Mapping):
        given = dict(path_or_config)
    path: Any = path_or_config
    if tokenizer is None:
        if given is not None:
            raise ConfigError("a configuration alone has no tokenizer: pass tokenizer=.")
        tokenizer = Tokenizer.from_pretrained(path)
    keep: Any = keep_tokens
    if isinstance(keep_tokens, str):
        if keep_tokens != "simplified":
            raise ConfigError(f"keep_tokens must be 'simplified' or ids. Received: keep_tokens={keep_tokens!r}")
        simplified = simplify_vocabulary(tokenizer)
        keep, tokenizer = simplified.keep_tokens.tolist(), tokenizer.with_vocabulary(simplified.vocabulary)
    if given is None:
        options: dict[str, Any] = {"head": head, "keep_tokens": keep, "dtype": dtype} | model_changes
        return Transformer.from_pretrained(path, mask=mask, **options), tokenizer
    if keep is not None:
        model_changes["vocabulary_size"] = len(keep)
    given = {"vocabulary_size": tokenizer.vocabulary_size} | given | model_changes
    return Transformer(TransformerConfig.from_dict(given), mask=mask, head=head, dtype=dtype), tokenizer


def check_vocabulary(model: Transformer, tokenizer: Tokenizer) -> None:
    """Whether the model has a row for each token.

    Raises:
        ConfigError: it has not.
    """
    if tokenizer.vocabulary_size > model.config.vocabulary_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocabulary_size} tokens, the model's table only "
            f"{model.config.vocabulary_size} rows. Use the tokenizer of the checkpoint."
        )
