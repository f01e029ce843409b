"""XLNet and DeBERTa-v2 against transformers, both ways; the second stream of XLNet; GAU-alpha against NumPy."""

import json

import keras
import numpy as np
import pytest
from tests.models.gau_oracle import gau_alpha
from tests.models.tiny import batch, build, config, numpy, run, shared

from kexue.checkpoints import open_checkpoint, read_all, write_safetensors, write_tf_bundle
from kexue.errors import CheckpointError, ConfigError
from kexue.models import Transformer, families
from kexue.models.weights import named_weights
from kexue.nn.masks import Causal, Permuted, Prefix

peer = pytest.importorskip("tests.models.peer", reason="torch and transformers")
torch, transformers = peer.torch, peer.transformers

XLNET = {"vocab_size": 61, "d_model": 24, "n_layer": 2, "n_head": 3, "d_inner": 44}
DEBERTA = {
    "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 44,
    "max_position_embeddings": 40, "relative_attention": True, "position_biased_input": False, "position_buckets": 8,
    "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": ["p2c", "c2p"],
}  # fmt: skip


def random_model(kind, cls, **settings):
    """A transformers model with random values in every parameter."""
    c = getattr(transformers, f"{kind}Config")(**settings)
    torch.manual_seed(0)
    model = getattr(transformers, cls)(c).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(0, 0.3 if p.ndim > 1 else 0.2)
            if p.ndim == 1 and name.endswith("weight"):
                p.add_(1.0)
    model.tie_weights()
    return model


def xlnet(cls="XLNetLMHeadModel", **changes):
    return random_model("XLNet", cls, **XLNET | changes)


def deberta(cls="DebertaV2ForMaskedLM", **changes):
    return random_model("DebertaV2", cls, **DEBERTA | changes)


def make_batch(length=13, segments=3, seed=0):
    """Ids, segments and padding on the right; the longer row is not padded."""
    rng = np.random.default_rng(seed)
    keep = np.arange(length) < np.array([[length - 4], [length]])
    ids = np.where(keep, rng.integers(6, 61, (2, length)), 5).astype("int32")
    data = {"token_ids": ids, "padding_mask": keep}
    if segments:
        data["segment_ids"] = rng.integers(0, segments, (2, length)).astype("int32")
    return data


def theirs(model, data, **more):
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids"}
    inputs = {names[n]: torch.tensor(v).long() for n, v in data.items() if n in names}
    if not data["padding_mask"].all():
        inputs["attention_mask"] = torch.tensor(data["padding_mask"]).float()
    with torch.no_grad():
        out = model(**inputs, **more, output_hidden_states=True)
    result = {"sequence_output": out.hidden_states[-1]}
    if hasattr(out, "logits"):
        result["logits"] = out.logits
    return {name: value.float().numpy() for name, value in result.items()}


def worst(ours, want, keep):
    return max(float(np.abs(ours[n][keep] - v[keep]).max()) / max(1.0, float(np.abs(v).max())) for n, v in want.items())


def there_and_back(model, data, tmp_path, head):
    """Parity from their file, then kexue, hf, transformers again with equal tensors."""
    want = theirs(model, data)
    model.save_pretrained(tmp_path / "theirs")
    ours = Transformer.from_pretrained(tmp_path / "theirs", head=head)
    keep = data["padding_mask"]
    assert worst(run(ours, data), want, keep) < 1e-5
    ours.save_pretrained(tmp_path / "kexue")
    again = Transformer.from_pretrained(tmp_path / "kexue", head=head)
    again.save_pretrained(tmp_path / "hf", format="hf")
    back = peer.reload(tmp_path / "hf", type(model).__name__)
    for name, value in model.state_dict().items():
        other = name.replace("lm_predictions.lm_head.", "cls.predictions.transform.")
        other = other.replace("transform.bias", "bias")
        if other == "cls.predictions.bias" and not model.config.tie_word_embeddings:
            continue  # transformers uses decoder.bias there
        np.testing.assert_array_equal(back.state_dict()[other].numpy(), value.numpy(), err_msg=name)
    assert worst(theirs(back, data), want, keep) < 1e-5
    return ours


