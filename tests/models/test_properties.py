"""What positions and masks must do in models, beside what every part must (test_suite.py)."""

import numpy as np
import pytest
from tests.models import tiny
from tests.models.tiny import CONFIGS, LENGTH, ROWS, batch, hidden

TIGHT = {"rtol": 1e-4, "atol": 2e-5}


def shared(name):
    return tiny.shared(name, "lm")  # the suite has compiled it


@pytest.mark.parametrize("name", [n for n in CONFIGS if "condition" not in n])
def test_positions_matter(name):
    """Two equal tokens differ by their places unless the model has no positions and a symmetric mask."""
    model = shared(name)
    data = batch(model)
    data["token_ids"][:] = 9
    data["padding_mask"][:] = True
    if "segment_ids" in data:
        data["segment_ids"][:] = 0
    data["token_ids"][1] = [9, 9, 9, 9, 9, 9, 12]
    data["token_ids"][2] = data["token_ids"][1, ::-1]
    if "order" in data:
        data["order"][:] = data["order"][:1]
    everything = hidden(model, data)
    out = everything[0]
    if name == "no_positions":
        np.testing.assert_allclose(out, np.broadcast_to(out[:1], out.shape), atol=1e-5)
    elif model.config.position in ("learned", "hierarchical"):
        assert np.abs(out[1:] - out[0]).max(-1).min() > 1e-3
    if name != "no_positions":
        assert np.abs(everything[1].sum(0) - everything[2].sum(0)).max() > 1e-4


@pytest.mark.parametrize("name", ["roformer", "rotary_half", "roformer_v2", "nezha", "shaw_learned", "modernbert"])
def test_relative_models_see_distances_only(name):
    model = shared(name)
    data = batch(model)
    places = np.tile(np.arange(LENGTH, dtype="int32"), (ROWS, 1))
    near, far = (hidden(model, {**data, "position_ids": places + shift}) for shift in (0, 300))
    np.testing.assert_allclose(near, hidden(model, data), **TIGHT)
    if model.config.position == "rotary" and model.config.position_options.get(
        "values"
    ):  # rotated values bring the absolute position back (spec 17.13)
        assert np.abs(far - near).max() > 0.1
    else:
        np.testing.assert_allclose(far, near, rtol=1e-3, atol=1e-3)


def test_given_positions_permute_with_their_tokens():
    """Attention is a set function: tokens may stand in any order if they carry their positions (spec 15)."""
    for name in ("bert", "roformer"):
        model = shared(name)
        data = batch(model)
        order = np.random.default_rng(3).permutation(LENGTH)
        moved = {n: v[:, order] for n, v in data.items()}
        moved["position_ids"] = np.tile(order.astype("int32"), (ROWS, 1))
        np.testing.assert_allclose(hidden(model, moved), hidden(model, data)[:, order], **TIGHT)


def test_permuted_mask_equals_permuted_input():
    """Permuted mask on the sentence in order = causal mask on the tokens sorted by rank, with their positions."""
    permuted, causal = shared("permuted"), shared("causal")
    data = batch(permuted)
    data["padding_mask"][:] = True
    order = np.argsort(data["order"], axis=1)
    moved = {n: np.take_along_axis(v, order, 1) for n, v in data.items() if n != "order"}
    moved["position_ids"] = order.astype("int32")
    want = np.take_along_axis(hidden(permuted, data), order[..., None], 1)
    np.testing.assert_allclose(hidden(causal, moved), want, **TIGHT)


def test_the_same_weights_under_any_mask():
    """A prefix model whose segments are all 0 is the encoder; all 1 is the language model."""
    prefix = shared("prefix")
    data = batch(prefix)
    ones = {**data, "segment_ids": np.ones_like(data["segment_ids"])}
    zeros = {**data, "segment_ids": np.zeros_like(data["segment_ids"])}
    np.testing.assert_allclose(hidden(prefix, zeros), hidden(shared("bert"), zeros), **TIGHT)
    np.testing.assert_allclose(hidden(prefix, ones), hidden(shared("causal"), ones), **TIGHT)
