"""The decoder of an encoder-decoder: causal blocks with attention to the encoder's output (T5).

It shares the token table and all settings of its blocks with the encoder; its layers are named ``decoder_...``.
"""

from typing import TYPE_CHECKING, Any

from kexue.errors import ConfigError
from kexue.nn import masks
from kexue.nn.attention import registry as attention_kinds
from kexue.nn.attention.plumbing import CrossMask, PositionIds
from kexue.nn.embeddings import TokenEmbedding

if TYPE_CHECKING:
    from kexue.models.assembly import Assembly

__all__ = ["OPTIONAL", "PREFIX", "build"]

PREFIX = "decoder_"
OPTIONAL = {"decoder_padding_mask": "bool", "decoder_position_ids": "int32", "decoder_document_ids": "int32"}
"""Inputs beside ``decoder_token_ids``."""


def build(assembly: "Assembly", embedding: TokenEmbedding, encoder_output: Any) -> Any:
    """The decoder's output ``(batch, decoder length, hidden_size)``.

    Args:
        assembly: of the model; its encoder is built.
        embedding: the token table.
        encoder_output: ``(batch, length, hidden_size)``.

    Raises:
        ConfigError: an attention kind that cannot look at another sequence.
    """
    config, inputs = assembly.config, assembly.inputs
    if attention_kinds.find(config.attention).takes_facts or config.attention_options.get("residual_scores"):
        raise ConfigError(
            "decoder_layers needs attention='softmax' without residual_scores: no other kind attends to the encoder. "
            f"Received: attention={config.attention!r}, attention_options={config.attention_options!r}"
        )
    names = ("token_ids", "padding_mask", "position_ids", "document_ids")
    batch = {name: inputs[f"{PREFIX}{name}"] for name in names}
    ids = batch["token_ids"]
    mask = masks.Causal()
    # Keys after a query do not exist here, whatever the encoder's encoding says of its own.
    options = {name: value for name, value in config.position_options.items() if name != "bidirectional"}
    positions = assembly.positions(options, f"{PREFIX}position", mask)
    position_ids = None
    if positions is not None:
        position_ids = PositionIds(
            positions.limit, config.positions_from_padding, name=f"{PREFIX}position_ids_or_count"
        )(ids, batch["position_ids"], batch["document_ids"], batch["padding_mask"])
    view = assembly.view(mask, positions, position_ids, prefix=PREFIX, batch=batch)
    visible = CrossMask(name="cross_attention_mask")(
        ids, inputs["padding_mask"], inputs["document_ids"], batch["document_ids"]
    )
    cross = {"attention_mask": visible, "context": encoder_output}
    x = assembly.after_embedding(embedding(ids), positions, position_ids, batch, PREFIX)
    for block in range(config.decoder_layers or 0):
        x, _ = assembly.block(x, block, view, prefix=PREFIX, cross=cross)
    if config.norm_order == "pre":
        x = assembly.norm(f"{PREFIX}final_norm")(x, **assembly.condition)
    return x
