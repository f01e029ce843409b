"""A convolution along a sequence that sees no padding, no other document, and nothing that the mask hides."""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import activations, initializers, masks
from kexue.nn.dropout import drop

__all__ = ["NeighbourConvolution"]


@keras.saving.register_keras_serializable(package="kexue")
class NeighbourConvolution(keras.layers.Layer):
    """``act(sum over o of x[i + o] W[o] + b)`` over the neighbours o = -(size - 1) / 2 ... (size - 1) / 2.

    A neighbour beyond the ends, in padding or in another packed document counts as zeros; so does one that the mask
    hides from token i. At padding the output is zero.

    Args:
        size: neighbours, the token itself counted; odd.
        activation: a name of `kexue.nn.activations`; 0 at 0.
        mask: a `kexue.nn.masks.Mask`, its name or its configuration.
        dropout: rate, before the activation.
        initializer: see `kexue.nn.initializers.make`.

    Call arguments:
        x: ``(batch, length, size)``.
        padding_mask, document_ids, segment_ids, order: facts about the tokens; None where the batch lacks them.

    Source: DeBERTa-v2's program (``ConvLayer``).
    """

    def __init__(
        self,
        size: int,
        activation: str = "tanh",
        mask: Any = None,
        dropout: float = 0.0,
        initializer: float | dict[str, int] = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ConfigError(f"size must be odd and positive. Received: size={size}")
        self.size, self.activation, self.mask = size, activation, masks.get(mask)
        self.dropout, self.initializer = dropout, initializer
        self._act = activations.get(activation)
        self.seed_generator = keras.random.SeedGenerator() if dropout > 0 else None

    def build(self, x_shape: Any, *_: Any, **__: Any) -> None:
        width, make = x_shape[-1], initializers.make(self.initializer)
        self.kernel = self.add_weight(shape=(self.size, width, width), initializer=make, name="kernel")
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")
        self.built = True

    def _visible(self, x: Any, padding: Any, document_ids: Any, segment_ids: Any, order: Any) -> list[Any]:
        """For each neighbour whether it counts, ``(batch or 1, length)``."""
        whole = self.mask if document_ids is None else self.mask & masks.SameDocument()
        length = ops.shape(x)[1]
        if segment_ids is None and "block" in whole.needs:
            segment_ids = ops.zeros(ops.shape(x)[:2], dtype="int32")
        here, _ = masks.tokens(whole, length, segment_ids=segment_ids, document_ids=document_ids, order=order)
        index = ops.arange(length, dtype="int32")
        out = []
        for offset in self.offsets:
            place = ops.clip(index + offset, 0, length - 1)
            facts = {name: getattr(here, name) for name in masks.Tokens.FIELDS}
            there = masks.Tokens(**{n: None if v is None else ops.take(v, place, axis=1) for n, v in facts.items()})
            inside = ops.expand_dims((index + offset >= 0) & (index + offset < length), 0)
            counts = whole.rule(here, there) & inside
            out.append(counts if padding is None else counts & ops.take(padding, place, axis=1))
        return out

    @property
    def offsets(self) -> range:
        """Places of the neighbours, relative to the token."""
        return range(-(self.size // 2), self.size // 2 + 1)

    def call(
        self,
        x: Any,
        padding_mask: Any = None,
        document_ids: Any = None,
        segment_ids: Any = None,
        order: Any = None,
        training: bool | None = None,
    ) -> Any:
        padding = None if padding_mask is None else ops.cast(padding_mask, "bool")
        index, length = ops.arange(ops.shape(x)[1], dtype="int32"), ops.shape(x)[1]
        out = ops.cast(self.bias, x.dtype)
        seen = self._visible(x, padding, document_ids, segment_ids, order)
        for n, offset in enumerate(self.offsets):
            there = ops.take(x, ops.clip(index + offset, 0, length - 1), axis=1)
            there = ops.where(ops.expand_dims(seen[n], -1), there, ops.zeros((), x.dtype))
            out = out + ops.matmul(there, ops.cast(self.kernel[n], x.dtype))
        if padding is not None:
            out = ops.where(ops.expand_dims(padding, -1), out, ops.zeros((), out.dtype))
        if training and self.dropout > 0:
            out = drop(out, self.dropout, self.seed_generator)
        return self._act(out)

    def compute_output_spec(self, x: Any, *_: Any, **__: Any) -> Any:
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "size": self.size,
            "activation": self.activation,
            "mask": masks.to_config(self.mask),
            "dropout": self.dropout,
            "initializer": self.initializer,
        }
