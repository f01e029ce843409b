"""Entity metrics: exact scores of sets of spans, and a Keras metric for the training log.

An entity is right only if its start, end and label all are. Precision is right / predicted, recall right / gold,
F1 = 2 right / (predicted + gold). Where a denominator is 0 the value is 0: a set without gold entities and without
predictions scores 0, not 1 (the convention of seqeval and of scikit-learn's ``zero_division=0``).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import east_asian_width

import keras
from keras import ops

from kexue.errors import DataError

__all__ = ["EntityScores", "Scores", "SpanF1", "span_scores"]


@dataclass(frozen=True)
class Scores:
    """Counts and the ratios that follow from them."""

    correct: int
    """Entities that are both predicted and gold."""
    predicted: int
    """Entities that are predicted."""
    support: int
    """Entities that are gold."""

    @property
    def precision(self) -> float:
        """correct / predicted, or 0."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """correct / support, or 0."""
        return self.correct / self.support if self.support else 0.0

    @property
    def f1(self) -> float:
        """2 correct / (predicted + support), or 0."""
        total = self.predicted + self.support
        return 2 * self.correct / total if total else 0.0

    def as_dict(self) -> dict[str, float | int]:
        """Ratios and counts, ready for JSON."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "support": self.support,
            "predicted": self.predicted,
            "correct": self.correct,
        }


@dataclass(frozen=True)
class EntityScores:
    """Scores of a data set: all entities together (micro), and for each label."""

    micro: Scores
    labels: dict[str, Scores]

    @property
    def precision(self) -> float:
        """Micro precision."""
        return self.micro.precision

    @property
    def recall(self) -> float:
        """Micro recall."""
        return self.micro.recall

    @property
    def f1(self) -> float:
        """Micro F1."""
        return self.micro.f1

    @property
    def macro(self) -> dict[str, float]:
        """Unweighted means of precision, recall and F1 over the labels."""
        count = max(len(self.labels), 1)
        rows = self.labels.values()
        return {
            "precision": sum(row.precision for row in rows) / count,
            "recall": sum(row.recall for row in rows) / count,
            "f1": sum(row.f1 for row in rows) / count,
        }

    def as_dict(self) -> dict[str, Any]:
        """``{"micro": ..., "macro": ..., "labels": {label: ...}}``, ready for JSON."""
        return {
            "micro": self.micro.as_dict(),
            "macro": self.macro,
            "labels": {label: row.as_dict() for label, row in self.labels.items()},
        }

    def table(self) -> str:
        """A plain-text table, one line a label, then micro and macro."""
        names = [*self.labels, "micro", "macro"]
        width = max(_columns(name) for name in [*names, "label"])
        rows = [row.as_dict() for row in [*self.labels.values(), self.micro]]
        rows.append({**self.macro, "support": self.micro.support})
        lines = ["label" + " " * (width - 5) + "  precision  recall      f1  support"]
        for name, row in zip(names, rows, strict=True):
            lines.append(
                name
                + " " * (width - _columns(name))
                + f"  {row['precision']:9.4f}  {row['recall']:6.4f}  {row['f1']:6.4f}  {row['support']:7d}"
            )
        return "\n".join(lines)


def _columns(text: str) -> int:
    """Width in a terminal, where a Chinese character takes two columns."""
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def span_scores(
    predicted: Iterable[Iterable[Any]], gold: Iterable[Iterable[Any]], labels: Sequence[str] | None = None
) -> EntityScores:
    """Exact-match scores of predicted entities.

    Args:
        predicted: for each example its entities, either ``(start, end, label)`` or mappings with the keys ``start``,
            ``end`` and ``label`` (other keys are ignored). Whether ``end`` is inclusive does not matter as long as both
            sides agree. The same entity twice in an example counts once.
        gold: likewise, the same number of examples in the same order.
        labels: the labels to report, in this order; default all that occur, sorted.

    Returns:
        Micro scores over all entities, and scores for each label. A label that never occurs scores 0 and, when listed
        in ``labels``, enters the macro mean.

    Raises:
        DataError: the numbers of examples differ, or a label is not in ``labels``.
    """
    predicted, gold = list(predicted), list(gold)
    if len(predicted) != len(gold):
        raise DataError(
            "span_scores needs as many predicted examples as gold ones. "
            f"Received: {len(predicted)} predicted, {len(gold)} gold"
        )
    correct: Counter[str] = Counter()
    found: Counter[str] = Counter()
    support: Counter[str] = Counter()
    for ours, theirs in zip(predicted, gold, strict=True):
        p, g = {_span(x) for x in ours}, {_span(x) for x in theirs}
        found.update(label for _, _, label in p)
        support.update(label for _, _, label in g)
        correct.update(label for _, _, label in p & g)
    seen = sorted(set(found) | set(support))
    if labels is None:
        labels = seen
    elif unknown := [label for label in seen if label not in set(labels)]:
        raise DataError(f"labels must hold every label that occurs. Received: labels={list(labels)} without {unknown}")
    rows = {label: Scores(correct[label], found[label], support[label]) for label in labels}
    return EntityScores(Scores(correct.total(), found.total(), support.total()), rows)


