"""Position encodings in small models, for tests of what every encoding must do."""

import functools
from typing import Any

import numpy as np
from tests.models.tiny import SMALL, randomise

from kexue.models import Transformer, TransformerConfig

SKEW = np.zeros((2, 4, 4))
SKEW[0, 0, 1], SKEW[0, 1, 0], SKEW[1, 2, 3], SKEW[1, 3, 2] = -1, 1, -1, 1
YARN = {"kind": "yarn", "factor": 4.0, "original_length": 40}

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "learned_multiply": ("learned", {"mode": "multiply"}),
    "hierarchical": ("hierarchical", {}),
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
}
"""Name in a test to ``position`` and ``position_options``."""

RELATIVE = ("alibi", "rotary_partial", "rotary_yarn", "rotary_theta")
"""Encodings that see differences of flat positions only."""


def config(kind: str, **changes: Any) -> TransformerConfig:
    position, options = ("none", {}) if kind == "none" else KINDS[kind]
    fields = {"position": position, "position_options": options, "num_segments": 0, "num_layers": 1, "max_length": 20}
    return TransformerConfig(**SMALL | fields | changes)


def build(kind: str, dtype: Any = None, mask: Any = None, **changes: Any) -> Transformer:
    return randomise(Transformer(config(kind, **changes), dtype=dtype, mask=mask))


@functools.cache
def shared(kind: str) -> Transformer:
    """One model a test session; do not change it."""
    return build(kind)
