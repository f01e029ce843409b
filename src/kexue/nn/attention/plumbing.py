"""Layers that turn a batch's facts into what attention takes, once a forward pass for all blocks."""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import masks
from kexue.nn.positions.base import PositionEncoding

__all__ = ["AttentionMask", "CrossMask", "PositionIds", "PositionTables"]


@keras.saving.register_keras_serializable(package="kexue")
class AttentionMask(keras.layers.Layer):
    """The part of a mask that kernels have no flag for, as a boolean tensor.

    ``(batch, 1, 1, length)`` where only padding hides keys, ``(batch or 1, 1, length, length)`` where the rule or
    packed documents ask for it, None where every token sees every token.

    Args:
        mask: a `kexue.nn.masks.Mask`, its name or its configuration.

    Call arguments:
        token_ids: ``(batch, length)``; tells the length.
        padding_mask, segment_ids, document_ids, order: facts for the rule; None where the batch lacks them.
    """

    gives_none = True
    """A model that begins after this layer may be called without its output (`kexue.models.surgery`)."""

    def __init__(self, mask: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask = masks.get(mask)
        self.built = True

    @property
    def causal_flag(self) -> bool:
        """Attention layers must be built with ``causal=True``: the rule is left to the kernel's flag."""
        return self.mask.lowering().causal

    def call(
        self,
        token_ids: Any,
        padding_mask: Any = None,
        segment_ids: Any = None,
        document_ids: Any = None,
        order: Any = None,
    ) -> Any:
        padding = None if padding_mask is None else ops.cast(padding_mask, "bool")
        lowering = self.mask.lowering()
        left = masks.Bidirectional() if lowering.causal else self.mask
        if left.lowering().everything and document_ids is None:
            return None if padding is None else padding[:, None, None, :]
        if segment_ids is None and "block" in self.mask.needs:
            segment_ids = ops.zeros_like(token_ids)
        return left.dense(
            ops.shape(token_ids)[1],
            segment_ids=segment_ids,
            document_ids=document_ids,
            order=order,
            padding_mask=padding,
        )

    def compute_output_spec(self, token_ids: Any, *_: Any, **__: Any) -> Any:
        return keras.KerasTensor((token_ids.shape[0], 1, None, token_ids.shape[1]), dtype="bool")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"mask": masks.to_config(self.mask)}


@keras.saving.register_keras_serializable(package="kexue")
class CrossMask(keras.layers.Layer):
    """Which tokens of the encoder a decoder's token sees: those that are real and of its document, None for all.

    Call arguments:
        decoder_token_ids: ``(batch, length_q)``; tells the length.
        padding_mask: ``(batch, length_k)`` of the encoder, or None.
        document_ids: ``(batch, length_k)`` of the encoder, or None.
        decoder_document_ids: ``(batch, length_q)``, with ``document_ids``.
    """

    gives_none = True
    """A model that begins after this layer may be called without its output (`kexue.models.surgery`)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.built = True

    def call(
        self,
        decoder_token_ids: Any,
        padding_mask: Any = None,
        document_ids: Any = None,
        decoder_document_ids: Any = None,
    ) -> Any:
        mask = None if padding_mask is None else ops.cast(padding_mask, "bool")[:, None, None, :]
        if document_ids is None or decoder_document_ids is None:
            return mask
        ours, theirs = (ops.cast(ids, "int32") for ids in (decoder_document_ids, document_ids))
        same = ops.equal(ours[:, None, :, None], theirs[:, None, None, :])  # (B, 1, Lq, Lk)
        return same if mask is None else ops.logical_and(same, mask)

    def compute_output_spec(self, decoder_token_ids: Any, *_: Any, **__: Any) -> Any:
        return keras.KerasTensor((decoder_token_ids.shape[0], 1, None, None), dtype="bool")


@keras.saving.register_keras_serializable(package="kexue")
class PositionIds(keras.layers.Layer):
    """int32 positions ``(batch or 1, length)``: those given, or counted from 0 in each row or packed document.

    Args:
        limit: longest sequence that the positions were made for; a longer one is an error.
        from_padding: count real tokens only, as RoBERTa does (differs where padding stands first).
    """

    def __init__(self, limit: int | None = None, from_padding: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limit, self.from_padding = limit, from_padding
        self.built = True

    def call(self, token_ids: Any, position_ids: Any = None, document_ids: Any = None, padding_mask: Any = None) -> Any:
        if position_ids is not None:
            return ops.cast(position_ids, "int32")
        index = ops.expand_dims(ops.arange(ops.shape(token_ids)[1], dtype="int32"), 0)  # (1, L)
        if document_ids is not None:
            documents = ops.cast(document_ids, "int32")
            same = ops.equal(documents[:, :, None], documents[:, None, :])  # (B, L, L)
            before = ops.cast(index[:, None, :] < index[:, :, None], "int32")
            return ops.sum(ops.cast(same, "int32") * before, axis=-1)
        length = token_ids.shape[1]
        if self.limit is not None and isinstance(length, int) and length > self.limit:
            raise ConfigError(
                f"the sequence has {length} tokens, but the model's positions end at {self.limit}. Shorten it "
                "(max_length of the tokenizer, windows) or continue the positions with position='hierarchical'."
            )
        if self.from_padding and padding_mask is not None:
            return ops.maximum(ops.cumsum(ops.cast(padding_mask, "int32"), axis=-1) - 1, 0)
        return index

    def compute_output_spec(self, token_ids: Any, *_: Any, **__: Any) -> Any:
        return keras.KerasTensor(token_ids.shape, dtype="int32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"limit": self.limit, "from_padding": self.from_padding}


@keras.saving.register_keras_serializable(package="kexue")
class PositionTables(keras.layers.Layer):
    """``positions.tables`` for a whole batch; owns the weights of an encoding that acts inside attention.

    Args:
        positions: the encoding.

    Call arguments:
        query_positions: ``(batch or 1, length_q)``.
        key_positions: ``(batch or 1, length_k)``; the same tokens when left out.
        query_segments: ``(batch, length_q)``, for an encoding that ``uses_segments``.
        key_segments: likewise.
    """

    def __init__(self, positions: PositionEncoding, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.positions = positions

    def build(self, *_: Any, **__: Any) -> None:
        if not self.positions.built:
            self.positions.build(None, None)
        self.built = True

    def call(
        self, query_positions: Any, key_positions: Any = None, query_segments: Any = None, key_segments: Any = None
    ) -> Any:
        keys = query_positions if key_positions is None else key_positions
        if not self.positions.uses_segments:
            return self.positions.tables(query_positions, keys)
        same = query_segments if key_segments is None and key_positions is None else key_segments
        return self.positions.tables(query_positions, keys, query_segments=query_segments, key_segments=same)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"positions": keras.saving.serialize_keras_object(self.positions)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PositionTables":
        return cls(**config | {"positions": keras.saving.deserialize_keras_object(config["positions"])})