# ---------------------------------------------------------------- XLNet


@pytest.mark.peer
@pytest.mark.parametrize(
    ("changes", "segments"),
    [
        ({}, 3),
        ({"ff_activation": "relu", "layer_norm_eps": 1e-6}, 0),
        ({"attn_type": "uni", "n_layer": 3}, 3),
        ({"clamp_len": 4}, 2),
        ({"tie_word_embeddings": False, "n_head": 1}, 0),
    ],
    ids=["segments", "relu", "uni", "clamp", "untied"],
)
def test_xlnet_equals_transformers(changes, segments, tmp_path):
    data = make_batch(segments=segments)
    if "attn_type" in changes:  # transformers' mask of that kind cannot take a padding mask
        data["padding_mask"][:] = True
    ours = there_and_back(xlnet(**changes), data, tmp_path, "lm")
    assert (ours.mask == Causal()) == (changes.get("attn_type") == "uni")
    bare = xlnet("XLNetModel", **changes)
    there_and_back(bare, data, tmp_path / "bare", None)


@pytest.mark.peer
def test_xlnet_target_stream_equals_transformers(tmp_path):
    """perm_mask and target_mapping there; the order of a permuted mask here. All places, and some of them.

    The first place in the order sees no key: transformers spreads it over all keys, its own token too; here it sees
    none. It is left out.
    """
    model, length = xlnet(), 9
    data = make_batch(length)
    data["padding_mask"][:] = True
    rng = np.random.default_rng(3)
    order = np.stack([rng.permutation(length) for _ in range(2)]).astype("int32")
    hidden = torch.tensor(order[:, None, :] >= order[:, :, None]).float()  # [b, i, j]: j does not come before i
    model.save_pretrained(tmp_path)
    ours = Transformer.from_pretrained(tmp_path, head="lm", mask=Permuted(), two_stream=True)
    every = torch.eye(length)[None].repeat(2, 1, 1)
    with torch.no_grad():
        inputs = {"input_ids": torch.tensor(data["token_ids"]).long(),
                  "token_type_ids": torch.tensor(data["segment_ids"]).long(), "perm_mask": hidden}  # fmt: skip
        both = model(**inputs, target_mapping=every, output_hidden_states=True)
        content, target = (h.numpy() for h in both.hidden_states[-2:])
    out = run(ours, {**data, "order": order})
    np.testing.assert_allclose(out["sequence_output"], content, atol=2e-5)
    seeing = order > 0
    np.testing.assert_allclose(out["target_output"][seeing], target[seeing], atol=2e-5)
    np.testing.assert_allclose(out["logits"][seeing], both.logits.numpy()[seeing], atol=1e-4)
    places = np.stack([np.argsort(row)[-3:] for row in order]).astype("int32")
    some = run(ours, {**data, "order": order, "target_positions": places})
    assert some["logits"].shape == (2, 3, 61)
    rows = np.arange(2)[:, None]
    np.testing.assert_allclose(some["target_output"], out["target_output"][rows, places], atol=2e-5)
    mapping = torch.nn.functional.one_hot(torch.tensor(places).long(), length).float()
    with torch.no_grad():
        few = model(**inputs, target_mapping=mapping).logits.numpy()
    np.testing.assert_allclose(some["logits"], few, atol=1e-4)
    np.testing.assert_allclose(some["sequence_output"], out["sequence_output"], atol=2e-5)


STREAMS = {
    "permuted": ("permuted", {}),
    "causal": ("causal", {}),
    "prefix": ("prefix", {}),
    "rotary": ("permuted", {"position": "rotary"}),
    "norm_first": ("permuted", {"norm_order": "pre"}),
    "deberta": ("causal", {"position": "deberta"}),
    "unit": ("permuted", {"attention": "gau", "num_heads": 1, "position": "rotary"}),
}


