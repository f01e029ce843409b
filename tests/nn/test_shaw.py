"""Shaw positions against a double loop, and their identities."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from tests.nn.harness import as_numpy, gradient, jit

from kexue.errors import ConfigError
from kexue.nn.attention.multihead import MultiHeadAttention
from kexue.nn.attention.plumbing import PositionTables
from kexue.nn.positions import registry
from kexue.nn.positions.base import Sizes
from kexue.nn.positions.shaw import ShawPosition, grouped_sums, sinusoidal_rows

HEADS, SIZE, LENGTH, WIDTH = 2, 4, 7, 6


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def build(**options):
    """An attention layer with Shaw positions and random weights."""
    position = ShawPosition(SIZE, **{"clip": 3} | options)
    tables = PositionTables(position)
    tables(np.arange(3, dtype="int32")[None])
    layer = MultiHeadAttention(HEADS, SIZE, positions=position, initializer=0.5)
    layer.build((None, None, WIDTH))
    for i, variable in enumerate([*layer.weights, *position.weights]):
        variable.assign(random(*variable.shape, seed=i) * 0.5)
    return position, layer


def by_loops(position, layer, x, places, mask=None):
    """The definition, one pair of tokens at a time, in float64."""
    w = {v.name: as_numpy(v).astype("float64") for v in layer.weights}
    table = as_numpy(position.rows()).astype("float64")
    fused = x.astype("float64") @ w["qkv_kernel"] + w["qkv_bias"]
    q, k, v = (t.reshape(*x.shape[:2], HEADS, SIZE) for t in np.split(fused, 3, axis=-1))
    out = np.zeros((*x.shape[:2], HEADS, SIZE))
    for b, i, h in np.ndindex(*x.shape[:2], HEADS):
        terms = []
        for j in range(x.shape[1]):
            if mask is not None and not mask[b, i, j]:
                continue
            r = table[int(np.clip(places[b, j] - places[b, i], -position.clip, position.clip)) + position.clip]
            score = math.exp(q[b, i, h] @ (k[b, j, h] + r) / math.sqrt(SIZE))
            terms.append((score, v[b, j, h] + (r if position.adds_values else 0)))
        if terms:
            out[b, i, h] = sum(s * t for s, t in terms) / sum(s for s, _ in terms)
    return out.reshape(*x.shape[:2], -1) @ w["output_kernel"] + w["output_bias"]


@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize("table", ["sinusoidal", "learned"])
@pytest.mark.parametrize("clip", [1, 3, 64])
def test_equals_a_double_loop(table, values, clip):
    position, layer = build(table=table, values=values, clip=clip)
    x = random(2, LENGTH, WIDTH)
    places = np.tile(np.arange(LENGTH, dtype="int32"), (2, 1))
    got = as_numpy(layer(x, tables=position.tables(places[:1], places[:1])))
    np.testing.assert_allclose(got, by_loops(position, layer, x, places), atol=1e-5)


def test_any_positions_and_any_mask():
    """Positions of each row, in any order and with repeats; a row that sees nothing gives the output's bias."""
    position, layer = build()
    x = random(2, LENGTH, WIDTH)
    rng = np.random.default_rng(1)
    places = rng.integers(0, 20, (2, LENGTH)).astype("int32")
    mask = rng.random((2, LENGTH, LENGTH)) < 0.5
    mask[0, 2] = mask[1, 5] = False
    got = as_numpy(layer(x, attention_mask=mask[:, None], tables=position.tables(places, places)))
    np.testing.assert_allclose(got, by_loops(position, layer, x, places, mask), atol=1e-5)
    np.testing.assert_allclose(got[0, 2], as_numpy(layer.output_bias), atol=1e-6)


@settings(max_examples=15)
@given(st.integers(-10_000, 10_000))
def test_only_distances_count(shift):
    position, layer = build()
    x, places = random(1, LENGTH, WIDTH), np.arange(LENGTH, dtype="int32")[None]
    near, far = (as_numpy(layer(x, tables=position.tables(p, p))) for p in (places, places + shift))
    np.testing.assert_array_equal(near, far)


def test_distances_beyond_the_clip_are_equal():
    position, _ = build(clip=2)
    places = np.array([[0, 1, 2, 3, 50]], "int32")
    index = as_numpy(position.tables(places, places)[0])[0]
    assert index.tolist() == [[2, 3, 4, 4, 4], [1, 2, 3, 4, 4], [0, 1, 2, 3, 4], [0, 0, 1, 2, 4], [0, 0, 0, 0, 2]]


def test_nezhas_table():
    """Row t: sin(t / 10000^(2 i / d)) and cos in turns, counted from the first row, float32 to its last bit or two."""
    table = sinusoidal_rows(129, 64)
    assert table.shape == (129, 64)
    for t, n in ((0, 0), (0, 1), (64, 0), (64, 1), (3, 10), (128, 63)):
        angle = t / 10000 ** ((n - n % 2) / 64)
        np.testing.assert_allclose(table[t, n], (math.cos if n % 2 else math.sin)(angle), atol=1e-12)
    position = ShawPosition(64)
    position.build()
    np.testing.assert_allclose(as_numpy(position.rows()), table, atol=1e-7)


