"""What the two readers share: training on questions with passages, answers as records, scores."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

import keras

from kexue.errors import ConfigError
from kexue.models import Transformer
from kexue.tasks._checks import check_training
from kexue.tasks._opening import check_vocabulary
from kexue.tasks._passages import (
    Choices,
    Question,
    Sizes,
    check_question,
    check_questions,
    documents,
    draw_rows,
)
from kexue.tasks._train import train as run_training
from kexue.tasks._windows import Document
from kexue.text import Tokenizer
from kexue.text.answer_scores import AnswerScores, score_answers

__all__ = ["ReadingTask"]

_HEAD = r"(^|/)head/"


class ReadingTask(ABC):
    """A question and passages in, an answer out.

    Attributes:
        encoder: the `Transformer`.
        tokenizer: its tokenizer, to which "[SEP]" in a text is text.
        sizes: of the rows, see `Sizes`.
        marks: characters that it reads as others.
        best_epoch: epoch, from 0, whose weights the latest `fit` with validation kept.
    """

    kind = ""
    best_epoch: int | None = None
    encoder: Transformer
    marks: Mapping[int, str]

    def __init__(
        self, encoder: Transformer, tokenizer: Tokenizer, max_passage: int, max_question: int, stride: int | None
    ) -> None:
        check_vocabulary(encoder, tokenizer)
        if encoder.config.condition_size is not None:
            raise ConfigError(f"{type(self).__name__} takes no condition; build the model without condition_size.")
        self.encoder, self.tokenizer = encoder, tokenizer.with_literal_text()
        self.sizes = Sizes.checked(tokenizer, max_passage, max_question, stride)
        self.marks = {}

    # ---------------------------------------------------------------- training

    @abstractmethod
    def _training_rows(
        self, questions: Sequence[Question], read: Sequence[Sequence[Document]]
    ) -> tuple[list[Any], list[Choices], str]:
        """Rows, which of them each question may be trained on, and a digest."""

    @abstractmethod
    def _batches(self, rows: list[Any], *, seed: int | None, **options: Any) -> Any:
        """Batches of rows; options are ``batch_size, draw, steps``."""

    @abstractmethod
    def _network(self) -> keras.Model:
        """The network to train."""

    def _loss(self) -> Any:
        """Its loss, None where it gives its own."""
        return None

    def fit(
        self,
        train: Iterable[Mapping[str, Any]],
        valid: Iterable[Mapping[str, Any]] | None = None,
        *,
        epochs: int = 8,
        batch_size: int = 16,
        learning_rate: float = 2e-5,
        head_learning_rate: float | None = None,
        weight_decay: float = 0.01,
        warmup: int | float = 0.1,
        clip: float | None = 1.0,
        negatives: float | None = None,
        seed: int = 0,
        steps_per_epoch: int | None = None,
        resume: str | os.PathLike[str] | None = None,
        save_every: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: int | str = "auto",
        jit_compile: bool | str = "auto",
    ) -> keras.callbacks.History:
        """Train on questions whose answers are known.

        In each epoch a question is seen once, with a random window of a random one of its passages. Where that does not
        hold the answer, the reader learns to say so.

        AdamW (no decay of biases and gains) with a linear rise and fall of the rate. With ``valid`` the weights of the
        epoch of least ``val_loss`` (over one window of each question, the same each time) stay.

        Args:
            train: records ``{"question": str, "passages": [str, ...], "answers": [str, ...]}``, with ``"spans"`` where
                it is known where answers stand (see `kexue.text.read_reading`). No answers: there is none.
            valid: records to choose the best epoch by.
            epochs: how often to go over the questions.
            batch_size: questions in a batch.
            learning_rate: the highest, of the encoder.
            head_learning_rate: of a pointer head; default ten times the encoder's, up to 1e-3, and never below it.
            weight_decay: of matrices.
            warmup: share of the steps, or a number of them.
            clip: greatest norm of all gradients together; None: any.
            negatives: probability of a window without the answer, where a question has both kinds; None: as they come.
            seed: of the order, of the windows and of dropout. The same call on equal weights gives equal results.
            steps_per_epoch: default once over the questions.
            resume: folder for the state of the training. A call that was killed goes on where it was when it is made
                again; one that was done returns its result at once.
            save_every: also save the state every so many steps.
            callbacks: of Keras.
            verbose: as in Keras.
            jit_compile: as in Keras ``compile``.

        Returns:
            The History of Keras.

        Raises:
            DataError: no or broken records; the message names the record.
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
            head_learning_rate=head_learning_rate,
        )
        if negatives is not None and not 0 <= negatives <= 1:
            raise ConfigError(f"negatives must lie in [0, 1]. Received: negatives={negatives}")
        rows, choices, digest = self._choices(train, "train")
        draw = partial(draw_rows, choices, negatives)
        batches = self._batches(rows, seed=seed, batch_size=batch_size, draw=draw, steps=steps_per_epoch)
        held, held_digest = None, None
        if valid is not None:
            held_rows, held_choices, held_digest = self._choices(valid, "valid")
            draw = partial(draw_rows, held_choices, negatives)
            held = self._batches(held_rows, seed=None, batch_size=batch_size, draw=draw, steps=None)
        head_rate = self._head_rate(learning_rate, head_learning_rate)
        history, self.best_epoch = run_training(
            self._network(),
            batches,
            held,
            job={
                "task": self.kind,
                "model": self.encoder.config.to_dict(),
                "sizes": list(self.sizes),
                "train": digest,
                "valid": held_digest,
                "batch_size": batch_size,
                "head_learning_rate": head_rate,
                "negatives": negatives,
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
            rate_rules=[(_HEAD, head_rate / learning_rate)],
            loss=self._loss(),
        )
        return history

    def _head_rate(self, rate: float, head_rate: float | None) -> float:
        return max(rate, min(10 * rate, 1e-3)) if head_rate is None else head_rate

    def _choices(self, data: Any, what: str) -> tuple[list[Any], list[Choices], str]:
        questions = check_questions(data, what, answered=True)
        rows, choices, digest = self._training_rows(questions, self._read(questions, what))
        plain = repr([(one.passages, sorted(one.answered)) for one in choices])
        return rows, choices, sha256((digest + plain).encode()).hexdigest()

    def _read(self, questions: Sequence[Question], what: str, cut: bool = True) -> list[list[Document]]:
        return documents(self.tokenizer, questions, self.sizes, what, marks=self.marks, cut=cut)

    # ---------------------------------------------------------------- answers

    @abstractmethod
    def _answers(
        self, questions: Sequence[Question], read: Sequence[Sequence[Document]], **options: Any
    ) -> list[dict[str, Any]]:
        """The answer of each question."""

    def predict(
        self, records: Mapping[str, Any] | Iterable[Mapping[str, Any]], *, cut: bool = False, **options: Any
    ) -> Any:
        """The answers to questions.

        Args:
            records: ``{"question": str, "passages": [str, ...]}``, several or one.
            cut: questions that are too long lose their end, with one warning; by default they are an error.
            **options: see the class.

        Returns:
            For each record, or for the one, ``{"text": str, "score": float, "passage": int | None, "start": int | None,
            "end": int | None, ...}``: the answer, "" if there is none; the number of the passage that it comes from,
            and where it stands there, in characters of the passage as it was given (None: nowhere, or no answer).

        Raises:
            DataError: an empty question or passage, no passages, a question that is too long.
            ConfigError: options that cannot work.
        """
        if isinstance(records, Mapping):
            return self.predict([records], cut=cut, **options)[0]
        questions = [check_question(record, f"record {n}") for n, record in enumerate(records)]
        return self._answers(questions, self._read(questions, "record", cut), **options) if questions else []

    def answer(self, question: str, passages: str | Sequence[str], **options: Any) -> str:
        """The answer to one question as text, "" if there is none; arguments as in `predict`."""
        passages = [passages] if isinstance(passages, str) else passages
        return self.predict({"question": question, "passages": passages}, **options)["text"]

    def evaluate(self, data: Iterable[Mapping[str, Any]], **options: Any) -> AnswerScores:
        """Exact match and F1 by the rules of CMRC 2018, and SogouQA's scores; see `kexue.text.answer_scores`.

        Args:
            data: records with ``answers``, as in `fit`. Where there are none, "" is right.
            **options: as in `predict`.

        Raises:
            DataError: no or broken records; the message names the record.
        """
        questions = check_questions(data, "data", answered=True)
        found = self._answers(questions, self._read(questions, "data"), **options)
        return score_answers([one["text"] for one in found], [one.answers for one in questions])

    def __repr__(self) -> str:
        config = self.encoder.config
        return (
            f"{type(self).__name__}({config.family} {config.num_layers}x{config.hidden_size}, "
            f"max_passage={self.sizes.passage}, max_question={self.sizes.question}, "
            f"{self.encoder.count_params():,} parameters)"
        )
