"""Complex-order embeddings: word w at position k is ``r_w * exp(i (omega_w k + theta_w))``.

The real twin of a vector of complex numbers is its real and imaginary parts side by side. The token table already holds
that twin at position 0: a pair of its features is ``r_w exp(i theta_w)`` in Cartesian form. What remains to be learned
are the frequencies omega, and what remains to be done is a rotation by ``omega_w k``.

Source: kexue.fm article 8130; Wang et al., arXiv 1912.12333.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.nn.positions.base import PositionEncoding, Sizes
from kexue.nn.positions.frequencies import frequencies
from kexue.nn.positions.rotary import RotaryLayout, rotate

__all__ = ["ComplexOrderPosition"]


@keras.saving.register_keras_serializable(package="kexue")
class ComplexOrderPosition(PositionEncoding):
    """``x * exp(i omega[word] position)`` on pairs of features of the embeddings; see the module. Any length.

    Amplitudes and phases are the token table's (a segment embedding shares the rotation of its word).

    Args:
        vocabulary_size: rows of the table of frequencies.
        share: ``"none"``, a frequency for each word and feature; ``"words"``, one a feature, the same for all words;
            ``"features"``, one a word, the same for all its features.
        layout: pairs of features as in `kexue.nn.positions.rotary.RotaryLayout`; ``"half"`` is real parts, then
            imaginary ones.
        base: frequencies start at ``base ** (-2 i / width)``; with ``share="features"`` all at 1.
    """

    def __init__(
        self,
        vocabulary_size: int,
        share: str = "none",
        layout: RotaryLayout = "half",
        base: float = 10000.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if share not in ("none", "words", "features"):
            raise ConfigError(f"share must be 'none', 'words' or 'features'. Received: share={share!r}")
        if layout not in ("interleaved", "half"):
            raise ConfigError(f"layout must be 'interleaved' or 'half'. Received: layout={layout!r}")
        self.vocabulary_size, self.share, self.layout, self.base = vocabulary_size, share, layout, base

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "ComplexOrderPosition":
        return cls(**{"vocabulary_size": sizes.vocabulary_size} | options)

    def build(self, x_shape: Any = None, *_: Any, **__: Any) -> None:
        width = x_shape[-1]
        theta = np.ones(1) if self.share == "features" else frequencies(width, self.base)
        if width % 2:
            raise ConfigError(f"complex embeddings need an even width. Received: {width}")
        rows = 1 if self.share == "words" else self.vocabulary_size
        self.frequencies = self.add_weight(
            shape=(rows, len(theta)),
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(np.tile(theta, (shape[0], 1)), dtype=dtype),
            dtype="float32",
            autocast=False,
            name="frequencies" if rows == 1 else "word_frequencies",
        )
        self.width = width
        self.built = True

    def embed(self, x: Any, position_ids: Any, **facts: Any) -> Any:
        table = ops.convert_to_tensor(self.frequencies)
        if self.share == "words":
            omega = table[None]  # (1, 1, D / 2)
        else:
            ids = facts.get("token_ids")
            if ids is None:
                raise ConfigError("complex-order positions need token_ids: each word has its own frequencies.")
            omega = ops.take(table, ops.cast(ids, "int32"), axis=0)  # (B, L, D / 2 or 1)
        angles = omega * ops.cast(position_ids, "float32")[..., None]
        angles = ops.broadcast_to(angles, (*ops.shape(angles)[:-1], self.width // 2))
        return rotate(x, ops.cos(angles), ops.sin(angles), self.layout)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "vocabulary_size": self.vocabulary_size,
            "share": self.share,
            "layout": self.layout,
            "base": self.base,
        }