@pytest.mark.parametrize("name", STREAMS)
def test_target_stream_never_sees_its_token_nor_later_ones(name):
    """The Jacobian by differences: token k moves target q exactly where the mask shows k to q, through other tokens
    too, and never where k is q. The content stream is the model without a second stream."""
    mask, changes = STREAMS[name]
    changes = ({"position_options": {}} if "position" in changes else {}) | changes
    model = build("two_stream", "lm", mask=mask, **changes)
    length, layers = 7, model.config.num_layers
    data = {n: v[:1].repeat(length + 1, 0) for n, v in batch(model, 2, length).items()}
    data["segment_ids"] = np.array([[0, 0, 0, 1, 1, 1, 1]] * (length + 1), "int32")
    before = run(model, data)
    for k in range(length):
        data["token_ids"][k, k] = (data["token_ids"][k, k] - 3 + 11) % 28 + 3
    after = run(model, data)
    facts = {n: data[n][:1] for n in ("segment_ids", "order") if n in data}
    seen = np.broadcast_to(numpy(model.mask.dense(length, **facts))[0, 0], (length, length))
    content = seen | np.eye(length, dtype=bool)
    reach = np.linalg.matrix_power(content.astype(int), layers - 1) > 0
    target = ((seen & ~np.eye(length, dtype=bool)).astype(int) @ reach.astype(int)) > 0
    for k in range(length):
        moved = np.abs(after["target_output"][k] - before["target_output"][k]).max(-1)
        assert (moved[~target[:, k]] == 0).all()
        assert (moved[target[:, k]] > 0).all()
        if name != "prefix":  # there the source sees itself through others: documented by the mask, not by the stream
            assert moved[k] == 0
            assert (after["logits"][k, k] == before["logits"][k, k]).all()
    single = build("two_stream", mask=mask, two_stream=False, **changes)
    for variable in named_weights(single).items():
        variable[1].assign(named_weights(model)[variable[0]])
    np.testing.assert_allclose(run(single, data)["sequence_output"], after["sequence_output"], atol=2e-5)


def test_target_places_of_packed_rows():
    """Targets by their places in the row; documents stay apart, and equal rows of their own."""
    model = build("two_stream", "lm", mask="causal")
    data = batch(model, 2, 7)
    data["padding_mask"][:] = True
    lengths = (4, 3)
    packed = {n: np.concatenate([v[i, :k] for i, k in enumerate(lengths)])[None] for n, v in data.items()}
    packed["document_ids"] = np.repeat(np.array([1, 2], "int32"), lengths)[None]
    places = np.array([[3, 1, 5, 6]], "int32")
    got = run(model, packed | {"target_positions": places})["target_output"][0]
    want = run(model, data)["target_output"]
    np.testing.assert_allclose(got, [want[0, 3], want[0, 1], want[1, 1], want[1, 2]], atol=2e-5)


def test_two_streams_train_every_weight():
    model = build("two_stream", "lm", dropout=0.0, attention_dropout=0.0)
    data = {n: v for n, v in batch(model).items() if n != "padding_mask"}
    model.compile(keras.optimizers.SGD(0.1), loss={"logits": keras.losses.SparseCategoricalCrossentropy(True)})
    before = {n: numpy(v.value) for n, v in named_weights(model).items()}
    model.fit(data, {"logits": data["token_ids"]}, batch_size=8, epochs=1, verbose=0)
    for name, variable in named_weights(model).items():
        assert np.abs(numpy(variable.value) - before[name]).max() > 0, name


def test_one_stream_keeps_the_vector_of_the_other(tmp_path):
    """Untrained here, and still in the files."""
    model = shared("xlnet", "lm")
    vector = named_weights(model)["token_embedding/mask_vector"]
    assert all(v is not vector for v in model.trainable_variables)
    for format in ("hf", "tf", "kexue"):
        model.save_pretrained(tmp_path / format, format=format)
        again = Transformer.from_pretrained(tmp_path / format, two_stream=True, head="lm", mask=Permuted())
        found = named_weights(again)["token_embedding/mask_vector"]
        np.testing.assert_array_equal(numpy(found.value), numpy(vector.value))
        assert any(v is found for v in again.trainable_variables)


