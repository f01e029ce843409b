"""Largest difference to transformers on random weights, and after a round trip kexue -> hf -> transformers.

On the Keras backend in force. Odd shapes (3 heads, 2 layers or more, ``gelu_new`` and ``relu``, epsilon 1e-6) and a
published size, float32 on a CPU, both rows padded. Compared at real tokens: hidden states, pooled output, logits (of
the vocabulary, the order of sentences or the discriminator: the worst). Decoders likewise, with grouped queries and
heads of their own size; of encoder-decoders the decoder's outputs. NEZHA and GAU-alpha, which transformers does not
have, are compared with NumPy in float64; the round trip of GAU-alpha is one through the author's layout.
"""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.parity_decoders import DECODERS, compare_decoder
from benchmarks.parity_oracles import ORACLES
from benchmarks.report import arguments, publish, table

ODD = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
       "type_vocab_size": 3, "layer_norm_eps": 1e-6, "max_position_embeddings": 40, "vocab_size": 97}  # fmt: skip
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


@dataclass(frozen=True)
class Peer:
    """A class of transformers and the heads of ours that answer it.

    Attributes:
        prefix: of the classes.
        classes: suffixes of classes to our heads.
        activation: name of the activation in configurations.
        odd: settings of the small shape, with ``ODD`` unless ``own_names``.
        base: settings of the published size.
        own_names: configurations do not have BERT's words.
    """

    prefix: str
    classes: dict[str, Any] = field(default_factory=lambda: {"ForMaskedLM": "lm", "Model": "pooler"})
    activation: str = "hidden_act"
    odd: dict[str, Any] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=dict)
    own_names: bool = False


DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "position_buckets": 256,
           "norm_rel_ebd": "layer_norm", "position_biased_input": False}  # fmt: skip
PEERS = (
    Peer("Bert"),
    Peer("Roberta"),
    Peer("RoFormer", {"ForMaskedLM": "lm"}, base={"embedding_size": 768}),
    Peer("Albert", {"ForMaskedLM": "lm", "ForPreTraining": ("lm", "pooler", "nsp"), "Model": "pooler"},
         odd={"embedding_size": 10, "num_hidden_layers": 6, "num_hidden_groups": 2}, base=BASE),
    Peer("Electra", {"ForMaskedLM": "lm", "ForPreTraining": "discriminator"}, odd={"embedding_size": 10}),
    Peer("ModernBert", {"ForMaskedLM": "lm"}, "hidden_activation",
         odd={"num_hidden_layers": 5, "local_attention": 6, "norm_eps": 1e-6, "pad_token_id": 0},
         base={"pad_token_id": 0}),
    Peer("XLNet", {"LMHeadModel": "lm"}, "ff_activation", own_names=True,
         odd={"d_model": 24, "n_layer": 2, "n_head": 3, "d_inner": 40, "layer_norm_eps": 1e-6, "vocab_size": 97},
         base={"d_model": 768, "n_layer": 12, "n_head": 12, "d_inner": 3072, "vocab_size": 32000}),
    Peer("DebertaV2", {"ForMaskedLM": "lm"}, base=BASE | DEBERTA,
         odd=DEBERTA | {"position_buckets": 8, "position_biased_input": True, "share_att_key": False,
                        "conv_kernel_size": 3}),
)  # fmt: skip
OUTPUTS = {"logits": "logits", "prediction_logits": "logits", "seq_relationship_logits": "nsp_logits",
           "sop_logits": "nsp_logits", "pooler_output": "pooled_output"}  # fmt: skip


def cases() -> list[tuple[Peer, str, dict[str, Any]]]:
    """Peer, name of the shape and settings of a configuration."""
    found = []
    for peer in PEERS:
        start = {} if peer.own_names else ODD
        found += [(peer, f"odd, {a}", start | {peer.activation: a} | peer.odd) for a in ("gelu_new", "relu")]
        found.append((peer, "published", {"vocab_size": 21128} | peer.base))
    return found


