"""What every position encoding must do inside a model: padding, packing, shifts, order, files, dtype policies."""

import json

import keras
import numpy as np
import pytest
from tests.models.tiny import LENGTH, ROWS, batch, hidden, numpy
from tests.nn.positions.kinds import KINDS, RELATIVE, build, config, shared

from kexue.errors import ConfigError
from kexue.models import Transformer, TransformerConfig
from kexue.models.weights import named_weights
from kexue.nn import masks
from kexue.nn.positions import registry
from kexue.nn.positions.base import Sizes

each = pytest.mark.parametrize("kind", KINDS)
TIGHT = {"rtol": 1e-4, "atol": 3e-5}


@each
def test_padding_does_not_matter(kind):
    """Neither its content nor its amount."""
    model = shared(kind)
    data = batch(model)
    data["padding_mask"][:, 5:] = False
    data["padding_mask"][1, 3:] = False
    first = hidden(model, data)
    other = {**data, "token_ids": np.where(data["padding_mask"], data["token_ids"], 7).astype("int32")}
    keep = data["padding_mask"]
    np.testing.assert_array_equal(hidden(model, other)[keep], first[keep])
    short = {name: value[:, :5] for name, value in data.items()}
    np.testing.assert_allclose(hidden(model, short)[keep[:, :5]], first[keep], **TIGHT)


@each
def test_packed_equals_padded(kind):
    model, lengths = shared(kind), (4, 1, 3)
    padded = batch(model)
    padded["padding_mask"] = np.arange(LENGTH) < np.array([*lengths, *[1] * (ROWS - 3)])[:, None]
    packed = {n: np.concatenate([v[i, :k] for i, k in enumerate(lengths)])[None] for n, v in padded.items()}
    packed["document_ids"] = np.repeat(np.arange(1, 4, dtype="int32"), lengths)[None]
    packed = {n: np.pad(v, ((0, 0), (0, 2))) for n, v in packed.items()}
    got, want = hidden(model, packed)[0], hidden(model, padded)
    starts = np.cumsum([0, *lengths])
    for row, n in enumerate(lengths):
        np.testing.assert_allclose(got[starts[row] : starts[row] + n], want[row, :n], **TIGHT)
    packed["token_ids"][0, 0] = 5 + (packed["token_ids"][0, 0] == 5)
    np.testing.assert_array_equal(hidden(model, packed)[0, 4:8], got[4:8])


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


@pytest.mark.parametrize("kind", ["none", *KINDS])
def test_order_of_tokens(kind):
    """Permuted tokens give permuted outputs exactly if the model knows no positions."""
    model = shared(kind)
    data = batch(model)
    data["padding_mask"][:] = True
    order = np.array([3, 0, 6, 1, 5, 2, 4])
    moved = hidden(model, {n: v[:, order] for n, v in data.items()})
    difference = np.abs(moved - hidden(model, data)[:, order]).max()
    assert difference < 1e-4 if kind == "none" else difference > 0.02


@each
def test_files_and_configurations(kind, tmp_path):
    model = shared(kind)
    data = batch(model)
    want = hidden(model, data)
    again = TransformerConfig.from_dict(json.loads(json.dumps(model.config.to_dict())))
    assert again == model.config
    model.save_pretrained(tmp_path / "own")
    np.testing.assert_allclose(hidden(Transformer.from_pretrained(tmp_path / "own"), data), want, atol=1e-6)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(hidden(keras.models.load_model(tmp_path / "model.keras"), data), want, atol=1e-6)


def made(kind):
    sizes = Sizes(width=12, heads=3, key_size=4, max_length=20, vocabulary_size=31)
    return registry.make(*KINDS[kind], sizes, name="position")


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
    weights = named_weights(Transformer(by_object))
    assert {n: v.shape for n, v in weights.items() if "position" in n} == {
        n.replace("position_embedding", "position"): v.shape
        for n, v in named_weights(shared(kind)).items()
        if "position" in n
    }


@each
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_dtype_policies(kind, dtype):
    model = shared(kind)
    data = batch(model)
    low = Transformer(model.config, dtype=dtype)
    low.set_weights(model.get_weights())
    low.compile_calls = False
    got = numpy(keras.ops.cast(low(data)["sequence_output"], "float32"))
    want = hidden(model, data)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, want, atol=(0.03 if "bf" not in dtype else 0.25) * np.abs(want).max())
    objects = Transformer(model.config.replace(position=made(kind)), dtype=dtype)
    layers = [layer for layer in objects.layers if layer.name in ("position", "position_tables")]
    assert {getattr(layer, "positions", layer).dtype_policy.name for layer in layers} == {dtype}


@pytest.mark.parametrize("kind", ["alibi", "tupe", "conv", "rotary_partial", "complex"])
def test_causal_models(kind):
    """A later token never changes an earlier output."""
    model = build(kind, mask=masks.Causal())
    data = {n: np.repeat(v[:1], LENGTH, axis=0) for n, v in batch(model).items()}
    for k in range(LENGTH):
        data["token_ids"][k, k] = (data["token_ids"][k, k] + 5) % 20 + 3
    out, base = hidden(model, data), hidden(model, {n: v[:1] for n, v in batch(model).items()})[0]
    for k in range(1, LENGTH):
        np.testing.assert_allclose(out[k, :k], base[:k], atol=1e-6)
        assert np.abs(out[k, k:] - base[k:]).max() > 1e-3


def test_unknown_options_are_named():
    with pytest.raises(ConfigError, match=r"no option 'slope'.*slopes"):
        Transformer(config("alibi", position_options={"slope": 1}))
    with pytest.raises(ConfigError, match=r"'alibi'.*'tupe'"):
        config("none", position="alibbi")
