"""`ConditionalLM`: texts for a label, a vector or a picture."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kexue.decoding import Generation, Guidance, Sample, generate, stream
from kexue.decoding.search.mlm_gibbs import special_tokens
from kexue.decoding.strategies import Search
from kexue.errors import CheckpointError, ConfigError, KexueError
from kexue.models import Transformer, TransformerConfig
from kexue.tasks._condition_files import load_source, save_task
from kexue.tasks._condition_source import ConditionSource, Given, check_conditioner, check_labels
from kexue.tasks._conditional import ConditionalNetwork, ConditionedBatches, first_token, rows_of, texts_of
from kexue.tasks._forward import Forward, compiled_forward, rows_for
from kexue.tasks._opening import check_vocabulary, open_model
from kexue.tasks._pairs import encode_sources, stop_token
from kexue.tasks._task_files import read_task
from kexue.tasks._train import check_numbers
from kexue.tasks._train import train as run_training
from kexue.tasks._writing import text_pieces
from kexue.text import Tokenizer
from kexue.training.seeding import seeded_weights

__all__ = ["ConditionalLM"]

LABEL_SIZE = 128
"""Length of a label's vector, as in the article."""


class ConditionalLM:
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
        if "lm" not in model.heads or model.mask.needs - {"index"} or config.decoder_layers is not None:
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
                "Received: "
                f"labels={labels!r:.60}, condition_size={condition_size}, conditioner={conditioner!r:.60}"
            )
        if conditioner is not None:
            size = check_conditioner(conditioner)
        elif labels is not None:
            labels, size = check_labels(labels), LABEL_SIZE if condition_size is None else condition_size
        else:
            size = condition_size or 0
        changes = {"condition_size": size} | model_changes
        with seeded_weights(seed):
            model, tokenizer = open_model(
                path_or_config, tokenizer, keep_tokens, mask="causal", head="lm", dtype=dtype, **changes
            )
        with seeded_weights(seed):
            source = ConditionSource(size, labels, conditioner)
        return cls(model, tokenizer, source, max_length=max_length, segment=segment)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the labels, or None."""
        return self.source.labels

    @property
    def key(self) -> str:
        """What the condition is called in records: ``"label"`` or ``"condition"``."""
        return "condition" if self.labels is None else "label"

    @cached_property
    def _network(self) -> ConditionalNetwork:
        return ConditionalNetwork(self.model, self.source)

    @cached_property
    def _forward(self) -> Forward:
        return compiled_forward(self._network)

    @cached_property
    def _source_forward(self) -> Forward:
        return compiled_forward(self.source)

    # ---------------------------------------------------------------- training

    def fit(
        self,
        train_data: Iterable[Mapping[str, Any]],
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
            train_data: ``{"text": str, "label": str}``, or ``{"text": str, "condition": vector or array}``; None
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
        check_numbers(epochs=epochs, batch_size=batch_size, steps_per_epoch=steps_per_epoch or 1)
        if not 0 <= condition_dropout < 1:
            raise ConfigError(f"condition_dropout must be in [0, 1). Received: {condition_dropout}")
        rate = max(learning_rate, min(10 * learning_rate, 1e-3))
        rate = rate if condition_learning_rate is None else condition_learning_rate
        batches = self._batches(
            *texts_of(train_data, self.key, "train"),
            "train",
            batch_size,
            seed=seed,
            steps=steps_per_epoch,
            dropout=condition_dropout,
        )
        held = None if valid is None else self._batches(*texts_of(valid, self.key, "valid"), "valid", batch_size)
        own = "|".join(f"^{v.path}$" for v in self.source.trainable_variables)
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

    def _batches(
        self, texts: Sequence[str], values: Sequence[Any], what: str, batch_size: int, **options: Any
    ) -> ConditionedBatches:
        given = self.source.read(values, what)
        rows, origin = rows_of(self.tokenizer, texts, self.stop, self.max_length)
        if not rows:
            raise ConfigError(f"{what} holds no text: all examples are empty or white space.")
        return ConditionedBatches(
            rows,
            given,
            origin,
            segment=self.segment,
            dtype=self.source.row[1],
            batch_size=batch_size,
            pad_id=self.tokenizer.pad_id,
            names=self.model.input,
            limit=self.model.max_tokens,
            **({"seed": None} | options),
        )

    # ---------------------------------------------------------------- probabilities

    def log_prob(self, texts: Iterable[str], conditions: Any, *, batch_size: int = 32) -> np.ndarray:
        """``(texts,)`` log p(text | condition), natural logarithms, the end token's among them.

        A text over ``max_length`` is cut as in training; its pieces count as independent texts. One without tokens has
        log probability 0.

        Args:
            texts: strings.
            conditions: one for each text, or one for all; None: the null condition.
            batch_size: rows at a time.

        Raises:
            DataError: something that is not a text, or a condition that does not fit.
        """
        texts = list(texts)
        return self._scores(texts, self._read(conditions, len(texts)), batch_size)[0]

    def label_log_prob(self, texts: Iterable[str], *, batch_size: int = 32) -> np.ndarray:
        """``(texts, labels)`` log p(text | label): with log p(label) added, Bayes' rule gives the label of a text.

        Raises:
            ConfigError: a model without labels.
            DataError: something that is not a text.
        """
        if self.labels is None:
            raise ConfigError("label_log_prob needs a model that was built with labels=. Use log_prob.")
        texts = list(texts)
        return np.stack([self.log_prob(texts, label, batch_size=batch_size) for label in self.labels], axis=1)

    def _scores(self, texts: list[str], given: Given, batch_size: int) -> tuple[np.ndarray, int]:
        """Log probabilities of texts, and how many tokens they are of."""
        check_numbers(batch_size=batch_size)
        encode_sources(self.tokenizer, texts, self.max_length)  # refuses what is no text
        total = np.zeros(len(texts), "float64")
        rows, origin = rows_of(self.tokenizer, texts, self.stop, self.max_length)
        if not rows:
            return total, 0
        batches = ConditionedBatches(
            rows,
            given,
            origin,
            segment=self.segment,
            dtype=self.source.row[1],
            batch_size=min(batch_size, len(rows)),
            pad_id=self.tokenizer.pad_id,
            names=self.model.input,
            limit=self.model.max_tokens,
            seed=None,
        )
        for members in batches.order():
            batch = batches.batch(members)
            losses = keras.ops.convert_to_numpy(self._forward(batch)["losses"])
            sums = (losses.astype("float64") * batch["target_weights"]).sum(axis=1)
            np.add.at(total, origin[members], -sums[: len(members)])
        return total, sum(len(row.token_ids) - row.source for row in rows)

    def evaluate(self, data: Iterable[Mapping[str, Any]], *, batch_size: int = 32) -> dict[str, float]:
        """Mean cross-entropy of a token under the texts' own conditions and under the null condition.

        Args:
            data: as in `fit`.
            batch_size: rows at a time.

        Returns:
            ``loss`` and ``perplexity``, ``null_loss`` and ``null_perplexity``; with labels also ``label_accuracy``: how
            often the own label is the one under which the text is most probable.

        Raises:
            DataError: no or broken examples.
        """
        texts, values = texts_of(data, self.key, "data")
        found: dict[str, float] = {}
        given = self.source.read(values, "data")
        nothing = Given(given.values, [False] * len(given))
        for name, conditions in (("", given), ("null_", nothing)):
            total, tokens = self._scores(texts, conditions, batch_size)
            if not tokens:
                raise ConfigError("data holds no text: all examples are empty or white space.")
            loss = -float(total.sum()) / tokens
            found |= {f"{name}loss": loss, f"{name}perplexity": float(np.exp(min(loss, 700.0)))}
        if self.labels is not None:
            known = [n for n, value in enumerate(values) if value is not None]
            if known:
                best = self.label_log_prob([texts[n] for n in known], batch_size=batch_size).argmax(axis=1)
                right = [self.labels[i] == values[n] for i, n in zip(best.tolist(), known, strict=True)]
                found["label_accuracy"] = float(np.mean(right))
        return found

    # ---------------------------------------------------------------- writing

    def vectors(self, conditions: Any, *, batch_size: int = 32) -> np.ndarray:
        """``(conditions, condition_size)``: what the norms get for labels, vectors or inputs of the conditioner."""
        return self._vectors(self._read(conditions, None), batch_size)

    def _vectors(self, given: Given, batch_size: int) -> np.ndarray:
        parts = []
        for first in range(0, len(given), batch_size):
            values = given.values[first : first + batch_size]
            rows = rows_for(len(values), batch_size)
            places = np.resize(np.arange(len(values)), rows)
            batch = {
                "given": np.stack([values[i] for i in places.tolist()]).astype(self.source.row[1]),
                "present": given.present[first : first + batch_size][places][:, None],
            }
            parts.append(np.asarray(keras.ops.convert_to_numpy(self._source_forward(batch)))[: len(values)])
        return np.concatenate(parts) if parts else np.zeros((0, self.source.size), "float32")

    def _single(self, conditions: Any) -> bool:
        """Whether this is one condition and not several."""
        if conditions is None or isinstance(conditions, str):
            return True
        if self.labels is not None or (isinstance(conditions, (list, tuple)) and any(c is None for c in conditions)):
            return False
        return np.ndim(conditions) == len(self.source.row[0])

    def _read(self, conditions: Any, count: int | None) -> Given:
        """Conditions, one of them repeated for ``count`` texts."""
        if self._single(conditions):
            return self.source.read([conditions], "condition").repeated(1 if count is None else count)
        if not np.iterable(conditions):
            raise ConfigError(f"conditions must be one or a list of them. Received: {conditions!r:.80}")
        given = self.source.read(list(conditions), "condition")
        if count is not None and len(given) != count:
            raise ConfigError(f"expected one condition, or one for each of {count} texts. Received: {len(given)}")
        return given

    def _prompts(self, given: Given, prompt: Any, guidance: Any) -> tuple[dict[str, Any], Guidance | None]:
        prompts = [prompt] * len(given) if isinstance(prompt, str) else list(prompt)
        if len(prompts) != len(given):
            raise ConfigError(
                f"expected one prompt, or one for each of {len(given)} conditions. Received: {len(prompts)}"
            )
        encode_sources(self.tokenizer, prompts, self.max_length, "prompt")
        encoded = self.tokenizer.encode_batch(prompts)
        rows = [[self.start, *e.token_ids[~e.special].tolist()] for e in encoded]
        width = max(map(len, rows))
        inputs: dict[str, Any] = {"token_ids": np.full((len(rows), width), self.tokenizer.pad_id, "int32")}
        inputs["padding_mask"] = np.zeros((len(rows), width), bool)
        for n, row in enumerate(rows):
            inputs["token_ids"][n, : len(row)], inputs["padding_mask"][n, : len(row)] = row, True
        if "segment_ids" in self.model.input:
            inputs["segment_ids"] = np.full((len(rows), width), self.segment, "int32")
        inputs["condition"] = self._vectors(given, 32)
        if np.isscalar(guidance) and guidance == 1:
            return inputs, None
        null = np.asarray(keras.ops.convert_to_numpy(self.source.null))[None]
        return inputs, Guidance(guidance, {"condition": null})

    def generate(
        self,
        conditions: Any,
        search: Search | None = None,
        *,
        n: int = 1,
        guidance: float | Sequence[float] = 1.0,
        prompt: str | Sequence[str] = "",
        **options: Any,
    ) -> Generation:
        """Sequences of tokens, with scores and reasons.

        Args:
            conditions: a label, a vector or an input of the conditioner, or several; None: the null condition.
            search: of `kexue.decoding`; ``Sample(top_p=0.95)`` by default.
            n: texts for each condition, one after the other in the result; random ones, which needs `Sample`. Text r
                of all draws from ``seed + r``.
            guidance: w of `kexue.decoding.guidance`, for all or for each condition: 1 is the model as it is, 0 the null
                condition, above 1 the condition counts more.
            prompt: what the texts begin with, for all or for each condition.
            **options: of `kexue.decoding.generate`; ``max_tokens`` fills ``max_length`` and special tokens are forbidden
                by default.

        Raises:
            DataError: a condition that does not fit.
            ConfigError: arguments that cannot work.
        """
        check_numbers(n=n)
        search = Sample(top_p=0.95) if search is None else search
        if n > 1 and not isinstance(search, Sample):
            raise ConfigError(f"n={n} texts for each condition would all be the same: {search!r} does not draw.")
        given = self._read(conditions, None)
        if not len(given):
            return Generation([])
        weights = np.repeat(guidance, n).tolist() if np.ndim(guidance) else guidance
        prompts = prompt if isinstance(prompt, str) else [text for text in prompt for _ in range(n)]
        inputs, guide = self._prompts(given.repeated(n), prompts, weights)
        return generate(self.model, inputs, search, guidance=guide, **self._options(inputs, options))

    def _options(self, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        longest = int(inputs["padding_mask"].sum(axis=1).min())
        forbidden = [i for i in special_tokens(self.tokenizer) if i != self.stop]
        return {"max_tokens": max(1, self.max_length - longest), "stop": self.stop, "forbidden": forbidden} | dict(
            options
        )

    def predict(
        self,
        conditions: Any,
        search: Search | None = None,
        *,
        n: int | None = None,
        guidance: float | Sequence[float] = 1.0,
        prompt: str | Sequence[str] = "",
        **options: Any,
    ) -> Any:
        """Texts, the prompt at their beginning; arguments as in `generate`.

        Returns:
            For one condition a text, for several a list of texts; with ``n``, a list of n texts instead of each.
        """
        found = self.generate(conditions, search, n=n or 1, guidance=guidance, prompt=prompt, **options)
        count = len(found.sequences) // (n or 1)
        prompts = [prompt] * count if isinstance(prompt, str) else list(prompt)
        begins = [e.token_ids[~e.special].tolist() for e in self.tokenizer.encode_batch(prompts)]
        texts = [self.tokenizer.decode(begins[i // (n or 1)] + tokens) for i, tokens in enumerate(found.best)]
        rows: list[Any] = texts if n is None else [texts[i * n : (i + 1) * n] for i in range(count)]
        return rows[0] if self._single(conditions) else rows

    def stream(
        self, condition: Any, search: Search | None = None, *, guidance: float = 1.0, prompt: str = "", **options: Any
    ) -> Iterator[str]:
        """What follows the prompt under one condition, piece by piece as it is written; arguments as in `generate`."""
        inputs, guide = self._prompts(self.source.read([condition], "condition"), prompt, guidance)
        search = Sample(top_p=0.95) if search is None else search
        tokens = stream(self.model, inputs, search, guidance=guide, **self._options(inputs, options))
        return text_pieces(self.tokenizer.decode, tokens)

    # ---------------------------------------------------------------- files

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write one folder with ``task.json``, the model, its tokenizer and where conditions come from (a conditioner as
        ``conditioner.keras``); whole or not at all."""
        save_task(folder, self.model, self.tokenizer, self.source, max_length=self.max_length, segment=self.segment)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], dtype: Any = None) -> "ConditionalLM":
        """Read what `save` wrote. A conditioner is loaded in Keras' safe mode, which runs no code from the file.

        Raises:
            CheckpointError: a file is missing, damaged or does not fit; the message names it.
        """
        path = Path(folder) / "task.json"
        source, sizes = load_source(path, read_task(folder, "conditional_lm", (), "ConditionalLM"))
        tokenizer = Tokenizer.from_pretrained(folder)
        model = Transformer.from_pretrained(folder, mask="causal", head="lm", dtype=dtype)
        try:
            return cls(model, tokenizer, source, **sizes)
        except KexueError as error:
            raise CheckpointError(f"{path}: {error}") from None

    def __repr__(self) -> str:
        config = self.model.config
        what = f"labels={list(self.labels)}" if self.labels is not None else f"condition_size={self.source.size}"
        what += "" if self.source.conditioner is None else f", conditioner={self.source.conditioner.name!r}"
        return (
            f"ConditionalLM({config.family} {config.num_layers}x{config.hidden_size}, {what}, "
            f"max_length={self.max_length}, {self.model.count_params():,} parameters)"
        )
