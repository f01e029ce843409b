"""Vocabulary logits from hidden states."""

from types import SimpleNamespace
from typing import Any

import keras
from keras import ops

from kexue.nn import activations, initializers
from kexue.nn.embeddings import TokenEmbedding
from kexue.nn.norms import make_norm

__all__ = ["LanguageModelHead"]


class LanguageModelHead(keras.layers.Layer):
    """``norm(act(x W + b)) E^T + c``: BERT's MLM head, float32 logits. Each part may be absent.

    Args:
        embedding: the token table E, shared and not owned.
        transform: dense map, activation and norm before the table.
        project: only a dense map to the table's width (factorised embeddings without a transform).
        activation: of the transform.
        norm: kind of norm, ``"layer"`` or ``"rms"``.
        norm_options: arguments of the norm; with ``condition_size`` it takes a condition.
        dense_bias: the dense map has a bias.
        bias: the logits have a bias c.
        tied: use the table; otherwise an output matrix of its own.
        scale: factor of what meets the table (T5).
        initializer: see `kexue.nn.initializers.make`.

    Call arguments:
        x: ``(batch, length, size)``.
        condition: of the norm, see `kexue.nn.norms`; of no effect without a transform.
    """

    def __init__(
        self,
        embedding: TokenEmbedding,
        transform: bool = True,
        project: bool = False,
        activation: str = "gelu",
        norm: str = "layer",
        norm_options: dict[str, Any] | None = None,
        dense_bias: bool = True,
        bias: bool = True,
        tied: bool = True,
        scale: float = 1.0,
        initializer: float | dict[str, int] = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Behind an object that Keras does not look into: the table is not a part of this layer.
        self._shared = SimpleNamespace(embedding=embedding)
        self.transform, self.project, self.activation = transform, project, activation
        self.dense_bias, self.use_bias, self.tied, self.initializer = dense_bias, bias, tied, initializer
        self.scale = scale
        self.norm = make_norm(norm, name="norm", dtype=self.dtype_policy, **(norm_options or {})) if transform else None

    def build(self, input_shape: Any) -> None:
        table = self._shared.embedding
        size = input_shape[-1]
        self.dense_kernel = self.dense_offset = self.logits_bias = self.output_table = None
        if self.transform or self.project:
            make = initializers.make(self.initializer)
            self.dense_kernel = self.add_weight(shape=(size, table.size), initializer=make, name="dense_kernel")
            if self.dense_bias:
                self.dense_offset = self.add_weight(shape=(table.size,), initializer="zeros", name="dense_bias")
        if self.norm is not None:
            self.norm.build((*input_shape[:-1], table.size))
        if self.use_bias:
            self.logits_bias = self.add_weight(shape=(table.vocabulary_size,), initializer="zeros", name="bias")
        if not self.tied:
            shape, make = (table.vocabulary_size, table.size), initializers.make(self.initializer)
            self.output_table = self.add_weight(shape=shape, initializer=make, name="output_table")
        self.built = True

    def call(self, x: Any, condition: Any = None) -> Any:
        if self.dense_kernel is not None:
            x = ops.matmul(x, self.dense_kernel)
            x = x if self.dense_offset is None else x + self.dense_offset
        if self.norm is not None:
            x = self.norm(activations.get(self.activation)(x), condition)
        x = x if self.scale == 1.0 else x * ops.cast(self.scale, x.dtype)
        table = self._shared.embedding.table if self.output_table is None else self.output_table
        logits = ops.matmul(x, ops.transpose(ops.cast(table, x.dtype)))  # (B, L, V)
        logits = ops.cast(logits, "float32")
        return logits if self.logits_bias is None else logits + ops.cast(self.logits_bias, "float32")

    def compute_output_spec(self, x: Any, condition: Any = None) -> Any:
        return keras.KerasTensor((*x.shape[:-1], self._shared.embedding.vocabulary_size), dtype="float32")
