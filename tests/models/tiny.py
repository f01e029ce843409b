"""Tiny models and batches that the tests of this room share."""

import functools
from typing import Any

import keras
import numpy as np

from kexue.models import Transformer, TransformerConfig
from kexue.models.weights import named_weights

BACKEND = keras.backend.backend()
SMALL = {"vocabulary_size": 31, "hidden_size": 12, "num_layers": 2, "num_heads": 3, "intermediate_size": 20}
SMALL |= {"max_length": 24, "dropout": 0.1, "attention_dropout": 0.1, "initializer": 0.3}
ROTARY = {"position": "rotary", "key_size": 4}

DECODER = {"num_segments": 0, "embedding_norm": False, "lm_transform": False, "lm_bias": False}
GPT = DECODER | {"mask": "causal", "norm_epsilon": 1e-5, "activation": "gelu_new"}
LLAMA = DECODER | {
    "mask": "causal", "position": "rotary", "position_options": {"layout": "half", "base": 700.0}, "dropout": 0.0,
    "activation": "silu", "gated": True, "norm": "rms", "norm_bias": False, "norm_epsilon": 1e-6, "norm_order": "pre",
    "attention_bias": False, "feedforward_bias": False,
}  # fmt: skip
T5 = DECODER | {
    "family": "t5", "position": "t5", "norm": "rms", "norm_bias": False, "norm_epsilon": 1e-6, "norm_order": "pre",
    "position_options": {"bidirectional": True, "num_buckets": 12, "max_distance": 9}, "activation": "relu",
    "attention_options": {"scale": 1.0}, "attention_bias": False, "feedforward_bias": False,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {
        "family": "roberta", "position_offset": 2, "positions_from_padding": True, "pad_id": 1, "num_segments": 1,
        "lm_activation": "gelu", "norm_epsilon": 1e-5,
    },
    "roformer": {"family": "roformer", "position": "rotary", "num_segments": 3},
    "roformer_v2": {
        "family": "roformer_v2", "position": "rotary", "activation": "relu", "norm": "rms", "norm_scale": False,
        "norm_bias": False, "norm_epsilon": 1e-7, "attention_bias": False, "feedforward_bias": False,
        "lm_transform": False, "lm_bias": False,
    },
    "gpt": GPT | {"family": "gpt", "intermediate_size": 48},
    "gpt2": GPT | {"family": "gpt2", "norm_order": "pre"},
    "gpt2_ml": GPT | {
        "family": "gpt2_ml", "norm_order": "feedforward", "embedding_norm": True, "activation": "gelu", "num_layers": 2,
    },
    "llama": LLAMA | {"family": "llama", "num_heads": 6, "key_heads": 2, "key_size": 4, "value_size": 4},
    "qwen2": LLAMA | {
        "family": "qwen2", "attention_bias": True, "attention_output_bias": False, "tie_embeddings": False,
    },
    "qwen3": LLAMA | {
        "family": "qwen3", "query_key_norm": True, "key_size": 6, "value_size": 6, "key_heads": 1,
        "tie_embeddings": False,
    },
    "albert": {
        "family": "albert", "block_groups": 1, "embedding_size": 8, "embedding_projection": True,
        "activation": "gelu_new",
    },
    "electra": {"family": "electra", "embedding_size": 8, "lm_activation": "gelu", "activation": "relu"},
    "electra_generator": {"family": "electra_generator", "lm_activation": "gelu"},
    "nezha": {"family": "nezha", "position": "shaw", "position_options": {"clip": 3}},
    "modernbert": {
        "family": "modernbert", "num_layers": 4, "num_segments": 0, "position": "rotary", "gated": True,
        "position_options": {"layout": "half", "base": 160000.0}, "global_every": 3, "local_window": 2,
        "local_position_options": {"layout": "half", "base": 100.0}, "norm_order": "pre", "first_norm": False,
        "norm_epsilon": 1e-5, "norm_bias": False, "attention_bias": False, "feedforward_bias": False,
        "lm_activation": "gelu", "lm_dense_bias": False,
    },
}  # fmt: skip
# Models with a decoder have tests of their own; `CONFIGS` has their encoder.
ENCODER_DECODERS: dict[str, dict[str, Any]] = {
    "t5": T5 | {"decoder_layers": 3, "lm_scale": 12**-0.5},
    "mt5": T5 | {
        "family": "mt5", "decoder_layers": 2, "gated": True, "activation": "gelu_new", "tie_embeddings": False,
        "key_size": 5, "value_size": 5,
    },
}  # fmt: skip
# Heads of a family's official formats, where they are not BERT's.
HEADS = {
    "roberta": ("lm", "pooler"), "roformer_v2": ("lm",), "electra": ("lm", "discriminator"),
    "electra_generator": ("lm",), "modernbert": ("lm",),
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "norm_first": {"norm_order": "pre"},
    "gated_silu": {"gated": True, "activation": "silu"},
    "hierarchical": {"position": "hierarchical", "max_length": 4, "position_options": {"alpha": 0.3}},
    "factorised": {"embedding_size": 8},
    "sizes": {"key_size": 6, "value_size": 2},
    "rotary_half": {"position": "rotary", "position_options": {"layout": "half", "values": True, "base": 500.0}},
    "no_positions": {"position": "none", "num_segments": 0},
    "condition": {"condition_size": 5},
    "condition_each": {
        "condition_size": 5, "condition_per_token": True, "condition_hidden_size": 3, "condition_activation": "tanh",
        "norm": "rms", "norm_order": "pre",
    },
    "groups": {"block_groups": 2, "num_layers": 4, "local_window": 1, "global_every": 2},
    "shaw_learned": {
        "position": "shaw", "key_size": 4, "value_size": 3,
        "position_options": {"clip": 3, "table": "learned", "values": False},
    },
    "untied": {"tie_embeddings": False, "embedding_norm": False},
    "t5_encoder": T5 | {"lm_scale": 12**-0.5},
    "causal_buckets": {
        "position": "t5", "mask": "causal", "position_options": {"num_buckets": 7, "max_distance": 6},
    },
}  # fmt: skip
MASKS: dict[str, Any] = {
    "causal": "causal",
    "reverse": {"name": "causal", "config": {"reverse": True}},
    "prefix": "prefix",
    "window": {"name": "window", "config": {"left": 2, "right": 1}},
    "permuted": "permuted",
}
CONFIGS = FAMILIES | VARIANTS | {name: {"mask": mask} for name, mask in MASKS.items()}


