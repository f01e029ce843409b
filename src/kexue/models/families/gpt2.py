"""GPT-2: GPT with the norms before each part and one at the end (Radford et al., 2019).

TensorFlow names are those of OpenAI's release (``hparams.json``, ``model.ckpt``), whose matrices have a leading axis of
1.
"""

from collections.abc import Mapping
from typing import Any

from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row
from kexue.models.families.gpt import IGNORE, check_parts, gpt_fields, gpt_official

__all__ = ["FAMILY"]


def _from_official(data: Mapping[str, Any]) -> TransformerConfig:
    if "n_vocab" in data:  # hparams.json
        data = {"vocab_size": data["n_vocab"], "n_positions": data.get("n_ctx", 1024)} | dict(data)
    return TransformerConfig(
        family="gpt2",
        norm_order="pre",
        activation=data.get("activation_function", "gelu_new"),
        max_length=data.get("n_positions", 1024),
        **gpt_fields(data),
    )


def _to_official(config: TransformerConfig) -> dict[str, Any]:
    check_parts(config, {"norm_order": "pre"})
    data = {"model_type": "gpt2", "activation_function": config.activation} | gpt_official(config)
    return data | {"n_inner": config.intermediate_size}


def _map(ours: str, name: str) -> tuple[Row, Row]:
    tf = name.replace(".", "/")
    return (
        Row(f"{ours}kernel", "tf_stacked", f"transformer.h.{{i}}.{name}.weight", f"model/h{{i}}/{tf}/w"),
        Row(f"{ours}bias", "same", f"transformer.h.{{i}}.{name}.bias", f"model/h{{i}}/{tf}/b"),
    )


def _norm(ours: str, hf: str, tf: str) -> tuple[Row, Row]:
    return (
        Row(f"{ours}/gain", "same", f"transformer.{hf}.weight", f"model/{tf}/g"),
        Row(f"{ours}/bias", "same", f"transformer.{hf}.bias", f"model/{tf}/b"),
    )


FAMILY = Family(
    name="gpt2",
    model_types=("gpt2",),
    rows=(
        Row("token_embedding/table", "same", "transformer.wte.weight", "model/wte"),
        Row("position_embedding/table", "same", "transformer.wpe.weight", "model/wpe"),
        *_norm("block_{i}_attention_norm", "h.{i}.ln_1", "h{i}/ln_1"),
        *_map("block_{i}_attention/qkv_", "attn.c_attn"),
        *_map("block_{i}_attention/output_", "attn.c_proj"),
        *_norm("block_{i}_feedforward_norm", "h.{i}.ln_2", "h{i}/ln_2"),
        *_map("block_{i}_feedforward/up_", "mlp.c_fc"),
        *_map("block_{i}_feedforward/down_", "mlp.c_proj"),
        *_norm("final_norm", "ln_f", "ln_f"),
        Row("lm_head/output_table", "same", "lm_head.weight", "model/lm_head", "lm"),
    ),
    prefix="transformer.",
    from_official=_from_official,
    to_official=_to_official,
    architectures={None: "GPT2Model", "lm": "GPT2LMHeadModel"},
    ignore=IGNORE,
    tied="lm_head.weight",
)
