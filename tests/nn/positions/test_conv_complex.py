"""Encodings at the embeddings: convolution, complex order, products."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.tiny import SMALL
from tests.nn.harness import as_numpy, check_layer

from kexue.errors import ConfigError
from kexue.models import Transformer, TransformerConfig
from kexue.nn import masks
from kexue.nn.positions.complex_order import ComplexOrderPosition
from kexue.nn.positions.conv import ConvolutionalPosition
from kexue.nn.positions.learned import LearnedPosition
from kexue.nn.positions.multiplicative import MultiplicativePosition

PLACES = np.array([[0, 1, 2, 3, 4], [3, 1, 0, 2, 0]], "int32")
TOKENS = np.array([[4, 4, 1, 0, 2], [3, 1, 5, 3, 3]], "int32")


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def conv(size, causal=False, width=3):
    layer = ConvolutionalPosition(size, causal)
    layer.build((None, None, width))
    layer.set_weights([random(*w.shape, seed=i) for i, w in enumerate(layer.weights)])
    return layer


@settings(max_examples=40)
@given(st.integers(1, 4), st.booleans(), st.integers(1, 9), st.booleans(), st.booleans(), st.integers(0, 10**6))
def test_convolution_by_hand(half, causal, length, padded, packed, seed):
    """Against a loop over tokens and offsets; what is padding or of another document counts as zero."""
    size = half if causal else 2 * half - 1
    layer, rng = conv(size, causal), np.random.default_rng(seed)
    kernel, bias = (as_numpy(w.value) for w in layer.weights)
    x = rng.normal(size=(2, length, 3)).astype("float32")
    real = rng.random((2, length)) < 0.7 if padded else None
    documents = np.sort(rng.integers(0, 3, (2, length)), axis=1).astype("int32") if packed else None
    want = x + bias
    for b, i, o in np.ndindex(2, length, size):
        j = i + o - (size - 1 if causal else size // 2)
        if 0 <= j < length and (real is None or real[b, j]) and (not packed or documents[b, i] == documents[b, j]):
            want[b, i] += kernel[o] * x[b, j]
    got = as_numpy(layer(x, np.arange(length)[None], padding_mask=real, document_ids=documents))
    keep = np.ones((2, length), bool) if real is None else real
    np.testing.assert_allclose(got[keep], want[keep], atol=1e-5)


def test_constant_input_shows_the_border():
    """Zero padding tells where the text ends: equal tokens differ at the border and nowhere else (spec 17.11)."""
    out = as_numpy(conv(5)(np.ones((1, 12, 3), "float32"), np.arange(12)[None]))[0]
    np.testing.assert_allclose(out[2:10], np.broadcast_to(out[2], (8, 3)), atol=1e-6)
    for i in (0, 1, 10, 11):
        assert np.abs(out[i] - out[2]).max() > 0.1
    real = np.arange(12)[None] < 8  # a text of 8 tokens has its border at 8
    short = as_numpy(conv(5)(np.ones((1, 12, 3), "float32"), np.arange(12)[None], padding_mask=real))[0]
    np.testing.assert_allclose(short[:6], out[:6], atol=1e-6)
    np.testing.assert_allclose(short[6:8], out[10:], atol=1e-6)


def test_convolution_layer(tmp_path):
    inputs = {"x": random(2, 5, 6), "position_ids": PLACES, "document_ids": np.array([[0, 0, 1, 1, 1]] * 2, "int32")}
    layer = check_layer(ConvolutionalPosition, inputs, tmp_path)
    assert layer.limit is None
    for options in ({"size": 2}, {"size": 0}, {"size": 0, "causal": True}):
        with pytest.raises(ConfigError, match="size="):
            ConvolutionalPosition(**options)


@pytest.mark.parametrize(
    ("mask", "follows", "symmetric"),
    [
        ("bidirectional", True, True), ("causal", True, False), ("prefix", False, False), ("permuted", False, False),
        (masks.Window(1, 1), True, True), (masks.Window(2, 0), False, False), (masks.SameDocument(), True, True),
    ],
)  # fmt: skip
def test_convolution_keeps_the_mask(mask, follows, symmetric):
    """A kernel that would show what the mask hides is refused as the model is built."""
    config = TransformerConfig(**SMALL | {"position": "conv", "mask": masks.to_config(masks.get(mask))})
    if follows:  # named, the kernel is causal where the mask is
        Transformer(config)
    else:
        with pytest.raises(ConfigError, match="would show tokens"):
            Transformer(config)
    encoding = ConvolutionalPosition(3)
    if symmetric:
        encoding.check_mask(masks.get(mask))
    else:
        with pytest.raises(ConfigError, match="'causal': True"):
            encoding.check_mask(masks.get(mask))
    if mask in ("causal", "prefix"):
        ConvolutionalPosition(3, causal=True).check_mask(masks.get(mask))
    if mask == "permuted":
        ConvolutionalPosition(1).check_mask(masks.get(mask))
        with pytest.raises(ConfigError, match="a smaller size"):
            ConvolutionalPosition(3, causal=True).check_mask(masks.get(mask))


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("share", ["none", "words", "features"])
def test_complex_order(share, layout, tmp_path):
    """r e^{i (omega k + theta)} with r and theta from the embedding and omega from the table."""
    x = random(2, 5, 6)
    make = functools.partial(ComplexOrderPosition, 7, share, layout)
    inputs = {"x": x, "position_ids": PLACES, "token_ids": TOKENS}
    layer = check_layer(make, inputs, tmp_path)
    shape = {"none": (7, 3), "words": (1, 3), "features": (7, 1)}[share]
    layer.set_weights([random(*shape, seed=3)])
    omega = np.broadcast_to(as_numpy(layer.weights[0].value), (7, 3))[TOKENS]

    def number(y):
        return y[..., :3] + 1j * y[..., 3:] if layout == "half" else y[..., 0::2] + 1j * y[..., 1::2]

    z = number(x)
    want = np.abs(z) * np.exp(1j * (omega * PLACES[..., None] + np.angle(z)))
    got = number(as_numpy(layer(x, PLACES, token_ids=TOKENS)))
    np.testing.assert_allclose(got, want, atol=1e-5)
    np.testing.assert_allclose(got[PLACES == 0], z[PLACES == 0], atol=1e-6)


def test_complex_vocabulary_slimming(tmp_path):
    """Frequencies of words follow the token table when a vocabulary is cut."""
    config = TransformerConfig(**SMALL | {"position": "complex", "num_segments": 0})
    model = Transformer(config)
    frequencies = next(w for w in model.weights if w.name == "word_frequencies")
    frequencies.assign(random(*frequencies.shape))
    model.save_pretrained(tmp_path)
    keep = [3, 9, 4]
    small = Transformer.from_pretrained(tmp_path, keep_tokens=keep)
    ids = np.array([[0, 2, 1, 1]], "int32")
    got, want = small(ids)["sequence_output"], model(np.array(keep, "int32")[ids])["sequence_output"]
    np.testing.assert_allclose(as_numpy(got), as_numpy(want), atol=1e-5)


def test_products(tmp_path):
    x = random(2, 5, 4)
    inputs = {"x": x, "position_ids": PLACES}
    layer = check_layer(functools.partial(MultiplicativePosition, 5), inputs, tmp_path)
    np.testing.assert_array_equal(as_numpy(layer(x, PLACES)), x)  # starts at 1
    layer.set_weights([random(5, 4, seed=2)])
    np.testing.assert_allclose(as_numpy(layer(x, PLACES)), x * random(5, 4, seed=2)[PLACES], rtol=1e-6)
    other = check_layer(functools.partial(LearnedPosition, 5, mode="multiply"), inputs, tmp_path)
    other.set_weights([random(5, 4, seed=2) - 1])
    np.testing.assert_allclose(as_numpy(other(x, PLACES)), as_numpy(layer(x, PLACES)), atol=1e-6)


def test_errors():
    for match, make in {
        "share='all'": lambda: ComplexOrderPosition(7, "all"),
        "layout='full'": lambda: ComplexOrderPosition(7, layout="full"),
        "even width": lambda: ComplexOrderPosition(7, "features")(random(1, 2, 5), PLACES[:1, :2]),
        "token_ids": lambda: ComplexOrderPosition(7)(random(1, 2, 4), PLACES[:1, :2]),
        "mode='concat'": lambda: LearnedPosition(5, mode="concat"),
    }.items():
        with pytest.raises(ConfigError, match=match):
            make()
