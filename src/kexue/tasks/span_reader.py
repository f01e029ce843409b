"""`SpanReader`: answers that stand in a passage, found by scoring all spans (GlobalPointer)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kexue.decoding.arguments import amount, whole
from kexue.errors import CheckpointError, ConfigError, KexueError
from kexue.models import Transformer, TransformerConfig
from kexue.tasks._forward import compiled_forward
from kexue.tasks._heads import make_head
from kexue.tasks._opening import open_model
from kexue.tasks._passages import Choices, Question, spans_in
from kexue.tasks._reading import ReadingTask
from kexue.tasks._recognise import run_windows
from kexue.tasks._rows import Batches, Row, digest
from kexue.tasks._task_files import assign_layer, read_task, write_task
from kexue.tasks._windows import Document, TokenSpan, Window, merge_spans
from kexue.text import Tokenizer
from kexue.training.seeding import seeded_weights

__all__ = ["SpanReader"]

_FIELDS = ("max_passage", "max_question", "max_answer", "stride", "threshold", "head_size", "rotary")
_BEST = 64  # spans of a window that are kept


class SpanReader(ReadingTask):
    """Reads answers off passages: every span of tokens gets a score, and the best one is the answer.

    A row is ``[CLS] passage [SEP] question [SEP]``, all in segment 0 and seen in both directions. With the scores
    ``s(i, j)`` of `kexue.nn.heads.GlobalPointer` for spans of the passage, the loss is the multi-label one of
    `kexue.nn.losses`,

        log(1 + sum of exp(s) over wrong spans) + log(1 + sum of exp(-s) over right ones),

    so that 0 parts answers from the rest and a passage without one needs nothing special. A long passage is read in
    overlapping windows; a span that lies in several is judged by the one in which it has most context.

    Options of `predict` and `evaluate`: ``threshold`` instead of the reader's own; ``must_answer=True`` gives the best
    span whatever its score; ``batch_size`` rows at once; ``n_best`` adds ``"alternatives"``, so many answers of
    different text, best first. The score is that of the span, a logit.

    Make one with `from_pretrained` or `load`.

    Args:
        encoder: a `kexue.models.Transformer`.
        tokenizer: its tokenizer.
        max_passage: tokens of a window, [CLS] and [SEP] included.
        max_question: most tokens of a question with its [SEP].
        max_answer: most tokens of an answer.
        stride: tokens from one window to the next; default half a window.
        threshold: an answer needs a score above it.
        head_size: size of the pointer's queries and keys.
        rotary: whether it sees relative positions.
        dtype: Keras dtype policy of the head; the encoder has its own.

    Example:
        >>> reader = SpanReader.from_pretrained("chinese_L-12_H-768_A-12")           # doctest: +SKIP
        >>> reader.fit(read_reading("cmrc2018_train.json"), epochs=2)                # doctest: +SKIP
        >>> reader.predict({"question": "谁写了《匆匆》？", "passages": [passage]})  # doctest: +SKIP
        {'text': '朱自清', 'score': 5.3, 'passage': 0, 'start': 12, 'end': 15}

    Source: kexue.fm 8373 (GlobalPointer), 7359 (loss).
    """

    kind = "span-reader"

    def __init__(
        self,
        encoder: Transformer,
        tokenizer: Tokenizer,
        *,
        max_passage: int = 256,
        max_question: int = 64,
        max_answer: int = 32,
        stride: int | None = None,
        threshold: float = 0.0,
        head_size: int = 64,
        rotary: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__(encoder, tokenizer, max_passage, max_question, stride)
        max_answer = whole(max_answer, "max_answer")
        if max_answer < 1:
            raise ConfigError(f"max_answer must be at least 1. Received: max_answer={max_answer}")
        if encoder.max_tokens is not None and max_passage + max_question > encoder.max_tokens:
            raise ConfigError(
                f"the model's positions end at {encoder.max_tokens}. Received: max_passage={max_passage} and "
                f"max_question={max_question}, together {max_passage + max_question}"
            )
        self.max_answer, self.threshold = max_answer, amount(threshold, "threshold", -np.inf, np.inf)
        self.head_size, self.rotary = head_size, rotary
        self._head = make_head(
            "global_pointer", ["answer"], head_size=head_size, rotary=rotary, scheme="bio", dtype=dtype
        )
        inputs = {
            "token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
            "padding_mask": keras.Input((None,), dtype="bool", name="padding_mask"),
        }
        features = encoder(dict(inputs))["sequence_output"]
        inputs["entity_mask"] = keras.Input((None,), dtype="bool", name="entity_mask")
        scores = self._head.layer(features, padding_mask=inputs["entity_mask"])
        self.model = keras.Model(inputs, scores, name="span_reader")
        self._forward = compiled_forward(self.model)

    @classmethod
    def from_pretrained(
        cls,
        path_or_config: str | os.PathLike[str] | TransformerConfig | Mapping[str, Any],
        *,
        tokenizer: Tokenizer | None = None,
        max_passage: int = 256,
        max_question: int = 64,
        max_answer: int = 32,
        stride: int | None = None,
        threshold: float = 0.0,
        head_size: int = 64,
        rotary: bool = True,
        keep_tokens: Sequence[int] | str | None = None,
        dtype: Any = None,
        seed: int | None = None,
        **model_changes: Any,
    ) -> "SpanReader":
        """An encoder with a new head.

        Args:
            path_or_config: a checkpoint of any known format with its tokenizer; or a `TransformerConfig` or a dict of
                its fields for random weights, which needs ``tokenizer`` (and may leave ``vocabulary_size`` out).
            tokenizer: instead of the checkpoint's own.
            max_passage: see `SpanReader`, as all arguments that are not named here.
            max_question: see `SpanReader`.
            max_answer: see `SpanReader`.
            stride: see `SpanReader`.
            threshold: see `SpanReader`.
            head_size: see `SpanReader`.
            rotary: see `SpanReader`.
            keep_tokens: ``"simplified"`` leaves out tokens that cannot occur; or the ids to keep, for a ``tokenizer``
                that already has the new vocabulary.
            dtype: Keras dtype policy, such as ``"mixed_bfloat16"``.
            seed: of all initial weights that no checkpoint gives.
            **model_changes: fields of `TransformerConfig` to change, or arguments of `Transformer.from_pretrained`.

        Raises:
            ConfigError, CheckpointError, DataError: arguments or files that cannot work.
        """
        with seeded_weights(seed):
            encoder, tokenizer = open_model(path_or_config, tokenizer, keep_tokens, dtype=dtype, **model_changes)
            return cls(
                encoder,
                tokenizer,
                max_passage=max_passage,
                max_question=max_question,
                max_answer=max_answer,
                stride=stride,
                threshold=threshold,
                head_size=head_size,
                rotary=rotary,
                dtype=dtype,
            )

    # ---------------------------------------------------------------- training

    def _training_rows(
        self, questions: Sequence[Question], read: Sequence[Sequence[Document]]
    ) -> tuple[list[Row], list[Choices], str]:
        rows: list[Row] = []
        choices = []
        for question, passages in zip(questions, read, strict=True):
            numbers, answered = [], set()
            for p, document in enumerate(passages):
                spans = spans_in(question, p, document)
                spans = [span for span in spans if span[1] - span[0] <= self.max_answer]
                own = []
                for window in document.windows:
                    low, high = window.start, window.start + window.size
                    shift = window.first - low
                    inside = [(s + shift, e + shift - 1, 0) for s, e in spans if low <= s and e <= high]
                    says = np.zeros(len(window), bool)
                    says[window.first : window.first + window.size] = True
                    if inside:
                        answered.add(len(rows))
                    own.append(len(rows))
                    rows.append(Row(window.token_ids, says, np.asarray(inside, np.int32).reshape(-1, 3)))
                numbers.append(tuple(own))
            choices.append(Choices(tuple(numbers), frozenset(answered)))
        return rows, choices, digest(rows)

    def _batches(self, rows: list[Row], *, seed: int | None, **options: Any) -> Batches:
        options = {"max_length": self.sizes.passage + self.sizes.question, "pad_id": self.tokenizer.pad_id} | options
        return Batches(rows, self._head, seed=seed or 0, **options)

    def _network(self) -> keras.Model:
        return self.model

    def _loss(self) -> Any:
        return self._head.loss()

    # ---------------------------------------------------------------- answers

    def _answers(  # type: ignore[override]
        self,
        questions: Sequence[Question],
        read: Sequence[Sequence[Document]],
        *,
        threshold: float | None = None,
        must_answer: bool = False,
        n_best: int = 1,
        batch_size: int = 32,
        verbose: int = 0,
    ) -> list[dict[str, Any]]:
        if batch_size < 1 or not 1 <= n_best <= _BEST:
            raise ConfigError(
                f"batch_size must be positive and n_best from 1 to {_BEST}. Received: batch_size={batch_size}, "
                f"n_best={n_best}"
            )
        limit = self.threshold if threshold is None else amount(threshold, "threshold", -np.inf, np.inf)
        flat = [document for passages in read for document in passages]
        windows = [window for document in flat for window in document.windows]
        progress = keras.utils.Progbar(len(windows), unit_name="window") if verbose and windows else None
        kept = iter(
            run_windows(
                self._forward,
                self._head,
                windows,
                self._best_spans,
                batch_size=batch_size,
                max_length=self.sizes.passage + self.sizes.question,
                pad_id=self.tokenizer.pad_id,
                progress=progress,
            )
        )
        merged = iter([merge_spans(document, [next(kept) for _ in document.windows]) for document in flat])
        return [
            self._answer(question, [(document, next(merged)) for document in passages], limit, must_answer, n_best)
            for question, passages in zip(questions, read, strict=True)
        ]

    def _best_spans(self, scores: np.ndarray, windows: Sequence[Window]) -> list[list[TokenSpan]]:
        """The best spans of each window, in tokens of its part of the passage."""
        found = []
        for row, window in zip(scores[:, 0], windows, strict=False):
            inside = slice(window.first, window.first + window.size)
            block = row[inside, inside]
            i, j = np.triu_indices(window.size)
            short = j - i < self.max_answer
            i, j = i[short], j[short]
            values = block[i, j]
            best = np.argsort(-values, kind="stable")[:_BEST]
            found.append([TokenSpan(int(i[n]), int(j[n]), 0, float(values[n])) for n in best])
        return found

    def _answer(
        self,
        question: Question,
        passages: Sequence[tuple[Document, Sequence[TokenSpan]]],
        limit: float,
        must_answer: bool,
        n_best: int,
    ) -> dict[str, Any]:
        spans = [(-span.score, p, span) for p, (_, found) in enumerate(passages) for span in found]
        answers: dict[str, dict[str, Any]] = {}
        for _, p, span in sorted(spans):
            place = passages[p][0].characters(span)
            if place is not None and len(answers) < n_best:
                text = question.passages[p][slice(*place)]
                own = {"text": text, "score": span.score, "passage": p, "start": place[0], "end": place[1]}
                answers.setdefault(text, own)
        ranked = list(answers.values())
        none: dict[str, Any] = {"text": "", "score": float("-inf"), "passage": None, "start": None, "end": None}
        best = ranked[0] if ranked else none
        if best["score"] <= limit and not must_answer:
            best = none | {"score": best["score"]}
        return best | {"alternatives": ranked} if n_best > 1 else best

    # ---------------------------------------------------------------- files

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write one folder with ``task.json``, the encoder with its tokenizer and the head; whole or not at all."""
        sizes = {"max_passage": self.sizes.passage, "max_question": self.sizes.question, "stride": self.sizes.stride}
        own = {name: getattr(self, name) for name in _FIELDS if name not in sizes}
        write_task(folder, self.kind, sizes | own, self.encoder, self.tokenizer, self._head.layer)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], dtype: Any = None) -> "SpanReader":
        """Read what `save` wrote.

        Raises:
            CheckpointError: a file is missing, damaged or does not fit; the message names it.
        """
        task = read_task(folder, cls.kind, _FIELDS, "SpanReader")
        tokenizer = Tokenizer.from_pretrained(folder)
        encoder = Transformer.from_pretrained(folder, dtype=dtype)
        try:
            reader = cls(encoder, tokenizer, dtype=dtype, **{name: task[name] for name in _FIELDS})
        except (KexueError, TypeError, ValueError) as error:
            raise CheckpointError(f"{Path(folder) / 'task.json'}: {error}") from None
        assign_layer(folder, reader._head.layer)
        return reader
