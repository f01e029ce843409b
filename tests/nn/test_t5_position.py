"""T5's buckets and bias: golden borders, the definition, transformers, dtype, and what the bias is invariant to."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.harness import as_numpy

from kexue.errors import ConfigError
from kexue.nn.attention.plumbing import PositionTables
from kexue.nn.positions.t5 import T5Position, bucket_table

OTHERS = [(32, 128), (32, 256), (16, 20), (8, 33), (10, 13), (33, 100), (4, 500), (64, 1000), (128, 128)]


def buckets(num_buckets, max_distance, bidirectional, relative):
    table = bucket_table(num_buckets, max_distance, bidirectional)
    assert table.dtype == np.int32
    return table[np.clip(relative, -max_distance, max_distance) + max_distance]


def test_golden_borders():
    """Where buckets begin (spec 17.8), keys before the query; after it 16 more."""
    first = {8: 8, 12: 9, 16: 10, 23: 11, 32: 12, 46: 13, 64: 14, 91: 15}
    for distance, bucket in first.items():
        assert buckets(32, 128, True, np.array([-distance, 1 - distance, distance])).tolist() == [
            bucket, bucket - 1, bucket + 16,
        ]  # fmt: skip
    both = buckets(32, 128, False, -np.arange(500))
    assert np.flatnonzero(np.diff(both))[15:].tolist() == [
        n - 1 for n in (16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113)
    ]
    assert (buckets(32, 128, False, np.arange(1, 500)) == 0).all()


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("count", "far"), OTHERS)
def test_definition(count, far, bidirectional):
    """The formula in float64 away from exact powers; every bucket up to the last is used, in order."""
    n = count // 2 if bidirectional else count
    e = n // 2
    if far <= e:
        with pytest.raises(ConfigError, match="max_distance"):
            bucket_table(count, far, bidirectional)
        return
    got = buckets(count, far, bidirectional, -np.arange(0, 3 * far))
    for d, bucket in enumerate(got):
        exact = d if d < e else min(e + math.log(d / e) / math.log(far / e) * (n - e), n - 1)
        assert bucket <= exact + 1e-9
        assert bucket > exact - 1 - 1e-9
    if math.log1p(1 / e) / math.log(far / e) * (n - e) <= 1:  # no bucket is shorter than a step
        assert set(np.diff(got)) <= {0, 1}
    if bidirectional:
        np.testing.assert_array_equal(buckets(count, far, True, np.arange(1, 3 * far)), got[1:] + n)


@pytest.mark.peer
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("count", "far"), OTHERS)
def test_equals_transformers(count, far, bidirectional):
    torch = pytest.importorskip("torch")
    modeling = pytest.importorskip("transformers.models.t5.modeling_t5")
    if far <= count // (4 if bidirectional else 2):
        pytest.skip("no room for shared buckets")
    relative = np.arange(-500, 501)
    want = modeling.T5Attention._relative_position_bucket(torch.tensor(relative), bidirectional, count, far)
    np.testing.assert_array_equal(buckets(count, far, bidirectional, relative), want.numpy())


@pytest.mark.parametrize("bidirectional", [True, False])
def test_bias(bidirectional):
    """``table[bucket(key - query), head]`` for given positions, float32, the same for all queries and keys."""
    layer = T5Position(3, 8, 11, bidirectional)
    layer.build()
    layer.table.assign(np.random.default_rng(0).normal(size=(8, 3)))
    q, k = np.array([[0, 4, 9]], "int32"), np.array([[0, 1, 5, 40], [7, 7, 2, 3]], "int32")
    tables = layer.tables(q, k)
    bias = as_numpy(layer.scores(None, None, tables, scale=1.0, layer=None))
    assert bias.shape == (2, 3, 3, 4)
    table = as_numpy(layer.table)
    for b, h, i, j in np.ndindex(bias.shape):
        bucket = buckets(8, 11, bidirectional, k[b, j] - q[0, i])
        np.testing.assert_allclose(bias[b, h, i, j], table[bucket, h], rtol=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 100_000), st.booleans())
def test_only_distances_count(shift, bidirectional):
    layer = T5Position(2, 8, 20, bidirectional)
    layer.build()
    layer.table.assign(np.arange(16.0).reshape(8, 2))
    places = np.arange(9, dtype="int32")[None]
    near, far = layer.tables(places, places)[0], layer.tables(places + shift, places + shift)[0]
    np.testing.assert_array_equal(as_numpy(near), as_numpy(far))


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "bfloat16"])
def test_layer(dtype):
    """The layer that owns the table; the bias is float32 whatever the policy."""
    places = np.arange(5, dtype="int32")[None]
    tables = PositionTables(T5Position(2, 8, 11, dtype=dtype), dtype=dtype)
    (bias,) = tables(places)
    assert "float32" in str(bias.dtype)
    assert len(tables.trainable_weights) == 1
    assert tuple(bias.shape) == (1, 2, 5, 5)


def test_configuration():
    """All arguments come back, before and after the layer was built."""
    first = T5Position(2, 8, 11, bidirectional=False, initializer=0.3)
    again = T5Position.from_config(first.get_config())
    assert again.get_config() == first.get_config()
    layer = PositionTables(first)
    layer(np.arange(5, dtype="int32")[None])
    again = PositionTables.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.positions.max_distance, again.positions.bidirectional) == (11, False)


@pytest.mark.parametrize("options", [{"num_buckets": 3}, {"max_distance": 8}, {"num_buckets": 2}])
def test_errors(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}="):
        T5Position(2, **options)
