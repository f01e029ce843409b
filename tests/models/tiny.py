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
XLNET = {
    "family": "xlnet", "position": "transformer_xl", "position_options": {"segments": True}, "mask_vector": True,
    "num_segments": 0, "embedding_norm": False, "attention_bias": False, "lm_transform": False, "pad_id": 5,
    "max_length": 512,
}  # fmt: skip
DEBERTA = {
    "family": "deberta_v2", "position": "deberta", "num_segments": 0, "norm_epsilon": 1e-7, "pooler_activation": "gelu",
    "position_options": {
        "max_distance": 24, "buckets": 6, "terms": ["c2p", "p2c"], "shared_keys": True, "norm": 1e-7,
    },
}  # fmt: skip
GAU = {"attention": "gau", "num_heads": 1, "key_size": 4, "activation": "swish"}
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
    "xlnet": XLNET,
    "deberta_v2": DEBERTA,
    "gau_alpha": GAU | {
        "family": "gau_alpha", "position": "rotary", "norm": "rms", "norm_scale": False, "norm_bias": False,
        "norm_epsilon": 1e-7, "attention_bias": False, "feedforward_bias": False, "lm_transform": False,
        "lm_bias": False,
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
    "two_stream": XLNET | {"two_stream": True, "mask": "permuted"},
    "convolution": DEBERTA | {
        "convolution_size": 3, "convolution_activation": "gelu", "absolute_positions": True, "num_segments": 2,
        "position_options": {"max_distance": 3, "terms": ["p2c"]},
    },
    "gau": GAU | {"attention_options": {"normalizer": "softmax"}, "mask": "causal"},
}  # fmt: skip
MASKS: dict[str, Any] = {
    "causal": "causal",
    "reverse": {"name": "causal", "config": {"reverse": True}},
    "prefix": "prefix",
    "window": {"name": "window", "config": {"left": 2, "right": 1}},
    "permuted": "permuted",
}
# Compared with a NumPy forward pass of their own, or with transformers.
OWN_REFERENCE = ("xlnet", "deberta_v2", "gau_alpha", "two_stream", "convolution", "gau")
CONFIGS = FAMILIES | VARIANTS | {name: {"mask": mask} for name, mask in MASKS.items()}