@pytest.mark.parametrize("rows", [1, 5])
def test_grouped_sums(rows):
    rng = np.random.default_rng(0)
    values, index = random(2, 3, 4, 6), rng.integers(0, rows, (2, 3, 4, 6)).astype("int32")
    want = np.zeros((2, 3, 4, rows))
    for place in np.ndindex(values.shape):
        want[(*place[:3], index[place])] += values[place]
    compiled = jit(lambda v, i: grouped_sums(v, i, rows))
    tensors = [ops.convert_to_tensor(t) for t in (values, index)]
    for got in (grouped_sums(*tensors, rows), compiled(*tensors)):
        np.testing.assert_allclose(as_numpy(got), want, atol=1e-5)


@pytest.mark.parametrize("table", ["sinusoidal", "learned"])
def test_gradient_by_finite_differences(table):
    position, layer = build(table=table)
    x, weights = random(1, 4, WIDTH), random(1, 4, WIDTH, seed=9)
    places = np.arange(4, dtype="int32")[None]
    mask = np.array([[1, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 1, 1]], bool)[None]

    def loss(value):
        out = layer(value, attention_mask=ops.convert_to_tensor(mask[:, None]), tables=position.tables(places, places))
        return ops.sum(out * ops.convert_to_tensor(weights))

    slope, step, direction = gradient(loss, x), 1e-5, random(*x.shape, seed=5).astype("float64")
    high, low = (
        (by_loops(position, layer, x + s * step * direction, places, mask) * weights).sum() for s in (1.0, -1.0)
    )
    assert np.isfinite(slope).all()
    np.testing.assert_allclose((slope * direction).sum(), (high - low) / (2 * step), rtol=1e-3)


def test_a_learned_table_gets_gradients_of_keys_and_values():
    position, layer = build(table="learned")
    x, places = random(1, LENGTH, WIDTH), np.arange(LENGTH, dtype="int32")[None]
    index = as_numpy(position.tables(places, places)[0])

    def loss(table):
        out = layer(x, tables=(ops.convert_to_tensor(index), table))
        return ops.sum(out**2)

    start = as_numpy(position.table)
    slope = gradient(loss, start)
    direction, step = random(*start.shape, seed=3).astype("float64"), 1e-5

    def by_hand(shift):
        position.table.assign(start + shift)
        values = (by_loops(position, layer, x, places) ** 2).sum()
        position.table.assign(start)
        return values

    # The table is float32: a step that it can hold.
    step = 1e-2
    want = (by_hand(step * direction) - by_hand(-step * direction)) / (2 * step)
    np.testing.assert_allclose((slope * direction).sum(), want, rtol=2e-3)
    assert (np.abs(slope).max(-1) > 0).all()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_low_precision(policy):
    position, layer = build(table="learned")
    low = ShawPosition(SIZE, clip=3, table="learned", dtype=policy)
    tables = PositionTables(low, dtype=policy)
    places = np.arange(LENGTH, dtype="int32")[None]
    made = tables(places)
    low.set_weights(position.get_weights())
    made = tables(places)
    assert keras.backend.standardize_dtype(made[0].dtype) == "int32"
    assert keras.backend.standardize_dtype(made[1].dtype) == "float32"
    other = MultiHeadAttention(HEADS, SIZE, positions=low, dtype=policy)
    other.build((None, None, WIDTH))
    other.set_weights(layer.get_weights())
    x, mask = random(2, LENGTH, WIDTH), np.ones((2, LENGTH, LENGTH), bool)
    mask[1] = False
    got = other(x, attention_mask=mask[:, None], tables=made)
    assert keras.backend.standardize_dtype(got.dtype) == keras.DTypePolicy(policy).compute_dtype
    got = as_numpy(ops.cast(got, "float32"))
    np.testing.assert_allclose(got, by_loops(position, layer, x, places.repeat(2, 0), mask), atol=0.05)


@pytest.mark.parametrize("table", ["sinusoidal", "learned"])
def test_configuration(table):
    """A layer with the encoding inside; models around it are saved and loaded in tests/models."""
    layer = MultiHeadAttention(HEADS, SIZE, positions=ShawPosition(SIZE, clip=2, table=table, initializer=0.1))
    again = MultiHeadAttention.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.positions.kind, again.positions.clip, again.positions.key_size) == (table, 2, SIZE)
    again = PositionTables.from_config(PositionTables(layer.positions).get_config())
    again(np.arange(3, dtype="int32")[None])
    assert len(again.weights) == (table == "learned")


def test_made_by_name():
    sizes = Sizes(width=12, heads=3, key_size=4, max_length=24, vocabulary_size=31)
    position = registry.make("shaw", {"clip": 5}, sizes)
    assert (position.key_size, position.clip, position.limit, position.acts_on_embeddings) == (4, 5, None, False)
    assert registry.without_defaults("shaw", {"clip": 64, "table": "sinusoidal", "values": False}) == {"values": False}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"clip": 0}, "clip=0"),
        ({"key_size": 0}, "key_size=0"),
        ({"key_size": 3}, "even key_size"),
        ({"table": "random"}, "'random'"),
    ],
)
def test_errors(arguments, words):
    with pytest.raises(ConfigError, match=words):
        ShawPosition(**{"key_size": 4} | arguments)


def test_values_of_another_size_are_refused():
    position = ShawPosition(SIZE)
    position.build()
    layer = MultiHeadAttention(HEADS, SIZE, value_size=3, positions=position)
    places = np.arange(4, dtype="int32")[None]
    with pytest.raises(ValueError, match="'values': False"):
        layer(random(1, 4, WIDTH), tables=position.tables(places, places))
