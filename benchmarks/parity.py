"""Largest difference to transformers on random weights, and after a round trip kexue -> hf -> transformers.

GAU-alpha, which transformers has not, is compared with float64 NumPy (`tests/models/gau_oracle.py`), and the round
trip is one through the author's TensorFlow layout.

On the Keras backend in force. Odd shapes (3 heads, 2 layers, 3 segments, ``gelu_new`` and ``relu``, epsilon 1e-6) and
base size, float32 on a CPU, both rows padded. Compared at real tokens: hidden states, pooled output, logits.
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
XLNET = {"d_model": 24, "n_layer": 2, "n_head": 3, "d_inner": 40, "layer_norm_eps": 1e-6, "vocab_size": 97}
XLNET_BASE = {"d_model": 768, "n_layer": 12, "n_head": 12, "d_inner": 3072, "vocab_size": 32000}
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "position_buckets": 8,
           "norm_rel_ebd": "layer_norm", "position_biased_input": False}  # fmt: skip
DEBERTA_BASE = DEBERTA | {"position_buckets": 256, "vocab_size": 21128, "hidden_size": 768, "num_hidden_layers": 12,
                          "num_attention_heads": 12, "intermediate_size": 3072}  # fmt: skip
DEBERTA_ODD = {"position_biased_input": True, "share_att_key": False, "conv_kernel_size": 3, "hidden_act": "relu"}
LANGUAGE_MODELS = {"XLNet": "XLNetLMHeadModel"}
POOLED = ("Bert", "Roberta")


def cases() -> list[tuple[str, str, dict[str, Any]]]:
    shapes = [("odd, gelu_new", ODD | {"hidden_act": "gelu_new"}), ("odd, relu", ODD | {"hidden_act": "relu"})]
    return [
        *(
            (family, name, settings)
            for family in ("Bert", "Roberta", "RoFormer")
            for name, settings in [*shapes, ("base", BASE)]
        ),
        ("XLNet", "odd, gelu_new", XLNET | {"ff_activation": "gelu_new"}),
        ("XLNet", "odd, relu", XLNET | {"ff_activation": "relu"}),
        ("XLNet", "base", XLNET_BASE),
        ("DebertaV2", "odd, gelu_new", ODD | DEBERTA | {"hidden_act": "gelu_new"}),
        ("DebertaV2", "odd, relu, convolution", ODD | DEBERTA | DEBERTA_ODD),
        ("DebertaV2", "base", DEBERTA_BASE),
    ]


def compare(family: str, settings: dict[str, Any]) -> dict[str, float]:
    import keras
    import torch
    import transformers

    from kexue.models import Transformer

    torch.manual_seed(0)
    base = settings in (BASE, XLNET_BASE, DEBERTA_BASE)
    config = getattr(transformers, f"{family}Config")(**settings)
    if family == "RoFormer" and "embedding_size" not in settings:
        config.embedding_size = config.hidden_size
    theirs = getattr(transformers, LANGUAGE_MODELS.get(family, f"{family}ForMaskedLM"))(config).eval()
    pooling = getattr(transformers, f"{family}Model")(config).eval() if family in POOLED else None
    for module in filter(None, (theirs, pooling)):
        for name, weight in module.named_parameters():
            if weight.requires_grad and "embed_positions" not in name:
                gain = name.lower().endswith(("layernorm.weight", "layer_norm.weight"))
                torch.nn.init.normal_(weight, mean=float(gain), std=0.02 if base else 0.2)
    rng = np.random.default_rng(1)
    length = 128 if base else 11
    ids = rng.integers(3, settings["vocab_size"], (2, length))
    real = np.arange(length)[None] < np.array([[length - 4], [length // 2]])
    ids[~real] = config.pad_token_id
    segments = rng.integers(0, getattr(config, "type_vocab_size", 2) or 1, ids.shape)
    batch = {"token_ids": ids, "segment_ids": segments, "padding_mask": real}
    tensors = {
        "input_ids": torch.tensor(ids),
        "token_type_ids": torch.tensor(segments),
        "attention_mask": torch.tensor(real).float(),
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


def compare_gau(sizes: dict[str, int], length: int) -> dict[str, float]:
    """GAU-alpha with random values against NumPy, and after a round trip through the author's layout."""
    import keras
    from tests.models.gau_oracle import gau_alpha

    from kexue.checkpoints import open_checkpoint, read_all
    from kexue.models import Transformer, families

    keras.utils.set_random_seed(0)
    model = Transformer(families.get("gau_alpha").from_official(sizes | {"hidden_act": "swish"}), head="lm")
    rng = np.random.default_rng(1)
    ids = rng.integers(3, sizes["vocab_size"], (2, length)).astype("int32")
    real = np.arange(length)[None] < np.array([[length - 4], [length // 2]])
    segments = rng.integers(0, 2, ids.shape).astype("int32")
    batch = {"token_ids": ids, "segment_ids": segments, "padding_mask": real}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, "tf")
        with open_checkpoint(folder) as checkpoint:
            weights = {name: np.asarray(value, "float64") for name, value in read_all(checkpoint).items()}
        again = Transformer.from_pretrained(folder, head="lm")
        ours, back = ({n: keras.ops.convert_to_numpy(v) for n, v in m(batch).items()} for m in (model, again))
    out = {"hidden": 0.0, "logits": 0.0, "round trip": 0.0}
    for row, keep in enumerate(real):
        layers, size = sizes["num_hidden_layers"], sizes["attention_key_size"]
        want = gau_alpha(weights, ids[row], segments[row], keep, layers, size)
        for column, name in (("hidden", "sequence_output"), ("logits", "logits")):
            out[column] = max(out[column], float(np.abs(ours[name][row] - want[name])[keep].max()))
        out["round trip"] = max(out["round trip"], float(np.abs(back["logits"] - ours["logits"])[row][keep].max()))
    return out


GAU = {"vocab_size": 97, "hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 40, "attention_key_size": 8}
GAU_BASE = {"vocab_size": 12000, "hidden_size": 768, "num_hidden_layers": 24, "intermediate_size": 1536,
            "attention_key_size": 128}  # fmt: skip


def main() -> None:
    options = arguments(__doc__).parse_args()
    import kexue  # noqa: F401  chooses the backend

    columns = ("hidden", "pooled", "logits", "round trip")
    rows = []
    for family, name, settings in cases():
        found = compare(family, settings)
        rows.append((family, name, *(f"{found[c]:.1e}" if c in found else "" for c in columns)))
    for name, sizes, length in (("odd", GAU, 21), ("base", GAU_BASE, 128)):
        found = compare_gau(sizes, length)
        rows.append(("GAU-alpha (NumPy)", name, *(f"{found[c]:.1e}" if c in found else "" for c in columns)))
    backend = os.environ["KERAS_BACKEND"]
    body = f"Keras backend {backend}. Where a cell is empty, transformers has no such output.\n\n"
    body += table(("family", "shape", *columns), rows)
    command = f"KERAS_BACKEND={backend} python -m benchmarks.parity"
    publish(f"parity-{backend}", f"Parity with transformers ({backend})", command, body, options.write)


if __name__ == "__main__":
    main()
