"""Gated attention unit: attention of one head and a gated feed-forward part in one layer.

    [u, v, z] = act(x W + b),   q = z * gain_q + offset_q,   k = z * gain_k + offset_k
    A = normalise(q k^T / sqrt(key_size)),   output = (u * (A v)) W_o + b_o

u and v are as wide as a feed-forward part, z as one head; two such layers cost what one block with attention and a
feed-forward part costs.

Source: Hua et al., arXiv 2202.10447; kexue.fm articles 8934 and 9019; softmax_plus and GAU-alpha: 9052.
"""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import activations, initializers, taps
from kexue.nn.attention import scales
from kexue.nn.attention.kernels import attend, explicit_attention, with_causal
from kexue.nn.dropout import drop
from kexue.nn.positions.base import PositionEncoding

__all__ = ["NORMALIZERS", "GatedAttentionUnit"]

NORMALIZERS = ("softmax", "softmax_plus", "squared_relu")
"""How scores become weights, n being the number of keys that the query sees:

``softmax``: over the visible keys.
``softmax_plus``: of the scores times ``log(max(n, 16)) / log(512)``.
``squared_relu``: ``relu(score)^2 / n``.
"""


@keras.saving.register_keras_serializable(package="kexue")
class GatedAttentionUnit(keras.layers.Layer):
    """The formula of the module. No feed-forward part follows it.

    Args:
        key_size: size of z, q and k.
        intermediate_size: size of u and v.
        heads: 1, the only number it has.
        activation: of the first projection, a name of `kexue.nn.activations`.
        normalizer: one of `NORMALIZERS`.
        positions: encoding whose hooks act inside attention; one that changes values is refused.
        causal: keys after the query are hidden.
        dropout: rate for the weights A.
        use_bias: biases of both projections, and the offsets of q and k.
        initializer: see `kexue.nn.initializers.make`.

    Call arguments:
        x: ``(batch, length, size)``.
        attention_mask: boolean, broadcastable to ``(batch, 1, length, length)``, True = may see.
        tables: what ``positions.tables`` returned.
        queries: ``(batch, length_q, size)``; u and q come from here instead (the second stream of XLNet).
        cache: see `kexue.nn.attention.caching`; ``attention_mask`` and ``tables`` then speak of the keys that it gives.

    Returns:
        ``(batch, length_q, size)``; a query that sees no key attends to nothing and gets ``b_o``.
    """

    takes_facts = False
    whole_block = True
    query_heads = 1

    def __init__(
        self,
        key_size: int,
        intermediate_size: int,
        heads: int = 1,
        activation: str = "swish",
        normalizer: str = "softmax_plus",
        positions: PositionEncoding | None = None,
        causal: bool = False,
        dropout: float = 0.0,
        use_bias: bool = True,
        initializer: float | dict[str, int] = 0.02,
        **kwargs: Any,
    ) -> None:
        # Keras would cast the tables of positions to the compute dtype too; `call` casts ``x`` itself.
        super().__init__(autocast=False, **kwargs)
        if heads != 1:
            raise ConfigError(f"a gated attention unit has one head; set num_heads=1. Received: heads={heads}")
        if key_size < 1 or intermediate_size < 1:
            raise ConfigError(
                "key_size and intermediate_size must be positive. Received: "
                f"key_size={key_size}, intermediate_size={intermediate_size}"
            )
        if normalizer not in NORMALIZERS:
            raise ConfigError(f"normalizer must be one of {', '.join(NORMALIZERS)}. Received: {normalizer!r}")
        if positions is not None and type(positions).values is not PositionEncoding.values:
            raise ConfigError(f"a gated attention unit cannot add to values as {type(positions).__name__} does.")
        self.key_size, self.intermediate_size, self.heads = key_size, intermediate_size, heads
        self.activation, self.normalizer, self.positions = activation, normalizer, positions
        self.causal, self.dropout, self.use_bias, self.initializer = causal, dropout, use_bias, initializer
        self._act = activations.get(activation)
        self.seed_generator = keras.random.SeedGenerator() if dropout > 0 else None

    def build(self, x_shape: Any) -> None:
        size, e, s = x_shape[-1], self.intermediate_size, self.key_size

        def matrix(name: str, rows: int, columns: int) -> Any:
            return self.add_weight(shape=(rows, columns), initializer=initializers.make(self.initializer), name=name)

        def bias(name: str, columns: int) -> Any:
            return self.add_weight(shape=(columns,), initializer="zeros", name=name) if self.use_bias else None

        self.input_kernel, self.input_bias = matrix("input_kernel", size, 2 * e + s), bias("input_bias", 2 * e + s)
        self.output_kernel, self.output_bias = matrix("output_kernel", e, size), bias("output_bias", size)
        self.query_gain = self.add_weight(shape=(s,), initializer="ones", name="query_gain")
        self.key_gain = self.add_weight(shape=(s,), initializer="ones", name="key_gain")
        self.query_offset, self.key_offset = bias("query_offset", s), bias("key_offset", s)
        self.position_weights = {}
        if self.positions is not None and self.positions.inside_attention:
            self.position_weights = self.positions.attention_weights(self, size)
        self.built = True

    def _maps(self, x: Any) -> tuple[Any, Any, Any]:
        x = ops.matmul(ops.cast(x, self.compute_dtype), ops.cast(self.input_kernel, self.compute_dtype))
        x = x if self.input_bias is None else x + ops.cast(self.input_bias, x.dtype)
        u, v, z = ops.split(self._act(x), [self.intermediate_size, 2 * self.intermediate_size], axis=-1)
        return u, v, z

    def _affine(self, z: Any, gain: Any, offset: Any) -> Any:
        """Queries or keys ``(batch, length, 1, key_size)``."""
        z = z * ops.cast(gain, z.dtype)
        return ops.expand_dims(z if offset is None else z + ops.cast(offset, z.dtype), 2)

    def call(
        self,
        x: Any,
        attention_mask: Any = None,
        tables: Any = (),
        queries: Any = None,
        cache: Any = None,
        training: bool | None = None,
    ) -> Any:
        u, v, z = self._maps(x)
        k = self._affine(z, self.key_gain, self.key_offset)
        if queries is not None:
            u, _, z = self._maps(queries)
        q = self._affine(z, self.query_gain, self.query_offset)
        v = ops.expand_dims(v, 2)  # (B, L, 1, E)
        scale, row, bias = self.key_size**-0.5, None, None
        positions = self.positions if self.positions is not None and self.positions.inside_attention else None
        if positions is not None:
            scale = scales.constant("sqrt", self.key_size, positions.score_terms)
            q, k = positions.rotate(q, k, tables)
            v = positions.rotate_values(v, tables)
        causal = self.causal and (cache is None or cache.keeps_causal)
        if cache is not None:
            k, v = cache.extend(k, v)
        lengths = ops.shape(q)[1], ops.shape(k)[1]
        counts = None
        if self.normalizer != "softmax":
            counts = scales.visible_counts(attention_mask, causal, *lengths)  # (B, 1, Lq)
        if self.normalizer == "softmax_plus":
            row = ops.expand_dims(scales.row_factor(scales.get("softmax_plus"), counts), -1)
        if positions is not None:
            bias = positions.scores(q, k, tables, scale=scale if row is None else scale * row, layer=self)
        if row is not None:
            q = ops.cast(ops.cast(q, "float32") * ops.swapaxes(row, 1, 2), q.dtype)
        arguments: dict[str, Any] = {"scale": scale, "mask": attention_mask, "bias": bias, "causal": causal}
        dropout = self.dropout if training else 0.0
        if self.normalizer == "squared_relu":
            out = self._squared_relu(q, k, v, counts, dropout=dropout, **arguments)
        elif taps.wanted(self, "scores", "probabilities"):
            arguments |= {"dropout": dropout, "seed": self.seed_generator}
            out = explicit_attention(q, k, v, **arguments, tap=lambda name, value: taps.offer(self, name, value))
        else:
            out = attend(q, k, v, **arguments, dropout=dropout, seed=self.seed_generator)
        out = ops.matmul(u * out[:, :, 0], ops.cast(self.output_kernel, u.dtype))
        return out if self.output_bias is None else out + ops.cast(self.output_bias, out.dtype)

    def _squared_relu(
        self, q: Any, k: Any, v: Any, counts: Any, *, scale: float, mask: Any, bias: Any, causal: bool, dropout: float
    ) -> Any:
        scores = ops.cast(ops.einsum("bqhd,bkhd->bhqk", q * ops.cast(scale, q.dtype), k), "float32")
        scores = scores if bias is None else scores + bias
        scores = taps.offer(self, "scores", scores)
        mask = with_causal(mask, ops.shape(q)[1], ops.shape(k)[1]) if causal else mask
        weights = ops.square(ops.relu(scores)) / ops.expand_dims(ops.maximum(counts, 1.0), -1)
        weights = weights if mask is None else ops.where(mask, weights, 0.0)
        weights = taps.offer(self, "probabilities", weights)
        weights = drop(weights, dropout, self.seed_generator) if dropout > 0 else weights
        return ops.einsum("bhqk,bkhd->bqhd", ops.cast(weights, v.dtype), v)

    def compute_output_spec(self, x: Any, *_: Any, **arguments: Any) -> Any:
        queries = arguments.get("queries")
        shape = (x if queries is None else queries).shape
        return keras.KerasTensor((*shape[:-1], x.shape[-1]), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        positions = None if self.positions is None else keras.saving.serialize_keras_object(self.positions)
        return super().get_config() | {
            "key_size": self.key_size,
            "intermediate_size": self.intermediate_size,
            "heads": self.heads,
            "activation": self.activation,
            "normalizer": self.normalizer,
            "positions": positions,
            "causal": self.causal,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "initializer": self.initializer,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GatedAttentionUnit":
        positions = config.get("positions")
        if isinstance(positions, dict):
            config = config | {"positions": keras.saving.deserialize_keras_object(positions)}
        return cls(**config)
