"""What must hold for every configuration: padding, masks, packing."""

import numpy as np
import pytest
from keras import ops
from tests.models.tiny import CONFIGS, LENGTH, ROWS, batch, hidden, shared

# Models whose attention looks at neighbours by their place in the row, or whose positions count it.
each = pytest.mark.parametrize("name", CONFIGS)
TIGHT = {"rtol": 1e-4, "atol": 2e-5}


def short(data, length):
    return {n: v[:, :length] if n != "condition" or v.ndim == 3 else v for n, v in data.items()}


@each
def test_padding_content_does_not_matter(name):
    model = shared(name)
    data = batch(model)
    data["padding_mask"][1, 3:] = False
    first = hidden(model, data)
    other = {**data, "token_ids": np.where(data["padding_mask"], data["token_ids"], 7).astype("int32")}
    keep = data["padding_mask"]
    np.testing.assert_array_equal(hidden(model, other)[keep], first[keep])


@each
def test_padding_length_does_not_matter(name):
    model = shared(name)
    data = batch(model, length=7)
    data["padding_mask"][:, 5:] = False
    if "order" in data:
        data["order"][:, :5] = np.argsort(np.argsort(data["order"][:, :5], axis=1), axis=1)
        data["order"][:, 5:] = [5, 6]
    np.testing.assert_allclose(hidden(model, data)[:, :5], hidden(model, short(data, 5)), **TIGHT)


def visible(model, data):
    facts = {n: data[n] for n in ("segment_ids", "order", "padding_mask", "document_ids") if n in data}
    out = model.mask.dense(data["token_ids"].shape[1], **facts)
    shape = (len(data["token_ids"]), *out.shape[2:])
    return np.broadcast_to(ops.convert_to_numpy(out)[:, 0], shape)


def reach(seen, config):
    """Which key can influence which query through the blocks: paths, with the residual stream's own token."""
    own, place = np.eye(seen.shape[-1], dtype=bool), np.arange(seen.shape[-1])
    out = own[None]
    for block in range(config.num_layers):
        step = seen
        if config.local_window is not None and block % config.global_every:
            step = seen & (abs(place[:, None] - place) <= config.local_window)
        out = ((step | own).astype(int) @ out.astype(int)) > 0
    return out


@each
def test_influence_follows_the_mask_exactly(name):
    """Changing token k changes output q only where the mask lets k's content reach q; otherwise by exactly 0."""
    model = shared(name)
    data = {n: np.repeat(v[-2:][:1], ROWS, axis=0) for n, v in batch(model).items()}
    data["padding_mask"][:, -1] = False
    if name == "prefix":
        data["segment_ids"][:] = [0, 0, 0, 1, 1, 1, 1]
    before = hidden(model, data)
    for k in range(LENGTH):  # row k has another token k
        data["token_ids"][k, k] = (data["token_ids"][k, k] - 3 + 11) % 28 + 3
    allowed = reach(visible(model, data), model.config)[0]
    out = hidden(model, data)
    for k in range(LENGTH):
        moved = np.abs(out[k] - before[k]).max(-1)  # at the same place of a batch: rounding depends on it
        assert (moved[~allowed[:, k]] == 0).all()
        assert (moved[allowed[:, k]] > 0).all()


@each
def test_packed_equals_padded(name):
    """Documents packed into a row, with document_ids and positions left to restart, equal rows of their own."""
    model = shared(name)
    if model.config.condition_size and not model.config.condition_per_token:
        pytest.skip("one condition a row cannot serve several documents")
    lengths = (4, 2, 3)
    padded = batch(model)
    padded["padding_mask"] = np.arange(LENGTH) < np.array([*lengths, *[1] * (ROWS - 3)])[:, None]
    if "order" in padded:
        padded["order"] = np.stack([np.r_[np.random.default_rng(i).permutation(n), n:LENGTH] for i, n in
                                    enumerate([*lengths, *[1] * (ROWS - 3)])]).astype("int32")  # fmt: skip
    packed = {n: np.concatenate([v[i, :k] for i, k in enumerate(lengths)])[None] for n, v in padded.items()}
    packed["document_ids"] = np.repeat(np.arange(1, 4, dtype="int32"), lengths)[None]
    # Two pads at the end, as the packer leaves them.
    packed = {n: np.pad(v, ((0, 0), (0, 2), *[(0, 0)] * (v.ndim - 2))) for n, v in packed.items()}
    got, want = hidden(model, packed)[0], hidden(model, padded)
    start = 0
    for row, n in enumerate(lengths):
        np.testing.assert_allclose(got[start : start + n], want[row, :n], **TIGHT)
        start += n
    # Nothing leaks from one document into another, not even a rounding error.
    packed["token_ids"][0, 0] = 5 + (packed["token_ids"][0, 0] == 5)
    np.testing.assert_array_equal(hidden(model, packed)[0, 4:9], got[4:9])


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
