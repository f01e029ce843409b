"""The protocol of position encodings.

An encoding is a Keras layer with hooks; each does nothing unless overridden, so that a new encoding is one file.
One object serves all blocks of a model.
"""

from typing import Any

import keras

__all__ = ["PositionEncoding"]


class PositionEncoding(keras.layers.Layer):
    """Base of all position encodings.

    Subclasses override the hooks they need and list in ``inside_attention`` whether attention must call them.
    """

    inside_attention = False

    @property
    def limit(self) -> int | None:
        """Longest sequence, or None."""
        return None

    def embed(self, x: Any, position_ids: Any) -> Any:
        """Change the embeddings ``x`` (batch, length, size) before the first block."""
        return x

    def tables(self, query_positions: Any, key_positions: Any) -> tuple[Any, ...]:
        """What the hooks inside attention share; computed once a forward pass, handed to each of them."""
        return ()

    def rotate(self, q: Any, k: Any, tables: tuple[Any, ...]) -> tuple[Any, Any]:
        """Change queries and keys, each ``(batch, length, heads, key_size)``."""
        return q, k

    def rotate_values(self, v: Any, tables: tuple[Any, ...]) -> Any:
        """Change values ``(batch, length, heads, value_size)``."""
        return v

    def scores(self, q: Any, k: Any, tables: tuple[Any, ...]) -> Any:
        """Bias ``(batch or 1, heads or 1, length_q, length_k)`` to add to the scaled scores, or None."""
        return None

    def values(self, probabilities: Any, v: Any, tables: tuple[Any, ...]) -> Any:
        """Addition ``(batch, length_q, heads, value_size)`` to the attention output, or None.

        Part of the protocol for relative encodings with value terms; `MultiHeadAttention` does not call it yet.
        """
        return None

    def call(self, x: Any, position_ids: Any) -> Any:
        return self.embed(x, position_ids)

    def compute_output_shape(self, x_shape: Any, position_ids_shape: Any) -> Any:
        return x_shape
