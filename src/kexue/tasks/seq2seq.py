"""`Seq2Seq`: from text to text with the weights of an encoder (UniLM)."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kexue.decoding import Beam, Generation, generate, stream
from kexue.decoding.arguments import whole
from kexue.decoding.strategies import Search
from kexue.errors import CheckpointError, ConfigError, DataError, KexueError
from kexue.models import Transformer, TransformerConfig
from kexue.tasks._checks import check_training
from kexue.tasks._generated import GenerationScores, evaluate
from kexue.tasks._opening import check_vocabulary, open_model
from kexue.tasks._pairs import PairBatches, digest, encode_pairs, encode_sources, stop_token
from kexue.tasks._task_files import read_task, write_task
from kexue.tasks._train import target_network
from kexue.tasks._train import train as run_training
from kexue.tasks._writing import text_pieces
from kexue.tasks.pretraining.network import PretrainingModel
from kexue.text import Tokenizer
from kexue.text.scores import METRICS
from kexue.training.seeding import seeded_weights

__all__ = ["Seq2Seq"]


class Seq2Seq:
    """Writes a text from a text: titles, translations, couplets, answers.

    Source and target are one sequence, ``[CLS] source [SEP] target [SEP]``. The mask shows the source to all tokens and
    the target to itself causally, so that an encoder's weights and its MLM head do both.

    Make one with `from_pretrained` or `load`.

    Args:
        model: a `Transformer` with ``mask="prefix"`` and ``head="lm"``.
        tokenizer: its tokenizer.
        max_source: most tokens of a source, special ones included; the end of longer ones is left out.
        max_target: most tokens of a target, its end token included.

    Example:
        >>> titles = Seq2Seq.from_pretrained("chinese_L-12_H-768_A-12", keep_tokens="simplified")  # doctest: +SKIP
        >>> titles.fit([{"source": "abstract", "target": "title"}], epochs=5)                      # doctest: +SKIP
        >>> titles.predict("another abstract")                                                     # doctest: +SKIP

    Source: kexue.fm 6933; UniLM, arXiv 1905.03197.
    """

    best_epoch: int | None = None
    """Epoch, from 0, whose weights the latest `fit` with validation kept."""

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, *, max_source: int = 256, max_target: int = 64
    ) -> None:
        if "block" not in model.mask.needs or "lm" not in model.heads:
            raise ConfigError(
                f"Seq2Seq needs a model with mask='prefix' and head='lm'. Received: mask={model.mask!r}, "
                f"heads={model.heads}"
            )
        check_vocabulary(model, tokenizer)
        max_source, max_target = whole(max_source, "max_source"), whole(max_target, "max_target")
        if max_target < 2 or max_source <= tokenizer.special_count():
            raise ConfigError(
                "max_source must leave room beside the special tokens and max_target be at least 2. Received: "
                f"max_source={max_source}, max_target={max_target}"
            )
        if model.max_tokens is not None and max_source + max_target > model.max_tokens:
            raise ConfigError(
                f"the model's positions end at {model.max_tokens}. Received: max_source={max_source} and "
                f"max_target={max_target}, together {max_source + max_target}"
            )
        if model.config.condition_size is not None:
            raise ConfigError("Seq2Seq takes no condition; build the model without condition_size.")
        self.model, self.tokenizer = model, tokenizer
        self.max_source, self.max_target = max_source, max_target
        self.stop = stop_token(tokenizer)
        self.judge: PretrainingModel | None = None

    @classmethod
    def from_pretrained(
        cls,
        path_or_config: str | os.PathLike[str] | TransformerConfig | Mapping[str, Any],
        *,
        tokenizer: Tokenizer | None = None,
        max_source: int = 256,
        max_target: int = 64,
        keep_tokens: Sequence[int] | str | None = None,
        dtype: Any = None,
        seed: int | None = None,
        **model_changes: Any,
    ) -> "Seq2Seq":
        """A model from the weights of an encoder with an MLM head.

        Args:
            path_or_config: a checkpoint of any known format with its tokenizer; or a `TransformerConfig` or a dict of
                its fields for random weights, which needs ``tokenizer`` (and may leave ``vocabulary_size`` out).
            tokenizer: instead of the checkpoint's own.
            max_source: see `Seq2Seq`.
            max_target: see `Seq2Seq`.
            keep_tokens: ``"simplified"`` leaves out tokens that cannot occur, which makes the softmax smaller; or the
                ids to keep, for a ``tokenizer`` that already has the new vocabulary.
            dtype: Keras dtype policy, such as ``"mixed_bfloat16"``.
            seed: of all initial weights that no checkpoint gives.
            **model_changes: fields of `TransformerConfig` to change, or arguments of `Transformer.from_pretrained`.

        Raises:
            ConfigError, CheckpointError, DataError: arguments or files that cannot work.
        """
        with seeded_weights(seed):
            model, tokenizer = open_model(
                path_or_config, tokenizer, keep_tokens, mask="prefix", head="lm", dtype=dtype, **model_changes
            )
        return cls(model, tokenizer, max_source=max_source, max_target=max_target)

    def fit(
        self,
        train: Iterable[Mapping[str, Any]],
        valid: Iterable[Mapping[str, Any]] | None = None,
        *,
        epochs: int = 10,
        batch_size: int = 16,
        learning_rate: float = 2e-5,
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
        """Train on pairs: mean cross-entropy of the target's tokens, its end token among them.

        AdamW (no decay of biases and gains) with a linear rise and fall of the rate. With ``valid`` the weights of the
        epoch of least ``val_loss`` stay.

        Args:
            train: examples ``{"source": str, "target": str}``.
            valid: examples to choose the best epoch by.
            epochs: how often to go over the data.
            batch_size: pairs in a batch.
            learning_rate: the highest.
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
            The History of Keras; ``loss`` and ``accuracy`` are those of target tokens.

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
        )
        rows = self._rows(train, "train")
        options: dict[str, Any] = {
            "batch_size": batch_size,
            "pad_id": self.tokenizer.pad_id,
            "names": self.model.input,
            "limit": self.model.max_tokens,
        }
        batches = PairBatches(rows, seed=seed, steps=steps_per_epoch, **options)
        held = None if valid is None else PairBatches(self._rows(valid, "valid"), seed=None, **options)
        history, self.best_epoch = run_training(
            target_network(self.model),
            batches,
            held,
            job={
                "task": "seq2seq",
                "model": self.model.config.to_dict(),
                "train": digest(rows),
                "valid": None if held is None else digest(held.rows),
                "batch_size": batch_size,
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
        )
        return history

    def _rows(self, data: Iterable[Mapping[str, Any]], what: str) -> list[Any]:
        rows = encode_pairs(self.tokenizer, data, self.max_source, self.max_target, what)
        if not rows:
            raise DataError(f"{what} holds no examples.")
        return rows

    def generate(self, texts: Iterable[str], search: Search | None = None, **options: Any) -> Generation:
        """Sequences of tokens for texts, with scores and reasons.

        Args:
            texts: sources.
            search: of `kexue.decoding`; ``Beam(4, length_penalty=1.0)`` by default.
            **options: of `kexue.decoding.generate`; ``max_tokens`` is ``max_target`` by default.

        Raises:
            DataError: something that is not a text.
            ConfigError: arguments that cannot work.
        """
        if isinstance(texts, str | Mapping) or not np.iterable(texts):
            raise DataError(f"expected a list of texts. Received: {texts!r:.60}")
        sources = encode_sources(self.tokenizer, list(texts), self.max_source)
        options = {"max_tokens": self.max_target, "stop": self.stop} | options
        if not sources:
            return Generation([])
        return generate(self.model, sources, Beam(4, length_penalty=1.0) if search is None else search, **options)

    def predict(self, texts: str | Iterable[str], search: Search | None = None, **options: Any) -> Any:
        """The best target of each text, or of one; arguments as in `generate`."""
        if isinstance(texts, str):
            return self.predict([texts], search, **options)[0]
        return [self.tokenizer.decode(tokens) for tokens in self.generate(texts, search, **options).best]

    def evaluate(
        self,
        pairs: Iterable[Mapping[str, Any]],
        search: Search | None = None,
        *,
        metrics: Sequence[str] = METRICS,
        tokenize: str = "zh",
        batch_size: int = 8,
        **options: Any,
    ) -> GenerationScores:
        """Loss of the targets, and scores of what is written for the sources.

        Sources over ``max_source`` lose their end as in training. The loss is that of targets cut at ``max_target``
        tokens; the scores compare with whole targets.

        Args:
            pairs: ``{"source": str, "target": str}``.
            search: see `generate`; the first result of each text counts.
            metrics: some of ``"bleu"``, ``"chrf"``, ``"rouge"``; see `kexue.text.scores`. They need the extra
                ``kexue[metrics]``; ``()`` asks for the loss and the texts alone.
            tokenize: of BLEU.
            batch_size: pairs in a batch.
            **options: of `kexue.decoding.generate`.

        Raises:
            DataError: no or broken examples; the message names the example.
            ConfigError: arguments that cannot work, or an extra that is not installed.
        """
        return evaluate(self, pairs, search, metrics, tokenize, batch_size, options)

    def stream(self, text: str, search: Search | None = None, **options: Any) -> Iterator[str]:
        """The target of a text as it is written, piece by piece; arguments as in `kexue.decoding.stream`."""
        source = encode_sources(self.tokenizer, [text], self.max_source)[0]
        options = {"max_tokens": self.max_target, "stop": self.stop} | options
        return text_pieces(self.tokenizer.decode, stream(self.model, source, search, **options))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write one folder with ``task.json``, the model and its tokenizer; whole or not at all."""
        sizes = {"max_source": self.max_source, "max_target": self.max_target}
        write_task(folder, "seq2seq", sizes, self.model, self.tokenizer)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], dtype: Any = None) -> "Seq2Seq":
        """Read what `save` wrote.

        Raises:
            CheckpointError: a file is missing, damaged or does not fit; the message names it.
        """
        task = read_task(folder, "seq2seq", ("max_source", "max_target"), "Seq2Seq")
        tokenizer = Tokenizer.from_pretrained(folder)
        model = Transformer.from_pretrained(folder, mask="prefix", head="lm", dtype=dtype)
        try:
            return cls(model, tokenizer, max_source=int(task["max_source"]), max_target=int(task["max_target"]))
        except (KexueError, TypeError, ValueError) as error:
            raise CheckpointError(f"{Path(folder) / 'task.json'}: {error}") from None

    def __repr__(self) -> str:
        config = self.model.config
        return (
            f"Seq2Seq({config.family} {config.num_layers}x{config.hidden_size}, max_source={self.max_source}, "
            f"max_target={self.max_target}, {self.model.count_params():,} parameters)"
        )
