"""`ConditionalLM`: texts for a label, a vector or a picture."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kexue.errors import CheckpointError, ConfigError, DataError, KexueError
from kexue.models import Transformer, TransformerConfig
from kexue.nn.masks import Causal
from kexue.tasks._checks import check_training
from kexue.tasks._condition_files import load_source, save_task
from kexue.tasks._condition_source import ConditionSource, check_conditioner, check_labels
from kexue.tasks._conditional import ConditionedBatches, first_token, texts_of
from kexue.tasks._conditional_parts import Probabilities, Writing
from kexue.tasks._opening import check_vocabulary, open_model
from kexue.tasks._pairs import stop_token
from kexue.tasks._train import train as run_training
from kexue.text import Tokenizer
from kexue.training.seeding import seeded_weights

__all__ = ["ConditionalLM"]

LABEL_SIZE = 128
"""Length of a label's vector, as in the article."""


class ConditionalLM(Probabilities, Writing):
    """Writes texts under a condition: a label, a vector of the user's, or whatever a Keras model makes a vector of.

    A causal language model whose layer norms (or RMS norms), all of them, have gain and offset

        gain + c' A,   offset + c' B,   c' = c, or act(c W) with ``condition_hidden_size``

    for the vector c of the condition. A and B start at zero, so that at first the model writes what it would write
    without. A share of the training texts has the learned null vector instead of its own, which makes `generate` able
    to strengthen the condition (``guidance``).

    Make one with `from_pretrained` or `load`.

    Args:
        model: a `Transformer` with ``mask="causal"``, ``head="lm"`` and ``condition_size``.
        tokenizer: its tokenizer.
        source: where vectors come from.
        max_length: most tokens of a row, special ones included; longer texts are cut at punctuation.
        segment: segment id of all tokens, where the model has segments: 0 as in BERT's first text, or what the
            checkpoint wrote under (1 in zh-mini).

    Example:
        >>> lm = ConditionalLM.from_pretrained("zh-mini", labels=["bad", "good"], segment=1)       # doctest: +SKIP
        >>> lm.fit([{"text": "房间很干净，服务也好。", "label": "good"}], epochs=5)                   # doctest: +SKIP
        >>> lm.predict("good", n=3, guidance=2.0)                                                  # doctest: +SKIP

    Source: kexue.fm 7124; guidance, Ho and Salimans, arXiv 2207.12598.
    """

    best_epoch: int | None = None
    """Epoch, from 0, whose weights the latest `fit` with validation kept."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        source: ConditionSource,
        *,
        max_length: int = 128,
        segment: int = 0,
    ) -> None:
        config = model.config
        if "lm" not in model.heads or not isinstance(model.mask, Causal) or config.decoder_layers is not None:
            raise ConfigError(
                f"ConditionalLM needs a model with mask='causal' and head='lm'. Received: mask={model.mask!r}, "
                f"heads={model.heads}"
            )
        if config.condition_per_token:
            raise ConfigError(
                "condition_per_token gives a condition to each token that is there, and tokens that are yet to be "
                "generated have none. Build the model with condition_size alone."
            )
        if config.condition_size != source.size:
            raise ConfigError(
                f"the condition's vectors have {source.size} numbers, the model's condition_size is "
                f"{config.condition_size}."
            )
        check_vocabulary(model, tokenizer)
        if max_length < 3:
            raise ConfigError(
                f"max_length must leave room beside two special tokens. Received: max_length={max_length}"
            )
        if model.max_tokens is not None and max_length > model.max_tokens:
            raise ConfigError(f"the model's positions end at {model.max_tokens}. Received: max_length={max_length}")
        if "segment_ids" in model.input and not 0 <= segment < max(config.num_segments, 1):
            raise ConfigError(f"segment must be below num_segments={config.num_segments}. Received: segment={segment}")
        self.model, self.tokenizer, self.source = model, tokenizer, source
        self.max_length, self.segment = max_length, segment
        self.start, self.stop = first_token(tokenizer), stop_token(tokenizer)

    @classmethod
    def from_pretrained(
        cls,
        path_or_config: str | os.PathLike[str] | TransformerConfig | Mapping[str, Any],
        *,
        labels: Sequence[str] | None = None,
        condition_size: int | None = None,
        conditioner: keras.Model | None = None,
        tokenizer: Tokenizer | None = None,
        max_length: int = 128,
        segment: int = 0,
        keep_tokens: Sequence[int] | str | None = None,
        dtype: Any = None,
        seed: int | None = None,
        **model_changes: Any,
    ) -> "ConditionalLM":
        """A model from the weights of a language model or an encoder with an MLM head.

        Args:
            path_or_config: a checkpoint of any known format with its tokenizer; or a `TransformerConfig` or a dict of
                its fields for random weights, which needs ``tokenizer`` (and may leave ``vocabulary_size`` out).
            labels: condition on one of these; each has a vector that is learned.
            condition_size: without labels: condition on vectors of so many numbers that you give. With labels: the
                length of their vectors, 128 by default.
            conditioner: a Keras model from one input, such as a picture, to one vector; it is trained too.
            tokenizer: instead of the checkpoint's own.
            max_length: see `ConditionalLM`.
            segment: see `ConditionalLM`.
            keep_tokens: see `Seq2Seq.from_pretrained`.
            dtype: Keras dtype policy of the language model.
            seed: of all initial weights that no checkpoint gives (a conditioner has its own already).
            **model_changes: fields of `TransformerConfig` to change, such as ``condition_hidden_size`` and
                ``condition_activation``, or arguments of `Transformer.from_pretrained`.

        Raises:
            ConfigError, CheckpointError, DataError: arguments or files that cannot work.
        """
        if (labels is not None) + (conditioner is not None) + (labels is None and condition_size is not None) != 1:
            raise ConfigError(
                "give one of labels=[...], condition_size=n (vectors of your own) and conditioner=keras_model. "
                f"Received: labels={labels!r:.60}, condition_size={condition_size}, conditioner={conditioner!r:.60}"
            )
        if conditioner is not None:
            size = check_conditioner(conditioner)
        elif labels is not None:
            labels, size = check_labels(labels), LABEL_SIZE if condition_size is None else condition_size
        else:
            size = condition_size or 0
        with seeded_weights(seed):
            model, tokenizer = open_model(
                path_or_config,
                tokenizer,
                keep_tokens,
                mask="causal",
                head="lm",
                dtype=dtype,
                **({"condition_size": size} | model_changes),
            )
            source = ConditionSource(size, labels, conditioner)
        return cls(model, tokenizer, source, max_length=max_length, segment=segment)

    def fit(
        self,
        train: Iterable[Mapping[str, Any]],
        valid: Iterable[Mapping[str, Any]] | None = None,
        *,
        epochs: int = 10,
        batch_size: int = 32,
        learning_rate: float = 2e-5,
        condition_learning_rate: float | None = None,
        condition_dropout: float = 0.1,
        weight_decay: float = 0.01,
        warmup: int | float = 0.1,
        clip: float | None = 1.0,
        seed: int = 0,
        steps_per_epoch: int | None = None,
        resume: str | os.PathLike[str] | None = None,
        save_every: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: int | str = "auto",
        jit_compile: bool | str = "auto",
    ) -> keras.callbacks.History:
        """Train on texts and their conditions: mean cross-entropy of all tokens, the end token among them.

        AdamW (no decay of biases and gains) with a linear rise and fall of the rate. With ``valid`` the weights of the
        epoch of least ``val_loss`` stay.

        Args:
            train: ``{"text": str, "label": str}``, or ``{"text": str, "condition": vector or array}``; None
                instead of a label or condition: a text that is learned under the null condition.
            valid: examples to choose the best epoch by.
            epochs: how often to go over the data.
            batch_size: rows in a batch.
            learning_rate: the highest.
            condition_learning_rate: that of the label vectors, the conditioner and what it adds to the norms; default
                ten times the other, 1e-3 at most, and never below the other.
            condition_dropout: share of the rows that are learned under the null condition, which ``guidance`` compares
                with; others in each pass.
            weight_decay: of matrices.
            warmup: share of the steps, or a number of them.
            clip: greatest norm of all gradients together; None: any.
            seed: of the order of the data and of dropout. The same call on equal weights gives equal results.
            steps_per_epoch: default once over the data.
            resume: folder for the state of the training. A call that was killed goes on where it was when it is made
                again; one that was done returns its result at once.
            save_every: also save the state every so many steps.
            callbacks: of Keras.
            verbose: as in Keras.
            jit_compile: as in Keras ``compile``.

        Returns:
            The History of Keras; ``loss`` and ``accuracy`` are those of tokens.

        Raises:
            DataError: no or broken examples; the message names the example.
            ConfigError: arguments that cannot work, or a ``resume`` folder of another job.
        """
        check_training(
            epochs=epochs,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            save_every=save_every,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            clip=clip,
            condition_learning_rate=condition_learning_rate,
        )
        if not 0 <= condition_dropout < 1:
            raise ConfigError(f"condition_dropout must be in [0, 1). Received: {condition_dropout}")
        rate = max(learning_rate, min(10 * learning_rate, 1e-3))
        rate = rate if condition_learning_rate is None else condition_learning_rate
        order = {"seed": seed, "steps": steps_per_epoch, "dropout": condition_dropout}
        batches = self._read_batches(train, "train", batch_size, **order)
        held = None if valid is None else self._read_batches(valid, "valid", batch_size)
        own = "|".join(f"^{re.escape(v.path)}$" for v in self.source.trainable_variables)
        history, self.best_epoch = run_training(
            self._network,
            batches,
            held,
            job={
                "task": "conditional_lm",
                "labels": self.labels,
                "model": self.model.config.to_dict(),
                "conditioner": None if self.source.conditioner is None else self.source.conditioner.to_json(),
                "train": batches.fingerprint(),
                "valid": None if held is None else held.fingerprint(),
                "batch_size": batch_size,
                "condition_learning_rate": rate,
                "condition_dropout": condition_dropout,
            },
            epochs=epochs,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            warmup=warmup,
            clip=clip,
            seed=seed,
            resume=resume,
            save_every=save_every,
            callbacks=callbacks,
            verbose=verbose,
            jit_compile=jit_compile,
            rate_rules=[(rf"/(gain|bias|condition)_kernel$|{own}", rate / learning_rate)],
        )
        return history

    def _read_batches(
        self, data: Iterable[Mapping[str, Any]], what: str, batch_size: int, **options: Any
    ) -> ConditionedBatches:
        texts, values = texts_of(data, self.key, what)
        given, rows = self.source.read(values, what), self._rows(texts, what)
        if not rows[0]:
            raise DataError(f"{what} holds no text: all examples are empty or white space.")
        return self._batches(rows, given, batch_size, **options)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write one folder with ``task.json``, the model, its tokenizer, the vectors of labels and null condition and,
        where there is one, ``conditioner.keras``; whole or not at all.
        """
        save_task(folder, self.model, self.tokenizer, self.source, max_length=self.max_length, segment=self.segment)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], dtype: Any = None) -> "ConditionalLM":
        """Read what `save` wrote. A conditioner is loaded in Keras' safe mode, which runs no code from the file.

        Raises:
            CheckpointError: a file is missing, damaged or does not fit; the message names it.
        """
        source, sizes = load_source(folder)
        tokenizer = Tokenizer.from_pretrained(folder)
        model = Transformer.from_pretrained(folder, mask="causal", head="lm", dtype=dtype)
        try:
            return cls(model, tokenizer, source, **sizes)
        except KexueError as error:
            raise CheckpointError(f"{Path(folder) / 'task.json'}: {error}") from None

    def __repr__(self) -> str:
        config = self.model.config
        what = f"labels={list(self.labels)}" if self.labels is not None else f"condition_size={self.source.size}"
        what += "" if self.source.conditioner is None else f", conditioner={self.source.conditioner.name!r}"
        return (
            f"ConditionalLM({config.family} {config.num_layers}x{config.hidden_size}, {what}, "
            f"max_length={self.max_length}, {self.model.count_params():,} parameters)"
        )
