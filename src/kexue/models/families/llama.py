"""Decoders in LLaMA's shape: RMS norms first, rotary positions, gated SiLU, grouped queries, no biases.

LLaMA (Touvron et al., arXiv 2302.13971) and Mistral (2310.06825), which has its names; Qwen2 (2407.10671) with biases
on queries, keys and values; Qwen3 (2505.09388) with a norm over queries and keys. Rotary positions pair feature i with
feature i + d/2. There is no TensorFlow layout.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row, check_parts
from kexue.models.families.gpt import DECODER_PARTS
from kexue.nn import masks
from kexue.nn.positions.registry import without_defaults

__all__ = ["LLAMA", "QWEN2", "QWEN3"]

_SCALINGS = ("linear", "llama3", "yarn")


def _rotary(data: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the rotary positions, from ``rope_parameters`` or the older ``rope_theta`` and ``rope_scaling``."""
    rope = dict(data.get("rope_parameters") or data.get("rope_scaling") or {})
    kind = rope.pop("rope_type", None) or rope.pop("type", None) or "default"
    rope.pop("type", None)
    base = rope.pop("rope_theta", None) or data.get("rope_theta") or 10000.0
    part = rope.pop("partial_rotary_factor", None) or data.get("partial_rotary_factor") or 1.0
    if part != 1.0:
        raise ConfigError(f"partial_rotary_factor={part} is not supported by this family; expected 1.0.")
    options: dict[str, Any] = {"layout": "half", "base": float(base)}
    if kind == "default":
        return options
    if kind not in _SCALINGS:
        raise ConfigError(
            f"rope_type={kind!r} is not supported; expected 'default', {', '.join(map(repr, _SCALINGS))}."
        )
    length = rope.pop("original_max_position_embeddings", None)
    scaling = {"kind": kind} | {name: value for name, value in rope.items() if value is not None}
    if kind != "linear":
        scaling["original_length"] = length or data.get("max_position_embeddings", 2048)
    return options | {"scaling": scaling}


