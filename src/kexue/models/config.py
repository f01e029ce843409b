"""`TransformerConfig`: everything that decides the shape and numerics of a model."""

import dataclasses
import difflib
import json
import typing
from collections.abc import Mapping
from typing import Any

from kexue.errors import ConfigError
from kexue.nn import masks
from kexue.nn.attention import registry as attention
from kexue.nn.positions import registry as positions

__all__ = ["TransformerConfig"]

_POSITIVE = (
    "vocabulary_size",
    "hidden_size",
    "num_layers",
    "num_heads",
    "intermediate_size",
    "max_length",
    "key_size",
    "value_size",
    "embedding_size",
    "condition_size",
    "condition_hidden_size",
    "key_heads",
    "local_window",
    "global_every",
    "block_groups",
    "decoder_layers",
)


def _check_kind(name: str, value: Any, kind: Any) -> None:
    """Raise unless ``value`` is of the annotated kind; a bool is no number, an int is a float."""
    if kind is Any:
        return
    kinds = tuple(typing.get_origin(k) or k for k in typing.get_args(kind) or (kind,))
    fits = isinstance(value, kinds) or (float in kinds and isinstance(value, int))
    if not fits or (isinstance(value, bool) and bool not in kinds):
        words = " or ".join("None" if k is type(None) else k.__name__ for k in kinds)
        raise ConfigError(f"{name} must be {words}. Received: {name}={value!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Shape and numerics of a Transformer. All fields are plain data; an unknown one is an error.

    A family's file in ``kexue.models.families`` maps official configurations to this one and back.
    """

    family: str = "bert"
    """Whose weight names and configuration the checkpoint formats use."""
    vocabulary_size: int
    """Rows of the token table."""
    hidden_size: int
    """Width of the residual stream."""
    num_layers: int
    """Number of blocks."""
    num_heads: int
    """Attention heads in a block."""
    intermediate_size: int
    """Width inside the feed-forward part."""
    key_size: int | None = None
    """Size of queries and keys in a head; ``hidden_size / num_heads`` when None."""
    value_size: int | None = None
    """Size of values in a head; ``hidden_size / num_heads`` when None."""
    embedding_size: int | None = None
    """Width of the embeddings, projected to ``hidden_size`` when it differs (factorised embeddings)."""
    embedding_projection: bool | None = None
    """The embeddings are projected; only where the widths differ when None (always in ALBERT)."""
    max_length: int = 512
    """Rows of the position table, or the length a model without one was trained for."""
    num_segments: int = 2
    """Rows of the segment table; 0 for none."""
    shared_segments: bool = False
    """Segment ids are rows of the token table, without a table of their own; a batch may lack them (CDialGPT)."""
    mask: Any = "bidirectional"
    """Default attention mask: a name or configuration of `kexue.nn.masks`."""
    position: Any = "learned"
    """``"none"``, a name of `kexue.nn.positions.registry.KINDS`, or a `PositionEncoding`."""
    position_options: dict = dataclasses.field(default_factory=dict)
    """Arguments of the encoding beside those that the model's sizes decide, such as ``{"base": 500.0}``."""
    position_offset: int = 0
    """Added to positions before the table lookup (2 in RoBERTa, whose rows 0 and 1 are unused)."""
    positions_from_padding: bool = False
    """Positions count real tokens only (RoBERTa)."""
    attention: Any = "softmax"
    """A name of `kexue.nn.attention.registry.KINDS`."""
    attention_options: dict = dataclasses.field(default_factory=dict)
    """Further arguments of the attention layers, such as ``{"scale": "log_n", "talking": "pre"}``."""
    key_heads: int | None = None
    """Heads of keys and values, where several queries share one (grouped queries)."""
    query_key_norm: bool = False
    """An RMS norm over each query and key."""
    local_window: int | None = None
    """Blocks between the global ones see this many tokens on each side only (ModernBERT)."""
    global_every: int = 1
    """With ``local_window``: block 0 and each ``global_every``-th after it see the whole sequence."""
    local_position_options: dict | None = None
    """``position_options`` of the local blocks, where they differ."""
    block_groups: int | None = None
    """Number of distinct blocks, each used ``num_layers / block_groups`` times in a row (1 in ALBERT)."""
    decoder_layers: int | None = None
    """Blocks of a decoder whose cross-attention sees the blocks above (T5); None for no decoder."""
    activation: str = "gelu"
    """Of the feed-forward part; ``"gelu"`` is the exact form."""
    gated: bool = False
    """Gated feed-forward (GLU)."""
    norm: str = "layer"
    """``"layer"`` or ``"rms"``."""
    norm_epsilon: float = 1e-12
    """Added to the variance."""
    norm_scale: bool = True
    """Norms have a gain."""
    norm_bias: bool = True
    """Layer norms have a bias."""
    norm_order: str = "post"
    """``"post"``: normalise after the residual of each sub-layer; ``"pre"``: before each sub-layer, and once at the
    end; ``"feedforward"``: before the feed-forward part and after its residual, attention bare (GPT2-ML)."""
    first_norm: bool = True
    """With ``norm_order="pre"``: block 0 normalises before its attention (not in ModernBERT)."""
    embedding_norm: bool = True
    """Normalise the sum of embeddings."""
    attention_bias: bool = True
    """Projections of attention have biases."""
    attention_output_bias: bool | None = None
    """The output projection of attention has one; as ``attention_bias`` when None."""
    feedforward_bias: bool = True
    """Projections of the feed-forward part have biases."""
    dropout: float = 0.1
    """After embeddings and sub-layers."""
    attention_dropout: float = 0.1
    """On attention probabilities."""
    initializer: float | dict[str, int] = 0.02
    """Of matrices; see `kexue.nn.initializers.make`."""
    condition_size: int | None = None
    """Size of a vector that conditions every norm, that of the LM head too (input ``condition``)."""
    condition_per_token: bool = False
    """The input ``condition`` is (batch, length, condition_size), a vector for each token, not for each sequence."""
    condition_hidden_size: int | None = None
    """Each norm maps the condition to this size first; None: it takes the condition as it is."""
    condition_activation: str = "linear"
    """After that map."""
    lm_transform: bool = True
    """The language-model head has a dense map, activation and norm before the token table."""
    lm_activation: str | None = None
    """Activation of that map; ``activation`` when None."""
    lm_dense_bias: bool | None = None
    """That map has a bias; as ``feedforward_bias`` when None."""
    lm_bias: bool = True
    """The logits have a bias."""
    lm_scale: float = 1.0
    """Hidden states are multiplied by this before the logits (T5)."""
    tie_embeddings: bool = True
    """The logits use the token table."""
    pad_id: int = 0
    """Id of the padding token; kept for configurations of other libraries, attention uses ``padding_mask``."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_kind(field.name, getattr(self, field.name), field.type)
        if not isinstance(self.position, str | Mapping):
            object.__setattr__(self, "position", positions.serialize(self.position))
        positions.check(self.position)
        attention.check(self.attention)
        if not isinstance(self.mask, str | Mapping):  # plain data, so that the configuration can be written
            object.__setattr__(self, "mask", masks.to_config(masks.get(self.mask)))
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be a positive integer. Received: {name}={value!r}")
        for name in ("num_segments", "position_offset"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative. Received: {name}={getattr(self, name)}")
        if (self.key_size is None or self.value_size is None) and self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size must be a multiple of num_heads unless key_size and value_size are given. Received: "
                f"hidden_size={self.hidden_size}, num_heads={self.num_heads}"
            )
        if self.norm_order not in ("post", "pre", "feedforward"):
            raise ConfigError(f"norm_order must be 'post', 'pre' or 'feedforward'. Received: {self.norm_order!r}")
        if self.block_groups is not None and self.num_layers % self.block_groups:
            raise ConfigError(
                f"block_groups must divide num_layers. Received: block_groups={self.block_groups}, "
                f"num_layers={self.num_layers}"
            )
        if self.shared_segments and self.num_segments:
            raise ConfigError(f"shared_segments needs num_segments=0. Received: num_segments={self.num_segments}")
        if self.decoder_layers is not None and (self.local_window is not None or self.block_groups is not None):
            raise ConfigError("a model with decoder_layers has no local_window and no block_groups.")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1). Received: {name}={getattr(self, name)}")
        if self.embedding_projection is False and self.embedding_dim != self.hidden_size:
            raise ConfigError(
                "embeddings of another width than hidden_size must be projected. Received: embedding_projection=False, "
                f"embedding_size={self.embedding_dim}, hidden_size={self.hidden_size}"
            )
        if self.condition_size is None and (self.condition_per_token or self.condition_hidden_size is not None):
            raise ConfigError("condition_per_token and condition_hidden_size need a condition_size.")
        if self.norm_epsilon <= 0:
            raise ConfigError(f"norm_epsilon must be positive. Received: norm_epsilon={self.norm_epsilon}")

    @property
    def num_blocks(self) -> int:
        """Blocks with weights of their own."""
        return self.num_layers if self.block_groups is None else self.block_groups

    @property
    def key_dim(self) -> int:
        return self.hidden_size // self.num_heads if self.key_size is None else self.key_size

    @property
    def value_dim(self) -> int:
        return self.hidden_size // self.num_heads if self.value_size is None else self.value_size

    @property
    def embedding_dim(self) -> int:
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    @property
    def projects_embeddings(self) -> bool:
        """A dense map stands between embeddings and blocks."""
        different = self.embedding_dim != self.hidden_size
        return different if self.embedding_projection is None else self.embedding_projection

    def replace(self, **changes: Any) -> "TransformerConfig":
        """A copy with some fields changed.

        Raises:
            ConfigError: an unknown field.
        """
        # Options of one encoding or attention mean nothing to another.
        for name in ("position", "attention"):
            if name in changes and changes[name] != getattr(self, name):
                changes = {f"{name}_options": {}} | changes
                if name == "position" and self.local_position_options is not None:
                    changes = {"local_position_options": None} | changes
        return self.from_dict(self.to_dict() | changes)

    def is_global(self, block: int) -> bool:
        """The block sees the whole sequence, not a window."""
        return self.local_window is None or block % self.global_every == 0

    def group(self, block: int) -> int:
        """Which set of weights the block has: itself unless blocks are shared."""
        return block if self.block_groups is None else block * self.block_groups // self.num_layers

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TransformerConfig":
        """The inverse of `to_dict`.

        Raises:
            ConfigError: an unknown field, or a required one that is missing.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name in data:
            if name not in fields:
                near = difflib.get_close_matches(name, fields, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else f" Known fields: {', '.join(sorted(fields))}."
                raise ConfigError(f"unknown configuration field {name!r}.{hint}")
        absent = dataclasses.MISSING
        missing = [
            n for n, f in fields.items() if f.default is absent and f.default_factory is absent and n not in data
        ]
        if missing:
            raise ConfigError(f"the configuration lacks {', '.join(missing)}. Received: {json.dumps(dict(data))}")
        return cls(**data)
