"""The convolution along a sequence against a loop, under masks, padding and packing."""

import functools

import numpy as np
import pytest
from tests.nn.harness import as_numpy, check_layer

from kexue.errors import ConfigError
from kexue.nn import masks
from kexue.nn.convolution import NeighbourConvolution

B, L, D = 2, 6, 4
FACTS = {
    "segment_ids": np.array([[0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]], "int32"),
    "document_ids": np.array([[1, 1, 2, 2, 2, 3], [1, 1, 1, 1, 2, 2]], "int32"),
    "order": np.array([[2, 0, 5, 1, 4, 3], [0, 1, 2, 5, 4, 3]], "int32"),
    "padding_mask": np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], bool),
}
MASKS = [masks.Bidirectional(), masks.Causal(), masks.Prefix(), masks.Permuted(strict=True), masks.Window(1, 0)]


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def built(size, mask=None, activation="tanh"):
    layer = NeighbourConvolution(size, activation, mask=mask)
    layer.build((None, None, D))
    layer.kernel.assign(random(size, D, D, seed=1))
    layer.bias.assign(random(D, seed=2))
    return layer


@pytest.mark.parametrize("size", [1, 3, 9])
@pytest.mark.parametrize("mask", MASKS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("names", [(), ("padding_mask",), ("document_ids",), ("padding_mask", "document_ids")])
def test_equals_a_loop(size, mask, names):
    layer, x = built(size, mask), random(B, L, D)
    facts = {n: FACTS[n] for n in (*names, "segment_ids", "order")}
    seen = np.broadcast_to(as_numpy(mask.dense(L, **facts))[:, 0], (B, L, L))
    real = FACTS["padding_mask"] if "padding_mask" in names else np.ones((B, L), bool)
    kernel, want = as_numpy(layer.kernel.value), np.zeros((B, L, D))
    for b, i in np.ndindex(B, L):
        if real[b, i]:
            want[b, i] = as_numpy(layer.bias.value)
            for n, j in enumerate(range(i - size // 2, i + size // 2 + 1)):
                if 0 <= j < L and seen[b, i, j]:
                    want[b, i] += x[b, j] @ kernel[n]
    np.testing.assert_allclose(as_numpy(layer(x, **facts)), np.tanh(want), atol=1e-5)


def test_without_segments_all_is_source():
    layer, x = built(3, masks.Prefix()), random(B, L, D)
    np.testing.assert_allclose(as_numpy(layer(x)), as_numpy(built(3)(x)), atol=1e-6)


def test_layer(tmp_path):
    make = functools.partial(NeighbourConvolution, 3, mask=masks.Causal(), dropout=0.5, initializer=0.3)
    check_layer(make, {"x": random(B, L, D), "padding_mask": FACTS["padding_mask"]}, tmp_path)
    layer = make()
    x = random(B, L, D)
    assert np.abs(as_numpy(layer(x, training=True)) - as_numpy(layer(x))).max() > 1e-3


def test_errors():
    for size in (0, 2):
        with pytest.raises(ConfigError, match=f"size={size}"):
            NeighbourConvolution(size)
