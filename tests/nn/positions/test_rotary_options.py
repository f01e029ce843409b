"""Rotary positions beyond the plain ones: scaling, partial rotation, theta by numbers, trained theta."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from tests.nn.harness import as_numpy

from kexue.errors import ConfigError
from kexue.nn.positions.frequencies import frequencies, scale_frequencies
from kexue.nn.positions.rotary import RotaryPosition, apply_rotary

SCALINGS = {
    "linear": {"factor": 4.0},
    "ntk": {"factor": 8.0},
    "yarn": {"factor": 16.0, "original_length": 4096},
    "yarn_exact": {
        "kind": "yarn", "factor": 40.0, "original_length": 2048, "beta_fast": 20.0, "beta_slow": 2.0,
        "truncate": False, "mscale": 1.0, "mscale_all_dim": 0.7,
    },
    "yarn_temperature": {"kind": "yarn", "factor": 2.0, "original_length": 512, "attention_factor": 1.5},
    "llama3": {"factor": 8.0, "original_length": 8192, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
}  # fmt: skip


def options(name):
    return {"kind": name} | SCALINGS[name]


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def turn(layer, x, positions):
    """``x`` (length, dim) as queries at ``positions`` (length,)."""
    positions = np.asarray(positions)[None]
    q = ops.convert_to_tensor(np.asarray(x, "float32")[None, :, None])
    return as_numpy(layer.rotate(q, q, layer.tables(positions, positions))[0])[0, :, 0]


@pytest.mark.peer
@pytest.mark.parametrize("partial", [1.0, 0.5])
@pytest.mark.parametrize("base", [10000.0, 500000.0])
@pytest.mark.parametrize("name", SCALINGS)
def test_frequencies_equal_transformers(name, base, partial):
    pytest.importorskip("transformers")
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    ours = options(name)
    theirs = {"rope_type": {"ntk": "dynamic"}.get(ours["kind"], ours["kind"]), "rope_theta": base}
    theirs |= {n: v for n, v in ours.items() if n not in ("kind", "original_length")}
    theirs |= {"original_max_position_embeddings": ours.get("original_length", 2048), "partial_rotary_factor": partial}
    length = None
    if ours["kind"] == "ntk":  # the dynamic form with this length has the factor we fix
        length, theirs["factor"] = int(2048 * ours["factor"]), 1.0
    config = LlamaConfig(hidden_size=256, num_attention_heads=4, max_position_embeddings=2048, rope_parameters=theirs)
    want, factor = ROPE_INIT_FUNCTIONS[theirs["rope_type"]](config, None, seq_len=length)
    layer = RotaryPosition(64, base, scaling=ours, fraction=partial)
    assert layer.factor == pytest.approx(factor, rel=1e-6)
    np.testing.assert_allclose(layer.frequencies, want.numpy(), rtol=2e-6)


@pytest.mark.parametrize("name", SCALINGS)
def test_scores_of_scaled_positions(name):
    """Scores depend on the distance alone; the temperature multiplies them by its square."""
    layer = RotaryPosition(16, scaling=options(name))
    q, k = random(1, 16), random(1, 16, seed=1)
    near, far = (turn(layer, q, [s + 9])[0] @ turn(layer, k, [s])[0] for s in (0, 3000))
    assert near == pytest.approx(far, abs=2e-2)
    plain = RotaryPosition(16, theta=layer.frequencies.tolist())
    want = turn(plain, q, [9])[0] @ turn(plain, k, [0])[0]
    assert near == pytest.approx(want * layer.factor**2, rel=1e-4)


def test_linear_is_interpolation_and_ntk_keeps_the_fastest():
    x = random(3, 8)
    linear = RotaryPosition(8, scaling={"kind": "linear", "factor": 4})
    np.testing.assert_allclose(turn(linear, x, [0, 8, 40]), turn(RotaryPosition(8), x, [0, 2, 10]), atol=1e-5)
    plain, (ntk, _) = frequencies(8), scale_frequencies(8, scaling={"kind": "ntk", "factor": 4})
    assert ntk[0] == plain[0] == 1
    assert ntk[-1] == pytest.approx(plain[-1] / 4)
    assert (np.diff(plain / ntk) > 0).all()


def test_yarn_keeps_fast_pairs_and_interpolates_slow_ones():
    plain = frequencies(64)
    yarn, factor = scale_frequencies(64, scaling={"kind": "yarn", "factor": 8.0, "original_length": 2048})
    turns = 2048 * plain / (2 * np.pi)
    ratio = plain / yarn
    np.testing.assert_allclose(ratio[turns > 45], 1)
    np.testing.assert_allclose(ratio[turns < 0.8], 8)
    assert factor == pytest.approx(0.1 * np.log(8) + 1)


@pytest.mark.parametrize("layout", ["interleaved", "half"])
@pytest.mark.parametrize(("dim", "turned"), [(7, 4), (8, 2), (9, 8), (6, 6)])
def test_partial(layout, dim, turned):
    """The first features turn as a smaller vector would, the rest stay; odd sizes too."""
    layer = RotaryPosition(dim, 50.0, layout, rotary_dim=turned)
    x, places = random(4, dim), [0, 3, 17, 200]
    got = turn(layer, x, places)
    np.testing.assert_array_equal(got[:, turned:], x[:, turned:])
    np.testing.assert_allclose(got[:, :turned], turn(RotaryPosition(turned, 50.0, layout), x[:, :turned], places))
    direct = apply_rotary(ops.convert_to_tensor(x[None, :, None]), np.array([places]), 50.0, layout, turned)
    np.testing.assert_allclose(got, as_numpy(direct)[0, :, 0], atol=1e-6)
    assert RotaryPosition.from_config(layer.get_config()).rotary_dim == turned


@pytest.mark.peer
def test_partial_equals_gpt_neox():
    pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb

    q, places = random(2, 5, 3, 12), np.arange(5)[None] + [[0], [70]]
    angles = places[..., None] * frequencies(4)
    angles = torch.tensor(np.concatenate([angles, angles], -1)).float()
    head = torch.tensor(q[..., :4]).transpose(1, 2)
    want, _ = apply_rotary_pos_emb(head, head, angles.cos(), angles.sin())
    layer = RotaryPosition(12, layout="half", fraction=1 / 3)
    got = as_numpy(layer.rotate(ops.convert_to_tensor(q), ops.convert_to_tensor(q), layer.tables(places, places))[0])
    np.testing.assert_allclose(got[..., :4], want.transpose(1, 2).numpy(), atol=1e-5)
    np.testing.assert_array_equal(got[..., 4:], q[..., 4:])


def test_values_are_turned_without_the_temperature():
    layer = RotaryPosition(8, values=True, scaling={"kind": "yarn", "factor": 8.0, "original_length": 64})
    v, places = random(1, 3, 2, 8), np.array([[0, 5, 9]])
    got = as_numpy(layer.rotate_values(ops.convert_to_tensor(v), layer.tables(places, places)))
    np.testing.assert_allclose(np.linalg.norm(got, axis=-1), np.linalg.norm(v, axis=-1), rtol=1e-5)
    assert np.abs(got - v)[:, 1:].max() > 0.1


@settings(max_examples=25)
@given(st.integers(0, 99_900), st.integers(0, 100), st.sampled_from(sorted(SCALINGS)))
def test_positions_to_1e5(shift, distance, name):
    layer = RotaryPosition(8, scaling=options(name))
    q, k = random(1, 8), random(1, 8, seed=1)
    near = turn(layer, q, [distance])[0] @ turn(layer, k, [0])[0]
    far = turn(layer, q, [shift + distance])[0] @ turn(layer, k, [shift])[0]
    scale = float(np.linalg.norm(q) * np.linalg.norm(k)) * layer.factor**2
    assert far == pytest.approx(near, abs=scale * (1e-5 + 2 * (shift + distance) / 2**24))


def test_theta_trains():
    """The frequency of the position that was shown comes back from scores alone."""
    places = np.arange(6, dtype="int32")[None]

    class Scores(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.positions = RotaryPosition(2, train_theta=True)

        def build(self, _):
            self.positions.build()

        def call(self, x):
            q, k = self.positions.rotate(x, x, self.positions.tables(places, places))
            return ops.einsum("bqhd,bkhd->bqk", q, k)

    x = np.tile(np.array([1.0, 0.0], "float32"), (1, 6, 1, 1))
    want = np.cos(0.7 * (places[:, :, None] - places[:, None]))
    model = keras.Sequential([Scores()])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    model.fit(x, want, epochs=80, verbose=0)
    assert float(model.weights[0].value[0]) == pytest.approx(0.7, abs=0.02)


def test_errors():
    cases = {
        "kind": lambda: RotaryPosition(8, scaling={"kind": "cubic"}),
        "factor": lambda: RotaryPosition(8, scaling={"kind": "linear"}),
        "original_length": lambda: RotaryPosition(8, scaling={"kind": "yarn", "factor": 2.0}),
        "no option speed": lambda: RotaryPosition(8, scaling={"kind": "linear", "factor": 2.0, "speed": 1}),
        "at least 1": lambda: RotaryPosition(8, scaling={"kind": "linear", "factor": 0.5}),
        "dim=2": lambda: RotaryPosition(2, scaling={"kind": "ntk", "factor": 2.0}),
        "not with theta": lambda: RotaryPosition(2, theta=[1.0], scaling={"kind": "ntk", "factor": 2.0}),
        "low_freq_factor must be below": lambda: RotaryPosition(
            8, scaling={"kind": "llama3", "factor": 2.0, "original_length": 9, "low_freq_factor": 4.0}
        ),
        "rotary_dim or fraction": lambda: RotaryPosition(8, rotary_dim=4, fraction=0.5),
        "at most the key size 8": lambda: RotaryPosition(8, rotary_dim=10),
        "even": lambda: RotaryPosition(8, rotary_dim=3),
        "fraction=1.5": lambda: RotaryPosition(8, fraction=1.5),
        "features are to be rotated": lambda: apply_rotary(ops.ones((1, 1, 1, 2)), [[0]], rotary_dim=4),
        "base=0": lambda: RotaryPosition(8, base=0),
    }
    for match, make in cases.items():
        with pytest.raises(ConfigError, match=match):
            make()