# What follows is not written out in NumPy as a whole model (test_reference.py); the suite has it, and so have the tests
# of the parts.
DECODERS: dict[str, dict[str, Any]] = {  # that no family has
    "decoder_rotary": {"position": "rotary", "decoder_layers": 2, "embedding_size": 8, "condition_size": 3},
    "decoder_learned": {
        "position": "learned", "decoder_layers": 1, "norm_order": "feedforward", "key_heads": 1,
        "attention_options": {"scale": "log_n"},
    },
}  # fmt: skip
SKEW = np.zeros((2, 4, 4))
SKEW[0, 0, 1], SKEW[0, 1, 0], SKEW[1, 2, 3], SKEW[1, 3, 2] = -1, 1, -1, 1
YARN = {"kind": "yarn", "factor": 4.0, "original_length": 40}
POSITIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "learned_multiply": ("learned", {"mode": "multiply"}),
    "hierarchical_default": ("hierarchical", {}),
    "sinusoidal": ("sinusoidal", {}),
    "sinusoidal_theta": ("sinusoidal", {"train_theta": True, "base": 100.0, "order": "split"}),
    "trainable_sinusoidal": ("trainable_sinusoidal", {}),
    "recursive": ("recursive", {}),
    "recursive_mlp": ("recursive", {"cell": "mlp"}),
    "floater": ("floater", {}),
    "floater_skew": ("floater", {"dynamics": "skew", "method": "euler", "steps": 2}),
    "multiplicative": ("multiplicative", {}),
    "complex": ("complex", {}),
    "complex_words": ("complex", {"share": "words", "layout": "interleaved"}),
    "conv": ("conv", {}),
    "tupe": ("tupe", {}),
    "tupe_reset": ("tupe", {"reset": True, "normalize": False}),
    "alibi": ("alibi", {}),
    "rotary_partial": ("rotary", {"fraction": 0.5, "base": 100.0}),
    "rotary_yarn": ("rotary", {"scaling": YARN, "layout": "half"}),
    "rotary_theta": ("rotary", {"train_theta": True}),
    "rotary_nd": ("rotary_nd", {"grid": [4, 3]}),
    "rotary_generators": ("rotary_generators", {"generators": SKEW.tolist(), "grid": [4, 3]}),
    "transformer_xl": ("transformer_xl", {}),
    "transformer_xl_clamp": ("transformer_xl", {"clamp": 2}),
    "deberta_words": ("deberta", {}),
    "shaw_values": ("shaw", {}),
    "t5_buckets": ("t5", {}),
}
"""Name in a test to ``position`` and ``position_options``."""
ALONE = {"num_segments": 0, "num_layers": 1, "max_length": 20}
"""Of models that are there for their positions."""
LINEAR = {"attention": "linear", "position": "rotary"}
ATTENTIONS: dict[str, dict[str, Any]] = {
    "log_n": {"attention_options": {"scale": "log_n"}, "mask": "causal"},
    "log_n_short": {"attention_options": {"scale": {"train_length": 8, "clip": True}}},
    "softmax_plus": {"attention_options": {"scale": "softmax_plus"}, "position": "rotary"},
    "talking": {"attention_options": {"talking": "pre"}, "mask": "causal"},
    "talking_twice": {"attention_options": {"talking": "pre_post", "logit_heads": 2}},
    "residual_scores": {"attention_options": {"residual_scores": True}, "mask": "causal"},
    "residual_talking": {"attention_options": {"residual_scores": True, "talking": "pre_post"}, "position": "rotary"},
    "linear_exp": LINEAR | {"mask": "permuted"},
    "linear_elu": LINEAR | {"attention_options": {"feature": "elu+1"}, "mask": "causal"},
    "linear_relu": LINEAR | {"attention_options": {"feature": "relu"}, "mask": "prefix"},
    "linear_double_softmax": LINEAR | {"attention_options": {"feature": "double_softmax"}},
    "linear_performer": LINEAR | {"attention_options": {"feature": "performer"}},
    "linear_cosine": {
        "attention": "linear", "attention_options": {"feature": "cosine+1"},
        "mask": {"name": "causal", "config": {"reverse": True}},
    },
    "gau_squared_relu": GAU | {"attention_options": {"normalizer": "squared_relu"}, "position": "alibi"},
    "gau_plus": GAU | {"attention_options": {"normalizer": "softmax_plus"}, "mask": "prefix", "position": "tupe"},
}  # fmt: skip
NEAR = {"name": "window", "config": {"left": 1, "right": 1}}
RULES: dict[str, Any] = {
    "bidirectional": "bidirectional",
    "same_document": "same_document",
    "causal_window": {"name": "and_or", "config": {"kind": "and", "left": "causal", "right": NEAR}},
    "prefix_or_window": {"name": "and_or", "config": {"kind": "or", "left": "prefix", "right": NEAR}},
    # The first token sees nothing at all, not even itself.
    "strictly_before": {
        "name": "not", "config": {"inner": {"name": "causal", "config": {"reverse": True}}},
    },
}  # fmt: skip
STREAMS: dict[str, dict[str, Any]] = {
    "two_stream_rotary": XLNET | {
        "two_stream": True, "mask": "causal", "position": "rotary", "position_options": {}, "norm_order": "pre",
    },
    "two_stream_gau": XLNET | GAU | {
        "two_stream": True, "mask": "permuted", "position": "rotary", "position_options": {}, "condition_size": 5,
    },
}  # fmt: skip
SUITE: dict[str, dict[str, Any]] = (
    CONFIGS
    | ENCODER_DECODERS
    | DECODERS
    | STREAMS
    | {name: ALONE | {"position": kind, "position_options": more} for name, (kind, more) in POSITIONS.items()}
    | ATTENTIONS
    | {name: {"mask": mask} for name, mask in RULES.items()}
)
"""Every family and every part, for what all of them must do (test_suite.py)."""


def config(name: str, **changes: Any) -> TransformerConfig:
    return TransformerConfig(**SMALL | SUITE[name] | changes)


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
    related = bool(model.config.position_options.get("segments"))
    if model.config.num_segments or related:
        half = rng.integers(1, length, rows)
        two = model.config.num_segments > 1 or related
        data["segment_ids"] = (np.arange(length) >= half[:, None]).astype("int32") * two
    if "document" in model.mask.needs:
        data["document_ids"] = (np.arange(length) // 3 + np.zeros((rows, 1))).astype("int32")
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
