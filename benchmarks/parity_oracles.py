"""Families of `benchmarks.parity` that transformers does not have, against NumPy in float64 written from the papers."""

import functools
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

ODD = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
       "type_vocab_size": 2, "layer_norm_eps": 1e-6, "max_position_embeddings": 40, "vocab_size": 97,
       "hidden_act": "gelu", "max_relative_position": 5, "initializer_range": 0.2}  # fmt: skip
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
        "vocab_size": 2000}  # fmt: skip
GAU = {"vocab_size": 97, "hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 40, "attention_key_size": 8}
GAU_BASE = {"vocab_size": 12000, "hidden_size": 768, "num_hidden_layers": 24, "intermediate_size": 1536,
            "attention_key_size": 128}  # fmt: skip


def nezha(settings: dict[str, Any], length: int) -> dict[str, float]:
    """NEZHA against NumPy in float64, through Google's layout."""
    import keras
    from tests.models.oracles import nezha as oracle

    from kexue.checkpoints import open_checkpoint
    from kexue.models import Transformer
    from kexue.models.families import get

    keras.utils.set_random_seed(0)
    model = Transformer(get("nezha").from_official(settings), head=("lm", "pooler", "nsp"))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, "tf")
        with open_checkpoint(folder) as checkpoint:
            weights = {name: np.asarray(checkpoint[name], "float64") for name in checkpoint.names()}
    rng = np.random.default_rng(1)
    ids, segments = rng.integers(3, settings["vocab_size"], (2, length)), rng.integers(0, 2, (2, length))
    real = np.arange(length)[None] < np.array([[length - 4], [length // 2]])
    batch = {"token_ids": ids.astype("int32"), "segment_ids": segments.astype("int32"), "padding_mask": real}
    result = {name: keras.ops.convert_to_numpy(value) for name, value in model(batch).items()}
    worst: dict[str, float] = {}
    columns = {"sequence_output": "hidden", "pooled_output": "pooled", "logits": "logits", "nsp_logits": "logits"}
    for row in range(2):
        want = oracle(weights, ids[row], segments[row], real[row], model.config)
        for name, column in columns.items():
            at = real[row] if len(want[name]) == length else ...
            difference = float(np.abs(result[name][row][at] - want[name][at]).max())
            worst[column] = max(worst.get(column, 0.0), difference)
    return worst


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


def reference(name: str) -> dict[str, float]:
    """A tiny model with random values in every weight against the reference of the tests."""
    from keras import ops
    from tests.models.test_reference import Reference
    from tests.models.tiny import batch, build, run

    model = build(name, ("lm", "pooler", "discriminator"))
    data = batch(model)
    facts = {n: data[n] for n in ("segment_ids", "padding_mask") if n in data}
    visible = ops.convert_to_numpy(model.mask.dense(data["token_ids"].shape[1], **facts))[:, 0]
    ours, oracle = run(model, data), Reference(model)
    worst = {"hidden": 0.0, "logits": 0.0}
    for row, real in enumerate(data["padding_mask"]):
        want = oracle({n: v[row] for n, v in data.items()}, visible[min(row, len(visible) - 1)])
        for column, key in (("hidden", "sequence_output"), ("logits", "logits")):
            worst[column] = max(worst[column], float(np.abs(ours[key][row] - want[key])[real].max()))
    return worst


ORACLES: list[tuple[str, str, Callable[[], dict[str, float]]]] = [
    ("RoFormerV2", "tiny", functools.partial(reference, "roformer_v2")),
    ("GPT2-ML", "tiny", functools.partial(reference, "gpt2_ml")),
    ("NEZHA", "odd, gelu", functools.partial(nezha, ODD, 17)),
    ("NEZHA", "published", functools.partial(nezha, BASE, 128)),
    ("GAU-alpha", "odd", functools.partial(compare_gau, GAU, 21)),
    ("GAU-alpha", "published", functools.partial(compare_gau, GAU_BASE, 128)),
]
