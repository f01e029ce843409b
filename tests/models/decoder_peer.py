"""Random decoders and encoder-decoders of transformers, and their outputs by our names."""

from typing import Any

import numpy as np
from tests.models.peer import torch, transformers

GPT = {"vocab_size": 61, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 40}
LLAMA = {
    "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2,
    "intermediate_size": 44, "max_position_embeddings": 40,
}  # fmt: skip
T5 = {
    "vocab_size": 61, "d_model": 24, "d_kv": 7, "d_ff": 44, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 3,
    "relative_attention_num_buckets": 10, "relative_attention_max_distance": 13,
}  # fmt: skip
# Kind: stem of the classes, class of the language model, settings.
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt": ("OpenAIGPT", "OpenAIGPTLMHeadModel", GPT),
    "gpt2": ("GPT2", "GPT2LMHeadModel", GPT),
    "llama": ("Llama", "LlamaForCausalLM", LLAMA),
    "mistral": ("Mistral", "MistralForCausalLM", LLAMA | {"sliding_window": None}),
    "qwen2": ("Qwen2", "Qwen2ForCausalLM", LLAMA),
    "qwen3": ("Qwen3", "Qwen3ForCausalLM", LLAMA | {"head_dim": 10}),
    "t5": ("T5", "T5ForConditionalGeneration", T5),
    "mt5": ("MT5", "MT5ForConditionalGeneration", T5),
}


def make(kind: str, cls: str | None = None, untied: bool = False, **changes: Any) -> Any:
    """A transformers model with random values in every parameter.

    ``untied``: an output matrix of its own for T5, whose configuration cannot ask for it.
    """
    stem, lm, settings = KINDS[kind]
    config = getattr(transformers, f"{stem}Config")(**settings | changes)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = getattr(transformers, cls or lm)(config).eval()
    if untied:
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(0, 0.3 if p.ndim > 1 else 0.2)
            if p.ndim == 1 and name.endswith("weight"):
                p.add_(1.0)
    return model


def data(model: Any, rows: int = 3, length: int = 11, left: bool = False) -> dict[str, np.ndarray]:
    """Random ids with padding in every row, on the left where asked, then with positions."""
    rng = np.random.default_rng(0)

    def side(length: int, seed: int, prefix: str) -> dict[str, np.ndarray]:
        lengths = np.random.default_rng(seed).integers(length // 2, length, rows)
        place = np.arange(length)[::-1] if left else np.arange(length)
        keep = place < lengths[:, None]
        ids = np.where(keep, rng.integers(5, model.config.vocab_size, (rows, length)), 0).astype("int32")
        return {f"{prefix}token_ids": ids, f"{prefix}padding_mask": keep}

    out = side(length, 1, "")
    if model.config.is_encoder_decoder:
        out |= side(length - 3, 2, "decoder_")
    elif left:
        out["position_ids"] = np.maximum(np.cumsum(out["padding_mask"], -1) - 1, 0).astype("int32")
    return out


_NAMES = {
    "token_ids": "input_ids", "padding_mask": "attention_mask", "position_ids": "position_ids",
    "decoder_token_ids": "decoder_input_ids", "decoder_padding_mask": "decoder_attention_mask",
    "segment_ids": "token_type_ids",
}  # fmt: skip


def theirs(model: Any, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``sequence_output``, ``encoder_output`` and ``logits``, those that there are."""
    inputs = {_NAMES[name]: torch.tensor(value).long() for name, value in batch.items()}
    result = {}
    with torch.no_grad():
        body = getattr(model, model.base_model_prefix, model)
        if model.config.is_encoder_decoder and hasattr(model, "lm_head"):
            out = model(**inputs, output_hidden_states=True)
            result = {"sequence_output": out.decoder_hidden_states[-1], "logits": out.logits}
        else:
            out = body(**inputs)
            result["sequence_output"] = out.last_hidden_state
            if hasattr(model, "lm_head"):
                result["logits"] = model(**inputs).logits
        if getattr(out, "encoder_last_hidden_state", None) is not None:
            result["encoder_output"] = out.encoder_last_hidden_state
    return {name: value.float().numpy() for name, value in result.items()}


def difference(ours: dict[str, np.ndarray], want: dict[str, np.ndarray], batch: dict[str, np.ndarray]) -> float:
    """Largest difference at real tokens over all outputs, as a part of the largest value where that is above 1."""
    worst = 0.0
    decoder = batch.get("decoder_padding_mask", batch["padding_mask"])
    for name, value in want.items():
        mine = np.asarray(ours[name])
        assert mine.shape == value.shape, name
        keep = batch["padding_mask"] if name == "encoder_output" else decoder
        scale = max(1.0, np.abs(value[keep]).max())
        worst = max(worst, float(np.abs(mine[keep] - value[keep]).max()) / scale)
    return worst
