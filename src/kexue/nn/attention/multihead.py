"""Multi-head softmax attention: fused projections, positions and scale as parts, heads that talk."""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import initializers, taps
from kexue.nn.attention import caching, scales
from kexue.nn.attention.kernels import attend, explicit_attention, repeat_heads
from kexue.nn.attention.projections import rows, split_heads
from kexue.nn.norms import RMSNorm
from kexue.nn.positions.base import PositionEncoding

__all__ = ["MultiHeadAttention"]


@keras.saving.register_keras_serializable(package="kexue")
class MultiHeadAttention(keras.layers.Layer):
    """``softmax(q k^T scale) v`` in several heads.

    Queries, keys and values of self-attention are one projection, laid out ``[all q | all k | all v]``.

    Args:
        heads: number of heads of the softmax and of the values.
        key_size: size of queries and keys in a head.
        value_size: size of values in a head, ``key_size`` by default.
        key_heads: heads of keys and values where several queries share one (grouped queries); divides ``heads``.
        positions: encoding whose hooks act inside attention.
        causal: keys after the query are hidden, by the kernel's own flag.
        scale: ``"sqrt"``, a number, ``"log_n"``, ``"softmax_plus"`` or a `kexue.nn.attention.scales.LogN`.
        talking: ``"none"``; ``"pre"``, a trained map between heads of the scores before the softmax; ``"pre_post"``,
            another one of the probabilities after it. They start at the identity, so that a model without them is
            reproduced.
        logit_heads: heads of queries and keys where ``talking`` maps them to ``heads``; equal by default.
        residual_scores: take the scores of the layer before and return one's own (RealFormer).
        cross: keys and values come from a ``context``, with a projection of their own ``[all k | all v]``.
        query_key_norm: epsilon of an RMS norm over each query and key before positions; None for none.
        dropout: rate for the attention probabilities.
        use_bias: the projections of queries, keys and values have biases.
        output_bias: the output projection has one; as ``use_bias`` when None.
        initializer: see `kexue.nn.initializers.make`.

    Call arguments:
        x: ``(batch, length, size)``.
        attention_mask: boolean, broadcastable to ``(batch, heads, length_q, length_k)``, True = may see.
        tables: what ``positions.tables`` returned.
        context: ``(batch, length_k, size)``, with ``cross``.
        queries: ``(batch, length_q, size)``; queries come from here instead, through the same projection (the second
            stream of XLNet).
        previous_scores: ``(batch, logit_heads, length_q, length_k)`` float32, with ``residual_scores``; None in the
            first layer.
        cache: see `kexue.nn.attention.caching`; ``attention_mask`` and ``tables`` then speak of the keys that it gives.

    Returns:
        ``(batch, length_q, size)``; with ``residual_scores`` a pair of it and the float32 scores.

    Source: Vaswani et al., arXiv 1706.03762; key size and heads that talk: kexue.fm article 7325, arXiv 2002.07028,
    2003.02436; grouped queries: 2305.13245; residual scores: RealFormer, 2012.11747.
    """

    takes_facts = False
    whole_block = False

    def __init__(
        self,
        heads: int,
        key_size: int,
        value_size: int | None = None,
        key_heads: int | None = None,
        positions: PositionEncoding | None = None,
        causal: bool = False,
        scale: Any = "sqrt",
        talking: str = "none",
        logit_heads: int | None = None,
        residual_scores: bool = False,
        cross: bool = False,
        query_key_norm: float | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_bias: bool | None = None,
        initializer: float | dict[str, int] = 0.02,
        **kwargs: Any,
    ) -> None:
        # Keras would cast the tables of positions to the compute dtype too; `call` casts ``x`` itself.
        super().__init__(autocast=False, **kwargs)
        if heads < 1 or key_size < 1:
            raise ConfigError(f"heads and key_size must be positive. Received: heads={heads}, key_size={key_size}")
        if talking not in ("none", "pre", "pre_post"):
            raise ConfigError(f"talking must be 'none', 'pre' or 'pre_post'. Received: talking={talking!r}")
        if logit_heads is not None and (talking == "none" or key_heads is not None):
            raise ConfigError("logit_heads needs talking='pre' or 'pre_post', and no key_heads.")
        if key_heads is not None and (key_heads < 1 or heads % key_heads):
            raise ConfigError(f"key_heads must divide heads. Received: heads={heads}, key_heads={key_heads}")
        self.heads, self.key_size, self.value_size = heads, key_size, value_size or key_size
        self.query_heads = logit_heads or heads
        self.key_heads = key_heads or self.query_heads
        self.value_heads = key_heads or heads
        self.positions, self.causal, self.scale = positions, causal, scales.get(scale)
        self.talking, self.logit_heads, self.residual_scores = talking, logit_heads, residual_scores
        self.cross, self.query_key_norm = cross, query_key_norm
        self.dropout, self.use_bias, self.initializer = dropout, use_bias, initializer
        self.has_output_bias = use_bias if output_bias is None else output_bias
        self.seed_generator = keras.random.SeedGenerator() if dropout > 0 else None
        self.query_norm = self.key_norm = None
        if query_key_norm is not None:
            self.query_norm = RMSNorm(query_key_norm, dtype=self.dtype_policy, name="query_norm")
            self.key_norm = RMSNorm(query_key_norm, dtype=self.dtype_policy, name="key_norm")

    @property
    def scale_factor(self) -> float:
        """The factor of the scores that is the same in all rows."""
        return scales.constant(self.scale, self.key_size, 1 if self.positions is None else self.positions.score_terms)

    @property
    def _inside(self) -> PositionEncoding | None:
        """The encoding, if its hooks act here."""
        return self.positions if self.positions is not None and self.positions.inside_attention else None

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Columns of the projections of queries, keys and values."""
        return (
            self.query_heads * self.key_size,
            self.key_heads * self.key_size,
            self.value_heads * self.value_size,
        )

    def build(self, x_shape: Any, context_shape: Any = None) -> None:
        size, out = x_shape[-1], self.heads * self.value_size
        q, k, v = self.sizes

        def matrix(name: str, rows: int, columns: int) -> Any:
            return self.add_weight(shape=(rows, columns), initializer=initializers.make(self.initializer), name=name)

        def bias(name: str, columns: int, wanted: bool) -> Any:
            return self.add_weight(shape=(columns,), initializer="zeros", name=name) if wanted else None

        if self.cross:
            self.query_kernel = matrix("query_kernel", size, q)
            self.query_bias = bias("query_bias", q, self.use_bias)
            self.key_value_kernel = matrix(
                "key_value_kernel", size if context_shape is None else context_shape[-1], k + v
            )
            self.key_value_bias = bias("key_value_bias", k + v, self.use_bias)
        else:
            self.qkv_kernel = matrix("qkv_kernel", size, q + k + v)
            self.qkv_bias = bias("qkv_bias", q + k + v, self.use_bias)
        self.output_kernel = matrix("output_kernel", out, size)
        self.output_bias = bias("output_bias", size, self.has_output_bias)
        self.score_mix = self.probability_mix = None
        if self.talking != "none":
            self.score_mix = self.add_weight(
                shape=(self.query_heads, self.heads), initializer="identity", name="score_mix"
            )
        if self.talking == "pre_post":
            self.probability_mix = self.add_weight(
                shape=(self.heads, self.heads), initializer="identity", name="probability_mix"
            )
        for norm in (self.query_norm, self.key_norm):
            if norm is not None:
                norm.build((None, None, None, self.key_size))
        positions = self._inside
        self.position_weights = {} if positions is None else positions.attention_weights(self, size)
        self.built = True

    def project(self, x: Any, part: str) -> Any:
        """Tokens ``(batch or 1, length, size)`` through the map of ``"query"`` or ``"key"``, split in heads.

        For encodings that send positions through the projections of the content (DeBERTa).
        """
        q, k, _ = self.sizes
        first, last = (0, q) if part == "query" else (q, q + k)
        if self.cross:
            kernel, bias = (
                (self.query_kernel, self.query_bias)
                if part == "query"
                else (self.key_value_kernel, self.key_value_bias)
            )
            first, last = (0, q) if part == "query" else (0, k)
        else:
            kernel, bias = self.qkv_kernel, self.qkv_bias
        return split_heads(rows(x, kernel[:, first:last], None if bias is None else bias[first:last]), self.key_size)

    def _queries_keys_values(self, x: Any, context: Any, queries: Any, cache: Any) -> tuple[Any, Any, Any]:
        q_size, k_size, _ = self.sizes
        if isinstance(cache, caching.Fixed):
            q = split_heads(rows(x, self.query_kernel, self.query_bias), self.key_size)
            return (q if self.query_norm is None else self.query_norm(q)), None, None
        if self.cross:
            if context is None:
                raise ConfigError("attention built with cross=True needs a context.")
            q = rows(x, self.query_kernel, self.query_bias)
            fused = rows(ops.cast(context, self.compute_dtype), self.key_value_kernel, self.key_value_bias)
            k, v = ops.split(fused, [k_size], axis=-1)
        elif queries is not None:
            bias = self.qkv_bias
            q = rows(
                ops.cast(queries, self.compute_dtype),
                self.qkv_kernel[:, :q_size],
                None if bias is None else bias[:q_size],
            )
            fused = rows(x, self.qkv_kernel[:, q_size:], None if bias is None else bias[q_size:])
            k, v = ops.split(fused, [k_size], axis=-1)
        else:
            fused = rows(x, self.qkv_kernel, self.qkv_bias)  # (B, L, H (2 K + V))
            q, k, v = ops.split(fused, [q_size, q_size + k_size], axis=-1)
        q, k, v = split_heads(q, self.key_size), split_heads(k, self.key_size), split_heads(v, self.value_size)
        if self.query_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)  # type: ignore[misc]
        return q, k, v

    def call(
        self,
        x: Any,
        attention_mask: Any = None,
        tables: Any = (),
        context: Any = None,
        queries: Any = None,
        previous_scores: Any = None,
        cache: Any = None,
        training: bool | None = None,
    ) -> Any:
        x = ops.cast(x, self.compute_dtype)
        q, k, v = self._queries_keys_values(x, context, queries, cache)
        scale, row = self.scale_factor, None
        positions = self._inside
        if positions is not None:
            q, k = positions.rotate(q, k, tables)
            v = positions.rotate_values(v, tables)
        causal = self.causal and (cache is None or cache.keeps_causal)
        if cache is not None:
            k, v = cache.extend(k, v)
        if isinstance(self.scale, scales.LogN):
            counts = scales.visible_counts(attention_mask, causal, ops.shape(q)[1], ops.shape(k)[1])
            row = ops.expand_dims(scales.row_factor(self.scale, counts), -1)  # (B, H or 1, Lq, 1)
        bias = add_values = None
        if positions is not None:
            if positions.acts_on_scores:
                k, v = repeat_heads(k, self.query_heads), repeat_heads(v, self.heads)
            whole = scale if row is None else scale * row
            bias = positions.scores(q, k, tables, scale=whole, layer=self)
            if type(positions).values is not PositionEncoding.values:

                def add_values(probabilities: Any) -> Any:
                    return positions.values(probabilities, v, tables)

        if row is not None:
            q = ops.cast(ops.cast(q, "float32") * ops.swapaxes(row, 1, 2), q.dtype)
        arguments: dict[str, Any] = {
            "scale": scale,
            "mask": attention_mask,
            "bias": bias,
            "causal": causal,
            "dropout": self.dropout if training else 0.0,
            "seed": self.seed_generator,
        }
        scores = None
        explicit = self.talking != "none" or self.residual_scores or add_values is not None
        if explicit or taps.wanted(self, "scores", "probabilities"):
            found: dict[str, Any] = {}
            out = explicit_attention(
                q,
                k,
                v,
                **arguments,
                previous=previous_scores,
                mix_scores=None if self.score_mix is None else lambda s: _mix(s, self.score_mix),
                mix_probabilities=None if self.probability_mix is None else lambda p: _mix(p, self.probability_mix),
                add_values=add_values,
                tap=lambda name, value: found.setdefault(name, taps.offer(self, name, value)),
            )
            scores = found["scores"]
        else:
            out = attend(q, k, v, **arguments)  # (B, L, H, V)
        shape = ops.shape(out)
        out = rows(
            ops.reshape(out, (shape[0], shape[1], self.heads * self.value_size)), self.output_kernel, self.output_bias
        )
        return (out, scores) if self.residual_scores else out

    def compute_output_spec(self, x: Any, *_: Any, **arguments: Any) -> Any:
        queries, context = arguments.get("queries"), arguments.get("context")
        shape = (x if queries is None else queries).shape
        out = keras.KerasTensor((*shape[:-1], x.shape[-1]), dtype=self.compute_dtype)
        if not self.residual_scores:
            return out
        keys = x if context is None else context
        scores = keras.KerasTensor((shape[0], self.query_heads, shape[1], keys.shape[1]), dtype="float32")
        return out, scores

    def get_config(self) -> dict[str, Any]:
        positions = None if self.positions is None else keras.saving.serialize_keras_object(self.positions)
        return super().get_config() | {
            "heads": self.heads,
            "key_size": self.key_size,
            "value_size": self.value_size,
            "key_heads": None if self.value_heads == self.heads else self.value_heads,
            "positions": positions,
            "causal": self.causal,
            "scale": scales.to_config(self.scale),
            "talking": self.talking,
            "logit_heads": self.logit_heads,
            "residual_scores": self.residual_scores,
            "cross": self.cross,
            "query_key_norm": self.query_key_norm,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "output_bias": self.has_output_bias,
            "initializer": self.initializer,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MultiHeadAttention":
        positions = config.get("positions")
        if isinstance(positions, dict):
            config = config | {"positions": keras.saving.deserialize_keras_object(positions)}
        return cls(**config)


def _mix(x: Any, mix: Any) -> Any:
    """Heads ``(batch, h, q, k)`` to other heads by a matrix (h, g), in float32."""
    return ops.einsum("bhqk,hg->bgqk", x, ops.cast(mix, "float32"))