def config(name: str, **changes: Any) -> TransformerConfig:
    return TransformerConfig(**SMALL | (CONFIGS | ENCODER_DECODERS)[name] | changes)


def randomise(model: keras.Model, seed: int = 0) -> keras.Model:
    """Random values in every weight, so that a forgotten bias or gain shows."""
    rng = np.random.default_rng(seed)
    for name, variable in named_weights(model).items():
        spread = 0.3 if len(variable.shape) > 1 else 0.2
        variable.assign(rng.normal(size=variable.shape) * spread + (1.0 if name.endswith("gain") else 0.0))
    return model


def build(name: str, head: Any = None, dtype: Any = None, mask: Any = None, **changes: Any) -> Transformer:
    return randomise(Transformer(config(name, **changes), head=head, dtype=dtype, mask=mask))


@functools.cache
def shared(name: str, head: Any = None) -> Transformer:
    """One model a test session; do not change it."""
    return build(name, head)


# One shape for most batches: JAX compiles a model once a shape and set of inputs.
ROWS, LENGTH = 8, 7


def batch(model: Transformer, rows: int = ROWS, length: int = LENGTH, seed: int = 0) -> dict[str, np.ndarray]:
    """A batch with everything that the model takes but positions and documents; the last row is shorter."""
    rng = np.random.default_rng(seed)
    data = {
        "token_ids": rng.integers(3, model.config.vocabulary_size, (rows, length)).astype("int32"),
        "padding_mask": np.ones((rows, length), bool),
    }
    if model.config.num_segments:
        half = rng.integers(1, length, rows)
        data["segment_ids"] = (np.arange(length) >= half[:, None]).astype("int32") * (model.config.num_segments > 1)
    if "rank" in model.mask.needs:
        data["order"] = np.array([rng.permutation(length) for _ in range(rows)], "int32")
    if model.config.condition_size:
        shape = (rows, length) if model.config.condition_per_token else (rows,)
        data["condition"] = rng.normal(size=(*shape, model.config.condition_size)).astype("float32")
    data["padding_mask"][-1, length - 2 :] = False
    if model.config.decoder_layers:
        other = length - 2
        ids = rng.integers(3, model.config.vocabulary_size, (rows, other)).astype("int32")
        data |= {"decoder_token_ids": ids, "decoder_padding_mask": np.ones((rows, other), bool)}
        data["decoder_padding_mask"][-1, other - 1 :] = False
    return data


def numpy(outputs: Any) -> Any:
    return keras.tree.map_structure(lambda t: np.asarray(keras.ops.convert_to_numpy(t)), outputs)


def run(model: Transformer, inputs: Any, **kwargs: Any) -> dict[str, np.ndarray]:
    return numpy(model(inputs, **kwargs))


def hidden(model: Transformer, inputs: Any, **kwargs: Any) -> np.ndarray:
    return run(model, inputs, **kwargs)["sequence_output"]
