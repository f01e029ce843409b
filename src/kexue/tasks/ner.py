"""`NER`: named entities, flat or nested, from labelled text to a folder that recognises them."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from kexue.errors import ConfigError
from kexue.models import Transformer, TransformerConfig
from kexue.nn.losses import MASKED_SCORE
from kexue.nn.metrics import EntityScores, span_scores
from kexue.tasks import _ner_files
from kexue.tasks._conditions import texts_with_conditions
from kexue.tasks._fit import Training
from kexue.tasks._forward import compiled_forward
from kexue.tasks._heads import PointerHead, make_head
from kexue.tasks._opening import check_vocabulary, open_model
from kexue.tasks._recognise import recognise, run_windows
from kexue.tasks._windows import Document, check_examples, cut, merge_blocks
from kexue.text import Tokenizer
from kexue.training.seeding import seeded_weights

__all__ = ["NER", "PointerScores"]

_CHUNK = 8192  # texts that are encoded and sorted together


class PointerScores(NamedTuple):
    """Scores of all spans of one text, for pictures."""

    tokens: tuple[str, ...]
    """The text's n tokens, without special ones."""
    offsets: np.ndarray
    """``(n, 2)`` character ranges."""
    scores: np.ndarray
    """``(types, n, n)``: start token, end token; very negative where there is no span."""