def batch_for(config: Any, length: int) -> dict[str, np.ndarray]:
    """Two rows of random tokens, both padded."""
    rng = np.random.default_rng(1)
    ids = rng.integers(3, config.vocab_size, (2, length))
    real = np.arange(length)[None] < np.array([[length - 4], [length // 2]])
    ids[~real] = config.pad_token_id
    batch = {"token_ids": ids.astype("int32"), "padding_mask": real}
    if count := segments(config):
        batch["segment_ids"] = rng.integers(0, count, ids.shape).astype("int32")
    return batch


def segments(config: Any) -> int:
    """How many segments a model tells apart."""
    return {"modernbert": 0}.get(config.model_type, getattr(config, "type_vocab_size", 2))


def random_model(cls: Any, config: Any, spread: float) -> Any:
    import torch

    torch.manual_seed(0)
    model = cls(config).eval()
    for name, weight in model.named_parameters():
        if weight.requires_grad and "embed_positions" not in name:
            gain = weight.ndim == 1 and name.endswith("weight")
            torch.nn.init.normal_(weight, mean=float(gain), std=spread)
    model.tie_weights()
    return model


def compare(peer: Peer, settings: dict[str, Any]) -> dict[str, float]:
    """The worst differences of all classes of a peer: ``hidden``, ``logits``, ``pooled``, ``round trip``."""
    import keras
    import torch
    import transformers

    from kexue.models import Transformer

    config = getattr(transformers, f"{peer.prefix}Config")(**settings)
    config._attn_implementation = "eager"
    small = ODD["hidden_size"] in (settings.get("hidden_size"), settings.get("d_model"))
    batch = batch_for(config, 11 if small else 128)
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids", "padding_mask": "attention_mask"}
    tensors = {names[name]: torch.tensor(value).long() for name, value in batch.items()}
    real = batch["padding_mask"]
    worst: dict[str, float] = {}

    def note(what: str, ours: Any, reference: torch.Tensor) -> None:
        theirs = reference.detach().numpy()
        at = real if theirs.shape[:2] == real.shape else ...
        difference = np.abs(np.asarray(keras.ops.convert_to_numpy(ours))[at] - theirs[at]).max()
        worst[what] = max(worst.get(what, 0.0), float(difference))

    for suffix, heads in peer.classes.items():
        cls = getattr(transformers, peer.prefix + suffix)
        theirs = random_model(cls, config, 0.2 if small else 0.02)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            theirs.save_pretrained(folder)
            ours = Transformer.from_pretrained(folder, head=heads)
            result, reference = ours(batch), theirs(**tensors)
            note("hidden", result["sequence_output"], theirs.base_model(**tensors).last_hidden_state)
            ours.save_pretrained(Path(folder) / "back", "hf")
            again = cls.from_pretrained(Path(folder) / "back", attn_implementation="eager").eval()(**tensors)
            for name, output in OUTPUTS.items():
                if getattr(reference, name, None) is None:
                    continue
                mine = result["discriminator_logits" if heads == "discriminator" else output]
                note("pooled" if output == "pooled_output" else "logits", mine, getattr(reference, name))
                note("round trip", getattr(again, name), getattr(reference, name))
    return worst


def main() -> None:
    options = arguments(__doc__).parse_args()
    import kexue  # noqa: F401  chooses the backend

    columns = ("hidden", "pooled", "logits", "round trip")
    found = [(peer.prefix, shape, compare(peer, settings)) for peer, shape, settings in cases()]
    found += [(f"{family} (NumPy)", shape, compare_oracle()) for family, shape, compare_oracle in ORACLES]
    found += [(stem, name, compare_decoder(stem, suffix, name, settings)) for stem, suffix, name, settings in DECODERS]
    rows = [(family, shape, *(f"{d[c]:.1e}" if c in d else "" for c in columns)) for family, shape, d in found]
    backend = os.environ["KERAS_BACKEND"]
    body = f"Keras backend {backend}. Where a cell is empty, transformers has no such output.\n\n"
    body += table(("family", "shape", *columns), rows)
    command = f"KERAS_BACKEND={backend} python -m benchmarks.parity"
    publish(f"parity-{backend}", f"Parity with transformers ({backend})", command, body, options.write)


if __name__ == "__main__":
    main()
