"""The derivative of output q by input k is exactly zero where the mask hides k from q, and not zero where it shows it.

On every kind of attention and every mask, alone and in a Transformer of one layer; and a permuted mask is the same
thing as a causal one on permuted inputs.
"""

import keras
import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy

from kexue.models import Transformer, TransformerConfig
from kexue.nn import masks
from kexue.nn.attention import registry
from kexue.nn.attention.plumbing import AttentionMask

L, D = 7, 6
SEGMENTS = np.array([[0, 0, 0, 1, 1, 1, 0]], "int32")
DOCUMENTS = np.array([[1, 1, 1, 2, 2, 3, 0]], "int32")
PADDING = np.array([[1, 1, 1, 1, 1, 1, 0]], bool)
ORDER = (2, 0, 4, 1, 6, 3, 5)

MASKS = {
    "bidirectional": (masks.Bidirectional(), {}),
    "padded": (masks.Bidirectional(), {"padding_mask": PADDING}),
    "causal": (masks.Causal(), {}),
    "causal, padded": (masks.Causal(), {"padding_mask": PADDING[:, ::-1].copy()}),
    "reverse": (masks.Causal(reverse=True), {}),
    "prefix": (masks.Prefix(), {"segment_ids": SEGMENTS, "padding_mask": PADDING}),
    "permuted": (masks.Permuted(ORDER), {}),
    "window": (masks.Window(2, 1), {}),
    "causal window": (masks.Causal() & masks.Window(2, 0), {}),
    "packed": (masks.Bidirectional(), {"document_ids": DOCUMENTS, "padding_mask": PADDING}),
    "packed, causal": (masks.Causal(), {"document_ids": DOCUMENTS}),
    "packed, prefix": (masks.Prefix(), {"document_ids": DOCUMENTS, "segment_ids": SEGMENTS}),
}
KINDS = {
    "softmax": ("softmax", {}),
    "log_n": ("softmax", {"scale": "log_n"}),
    "talking": ("softmax", {"talking": "pre_post"}),
    "residual scores": ("softmax", {"residual_scores": True}),
    "grouped": ("softmax", {"key_heads": 1}),
    "linear exp": ("linear", {"feature": "exp"}),
    "linear double softmax": ("linear", {"feature": "double_softmax"}),
    "performer": ("linear", {"feature": "performer"}),
}
NO_WINDOW = {n for n in MASKS if "window" in n}
CASES = [(kind, mask) for kind in KINDS for mask in MASKS if KINDS[kind][0] == "softmax" or mask not in NO_WINDOW]


