"""Convolutional positions: a depthwise convolution whose zero padding tells where the text begins and ends.

A convolution treats all places alike; what leaks the position are the zeros beyond the border, seen from within
``size / 2`` tokens of it, further in with each layer that follows. Zeros stand beyond the border of the *text*: padding
tokens and other packed documents count as outside.

Source: kexue.fm article 8130; Islam et al., arXiv 2001.08248; conditional encodings: Chu et al., arXiv 2102.10882.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import initializers
from kexue.nn.positions.base import PositionEncoding, Sizes

__all__ = ["ConvolutionalPosition"]

_OUTSIDE = -(2**31) + 1  # no document has this id


@keras.saving.register_keras_serializable(package="kexue")
class ConvolutionalPosition(PositionEncoding):
    """``x[i] + b + sum over o of w[o] * x[i + o]`` with ``x`` zero outside the text; see the module. Any length.

    Neighbours are told by their place in the row: ``position_ids`` are not looked at.

    Args:
        size: tokens under the kernel; odd unless ``causal``.
        causal: the kernel covers the token and those before it. Named in a model's configuration it follows the mask.
        initializer: of the kernel; see `kexue.nn.initializers.make`.
    """

    looks_around = True

    def __init__(
        self, size: int = 3, causal: bool = False, initializer: float | dict[str, int] = 0.02, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if size < 1 or (size % 2 == 0 and not causal):
            raise ConfigError(f"size must be positive, and odd unless causal. Received: size={size}, causal={causal}")
        self.size, self.causal, self.initializer = size, causal, initializer

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "ConvolutionalPosition":
        return cls(**{"causal": not sizes.bidirectional, "initializer": sizes.initializer} | options)

    @property
    def offsets(self) -> range:
        """Places under the kernel, relative to the token."""
        first = 1 - self.size if self.causal else -(self.size // 2)
        return range(first, first + self.size)

    def check_mask(self, mask: Any) -> None:
        """Raise where the kernel would show a token what the mask hides from it."""
        if "rank" in mask.needs:
            hidden = self.size > 1  # any order may come
        else:
            splits = range(2 * self.size + 2) if "block" in mask.needs else (0,)
            hidden = any(self._shows_hidden(mask, targets) for targets in splits)
        if hidden:
            advice = "a smaller size" if self.causal else "position_options={'causal': True}"
            raise ConfigError(
                f"convolutional positions of size={self.size}, causal={self.causal} would show tokens that the mask "
                f"{mask!r} hides; take {advice}, or another encoding."
            )

    def _shows_hidden(self, mask: Any, targets: int) -> bool:
        """Likewise, for one row that ends in so many tokens of segment 1."""
        length = 2 * self.size + 1
        places = np.arange(length)
        segments = (places[None] >= length - targets).astype("int32")
        facts = {"segment_ids": segments, "document_ids": np.zeros_like(segments)}
        seen = ops.convert_to_numpy(mask.dense(length, **facts))[0, 0]
        covered = np.isin(places[None] - places[:, None], [o for o in self.offsets if o])
        return bool((covered & ~seen).any())

    def build(self, x_shape: Any = None, *_: Any, **__: Any) -> None:
        width = x_shape[-1]
        self.kernel = self.add_weight(
            shape=(self.size, width), initializer=initializers.make(self.initializer), name="kernel"
        )
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")
        self.built = True

    def embed(self, x: Any, position_ids: Any, **facts: Any) -> Any:
        before, after = -self.offsets[0], max(self.offsets[-1], 0)
        length = ops.shape(x)[1]
        inside, around = self._documents(facts.get("padding_mask"), facts.get("document_ids"), before, after)
        rows = ops.pad(x, ((0, 0), (before, after), (0, 0)))
        kernel = ops.cast(ops.convert_to_tensor(self.kernel), "float32")
        out = ops.cast(x, "float32") + ops.cast(ops.convert_to_tensor(self.bias), "float32")
        for place in range(self.size):
            neighbour = ops.cast(rows[:, place : place + length], "float32")
            if inside is not None:
                same = ops.equal(around[:, place : place + length], inside)
                neighbour = ops.where(same[..., None], neighbour, 0.0)
            out = out + kernel[place] * neighbour
        return ops.cast(out, x.dtype)

    def _documents(self, padding_mask: Any, document_ids: Any, before: int, after: int) -> tuple[Any, Any]:
        """Document ids ``(batch, length)``, and with a border; padding and border belong to none."""
        if padding_mask is None and document_ids is None:
            return None, None
        given = padding_mask if document_ids is None else document_ids
        documents = ops.zeros_like(given, dtype="int32") if document_ids is None else ops.cast(document_ids, "int32")
        around = documents
        if padding_mask is not None:
            around = ops.where(ops.cast(padding_mask, "bool"), documents, _OUTSIDE)
        around = ops.pad(around, ((0, 0), (before, after)), constant_values=_OUTSIDE)
        return documents, around

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"size": self.size, "causal": self.causal, "initializer": self.initializer}