class NER(Training):
    """Finds entities in text.

    Make one with `from_pretrained` or `load`.

    Args:
        encoder: a `kexue.models.Transformer`.
        tokenizer: its tokenizer.
        labels: entity types.
        head: ``"global_pointer"`` or ``"efficient_global_pointer"`` (every span is scored: nested entities),
            ``"crf"`` or ``"softmax"`` (one tag a token).
        max_length: most tokens the encoder sees at once, special ones included; longer texts are cut into
            overlapping windows. Lowered to what the encoder has positions for.
        stride: tokens from one window to the next; default half of ``max_length``.
        flat: of overlapping entities keep the one with the higher score. Tags are flat anyway.
        threshold: an entity needs a score above it (pointer heads: a logit, 0 being even odds) or at least it (tag
            heads: the probability of its tags). A number, or a mapping from labels.
        head_size: size of a pointer head's queries and keys.
        rotary: whether a pointer head sees relative positions.
        scheme: tags of a tag head: ``"bio"``, ``"bioes"`` or ``"bmes"``.
        dtype: Keras dtype policy of the head; the encoder has its own.

    Example:
        >>> ner = NER.from_pretrained("chinese_L-12_H-768_A-12", labels=["name", "address"])  # doctest: +SKIP
        >>> ner.fit(train, valid, epochs=5)                                                   # doctest: +SKIP
        >>> ner.predict("彭小军认为，国内银行现在走的是台湾的发卡模式")                              # doctest: +SKIP
        [{'start': 0, 'end': 3, 'label': 'name', 'score': 7.1, 'text': '彭小军'}, ...]
        >>> ner.save("my-ner"); ner = NER.load("my-ner")                                      # doctest: +SKIP

    Source: kexue.fm 8373 and 8877 (GlobalPointer), 7196 (CRF and its learning rate).
    """

    def __init__(
        self,
        encoder: Transformer,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        head: str = "global_pointer",
        *,
        max_length: int = 256,
        stride: int | None = None,
        flat: bool | None = None,
        threshold: float | Mapping[str, float] = 0.0,
        head_size: int = 64,
        rotary: bool = True,
        scheme: str = "bio",
        dtype: Any = None,
    ) -> None:
        self.labels = _checked_labels(labels)
        check_vocabulary(encoder, tokenizer)
        if encoder.config.position == "learned":
            max_length = min(max_length, encoder.config.max_length - encoder.config.position_offset)
        room = max_length - tokenizer.special_count()
        if room < 1:
            raise ConfigError(f"max_length={max_length} leaves no room beside the special tokens; use at least 16.")
        stride = min(max(max_length // 2, 1), room) if stride is None else stride
        if not 1 <= stride <= room:
            raise ConfigError(f"stride must lie in [1, {room}] for max_length={max_length}. Received: stride={stride}")
        if encoder.config.condition_per_token:
            raise ConfigError(
                "NER takes one condition a text; the encoder wants one a token (condition_per_token=True). "
                "Leave condition_per_token out."
            )
        self.encoder, self.tokenizer = encoder, tokenizer
        self.head, self.max_length, self.stride, self.scheme = head, max_length, stride, scheme
        self.head_size, self.rotary = head_size, rotary
        self.flat, self.threshold = bool(flat), threshold
        self._limits(threshold)
        self._head = make_head(head, self.labels, head_size=head_size, rotary=rotary, scheme=scheme, dtype=dtype)
        self.model = self._build()
        self._forward = compiled_forward(self.model)

    @classmethod
    def from_pretrained(
        cls,
        path_or_config: str | os.PathLike[str] | TransformerConfig | Mapping[str, Any],
        labels: Sequence[str],
        head: str = "global_pointer",
        *,
        tokenizer: Tokenizer | None = None,
        max_length: int = 256,
        stride: int | None = None,
        flat: bool | None = None,
        threshold: float | Mapping[str, float] = 0.0,
        head_size: int = 64,
        rotary: bool = True,
        dropout: float | None = None,
        condition_size: int | None = None,
        keep_tokens: Sequence[int] | str | None = None,
        pre_tokenize: Any = None,
        dtype: Any = None,
        seed: int | None = None,
        scheme: str = "bio",
        **model_changes: Any,
    ) -> "NER":
        """An encoder with a new head.

        Args:
            path_or_config: a checkpoint of any known format with its tokenizer; or a `TransformerConfig` or a dict of
                its fields for random weights, which needs ``tokenizer`` (and may leave ``vocabulary_size`` out).
            labels: see `NER`, as all arguments that are not named here.
            head: see `NER`.
            tokenizer: instead of the checkpoint's own.
            max_length: see `NER`.
            stride: see `NER`.
            flat: see `NER`.
            threshold: see `NER`.
            head_size: see `NER`.
            rotary: see `NER`.
            dropout: of the encoder, everywhere (also on attention); default: as the checkpoint says.
            condition_size: size of a vector that comes with every text and conditions all norms of the encoder. Its
                weights start at zero: until they are trained the condition changes nothing. Default: as the
                checkpoint or configuration says, mostly no condition.
            keep_tokens: ``"simplified"`` leaves out tokens that cannot occur; or the ids to keep, for a ``tokenizer``
                that already has the new vocabulary.
            pre_tokenize: see `kexue.text.Tokenizer`.
            dtype: Keras dtype policy, such as ``"mixed_bfloat16"``.
            seed: of all initial weights that no checkpoint gives.
            scheme: see `NER`.
            **model_changes: fields of `TransformerConfig` to change, or arguments of `Transformer.from_pretrained`.

        Raises:
            ConfigError, CheckpointError, DataError: arguments or files that cannot work.
        """
        if dropout is not None:
            model_changes = {"dropout": dropout, "attention_dropout": dropout} | model_changes
        if condition_size is not None:
            model_changes["condition_size"] = condition_size
        if tokenizer is None and not isinstance(path_or_config, TransformerConfig | Mapping):
            tokenizer = Tokenizer.from_pretrained(path_or_config, pre_tokenize=pre_tokenize)
        with seeded_weights(seed):
            encoder, tokenizer = open_model(path_or_config, tokenizer, keep_tokens, dtype=dtype, **model_changes)
            return cls(
                encoder,
                tokenizer,
                labels,
                head,
                max_length=max_length,
                stride=stride,
                flat=flat,
                threshold=threshold,
                head_size=head_size,
                rotary=rotary,
                scheme=scheme,
                dtype=dtype,
            )

    @property
    def condition_size(self) -> int | None:
        """Size of the condition that each text must come with; None: there is none."""
        return self.encoder.config.condition_size

    def _build(self) -> keras.Model:
        inputs = {
            "token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
            "padding_mask": keras.Input((None,), dtype="bool", name="padding_mask"),
        }
        if self.condition_size is not None:
            inputs["condition"] = keras.Input((self.condition_size,), dtype="float32", name="condition")
        features = self.encoder(dict(inputs))["sequence_output"]
        layer = self._head.layer
        if self._head.masks_spans:
            inputs["entity_mask"] = keras.Input((None,), dtype="bool", name="entity_mask")
            outputs = layer(features, padding_mask=inputs["entity_mask"])
        else:
            outputs = layer(features)
        return keras.Model(inputs, outputs, name="ner")

    def _limits(self, threshold: Any) -> Any:
        if not isinstance(threshold, Mapping):
            return float(threshold)
        unknown = sorted(set(threshold) - set(self.labels))
        if unknown:
            raise ConfigError(f"threshold names unknown labels: {', '.join(unknown)}. Labels: {', '.join(self.labels)}")
        return [float(threshold.get(label, 0.0)) for label in self.labels]

    def _documents(self, texts: Sequence[str], conditions: Sequence[np.ndarray | None]) -> list[Document]:
        encodings = self.tokenizer.encode_batch(texts)
        return [cut(e, self.max_length, self.stride, c) for e, c in zip(encodings, conditions, strict=True)]

    def _run_options(self, batch_size: int) -> dict[str, Any]:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be positive. Received: batch_size={batch_size}")
        return {"batch_size": batch_size, "max_length": self.max_length, "pad_id": self.tokenizer.pad_id}

    def evaluate(self, data: Iterable[Mapping[str, Any]], *, batch_size: int = 32, verbose: int = 0) -> EntityScores:
        """Precision, recall and F1 of exact character spans of whole texts, together and by label.

        An entity that no token span can express counts as missed.

        Args:
            data: examples ``{"text": str, "entities": [{"start", "end", "label"}]}``, with a ``condition_size`` also
                ``"condition": [float, ...]``.
            batch_size: windows in a batch.
            verbose: 1 for a progress bar.

        Raises:
            DataError: a broken example, an unknown label, or a condition that does not fit.
        """
        examples = check_examples(data, self.labels, "data", self.condition_size)
        records = [{"text": example.text, "condition": example.condition} for example in examples]
        predicted = self.predict(records, batch_size=batch_size, verbose=verbose)
        return span_scores(predicted, [example.entities for example in examples], self.labels)

    def predict(
        self,
        texts: str | Mapping[str, Any] | Iterable[str | Mapping[str, Any]],
        *,
        conditions: Any = None,
        batch_size: int = 32,
        threshold: float | Mapping[str, float] | None = None,
        flat: bool | None = None,
        verbose: int = 0,
    ) -> list[Any]:
        """Entities of texts.

        Args:
            texts: texts of any length, or one; each a string or a record ``{"text": str, "condition": [float, ...]}``.
            conditions: ``(n, condition_size)``, or ``(condition_size,)`` for one text, instead of those in records.
            batch_size: windows in a batch.
            threshold: instead of the recogniser's own.
            flat: instead of the recogniser's own.
            verbose: 1 for a progress bar.

        Returns:
            For each text a list of dicts ``start``, ``end`` (exclusive), ``label``, ``score``, ``text``, by place; for
            one text one such list. The score is the logit of a pointer head, or the probability that the tags of
            the entity's tokens are what they are (CRF: summed over all tags of the rest).

        Raises:
            DataError: something that is not a text; a condition that is missing or does not fit. Names the text.
            ConfigError: conditions for a recogniser without condition_size; other arguments that cannot work.
        """
        if isinstance(texts, (str, Mapping)):
            one = None if conditions is None else [conditions]
            return self.predict(
                [texts], conditions=one, batch_size=batch_size, threshold=threshold, flat=flat, verbose=verbose
            )[0]
        plain, vectors = texts_with_conditions(texts, conditions, self.condition_size)
        options = self._run_options(batch_size)
        limits = self._limits(self.threshold if threshold is None else threshold)
        found: list[list[dict[str, Any]]] = []
        for first in range(0, len(plain), _CHUNK):
            part = slice(first, first + _CHUNK)
            found += recognise(
                self._forward,
                self._head,
                self._documents(plain[part], vectors[part]),
                threshold=limits,
                flat=self.flat if flat is None else flat,
                verbose=verbose,
                **options,
            )
        return found

    def pointer_scores(self, text: str | Mapping[str, Any], condition: Any = None) -> PointerScores:
        """Scores of all spans of one text.

        Of a long text only spans that fit into a window have one, from the window with most context.

        Args:
            text: a string or a record, see `predict`.
            condition: ``(condition_size,)``, instead of that in the record.

        Raises:
            ConfigError: the head has no such scores.
            DataError: see `predict`.
        """
        if not isinstance(self._head, PointerHead):
            raise ConfigError(f"only pointer heads score spans; this recogniser has head={self.head!r}.")
        one = None if condition is None else [condition]
        document = self._documents(*texts_with_conditions([text], one, self.condition_size))[0]
        blocks = run_windows(
            self._forward,
            self._head,
            document.windows,
            lambda outputs, windows: [
                outputs[i, :, w.first : w.first + w.size, w.first : w.first + w.size].copy()
                for i, w in enumerate(windows)
            ],
            **self._run_options(1),
        )
        scores = merge_blocks(document, blocks, len(self.labels), MASKED_SCORE)
        encoding, first, n = document.encoding, document.first, document.size
        return PointerScores(encoding.tokens[first : first + n], encoding.offsets[first : first + n], scores)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write everything that `load` needs into a folder; it appears complete or not at all.

        The folder is also a checkpoint of the encoder (``Transformer.from_pretrained``). A ``pre_tokenize`` function
        of the tokenizer cannot be written: pass it to `load` again; the name ``"jieba"`` is kept.
        """
        _ner_files.save(self, folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], dtype: Any = None, *, pre_tokenize: Any = None) -> "NER":
        """Read what `save` wrote.

        Args:
            folder: the folder.
            dtype: Keras dtype policy.
            pre_tokenize: the hook that the tokenizer had, where it could not be saved.

        Raises:
            CheckpointError: a file is missing, damaged or does not fit; the message names it.
        """
        return _ner_files.load(cls, folder, dtype, pre_tokenize)

    def __repr__(self) -> str:
        config = self.encoder.config
        return (
            f"NER({self.head}, {len(self.labels)} labels: {', '.join(self.labels[:6])}"
            f"{', ...' if len(self.labels) > 6 else ''}; {config.family} {config.num_layers}x{config.hidden_size}, "
            f"max_length={self.max_length}, {self.model.count_params():,} parameters)"
        )


def _checked_labels(labels: Sequence[str]) -> tuple[str, ...]:
    if isinstance(labels, str) or not all(isinstance(label, str) and label for label in labels):
        raise ConfigError(f"labels must be a list of non-empty strings. Received: labels={labels!r}")
    if not len(labels) or len(set(labels)) != len(labels):
        raise ConfigError(f"labels must be at least one, each once. Received: labels={list(labels)}")
    return tuple(labels)