def jacobian(function, x):
    """``d out[q] / d in[k]`` summed in absolute value over features: (L, L), for a batch of one row."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        full = np.asarray(jax.jit(jax.jacrev(function))(x))
    elif backend == "tensorflow":
        import tensorflow as tf

        v = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(v)
            y = function(v)
        full = tape.jacobian(y, v, experimental_use_pfor=False).numpy()
    else:
        import torch

        full = torch.autograd.functional.jacobian(function, torch.tensor(x)).numpy()
    return np.abs(full).sum(axis=(0, 2, 3, 5))


def build(kind, options, mask):
    arguments = {"heads": 2, "key_size": 4, "initializer": 0.5, "use_bias": False}
    takes_facts = registry.find(kind).takes_facts
    flag = {"mask": mask} if takes_facts else {"causal": AttentionMask(mask).causal_flag}
    layer = registry.make(kind, options, **arguments, **flag)
    layer.build((None, None, D))
    for i, w in enumerate(layer.trainable_weights):
        w.assign(np.random.default_rng(i).normal(size=w.shape) * 0.5)
    if kind == "linear":
        return lambda x, facts: layer(x, **facts)

    def call(x, facts):
        ids = np.zeros((1, L), "int32")
        y = layer(x, attention_mask=AttentionMask(mask)(ids, **facts))
        return y[0] if isinstance(y, tuple) else y

    return call


def visible(mask, facts):
    return as_numpy(mask.dense(L, **facts))[0, 0]


@pytest.mark.parametrize(("kind", "mask"), CASES)
def test_the_derivative_is_the_mask(kind, mask):
    rule, facts = MASKS[mask]
    call = build(*KINDS[kind], rule)
    x = np.random.default_rng(5).normal(size=(1, L, D)).astype("float32")
    slope, seen = jacobian(lambda t: call(t, facts), x), visible(rule, facts)
    # A token that does not see itself (padding) still asks, so that its output depends on it.
    np.fill_diagonal(slope, np.where(seen.diagonal(), slope.diagonal(), 0))
    assert (slope[~seen] == 0).all()
    assert (slope[seen] > 1e-6).all()


@pytest.mark.parametrize("attention", ["softmax", "linear"])
@pytest.mark.parametrize("mask", MASKS)
def test_in_a_transformer(attention, mask):
    """One layer: a token sees itself through the residual, others where the mask says so."""
    if attention == "linear" and mask in NO_WINDOW:
        pytest.skip("linear attention has no windows")
    rule, facts = MASKS[mask]
    config = TransformerConfig(
        vocabulary_size=30, hidden_size=8, num_layers=1, num_heads=2, intermediate_size=16, attention=attention,
        initializer=0.4,
    )  # fmt: skip
    model = Transformer(config, mask=rule)
    ids = np.arange(1, L + 1, dtype="int32")[None]
    base = as_numpy(model({"token_ids": ids, **facts})["sequence_output"])[0]
    # Token by token, because ids have no derivative; all changed rows in one batch.
    rows = np.repeat(ids, L, axis=0)
    rows[np.arange(L), np.arange(L)] += 15
    many = {name: np.repeat(value, L, axis=0) for name, value in facts.items()}
    changed = as_numpy(model({"token_ids": rows, **many})["sequence_output"])  # (k, q, D)
    moved = np.abs(changed - base).max(-1).T  # (q, k)
    seen = visible(rule, facts) | np.eye(L, dtype=bool)
    assert (moved[~seen] < 2e-6).all()  # a batch of another size may round differently
    assert (moved[seen] > 1e-4).all()


@pytest.mark.parametrize("kind", ["softmax", "talking", "linear exp", "performer"])
def test_permuted_mask_is_permuted_input(kind):
    """Attention is a function of a set: sorted by rank, the permuted mask is the lower triangle."""
    x = np.random.default_rng(5).normal(size=(1, L, D)).astype("float32")
    permuted, causal = (build(*KINDS[kind], rule) for rule in (masks.Permuted(ORDER), masks.Causal()))
    places = np.argsort(ORDER)
    want = as_numpy(permuted(ops.convert_to_tensor(x), {}))[:, places]
    np.testing.assert_allclose(as_numpy(causal(ops.convert_to_tensor(x[:, places]), {})), want, atol=1e-5)


@pytest.mark.parametrize("position", ["learned", "rotary"])
@pytest.mark.parametrize("attention", ["softmax", "linear"])
def test_permuted_model_is_permuted_input_with_its_positions(position, attention):
    config = TransformerConfig(
        vocabulary_size=30, hidden_size=8, num_layers=2, num_heads=2, intermediate_size=16, attention=attention,
        position=position, initializer=0.3,
    )  # fmt: skip
    permuted, causal = Transformer(config, mask=masks.Permuted(ORDER)), Transformer(config, mask=masks.Causal())
    causal.set_weights(permuted.get_weights())
    ids, places = np.arange(3, L + 3, dtype="int32")[None], np.argsort(ORDER).astype("int32")
    want = as_numpy(permuted({"token_ids": ids})["sequence_output"])[:, places]
    got = causal({"token_ids": ids[:, places], "position_ids": places[None]})["sequence_output"]
    np.testing.assert_allclose(as_numpy(got), want, atol=1e-5)
