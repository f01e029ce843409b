"""Vocabulary logits from hidden states."""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import activations, initializers
from kexue.nn.attention.projections import rows
from kexue.nn.norms import make_norm

__all__ = ["LanguageModelHead"]


@keras.saving.register_keras_serializable(package="kexue")
class LanguageModelHead(keras.layers.Layer):
    """``norm(act(x W + b)) E^T + c``: BERT's MLM head, float32 logits. Each part may be absent.

    Args:
        vocabulary_size: rows of the table E.
        size: its columns.
        transform: dense map, activation and norm before the table.
        project: only a dense map to the table's width (factorised embeddings without a transform).
        activation: of the transform.
        norm: kind of norm, ``"layer"`` or ``"rms"``.
        norm_options: arguments of the norm; with ``condition_size`` it takes a condition.
        dense_bias: the dense map has a bias.
        bias: the logits have a bias c.
        tied: take the token table as an argument of the call; otherwise an output matrix of its own.
        scale: factor of what meets the table (T5).
        initializer: see `kexue.nn.initializers.make`.

    Call arguments:
        x: ``(batch, length, size)``.
        table: ``(vocabulary_size, size)``, ``token_embedding(x, table=True)``, where ``tied``.
        condition: of the norm, see `kexue.nn.norms`; of no effect without a transform.
    """

    def __init__(
        self,
        vocabulary_size: int,
        size: int,
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
        self.vocabulary_size, self.size = vocabulary_size, size
        self.transform, self.project, self.activation = transform, project, activation
        self.dense_bias, self.use_bias, self.tied, self.initializer = dense_bias, bias, tied, initializer
        self.scale, self.norm_kind, self.norm_options = scale, norm, dict(norm_options or {})
        self.norm = make_norm(norm, name="norm", dtype=self.dtype_policy, **self.norm_options) if transform else None

    def build(self, input_shape: Any) -> None:
        size = input_shape[-1]
        self.dense_kernel = self.dense_offset = self.logits_bias = self.output_table = None
        if self.transform or self.project:
            make = initializers.make(self.initializer)
            self.dense_kernel = self.add_weight(shape=(size, self.size), initializer=make, name="dense_kernel")
            if self.dense_bias:
                self.dense_offset = self.add_weight(shape=(self.size,), initializer="zeros", name="dense_bias")
        if self.norm is not None:
            self.norm.build((*input_shape[:-1], self.size))
        if self.use_bias:
            self.logits_bias = self.add_weight(shape=(self.vocabulary_size,), initializer="zeros", name="bias")
        if not self.tied:
            shape, make = (self.vocabulary_size, self.size), initializers.make(self.initializer)
            self.output_table = self.add_weight(shape=shape, initializer=make, name="output_table")
        self.built = True

    def call(self, x: Any, table: Any = None, condition: Any = None) -> Any:
        if self.tied and table is None:
            raise ConfigError(
                f"{self.name} is tied to a token table: call it as head(x, table=embedding(x, table=True))."
            )
        if self.dense_kernel is not None:
            x = rows(x, self.dense_kernel, self.dense_offset)
        if self.norm is not None:
            x = self.norm(activations.get(self.activation)(x), condition)
        x = x if self.scale == 1.0 else x * ops.cast(self.scale, x.dtype)
        table = table if self.output_table is None else self.output_table
        # Tokens as rows of one matrix here too. Of a product of axes (1, 1, D), one token of one sequence, XLA makes a
        # plain loop over the transposed table, several times as slow.
        logits = ops.cast(rows(x, ops.transpose(ops.cast(table, x.dtype))), "float32")  # (B, L, V)
        return logits if self.logits_bias is None else logits + ops.cast(self.logits_bias, "float32")

    def compute_output_spec(self, x: Any, table: Any = None, condition: Any = None) -> Any:
        return keras.KerasTensor((*x.shape[:-1], self.vocabulary_size), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "vocabulary_size": self.vocabulary_size,
            "size": self.size,
            "transform": self.transform,
            "project": self.project,
            "activation": self.activation,
            "norm": self.norm_kind,
            "norm_options": dict(self.norm_options),
            "dense_bias": self.dense_bias,
            "bias": self.use_bias,
            "tied": self.tied,
            "scale": self.scale,
            "initializer": self.initializer,
        }
