"""TUPE: positions have projections of their own, and no token is added to a position.

    score[h, i, j] = (x_i W_Q)(x_j W_K)^T / sqrt(2 k) + (p_i U_Q)(p_j U_K)^T / sqrt(2 k)

The second term does not depend on the content, is shared by all blocks and is computed once a forward pass. With
``reset`` it is replaced by trained numbers a head wherever the token of position 0, [CLS], is involved: one for what
[CLS] sees, one for what sees [CLS].

Source: kexue.fm article 8130; Ke et al., arXiv 2006.15595 (the absolute variant, TUPE-A).
"""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import initializers
from kexue.nn.positions.base import PositionEncoding, Sizes

__all__ = ["TupePosition"]


@keras.saving.register_keras_serializable(package="kexue")
class TupePosition(PositionEncoding):
    """Untied absolute positions inside attention; see the module.

    Args:
        max_length: rows of the table p.
        width: columns of it.
        heads: attention heads.
        key_size: columns of U_Q and U_K in a head.
        reset: treat position 0 apart.
        normalize: rows of p are brought to mean 0 and variance 1 first, as in the authors' code.
        initializer: see `kexue.nn.initializers.make`.
    """

    score_terms = 2

    def __init__(
        self,
        max_length: int,
        width: int,
        heads: int,
        key_size: int,
        reset: bool = False,
        normalize: bool = True,
        initializer: float | dict[str, int] = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if min(max_length, width, heads, key_size) < 1:
            raise ConfigError(f"sizes must be positive. Received: {max_length=}, {width=}, {heads=}, {key_size=}")
        self.max_length, self.width, self.heads, self.key_size = max_length, width, heads, key_size
        self.reset, self.normalize, self.initializer = reset, normalize, initializer

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "TupePosition":
        names = ("max_length", "width", "heads", "key_size", "initializer")
        return cls(**{name: getattr(sizes, name) for name in names} | options)

    @property
    def limit(self) -> int | None:
        """Longest sequence, or None."""
        return self.max_length

    def build(self, *_: Any, **__: Any) -> None:
        def matrix(name: str, rows: int, columns: int) -> Any:
            return self.add_weight(shape=(rows, columns), initializer=initializers.make(self.initializer), name=name)

        self.table = matrix("table", self.max_length, self.width)
        self.query_kernel = matrix("query_kernel", self.width, self.heads * self.key_size)
        self.key_kernel = matrix("key_kernel", self.width, self.heads * self.key_size)
        self.first = None
        if self.reset:
            self.first = self.add_weight(shape=(2, self.heads), initializer="zeros", name="first")
        self.built = True

    def _project(self, position_ids: Any, kernel: Any) -> Any:
        rows = ops.cast(ops.take(self.table, ops.cast(position_ids, "int32"), axis=0), "float32")
        if self.normalize:
            rows = rows - ops.mean(rows, axis=-1, keepdims=True)
            rows = rows * ops.rsqrt(ops.mean(ops.square(rows), axis=-1, keepdims=True) + 1e-5)
        kernel = ops.reshape(ops.cast(kernel, "float32"), (self.width, self.heads, self.key_size))
        return ops.einsum("bld,dhk->bhlk", rows, kernel)

    def tables(self, query_positions: Any, key_positions: Any, **segments: Any) -> tuple[Any, ...]:
        q = self._project(query_positions, self.query_kernel)
        k = self._project(key_positions, self.key_kernel)
        product = ops.matmul(q, ops.swapaxes(k, -1, -2))  # (B or 1, H, Lq, Lk)
        if self.first is not None:
            reset = ops.cast(self.first, "float32")[:, None, :, None, None]
            product = ops.where(ops.equal(key_positions, 0)[:, None, None, :], reset[1], product)
            product = ops.where(ops.equal(query_positions, 0)[:, None, :, None], reset[0], product)
        return (product,)

    def scores(self, q: Any, k: Any, tables: tuple[Any, ...], *, scale: Any, layer: Any) -> Any:
        return tables[0] * scale

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "max_length": self.max_length,
            "width": self.width,
            "heads": self.heads,
            "key_size": self.key_size,
            "reset": self.reset,
            "normalize": self.normalize,
            "initializer": self.initializer,
        }