def _rotary_official(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `_rotary`."""
    options = without_defaults("rotary", config.position_options)
    beyond = set(options) - {"layout", "base", "scaling"}
    scaling = dict(options.get("scaling") or {"kind": "default"})
    kind = scaling.pop("kind")
    if config.position != "rotary" or options.get("layout") != "half" or beyond or kind not in ("default", *_SCALINGS):
        raise ConfigError(
            f"the official format of {config.family} has rotary positions of layout 'half', scaled in the ways "
            f"{', '.join(_SCALINGS)} or not. Received: position={config.position!r}, "
            f"position_options={config.position_options!r}; use format='kexue'."
        )
    rope = {"rope_type": kind, "rope_theta": options.get("base", 10000.0)} | scaling
    if "original_length" in rope:
        rope["original_max_position_embeddings"] = rope.pop("original_length")
    return rope


def _fields(data: Mapping[str, Any]) -> dict[str, Any]:
    needed = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    missing = [name for name in needed if data.get(name) is None]
    if missing:
        raise ConfigError(f"the configuration lacks {', '.join(missing)}. It has: {', '.join(sorted(data))}.")
    heads = data["num_attention_heads"]
    key_heads = data.get("num_key_value_heads")
    fields = {
        "vocabulary_size": data["vocab_size"],
        "hidden_size": data["hidden_size"],
        "num_layers": data["num_hidden_layers"],
        "num_heads": heads,
        "key_heads": None if key_heads in (None, heads) else key_heads,
        "intermediate_size": data["intermediate_size"],
        "max_length": data.get("max_position_embeddings", 2048),
        "num_segments": 0,
        "mask": "causal",
        "position": "rotary",
        "position_options": _rotary(data),
        "activation": data.get("hidden_act", "silu"),
        "gated": True,
        "norm": "rms",
        "norm_bias": False,
        "norm_epsilon": data.get("rms_norm_eps", 1e-6),
        "norm_order": "pre",
        "embedding_norm": False,
        "attention_bias": False,
        "feedforward_bias": False,
        "dropout": 0.0,
        "attention_dropout": data.get("attention_dropout") or 0.0,
        "initializer": data.get("initializer_range", 0.02),
        "lm_transform": False,
        "lm_bias": False,
        "tie_embeddings": data.get("tie_word_embeddings", False),
        "pad_id": data.get("pad_token_id") or 0,
    }
    size = data.get("head_dim")
    if size is not None and size * heads != data["hidden_size"]:
        fields |= {"key_size": size, "value_size": size}
    return fields | _windows(data)


def _windows(data: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of sliding windows. A window of w is the token itself and w - 1 before it."""
    layers, window = data["num_hidden_layers"], data.get("sliding_window")
    kinds = data.get("layer_types")
    if data.get("model_type") in ("qwen2", "qwen3"):
        window = window if data.get("use_sliding_window", False) else None
        first = data.get("max_window_layers", 28)
        kinds = kinds or ["full_attention" if i < first else "sliding_attention" for i in range(layers)]
    elif kinds is None:
        kinds = ["sliding_attention"] * layers
    if window is None:
        return {}
    whole = [i for i, kind in enumerate(kinds[:layers]) if kind == "full_attention"]
    if len(whole) == layers:
        return {}
    if not whole:
        return {"mask": masks.to_config(masks.Window(window - 1, 0))}
    every = whole[1] - whole[0] if len(whole) > 1 else layers
    if whole != list(range(0, layers, every)) or window < 2:
        raise ConfigError(
            f"sliding_window={window} with these layer_types is not supported: full attention is expected in all "
            f"layers, in none, or in layer 0 and every n-th after it. Received: full attention in layers {whole} of "
            f"{layers}"
        )
    return {"local_window": window - 1, "global_every": every}


def _official(config: TransformerConfig) -> dict[str, Any]:
    check_parts(
        config,
        DECODER_PARTS
        | {
            "attention_options": {},
            "gated": True,
            "norm": "rms",
            "norm_order": "pre",
            "first_norm": True,
            "shared_segments": False,
            "local_position_options": None,
            "dropout": 0.0,
        },
    )
    if config.key_dim != config.value_dim:
        raise ConfigError(
            f"the official format of {config.family} has one size of heads. Received: key_size={config.key_dim}, "
            f"value_size={config.value_dim}; use format='kexue'."
        )
    return {
        "vocab_size": config.vocabulary_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.key_heads or config.num_heads,
        "head_dim": config.key_dim,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_length,
        "hidden_act": config.activation,
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": _rotary_official(config),
        "attention_dropout": config.attention_dropout,
        "initializer_range": config.initializer if isinstance(config.initializer, float) else 0.02,
        "pad_token_id": config.pad_id or None,
        "tie_word_embeddings": config.tie_embeddings,
    }


def _window_official(config: TransformerConfig) -> dict[str, Any]:
    """Qwen's fields of sliding windows; a mask of all layers is refused by who saves."""
    if config.local_window is None:
        return {"use_sliding_window": False}
    kinds = ["full_attention" if config.is_global(i) else "sliding_attention" for i in range(config.num_layers)]
    return {"use_sliding_window": True, "sliding_window": config.local_window + 1, "layer_types": kinds}


def _llama_from(data: Mapping[str, Any]) -> TransformerConfig:
    biases = {
        "attention_bias": data.get("attention_bias", False),
        "feedforward_bias": data.get("mlp_bias", False),
    }
    return TransformerConfig(family="llama", **_fields(data) | biases)


def _llama_to(config: TransformerConfig) -> dict[str, Any]:
    check_parts(config, {"local_window": None, "query_key_norm": False})
    biases = {"attention_bias": config.attention_bias, "mlp_bias": config.feedforward_bias}
    return {"model_type": "llama"} | _official(config) | biases


def _qwen2_from(data: Mapping[str, Any]) -> TransformerConfig:
    return TransformerConfig(family="qwen2", **_fields(data) | {"attention_bias": True, "attention_output_bias": False})


def _qwen2_to(config: TransformerConfig) -> dict[str, Any]:
    check_parts(config, {"query_key_norm": False, "feedforward_bias": False})
    data = _official(config)
    if data["head_dim"] * config.num_heads == config.hidden_size:
        del data["head_dim"]  # Qwen2 has no such field, though it heeds it
    return {"model_type": "qwen2"} | data | _window_official(config)


def _qwen3_from(data: Mapping[str, Any]) -> TransformerConfig:
    data = {"head_dim": 128} | dict(data)
    more = {"attention_bias": data.get("attention_bias", False), "query_key_norm": True}
    return TransformerConfig(family="qwen3", **_fields(data) | more)


def _qwen3_to(config: TransformerConfig) -> dict[str, Any]:
    check_parts(config, {"query_key_norm": True, "feedforward_bias": False})
    return (
        {"model_type": "qwen3"}
        | _official(config)
        | {"attention_bias": config.attention_bias}
        | _window_official(config)
    )


def _dense(ours: str, names: tuple[str, ...]) -> tuple[Row, Row]:
    names = tuple(f"model.layers.{{i}}.{name}" for name in names)
    return (
        Row(f"{ours}kernel", "fused_dense", tuple(f"{name}.weight" for name in names)),
        Row(f"{ours}bias", "fused", tuple(f"{name}.bias" for name in names)),
    )


_ROWS = (
    Row("token_embedding/table", "same", "model.embed_tokens.weight"),
    Row("block_{i}_attention_norm/gain", "same", "model.layers.{i}.input_layernorm.weight"),
    *_dense("block_{i}_attention/qkv_", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    *_dense("block_{i}_attention/output_", ("self_attn.o_proj",)),
    Row("block_{i}_feedforward_norm/gain", "same", "model.layers.{i}.post_attention_layernorm.weight"),
    *_dense("block_{i}_feedforward/up_", ("mlp.gate_proj", "mlp.up_proj")),
    *_dense("block_{i}_feedforward/down_", ("mlp.down_proj",)),
    Row("final_norm/gain", "same", "model.norm.weight"),
    Row("lm_head/output_table", "same", "lm_head.weight", group="lm"),
)
_QUERY_KEY_NORMS = (
    Row("block_{i}_attention/query_norm/gain", "same", "model.layers.{i}.self_attn.q_norm.weight"),
    Row("block_{i}_attention/key_norm/gain", "same", "model.layers.{i}.self_attn.k_norm.weight"),
)


def _family(
    name: str,
    cls: str,
    model_types: tuple[str, ...],
    read: Callable[[Mapping[str, Any]], TransformerConfig],
    write: Callable[[TransformerConfig], dict[str, Any]],
) -> Family:
    return Family(
        name=name,
        model_types=model_types,
        rows=_ROWS,
        prefix="model.",
        from_official=read,
        to_official=write,
        architectures={None: f"{cls}Model", "lm": f"{cls}ForCausalLM"},
        ignore=(r"rotary_emb\.inv_freq$",),
        tied="lm_head.weight",
        head_sizes=True,
    )


LLAMA = _family("llama", "Llama", ("llama", "mistral"), _llama_from, _llama_to)
QWEN2 = _family("qwen2", "Qwen2", ("qwen2",), _qwen2_from, _qwen2_to)
QWEN3 = dataclasses.replace(
    _family("qwen3", "Qwen3", ("qwen3",), _qwen3_from, _qwen3_to), rows=(*_ROWS, *_QUERY_KEY_NORMS)
)