def _span(entity: Any) -> tuple[int, int, str]:
    try:
        if isinstance(entity, Mapping):
            return int(entity["start"]), int(entity["end"]), entity["label"]
        start, end, label = entity
        return int(start), int(end), label
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"an entity must be (start, end, label) or a mapping with these keys. Received: {entity!r}"
        ) from error


@keras.saving.register_keras_serializable(package="kexue")
class SpanF1(keras.metrics.Metric):
    """Entity F1 of pointer logits, accumulated over batches: ``2 sum(y p) / sum(y + p)``, p = [logits > threshold].

    Takes ``(batch, types, length, length)`` logits and either targets of the same shape or, with ``sparse=True``,
    ``(batch, types, n, 2)`` spans padded with -1 (a span listed twice counts once). ``sample_weight`` is ``(batch,)``.

    Args:
        sparse: which kind of targets.
        threshold: score above which a span is predicted.
        name: of the metric.

    Source: kexue.fm 8373.
    """

    def __init__(
        self, sparse: bool = False, threshold: float = 0.0, name: str = "span_f1", dtype: Any = "float32"
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.sparse = sparse
        self.threshold = threshold
        self.correct = self.add_variable((), "zeros", name="correct")
        self.predicted = self.add_variable((), "zeros", name="predicted")
        self.support = self.add_variable((), "zeros", name="support")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch."""
        batch, types, length = ops.shape(y_pred)[0], y_pred.shape[1], ops.shape(y_pred)[-1]
        hits = ops.reshape(ops.greater(y_pred, self.threshold), (batch, types, length * length))
        if self.sparse:
            spans = ops.cast(y_true, "int32")
            gold = ops.all(ops.greater_equal(spans, 0), axis=-1)
            flat = spans[..., 0] * length + spans[..., 1]
            inside = ops.logical_and(gold, ops.all(ops.less(spans, length), axis=-1))
            # A repeated span counts at its first place only: no equal one to its left.
            n = ops.shape(spans)[2]
            equal = ops.all(ops.equal(spans[:, :, :, None], spans[:, :, None]), axis=-1)
            earlier = ops.less(ops.arange(n)[None, :], ops.arange(n)[:, None])
            gold = ops.logical_and(gold, ops.logical_not(ops.any(ops.logical_and(equal, earlier), axis=-1)))
            found = ops.take_along_axis(hits, ops.where(inside, flat, 0), axis=-1)
            correct = ops.logical_and(ops.logical_and(gold, inside), found)
        else:
            gold = ops.reshape(ops.greater(ops.cast(y_true, "float32"), 0.5), (batch, types, length * length))
            correct = ops.logical_and(gold, hits)
        for variable, value in ((self.correct, correct), (self.predicted, hits), (self.support, gold)):
            count = ops.sum(ops.cast(value, self.dtype), axis=(1, 2))
            if sample_weight is not None:
                count = count * ops.reshape(ops.cast(sample_weight, self.dtype), (-1,))
            variable.assign_add(ops.sum(count))

    def result(self) -> Any:
        """F1 so far, 0 if nothing was predicted and nothing is gold."""
        total = self.predicted + self.support
        return ops.where(total > 0, 2 * self.correct / ops.where(total > 0, total, 1.0), 0.0)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"name": self.name, "dtype": self.dtype, "sparse": self.sparse, "threshold": self.threshold}
