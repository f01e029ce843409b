"""`Reader`: answers written token by token from several passages at once, which vote (UniLM)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kexue.decoding.arguments import whole
from kexue.decoding.strategies import Greedy, Search
from kexue.decoding.voting import Asked, Voted, check_vote, vote_generate
from kexue.errors import CheckpointError, ConfigError, KexueError
from kexue.models import Transformer, TransformerConfig
from kexue.tasks._opening import open_model
from kexue.tasks._pairs import Pair, PairBatches, digest, stop_token
from kexue.tasks._passages import Choices, Question, target_in
from kexue.tasks._reading import ReadingTask
from kexue.tasks._task_files import read_task, write_task
from kexue.tasks._train import target_network
from kexue.tasks._windows import Document, Window
from kexue.text import Tokenizer
from kexue.training.seeding import seeded_weights

__all__ = ["Reader"]

_FIELDS = ("mode", "vote", "max_passage", "max_question", "max_answer", "stride", "separators")
MODES = ("extractive", "generative")


class Reader(ReadingTask):
    """Writes the answer to a question from passages, or "" where none of them holds it.

    A row is ``[CLS] passage [SEP] question [SEP] answer [SEP]``; segment 0 up to the question's [SEP] is seen by all,
    segment 1, the answer, causally, so that an encoder's weights and its MLM head do everything. Trained on an empty
    answer where the passage does not hold it, the model says "no answer" by ending at once.

    A question is asked of all its passages (and of all windows of long ones) at once, with one answer for them all:

    - passages whose most probable first token is the end leave; when none is left the answer is "";
    - at each step the others vote. With p_j the distribution of passage j the score of a token is

        s = sum_j p_j^2 / (sum_j p_j + 1)        ``vote="confidence"``, the article's: who is sure counts more

      or ``"mean"``, the mean of p_j, ``"log_mean"``, that of log p_j, or ``"product"``, the sum of log p_j. Sequences
      are compared by their sums of log s. Scores are not probabilities: they do not sum to one;
    - ``mode="extractive"``: only tokens that go on with the answer so far as an n-gram of one of these passages.

    Options of `predict` and `evaluate`: ``search``, `Greedy` (default) or `Beam` of `kexue.decoding`, its beams shared
    by all passages; ``mode`` and ``vote`` instead of the reader's own; ``must_answer=True`` lets all passages vote
    where all would leave, and allows no empty answer; ``batch_size`` questions at once; ``n_best`` (at most the beam's
    ``n_best``) adds ``"alternatives"``. Answers have beside the usual entries ``"support"``, for each passage the log
    probability of the answer's tokens given that passage alone, of its best window, None where it left. The passage of
    an answer is the one with the greatest support among those that hold it literally (generative answers: among all,
    where none does). In extractive mode the text is the passage's own characters.

    Make one with `from_pretrained` or `load`.

    Args:
        model: a `Transformer` with ``mask="prefix"`` and ``head="lm"``.
        tokenizer: its tokenizer.
        mode: ``"extractive"`` or ``"generative"``.
        vote: see above.
        max_passage: tokens of a passage, [CLS] and [SEP] included; longer ones are read in windows.
        max_question: most tokens of a question with its [SEP].
        max_answer: most tokens of an answer with its [SEP].
        stride: tokens from one window to the next; default half a window.
        separators: characters that the model reads as ",", one for one; the article's by default. "" for languages
            that put blanks between words.

    Example:
        >>> reader = Reader.from_pretrained("chinese_L-12_H-768_A-12", keep_tokens="simplified")  # doctest: +SKIP
        >>> reader.fit(read_reading("WebQA.json"), epochs=8)                                      # doctest: +SKIP
        >>> reader.answer("谁写了《匆匆》？", passages)                                             # doctest: +SKIP
        '朱自清'

    Source: kexue.fm 7115.
    """

    kind = "reader"

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        mode: str = "extractive",
        vote: str = "confidence",
        max_passage: int = 256,
        max_question: int = 64,
        max_answer: int = 32,
        stride: int | None = None,
        separators: str = " 、；，",
    ) -> None:
        if "block" not in model.mask.needs or "lm" not in model.heads:
            raise ConfigError(
                f"Reader needs a model with mask='prefix' and head='lm'. Received: mask={model.mask!r}, "
                f"heads={model.heads}"
            )
        super().__init__(model, tokenizer, max_passage, max_question, stride)
        max_answer = whole(max_answer, "max_answer")
        if max_answer < 2:
            raise ConfigError(f"max_answer must be at least 2, its [SEP] included. Received: max_answer={max_answer}")
        total = max_passage + max_question + max_answer
        if model.max_tokens is not None and total > model.max_tokens:
            raise ConfigError(
                f"the model's positions end at {model.max_tokens}. Received: max_passage={max_passage}, "
                f"max_question={max_question} and max_answer={max_answer}, together {total}"
            )
        if not isinstance(separators, str):
            raise ConfigError(f"separators must be a string of characters. Received: separators={separators!r}")
        check_vote(vote)
        self.model, self.mode, self.vote, self.max_answer = model, _checked_mode(mode), vote, max_answer
        self.separators = separators
        self.marks = {ord(c): "," for c in separators}
        self.stop = stop_token(self.tokenizer)

    @classmethod
    def from_pretrained(
        cls,
        path_or_config: str | os.PathLike[str] | TransformerConfig | Mapping[str, Any],
        *,
        tokenizer: Tokenizer | None = None,
        mode: str = "extractive",
        vote: str = "confidence",
        max_passage: int = 256,
        max_question: int = 64,
        max_answer: int = 32,
        stride: int | None = None,
        separators: str = " 、；，",
        keep_tokens: Sequence[int] | str | None = None,
        dtype: Any = None,
        seed: int | None = None,
        **model_changes: Any,
    ) -> "Reader":
        """A reader from the weights of an encoder with an MLM head.

        Args:
            path_or_config: a checkpoint of any known format with its tokenizer; or a `TransformerConfig` or a dict of
                its fields for random weights, which needs ``tokenizer`` (and may leave ``vocabulary_size`` out).
            tokenizer: instead of the checkpoint's own.
            mode: see `Reader`, as all arguments that are not named here.
            vote: see `Reader`.
            max_passage: see `Reader`.
            max_question: see `Reader`.
            max_answer: see `Reader`.
            stride: see `Reader`.
            separators: see `Reader`.
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
        return cls(
            model,
            tokenizer,
            mode=mode,
            vote=vote,
            max_passage=max_passage,
            max_question=max_question,
            max_answer=max_answer,
            stride=stride,
            separators=separators,
        )

    # ---------------------------------------------------------------- training

    def _training_rows(
        self, questions: Sequence[Question], read: Sequence[Sequence[Document]]
    ) -> tuple[list[Pair], list[Choices], str]:
        targets: list[str] = []
        prompts: list[np.ndarray] = []
        choices = []
        for question, passages in zip(questions, read, strict=True):
            numbers, answered = [], set()
            for p, document in enumerate(passages):
                own = []
                for window in document.windows:
                    target = target_in(question, p, document, window, self.marks)
                    if target is not None:
                        answered.add(len(prompts))
                    own.append(len(prompts))
                    prompts.append(window.token_ids)
                    targets.append(target or "")
                numbers.append(tuple(own))
            choices.append(Choices(tuple(numbers), frozenset(answered)))
        rows = []
        for prompt, piece in zip(prompts, self.tokenizer.pieces(targets), strict=True):
            ids = [*list(piece.ids)[: self.max_answer - 1], self.stop]
            rows.append(Pair(np.concatenate([prompt, ids]).astype("int32"), len(prompt)))
        return rows, choices, digest(rows)

    def _batches(self, rows: list[Pair], *, seed: int | None, **options: Any) -> PairBatches:
        options = {"names": self.model.input, "limit": self.model.max_tokens} | options
        return PairBatches(rows, seed=seed, pad_id=self.tokenizer.pad_id, **options)

    def _network(self) -> keras.Model:
        return target_network(self.model)

    def _head_rate(self, rate: float, head_rate: float | None) -> float:
        if head_rate is not None:
            raise ConfigError("head_learning_rate is for SpanReader: the head of Reader is the model's own.")
        return rate

    # ---------------------------------------------------------------- answers

    def _answers(  # type: ignore[override]
        self,
        questions: Sequence[Question],
        read: Sequence[Sequence[Document]],
        *,
        search: Search | None = None,
        mode: str | None = None,
        vote: str | None = None,
        must_answer: bool = False,
        n_best: int = 1,
        batch_size: int = 8,
        cached: bool = True,
        verbose: int = 0,
    ) -> list[dict[str, Any]]:
        mode = _checked_mode(self.mode if mode is None else mode)
        search = Greedy() if search is None else search
        if not isinstance(search, Search):
            raise ConfigError(f"search must be Greedy() or Beam(...). Received: {search!r:.80}")
        if not 1 <= n_best <= search.results:
            raise ConfigError(
                f"n_best must be from 1 to what the search gives, {search.results} (Beam(width, n_best=...)). "
                f"Received: n_best={n_best}"
            )
        rows = [[window for document in passages for window in document.windows] for passages in read]
        asked = [
            Asked([w.token_ids for w in own], [(w.first, w.first + w.size) for w in own] if _spans(mode) else None)
            for own in rows
        ]
        progress = keras.utils.Progbar(len(asked), unit_name="question") if verbose else None
        found = vote_generate(
            self.model,
            asked,
            search,
            vote=self.vote if vote is None else vote,
            stop=self.stop,
            max_tokens=self.max_answer,
            must_answer=must_answer,
            batch_size=batch_size,
            cached=cached,
            progress=None if progress is None else progress.add,
        )
        return [
            self._answer(question, passages, voted, mode, n_best)
            for question, passages, voted in zip(questions, read, found, strict=True)
        ]

    def _answer(
        self, question: Question, passages: Sequence[Document], voted: list[Voted], mode: str, n_best: int
    ) -> dict[str, Any]:
        ranked = [self._located(question, passages, one, mode) for one in voted[:n_best]]
        return ranked[0] | {"alternatives": ranked} if n_best > 1 else ranked[0]

    def _located(self, question: Question, passages: Sequence[Document], one: Voted, mode: str) -> dict[str, Any]:
        """An answer with its support and its place."""
        support: list[float | None] = [None] * len(passages)
        places: list[tuple[bool, float, int, tuple[int, int] | None]] = []
        values = iter(one.support)
        for p, document in enumerate(passages):
            for window in document.windows:
                value = next(values)
                if value is None:
                    continue
                before = support[p]
                support[p] = value if before is None else max(before, value)
                if one.tokens:
                    place = _place(document, window, one.tokens)
                    places.append((place is not None, value, -p, place))
        record: dict[str, Any] = {"text": "", "score": one.score, "passage": None, "start": None, "end": None}
        if one.tokens:
            record["text"] = self.tokenizer.decode(one.tokens)
            held, _, p, place = max(places, key=lambda found: found[:3])
            record["passage"] = -p
            if held and place is not None:
                record |= {"start": place[0], "end": place[1]}
                if _spans(mode):
                    record["text"] = question.passages[-p][slice(*place)]
        return record | {"support": support}

    # ---------------------------------------------------------------- files

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write one folder with ``task.json``, the model and its tokenizer; whole or not at all."""
        sizes = {"max_passage": self.sizes.passage, "max_question": self.sizes.question, "stride": self.sizes.stride}
        own = {name: getattr(self, name) for name in _FIELDS if name not in sizes}
        write_task(folder, self.kind, sizes | own, self.model, self.tokenizer)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], dtype: Any = None) -> "Reader":
        """Read what `save` wrote.

        Raises:
            CheckpointError: a file is missing, damaged or does not fit; the message names it.
        """
        task = read_task(folder, cls.kind, _FIELDS, "Reader")
        tokenizer = Tokenizer.from_pretrained(folder)
        model = Transformer.from_pretrained(folder, mask="prefix", head="lm", dtype=dtype)
        try:
            return cls(model, tokenizer, **{name: task[name] for name in _FIELDS})
        except (KexueError, TypeError, ValueError) as error:
            raise CheckpointError(f"{Path(folder) / 'task.json'}: {error}") from None


def _checked_mode(mode: str) -> str:
    if mode not in MODES:
        raise ConfigError(f"mode must be one of {', '.join(MODES)}. Received: mode={mode!r}")
    return mode


def _spans(mode: str) -> bool:
    return mode == "extractive"


def _place(document: Document, window: Window, tokens: Sequence[int]) -> tuple[int, int] | None:
    """Characters of the first occurrence of ``tokens`` in a window's part of its passage."""
    ids = window.token_ids[window.first : window.first + window.size]
    size = len(tokens)
    if size > len(ids):
        return None
    views = np.lib.stride_tricks.sliding_window_view(ids, size)
    hits = np.flatnonzero((views == np.asarray(tokens)).all(axis=1))
    if not len(hits):
        return None
    start = document.first + window.start + int(hits[0])
    return document.encoding.char_span(start, start + size)
