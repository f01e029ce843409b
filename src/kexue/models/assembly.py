"""A `TransformerConfig` to the inputs and outputs of a functional Keras model."""

from dataclasses import dataclass
from typing import Any

import keras

from kexue.models import decoder, streams
from kexue.models.config import TransformerConfig
from kexue.nn import masks
from kexue.nn.attention import registry as attention_kinds
from kexue.nn.attention.plumbing import AttentionMask, PositionIds, PositionTables
from kexue.nn.convolution import NeighbourConvolution
from kexue.nn.dropout import Dropout
from kexue.nn.embeddings import SegmentEmbedding, TokenEmbedding
from kexue.nn.feedforward import FeedForward
from kexue.nn.heads.discriminator import DiscriminatorHead
from kexue.nn.heads.lm import LanguageModelHead
from kexue.nn.heads.pooling import FirstTokenPooler
from kexue.nn.norms import make_norm
from kexue.nn.positions import registry as position_kinds
from kexue.nn.positions.base import PositionEncoding, Sizes
from kexue.nn.positions.learned import LearnedPosition

__all__ = ["HEADS", "Assembly"]

HEADS = ("lm", "pooler", "nsp", "discriminator")
"""Heads in the order in which they are built."""


@dataclass(frozen=True)
class View:
    """What the blocks of one kind see: all of them, or the local ones of a model with windows."""

    positions: PositionEncoding | None
    mask: masks.Mask
    causal: bool
    arguments: dict[str, Any]  # of an attention layer's call


