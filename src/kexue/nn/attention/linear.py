"""Linear attention: softmax's exponential of an inner product replaced by an inner product of features."""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import initializers, masks, taps
from kexue.nn.attention import feature_maps, linear_masks, linear_scan
from kexue.nn.attention.linear_scan import HIDDEN, Keys
from kexue.nn.attention.performer import random_projection
from kexue.nn.attention.projections import rows, split_heads
from kexue.nn.dropout import drop
from kexue.nn.positions.base import PositionEncoding

__all__ = ["LinearAttention"]


@keras.saving.register_keras_serializable(package="kexue")
class LinearAttention(keras.layers.Layer):
    """``o_i = sum_j phi(q_i).phi(k_j) v_j / sum_j phi(q_i).phi(k_j)`` over the visible keys j: O(length).

    Features, for vectors q and k of ``key_size * key_multiplier`` (``key_size`` with ``performer``, ``cosine+1``):

    - ``"exp"``: ``exp(q)``, ``exp(k)``.
    - ``"elu+1"``: ``elu(x) + 1``. ``"relu"``: ``max(x, 0)``; a query without a positive feature in common gets zeros.
    - ``"double_softmax"``: softmax of q over its features, softmax of k over the visible positions (efficient
      attention); keys saturate at 40.
    - ``"performer"``: random features of ``exp(q.k / sqrt(key_size))``, an approximation of softmax attention with
      its weights; see `kexue.nn.attention.performer`.
    - ``"cosine+1"``: ``1 + q.k / (|q| |k|)``.
    - a function of a float32 tensor (..., size) to non-negative features.

    Positions that rotate act on the features in the numerator only, which leaves the denominator positive; with
    ``performer`` and ``cosine+1``, functions of the inner product, they act on q and k as in softmax attention. A
    rotation of size ``key_size`` is applied to each group of so many features.

    Args:
        heads: number of heads.
        key_size: size of queries and keys in a head.
        value_size: size of values in a head, ``key_size`` by default.
        feature: see above.
        key_multiplier: how many times ``key_size`` features there are. The rank of attention is at most that.
        mask: `kexue.nn.masks.Mask`, name or configuration: ``Bidirectional()``, ``Causal()``,
            ``Causal(reverse=True)``, ``Prefix()`` or ``Permuted()``, with or without ``SameDocument()``.
        positions: an encoding that rotates, or None.
        orthogonal: with ``performer``: orthogonal random features.
        seed: with ``performer``: of the random features.
        dropout: rate at which keys are hidden in training, for all queries alike and for each head on its own;
            single probabilities do not exist here.
        use_bias: the projections of queries, keys and values have biases.
        output_bias: the output projection has one; as ``use_bias`` when None.
        initializer: see `kexue.nn.initializers.make`.

    Call arguments:
        x: ``(batch, length, size)``.
        padding_mask: ``(batch, length)``, true at real tokens; None for all.
        document_ids: ``(batch, length)``; tokens see their own document only.
        segment_ids: ``(batch, length)``, for `Prefix`.
        order: ``(batch, length)``, for `Permuted` without an order of its own.
        tables: what ``positions.tables`` returned.

    Returns:
        ``(batch, length, size)``.

    Raises:
        ConfigError: when built with a mask or positions that it cannot do.

    Source: kexue.fm articles 7546 and 8338; rotation 8265; arXiv 2006.16236, 1812.01243, 2009.14794, 2104.09864.
    """

    takes_facts = True
    whole_block = False

    def __init__(
        self,
        heads: int,
        key_size: int,
        value_size: int | None = None,
        feature: Any = "exp",
        key_multiplier: int = 4,
        mask: Any = None,
        positions: PositionEncoding | None = None,
        orthogonal: bool = True,
        seed: int = 0,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_bias: bool | None = None,
        initializer: float | dict[str, int] = 0.02,
        **kwargs: Any,
    ) -> None:
        # Keras would cast the tables of positions to the compute dtype too; `call` casts ``x`` itself.
        super().__init__(autocast=False, **kwargs)
        if heads < 1 or key_size < 1 or key_multiplier < 1:
            raise ConfigError(
                "heads, key_size and key_multiplier must be positive. Received: "
                f"heads={heads}, key_size={key_size}, key_multiplier={key_multiplier}"
            )
        self.heads, self.key_size, self.value_size = heads, key_size, value_size or key_size
        self.feature, self.key_multiplier, self.map = feature, key_multiplier, feature_maps.get(feature)
        self.mask = masks.get(mask)
        self.plan = linear_masks.plan(self.mask)
        self.positions: Any = positions
        if positions is not None and positions.acts_on_scores:
            raise ConfigError(
                f"linear attention never forms scores, so that {type(positions).__name__}, which acts on them, cannot "
                "work in it. Use positions that rotate (position='rotary') or act on the embeddings."
            )
        self.orthogonal, self.seed, self.draws = orthogonal, seed, 0
        self.dropout, self.use_bias, self.initializer = dropout, use_bias, initializer
        self.has_output_bias = use_bias if output_bias is None else output_bias
        self.seed_generator = keras.random.SeedGenerator() if dropout > 0 else None

    @property
    def sizes(self) -> tuple[int, int]:
        """Size of the projected queries and keys in a head, and number of their features for the state."""
        if self.feature == "performer":
            return self.key_size, self.key_size * self.key_multiplier
        if self.feature == "cosine+1":
            return self.key_size, self.key_size + 1
        size = self.key_size * self.key_multiplier
        if isinstance(self.feature, str):
            return size, size
        return size, self.feature(ops.zeros((1, size), dtype="float32")).shape[-1]

    def build(self, x_shape: Any) -> None:
        size, (projected, features) = x_shape[-1], self.sizes
        columns = self.heads * (2 * projected + self.value_size)
        first = self.map is None or self.map.rotates_first
        rotates = self.positions is not None and self.positions.inside_attention
        if rotates and not first and features % self.key_size:
            raise ConfigError(
                f"a rotation of size {self.key_size} needs a multiple of it as number of features. Received: {features}"
            )
        make = initializers.make(self.initializer)
        self.qkv_kernel = self.add_weight(shape=(size, columns), initializer=make, name="qkv_kernel")
        self.output_kernel = self.add_weight(
            shape=(self.heads * self.value_size, size), initializer=make, name="output_kernel"
        )
        self.qkv_bias = self.output_bias = self.projection = None
        if self.use_bias:
            self.qkv_bias = self.add_weight(shape=(columns,), initializer="zeros", name="qkv_bias")
        if self.has_output_bias:
            self.output_bias = self.add_weight(shape=(size,), initializer="zeros", name="output_bias")
        if self.feature == "performer":
            drawn = random_projection(self.key_size, features, orthogonal=self.orthogonal, seed=self.seed)
            self.projection = self.add_weight(
                shape=drawn.shape,
                initializer=lambda shape, dtype=None: ops.convert_to_tensor(drawn, dtype=dtype),
                trainable=False,
                autocast=False,
                name="projection",
            )
        self.built = True

    def redraw(self, seed: int | None = None) -> None:
        """New random features, from ``seed`` or, without one, the next of the layer's own sequence."""
        if self.projection is None:
            raise ConfigError(f"only feature='performer', once built, has features to redraw. It has {self.feature!r}")
        self.draws += 1
        source = [self.seed, self.draws] if seed is None else seed
        size, features = self.projection.shape
        self.projection.assign(random_projection(size, features, orthogonal=self.orthogonal, seed=source))

    # ---------------------------------------------------------------- features

    def _projected(self, x: Any) -> tuple[Any, Any, Any]:
        size = self.sizes[0]
        wide = self.heads * size
        q, k, v = ops.split(rows(x, self.qkv_kernel, self.qkv_bias), [wide, 2 * wide], axis=-1)
        return split_heads(q, size), split_heads(k, size), split_heads(v, self.value_size)

    def _turn(self, q: Any, k: Any, tables: Any) -> tuple[Any, Any]:
        """Rotate ``(batch, length, heads, n key_size)`` in groups of ``key_size``."""
        shape = ops.shape(q)
        grouped = (shape[0], shape[1], -1, self.key_size)
        q, k = self.positions.rotate(ops.reshape(q, grouped), ops.reshape(k, grouped), tables)
        return ops.reshape(q, shape), ops.reshape(k, shape)

    def _features(self, x: Any, padding_mask: Any, tables: Any, training: bool | None) -> tuple[Any, Any, Any, Any]:
        """Features of queries and keys, shifts or None, values: float32, keys that nobody sees are zeros."""
        kind = feature_maps.random_features(self.projection) if self.map is None else self.map
        q, k, v = (ops.cast(t, "float32") for t in self._projected(x))
        if self._rotates:
            v = self.positions.rotate_values(v, tables)
            if kind.rotates_first:
                q, k = self._turn(q, k, tables)
        q, (k, shift) = kind.query(q), kind.key(k)
        keep = None if padding_mask is None else ops.cast(padding_mask, "float32")[:, :, None]
        if training and self.dropout > 0:
            kept = ops.cast(
                drop(ops.ones(ops.shape(k)[:3], dtype="float32"), self.dropout, self.seed_generator), "bool"
            )
            kept = ops.cast(kept, "float32")
            keep = kept if keep is None else keep * kept
        if keep is not None:
            # Not by a product: a padded token may hold anything, and infinity times zero is NaN.
            seen = keep[..., None] > 0
            k, v = ops.where(seen, k, 0.0), ops.where(seen, v, 0.0)
            shift = None if shift is None else ops.where(seen[..., 0], shift, HIDDEN)
        return q, k, shift, v

    @property
    def _rotates(self) -> bool:
        return self.positions is not None and self.positions.inside_attention

    def _turned(self, q: Any, k: Any, tables: Any) -> tuple[Any, Any]:
        """Features for the numerator where positions act on them, else None."""
        if not self._rotates or (self.map is None or self.map.rotates_first):
            return None, None
        return self._turn(q, k, tables)

    @property
    def _per_feature(self) -> bool:
        return self.map is not None and self.map.per_feature

    # ---------------------------------------------------------------- the whole sequence

    def call(
        self,
        x: Any,
        padding_mask: Any = None,
        document_ids: Any = None,
        segment_ids: Any = None,
        order: Any = None,
        tables: Any = (),
        training: bool | None = None,
    ) -> Any:
        x = ops.cast(x, self.compute_dtype)
        q, k, shift, v = self._features(x, padding_mask, tables, training)
        length = ops.shape(x)[1]
        everything = self.plan.kind == "all" and not self.plan.documents and document_ids is None
        tapped = taps.wanted(self, "probabilities")
        if everything and not tapped:
            out = self._everything(q, k, shift, v, tables)
        else:
            tokens = linear_masks.arrange(
                self.plan,
                self.mask,
                ops.shape(x)[0],
                length,
                document_ids=document_ids,
                segment_ids=segment_ids,
                order=order,
            )
            out = self._sums(tokens, q, k, shift, v, tables)
            if tapped:
                # The output for values that are the columns of the identity is the matrix that linear attention
                # never forms.
                one = ops.broadcast_to(
                    ops.eye(length, dtype="float32")[None, :, None],
                    (ops.shape(x)[0], length, self.heads, length),
                )
                matrix = ops.transpose(self._sums(tokens, q, k, shift, one, tables), (0, 2, 1, 3))
                taps.offer(self, "probabilities", matrix, used=False)
        shape = ops.shape(x)
        out = ops.cast(ops.reshape(out, (shape[0], length, self.heads * self.value_size)), self.compute_dtype)
        return rows(out, self.output_kernel, self.output_bias)

    def _everything(self, q: Any, k: Any, shift: Any, v: Any, tables: Any) -> Any:
        """Every query sees every key that is not padding."""
        if self._per_feature:
            total = ops.sum(k, axis=1, keepdims=True)
            q = linear_scan.ratio(q, total)
        q_turned, k_turned = self._turned(q, k, tables)
        q, k, v, shift, q_turned, k_turned = _heads_first(q, k, v, shift, q_turned, k_turned)
        numerator, denominator = linear_scan.whole(Keys(q, k, v, None, shift, q_turned, k_turned))
        out = numerator if self._per_feature else linear_scan.divide(numerator, denominator)
        return ops.swapaxes(out, 1, 2)

    def _sums(self, tokens: linear_masks.Arrangement, q: Any, k: Any, shift: Any, v: Any, tables: Any) -> Any:
        """Any other mask: see `linear_masks`."""
        groups = ops.broadcast_to(tokens.groups, ops.shape(q)[:2])
        ties = None if tokens.ties is None else ops.broadcast_to(tokens.ties, ops.shape(q)[:2])
        if self._per_feature:
            sorted_k = ops.swapaxes(tokens.sort(k), 1, 2)
            total = linear_scan.prefix_sums(sorted_k, groups)
            if ties is not None:
                total = total + linear_scan.prefix_sums(sorted_k, ties, strict=True, backward=True)
            total = tokens.unsort(ops.swapaxes(total, 1, 2))
            q = linear_scan.ratio(q, total)
        q_turned, k_turned = self._turned(q, k, tables)
        parts = [None if t is None else tokens.sort(t) for t in (q, k, v, shift, q_turned, k_turned)]
        q, k, v, shift, q_turned, k_turned = _heads_first(*parts)
        keys = Keys(q, k, v, groups, shift, q_turned, k_turned)
        out = linear_scan.scan(keys)
        if ties is not None:
            out = linear_scan.add(out, linear_scan.scan(keys._replace(groups=ties), strict=True, backward=True))
        result = out[0] if self._per_feature else linear_scan.divide(out[0], out[1])
        return tokens.unsort(ops.swapaxes(result, 1, 2))

    # ---------------------------------------------------------------- one token at a time

    def initial_state(self, batch: Any) -> linear_scan.State:
        """The state before the first token, for `step`; its size does not depend on how many follow."""
        return linear_scan.initial_state(batch, self.heads, self.sizes[1], self.value_size)

    def state_after(self, x: Any, padding_mask: Any = None, tables: Any = ()) -> linear_scan.State:
        """The state after all tokens of ``x``, for `step`.

        Args:
            x: ``(batch, length, size)``.
            padding_mask: as in ``call``, and ``tables``.
            tables: likewise.
        """
        x = ops.cast(x, self.compute_dtype)
        q, k, shift, v = self._features(x, padding_mask, tables, False)
        _, turned = self._turned(q, k, tables)
        k, v, shift, turned = _heads_first(k, v, shift, turned)
        turned = k if turned is None else turned
        top = ops.zeros(ops.shape(k)[:2], dtype="float32")
        if shift is not None:
            top = ops.max(shift, axis=-1)
            weight = ops.exp(ops.minimum(shift - top[..., None], 0.0))[..., None]
            k, turned = k * weight, turned * weight
        values = ops.matmul(ops.swapaxes(turned, -1, -2), v)
        return linear_scan.State(values, ops.sum(k, axis=2), top, ops.zeros(ops.shape(x)[:1], dtype="int32"))

    def step(self, x: Any, state: linear_scan.State, position: Any = 0) -> tuple[Any, linear_scan.State]:
        """One token of recurrent decoding: the row of the causal ``call``, in O(1). With ``Prefix``, a target token.

        Args:
            x: ``(batch, size)`` or ``(batch, 1, size)``.
            state: from `initial_state` or the step before.
            position: of the token, an integer or ``(batch,)``; matters to positions only.

        Returns:
            The output, of the shape of ``x``, and the new state.

        Raises:
            ConfigError: the mask is neither causal nor a prefix.
        """
        if self.plan.kind not in ("causal", "prefix"):
            raise ConfigError(
                f"decoding token by token needs mask=Causal() or Prefix(). The layer was built with {self.mask!r}."
            )
        x = ops.convert_to_tensor(x)
        flat = len(x.shape) == 2
        x = ops.cast(x[:, None] if flat else x, self.compute_dtype)
        if not self.built:
            self.build(x.shape)
        state = linear_scan.State(*state)
        tables = ()
        if self._rotates:
            place = ops.reshape(ops.cast(position, "int32"), (-1, 1))
            tables = self.positions.tables(place, place)
        q, k, shift, v = self._features(x, None, tables, False)
        if self._per_feature:
            total = state.features[:, None] + k
            q = linear_scan.ratio(q, total)
        q_turned, k_turned = self._turned(q, k, tables)
        q, k, v, shift, q_turned, k_turned = _heads_first(q, k, v, shift, q_turned, k_turned)
        new, (numerator, denominator, _) = linear_scan.step(
            state, Keys(q, k, v, ops.zeros(ops.shape(x)[:2], dtype="int32"), shift, q_turned, k_turned)
        )
        out = numerator if self._per_feature else linear_scan.divide(numerator, denominator)
        out = ops.reshape(ops.swapaxes(out, 1, 2), (ops.shape(x)[0], 1, self.heads * self.value_size))
        out = rows(ops.cast(out, self.compute_dtype), self.output_kernel, self.output_bias)
        return (out[:, 0] if flat else out), new

    def compute_output_spec(self, x: Any, *_: Any, **__: Any) -> Any:
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "heads": self.heads,
            "key_size": self.key_size,
            "value_size": self.value_size,
            "feature": feature_maps.to_config(self.feature),
            "key_multiplier": self.key_multiplier,
            "mask": masks.to_config(self.mask),
            "positions": None if self.positions is None else keras.saving.serialize_keras_object(self.positions),
            "orthogonal": self.orthogonal,
            "seed": self.seed,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "output_bias": self.has_output_bias,
            "initializer": self.initializer,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LinearAttention":
        config = dict(config)
        for name in ("positions", "feature"):
            if isinstance(config.get(name), dict):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


def _heads_first(*tensors: Any) -> tuple[Any, ...]:
    """``(batch, length, heads, ...)`` to ``(batch, heads, length, ...)``; None stays."""
    return tuple(None if t is None else ops.swapaxes(t, 1, 2) for t in tensors)