def test_what_cannot_have_two_streams():
    for changes in (
        {"position": "learned", "position_options": {}},
        {"attention_options": {"residual_scores": True}},
        {"embedding_size": 8},
    ):
        with pytest.raises(ConfigError, match="two_stream"):
            build("two_stream", **changes)
    model = shared("two_stream")
    data = batch(model)
    for places, words in ((np.full((8, 2), 7), "target_positions must lie between 0 and 6"),
                          (np.zeros((3, 2)), r"target_positions must be of shape \(batch")):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            model(data | {"target_positions": places.astype("int32")})
    with pytest.raises(ConfigError, match="mask_vector"):
        config("two_stream", mask_vector=False)


def test_xlnet_in_the_authors_layout(tmp_path):
    """One tensor for the biases of all blocks, and a configuration with the authors' keys."""
    model = shared("xlnet", "lm")
    model.save_pretrained(tmp_path, format="tf")
    with open_checkpoint(tmp_path) as checkpoint:
        shapes = {name: tuple(checkpoint[name].shape) for name in checkpoint.names()}
    assert shapes["model/transformer/r_w_bias"] == (2, 3, 4)
    assert shapes["model/transformer/seg_embed"] == (2, 2, 3, 4)
    assert shapes["model/transformer/layer_1/rel_attn/o/kernel"] == (12, 3, 4)
    assert shapes["model/transformer/mask_emb/mask_emb"] == (1, 1, 12)
    (tmp_path / "bert_config.json").unlink()
    official = {"d_head": 4, "d_inner": 20, "d_model": 12, "ff_activation": "gelu", "n_head": 3, "n_layer": 2,
                "n_token": 31, "untie_r": True}  # fmt: skip
    (tmp_path / "xlnet_config.json").write_text(json.dumps(official))
    again = Transformer.from_pretrained(tmp_path, head="lm")
    data = batch(model)
    np.testing.assert_allclose(run(again, data)["logits"], run(model, data)["logits"], atol=1e-5)
    (tmp_path / "xlnet_config.json").write_text(json.dumps(official | {"n_layer": 3}))
    with pytest.raises(CheckpointError, match="layer_2"):
        Transformer.from_pretrained(tmp_path)
    for name, value in (("untie_r", False), ("bi_data", True)):
        with pytest.raises(ConfigError, match=name):
            families.get("xlnet").from_official(official | {name: value})


def test_too_few_entries_for_the_blocks(tmp_path):
    model = shared("xlnet")
    model.save_pretrained(tmp_path, format="tf")
    with open_checkpoint(tmp_path) as checkpoint:
        tensors = dict(read_all(checkpoint))
    tensors["model/transformer/r_w_bias"] = tensors["model/transformer/r_w_bias"][:1]
    write_tf_bundle(tmp_path / "bert_model.ckpt", tensors)
    with pytest.raises(CheckpointError, match=r"r_w_bias must have an entry for block 1.*\(1, 3, 4\)"):
        Transformer.from_pretrained(tmp_path)


# ---------------------------------------------------------------- DeBERTa


@pytest.mark.peer
@pytest.mark.parametrize(
    ("changes", "segments"),
    [
        ({}, 0),
        ({"share_att_key": False, "norm_rel_ebd": "none", "pos_att_type": "c2p"}, 0),
        ({"share_att_key": False, "pos_att_type": ["p2c"], "position_buckets": -1, "max_relative_positions": 5}, 0),
        ({"position_biased_input": True, "type_vocab_size": 3, "hidden_act": "relu", "layer_norm_eps": 1e-6}, 3),
        ({"conv_kernel_size": 3, "conv_act": "gelu"}, 0),
        ({"conv_kernel_size": 5, "num_hidden_layers": 3}, 0),
        ({"tie_word_embeddings": False, "num_attention_heads": 1}, 0),
    ],
    ids=["v3", "c2p", "p2c", "absolute", "conv3", "conv5", "untied"],
)
def test_deberta_equals_transformers(changes, segments, tmp_path):
    data = make_batch(segments=segments, length=17)
    there_and_back(deberta(**changes), data, tmp_path, "lm")
    there_and_back(deberta("DebertaV2Model", **changes), data, tmp_path / "bare", None)


