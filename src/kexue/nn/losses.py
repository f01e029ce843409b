"""Losses on logits: multi-label (ZLPR), GlobalPointer, and token classification.

ZLPR ("zero-bounded log-sum-exp and pairwise rank-based") is the softmax cross-entropy generalised to any number of
positive classes. With the threshold class 0 among the scores it asks that every positive score is above 0 and every
negative one below:

    loss = log(1 + sum_{i in neg} exp(s_i)) + log(1 + sum_{j in pos} exp(-s_j)).

Everything here is computed in float32 whatever the dtype of the logits. A logit at or below ``MASKED_SCORE / 2``, where
``MASKED_SCORE`` is the finite fill that the heads of `kexue.nn.heads` write, does not exist: it counts as neither
positive nor negative and receives no gradient.

Source: kexue.fm articles 7359 (loss), 8373 (GlobalPointer), 9064 (soft labels); Su et al., "ZLPR", arXiv 2208.02955.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError

__all__ = [
    "MASKED_SCORE",
    "GlobalPointerLoss",
    "MultilabelCategoricalCrossentropy",
    "SparseMultilabelCategoricalCrossentropy",
    "TokenCrossentropy",
    "global_pointer_loss",
    "multilabel_categorical_crossentropy",
    "sparse_multilabel_categorical_crossentropy",
    "token_crossentropy",
]

MASKED_SCORE = -1e12
"""Score of an entry that must not exist. Finite in float32 and bfloat16; -inf in float16, which is understood too."""

_FLOOR = -1e30  # "log 0": exp of it is 0 after any shift by a maximum that is at least 0


def _exists(logits: Any) -> Any:
    return ops.greater(logits, MASKED_SCORE / 2)


def _log1p_sum_exp(x: Any) -> Any:
    """log(1 + sum exp(x)) over the last axis, exact to rounding for any finite x.

    With m = max(0, max x) the value is m + log(exp(-m) + S), S = sum exp(x - m). Written as
    m + log1p(S + expm1(-m)) it also keeps its relative precision when the sum is tiny (m = 0).
    """
    m = ops.stop_gradient(ops.maximum(ops.max(x, axis=-1, keepdims=True), 0.0))
    total = ops.sum(ops.exp(x - m), axis=-1)
    m = ops.squeeze(m, -1)
    return m + ops.log1p(total + ops.expm1(-m))


def multilabel_categorical_crossentropy(logits: Any, targets: Any, *, mask: Any = None, soft: bool = False) -> Any:
    """ZLPR: ``log(1 + sum_neg exp(s)) + log(1 + sum_pos exp(-s))`` over the last axis.

    Args:
        logits: ``(..., classes)``, any float dtype; not probabilities.
        targets: ``(..., classes)``, 1 at positive classes and 0 elsewhere. With ``soft=True`` any number in [0, 1].
        mask: ``(..., classes)`` or broadcastable, true at classes that exist. Default: all whose logit is above
            ``MASKED_SCORE / 2``.
        soft: use ``log(1 + sum (1-y) exp(s)) + log(1 + sum y exp(-s))``, minimised by ``s = log(y / (1 - y)) / 2``,
            so that the prediction is ``sigmoid(2 s)``. Equal to the hard loss when every target is 0 or 1.

    Returns:
        The loss, float32, of shape ``logits.shape[:-1]``; 0 where nothing exists. The prediction is "every class with a
        score above 0".

    Source: kexue.fm 7359 and 9064, arXiv 2208.02955.
    """
    logits = ops.cast(logits, "float32")
    targets = ops.cast(targets, "float32")
    exists = _exists(logits)
    if mask is not None:
        exists = ops.logical_and(exists, ops.cast(mask, "bool"))
    safe = ops.where(exists, logits, 0.0)
    if not soft:
        positive = ops.greater(targets, 0.5)
        negatives = ops.where(ops.logical_and(exists, ops.logical_not(positive)), safe, _FLOOR)
        positives = ops.where(ops.logical_and(exists, positive), -safe, _FLOOR)
        return _log1p_sum_exp(negatives) + _log1p_sum_exp(positives)
    tiny = 1e-37  # keeps the logarithm of the branch that `where` discards finite, and so its gradient
    is_negative = ops.logical_and(exists, ops.less(targets, 1.0))
    is_positive = ops.logical_and(exists, ops.greater(targets, 0.0))
    negatives = ops.where(is_negative, safe + ops.log(ops.maximum(1.0 - targets, tiny)), _FLOOR)
    positives = ops.where(is_positive, ops.log(ops.maximum(targets, tiny)) - safe, _FLOOR)
    return _log1p_sum_exp(negatives) + _log1p_sum_exp(positives)


def sparse_multilabel_categorical_crossentropy(
    logits: Any, positive_indices: Any, *, mask_zero: bool = False, mask: Any = None
) -> Any:
    """ZLPR whose targets are lists of positive class indices.

    The negatives' sum could be had as ``log(sum_all - sum_pos)``, but that loses every digit when a positive score
    dominates. Here the positives are first removed from the negatives by a scatter of small integers, which is exact,
    and only the listed positives are gathered. An index listed twice counts once.

    Args:
        logits: ``(..., classes)``.
        positive_indices: ``(..., n)`` integers in ``[0, classes)``, padded with -1 (any negative number).
        mask_zero: the convention of bert4keras: 0 is the padding, and class 0 is neither positive nor negative.
        mask: see `multilabel_categorical_crossentropy`.

    Returns:
        float32 of shape ``logits.shape[:-1]``, equal to the dense loss.

    Source: kexue.fm 7359; the same value as arXiv 2208.02955, another algorithm.
    """
    shape = ops.shape(logits)
    classes = shape[-1]
    logits = ops.reshape(ops.cast(logits, "float32"), (-1, classes))
    rows = ops.shape(logits)[0]
    n = ops.shape(positive_indices)[-1] + 1
    indices = ops.reshape(ops.cast(positive_indices, "int32"), (rows, n - 1))
    indices = ops.pad(indices, ((0, 0), (0, 1)), constant_values=-1)  # lists of length 0 are allowed
    exists = _exists(logits)
    if mask is not None:
        mask = ops.broadcast_to(ops.cast(mask, "bool"), shape)
        exists = ops.logical_and(exists, ops.reshape(mask, (-1, classes)))
    if mask_zero:
        indices = ops.where(ops.equal(indices, 0), -1, indices)
        exists = ops.logical_and(exists, ops.expand_dims(ops.not_equal(ops.arange(classes), 0), 0))
    listed = ops.greater_equal(indices, 0)
    indices = ops.where(listed, indices, 0)

    # Each positive cell holds 1 + the slot that names it (one of them, if several do). Padding goes to a spare cell.
    cells = rows * classes
    where = ops.where(listed, ops.expand_dims(ops.arange(rows, dtype="int32") * classes, -1) + indices, cells)
    slots = ops.broadcast_to(ops.expand_dims(ops.arange(1, n + 1, dtype="int32"), 0), (rows, n))
    table = ops.scatter_update(
        ops.zeros((cells + 1,), dtype="int32"), ops.reshape(where, (-1, 1)), ops.reshape(slots, (-1,))
    )
    table = ops.reshape(table[:cells], (rows, classes))

    safe = ops.where(exists, logits, 0.0)
    negatives = ops.where(ops.logical_and(exists, ops.equal(table, 0)), safe, _FLOOR)
    named = ops.logical_and(listed, ops.equal(ops.take_along_axis(table, indices, axis=-1), slots))
    named = ops.logical_and(named, ops.take_along_axis(exists, indices, axis=-1))
    positives = ops.where(named, -ops.take_along_axis(safe, indices, axis=-1), _FLOOR)
    return ops.reshape(_log1p_sum_exp(negatives) + _log1p_sum_exp(positives), shape[:-1])


def _pointer_terms(logits: Any, targets: Any, sparse: bool) -> tuple[Any, Any]:
    """Loss of each (example, type), ``(B, T)``, and whether the example has any existing entry, ``(B,)``."""
    batch, types, length = ops.shape(logits)[0], logits.shape[1], ops.shape(logits)[-1]
    flat = ops.reshape(logits, (batch, types, length * length))
    if sparse:
        targets = ops.cast(targets, "int32")
        start, end = targets[..., 0], targets[..., 1]
        inside = (start >= 0) & (end >= 0) & (start < length) & (end < length)
        terms = sparse_multilabel_categorical_crossentropy(flat, ops.where(inside, start * length + end, -1))
    else:
        terms = multilabel_categorical_crossentropy(flat, ops.reshape(targets, (batch, types, length * length)))
    return terms, ops.any(_exists(ops.cast(flat, "float32")), axis=(1, 2))


def _weighted_over_types(terms: Any, type_weights: Sequence[float] | None) -> Any:
    """Mean over the types, ``(B, T) -> (B,)``."""
    if type_weights is None:
        return ops.mean(terms, axis=-1)
    if len(type_weights) != terms.shape[-1] or min(type_weights) < 0 or sum(type_weights) <= 0:
        raise ConfigError(
            f"type_weights must hold one non-negative weight for each of the {terms.shape[-1]} types, not all zero. "
            f"Received: type_weights={list(type_weights)}"
        )
    total = float(sum(type_weights))
    return ops.sum(terms * ops.convert_to_tensor([w / total for w in type_weights], dtype="float32"), axis=-1)


def global_pointer_loss(
    logits: Any, targets: Any, *, sparse: bool = False, type_weights: Sequence[float] | None = None
) -> Any:
    """ZLPR over all spans of each (example, type), averaged.

    Args:
        logits: ``(batch, types, length, length)`` of `GlobalPointer`, indexed ``[b, type, start, end]``.
        targets: the same shape with 1 at entities; with ``sparse=True`` ``(batch, types, n, 2)`` integers
            ``(start, end)``, end inclusive, padded with -1. Spans outside the row or masked are ignored.
        sparse: which of the two.
        type_weights: one weight for each type, for imbalanced sets. Only their ratios matter: the result is the
            weighted mean over types.

    Returns:
        A float32 scalar: the mean over types and over the examples that have at least one token (a row of padding only
        changes nothing); 0 if there is none.

    Raises:
        ConfigError: ``type_weights`` does not fit.

    Source: kexue.fm 8373, with the loss of 7359.
    """
    terms, real = _pointer_terms(logits, targets, sparse)
    real = ops.cast(real, "float32")
    terms = _weighted_over_types(terms, type_weights) * real
    return ops.sum(terms) / ops.maximum(ops.sum(real), 1.0)


def token_crossentropy(
    logits: Any,
    tags: Any,
    *,
    ignore: int = -1,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
) -> tuple[Any, Any]:
    """Softmax cross-entropy of each token.

    Args:
        logits: ``(..., labels)``.
        tags: ``(...)`` integers; ``ignore`` where there is no token to score.
        ignore: that number.
        label_smoothing: mass spread evenly over all labels.
        class_weights: weight of a token by its tag.

    Returns:
        ``(losses, weights)`` of shape ``tags.shape``, float32. The weight is 0 at ignored tokens (whose loss is 0),
        else 1 or the class weight; the loss is already multiplied by it. The mean is ``sum(losses) / sum(weights)``.
    """
    logits = ops.cast(logits, "float32")
    labels = logits.shape[-1]
    tags = ops.cast(tags, "int32")
    keep = ops.not_equal(tags, ignore)
    tags = ops.where(keep, tags, 0)
    if keras.backend.backend() == "torch":
        # One pass forth and one back over the classes, where the formula below keeps several arrays of their size.
        from torch.nn.functional import cross_entropy

        losses = cross_entropy(
            logits.reshape(-1, labels), tags.reshape(-1).long(), reduction="none", label_smoothing=label_smoothing
        ).reshape(tags.shape)
    else:
        total = ops.logsumexp(logits, axis=-1)
        losses = total - ops.squeeze(ops.take_along_axis(logits, ops.expand_dims(tags, -1), axis=-1), -1)
        if label_smoothing:
            losses = (1.0 - label_smoothing) * losses + label_smoothing * (total - ops.mean(logits, axis=-1))
    weights = ops.cast(keep, "float32")
    if class_weights is not None:
        if len(class_weights) != labels:
            raise ConfigError(
                f"class_weights must hold one weight for each of the {labels} labels. "
                f"Received: class_weights={list(class_weights)}"
            )
        weights = weights * ops.take(ops.convert_to_tensor(list(class_weights), dtype="float32"), tags, axis=0)
    return ops.where(keep, losses, 0.0) * weights, weights


def mean_over_real(losses: Any, weights: Any, reduction: str | None) -> Any:
    """Scale ``losses`` so that Keras' plain mean over them is the mean over entries of weight above 0.

    Keras divides by the number of entries, padding included. Nothing is scaled for reductions that do not divide.
    """
    if reduction not in ("sum_over_batch_size", "mean"):
        return losses
    count = ops.cast(ops.size(weights), "float32")
    total = ops.sum(weights)
    return losses * ops.where(total > 0, count / ops.where(total > 0, total, 1.0), 0.0)


def _float32(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keras casts targets to the dtype of the loss, by default `floatx`: bfloat16 would corrupt indices."""
    return {"dtype": "float32", **kwargs}


