"""GAU-alpha: 24 gated attention units instead of 12 blocks (kexue.fm article 9052).

No biases, RMS norm without gain after each unit, interleaved rotary positions, softmax_plus, swish. Names of the
author's TensorFlow checkpoint, and of the PyTorch files that bert4torch converts from it. transformers has no such
family.
"""

from collections.abc import Mapping
from typing import Any

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row, bert_fields
from kexue.models.families.bert import IGNORE
from kexue.models.families.roformer import rotary_official
from kexue.models.families.roformer_v2 import BARE

__all__ = ["FAMILY"]


def _from_official(data: Mapping[str, Any]) -> TransformerConfig:
    data = {"num_attention_heads": 1, "attention_key_size": 128} | dict(data)
    fields = bert_fields(data)
    fields.pop("value_size", None)
    return TransformerConfig(
        **fields
        | BARE
        | {
            "family": "gau_alpha",
            "attention": "gau",
            "position": "rotary",
            "activation": data.get("hidden_act", "swish"),
            "norm_epsilon": data.get("layer_norm_eps", 1e-7),
            "initializer": {"depth_scaled": data["num_hidden_layers"], "order": 3},
        }
    )


def _to_official(config: TransformerConfig) -> dict[str, Any]:
    if config.attention != "gau":
        raise ConfigError(f"GAU-alpha's official format has attention 'gau' only. Received: {config.attention!r}")
    # The rest is in the words of BERT's configurations, which know softmax attention only.
    data = rotary_official(config.replace(attention="softmax"))
    data.pop("attention_head_size", None)
    return {"model_type": "gau_alpha"} | data | {"attention_key_size": config.key_dim}


_TF, _HF = "GAU_alpha/encoder/layer_{i}/gau/", "encoderLayer.{i}.gau."

FAMILY = Family(
    name="gau_alpha",
    model_types=("gau_alpha",),
    rows=(
        Row("token_embedding/table", "same", "embeddings.word_embeddings.weight", "bert/embeddings/word_embeddings"),
        Row(
            "segment_embedding/table",
            "same",
            "embeddings.segment_embeddings.weight",
            "bert/embeddings/token_type_embeddings",
        ),
        Row("block_{i}_attention/input_kernel", "dense", f"{_HF}i_dense.weight", f"{_TF}i_dense/kernel"),
        Row("block_{i}_attention/output_kernel", "dense", f"{_HF}o_dense.weight", f"{_TF}o_dense/kernel"),
        Row("block_{i}_attention/query_gain", "same", f"{_HF}offsetscale.gamma[0]", f"{_TF}q_scaleoffset/gamma"),
        Row("block_{i}_attention/key_gain", "same", f"{_HF}offsetscale.gamma[1]", f"{_TF}k_scaleoffset/gamma"),
        Row("lm_head/output_table", "same", "mlmDecoder.weight", "cls/predictions/output_weights", "lm"),
    ),
    prefix="",
    from_official=_from_official,
    to_official=_to_official,
    architectures=None,
    ignore=(*IGNORE, r"^mlmDecoder\.weight$"),
    tied="mlmDecoder.weight",
)
