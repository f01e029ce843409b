"""ModernBERT: pre-norm, rotary positions, gated feed-forward, most blocks local (Warner et al., arXiv 2412.13663).

Every ``global_attn_every_n_layers``-th block sees the whole sequence, the others ``local_attention // 2`` tokens on
each side, with another base of the rotary angles. One rate serves all dropout but attention's.
"""

from collections.abc import Mapping
from typing import Any

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row

__all__ = ["FAMILY"]

_GLOBAL_BASE, _LOCAL_BASE = 160000.0, 10000.0
_FULL, _SLIDING = "full_attention", "sliding_attention"


def _rows() -> tuple[Row, ...]:
    maps = {
        "block_{i}_attention/qkv_": "model.layers.{i}.attn.Wqkv",
        "block_{i}_attention/output_": "model.layers.{i}.attn.Wo",
        "block_{i}_feedforward/up_": "model.layers.{i}.mlp.Wi",
        "block_{i}_feedforward/down_": "model.layers.{i}.mlp.Wo",
        "lm_head/dense_": "head.dense",
    }
    norms = {
        "embedding_norm": "model.embeddings.norm",
        "block_{i}_attention_norm": "model.layers.{i}.attn_norm",
        "block_{i}_feedforward_norm": "model.layers.{i}.mlp_norm",
        "final_norm": "model.final_norm",
        "lm_head/norm": "head.norm",
    }
    rows = [Row("token_embedding/table", "same", "model.embeddings.tok_embeddings.weight", ())]
    for ours, theirs in maps.items():
        group = "lm" if ours.startswith("lm_head") else None
        rows.append(Row(f"{ours}kernel", "dense", f"{theirs}.weight", (), group))
        rows.append(Row(f"{ours}bias", "same", f"{theirs}.bias", (), group))
    for ours, theirs in norms.items():
        group = "lm" if ours.startswith("lm_head") else None
        rows.append(Row(f"{ours}/gain", "same", f"{theirs}.weight", (), group))
        rows.append(Row(f"{ours}/bias", "same", f"{theirs}.bias", (), group))
    rows.append(Row("lm_head/bias", "same", "decoder.bias", (), "lm"))
    rows.append(Row("lm_head/output_table", "same", "decoder.weight", (), "lm"))
    return tuple(rows)


def _global_every(data: Mapping[str, Any], layers: int) -> int:
    """Distance of the global blocks, from a number or a list of what each block is."""
    kinds = data.get("layer_types")
    stated = data.get("global_attn_every_n_layers")
    if kinds is None:
        return 3 if stated is None else stated
    for every in [*([stated] if stated else []), *range(1, layers + 1)]:
        if list(kinds) == [_FULL if i % every == 0 else _SLIDING for i in range(layers)]:
            return every
    raise ConfigError(f"expected layer_types with {_FULL} in every n-th place from the first. Received: {kinds}")


def _base(data: Mapping[str, Any], kind: str, old: str, default: float) -> float:
    angles = (data.get("rope_parameters") or {}).get(kind) or {}
    if angles.get("rope_type", "default") != "default" or data.get("rope_scaling"):
        raise ConfigError(f"expected rotary positions without scaling. Received: {angles or data['rope_scaling']}")
    return float(angles.get("rope_theta") or data.get(old) or default)


def _from_official(data: Mapping[str, Any]) -> TransformerConfig:
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    missing = [name for name in sizes if name not in data]
    if missing:
        raise ConfigError(f"the configuration lacks {', '.join(missing)}. It has: {', '.join(sorted(data))}.")
    get, layers = data.get, data["num_hidden_layers"]
    return TransformerConfig(
        family="modernbert",
        vocabulary_size=data["vocab_size"],
        hidden_size=data["hidden_size"],
        num_layers=layers,
        num_heads=data["num_attention_heads"],
        intermediate_size=data["intermediate_size"],
        max_length=get("max_position_embeddings", 8192),
        num_segments=0,
        position="rotary",
        position_options={"layout": "half", "base": _base(data, _FULL, "global_rope_theta", _GLOBAL_BASE)},
        local_position_options={"layout": "half", "base": _base(data, _SLIDING, "local_rope_theta", _LOCAL_BASE)},
        local_window=get("local_attention", 128) // 2,
        global_every=_global_every(data, layers),
        activation=get("hidden_activation", "gelu"),
        gated=True,
        norm_order="pre",
        first_norm=False,
        norm_epsilon=get("norm_eps", 1e-5),
        norm_bias=get("norm_bias", False),
        attention_bias=get("attention_bias", False),
        feedforward_bias=get("mlp_bias", False),
        dropout=get("mlp_dropout", 0.0),
        attention_dropout=get("attention_dropout", 0.0),
        initializer=get("initializer_range", 0.02),
        lm_activation=get("classifier_activation", "gelu"),
        lm_dense_bias=get("classifier_bias", False),
        lm_bias=get("decoder_bias", True),
        tie_embeddings=get("tie_word_embeddings", True),
        pad_id=50283 if get("pad_token_id", 50283) is None else get("pad_token_id", 50283),
    )


def _to_official(config: TransformerConfig) -> dict[str, Any]:
    if config.position != "rotary" or config.local_window is None:
        raise ConfigError(
            "ModernBERT's official format has rotary positions and local blocks. Received: "
            f"position={config.position!r}, local_window={config.local_window}; use format='kexue'."
        )
    if config.position_options.get("layout") != "half":
        raise ConfigError("ModernBERT's rotary positions have the layout 'half'; use format='kexue'.")
    layers, every = config.num_layers, config.global_every
    local = config.position_options if config.local_position_options is None else config.local_position_options
    bases = {_FULL: config.position_options.get("base", 1e4), _SLIDING: local.get("base", 1e4)}
    return {
        "model_type": "modernbert",
        "vocab_size": config.vocabulary_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_length,
        "global_attn_every_n_layers": every,
        "layer_types": [_FULL if i % every == 0 else _SLIDING for i in range(layers)],
        "local_attention": 2 * config.local_window,
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()},
        "global_rope_theta": bases[_FULL],
        "local_rope_theta": bases[_SLIDING],
        "hidden_activation": config.activation,
        "norm_eps": config.norm_epsilon,
        "norm_bias": config.norm_bias,
        "attention_bias": config.attention_bias,
        "mlp_bias": config.feedforward_bias,
        "embedding_dropout": config.dropout,
        "mlp_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "initializer_range": config.initializer if isinstance(config.initializer, float) else 0.02,
        "classifier_activation": config.lm_activation or config.activation,
        "classifier_bias": config.feedforward_bias if config.lm_dense_bias is None else config.lm_dense_bias,
        "decoder_bias": config.lm_bias,
        "tie_word_embeddings": config.tie_embeddings,
        "pad_token_id": config.pad_id,
        "bos_token_id": None,
        "eos_token_id": None,
        "cls_token_id": None,
        "sep_token_id": None,
    }


FAMILY = Family(
    name="modernbert",
    model_types=("modernbert",),
    rows=_rows(),
    prefix="model.",
    from_official=_from_official,
    to_official=_to_official,
    architectures={None: "ModernBertModel", "lm": "ModernBertForMaskedLM"},
    tied="decoder.weight",
)
