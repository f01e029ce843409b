"""Largest difference to transformers on random weights, and after a round trip kexue -> hf -> transformers.

On the Keras backend in force. Odd shapes (3 heads, 2 layers, 3 segments, ``gelu_new`` and ``relu``, epsilon 1e-6) and
base size, float32 on a CPU, both rows padded. Compared at real tokens: hidden states, pooled output, logits. Decoders
likewise, with grouped queries and heads of their own size; of encoder-decoders the decoder's outputs.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import arguments, publish, table

ODD = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
       "type_vocab_size": 3, "layer_norm_eps": 1e-6, "max_position_embeddings": 40, "vocab_size": 97}  # fmt: skip
BASE = {"vocab_size": 21128}
GPT = {"vocab_size": 97, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 40}
LLAMA = {"vocab_size": 97, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 44,
         "num_key_value_heads": 2, "max_position_embeddings": 40}  # fmt: skip
T5 = {"vocab_size": 97, "d_model": 24, "d_kv": 7, "d_ff": 44, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 3,
      "relative_attention_num_buckets": 10, "relative_attention_max_distance": 13}  # fmt: skip
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}


def cases() -> list[tuple[str, str, dict[str, Any]]]:
    shapes = [("odd, gelu_new", ODD | {"hidden_act": "gelu_new"}), ("odd, relu", ODD | {"hidden_act": "relu"})]
    return [
        (family, name, settings)
        for family in ("Bert", "Roberta", "RoFormer")
        for name, settings in [*shapes, ("base", BASE)]
    ]


def compare(family: str, settings: dict[str, Any]) -> dict[str, float]:
    import keras
    import torch
    import transformers

    from kexue.models import Transformer

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**settings)
    if family == "RoFormer" and "embedding_size" not in settings:
        config.embedding_size = config.hidden_size
    theirs = getattr(transformers, f"{family}ForMaskedLM")(config).eval()
    pooling = None if family == "RoFormer" else getattr(transformers, f"{family}Model")(config).eval()
    for module in filter(None, (theirs, pooling)):
        for name, weight in module.named_parameters():
            if weight.requires_grad and "embed_positions" not in name:
                gain = name.lower().endswith(("layernorm.weight", "layer_norm.weight"))
                torch.nn.init.normal_(weight, mean=float(gain), std=0.2 if settings is not BASE else 0.02)
    rng = np.random.default_rng(1)
    length = 11 if settings is not BASE else 128
    ids = rng.integers(3, settings["vocab_size"], (2, length))
    real = np.arange(length)[None] < np.array([[length - 4], [length // 2]])
    ids[~real] = config.pad_token_id
    segments = rng.integers(0, config.type_vocab_size, ids.shape)
    batch = {"token_ids": ids, "segment_ids": segments, "padding_mask": real}
    tensors = {
        "input_ids": torch.tensor(ids),
        "token_type_ids": torch.tensor(segments),
        "attention_mask": torch.tensor(real).long(),
    }

    def largest(ours: Any, reference: torch.Tensor, at: Any = ...) -> float:
        return float(np.abs(keras.ops.convert_to_numpy(ours)[at] - reference.detach().numpy()[at]).max())

    out = {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        theirs.save_pretrained(folder)
        ours = Transformer.from_pretrained(folder, head="lm")
        result, reference = ours(batch), theirs(**tensors, output_hidden_states=True)
        out["hidden"] = largest(result["sequence_output"], reference.hidden_states[-1], real)
        out["logits"] = largest(result["logits"], reference.logits, real)
        ours.save_pretrained(Path(folder) / "back", "hf")
        again = type(theirs).from_pretrained(Path(folder) / "back").eval()(**tensors)
        out["round trip"] = float((again.logits - reference.logits)[torch.tensor(real)].abs().max())
        if pooling is not None:
            pooling.save_pretrained(Path(folder) / "pooling")
            ours = Transformer.from_pretrained(Path(folder) / "pooling", head="pooler")
            out["pooled"] = largest(ours(batch)["pooled_output"], pooling(**tensors).pooler_output)
    return out


DECODERS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("OpenAIGPT", "LMHeadModel", "odd", GPT),
    ("GPT2", "LMHeadModel", "odd", GPT | {"n_inner": 17}),
    ("GPT2", "LMHeadModel", "base", {"vocab_size": 21128}),
    ("Llama", "ForCausalLM", "odd, grouped", LLAMA | {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
    ("Qwen2", "ForCausalLM", "odd, grouped", LLAMA),
    ("Qwen3", "ForCausalLM", "odd, grouped", LLAMA | {"head_dim": 10}),
    ("T5", "ForConditionalGeneration", "1.0, odd", T5),
    ("T5", "ForConditionalGeneration", "1.0, small", {}),
    ("T5", "ForConditionalGeneration", "1.1, odd", T5 | GATED),
    ("MT5", "ForConditionalGeneration", "odd", T5),
]


def compare_decoder(stem: str, suffix: str, name: str, settings: dict[str, Any]) -> dict[str, float]:
    """Decoders and encoder-decoders; the output matrix of T5 1.1 and mT5 is their own."""
    import keras
    import torch
    import transformers

    from kexue.models import Transformer

    torch.manual_seed(0)
    theirs = getattr(transformers, stem + suffix)(getattr(transformers, f"{stem}Config")(**settings)).eval()
    pair = theirs.config.is_encoder_decoder
    if pair and name != "1.0, odd" and settings:
        theirs.lm_head.weight = torch.nn.Parameter(torch.empty_like(theirs.lm_head.weight))
    large = theirs.config.hidden_size > 100
    for parameter, weight in theirs.named_parameters():
        gain = float(weight.ndim == 1 and parameter.endswith("weight"))
        torch.nn.init.normal_(weight, mean=gain, std=0.02 if large else 0.2)
    rng = np.random.default_rng(1)
    batch = {}
    for side, length in (("", 128 if large else 11), ("decoder_", 64 if large else 7))[: 1 + pair]:
        real = np.arange(length)[None] < np.array([[length - 4], [length // 2]])
        ids = rng.integers(3, theirs.config.vocab_size, (2, length))
        batch |= {f"{side}token_ids": np.where(real, ids, 0).astype("int32"), f"{side}padding_mask": real}
    names = {"token_ids": "input_ids", "padding_mask": "attention_mask", "decoder_token_ids": "decoder_input_ids",
             "decoder_padding_mask": "decoder_attention_mask"}  # fmt: skip
    tensors = {names[n]: torch.tensor(v).long() for n, v in batch.items()}
    real = batch.get("decoder_padding_mask", batch["padding_mask"])

    def largest(ours: Any, reference: torch.Tensor, at: Any) -> float:
        return float(np.abs(keras.ops.convert_to_numpy(ours)[at] - reference.detach().numpy()[at]).max())

    out = {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        theirs.save_pretrained(folder)
        ours = Transformer.from_pretrained(folder, head="lm")
        result, reference = ours(batch), theirs(**tensors, output_hidden_states=True)
        hidden = reference.decoder_hidden_states if pair else reference.hidden_states
        out["hidden"] = largest(result["sequence_output"], hidden[-1], real)
        out["logits"] = largest(result["logits"], reference.logits, real)
        ours.save_pretrained(Path(folder) / "back", "hf")
        again = type(theirs).from_pretrained(Path(folder) / "back").eval()(**tensors)
        out["round trip"] = float((again.logits - reference.logits)[torch.tensor(real)].abs().max())
    return out


def main() -> None:
    options = arguments(__doc__).parse_args()
    import kexue  # noqa: F401  chooses the backend

    columns = ("hidden", "pooled", "logits", "round trip")
    rows = []
    for family, name, settings in cases():
        found = compare(family, settings)
        rows.append((family, name, *(f"{found[c]:.1e}" if c in found else "" for c in columns)))
    for stem, suffix, name, settings in DECODERS:
        found = compare_decoder(stem, suffix, name, settings)
        rows.append((stem, name, *(f"{found[c]:.1e}" if c in found else "" for c in columns)))
    backend = os.environ["KERAS_BACKEND"]
    body = f"Keras backend {backend}. RoFormer of transformers has no pooler.\n\n"
    body += table(("family", "shape", *columns), rows)
    command = f"KERAS_BACKEND={backend} python -m benchmarks.parity"
    publish(f"parity-{backend}", f"Parity with transformers ({backend})", command, body, options.write)


if __name__ == "__main__":
    main()
