"""Token and segment embeddings."""

from typing import Any

import keras
from keras import ops

from kexue.nn import initializers

__all__ = ["SegmentEmbedding", "TokenEmbedding"]


@keras.saving.register_keras_serializable(package="kexue")
class TokenEmbedding(keras.layers.Layer):
    """A table of vectors, looked up by int32 ids, and multiplied by when it also makes the logits.

    Ids are never in the compute dtype: 257 is not a bfloat16 number.

    Args:
        vocabulary_size: rows.
        size: columns.
        initializer: see `kexue.nn.initializers.make`.
        mask_vector: has a vector that stands for a token to predict (XLNet).

    Call arguments:
        token_ids: ``(batch, length)``.
        segment_ids: likewise, or None: rows to add, where segments are tokens themselves (CDialGPT).
        hidden: give the ``mask_vector`` at each place instead.
        table: give the table ``(vocabulary_size, size)`` itself, whatever the ids are: what a tied head multiplies by
            is then an edge of the graph, and copies and pieces of a model keep the tie.
    """

    def __init__(
        self,
        vocabulary_size: int,
        size: int,
        initializer: float | dict[str, int] = 0.02,
        mask_vector: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.vocabulary_size, self.size, self.initializer = vocabulary_size, size, initializer
        self.has_mask_vector = mask_vector

    def build(self, input_shape: Any) -> None:
        shape = (self.vocabulary_size, self.size)
        self.table = self.add_weight(shape=shape, initializer=initializers.make(self.initializer), name="table")
        self.mask_vector = None
        if self.has_mask_vector:
            make = initializers.make(self.initializer)
            self.mask_vector = self.add_weight(shape=(1, 1, self.size), initializer=make, name="mask_vector")
        self.built = True

    def call(self, token_ids: Any, segment_ids: Any = None, hidden: bool = False, table: bool = False) -> Any:
        if table:
            return ops.convert_to_tensor(self.table)
        if hidden:
            vector = ops.cast(self.mask_vector, self.compute_dtype)
            return ops.broadcast_to(vector, (*ops.shape(token_ids), self.size))
        x = ops.take(self.table, ops.cast(token_ids, "int32"), axis=0)
        if segment_ids is not None:
            x = x + ops.take(self.table, ops.cast(segment_ids, "int32"), axis=0)
        return ops.cast(x, self.compute_dtype)

    def compute_output_spec(
        self, token_ids: Any, segment_ids: Any = None, hidden: bool = False, table: bool = False
    ) -> Any:
        if table:
            return keras.KerasTensor((self.vocabulary_size, self.size), dtype=self.variable_dtype)
        return keras.KerasTensor((*token_ids.shape, self.size), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "vocabulary_size": self.vocabulary_size,
            "size": self.size,
            "initializer": self.initializer,
            "mask_vector": self.has_mask_vector,
        }


@keras.saving.register_keras_serializable(package="kexue")
class SegmentEmbedding(keras.layers.Layer):
    """``x + table[segment_ids]``, segment 0 everywhere when the batch has none.

    Args:
        segments: rows of the table.
        initializer: see `kexue.nn.initializers.make`.
    """

    def __init__(self, segments: int, initializer: float | dict[str, int] = 0.02, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.segments, self.initializer = segments, initializer

    def build(self, input_shape: Any) -> None:
        shape = (self.segments, input_shape[-1])
        self.table = self.add_weight(shape=shape, initializer=initializers.make(self.initializer), name="table")
        self.built = True

    def call(self, x: Any, segment_ids: Any = None) -> Any:
        if segment_ids is None:
            return x + ops.cast(self.table[0], x.dtype)
        return x + ops.cast(ops.take(self.table, ops.cast(segment_ids, "int32"), axis=0), x.dtype)

    def compute_output_spec(self, x: Any, segment_ids: Any = None) -> Any:
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"segments": self.segments, "initializer": self.initializer}
