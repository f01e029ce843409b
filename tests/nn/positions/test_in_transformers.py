"""What position encodings must do inside a model beside what every part must (tests/models/test_suite.py)."""

import json

import numpy as np
import pytest
from tests.models import tiny
from tests.models.tiny import LENGTH, POSITIONS, ROWS, batch, config, hidden

from kexue.errors import ConfigError
from kexue.models import Transformer, TransformerConfig
from kexue.models.weights import named_weights
from kexue.nn.positions import registry
from kexue.nn.positions.base import Sizes

each = pytest.mark.parametrize("kind", POSITIONS)
# Encodings that see differences of flat positions only.
RELATIVE = ("alibi", "rotary_partial", "rotary_yarn", "rotary_theta", "transformer_xl", "transformer_xl_clamp",
            "deberta_words", "shaw_values", "t5_buckets")  # fmt: skip
TIGHT = {"rtol": 1e-4, "atol": 3e-5}


def shared(kind):
    return tiny.shared(kind, "lm")  # the suite has compiled it


@each
def test_shift_of_all_positions(kind):
    """Relative encodings do not notice it; absolute ones do, save the convolution, which has no positions."""
    model = shared(kind)
    data = batch(model)
    data["padding_mask"][:] = True
    places = np.tile(np.arange(LENGTH, dtype="int32"), (ROWS, 1))
    plain = hidden(model, data)
    np.testing.assert_allclose(hidden(model, data | {"position_ids": places}), plain, **TIGHT)
    moved = hidden(model, data | {"position_ids": places + 12})
    grid = kind in ("rotary_nd", "rotary_generators")  # 12 ids are 4 full rows of the grid: a shift of one coordinate
    if kind in RELATIVE or kind == "conv" or grid:
        np.testing.assert_allclose(moved, plain, rtol=1e-3, atol=1e-3)
    else:
        assert np.abs(moved - plain).max() > 0.02


@pytest.mark.parametrize("kind", ["no_positions", *POSITIONS])
def test_order_of_tokens(kind):
    """Permuted tokens give permuted outputs exactly if the model knows no positions."""
    model = shared(kind)
    data = batch(model)
    data["padding_mask"][:] = True
    order = np.array([3, 0, 6, 1, 5, 2, 4])
    moved = hidden(model, {n: v[:, order] for n, v in data.items()})
    difference = np.abs(moved - hidden(model, data)[:, order]).max()
    assert difference < 1e-4 if kind == "no_positions" else difference > 0.02


def made(kind):
    sizes = Sizes(width=12, heads=3, key_size=4, max_length=20, vocabulary_size=31, hidden_size=12)
    return registry.make(*POSITIONS[kind], sizes, name="position")


@each
def test_serialized_encodings(kind):
    """An encoding survives as plain data, and an object in a configuration builds the same model as its name."""
    encoding = made(kind)
    assert encoding.name == "position"
    data = json.loads(json.dumps(registry.serialize(encoding)))
    again = registry.make(data, {}, None)
    assert again.get_config() == encoding.get_config()
    by_object = TransformerConfig.from_dict(config(kind).replace(position=encoding).to_dict())
    assert by_object.position_options == {}
    weights = named_weights(Transformer(by_object, head="lm"))
    assert {n: v.shape for n, v in weights.items() if "position" in n} == {
        n.replace("position_embedding", "position"): v.shape
        for n, v in named_weights(shared(kind)).items()
        if "position" in n
    }


@each
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_encodings_that_are_objects_take_the_policy_of_the_model(kind, dtype):
    model = Transformer(config(kind).replace(position=made(kind)), dtype=dtype)
    layers = [layer for layer in model.layers if layer.name in ("position", "position_tables")]
    assert {getattr(layer, "positions", layer).dtype_policy.name for layer in layers} == {dtype}


def test_unknown_options_are_named():
    with pytest.raises(ConfigError, match=r"no option 'slope'.*slopes"):
        Transformer(config("alibi", position_options={"slope": 1}))
    with pytest.raises(ConfigError, match=r"'alibi'.*'tupe'"):
        config("no_positions", position="alibbi")