class Assembly:
    """Builds the graph; ``inputs``, ``outputs`` and ``limit`` (longest sequence, or None) are the result."""

    def __init__(self, config: TransformerConfig, mask: masks.Mask, heads: tuple[str, ...], dtype: Any) -> None:
        self.config, self.mask, self.heads, self.dtype = config, mask, heads, dtype
        self.inputs = self._inputs()
        condition = self.inputs.get("condition")
        self.condition = {} if condition is None else {"condition": condition}
        self._made: dict[str, Any] = {}
        self.outputs = self._build()

    # ---------------------------------------------------------------- parts

    def _inputs(self) -> dict[str, keras.KerasTensor]:
        config = self.config
        inputs = {"token_ids": keras.Input((None,), dtype="int32", name="token_ids")}
        optional = {"segment_ids": "int32", "padding_mask": "bool", "position_ids": "int32", "document_ids": "int32"}
        if "rank" in self.mask.needs:
            optional["order"] = "int32"
        if config.decoder_layers is not None:
            inputs["decoder_token_ids"] = keras.Input((None,), dtype="int32", name="decoder_token_ids")
            optional |= decoder.OPTIONAL
        for name, dtype in optional.items():
            inputs[name] = keras.Input((None,), dtype=dtype, name=name, optional=True)
        if config.two_stream:
            inputs["target_positions"] = keras.Input((None,), dtype="int32", name="target_positions", optional=True)
        if config.condition_size is not None:
            shape = (None, config.condition_size) if config.condition_per_token else (config.condition_size,)
            inputs["condition"] = keras.Input(shape, dtype="float32", name="condition", optional=True)
        return inputs

    def positions(
        self, options: dict[str, Any], name: str = "position", mask: masks.Mask | None = None
    ) -> PositionEncoding | None:
        """The encoding that the configuration names, for blocks under ``mask``, the encoder's by default."""
        config, mask = self.config, self.mask if mask is None else mask
        sizes = Sizes(
            width=config.embedding_dim,
            heads=config.num_heads,
            key_size=config.key_dim,
            max_length=config.max_length,
            vocabulary_size=config.vocabulary_size,
            bidirectional=not mask.lowering().causal,
            offset=config.position_offset,
            initializer=config.initializer,
            hidden_size=config.hidden_size,
        )
        if config.position in ("learned", "hierarchical"):
            name = f"{name}_embedding"
        made = position_kinds.make(config.position, options, sizes, dtype=self.dtype, name=name)
        if made is not None:
            made.check_mask(mask)
        return made

    def norm(self, name: str) -> keras.layers.Layer:
        """A norm of the configured kind."""
        return make_norm(self.config.norm, **self.norm_options, dtype=self.dtype, name=name)

    @property
    def norm_options(self) -> dict[str, Any]:
        """Arguments of every norm."""
        config = self.config
        return {
            "epsilon": config.norm_epsilon,
            "scale": config.norm_scale,
            "offset": config.norm_bias and config.norm == "layer",
            "condition_size": config.condition_size,
            "condition_hidden_size": config.condition_hidden_size,
            "condition_activation": config.condition_activation,
        }

    def shared(self, name: str, make: Any) -> Any:
        """The layer ``name``, made at its first use: blocks of a group have the same layers."""
        if name not in self._made:
            self._made[name] = make(name)
        return self._made[name]

    # ---------------------------------------------------------------- what every block needs to know, worked out once

    def view(
        self,
        mask: masks.Mask,
        positions: PositionEncoding | None,
        position_ids: Any,
        suffix: str = "",
        prefix: str = "",
        batch: dict[str, Any] | None = None,
    ) -> View:
        """Mask and position tables for attention layers; facts about the tokens from ``batch``, the encoder's inputs
        by default."""
        batch = self.inputs if batch is None else batch
        kind = attention_kinds.find(self.config.attention)
        arguments: dict[str, Any] = {}
        causal = False
        if kind.takes_facts:
            names = ("padding_mask", "document_ids", "segment_ids", "order")
            arguments = {name: batch[name] for name in names if name in batch}
        else:
            visible = AttentionMask(mask, name=f"{prefix}attention_mask{suffix}")
            causal = visible.causal_flag
            arguments["attention_mask"] = visible(
                batch["token_ids"],
                batch["padding_mask"],
                batch.get("segment_ids"),
                batch["document_ids"],
                batch.get("order"),
            )
        if positions is not None and positions.inside_attention:
            segments = {"query_segments": batch.get("segment_ids")} if positions.uses_segments else {}
            tables = PositionTables(positions, name=f"{prefix}position_tables{suffix}")
            arguments["tables"] = tables(position_ids, **segments)
        return View(positions, mask, causal, arguments)

    # ---------------------------------------------------------------- the graph

    def _build(self) -> dict[str, Any]:
        config, batch = self.config, self.inputs
        ids, padding = batch["token_ids"], batch["padding_mask"]
        positions = self.positions(config.position_options)
        self.limit = None if positions is None else positions.limit
        if config.absolute_positions:
            self.limit = min(config.max_length, self.limit or config.max_length)
        position_ids = None
        if positions is not None or config.absolute_positions:
            position_ids = PositionIds(self.limit, config.positions_from_padding, name="position_ids_or_count")(
                ids, batch["position_ids"], batch["document_ids"], padding
            )
        views = {True: self.view(self.mask, positions, position_ids)}
        if config.local_window is not None:
            near = self.mask & masks.Window(config.local_window, config.local_window)
            local = positions
            if config.local_position_options is not None:
                local = self.positions(config.local_position_options, "local_position")
            views[False] = self.view(near, local, position_ids, "_local")

        # Embeddings (B, L, E), then (B, L, D).
        embedding = TokenEmbedding(
            config.vocabulary_size,
            config.embedding_dim,
            config.initializer,
            mask_vector=config.mask_vector,
            dtype=self.dtype,
            name="token_embedding",
        )
        x = embedded = self._embed(embedding, positions, position_ids)
        if config.two_stream:
            x, targets = streams.run(self, embedding, x, positions, position_ids)
            return {"sequence_output": x, "target_output": targets} | self._heads(x, embedding, targets)
        if embedding.mask_vector is not None:  # nothing trains it here; it is kept for the checkpoint
            embedding.mask_vector.trainable = False
        scores = None
        for block in range(config.num_layers):
            x, scores = self.block(x, block, views[config.is_global(block)], scores)
            if block == 0 and config.convolution_size is not None:
                x = self._convolution(config.convolution_size, embedded, x)
        x = self.after_blocks(x)
        if config.decoder_layers is None:
            return {"sequence_output": x} | self._heads(x, embedding)
        y = decoder.build(self, embedding, x)
        return {"encoder_output": x, "sequence_output": y} | self._heads(y, embedding)

    def after_blocks(self, x: Any) -> Any:
        """The last norm, where blocks begin with theirs."""
        return self.shared("final_norm", self.norm)(x, **self.condition) if self.config.norm_order == "pre" else x

    def _convolution(self, size: int, embedded: Any, x: Any) -> Any:
        """Neighbours of the embeddings, added to the first block's output."""
        config, batch = self.config, self.inputs
        facts = {n: batch[n] for n in ("padding_mask", "document_ids", "segment_ids", "order") if n in batch}
        y = NeighbourConvolution(
            size,
            config.convolution_activation,
            mask=self.mask,
            dropout=config.dropout,
            initializer=config.initializer,
            dtype=self.dtype,
            name="convolution",
        )(embedded, **facts)
        x = keras.layers.Add(dtype=self.dtype, name="convolution_residual")([x, y])
        return self.norm("convolution_norm")(x, **self.condition)

    def _embed(self, embedding: TokenEmbedding, positions: PositionEncoding | None, position_ids: Any) -> Any:
        config, batch, dtype = self.config, self.inputs, self.dtype
        x = embedding(batch["token_ids"], *([batch["segment_ids"]] if config.shared_segments else []))
        if config.num_segments:
            x = SegmentEmbedding(config.num_segments, config.initializer, dtype=dtype, name="segment_embedding")(
                x, batch["segment_ids"]
            )
        if config.absolute_positions:
            x = LearnedPosition(
                config.max_length, config.position_offset, config.initializer, dtype=dtype, name="position_embedding"
            )(x, position_ids)
        return self.after_embedding(x, positions, position_ids, batch)

    def after_embedding(
        self, x: Any, positions: PositionEncoding | None, position_ids: Any, batch: dict[str, Any], prefix: str = ""
    ) -> Any:
        """What follows the tables: positions, norm, dropout, projection; of the decoder with its ``prefix``."""
        config, dtype = self.config, self.dtype
        if positions is not None and positions.acts_on_embeddings:
            facts = {name: batch[name] for name in ("token_ids", "padding_mask", "document_ids")}
            x = positions(x, position_ids, **facts)
        if config.embedding_norm:
            x = self.norm(f"{prefix}embedding_norm")(x, **self.condition)
        x = Dropout(config.dropout, dtype=dtype, name=f"{prefix}embedding_dropout")(x)
        if config.projects_embeddings:
            x = keras.layers.Dense(
                config.hidden_size, use_bias=config.feedforward_bias, dtype=dtype, name=f"{prefix}embedding_projection"
            )(x)
        return x

    def attention(self, name: str, view: View | None) -> Any:
        """An attention layer of the configured kind; without a view one that attends to another sequence."""
        config = self.config
        inside = None
        more: dict[str, Any] = {"cross": True}
        if view is not None:
            inside = view.positions if "tables" in view.arguments else None
            kind = attention_kinds.find(config.attention)
            more = {"mask": view.mask} if kind.takes_facts else {"causal": view.causal}
            if kind.whole_block:
                more |= {"intermediate_size": config.intermediate_size, "activation": config.activation}
        if "intermediate_size" not in more:
            more |= {"value_size": config.value_dim, "output_bias": config.attention_output_bias}
        return attention_kinds.make(
            config.attention,
            config.attention_options,
            heads=config.num_heads,
            key_size=config.key_dim,
            key_heads=config.key_heads,
            query_key_norm=config.norm_epsilon if config.query_key_norm else None,
            positions=inside,
            dropout=config.attention_dropout,
            use_bias=config.attention_bias,
            initializer=config.initializer,
            dtype=self.dtype,
            name=name,
            **more,
        )

    def block(
        self,
        x: Any,
        block: int,
        view: View,
        scores: Any = None,
        prefix: str = "",
        cross: dict[str, Any] | None = None,
        content: Any = None,
    ) -> tuple[Any, Any]:
        """One block: attention and a feed-forward part, or one layer that is both; scores go on to the next one.

        With ``cross``, arguments of a call, attention to the encoder stands between the two. With ``content``,
        queries come from ``x``, and keys and values from there.
        """
        config = self.config
        kind = attention_kinds.find(config.attention)
        name = f"{prefix}block_{config.group(block)}"
        attention = self.shared(f"{name}_attention", lambda name: self.attention(name, view))
        arguments = dict(view.arguments)
        keeps = getattr(attention, "residual_scores", False)
        if keeps:
            arguments["previous_scores"] = scores
        pre, post = config.norm_order == "pre", config.norm_order == "post"
        before = pre and (config.first_norm or block > 0 or bool(prefix))
        x, scores = self.sublayer(
            x, attention, arguments, before=before, after=post, keeps_scores=keeps, content=content
        )
        if cross is not None:
            layer = self.attention(f"{name}_cross_attention", None)
            x, _ = self.sublayer(x, layer, cross, before=pre, after=post)
        if kind.whole_block:
            return x, scores
        feedforward = self.shared(
            f"{name}_feedforward",
            lambda name: FeedForward(
                config.intermediate_size,
                config.activation,
                config.gated,
                config.feedforward_bias,
                config.initializer,
                dtype=self.dtype,
                name=name,
            ),
        )
        both = config.norm_order == "feedforward"
        x, _ = self.sublayer(x, feedforward, {}, before=both or pre, after=both or post)
        return x, scores

    def sublayer(
        self,
        x: Any,
        layer: Any,
        arguments: dict[str, Any],
        *,
        before: bool,
        after: bool,
        keeps_scores: bool = False,
        content: Any = None,
    ) -> tuple[Any, Any]:
        """``layer`` with its dropout, residual and norms; the second result is what else the layer gives."""
        name, more = layer.name, None
        inner = f"{name}_input_norm" if after else f"{name}_norm"

        def enter(t: Any) -> Any:
            return self.shared(inner, self.norm)(t, **self.condition) if before else t

        y = layer(enter(x), **arguments) if content is None else layer(enter(content), queries=enter(x), **arguments)
        if keeps_scores:
            y, more = y
        y = self.shared(f"{name}_dropout", lambda n: Dropout(self.config.dropout, dtype=self.dtype, name=n))(y)
        x = self.shared(f"{name}_residual", lambda n: keras.layers.Add(dtype=self.dtype, name=n))([x, y])
        return (self.shared(f"{name}_norm", self.norm)(x, **self.condition) if after else x), more

    def _heads(self, x: Any, embedding: TokenEmbedding, targets: Any = None) -> dict[str, Any]:
        """What heads make of ``x``; the LM head of ``targets`` where there are any."""
        config, outputs = self.config, {}
        if "lm" in self.heads:
            hidden = x if targets is None else targets
            table = {"table": embedding(hidden, table=True)} if config.tie_embeddings else {}
            outputs["logits"] = LanguageModelHead(
                embedding.vocabulary_size,
                embedding.size,
                transform=config.lm_transform,
                project=config.embedding_dim != config.hidden_size,
                activation=config.lm_activation or config.activation,
                norm=config.norm,
                norm_options=self.norm_options,
                dense_bias=config.feedforward_bias if config.lm_dense_bias is None else config.lm_dense_bias,
                bias=config.lm_bias,
                tied=config.tie_embeddings,
                scale=config.lm_scale,
                initializer=config.initializer,
                dtype=self.dtype,
                name="lm_head",
            )(hidden, **table, **self.condition)
        if "discriminator" in self.heads:
            outputs["discriminator_logits"] = DiscriminatorHead(
                activation=config.activation,
                use_bias=config.feedforward_bias,
                initializer=config.initializer,
                dtype=self.dtype,
                name="discriminator_head",
            )(x)
        if "pooler" in self.heads or "nsp" in self.heads:
            pooled = FirstTokenPooler(
                config.pooler_activation,
                use_bias=config.feedforward_bias,
                initializer=config.initializer,
                dtype=self.dtype,
                name="pooler",
            )(x)
            if "pooler" in self.heads:
                outputs["pooled_output"] = pooled
            if "nsp" in self.heads:
                outputs["nsp_logits"] = keras.layers.Dense(2, dtype="float32", name="nsp_head")(pooled)
        return outputs