@keras.saving.register_keras_serializable(package="kexue")
class MultilabelCategoricalCrossentropy(keras.losses.Loss):
    """Keras loss of `multilabel_categorical_crossentropy`: called as ``loss(targets, logits)``."""

    def __init__(self, soft: bool = False, name: str = "multilabel_categorical_crossentropy", **kwargs: Any) -> None:
        super().__init__(name=name, **_float32(kwargs))
        self.soft = soft

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each row, ``(..., classes) -> (...)``."""
        return multilabel_categorical_crossentropy(y_pred, y_true, soft=self.soft)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "soft": self.soft}


@keras.saving.register_keras_serializable(package="kexue")
class SparseMultilabelCategoricalCrossentropy(keras.losses.Loss):
    """Keras loss of `sparse_multilabel_categorical_crossentropy`: called as ``loss(positive_indices, logits)``."""

    def __init__(
        self, mask_zero: bool = False, name: str = "sparse_multilabel_categorical_crossentropy", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **_float32(kwargs))
        self.mask_zero = mask_zero

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each row, ``(..., n), (..., classes) -> (...)``."""
        return sparse_multilabel_categorical_crossentropy(y_pred, y_true, mask_zero=self.mask_zero)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "mask_zero": self.mask_zero}


@keras.saving.register_keras_serializable(package="kexue")
class GlobalPointerLoss(keras.losses.Loss):
    """Keras loss of `global_pointer_loss`: called as ``loss(targets, logits)``.

    ``sample_weight`` of shape ``(batch,)`` weighs examples. Rows of padding only are left out of the mean.
    """

    def __init__(
        self,
        sparse: bool = False,
        type_weights: Sequence[float] | None = None,
        name: str = "global_pointer_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **_float32(kwargs))
        self.sparse = sparse
        self.type_weights = None if type_weights is None else [float(w) for w in type_weights]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each example, ``(B,)``."""
        terms, real = _pointer_terms(y_pred, y_true, self.sparse)
        real = ops.cast(real, "float32")
        return mean_over_real(_weighted_over_types(terms, self.type_weights) * real, real, self.reduction)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "sparse": self.sparse, "type_weights": self.type_weights}


@keras.saving.register_keras_serializable(package="kexue")
class TokenCrossentropy(keras.losses.Loss):
    """Keras loss of `token_crossentropy`, the mean over tokens that are not ignored: ``loss(tags, logits)``."""

    def __init__(
        self,
        ignore: int = -1,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        name: str = "token_crossentropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **_float32(kwargs))
        self.ignore = ignore
        self.label_smoothing = label_smoothing
        self.class_weights = None if class_weights is None else [float(w) for w in class_weights]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each token, ``(B, L)``."""
        losses, weights = token_crossentropy(
            y_pred,
            y_true,
            ignore=self.ignore,
            label_smoothing=self.label_smoothing,
            class_weights=self.class_weights,
        )
        return mean_over_real(losses, weights, self.reduction)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "ignore": self.ignore,
            "label_smoothing": self.label_smoothing,
            "class_weights": self.class_weights,
        }
