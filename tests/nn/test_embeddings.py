"""Token and segment embeddings, and how weights start."""

import functools

import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy, check_layer

from kexue.errors import ConfigError
from kexue.nn import initializers
from kexue.nn.embeddings import SegmentEmbedding, TokenEmbedding

IDS = np.array([[0, 3, 257], [511, 256, 1]], "int32")


def test_tokens(tmp_path):
    layer = check_layer(functools.partial(TokenEmbedding, 512, 4), {"token_ids": IDS}, tmp_path)
    np.testing.assert_allclose(as_numpy(layer(IDS)), as_numpy(layer.table)[IDS], atol=1e-7)


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16", "mixed_float16"])
def test_ids_survive_low_precision(policy):
    """257 is not a bfloat16 number; 65537 not a float16 one."""
    layer = TokenEmbedding(70000, 1, dtype=policy)
    layer.build((None, None))
    layer.table.assign(np.arange(70000, dtype="float32")[:, None] % 128)
    ids = np.array([[257, 65537, 4099]], "int32")
    np.testing.assert_array_equal(as_numpy(ops.cast(layer(ids), "float32"))[0, :, 0], ids[0] % 128)


def test_segments(tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    segments = np.array([[0, 1, 2], [2, 2, 0]], "int32")
    layer = check_layer(functools.partial(SegmentEmbedding, 3), {"x": x, "segment_ids": segments}, tmp_path)
    table = as_numpy(layer.table)
    np.testing.assert_allclose(as_numpy(layer(x, segments)), x + table[segments], atol=1e-6)
    np.testing.assert_array_equal(as_numpy(layer(x)), as_numpy(layer(x, np.zeros_like(segments))))


def beyond(values, limit):
    """Share of larger values; Keras on PyTorch lets 4 in a million pass, other backends none."""
    return (np.abs(values) > limit * 1.0001).mean()


def test_depth_scaled_normal():
    """True deviation 1 / sqrt(layers * fan); the fan of a table is its width (spec 14)."""
    make = initializers.make({"depth_scaled": 4})
    for shape, fan in (((400, 800), 400), ((20000, 64), 64), ((2, 30000), 30000), ((10000, 20), 10000)):
        values = as_numpy(make(shape))
        np.testing.assert_allclose(values.std(), (4 * fan) ** -0.5, rtol=0.02, err_msg=str(shape))
        assert beyond(values, 2 * 1.13684723 * (4 * fan) ** -0.5) < 1e-4
    again = type(make).from_config(make.get_config())
    assert again.layers == 4


def test_plain_normal_is_truncated():
    values = as_numpy(initializers.make(0.02)((300, 300)))
    assert beyond(values, 0.04) < 1e-4
    np.testing.assert_allclose(values.std(), 0.02 * 0.8796, rtol=0.02)


@pytest.mark.parametrize("wrong", [0, -1.0, "normal", {"depth": 3}, {"depth_scaled": 0}, True, None])
def test_initializer_errors(wrong):
    with pytest.raises(ConfigError, match="initializer"):
        initializers.make(wrong)
