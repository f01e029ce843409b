"""Decoders and encoder-decoders of `benchmarks.parity`."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

GPT = {"vocab_size": 97, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 40}
LLAMA = {"vocab_size": 97, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 44,
         "num_key_value_heads": 2, "max_position_embeddings": 40}  # fmt: skip
T5 = {"vocab_size": 97, "d_model": 24, "d_kv": 7, "d_ff": 44, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 3,
      "relative_attention_num_buckets": 10, "relative_attention_max_distance": 13}  # fmt: skip
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
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
