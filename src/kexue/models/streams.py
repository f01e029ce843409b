"""The second stream of XLNet: it predicts tokens, and so never sees the one that it predicts.

The content stream is the model as it is; each of its tokens sees itself and what the mask shows. The target stream
begins with one learned vector at each place, has the same weights, takes keys and values from the content stream, and
sees what the mask shows without the token itself. With ``Permuted`` masks that is the permutation language model.

A first token in the order sees nothing: it is predicted from its place alone.

Source: Yang et al., "XLNet", arXiv 1906.08237; kexue.fm article 6933.
"""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import masks
from kexue.nn.attention import registry as attention_kinds
from kexue.nn.attention.plumbing import AttentionMask, PositionTables
from kexue.nn.dropout import Dropout
from kexue.nn.embeddings import TokenEmbedding
from kexue.nn.positions.base import PositionEncoding

if TYPE_CHECKING:
    from kexue.models.assembly import Assembly

__all__ = ["TakeAt", "run"]

SELF = masks.Window(0, 0)


@keras.saving.register_keras_serializable(package="kexue")
class TakeAt(keras.layers.Layer):
    """Entries of ``x`` along ``axis`` at ``places`` (batch, targets); ``x`` itself without places, None without x."""

    def __init__(self, axis: int = 1, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.axis = axis
        self.built = True

    def call(self, x: Any, places: Any = None) -> Any:
        if x is None or places is None:
            return x
        rank, batch = len(x.shape), ops.shape(places)[0]
        places = ops.cast(places, "int32")
        shape = [batch if n == 0 else ops.shape(x)[n] for n in range(rank)]
        x = ops.broadcast_to(x, shape)
        wide = ops.reshape(places, [batch, *[-1 if n == self.axis else 1 for n in range(1, rank)]])
        shape[self.axis] = ops.shape(places)[1]
        return ops.take_along_axis(x, ops.broadcast_to(wide, shape), axis=self.axis)

    def compute_output_spec(self, x: Any, places: Any = None) -> Any:
        shape = [None if n == self.axis else size for n, size in enumerate(x.shape)]
        return keras.KerasTensor(shape, dtype=x.dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"axis": self.axis}


def run(
    assembly: "Assembly", embedding: TokenEmbedding, x: Any, positions: PositionEncoding | None, position_ids: Any
) -> tuple[Any, Any]:
    """Outputs of the content stream ``(batch, length, size)`` and of the target stream ``(batch, targets, size)``.

    Args:
        assembly: of the model.
        embedding: the token table, with the vector that the target stream begins with.
        x: embeddings of the tokens.
        positions: encoding inside attention.
        position_ids: of the tokens.

    Raises:
        ConfigError: parts that a second stream cannot have.
    """
    from kexue.models.assembly import View

    config, batch = assembly.config, assembly.inputs
    kind = attention_kinds.find(config.attention)
    plain = (
        not kind.takes_facts
        and config.local_window is None
        and config.decoder_layers is None
        and config.convolution_size is None
        and not config.condition_per_token
        and not config.attention_options.get("residual_scores")
    )
    if not plain or positions is None or positions.acts_on_embeddings or config.projects_embeddings:
        raise ConfigError(
            "two_stream=True needs positions inside attention (such as 'transformer_xl' or 'rotary'), attention with a "
            "dense mask, embeddings as wide as the model, and no windows, decoder, convolution, residual scores or "
            "conditions of each token. "
            f"Received: position={config.position!r}, attention={config.attention!r}"
        )
    facts = [batch.get(n) for n in ("token_ids", "padding_mask", "segment_ids", "document_ids", "order")]
    places = batch["target_positions"]
    segments = batch["segment_ids"] if positions.uses_segments else None

    tables = PositionTables(positions, name="position_tables")

    def view(mask: masks.Mask, suffix: str, at: Any) -> View:
        visible = AttentionMask(mask, name=f"attention_mask{suffix}")(*facts)
        if at is None:
            more = {"query_segments": segments} if positions.uses_segments else {}
            made = tables(position_ids, **more)
        else:
            visible = TakeAt(2, name="target_visible")(visible, at)
            queries = TakeAt(name="target_position_ids")(position_ids, at)
            more = {}
            if positions.uses_segments:
                theirs = TakeAt(name="target_segments")(segments, at)
                more = {"query_segments": theirs, "key_segments": segments}
            made = tables(queries, position_ids, **more)
        return View(positions, mask, False, {"attention_mask": visible, "tables": made})

    # Written so that no rule is left to a kernel's causal flag, which the two streams would have to share.
    content = view(assembly.mask | SELF, "", None)
    target = view(assembly.mask & ~SELF, "_target", places)
    g = TakeAt(name="target_start")(embedding(batch["token_ids"], hidden=True), places)
    g = Dropout(config.dropout, dtype=assembly.dtype, name="target_dropout")(g)
    for block in range(config.num_layers):
        before = x
        x, _ = assembly.block(before, block, content)
        g, _ = assembly.block(g, block, target, content=before)
    return assembly.after_blocks(x), assembly.after_blocks(g)