@pytest.mark.peer
def test_deberta_with_the_head_of_microsofts_files(tmp_path):
    """``legacy=False``: other names for the same function; and tensors of the generator's loss beside them."""
    model = deberta(legacy=False)
    data = make_batch(segments=0)
    want = theirs(model, data)
    model.save_pretrained(tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        tensors = dict(read_all(checkpoint))
    assert any(name.startswith("lm_predictions.lm_head.") for name in tensors)
    tensors["mask_predictions.dense.weight"] = np.zeros((24, 24), "float32")
    write_safetensors(tmp_path / "model.safetensors", tensors)
    ours = Transformer.from_pretrained(tmp_path, head="lm")
    assert worst(run(ours, data), want, data["padding_mask"]) < 1e-5
    ours.save_pretrained(tmp_path / "hf", format="hf")
    assert worst(theirs(peer.reload(tmp_path / "hf", "DebertaV2ForMaskedLM"), data), want, data["padding_mask"]) < 1e-5


@pytest.mark.peer
def test_deberta_pooler(tmp_path):
    model = deberta("DebertaV2ForSequenceClassification", num_labels=3)
    data = make_batch(segments=0)
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"unknown tensors classifier\.bias, classifier\.weight"):
        ours = Transformer.from_pretrained(tmp_path, head="pooler", strict=False)
    want = model.pooler(torch.tensor(theirs(model, data)["sequence_output"])).detach().numpy()
    np.testing.assert_allclose(run(ours, data)["pooled_output"], want, atol=2e-5)


@pytest.mark.parametrize("mask", [Causal(), Prefix(), Permuted()])
def test_the_convolution_obeys_the_mask(mask):
    """Changing token k moves output q only where the mask lets k reach q."""
    model = build("convolution", mask=mask)
    data = {n: v[:1].repeat(8, 0) for n, v in batch(model).items()}
    data["segment_ids"][:] = [0, 0, 0, 1, 1, 1, 1]
    before = run(model, data)["sequence_output"]
    for k in range(7):
        data["token_ids"][k, k] = (data["token_ids"][k, k] - 3 + 11) % 28 + 3
    after = run(model, data)["sequence_output"]
    facts = {n: data[n][:1] for n in ("segment_ids", "order") if n in data}
    seen = np.broadcast_to(numpy(model.mask.dense(7, **facts))[0, 0], (7, 7)) | np.eye(7, dtype=bool)
    reach = np.linalg.matrix_power(seen.astype(int), model.config.num_layers) > 0
    for k in range(7):
        np.testing.assert_array_equal(np.abs(after[k] - before[k]).max(-1) > 0, reach[:, k])


def test_deberta_configurations():
    """Microsoft's file for v3-base, and what it must not silently drop."""
    official = {
        "model_type": "deberta-v2", "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "vocab_size": 128100,
        "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072,
        "max_position_embeddings": 512, "relative_attention": True, "position_buckets": 256, "share_att_key": True,
        "norm_rel_ebd": "layer_norm", "pos_att_type": "p2c|c2p", "layer_norm_eps": 1e-7, "max_relative_positions": -1,
        "position_biased_input": False, "num_attention_heads": 12, "num_hidden_layers": 12, "type_vocab_size": 0,
    }  # fmt: skip
    c = families.get("deberta_v2").from_official(official)
    assert c.position_options == {
        "max_distance": 512, "buckets": 256, "terms": ["c2p", "p2c"], "shared_keys": True, "norm": 1e-7,
    }  # fmt: skip
    assert (c.num_segments, c.absolute_positions, c.convolution_size) == (0, False, None)
    for changes, words in (
        ({"relative_attention": False}, "relative_attention"),
        ({"pos_att_type": None}, "pos_att_type"),
        ({"conv_groups": 2}, "conv_groups"),
        ({"embedding_size": 128}, "embedding_size"),
    ):
        with pytest.raises(ConfigError, match=words):
            families.get("deberta_v2").from_official(official | changes)


# ---------------------------------------------------------------- GAU-alpha


