"""Random models of transformers, and the comparison with ours."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)  # its threads spin while they wait: minutes where other processes want the cores

ODD = {
    "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 44,
    "type_vocab_size": 3, "max_position_embeddings": 40, "initializer_range": 0.3,
}  # fmt: skip
KINDS = {
    "bert": ("BertConfig", "BertModel", "BertForMaskedLM"),
    "roberta": ("RobertaConfig", "RobertaModel", "RobertaForMaskedLM"),
    "roformer": ("RoFormerConfig", "RoFormerModel", "RoFormerForMaskedLM"),
    "albert": ("AlbertConfig", "AlbertModel", "AlbertForMaskedLM"),
    "electra": ("ElectraConfig", "ElectraModel", "ElectraForMaskedLM"),
    "modernbert": ("ModernBertConfig", "ModernBertModel", "ModernBertForMaskedLM"),
}
# What a kind has no use for, and needs beside ODD.
WITHOUT = {"modernbert": ("type_vocab_size",)}
WITH = {
    "modernbert": {"num_hidden_layers": 4, "local_attention": 6, "pad_token_id": 0, "bos_token_id": None,
                   "eos_token_id": None, "cls_token_id": None, "sep_token_id": None},
}  # fmt: skip


def make(kind: str, which: str = "lm", cls: str | None = None, **changes: Any) -> Any:
    """A transformers model with random values in every parameter."""
    names = KINDS[kind]
    odd = {name: value for name, value in ODD.items() if name not in WITHOUT.get(kind, ())}
    config = getattr(transformers, names[0])(**odd | WITH.get(kind, {}) | changes)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = getattr(transformers, cls or names[1 if which == "base" else 2])(config).eval()
    spread = 0.3 if config.hidden_size < 100 else 0.02
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "embed_positions" in name:
                continue
            p.normal_(0, spread if p.ndim > 1 else 0.2)
            if p.ndim == 1 and name.endswith("weight"):
                p.add_(1.0)
    model.tie_weights()
    return model


def data(config: Any, rows: int = 2, length: int = 11, seed: int = 0, left: bool = False) -> dict[str, np.ndarray]:
    """Random ids and segments; both rows padded, on the left where asked."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(length // 2, length, rows)
    place = np.arange(length)[::-1] if left else np.arange(length)
    keep = place < lengths[:, None]
    ids = rng.integers(5, config.vocab_size, (rows, length))
    pad = config.pad_token_id or 0
    batch = {"token_ids": np.where(keep, ids, pad).astype("int32"), "padding_mask": keep}
    if hasattr(config, "type_vocab_size"):
        batch["segment_ids"] = rng.integers(0, config.type_vocab_size, (rows, length)).astype("int32")
    return batch


def theirs(model: Any, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by our names: those that the model has."""
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids", "padding_mask": "attention_mask"}
    inputs = {theirs: torch.tensor(batch[ours]).long() for ours, theirs in names.items() if ours in batch}
    with torch.no_grad():
        out = model(**inputs, output_hidden_states=True)
        result = {"sequence_output": model.base_model(**inputs).last_hidden_state}
    logits = "discriminator_logits" if type(model).__name__ == "ElectraForPreTraining" else "logits"
    for ours, name in ((logits, "logits"), ("pooled_output", "pooler_output"), ("logits", "prediction_logits"),
                       ("nsp_logits", "seq_relationship_logits"), ("nsp_logits", "sop_logits")):  # fmt: skip
        if getattr(out, name, None) is not None:
            result[ours] = getattr(out, name)
    return {name: value.detach().float().numpy() for name, value in result.items()}


def difference(ours: dict[str, np.ndarray], want: dict[str, np.ndarray], keep: np.ndarray) -> float:
    """Largest difference at real tokens over all outputs that ``want`` has."""
    worst = 0.0
    for name, value in want.items():
        mine = np.asarray(ours[name])
        assert mine.shape == value.shape, name
        where = keep if value.shape[:2] == keep.shape else slice(None)
        worst = max(worst, float(np.abs(mine[where] - value[where]).max()))
    return worst


def reload(folder: Any, cls: str) -> Any:
    """What transformers makes of a folder; nothing may be missing, unexpected or mismatched."""
    model, info = getattr(transformers, cls).from_pretrained(folder, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[kind], (kind, info[kind])
    model.config._attn_implementation = "eager"
    return model.eval()
