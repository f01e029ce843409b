"""What the tasks that write text share: weights of any checkpoint under a mask, training, descriptions, streams."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kexue.errors import CheckpointError, ConfigError
from kexue.models import Transformer, TransformerConfig
from kexue.text import Tokenizer, simplify_vocabulary
from kexue.training.best import BestWeights
from kexue.training.optimizers import AdamW
from kexue.training.resume import Resume
from kexue.training.running import run
from kexue.training.schedules import WarmupLinear
from kexue.training.seeding import seeded_training, seeded_weights
from kexue.training.steady import SteadyRandom

__all__ = ["check_counts", "check_vocabulary", "read_description", "text_pieces", "train", "writer_model"]


def writer_model(
    path_or_config: Any,
    *,
    mask: str,
    tokenizer: Tokenizer | None,
    keep_tokens: Sequence[int] | str | None,
    dtype: Any,
    seed: int | None,
    changes: Mapping[str, Any],
) -> tuple[Transformer, Tokenizer]:
    """A `Transformer` with the head ``lm`` and its tokenizer; arguments as in `Seq2Seq.from_pretrained`.

    Raises:
        ConfigError, CheckpointError, DataError: arguments or files that cannot work.
    """
    given: dict[str, Any] | None = None
    if isinstance(path_or_config, TransformerConfig):
        given = path_or_config.to_dict()
    elif isinstance(path_or_config, Mapping):
        given = dict(path_or_config)
    if tokenizer is None:
        if given is not None:
            raise ConfigError("a configuration alone has no tokenizer: pass tokenizer=.")
        tokenizer = Tokenizer.from_pretrained(path_or_config)
    keep: Any = keep_tokens
    if isinstance(keep_tokens, str):
        if keep_tokens != "simplified":
            raise ConfigError(f"keep_tokens must be 'simplified' or ids. Received: keep_tokens={keep_tokens!r}")
        simplified = simplify_vocabulary(tokenizer)
        keep, tokenizer = simplified.keep_tokens.tolist(), tokenizer.with_vocabulary(simplified.vocabulary)
    with seeded_weights(seed):
        if given is None:
            model = Transformer.from_pretrained(
                path_or_config, mask=mask, head="lm", keep_tokens=keep, dtype=dtype, **changes
            )
        else:
            given = {"vocabulary_size": tokenizer.vocabulary_size} | given | dict(changes)
            model = Transformer(TransformerConfig.from_dict(given), mask=mask, head="lm", dtype=dtype)
    return model, tokenizer


def check_vocabulary(model: Transformer, tokenizer: Tokenizer) -> None:
    """Raise ConfigError where the tokenizer has tokens that the model has no rows for."""
    if tokenizer.vocabulary_size > model.config.vocabulary_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocabulary_size} tokens, the model's table only "
            f"{model.config.vocabulary_size} rows. Use the tokenizer of the checkpoint."
        )


def check_counts(**counts: Any) -> None:
    """Raise ConfigError for what is no positive integer."""
    for name, number in counts.items():
        if not isinstance(number, int) or number < 1:
            raise ConfigError(f"{name} must be a positive integer. Received: {name}={number!r}")


def train(
    network: keras.Model,
    batches: Any,
    held: Any,
    *,
    job: Mapping[str, Any],
    epochs: int,
    learning_rate: float,
    weight_decay: float,
    warmup: int | float,
    clip: float | None,
    seed: int,
    resume: str | os.PathLike[str] | None,
    save_every: int | None,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: int | str,
    jit_compile: bool | str,
    rate_rules: Sequence[tuple[str, float]] = (),
) -> tuple[keras.callbacks.History, int | None]:
    """Fit with AdamW, a linear rise and fall of the rate, and the weights of least ``val_loss`` at the end.

    Args:
        network: gives its own loss.
        batches: to train on, see `kexue.training.running.run`.
        held: to choose the best epoch by, or None.
        job: what tells this training from others beside these arguments, for ``resume``.
        rate_rules: see `kexue.training.per_variable`.
        epochs, ...: as in `Seq2Seq.fit`.

    Returns:
        The History, and the epoch whose weights were kept, None without validation.
    """
    optimizer = AdamW(
        WarmupLinear(learning_rate, max(1, batches.steps * epochs), warmup),
        rate_rules=rate_rules,
        weight_decay=weight_decay,
        global_clipnorm=clip,
    )
    network.compile(optimizer=optimizer, jit_compile=jit_compile)
    best = None if held is None else BestWeights("val_loss", mode="min")
    own = [callback for callback in (SteadyRandom(), best) if callback is not None]
    every = [*own, *callbacks]
    state = None
    if resume is not None:
        job = dict(job) | {
            "epochs": epochs,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "warmup": warmup,
            "clip": clip,
            "seed": seed,
            "steps_per_epoch": batches.steps,
        }
        state = Resume(resume, job=job, save_every=save_every, callbacks=every)
    with seeded_training(network, seed):
        history = run(network, batches, epochs=epochs, callbacks=every, state=state, verbose=verbose, validation=held)
    if keras.backend.backend() == "jax":
        network.jax_state_sync()
    if best is None:
        return history, None
    best.restore(network)
    return history, best.epoch


def read_description(folder: str | os.PathLike[str], kind: str, who: str) -> tuple[Path, dict[str, Any]]:
    """The file ``task.json`` that a task wrote into its folder, and what it says.

    Args:
        folder: of the task.
        kind: of task.
        who: its class, for messages.

    Raises:
        CheckpointError: it is missing, damaged or of another kind.
    """
    path = Path(folder) / "task.json"
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: expected a folder that {who}.save wrote.")
    try:
        task = json.loads(path.read_text(encoding="utf-8"))
        known = (task["format"], task["version"], task["task"]) == ("kexue-task", 1, kind)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not the description of a {who}: {error!r}") from None
    if not known:
        raise CheckpointError(
            f"{path}: expected a {who}, a kexue-task of version 1 and kind {kind}. Received: {str(task)[:200]}"
        )
    return path, task


def text_pieces(decode: Callable[[list[int]], str], tokens: Iterator[int]) -> Iterator[str]:
    """New characters of the text so far; what may still change (the last character of a broken one) waits."""
    ids: list[int] = []
    shown = ""
    for token in tokens:
        ids.append(token)
        text = decode(ids)
        if text.startswith(shown) and not text.endswith("\ufffd"):
            yield text[len(shown) :]
            shown = text
    rest = decode(ids)
    if rest.startswith(shown) and len(rest) > len(shown):
        yield rest[len(shown) :]