def test_gau_alpha_equals_numpy(tmp_path):
    model = build("gau_alpha", "lm", num_layers=3)
    model.save_pretrained(tmp_path, format="tf")
    with open_checkpoint(tmp_path) as checkpoint:
        w = {n: np.asarray(checkpoint[n], "float64") for n in checkpoint.names()}
    data = batch(model, 2, 21)  # above and, without padding, beyond the 16 of softmax_plus
    data["padding_mask"][0, 9:] = False
    out = run(model, data)
    for row in range(2):
        keep = data["padding_mask"][row]
        want = gau_alpha(w, data["token_ids"][row], data["segment_ids"][row], keep, 3, 4)
        for name, value in want.items():
            np.testing.assert_allclose(out[name][row][keep], value[keep], atol=2e-5, err_msg=name)


GAU_FILE = {"hidden_act": "swish", "hidden_size": 12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
            "num_attention_heads": 1, "attention_key_size": 4, "intermediate_size": 20, "num_hidden_layers": 2,
            "type_vocab_size": 2, "vocab_size": 31}  # fmt: skip


def test_gau_alpha_from_the_authors_layout_and_from_bert4torch(tmp_path):
    model = shared("gau_alpha", "lm")
    data = batch(model)
    want = run(model, data)["logits"]
    model.save_pretrained(tmp_path / "tf", format="tf")
    (tmp_path / "tf" / "bert_config.json").write_text(json.dumps(GAU_FILE))
    with open_checkpoint(tmp_path / "tf") as checkpoint:
        w = dict(read_all(checkpoint))
    again = Transformer.from_pretrained(tmp_path / "tf", head="lm")
    assert again.config.family == "gau_alpha"
    assert again.config.initializer == {"depth_scaled": 2, "order": 3}
    np.testing.assert_allclose(run(again, data)["logits"], want, atol=1e-6)

    tensors = {
        "embeddings.word_embeddings.weight": w["bert/embeddings/word_embeddings"],
        "mlmDecoder.weight": w["bert/embeddings/word_embeddings"],
        "embeddings.segment_embeddings.weight": w["bert/embeddings/token_type_embeddings"],
    }
    for i in range(2):
        a, b = f"GAU_alpha/encoder/layer_{i}/gau/", f"encoderLayer.{i}.gau."
        for part in ("i_dense", "o_dense"):
            tensors[f"{b}{part}.weight"] = np.ascontiguousarray(w[f"{a}{part}/kernel"].T)
        gains = [w[f"{a}{n}_scaleoffset/gamma"] for n in "qk"]
        tensors[f"{b}offsetscale.gamma"] = np.stack(gains)
    (tmp_path / "pt").mkdir()
    write_safetensors(tmp_path / "pt" / "model.safetensors", tensors)
    (tmp_path / "pt" / "config.json").write_text(json.dumps(GAU_FILE))
    other = Transformer.from_pretrained(tmp_path / "pt", head="lm")
    np.testing.assert_allclose(run(other, data)["logits"], want, atol=1e-6)


def test_gau_alpha_starts_as_described():
    """Deviation L^(-1/3) / sqrt(fan) of every matrix; parameters V D + 2 D + L (3 D E + D S + 2 S)."""
    keras.utils.set_random_seed(0)
    d, e, s, layers = 192, 300, 64, 3
    settings = {"hidden_size": d, "intermediate_size": e, "attention_key_size": s, "num_hidden_layers": layers}
    model = Transformer(families.get("gau_alpha").from_official(GAU_FILE | settings))
    total = 0
    for name, variable in named_weights(model).items():
        assert "bias" not in name
        total += int(np.prod(variable.shape))
        if len(variable.shape) > 1 and "segment" not in name:
            fan = variable.shape[0]
            np.testing.assert_allclose(numpy(variable.value).std(), layers ** (-1 / 3) * fan**-0.5, rtol=0.05)
    assert total == 31 * d + 2 * d + layers * (3 * d * e + d * s + 2 * s)


def test_what_a_unit_cannot_do():
    for changes, words in (({"num_heads": 3}, "heads=3"), ({"query_key_norm": True}, "query_key_norm")):
        with pytest.raises(ConfigError, match=words):
            build("gau", **changes)
    with pytest.raises(ConfigError, match="'kexue'"):
        build("gau_alpha", attention_options={"normalizer": "softmax"}).save_pretrained("/nowhere", format="tf")
