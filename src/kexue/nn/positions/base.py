"""The protocol of position encodings.

An encoding is a Keras layer with hooks; each does nothing unless overridden, so that a new encoding is one file.
One object serves all blocks of a model; what each block has of its own is made by `attention_weights`.
"""

from dataclasses import dataclass
from typing import Any

import keras

__all__ = ["PositionEncoding", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """What a model tells an encoding that is named in its configuration.

    Attributes:
        width: of the embeddings before the first block.
        heads: attention heads.
        key_size: size of queries and keys in a head.
        max_length: length that the model is made for.
        vocabulary_size: rows of the token table.
        bidirectional: keys after the query can be visible.
        offset: added to positions before a table is read (RoBERTa).
        initializer: see `kexue.nn.initializers.make`.
        hidden_size: width of the blocks' inputs.
    """

    width: int
    heads: int
    key_size: int
    max_length: int
    vocabulary_size: int
    bidirectional: bool = True
    offset: int = 0
    initializer: Any = 0.02
    hidden_size: int = 0


class PositionEncoding(keras.layers.Layer):
    """Base of all position encodings.

    Hooks at the embeddings: `embed`. Hooks inside attention: `rotate`, `rotate_values`, `scores`, `values`, with
    `tables` for what they share and `attention_weights` for weights that each attention layer has of its own.
    """

    score_terms = 1
    """Terms that make a score; scale ``"sqrt"`` is ``1 / sqrt(key_size * score_terms)``."""
    uses_segments = False
    """`tables` takes ``query_segments`` and ``key_segments`` as well."""
    looks_around = False
    """`embed` needs other tokens than its own: the encoding cannot work one token at a time."""

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "PositionEncoding":
        """Make one for a model; ``options`` are ``position_options`` of its configuration, and ``name``, ``dtype``."""
        return cls(**options)

    @property
    def limit(self) -> int | None:
        """Longest sequence, or None."""
        return None

    @property
    def acts_on_embeddings(self) -> bool:
        """`embed` does something."""
        return type(self).embed is not PositionEncoding.embed

    @property
    def inside_attention(self) -> bool:
        """Attention must call the hooks."""
        hooks = ("rotate", "rotate_values", "scores", "values")
        return any(getattr(type(self), hook) is not getattr(PositionEncoding, hook) for hook in hooks)

    def check_mask(self, mask: Any) -> None:
        """Raise `ConfigError` where ``mask``, a `kexue.nn.masks.Mask`, cannot be kept; called as a model is built."""

    @property
    def acts_on_scores(self) -> bool:
        """`scores` or `values` do something: the encoding needs scores for each pair of a query and a key."""
        return any(getattr(type(self), hook) is not getattr(PositionEncoding, hook) for hook in ("scores", "values"))

    def embed(self, x: Any, position_ids: Any, **facts: Any) -> Any:
        """Change the embeddings ``x`` (batch, length, size) before the first block.

        Args:
            x: embeddings.
            position_ids: ``(batch or 1, length)``.
            **facts: ``token_ids``, ``padding_mask``, ``document_ids``, each None where the batch lacks it.
        """
        return x

    def tables(self, query_positions: Any, key_positions: Any, **segments: Any) -> tuple[Any, ...]:
        """What the hooks inside attention share; computed once a forward pass, handed to each of them.

        Args:
            query_positions: ``(batch or 1, length_q)``.
            key_positions: ``(batch or 1, length_k)``; the same object where queries and keys are the same tokens.
            **segments: where ``uses_segments``: ``query_segments``, ``key_segments`` ``(batch, length)`` or None.
        """
        return ()

    def attention_weights(self, layer: Any, input_size: int) -> dict[str, Any]:
        """Weights that each attention layer owns, made with ``layer.add_weight`` while it is built.

        They come back to the hooks as ``layer.position_weights``.
        """
        return {}

    def rotate(self, q: Any, k: Any, tables: tuple[Any, ...]) -> tuple[Any, Any]:
        """Change queries and keys, each ``(batch, length, heads, key_size)``."""
        return q, k

    def rotate_values(self, v: Any, tables: tuple[Any, ...]) -> Any:
        """Change values ``(batch, length, heads, value_size)``."""
        return v

    def scores(self, q: Any, k: Any, tables: tuple[Any, ...], *, scale: Any, layer: Any) -> Any:
        """Bias ``(batch or 1, heads or 1, length_q, length_k)`` to add to the scaled scores, or None.

        Args:
            q: queries ``(batch, length_q, heads, key_size)``, rotated, not scaled.
            k: keys, likewise.
            tables: from `tables`.
            scale: factor of the scores, a number or ``(batch or 1, 1, length_q, 1)``; a term that belongs to the
                product of queries and keys must be multiplied by it.
            layer: the attention layer, for ``layer.position_weights`` and its projections.
        """
        return None

    def values(self, probabilities: Any, v: Any, tables: tuple[Any, ...]) -> Any:
        """Addition ``(batch, length_q, heads, value_size)`` to the attention output, or None.

        Overriding it makes attention explicit: no fused kernel gives the probabilities
        ``(batch, heads, length_q, length_k)``.
        """
        return None

    def build(self, x_shape: Any = None, *_: Any, **__: Any) -> None:
        """Make the weights that all blocks share; ``x_shape`` is None for an encoding inside attention only."""
        self.built = True

    def get_build_config(self) -> None:
        """Nothing: who owns the encoding builds it, and a serialized one stays the same through round trips."""

    def call(self, x: Any, position_ids: Any, **facts: Any) -> Any:
        return self.embed(x, position_ids, **facts)

    def compute_output_spec(self, x: Any, *_: Any, **__: Any) -> Any:
        return keras.KerasTensor(x.shape, dtype=x.dtype)
