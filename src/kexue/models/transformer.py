"""`Transformer`: a functional Keras model put together from parts by its configuration."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from kexue.errors import ConfigError
from kexue.models.assembly import HEADS, Assembly
from kexue.models.config import TransformerConfig
from kexue.models.direct import DirectCall
from kexue.nn import masks

__all__ = ["Transformer"]


@keras.saving.register_keras_serializable(package="kexue")
class Transformer(DirectCall, keras.Model):
    """An encoder or decoder whose mask, positions, norms and heads are parts named by its configuration.

    Args:
        config: shape and numerics.
        mask: which query sees which key: a `kexue.nn.masks.Mask`, a name or a configuration; the configuration's
            own by default. The same weights are an encoder, a language model (``Causal()``) or a
            sequence-to-sequence model (``Prefix()``).
        head: None, ``"lm"`` (alias ``"mlm"``), ``"pooler"``, ``"nsp"`` (sentence order in ALBERT),
            ``"discriminator"`` (ELECTRA), or several in a tuple.
        dtype: Keras dtype policy of all layers, such as ``"mixed_bfloat16"``.
        name: of the model.

    Call arguments:
        inputs: a dict of ``token_ids`` (batch, length) int32 and, each optional, ``segment_ids`` (batch, length)
            int32; ``padding_mask`` (batch, length), true at real tokens, all when left out; ``position_ids``
            (batch, length) int32; ``document_ids`` (batch, length) int32 of packed rows; ``order`` (batch, length)
            int32 for a `Permuted` mask; ``condition`` (batch, condition_size), or (batch, length, condition_size)
            with ``condition_per_token``, where the configuration has one.
            A model with ``two_stream`` takes ``target_positions`` (batch, targets) int32, the places in the row that
            its second stream predicts, all of them when left out.
            A model with ``decoder_layers`` needs ``decoder_token_ids`` (batch, decoder length) as well and takes
            ``decoder_padding_mask``, ``decoder_position_ids``, ``decoder_document_ids``.

    Returns:
        A dict: ``sequence_output`` (batch, length, hidden_size); with the heads ``logits`` (batch, length,
        vocabulary_size) float32, ``pooled_output`` (batch, hidden_size), ``nsp_logits`` (batch, 2) float32,
        ``discriminator_logits`` (batch, length) float32. With a decoder these are the decoder's, and
        ``encoder_output`` (batch, length, hidden_size) is the encoder's. With two streams also
        ``target_output`` (batch, targets, hidden_size), and the logits are those of the targets.

    Called directly on arrays outside training, the model runs compiled on JAX (see `DirectCall`).
    """

    def __init__(
        self,
        config: TransformerConfig | Mapping[str, Any],
        *,
        mask: Any = None,
        head: str | Sequence[str] | None = None,
        dtype: Any = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(config, TransformerConfig):
            config = TransformerConfig.from_dict(config)
        heads = _heads(head)
        mask = masks.get(config.mask if mask is None else mask)
        try:
            keras.dtype_policies.get(dtype)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"dtype must be a Keras policy such as 'mixed_bfloat16'. Received: {dtype!r}") from error
        assembly = Assembly(config, mask, heads, dtype)
        super().__init__(inputs=assembly.inputs, outputs=assembly.outputs, name=name or config.family)
        # Keras tracks what is set on a model; plain data must stay as it is.
        object.__setattr__(self, "_parts", (config, mask, heads, dtype, assembly.limit))

    @property
    def config(self) -> TransformerConfig:
        """Shape and numerics of the model."""
        return self._parts[0]

    @property
    def mask(self) -> masks.Mask:
        """The attention mask it was built with."""
        return self._parts[1]

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads in the order ``lm``, ``pooler``, ``nsp``, ``discriminator``."""
        return self._parts[2]

    @property
    def max_tokens(self) -> int | None:
        """Longest sequence that has positions, or None for no limit."""
        return self._parts[4]

    def check_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Raise ConfigError for inputs of wrong shape, too great length, or (NumPy arrays) ids outside the tables."""
        shapes = {n: tuple(v.shape if hasattr(v, "shape") else np.shape(v)) for n, v in inputs.items() if v is not None}
        condition = shapes.pop("condition", None)
        if condition is not None:
            rows = shapes["token_ids"]
            want: tuple[Any, ...] = (rows[0], self.config.condition_size)
            want = (*rows[:2], want[1]) if self.config.condition_per_token else want
            if len(condition) != len(want) or not all(map(_agree, condition, want)):
                raise ConfigError(f"condition must be of shape {want}. Received: shape {condition}")
        for side in ("", "decoder_"):
            if f"{side}token_ids" in shapes:
                self._check_shapes(shapes, side)
        if "decoder_token_ids" in shapes:
            if not _agree(shapes["token_ids"][0], shapes["decoder_token_ids"][0]):
                raise ConfigError(
                    "token_ids and decoder_token_ids must have as many rows. Received: shapes "
                    f"{shapes['token_ids']} and {shapes['decoder_token_ids']}"
                )
            if ("document_ids" in shapes) != ("decoder_document_ids" in shapes):
                raise ConfigError("packed rows need both document_ids and decoder_document_ids. Received only one.")
        counts: dict[str, Any] = {"token_ids": self.config.vocabulary_size, "segment_ids": self.config.num_segments}
        counts |= {"decoder_token_ids": self.config.vocabulary_size}
        if self.config.shared_segments:
            counts["segment_ids"] = self.config.vocabulary_size
        counts |= {"target_positions": shapes["token_ids"][1]}
        for name, count in counts.items():
            ids = inputs.get(name)
            if count and isinstance(ids, np.ndarray) and ids.size and (ids.min() < 0 or ids.max() >= count):
                raise ConfigError(
                    f"{name} must lie between 0 and {count - 1}. Received: {ids.min()} to {ids.max()}. Do tokenizer "
                    "and model belong together?"
                )

    def _check_shapes(self, shapes: Mapping[str, tuple[Any, ...]], side: str) -> None:
        """The inputs of the encoder (``side=""``) or of the decoder."""
        shape = shapes[f"{side}token_ids"]
        if len(shape) != 2:
            raise ConfigError(f"{side}token_ids must be of shape (batch, length). Received: shape {shape}")
        for name, other in shapes.items():
            if name == "condition" or name.startswith("decoder_") != bool(side):
                continue
            if name == "target_positions":
                if len(other) != 2 or not _agree(other[0], shape[0]):
                    raise ConfigError(
                        f"target_positions must be of shape (batch, targets) with {shape[0]} rows. Received: {other}"
                    )
                continue
            fits = len(other) == 2 and (other[0] == 1 or _agree(other[0], shape[0])) and _agree(other[1], shape[1])
            if not fits:
                raise ConfigError(f"{name} must have the shape of {side}token_ids, {shape}. Received: shape {other}")
        free = f"{side}position_ids" not in shapes and f"{side}document_ids" not in shapes
        if free and self.max_tokens is not None and isinstance(shape[1], int) and shape[1] > self.max_tokens:
            raise ConfigError(
                f"the sequence has {shape[1]} tokens, but the model's positions end at {self.max_tokens}. Shorten it "
                "(max_length of the tokenizer, windows) or continue the positions with position='hierarchical'."
            )

    def get_config(self) -> dict[str, Any]:
        dtype = self._parts[3]
        dtype = dtype.name if isinstance(dtype, keras.dtype_policies.DTypePolicy) else dtype
        return {
            "config": self.config.to_dict(),
            "mask": masks.to_config(self.mask),
            "head": list(self.heads),
            "dtype": dtype,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> "Transformer":
        return cls(**config)

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        *,
        mask: Any = None,
        head: str | Sequence[str] | None = None,
        dtype: Any = None,
        config: Any = None,
        family: str | None = None,
        keep_tokens: Sequence[int] | None = None,
        compound_tokens: Sequence[tuple[Sequence[int], Sequence[float]]] | None = None,
        condition_size: int | None = None,
        rename: Mapping[str, str] | None = None,
        strict: bool = True,
        **changes: Any,
    ) -> "Transformer":
        """Load a checkpoint in any of the known formats, or the model ``"zh-mini"`` that comes with kexue; see
        `kexue.models.loading.load`.
        """
        from kexue.models.loading import load

        return load(
            path,
            mask=mask,
            head=head,
            dtype=dtype,
            config=config,
            family=family,
            keep_tokens=keep_tokens,
            compound_tokens=compound_tokens,
            condition_size=condition_size,
            rename=rename,
            strict=strict,
            **changes,
        )

    def save_pretrained(
        self,
        path: str | os.PathLike[str],
        format: Literal["kexue", "hf", "tf"] = "kexue",
        *,
        tokenizer: Any = None,
        weights_dtype: str | None = None,
    ) -> None:
        """Write a checkpoint folder; see `kexue.models.saving.save`."""
        from kexue.models.saving import save

        save(self, path, format, tokenizer=tokenizer, weights_dtype=weights_dtype)


def _agree(a: Any, b: Any) -> bool:
    """Sizes of an axis are equal, or one is not known yet (None, or a symbol while a model is exported)."""
    return a == b or not (isinstance(a, int) and isinstance(b, int))


def _heads(head: str | Sequence[str] | None) -> tuple[str, ...]:
    names = [] if head is None else [head] if isinstance(head, str) else list(head)
    names = ["lm" if name == "mlm" else name for name in names]
    unknown = sorted(set(names) - set(HEADS))
    if unknown:
        raise ConfigError(f"head must be None or of {', '.join(HEADS)}. Received: {', '.join(map(repr, unknown))}")
    return tuple(name for name in HEADS if name in names)
