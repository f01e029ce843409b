"""Where the condition of a text comes from: a label, a vector of the user's, or any Keras model."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError, DataError
from kexue.tasks._conditions import condition_of

__all__ = ["ConditionSource", "Given", "check_conditioner", "check_labels"]


def check_labels(labels: Any) -> tuple[str, ...]:
    """The labels of a task.

    Raises:
        ConfigError: none, one twice, or something that is no label.
    """
    if isinstance(labels, str) or not isinstance(labels, Sequence) or not labels:
        raise ConfigError(f"labels must be a list of strings. Received: {labels!r:.80}")
    if any(not isinstance(label, str) or not label for label in labels) or len(set(labels)) < len(labels):
        raise ConfigError(f"labels must be strings that differ and are not empty. Received: {labels!r:.80}")
    return tuple(labels)


def check_conditioner(model: Any) -> int:
    """The length of the vectors that a conditioner gives.

    Raises:
        ConfigError: not a model with one input and one vector a row.
    """
    if not isinstance(model, keras.Model):
        raise ConfigError(f"conditioner must be a keras.Model. Received: {type(model).__name__}")
    try:
        inputs, outputs = keras.tree.flatten(model.input), keras.tree.flatten(model.output)
    except (AttributeError, ValueError):
        raise ConfigError(
            "conditioner must be a functional or sequential model of known input shape: begin it with keras.Input."
        ) from None
    if len(inputs) != 1 or len(outputs) != 1:
        raise ConfigError(f"conditioner must have one input and one output. Received: {len(inputs)} and {len(outputs)}")
    shape = tuple(outputs[0].shape)
    if len(shape) != 2 or shape[1] is None:
        raise ConfigError(
            "conditioner must give one vector for each row, of shape (batch, size): conditions of each token leave the "
            "tokens to generate without one. Add a pooling layer, such as keras.layers.GlobalAveragePooling2D(). "
            f"Received: output shape {shape}"
        )
    return int(shape[1])


class Given:
    """What texts are conditioned on, checked.

    Attributes:
        values: for each text a label's number, a vector or an input of the conditioner; zeros where there is none.
        present: ``(n,)`` bool, False for the null condition.
    """

    def __init__(self, values: list[np.ndarray], present: list[bool]) -> None:
        self.values, self.present = values, np.asarray(present, bool)

    def __len__(self) -> int:
        return len(self.values)

    def repeated(self, times: int) -> "Given":
        """Each of them so many times in a row."""
        values = [value for value in self.values for _ in range(times)]
        return Given(values, np.repeat(self.present, times).tolist())


class ConditionSource(keras.Model):
    """``{"given", "present"} -> (batch, size)``: the vector of what is given, the learned null vector where absent.

    A label's vector is a row of a table that is learned; a vector is taken as it is; a conditioner is trained too.

    Args:
        size: of the vectors.
        labels: their names, or None.
        conditioner: a Keras model, or None.
    """

    def __init__(self, size: int, labels: Sequence[str] | None = None, conditioner: keras.Model | None = None) -> None:
        super().__init__(name="condition_source", dtype="float32")
        self.size, self.conditioner = size, conditioner
        self.labels = None if labels is None else tuple(labels)
        self.null = self.add_weight(shape=(size,), initializer="zeros", name="null")
        self.table = None
        if labels is not None:
            normal = keras.initializers.RandomNormal(stddev=0.1)
            self.table = self.add_weight(shape=(len(labels), size), initializer=normal, name="table")
        self.built = True

    @property
    def own_weights(self) -> dict[str, Any]:
        """Variables that are no part of a conditioner, by name."""
        return {"null": self.null} | ({} if self.table is None else {"table": self.table})

    @property
    def row(self) -> tuple[tuple[int | None, ...], str]:
        """Shape and dtype of what is given for one text; None: any length."""
        if self.labels is not None:
            return (1,), "int32"
        if self.conditioner is None:
            return (self.size,), "float32"
        tensor = keras.tree.flatten(self.conditioner.input)[0]
        return tuple(tensor.shape[1:]), keras.backend.standardize_dtype(tensor.dtype)

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> Any:
        given, present = inputs["given"], ops.cast(inputs["present"], "bool")
        if self.table is not None:
            given = ops.take(self.table, ops.cast(given[:, 0], "int32"), axis=0)
        elif self.conditioner is not None:
            given = self.conditioner(given, training=training)
        return ops.where(present, ops.cast(given, "float32"), ops.cast(self.null, "float32")[None])

    def read(self, values: Sequence[Any], where: str) -> Given:
        """Check conditions; None stands for the null condition.

        Args:
            values: labels, vectors, or inputs of the conditioner.
            where: what messages call one of them, before its number.

        Raises:
            DataError: an unknown label, a vector of another length, an array of another shape, a number that is none.
        """
        shape, dtype = self.row
        known = {} if self.labels is None else {label: n for n, label in enumerate(self.labels)}
        found: list[np.ndarray | None] = []
        for number, value in enumerate(values):
            what = f"{where} {number}"
            if value is None:
                found.append(None)
            elif self.labels is not None:
                if not isinstance(value, str) or value not in known:
                    raise DataError(
                        f"{what}: unknown label {value!r:.80}. Expected one of: {', '.join(map(repr, self.labels))}"
                    )
                found.append(np.asarray([known[value]], "int32"))
            elif self.conditioner is None:
                found.append(condition_of(value, self.size, what))
            else:
                found.append(_array(value, shape, dtype, what))
        shapes = {value.shape for value in found if value is not None}
        if len(shapes) > 1:
            raise DataError(f"{where}: all must have the same shape. Received: {sorted(shapes)}")
        usual = shapes.pop() if shapes else tuple(n or 1 for n in shape)
        empty = np.zeros(usual, dtype)
        return Given([empty if value is None else value for value in found], [value is not None for value in found])


def _array(value: Any, shape: tuple[int | None, ...], dtype: str, what: str) -> np.ndarray:
    """An input of the conditioner, in the dtype that it came in if that is smaller."""
    try:
        array = np.asarray(value)
        numeric = array.dtype.kind in "biuf"
    except ValueError:  # a ragged list
        numeric = False
    if not numeric:
        raise DataError(f"{what}: expected an array of numbers of shape {shape}. Received: {value!r:.60}")
    if len(array.shape) != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
        raise DataError(f"{what}: expected an array of shape {shape}. Received: shape {array.shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{what}: not all numbers are finite.")
    return array if array.dtype.itemsize <= np.dtype(dtype).itemsize else array.astype(dtype)
